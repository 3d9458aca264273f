// Which ranges of a disk a run wrote, for its receipt: records of all its lanes come in, a bounded list comes out. Beyond
// the bound only the sections that were touched are known.

import { SECTION_BYTES } from '../digest/root.js'
import type { Range } from '../digest/digester.js'
import type { DataRecord } from '../wire/bodies.js'

/** Ranges that a receipt lists: a file of some 200 KiB. */
export const MAX_LISTED_RANGES = 4096
/** Sections that a receipt lists where there are more ranges: 4 TiB of disk. */
const MAX_LISTED_SECTIONS = 65_536

/** `ranges` are ascending and do not touch; null where there were more than MAX_LISTED_RANGES. */
export type WrittenSummary = Readonly<{
  count: number
  bytes: number
  ranges: readonly Range[] | null
  /** Numbers of the sections in which something was written, where `ranges` is null; null where they are too many too. */
  sections: readonly number[] | null
}>

/** Takes records in the order of one pass. */
export type RangeSink = (records: readonly DataRecord[]) => void

export class WrittenRanges {
  #count = 0
  #bytes = 0
  #ranges: Range[] | null = []
  readonly #sections = new Set<number>()

  /** For one pass; passes do not overlap. */
  sink(): RangeSink {
    let last: Range | null = null
    return (records) => {
      for (const { offset, length } of records) {
        this.#bytes += length
        this.#touch(offset, length)
        if (last !== null && last.offset + last.length === offset) {
          last.length += length
          continue
        }
        last = { offset, length }
        this.#count += 1
        if (this.#ranges !== null && this.#ranges.length < MAX_LISTED_RANGES) this.#ranges.push(last)
        else this.#ranges = null
      }
    }
  }

  /** What came in until now. */
  summary(): WrittenSummary {
    const ranges = this.#ranges === null ? null : joined(this.#ranges)
    const sections =
      ranges !== null || this.#sections.size > MAX_LISTED_SECTIONS
        ? null
        : [...this.#sections].toSorted((a, b) => a - b)
    return { count: ranges?.length ?? this.#count, bytes: this.#bytes, ranges, sections }
  }

  #touch(offset: number, length: number): void {
    const end = (offset + length - 1) / SECTION_BYTES
    for (let section = Math.floor(offset / SECTION_BYTES); section <= end; section += 1)
      if (this.#sections.size <= MAX_LISTED_SECTIONS) this.#sections.add(section)
  }
}

/** Ranges of several passes in the order of the disk; those that touch become one. */
export function joined(ranges: readonly Range[]): Range[] {
  const all: Range[] = []
  for (const range of ranges.toSorted((a, b) => a.offset - b.offset)) {
    const last = all.at(-1)
    if (last !== undefined && last.offset + last.length === range.offset) last.length += range.length
    else all.push({ ...range })
  }
  return all
}
