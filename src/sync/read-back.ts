// What a pass wrote, read back from the device: a log of it comes in, and where the disk answers with something else is
// refused (verify/mismatch). Reads only what was written; a hole that the file system has there is taken for zeros.

import { randomBytes } from 'node:crypto'

import { type Digester, type DigestParameters, type Range, SEED_BYTES } from '../digest/digester.js'
import { createDigester } from '../digest/open.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import type { DataRecord } from '../wire/bodies.js'
import { CHUNK_BYTES, MAX_LOG_BYTES, type WrittenEntry, WrittenLog } from './written-log.js'

/** Pieces being read at once: a disk wants a queue. */
const READ_DEPTH = 4
/** Ranges that a message names. */
const MAX_NAMED_RANGES = 4

/** What one read is about: a chunk's data, or at most CHUNK_BYTES that are to be zeros. */
type Piece = Readonly<{ ranges: readonly Range[]; digest: Buffer | null }>

/**
 * A digester for what is read back after a pass with `parameters`: the same algorithm, which is the fastest that both
 * have, with a seed of its own, so that what fools the pass does not fool this.
 */
export async function readBackDigester(
  { algorithm, geometry: { leafBytes } }: DigestParameters,
  native: NativeCore | null,
): Promise<Digester> {
  const geometry = { blockBytes: CHUNK_BYTES, leafBytes }
  return await createDigester({ algorithm, seed: randomBytes(SEED_BYTES), geometry }, native)
}

export class ReadBack {
  readonly #endpoint: Endpoint
  readonly #digester: Digester
  readonly #operand: string
  readonly #log: WrittenLog
  /** Where the disk differs, in ascending order as far as that is known; and how many bytes in all. */
  readonly #differing: Range[] = []
  #differingBytes = 0

  /** `digester` is that of `readBackDigester`; `operand` is what to call the disk. */
  constructor(endpoint: Endpoint, digester: Digester, operand: string) {
    this.#endpoint = endpoint
    this.#digester = digester
    this.#operand = operand
    this.#log = new WrittenLog(digester)
  }

  /** What is about to be written, as it arrived. */
  add(records: readonly DataRecord[], payload: Uint8Array): void {
    this.#log.add(records, payload)
  }

  /** True when `check` is due before more is added. */
  get isFull(): boolean {
    return this.#log.weightBytes > MAX_LOG_BYTES
  }

  /** Bytes that were added: after the last `check` they are verified. */
  get bytes(): number {
    return this.#log.bytes.data + this.#log.bytes.zero
  }

  /**
   * Reads back everything that was added since the last time. It must be written and flushed. Rejects with verify/mismatch,
   * or with destination/read where it cannot be read, from the device at that.
   */
  async check(): Promise<void> {
    await this.#endpoint.readFromDevice()
    const pieces = this.#pieces()
    const readers = Array.from({ length: READ_DEPTH }, () => this.#readAll(pieces))
    const failed = (await Promise.allSettled(readers)).find(({ status }) => status === 'rejected')
    if (failed?.status === 'rejected') throw failed.reason
    if (this.#differingBytes > 0) throw this.#mismatch()
  }

  async *#pieces(): AsyncGenerator<Piece> {
    for (const entry of this.#log.entries()) {
      if (entry.kind === 'data') yield entry
      else for await (const range of this.#unproven(entry)) yield { ranges: [range], digest: null }
    }
  }

  /** What of a range of zeros is no hole, in pieces of a chunk. */
  async *#unproven({ ranges: [range] }: Extract<WrittenEntry, { kind: 'zero' }>): AsyncGenerator<Range> {
    const { leafBytes } = this.#digester.parameters.geometry
    const end = range.offset + range.length
    // extents are pages, leaves may be more
    let at = range.offset
    for await (const extent of this.#endpoint.extents(range)) {
      if (extent.kind === 'hole') continue
      const first = Math.floor(extent.offset / leafBytes) * leafBytes
      const upTo = Math.min(end, Math.ceil((extent.offset + extent.length) / leafBytes) * leafBytes)
      for (at = Math.max(at, first); at < upTo;) {
        const length = Math.min(CHUNK_BYTES, upTo - at)
        yield { offset: at, length }
        at += length
      }
    }
  }

  /** One of READ_DEPTH readers; a failure of one ends the pieces of all. */
  async #readAll(pieces: AsyncGenerator<Piece>): Promise<void> {
    const { digestBytes, parameters } = this.#digester
    const leafCount = CHUNK_BYTES / parameters.geometry.leafBytes
    const into = Buffer.allocUnsafeSlow(CHUNK_BYTES)
    const leaves = Buffer.alloc(leafCount * digestBytes)
    const zeroLeaves = new Uint8Array(leafCount)
    const digest = Buffer.alloc(digestBytes)
    for await (const piece of pieces) {
      await this.#endpoint.readDigested(piece.ranges, this.#digester, into, leaves, zeroLeaves)
      const count = piece.ranges.reduce((sum, { length }) => sum + this.#leavesOf(length), 0)
      if (piece.digest === null) {
        if (zeroLeaves.subarray(0, count).includes(0)) this.#differs(piece.ranges)
        continue
      }
      this.#digester.digestItems(leaves.subarray(0, count * digestBytes), count * digestBytes, digest)
      if (!digest.equals(piece.digest)) this.#differs(piece.ranges)
    }
  }

  #leavesOf(lengthBytes: number): number {
    return Math.ceil(lengthBytes / this.#digester.parameters.geometry.leafBytes)
  }

  #differs(ranges: readonly Range[]): void {
    for (const { length } of ranges) this.#differingBytes += length
    this.#differing.push(spanOf(ranges))
    this.#differing.sort((a, b) => a.offset - b.offset)
    // more are not named
    if (this.#differing.length > MAX_NAMED_RANGES) this.#differing.pop()
  }

  #mismatch(): SyncError {
    return new SyncError(
      'verify/mismatch',
      `${this.#operand} does not give back what was written to it: read again after the flush, ${rangesText(this.#differing)} differ ` +
        `(${this.#differingBytes} of the ${this.bytes} bytes that were written lie where it does)`,
      {
        operand: this.#operand,
        hint: 'The destination was written and flushed and is not what the source has. Did something else write to it? If not, check the disk, its cables and memory (dmesg, smartctl) before you trust it; then run the same command again.',
      },
    )
  }
}

/** From the first to the last byte of ascending ranges. */
function spanOf(ranges: readonly Range[]): Range {
  const offset = ranges[0]?.offset ?? 0
  const last = ranges.at(-1)
  return { offset, length: last === undefined ? 0 : last.offset + last.length - offset }
}

/** `bytes 0 to 4095`, for a person; the last byte is named, as in `cmp`. */
export function rangesText(ranges: readonly Range[]): string {
  const named = ranges.slice(0, MAX_NAMED_RANGES)
  const texts = named.map(({ offset, length }) => `${offset} to ${offset + length - 1}`)
  return `bytes ${texts.join(', ')}`
}
