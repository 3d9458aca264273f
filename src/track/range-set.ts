// Ranges of a disk that have something in common, as they come in, in any order; ranges that touch are one. What is asked for comes
// out in ascending order. Refuses nothing.

import type { Range } from '../digest/digester.js'

export class RangeSet {
  /** Ascending, none touches another. */
  readonly #ranges: Range[] = []

  /** `ranges` in any order; they may overlap. */
  constructor(ranges: Iterable<Range> = []) {
    for (const range of [...ranges].toSorted((a, b) => a.offset - b.offset)) this.add(range)
  }

  get count(): number {
    return this.#ranges.length
  }

  get all(): readonly Range[] {
    return this.#ranges
  }

  add({ offset, length }: Range): void {
    if (length === 0) return
    let from = offset
    let end = offset + length
    // the first one that is not wholly before it, and how many of those behind touch it
    const first = this.#firstEndingAt(offset)
    let touching = 0
    for (let next = this.#ranges[first]; next !== undefined && next.offset <= end;) {
      from = Math.min(from, next.offset)
      end = Math.max(end, next.offset + next.length)
      touching += 1
      next = this.#ranges[first + touching]
    }
    this.#ranges.splice(first, touching, { offset: from, length: end - from })
  }

  /** What of `range` is in the set. */
  within({ offset, length }: Range): Range[] {
    const end = offset + length
    const found: Range[] = []
    for (let at = this.#firstEndingAt(offset); at < this.#ranges.length; at += 1) {
      const next = this.#ranges[at]
      if (next === undefined || next.offset >= end) break
      const from = Math.max(offset, next.offset)
      const to = Math.min(end, next.offset + next.length)
      if (to > from) found.push({ offset: from, length: to - from })
    }
    return found
  }

  /** What of `range` is not in the set. */
  missing({ offset, length }: Range): Range[] {
    const left: Range[] = []
    let at = offset
    for (const found of this.within({ offset, length })) {
      if (found.offset > at) left.push({ offset: at, length: found.offset - at })
      at = found.offset + found.length
    }
    if (offset + length > at) left.push({ offset: at, length: offset + length - at })
    return left
  }

  /** Index of the first range that ends at `byteOffset` or behind it. */
  #firstEndingAt(byteOffset: number): number {
    let low = 0
    let high = this.#ranges.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const range = this.#ranges[middle]
      if (range !== undefined && range.offset + range.length < byteOffset) low = middle + 1
      else high = middle
    }
    return low
  }
}

/** The same ranges on a grid: each begins and ends at a multiple of `grainBytes`, or at `lengthBytes`. */
export function onGrid(ranges: Iterable<Range>, grainBytes: number, lengthBytes: number): RangeSet {
  const wider = Array.from(ranges, ({ offset, length }) => {
    const from = Math.floor(offset / grainBytes) * grainBytes
    const end = Math.min(lengthBytes, Math.ceil((offset + length) / grainBytes) * grainBytes)
    return { offset: from, length: Math.max(0, end - from) }
  })
  return new RangeSet(wider)
}
