// When the first lane of a run ends a pass so that what it did is a checkpoint. Times and bytes of its passes come in; how
// long the next one is to be comes out. Passes are planned ahead: what is read beyond the end of one would be read twice.

import { SECTION_BYTES } from '../digest/root.js'
import { MAX_WAIT_MS } from '../options.js'

/** A pass takes at least so much of the time of the run: so there are some hundred of them in the longest one. */
const LEAST_SHARE = 0.02
/** Between two passes nothing is under way for a moment: what comes between two such moments is so much longer. */
const STALL_FACTOR = 100
/** But for a slow moment not more than so many times the interval that was asked for. */
const MOST_STRETCH = 10
/** A pass is at most so many times as long as the one before: a hole says nothing about what is behind it. */
const MOST_GROWTH = 4
/** A run that has about so much of an interval left is not worth a cut. */
const NEAR_END = 0.5

export class Pace {
  readonly #leastMs: number
  readonly #now: () => number
  readonly #startMs: number
  #stallMs = 0
  /** Of the pass before. */
  #bytesPerMs = 0
  #lastBytes = 0
  /** When the pass began, had done all, and was over. */
  #begunMs: number
  #fullMs: number | null = null
  #overMs: number | null = null
  /** The pass has not shown yet that it does something. */
  #isSilent = false

  constructor(everyMs: number, now: () => number = () => performance.now()) {
    this.#leastMs = everyMs
    this.#now = now
    this.#startMs = now()
    this.#begunMs = this.#startMs
  }

  /** How long a pass is to take. */
  get everyMs(): number {
    const stallMs = Math.min(this.#stallMs * STALL_FACTOR, this.#leastMs * MOST_STRETCH)
    const everyMs = Math.max(this.#leastMs, stallMs, (this.#now() - this.#startMs) * LEAST_SHARE)
    return Math.min(everyMs, MAX_WAIT_MS)
  }

  /** How long the next one is to be; Infinity where nothing is known yet, or where it will be the last. */
  nextBytes(leftBytes: number): number {
    if (this.#overMs === null) return Infinity
    const bytes = Math.min(this.#bytesPerMs * this.everyMs, this.#lastBytes * MOST_GROWTH)
    return leftBytes < bytes * (1 + NEAR_END) ? Infinity : Math.max(bytes, SECTION_BYTES)
  }

  /** After how long a pass that began now is cut where it has not ended: the first one was not planned. */
  get patienceMs(): number {
    return this.#overMs === null ? this.everyMs : Math.min(2 * this.everyMs, MAX_WAIT_MS)
  }

  /** Whether a cut now is worth it, of a pass that did `doneBytes` and has `leftBytes` left. */
  isWorthACut(doneBytes: number, leftBytes: number): boolean {
    const rate = doneBytes / Math.max(1, this.#now() - this.#begunMs)
    return leftBytes > rate * this.everyMs * NEAR_END
  }

  begun(): void {
    this.#begunMs = this.#now()
    this.#fullMs = null
    this.#isSilent = true
  }

  /** The pass has done `doneBytes` of `bytes`. */
  progressed(doneBytes: number, bytes: number): void {
    const nowMs = this.#now()
    if (doneBytes >= bytes) this.#fullMs ??= nowMs
    if (doneBytes === 0 || !this.#isSilent) return
    this.#isSilent = false
    if (this.#overMs === null || this.#bytesPerMs === 0) return
    // less what it would have taken anyway
    this.#stallMs += Math.max(0, nowMs - this.#overMs - doneBytes / this.#bytesPerMs)
  }

  /** The pass is over, flushed, and did `bytes`. */
  ended(bytes: number): void {
    const nowMs = this.#now()
    this.#stallMs = nowMs - (this.#fullMs ?? nowMs)
    this.#bytesPerMs = bytes / Math.max(1, nowMs - this.#begunMs)
    this.#lastBytes = bytes
    this.#overMs = nowMs
  }
}
