// A disk in memory that is only told where it may be written: every write and every lengthening is held against what was
// announced for it. Behind its content it is one hole, so that it may be large and cost nothing.

import type { Digester, Range, SpanDigests } from '../../src/digest/digester.js'
import type { Endpoint, EndpointInfo, Extent, Role } from '../../src/endpoint/endpoint.js'
import { PairKeeper } from '../../src/state/pair-keeper.js'
import type { HostState } from '../../src/state/state.js'
import type { OpenDisk } from '../../src/sync/open-disk.js'

export type DiskShape = Readonly<{
  content: Buffer
  sizeBytes: number
  blockBytes: number
  leafBytes: number
}>

const NOBODY = { machineId: '0'.repeat(32), hostName: 'fuzz', names: ['path:/fuzz'] }
/** Keeps nothing. */
const NO_STATE = { save: () => Promise.resolve(null) } as unknown as HostState

export class RecordedDisk implements Endpoint {
  readonly info: EndpointInfo
  readonly violations: string[] = []
  writes = 0
  /** What may be written now; null is nothing. */
  allowed: Range | null = null
  /** The longest it may be made. */
  allowedBytes = 0
  isChanged = false
  #content: Buffer
  readonly #shape: DiskShape
  #isClosed = false

  constructor(role: Role, shape: DiskShape) {
    this.#shape = shape
    this.#content = shape.content
    this.info = {
      path: `/fuzz/${role}`,
      kind: 'file',
      sizeBytes: shape.sizeBytes,
      logicalSectorBytes: 512,
      created: false,
      direct: false,
      identity: { machine: 'fuzz', aliases: [`fuzz:${role}`] },
    }
  }

  async *extents(range: Range): AsyncGenerator<Extent> {
    const end = range.offset + range.length
    const dataEnd = Math.min(end, this.#content.length)
    if (range.offset < dataEnd) yield { kind: 'data', offset: range.offset, length: dataEnd - range.offset }
    const hole = Math.max(range.offset, dataEnd)
    if (hole < end) yield await Promise.resolve({ kind: 'hole', offset: hole, length: end - hole })
  }

  async digestSpan(
    { offset, length }: Range,
    digester: Digester,
    out: SpanDigests,
  ): Promise<{ coldBytes: number }> {
    const { blockBytes, leafBytes } = digester.parameters.geometry
    const data = this.#read(offset, length)
    digester.digestLeaves(data, out.leaves)
    const leaves = Math.ceil(length / leafBytes) * digester.digestBytes
    digester.digestItems(
      out.leaves.subarray(0, leaves),
      (blockBytes / leafBytes) * digester.digestBytes,
      out.blocks,
    )
    markZeros(data, leafBytes, out.zeroLeaves)
    markZeros(data, blockBytes, out.zeroBlocks)
    return await Promise.resolve({ coldBytes: 0 })
  }

  async readDigested(
    ranges: readonly Range[],
    digester: Digester,
    into: Uint8Array,
    leaves: Uint8Array,
    zeroLeaves: Uint8Array,
  ): Promise<void> {
    const { leafBytes } = digester.parameters.geometry
    let at = 0
    let leafAt = 0
    for (const { offset, length } of ranges) {
      const data = this.#read(offset, length)
      into.set(data, at)
      digester.digestLeaves(data, leaves.subarray(leafAt * digester.digestBytes))
      markZeros(data, leafBytes, zeroLeaves.subarray(leafAt))
      leafAt += Math.ceil(length / leafBytes)
      at += length
    }
    await Promise.resolve()
  }

  async write(ranges: readonly Range[], from: Uint8Array): Promise<void> {
    let at = 0
    for (const range of ranges) {
      this.#change('write', range)
      this.#put(range.offset, from.subarray(at, at + range.length))
      at += range.length
    }
    if (at !== from.length) this.violations.push(`${from.length} bytes to write for ranges of ${at}`)
    await Promise.resolve()
  }

  async zero(ranges: readonly Range[]): Promise<void> {
    for (const range of ranges) {
      this.#change('zero', range)
      const length = Math.min(range.length, Math.max(0, this.#content.length - range.offset))
      if (length > 0) this.#put(range.offset, Buffer.alloc(length))
    }
    await Promise.resolve()
  }

  async grow(sizeBytes: number): Promise<void> {
    if (sizeBytes > this.allowedBytes)
      this.violations.push(`made ${sizeBytes} bytes long, ${this.allowedBytes} were said`)
    await Promise.resolve()
  }

  async grownBytes(): Promise<number> {
    return await Promise.resolve(0)
  }

  async takeBack(): Promise<void> {
    await Promise.resolve()
  }

  async readFromDevice(): Promise<Disposable> {
    return await Promise.resolve({ [Symbol.dispose]: () => undefined })
  }

  async flush(): Promise<void> {
    if (this.#isClosed) this.violations.push('flushed after it was closed')
    await Promise.resolve()
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.resolve()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** As `openDisk` gives it. */
  opened(role: Role): OpenDisk {
    return {
      endpoint: this,
      stable: NOBODY,
      known: null,
      keeper: new PairKeeper(NO_STATE, { stable: NOBODY, path: this.info.path }, role, []),
      undo: null,
      warnings: [],
      isBegun: false,
      [Symbol.asyncDispose]: () => this.close(),
    }
  }

  #change(how: string, { offset, length }: Range): void {
    this.writes += 1
    const end = offset + length
    const isInside =
      this.allowed !== null &&
      offset >= this.allowed.offset &&
      end <= this.allowed.offset + this.allowed.length
    const what = `${how} of ${offset}+${length}`
    if (!isInside)
      this.violations.push(
        `${what}, ${this.allowed === null ? 'nothing' : JSON.stringify(this.allowed)} was allowed`,
      )
    if (this.#isClosed) this.violations.push(`${what} after it was closed`)
  }

  /** What is written behind the content stays a hole here: nobody reads it in the same pass. */
  #put(offset: number, data: Uint8Array): void {
    if (offset + data.length > this.#content.length) {
      this.isChanged = true
      return
    }
    const place = this.#content.subarray(offset, offset + data.length)
    if (place.equals(data)) return
    if (!this.isChanged) this.#content = Buffer.from(this.#shape.content)
    this.isChanged = true
    this.#content.set(data, offset)
  }

  #read(offset: number, length: number): Buffer {
    const data = this.#content.subarray(offset, offset + length)
    return data.length === length ? data : Buffer.concat([data, Buffer.alloc(length - data.length)])
  }
}

function markZeros(data: Buffer, itemBytes: number, flags: Uint8Array): void {
  for (let at = 0, item = 0; at < data.length; at += itemBytes, item += 1) {
    const end = Math.min(at + itemBytes, data.length)
    flags[item] = data[at] === 0 && data.subarray(at, end - 1).equals(data.subarray(at + 1, end)) ? 1 : 0
  }
}
