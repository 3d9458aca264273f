// What the destination announced, as it comes in: its runs get their place on the disk, and which parts of it are zeros
// there is remembered until they are passed. Refuses gaps, and blocks outside the range.

import type { WireRun } from '../wire/bodies.js'
import { protocolError } from '../wire/frame.js'
import type { TheirRun } from './compare.js'

export class Announced {
  readonly #endBlock: number
  /** Zero runs that were received and not passed yet, in order, none next to another. */
  #zeros: { from: number; to: number }[] = []
  /** Of these, how many were passed: a hostile destination may announce a hundred thousand. */
  #passed = 0
  #blocks: number

  constructor(firstBlock: number, endBlock: number) {
    this.#blocks = firstBlock
    this.#endBlock = endBlock
  }

  /** True when every block of the range was announced. */
  get isComplete(): boolean {
    return this.#blocks === this.#endBlock
  }

  /** The runs of one digests frame, with where they are. Throws session/protocol. */
  place(firstBlock: number, runs: readonly WireRun[]): TheirRun[] {
    if (firstBlock !== this.#blocks)
      throw protocolError(`digests from block ${firstBlock}, ${this.#blocks} was due`)
    return runs.map((run) => {
      const from = this.#blocks
      this.#blocks += run.blockCount
      if (this.#blocks > this.#endBlock)
        throw protocolError(`digests up to block ${this.#blocks}, the range ends at ${this.#endBlock}`)
      if (run.kind !== 'data') this.#addZeros(from, this.#blocks)
      return { ...run, firstBlock: from }
    })
  }

  /** True when all of [from, to) is known to be zeros there: it need not be compared, whatever is not zero here is sent. */
  isZero(from: number, to: number): boolean {
    for (let at = this.#passed; at < this.#zeros.length; at += 1) {
      const zeros = this.#zeros[at]
      // they are in order
      if (zeros === undefined || zeros.from > from) return false
      if (to <= zeros.to) return true
    }
    return false
  }

  /** Everything below `block` was compared. */
  pass(block: number): void {
    while ((this.#zeros[this.#passed]?.to ?? Infinity) <= block) this.#passed += 1
    if (this.#passed * 2 <= this.#zeros.length) return
    this.#zeros = this.#zeros.slice(this.#passed)
    this.#passed = 0
  }

  #addZeros(from: number, to: number): void {
    const last = this.#zeros.at(-1)
    if (last !== undefined && last.to === from) last.to = to
    else this.#zeros.push({ from, to })
  }
}
