// A clock that a test turns: timers go off in their order when their time has come, and what waits for them goes on first.

type Timer = { dueMs: number; wake: () => void }

export class TestClock {
  #nowMs: number
  readonly #timers = new Set<Timer>()
  /** How many timers were ever set: a loop that does not wait shows here. */
  timersSet = 0
  longestDelayMs = 0

  constructor(nowMs = 0) {
    this.#nowMs = nowMs
  }

  readonly nowMs = (): number => this.#nowMs

  readonly setTimer = (wake: () => void, delayMs: number): (() => void) => {
    if (!(delayMs >= 1)) throw new Error(`a timer of ${delayMs} ms`)
    const timer = { dueMs: this.#nowMs + delayMs, wake }
    this.#timers.add(timer)
    this.timersSet += 1
    this.longestDelayMs = Math.max(this.longestDelayMs, delayMs)
    return () => this.#timers.delete(timer)
  }

  /** Timers that were set and neither went off nor were called off. */
  get waiting(): number {
    return this.#timers.size
  }

  /** Turns the clock on; each timer goes off `lateMs` behind its time, as on a machine with other work. */
  async advance(byMs: number, lateMs = 0): Promise<void> {
    const untilMs = this.#nowMs + byMs
    await settled()
    for (let next = this.#next(); next !== null && next.dueMs + lateMs <= untilMs; next = this.#next()) {
      this.#timers.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.dueMs + lateMs)
      next.wake()
      await settled()
    }
    this.#nowMs = untilMs
  }

  #next(): Timer | null {
    let next: Timer | null = null
    for (const timer of this.#timers) if (next === null || timer.dueMs < next.dueMs) next = timer
    return next
  }
}

/** Resolves when everything that could go on without a timer has. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}
