// What of a disk nobody works on yet: the first lane takes from its front, further ones from its end, and what a pass that
// was cut did not come to is given back. Ranges begin at section boundaries. Refuses nothing.

import type { Range } from '../digest/digester.js'
import { SECTION_BYTES } from '../digest/root.js'
import type { SectionRun } from '../state/resume-file.js'

export class Ground {
  /** Ascending; those that touch are one. */
  #ranges: Range[]

  /** All of `lengthBytes` but the sections that are done. */
  constructor(lengthBytes: number, done: readonly SectionRun[] = []) {
    this.#ranges = []
    let from = 0
    for (const [first, end] of done) {
      if (first * SECTION_BYTES > from)
        this.#ranges.push({ offset: from, length: first * SECTION_BYTES - from })
      from = end * SECTION_BYTES
    }
    // also of an empty disk there is a pass
    if (from < lengthBytes || lengthBytes === 0)
      this.#ranges.push({ offset: from, length: lengthBytes - from })
  }

  get bytes(): number {
    return this.#ranges.reduce((sum, { length }) => sum + length, 0)
  }

  /** The first range, `mostBytes` of it, at least a section; null where nothing is left. */
  takeFront(mostBytes: number): Range | null {
    const [first] = this.#ranges
    if (first === undefined) return null
    const { offset } = first
    const length = Math.min(first.length, Math.max(1, Math.floor(mostBytes / SECTION_BYTES)) * SECTION_BYTES)
    if (length === first.length) this.#ranges.shift()
    else this.#ranges[0] = { offset: offset + length, length: first.length - length }
    return { offset, length }
  }

  /** About so many bytes of the end of the last range, at least its last section; null where nothing is left. */
  takeBack(wantedBytes: number): Range | null {
    const last = this.#ranges.pop()
    if (last === undefined) return null
    const end = last.offset + last.length
    const from = Math.floor((end - Math.max(1, wantedBytes)) / SECTION_BYTES) * SECTION_BYTES
    const offset = Math.max(last.offset, from)
    if (offset > last.offset) this.#ranges.push({ offset: last.offset, length: offset - last.offset })
    return { offset, length: end - offset }
  }

  /** A range that lies before all that is left. */
  giveBack({ offset, length }: Range): void {
    const [first] = this.#ranges
    if (first?.offset === offset + length) this.#ranges[0] = { offset, length: length + first.length }
    else this.#ranges.unshift({ offset, length })
  }
}

/** Sections that are done, as ranges come in, in any order. */
export class DoneSections {
  /** A byte for each: 1 is done. */
  readonly #sections: Uint8Array

  constructor(lengthBytes: number) {
    this.#sections = new Uint8Array(Math.ceil(lengthBytes / SECTION_BYTES))
  }

  add({ offset, length }: Range): void {
    this.#sections.fill(1, offset / SECTION_BYTES, Math.ceil((offset + length) / SECTION_BYTES))
  }

  get runs(): SectionRun[] {
    const runs: SectionRun[] = []
    for (let from = this.#sections.indexOf(1); from >= 0;) {
      const next = this.#sections.indexOf(0, from)
      const end = next < 0 ? this.#sections.length : next
      runs.push([from, end])
      from = this.#sections.indexOf(1, end)
    }
    return runs
  }
}
