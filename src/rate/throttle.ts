// A token bucket for payload bytes: one for a whole run, however many lanes and disks share it. Waits, in the order of
// asking; never drops. The rate may change while somebody waits. Refuses nothing but a rate that is none.

/** Where the time comes from; a test gives its own. */
export type ThrottleClock = Readonly<{
  /** A steady clock, ms. */
  nowMs: () => number
  /** Calls `wake` once, `delayMs` from now; the function it returns calls that off. */
  setTimer: (wake: () => void, delayMs: number) => () => void
}>

/**
 * Tokens that may pile up while nobody takes any, in seconds' worth: a sender that waited for its window or for the disk
 * makes up for it, and over ten seconds it is still no more than 2 %.
 */
const BURST_SECONDS = 0.2

/** Longer timers end at once (their ms are a signed 32-bit number); a wait that is longer is taken in parts. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** What one frame should hold at most, in seconds' worth: a megabyte in one piece would be 16 s at 64 KiB/s. */
const GRAIN_SECONDS = 0.1

/** Frames below this cost more than they smooth. */
const MIN_GRAIN_BYTES = 4096

const STEADY_CLOCK: ThrottleClock = {
  nowMs: () => performance.now(),
  setTimer: (wake, delayMs) => {
    const timer = setTimeout(wake, delayMs)
    return () => clearTimeout(timer)
  },
}

type Taker = Readonly<{ bytes: number; grant: () => void }>

export class Throttle {
  readonly #clock: ThrottleClock
  #bytesPerSecond: number | null
  /** Below zero while the first taker has not earned what it asked for. */
  #availableBytes = 0
  #lastMs: number
  /** In the order of asking. Tokens of the first are taken already, those of the others are not. */
  readonly #takers: Taker[] = []
  #callOff: (() => void) | null = null

  /** `bytesPerSecond`: at least 1, or null for no limit. Throws RangeError. */
  constructor(bytesPerSecond: number | null, clock: ThrottleClock = STEADY_CLOCK) {
    checkRate(bytesPerSecond)
    this.#bytesPerSecond = bytesPerSecond
    this.#clock = clock
    this.#lastMs = clock.nowMs()
  }

  /** Null is no limit. */
  get bytesPerSecond(): number | null {
    return this.#bytesPerSecond
  }

  /**
   * Payload bytes that one take should be for, so that the line is even: a tenth of a second's worth, a power of two of at
   * least 4 KiB; Infinity without a limit.
   */
  get grainBytes(): number {
    if (this.#bytesPerSecond === null) return Infinity
    return Math.max(MIN_GRAIN_BYTES, 2 ** Math.floor(Math.log2(this.#bytesPerSecond * GRAIN_SECONDS)))
  }

  /** The rate from now on, also for those who wait. Null is no limit. Throws RangeError. */
  setRate(bytesPerSecond: number | null): void {
    checkRate(bytesPerSecond)
    this.#refill()
    this.#bytesPerSecond = bytesPerSecond
    this.#availableBytes = Math.min(this.#availableBytes, this.#burstBytes)
    this.#serve()
  }

  /**
   * Takes tokens for `bytes` as they go over the wire (after compression); resolves when they are earned, after those who
   * asked before. Rejects with the signal's reason when it is aborted, and then has taken none.
   */
  take(bytes: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(signal.reason as Error)
    if (this.#bytesPerSecond === null) return Promise.resolve()
    this.#refill()
    if (this.#takers.length === 0 && this.#availableBytes >= bytes) {
      this.#availableBytes -= bytes
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const taker: Taker = {
        bytes,
        grant: () => {
          signal.removeEventListener('abort', onAbort)
          resolve()
        },
      }
      const onAbort = (): void => {
        this.#leave(taker)
        reject(signal.reason as Error)
      }
      signal.addEventListener('abort', onAbort, { once: true })
      this.#takers.push(taker)
      if (this.#takers.length > 1) return
      this.#availableBytes -= bytes
      this.#serve()
    })
  }

  get #burstBytes(): number {
    return this.#bytesPerSecond === null ? 0 : this.#bytesPerSecond * BURST_SECONDS
  }

  /** Without a limit nothing is earned and nothing is owed. */
  #refill(): void {
    const nowMs = this.#clock.nowMs()
    const earned = ((nowMs - this.#lastMs) / 1000) * (this.#bytesPerSecond ?? 0)
    this.#lastMs = nowMs
    this.#availableBytes = Math.min(this.#availableBytes + earned, this.#burstBytes)
  }

  /** Lets go whoever has earned it, in order, and has itself woken for the next one. */
  #serve(): void {
    this.#callOff?.()
    this.#callOff = null
    if (this.#bytesPerSecond === null) {
      this.#availableBytes = 0
      for (const taker of this.#takers.splice(0)) taker.grant()
      return
    }
    while (this.#takers.length > 0 && this.#availableBytes >= 0) {
      this.#takers.shift()?.grant()
      this.#availableBytes -= this.#takers[0]?.bytes ?? 0
    }
    if (this.#takers.length === 0) return
    const waitMs = Math.ceil((-this.#availableBytes / this.#bytesPerSecond) * 1000)
    const wake = (): void => {
      this.#callOff = null
      this.#refill()
      this.#serve()
    }
    this.#callOff = this.#clock.setTimer(wake, Math.min(Math.max(waitMs, 1), MAX_TIMER_MS))
  }

  /** Takes one who gave up out of the row; what the first had been given goes to the next. */
  #leave(taker: Taker): void {
    const at = this.#takers.indexOf(taker)
    this.#takers.splice(at, 1)
    if (at !== 0) return
    this.#refill()
    this.#availableBytes = Math.min(this.#availableBytes + taker.bytes, this.#burstBytes)
    this.#availableBytes -= this.#takers[0]?.bytes ?? 0
    this.#serve()
  }
}

function checkRate(bytesPerSecond: number | null): void {
  if (bytesPerSecond !== null && !(bytesPerSecond >= 1 && bytesPerSecond < Infinity))
    throw new RangeError(`a rate of ${bytesPerSecond} bytes a second`)
}
