// Two files that share blocks in, where their content may differ out: what both have in one place is one content, as long as both are
// there. Refuses two file systems. Whatever is not known for sure (holes, compressed or preallocated extents) may differ.

import { fstat } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { promisify } from 'node:util'

import type { Range } from '../digest/digester.js'
import type { NativeCore } from '../native.js'

/** `lengthBytes` of the disk; the ranges that come out begin at multiples of `grainBytes`, and end there or with the disk. */
export type ChangedRangesRequest = Readonly<{ lengthBytes: number; grainBytes: number }>

/** Rows of a map at a time: five arrays of them are about 1 MiB, however many extents the files have. */
const MAP_ROWS = 4096
/** Numbers of a row, as NativeCore.extentMap has them: logical byte, physical byte, length, flags. */
const ROW = 4
/**
 * Ranges that are kept apart, about 72 bytes each. Above it those with the smallest gaps become one: somewhat more is read
 * then, and nothing is missed.
 */
const MAX_RANGES = 1 << 18
/**
 * Flags of an extent (linux/fiemap.h) that lies on the disk as it is: FIEMAP_EXTENT_LAST, _MERGED, _SHARED. Any other one
 * says that its place is not known, not its own, or not all there is to it.
 */
const PLAIN_FLAGS = 0x0001 | 0x1000 | 0x2000
/** statfs(2): file systems that write a shared block to another place, and say what lies where. */
const XFS_MAGIC = 0x58465342
const BTRFS_MAGIC = 0x9123683e

const factsOf = promisify(fstat)

/** Rows in memory that is used again, and how many of them hold something. */
type Rows = { readonly numbers: Float64Array; count: number }

/** True for a file whose copies `changedRanges` can tell apart: one on xfs or btrfs. Rejects with the system error. */
export async function trackable(fd: number): Promise<boolean> {
  if (!(await factsOf(fd)).isFile()) return false
  const { type } = await statfs(`/proc/self/fd/${fd}`)
  return type === XFS_MAGIC || type === BTRFS_MAGIC
}

/**
 * Where the content of the file `now` may be another than that of `base`: ascending, none touches another, on the grid. Neither may be
 * written to, and base has to stay open, while the answer is in use: only as long as base has its blocks does nobody else write to them.
 *
 * Rejects with a plain Error where they are not on one file system, or on one that is not `trackable`: what lies where says nothing
 * there. Rejects with the system error where there is no map.
 */
export async function changedRanges(
  native: NativeCore,
  base: number,
  now: number,
  { lengthBytes, grainBytes }: ChangedRangesRequest,
): Promise<readonly Range[]> {
  const facts = [await factsOf(base), await factsOf(now)] as const
  if (facts[0].dev !== facts[1].dev) throw new Error('the two files are not on one file system')
  if (!(await trackable(base))) throw new Error('the file system does not say what lies where')
  const found = new ChangedRanges(lengthBytes, grainBytes)
  // behind the end of one of them there is nothing to compare, though its last block goes on
  const endBytes = Math.min(lengthBytes, facts[0].size, facts[1].size)
  const [before, after, again] = [newRows(MAP_ROWS), newRows(MAP_ROWS), newRows(MAP_ROWS)]
  const both = newRows(2 * MAP_ROWS)
  const still = newRows(3 * MAP_ROWS)
  // A file system may move what nobody writes to (btrfs balance), and give its old place away: base was here when it was asked,
  // and something else is here when the other file is. So base is asked before and after it, a window at a time, and only
  // what was in one place all three times counts. Maps are never kept: a window is as long as what fits of each.
  for (let offset = 0; offset < endBytes;) {
    let end = await fill(native, base, offset, endBytes, before)
    end = await fill(native, now, offset, end, after)
    end = await fill(native, base, offset, end, again)
    inOnePlace(before, after, both)
    inOnePlace(both, again, still)
    found.addUnchanged(still)
    offset = end
  }
  return found.finish()
}

function newRows(capacity: number): Rows {
  return { numbers: new Float64Array(capacity * ROW), count: 0 }
}

/** Fills `out` with the map of a file from `offset` on; resolves with where it ends: at `end`, or where no more fitted. */
async function fill(native: NativeCore, fd: number, offset: number, end: number, out: Rows): Promise<number> {
  out.count = await native.extentMap(fd, offset, end - offset, out.numbers)
  if (out.count * ROW < out.numbers.length) return end
  const last = (out.count - 1) * ROW
  const reached = (out.numbers[last] ?? 0) + (out.numbers[last + 2] ?? 0)
  if (!(reached > offset && reached <= end)) throw new Error(`an extent map with no way on at byte ${offset}`)
  return reached
}

/**
 * What two maps have at one place: rows again, as many as both maps have together at most. Loops over plain numbers: this is
 * asked about each extent, and disks have millions.
 */
function inOnePlace(one: Rows, other: Rows, out: Rows): void {
  const a = one.numbers
  const b = other.numbers
  let count = 0
  for (let i = 0, j = 0; i < one.count && j < other.count;) {
    const atA = i * ROW
    const atB = j * ROW
    const fromA = a[atA] as number
    const fromB = b[atB] as number
    const endA = fromA + (a[atA + 2] as number)
    const endB = fromB + (b[atB + 2] as number)
    const from = fromA > fromB ? fromA : fromB
    const end = endA < endB ? endA : endB
    const placeA = (a[atA + 1] as number) + (from - fromA)
    const placeB = (b[atB + 1] as number) + (from - fromB)
    const flags = (a[atA + 3] as number) | (b[atB + 3] as number)
    if (end > from && placeA === placeB && (flags & ~PLAIN_FLAGS) === 0) {
      const at = count * ROW
      out.numbers[at] = from
      out.numbers[at + 1] = placeA
      out.numbers[at + 2] = end - from
      out.numbers[at + 3] = 0
      count += 1
    }
    if (endA <= endB) i += 1
    if (endB <= endA) j += 1
  }
  out.count = count
}

/** Takes what is unchanged, in ascending order, and keeps the rest. */
class ChangedRanges {
  readonly #lengthBytes: number
  readonly #grainBytes: number
  #ranges: Range[] = []
  /** All before it is in the ranges, or is unchanged. */
  #at = 0
  /** The run of unchanged bytes that may still grow: grains need not end where extents do. */
  #runFrom = 0
  #runEnd = 0
  /** Ranges with at most so much between them become one. */
  #gapBytes = 0

  constructor(lengthBytes: number, grainBytes: number) {
    this.#lengthBytes = lengthBytes
    this.#grainBytes = grainBytes
  }

  addUnchanged({ numbers, count }: Rows): void {
    for (let row = 0; row < count; row += 1) {
      const from = numbers[row * ROW] as number
      if (from !== this.#runEnd) {
        this.#endRun()
        this.#runFrom = from
      }
      this.#runEnd = from + (numbers[row * ROW + 2] as number)
    }
  }

  finish(): readonly Range[] {
    this.#endRun()
    this.#addChanged(this.#lengthBytes)
    return this.#ranges
  }

  /** Only grains that are unchanged as a whole are. */
  #endRun(): void {
    const grain = this.#grainBytes
    const from = Math.ceil(this.#runFrom / grain) * grain
    const end =
      this.#runEnd === this.#lengthBytes ? this.#lengthBytes : Math.floor(this.#runEnd / grain) * grain
    if (end <= from) return
    this.#addChanged(from)
    this.#at = end
  }

  #addChanged(end: number): void {
    if (end <= this.#at) return
    this.#ranges.push({ offset: this.#at, length: end - this.#at })
    while (this.#ranges.length > MAX_RANGES) this.#coarsen()
  }

  #coarsen(): void {
    this.#gapBytes = Math.max(2 * this.#gapBytes, this.#grainBytes)
    const wider: Range[] = []
    for (const range of this.#ranges) {
      const last = wider.at(-1)
      if (last !== undefined && range.offset - (last.offset + last.length) <= this.#gapBytes)
        last.length = range.offset + range.length - last.offset
      else wider.push(range)
    }
    this.#ranges = wider
  }
}
