// Old content on its way into the journal: ranges are cut into pieces that are read in one call, holes and zeros become
// entries without content, and the memory for what is read is bounded.

import type { Range } from '../digest/digester.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import type { Entry } from './format.js'
import { MAX_ENTRY_BYTES } from './format.js'
import type { Kept } from './journal-file.js'

/** Old content that is read in one call: what a data frame holds. */
const PIECE_BYTES = 1 << 20
/** Ranges in one call: a frame has as many. */
const PIECE_RANGES = 1024
/** Pieces in memory: two records' worth, one being written while the next is read. */
const MAX_PIECES = 32
/** From this length on it is worth asking where the holes are. */
const HOLE_QUESTION_BYTES = PIECE_BYTES

/** What is read in one call, and the holes that lie between. */
export type Piece = { data: Range[]; holes: Range[]; bytes: number }

function newPiece(): Piece {
  return { data: [], holes: [], bytes: 0 }
}

/** Cuts ranges so that each piece can be read in one call; what is known to be a hole is not read. */
export async function* piecesOf(
  disk: Pick<Endpoint, 'extents'>,
  ranges: readonly Range[],
  leafBytes: number,
): AsyncGenerator<Piece> {
  let piece = newPiece()
  for (const range of ranges) {
    for await (const { kind, offset, length } of entriesOf(disk, range, leafBytes)) {
      const most = kind === 'zeros' ? MAX_ENTRY_BYTES : PIECE_BYTES
      for (let done = 0; done < length;) {
        const isFull = piece.data.length + piece.holes.length >= PIECE_RANGES || piece.bytes >= PIECE_BYTES
        if (isFull) {
          yield piece
          piece = newPiece()
        }
        const rest = kind === 'zeros' ? most : Math.min(most, PIECE_BYTES - piece.bytes)
        const cut = { offset: offset + done, length: Math.min(length - done, rest) }
        if (kind === 'zeros') piece.holes.push(cut)
        else {
          piece.data.push(cut)
          piece.bytes += cut.length
        }
        // the next piece begins on the leaf grid again
        done += cut.length
      }
    }
  }
  if (piece.data.length + piece.holes.length > 0) yield piece
}

/** Holes as zeros, all else as data; both begin on the leaf grid. */
async function* entriesOf(
  disk: Pick<Endpoint, 'extents'>,
  { offset, length }: Range,
  leafBytes: number,
): AsyncGenerator<Entry> {
  const end = offset + length
  if (length < HOLE_QUESTION_BYTES) {
    yield { offset, length, kind: 'data' }
    return
  }
  let at = offset
  for await (const extent of disk.extents({ offset, length })) {
    if (extent.kind !== 'hole') continue
    const extentEnd = extent.offset + extent.length
    const from = Math.ceil(extent.offset / leafBytes) * leafBytes
    const to = extentEnd === end ? end : Math.floor(extentEnd / leafBytes) * leafBytes
    if (to <= from) continue
    if (from > at) yield { offset: at, length: from - at, kind: 'data' }
    yield { offset: from, length: to - from, kind: 'zeros' }
    at = to
  }
  if (at < end) yield { offset: at, length: end - at, kind: 'data' }
}

/** A piece of which nothing is read. */
export function holesOnly({ holes }: Piece): Kept {
  const entries = holes.map((hole): Entry => ({ ...hole, kind: 'zeros' }))
  return { entries, leaves: Buffer.alloc(0), chunks: [] }
}

/** What was read, its zero leaves as entries without content. */
export function withoutZeros(
  ranges: readonly Range[],
  content: Buffer,
  leaves: Buffer,
  zeroLeaves: Uint8Array,
  leafBytes: number,
): Kept {
  const digestBytes = leaves.length / zeroLeaves.length
  const entries: Entry[] = []
  const chunks: Buffer[] = []
  const digests: Buffer[] = []
  let leaf = 0
  let at = 0
  for (const { offset, length } of ranges) {
    for (let done = 0; done < length;) {
      const isZero = zeroLeaves[leaf] === 1
      const firstLeaf = leaf
      const start = done
      while (done < length && (zeroLeaves[leaf] === 1) === isZero) {
        done = Math.min(length, done + leafBytes)
        leaf += 1
      }
      entries.push({ offset: offset + start, length: done - start, kind: isZero ? 'zeros' : 'data' })
      if (isZero) continue
      chunks.push(content.subarray(at + start, at + done))
      digests.push(leaves.subarray(firstLeaf * digestBytes, leaf * digestBytes))
    }
    at += length
  }
  return { entries, chunks, leaves: Buffer.concat(digests) }
}

/** A bounded number of pieces of memory, taken and given back; who comes first is served first. */
export class PieceMemory {
  readonly #free: Buffer[] = []
  #made = 0
  readonly #waiting: ((memory: Buffer) => void)[] = []

  /** Memory for what is to be read; null where that is nothing. */
  async take(data: readonly Range[]): Promise<Buffer | null> {
    if (data.length === 0) return null
    const free = this.#free.pop()
    if (free !== undefined) return free
    if (this.#made < MAX_PIECES) {
      this.#made += 1
      return Buffer.allocUnsafeSlow(PIECE_BYTES)
    }
    return await new Promise((resolve) => this.#waiting.push(resolve))
  }

  give(memory: Buffer): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free.push(memory)
    else next(memory)
  }
}
