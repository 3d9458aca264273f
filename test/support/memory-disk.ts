// A disk in memory that counts what is done to it and can be made to fail, to change or to be slow: the Endpoint of
// engine tests. Refuses ranges outside of itself, writes where it is read-only, and everything after close.

import type { Digester, Range, SpanDigests } from '../../src/digest/digester.js'
import type { Endpoint, EndpointInfo, Extent, Role } from '../../src/endpoint/endpoint.js'

export type Access = 'digest' | 'read' | 'write' | 'zero' | 'flush' | 'drop'

/** Called before each access, with the bytes it is about; what it rejects with is what the disk rejects with. */
export type BeforeAccess = (access: Access, range: Range) => Promise<void> | void

export type MemoryDiskOptions = Readonly<{
  role: Role
  content: Buffer
  /** Ranges that are not allocated. Their content must be zeros, or beyond the end of `content`. */
  holes?: readonly Range[]
  /** What it says of itself where that is not what follows from the content. */
  info?: Partial<EndpointInfo>
  before?: BeforeAccess
  /** Called before the first extent is given out. */
  beforeExtents?: () => Promise<void>
}>

let made = 0

export class MemoryDisk implements Endpoint {
  readonly info: EndpointInfo
  content: Buffer
  /** Every access, in the order in which they began. */
  readonly log: { access: Access; range: Range }[] = []
  readonly #options: MemoryDiskOptions
  #holes: Range[]
  #underWay = 0
  #isClosed = false

  constructor(options: MemoryDiskOptions) {
    this.#options = options
    this.content = options.content
    this.#holes = [...(options.holes ?? [])]
    this.info = {
      path: `/memory/${options.role}`,
      kind: 'file',
      sizeBytes: options.content.length,
      logicalSectorBytes: 512,
      created: false,
      direct: false,
      identity: { machine: 'memory', aliases: [`memory:${made++}`] },
      ...options.info,
    }
  }

  /** Accesses that have begun and not ended. */
  get underWay(): number {
    return this.#underWay
  }

  /** Ranges of the accesses of one kind. */
  ranges(access: Access): Range[] {
    return this.log.filter((entry) => entry.access === access).map(({ range }) => range)
  }

  bytes(access: Access): number {
    return this.ranges(access).reduce((sum, { length }) => sum + length, 0)
  }

  async *extents(range: Range): AsyncGenerator<Extent> {
    await this.#options.beforeExtents?.()
    const end = range.offset + range.length
    let at = range.offset
    for (const hole of this.#holes) {
      if (hole.offset + hole.length <= at || hole.offset >= end) continue
      if (hole.offset > at) yield { kind: 'data', offset: at, length: hole.offset - at }
      const holeEnd = Math.min(end, hole.offset + hole.length)
      at = Math.max(at, hole.offset)
      yield { kind: 'hole', offset: at, length: holeEnd - at }
      at = holeEnd
    }
    if (at < end) yield { kind: 'data', offset: at, length: end - at }
  }

  async digestSpan(range: Range, digester: Digester, out: SpanDigests): Promise<{ coldBytes: number }> {
    await this.#access('digest', range, () => {
      const { blockBytes, leafBytes } = digester.parameters.geometry
      const data = this.content.subarray(range.offset, range.offset + range.length)
      digester.digestLeaves(data, out.leaves)
      const blockSlabBytes = (blockBytes / leafBytes) * digester.digestBytes
      digester.digestItems(
        out.leaves.subarray(0, leavesOf(data, leafBytes) * digester.digestBytes),
        blockSlabBytes,
        out.blocks,
      )
      markZeros(data, leafBytes, out.zeroLeaves)
      markZeros(data, blockBytes, out.zeroBlocks)
    })
    return { coldBytes: 0 }
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
    for (const range of ranges) {
      await this.#access('read', range, () => {
        const data = this.content.subarray(range.offset, range.offset + range.length)
        into.set(data, at)
        digester.digestLeaves(data, leaves.subarray(leafAt * digester.digestBytes))
        markZeros(data, leafBytes, zeroLeaves.subarray(leafAt))
        leafAt += leavesOf(data, leafBytes)
      })
      at += range.length
    }
  }

  async write(ranges: readonly Range[], from: Uint8Array): Promise<void> {
    let at = 0
    for (const range of ranges) {
      await this.#access('write', range, () => {
        this.content.set(from.subarray(at, at + range.length), range.offset)
        this.#allocate(range)
      })
      at += range.length
    }
    if (at !== from.length) throw new Error(`${from.length} bytes for ranges of ${at}`)
  }

  async zero(ranges: readonly Range[]): Promise<void> {
    for (const range of ranges) {
      await this.#access('zero', range, () => {
        this.content.fill(0, range.offset, range.offset + range.length)
        this.#allocate(range)
        this.#holes = [...this.#holes, { offset: range.offset, length: range.length }].toSorted(
          (a, b) => a.offset - b.offset,
        )
      })
    }
  }

  async grow(): Promise<void> {
    return Promise.reject(new Error('a disk in memory does not grow'))
  }

  async grownBytes(): Promise<number> {
    return 0
  }

  async takeBack(): Promise<void> {
    // nothing was made
  }

  async readFromDevice(): Promise<Disposable> {
    await this.#access('drop', { offset: 0, length: 0 }, () => undefined)
    return { [Symbol.dispose]: () => undefined }
  }

  async flush(): Promise<void> {
    await this.#access('flush', { offset: 0, length: 0 }, () => undefined)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    return Promise.resolve()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Allocated bytes, as `du` would count them. */
  get allocatedBytes(): number {
    return this.content.length - this.#holes.reduce((sum, { length }) => sum + length, 0)
  }

  async #access(access: Access, range: Range, act: () => void): Promise<void> {
    if (this.#isClosed) throw new Error(`${access} after close`)
    const changes = access === 'write' || access === 'zero'
    if (changes && this.#options.role === 'source') throw new Error(`${access} on a source`)
    if (range.offset + range.length > this.content.length) throw new Error(`${access} beyond the end`)
    this.log.push({ access, range: { offset: range.offset, length: range.length } })
    this.#underWay += 1
    try {
      await (this.#options.before?.(access, range) ?? Promise.resolve())
      act()
    } finally {
      this.#underWay -= 1
    }
  }

  /** Takes a range out of the holes. */
  #allocate({ offset, length }: Range): void {
    const end = offset + length
    this.#holes = this.#holes.flatMap((hole) => {
      const holeEnd = hole.offset + hole.length
      if (holeEnd <= offset || hole.offset >= end) return [hole]
      const left = { offset: hole.offset, length: offset - hole.offset }
      const right = { offset: end, length: holeEnd - end }
      return [left, right].filter((piece) => piece.length > 0)
    })
  }
}

function leavesOf(data: Uint8Array, leafBytes: number): number {
  return Math.ceil(data.length / leafBytes)
}

function markZeros(data: Buffer, itemBytes: number, flags: Uint8Array): void {
  for (let at = 0, item = 0; at < data.length; at += itemBytes, item += 1) {
    flags[item] = isZero(data.subarray(at, at + itemBytes)) ? 1 : 0
  }
}

/** True where every byte is zero. */
export function isZero(data: Buffer): boolean {
  // Each byte equals the one before it, and the first is zero.
  return data.length === 0 || (data[0] === 0 && data.subarray(1).equals(data.subarray(0, -1)))
}
