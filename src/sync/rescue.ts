// Reads of a source that may have bad sectors (--rescue): what cannot be read is read again in smaller pieces, down to a
// leaf, and the leaves that cannot be read at all are remembered. Refuses a disk with more of them than can be told.

import type { Digester, Range, SpanDigests } from '../digest/digester.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { MAX_UNREADABLE_RANGES } from '../wire/differing.js'
import { isBadSector } from './bad-sector.js'

/** Leaves of a pass that may be bad: a disk with more (256 MiB of 4 KiB leaves) is dying, and each of them takes it seconds. */
export const MAX_UNREADABLE_LEAVES = 1 << 16

/** Where a piece of `lengthBytes` at `offset` lies in the slabs of what it is a part of. */
type Piece = Readonly<{ offset: number; lengthBytes: number; intoAt: number; leafAt: number }>

/** Slabs that pieces are read into. `bad`: one byte a leaf, 1 where it could not be read. */
type Slabs = Readonly<{ into: Uint8Array; leaves: Buffer; zeroLeaves: Uint8Array; bad: Uint8Array }>

export class Rescue {
  readonly #endpoint: Endpoint
  readonly #digester: Digester
  /** Bad, in ascending order, none next to another. */
  readonly #ranges: Range[] = []
  #leafCount = 0
  #isEnded = false

  constructor(endpoint: Endpoint, digester: Digester) {
    this.#endpoint = endpoint
    this.#digester = digester
  }

  /** What of this range could not be read so far, in ascending order. */
  within({ offset, length }: Range): Range[] {
    const end = offset + length
    return this.#ranges.flatMap((range) => {
      const from = Math.max(offset, range.offset)
      const to = Math.min(end, range.offset + range.length)
      return from < to ? [{ offset: from, length: to - from }] : []
    })
  }

  /** Nothing is read again any more: what is under way rejects with what it has. */
  end(): void {
    this.#isEnded = true
  }

  /**
   * As Endpoint.digestSpan, over bad sectors. `damaged`: by the number of the block in the span, a flag for each of its
   * leaves that is 1 where it could not be read; the digests of those leaves, and of that block, mean nothing. `isOver`:
   * asked before anything is read again.
   */
  async digestSpan(
    range: Range,
    out: SpanDigests,
    isOver: () => boolean,
  ): Promise<{ coldBytes: number; damaged: ReadonlyMap<number, Uint8Array> }> {
    const damaged = new Map<number, Uint8Array>()
    try {
      return { ...(await this.#endpoint.digestSpan(range, this.#digester, out)), damaged }
    } catch (error) {
      this.#check(error, isOver)
    }
    const { blockBytes } = this.#digester.parameters.geometry
    const blockCount = Math.ceil(range.length / blockBytes)
    if (blockCount === 1) {
      const bad = await this.#digestLeaves(range, out, isOver)
      if (bad !== null) damaged.set(0, bad)
      return { coldBytes: range.length, damaged }
    }
    for (const [firstBlock, endBlock] of halves(0, blockCount)) {
      const offset = range.offset + firstBlock * blockBytes
      const length = Math.min(endBlock * blockBytes, range.length) - firstBlock * blockBytes
      const part = await this.digestSpan({ offset, length }, this.#part(out, firstBlock, endBlock), isOver)
      for (const [block, bad] of part.damaged) damaged.set(firstBlock + block, bad)
    }
    return { coldBytes: range.length, damaged }
  }

  /**
   * As Endpoint.readDigested, over bad sectors: null where all was read, else a flag for each leaf that is 1 where it
   * could not be; zeros are in its place in `into`, and its digest means nothing.
   */
  async readDigested(
    ranges: readonly Range[],
    into: Uint8Array,
    leaves: Buffer,
    zeroLeaves: Uint8Array,
    isOver: () => boolean = () => false,
  ): Promise<Uint8Array | null> {
    try {
      await this.#endpoint.readDigested(ranges, this.#digester, into, leaves, zeroLeaves)
      return null
    } catch (error) {
      this.#check(error, isOver)
    }
    const slabs = { into, leaves, zeroLeaves, bad: new Uint8Array(zeroLeaves.length) }
    let intoAt = 0
    let leafAt = 0
    for (const { offset, length } of ranges) {
      await this.#readPiece({ offset, lengthBytes: length, intoAt, leafAt }, slabs, isOver)
      intoAt += length
      leafAt += this.#leavesOf(length)
    }
    return slabs.bad.includes(1) ? slabs.bad : null
  }

  /** One block, leaf by leaf where it has to be. Null where all of it could be read after all. */
  async #digestLeaves(range: Range, out: SpanDigests, isOver: () => boolean): Promise<Uint8Array | null> {
    const { leaves, zeroLeaves } = out
    const bad = await this.readDigested(
      [range],
      Buffer.allocUnsafeSlow(range.length),
      leaves,
      zeroLeaves,
      isOver,
    )
    if (bad !== null) return bad
    this.#digester.digestItems(leaves, leaves.length, out.blocks)
    out.zeroBlocks[0] = zeroLeaves.includes(0) ? 0 : 1
    return null
  }

  async #readPiece(piece: Piece, slabs: Slabs, isOver: () => boolean): Promise<void> {
    const { offset, lengthBytes, intoAt, leafAt } = piece
    const { digestBytes, parameters } = this.#digester
    const { leafBytes } = parameters.geometry
    const leafCount = this.#leavesOf(lengthBytes)
    const into = slabs.into.subarray(intoAt, intoAt + lengthBytes)
    const zeroLeaves = slabs.zeroLeaves.subarray(leafAt, leafAt + leafCount)
    try {
      await this.#endpoint.readDigested(
        [{ offset, length: lengthBytes }],
        this.#digester,
        into,
        slabs.leaves.subarray(leafAt * digestBytes, (leafAt + leafCount) * digestBytes),
        zeroLeaves,
      )
      return
    } catch (error) {
      this.#check(error, isOver)
      if (leafCount === 1) {
        this.#add({ offset, length: lengthBytes }, error)
        slabs.bad[leafAt] = 1
        zeroLeaves.fill(0)
        into.fill(0)
        return
      }
    }
    for (const [first, end] of halves(0, leafCount)) {
      const from = first * leafBytes
      const part = {
        offset: offset + from,
        lengthBytes: Math.min(end * leafBytes, lengthBytes) - from,
        intoAt: intoAt + from,
        leafAt: leafAt + first,
      }
      await this.#readPiece(part, slabs, isOver)
    }
  }

  /** Throws what is no bad sector, and everything when nobody waits for the answer any more. */
  #check(error: unknown, isOver: () => boolean): void {
    if (this.#isEnded || isOver() || !isBadSector(error)) throw error
  }

  #add(range: Range, cause: unknown): void {
    const end = range.offset + range.length
    let at = this.#ranges.findIndex(({ offset }) => offset > range.offset)
    if (at === -1) at = this.#ranges.length
    const before = this.#ranges[at - 1]
    const after = this.#ranges[at]
    // read twice: by the scan, and to be sent
    if (before !== undefined && before.offset + before.length >= end) return
    if (before?.offset === undefined || before.offset + before.length < range.offset)
      this.#ranges.splice(at++, 0, range)
    else before.length = end - before.offset
    const grown = this.#ranges[at - 1]
    if (grown !== undefined && after?.offset === end) {
      grown.length += after.length
      this.#ranges.splice(at, 1)
    }
    this.#leafCount += 1
    if (this.#leafCount > MAX_UNREADABLE_LEAVES || this.#ranges.length > MAX_UNREADABLE_RANGES)
      throw this.#tooMany(cause)
  }

  #tooMany(cause: unknown): SyncError {
    const { path } = this.#endpoint.info
    const bytes = this.#ranges.reduce((sum, { length }) => sum + length, 0)
    return new SyncError(
      'source/read',
      `too much of the source ${path} cannot be read: ${bytes} bytes in ${this.#ranges.length} places so far; the copy is not complete`,
      {
        operand: path,
        cause,
        hint: 'Copy it with GNU ddrescue to a healthy disk first, which has more patience, then sync from that copy.',
      },
    )
  }

  #leavesOf(lengthBytes: number): number {
    return Math.ceil(lengthBytes / this.#digester.parameters.geometry.leafBytes)
  }

  /** The slabs of the blocks [firstBlock, endBlock) of a span. */
  #part(out: SpanDigests, firstBlock: number, endBlock: number): SpanDigests {
    const { digestBytes, parameters } = this.#digester
    const leaves = parameters.geometry.blockBytes / parameters.geometry.leafBytes
    return {
      leaves: out.leaves.subarray(firstBlock * leaves * digestBytes, endBlock * leaves * digestBytes),
      blocks: out.blocks.subarray(firstBlock * digestBytes, endBlock * digestBytes),
      zeroLeaves: out.zeroLeaves.subarray(firstBlock * leaves, endBlock * leaves),
      zeroBlocks: out.zeroBlocks.subarray(firstBlock, endBlock),
    }
  }
}

/** The two halves of more than one. */
function halves(first: number, end: number): [number, number][] {
  const middle = first + ((end - first) >> 1)
  return [
    [first, middle],
    [middle, end],
  ]
}
