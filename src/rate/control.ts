// The limit of one run as it is now: follows the schedule by the clock on the wall, and takes another one while the run
// goes on. What it decides goes to the throttle here and, by onChange, to sources at the far end.

import type { RateSchedule } from './schedule.js'
import { rateAt } from './schedule.js'
import type { Throttle } from './throttle.js'

export type RateControlOptions = Readonly<{
  /** Called behind each change of the rate that is in force, not for the first one. Null is no limit. */
  onChange?: (bytesPerSecond: number | null) => void
  /** The clock on the wall, ms since the epoch. */
  nowMs?: () => number
  /** Calls `wake` once, `delayMs` from now, and does not keep the process alive for it; what it returns calls that off. */
  setTimer?: (wake: () => void, delayMs: number) => () => void
}>

/**
 * A timetable is looked at when a minute begins: offsets of time zones are whole minutes, so this is exact, and neither a
 * change of the clocks nor a machine that slept needs a thought.
 */
const MINUTE_MS = 60_000

function unrefTimer(wake: () => void, delayMs: number): () => void {
  const timer = setTimeout(wake, delayMs).unref()
  return () => clearTimeout(timer)
}

/** What each of `lanes` far sources may send of a rate, at least 1; null is no limit. */
export function rateShare(bytesPerSecond: number | null, lanes: number): number | null {
  return bytesPerSecond === null ? null : Math.max(1, Math.floor(bytesPerSecond / lanes))
}

export class RateControl implements Disposable {
  readonly #throttle: Throttle
  readonly #onChange: (bytesPerSecond: number | null) => void
  readonly #nowMs: () => number
  readonly #setTimer: (wake: () => void, delayMs: number) => () => void
  #schedule: RateSchedule | null
  #bytesPerSecond: number | null
  #callOff: (() => void) | null = null
  #state: 'open' | 'disposed' = 'open'

  /** Sets the throttle to what holds now. `schedule` null is no limit. */
  constructor(schedule: RateSchedule | null, throttle: Throttle, options: RateControlOptions = {}) {
    this.#schedule = schedule
    this.#throttle = throttle
    this.#onChange = options.onChange ?? (() => undefined)
    this.#nowMs = options.nowMs ?? Date.now
    this.#setTimer = options.setTimer ?? unrefTimer
    this.#bytesPerSecond = this.#rateNow()
    throttle.setRate(this.#bytesPerSecond)
    this.#arm()
  }

  /** In force now; null is no limit. */
  get bytesPerSecond(): number | null {
    return this.#bytesPerSecond
  }

  get schedule(): RateSchedule | null {
    return this.#schedule
  }

  /** Another schedule from now on; null is no limit. Nothing happens once it is disposed. */
  set(schedule: RateSchedule | null): void {
    if (this.#state === 'disposed') return
    this.#schedule = schedule
    this.#follow()
  }

  /** Stops looking at the clock; the rate stays what it is. */
  [Symbol.dispose](): void {
    this.#state = 'disposed'
    this.#callOff?.()
    this.#callOff = null
  }

  #rateNow(): number | null {
    return this.#schedule === null ? null : rateAt(this.#schedule, this.#nowMs())
  }

  #follow(): void {
    this.#arm()
    const bytesPerSecond = this.#rateNow()
    if (bytesPerSecond === this.#bytesPerSecond) return
    this.#bytesPerSecond = bytesPerSecond
    this.#throttle.setRate(bytesPerSecond)
    this.#onChange(bytesPerSecond)
  }

  #arm(): void {
    this.#callOff?.()
    this.#callOff = null
    if (this.#schedule === null || this.#schedule.length === 1) return
    const untilMinuteMs = MINUTE_MS - (this.#nowMs() % MINUTE_MS)
    this.#callOff = this.#setTimer(() => this.#follow(), Math.max(1, untilMinuteMs))
  }
}
