// A token bucket for payload bytes: one for a whole run, however many disks share it. Waits; never drops.

import { setTimeout as delay } from 'node:timers/promises'

/** Tokens that may pile up: a tenth of a second's worth keeps the rate even over any second. */
const BURST_SECONDS = 0.1

export class Throttle {
  readonly #bytesPerSecond: number
  readonly #now: () => number
  #availableBytes = 0
  #lastMs: number

  /** `now` gives milliseconds (a test passes its own). */
  constructor(bytesPerSecond: number, now: () => number = () => performance.now()) {
    this.#bytesPerSecond = bytesPerSecond
    this.#now = now
    this.#lastMs = now()
  }

  /** Takes `bytes` tokens; waits while the bucket is in debt. Rejects with the signal's reason when it is aborted. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    this.#refill()
    this.#availableBytes -= bytes
    if (this.#availableBytes >= 0) return
    const waitMs = (-this.#availableBytes / this.#bytesPerSecond) * 1000
    try {
      await delay(waitMs, undefined, { signal })
    } catch (error) {
      // The reason of the abort is what is to be reported, not that a timer was ended by it.
      signal.throwIfAborted()
      throw error
    }
  }

  #refill(): void {
    const nowMs = this.#now()
    const earned = ((nowMs - this.#lastMs) / 1000) * this.#bytesPerSecond
    this.#lastMs = nowMs
    this.#availableBytes = Math.min(this.#availableBytes + earned, this.#bytesPerSecond * BURST_SECONDS)
  }
}
