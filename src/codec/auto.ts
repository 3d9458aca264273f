// `--compress=auto`: readings of the line and the codec's speed in, whether the next batch is compressed out.
// Refuses to compress where the line is not what we wait for, or where the codec does not make the run faster.

import type { LinkReading } from './link-meter.js'

/**
 * Where the line's rate is below this share of the codec's, compressing begins; above the second share it ends. Between
 * them nothing changes. The codec must be clearly faster: its time is also taken from ssh, from the reads and from the
 * far end, which has to decompress.
 */
export const BEGIN_SHARE = 0.7
export const END_SHARE = 0.9
/** Above this part of the time with something in line, the line is what we wait for. */
const BUSY_SHARE = 0.75
/** Readings in a row that change anything: one alone may be a pause of this process or of the far end. */
const READINGS = 2
/** The codec is measured on so many batches in a row, and the first is not counted: its code and memory are cold. */
const TRIAL_BATCHES = 4
/** While a line is fast the codec is measured again: the machine may have been busy the last time. Not sooner than this, */
const TRIAL_MS = 1000
/** nor than this many times what the last trial took, so that trials cost half a percent at most. */
const TRIAL_TIMES = 200
/** A line that keeps up with compressed data may have become a fast one: after this it is tried without. */
const RETRY_MS = 2000
/** Where that was in vain, or compressing was, the next try comes twice as late; not later than this. */
const MAX_RETRY_MS = 60_000
/** How much is kept of what was measured of the codec before, at each new measurement. */
const CODEC_MEMORY = 0.8

type State =
  | { kind: 'plain'; slowReadings: number }
  /** `plainRate`: the line's, in bytes a second. `keepsUpSinceMs`: since when it has not been what we wait for. */
  | { kind: 'compressing'; plainRate: number; inVain: number; keepsUpSinceMs: number | null }

export class AutoChoice {
  readonly #ceiling: () => number | null
  #state: State = { kind: 'plain', slowReadings: 0 }
  #isLineBusy = false
  #codecBytes = 0
  #codecMs = 0
  /** Batches of the trial under way that are still to come, and what it has taken so far. */
  #trialBatches = 0
  #trialElapsedMs = 0
  #trialDueMs = 0
  #retryAfterMs = RETRY_MS
  #retriedAtMs: number | null = null
  #notBeforeMs = 0

  /** `ceiling` is the most that may leave, in bytes a second (--bwlimit); null is unlimited. */
  constructor(ceiling: () => number | null) {
    this.#ceiling = ceiling
  }

  /** Bytes a second of the codec, or null before it was measured. */
  get codecBytesPerSecond(): number | null {
    return this.#codecMs === 0 ? null : (this.#codecBytes / this.#codecMs) * 1000
  }

  /** Whether the next batch, at `nowMs`, should be compressed. Also yes where the codec has to be measured. */
  wants(nowMs: number): boolean {
    const codec = this.codecBytesPerSecond
    const ceiling = this.#ceiling()
    if (ceiling !== null && (codec === null || ceiling < codec * BEGIN_SHARE)) return true
    if (this.#state.kind === 'compressing' || this.#trialBatches > 0) return true
    if (!this.#isLineBusy || nowMs < this.#trialDueMs) return false
    this.#trialBatches = TRIAL_BATCHES
    this.#trialElapsedMs = 0
    return true
  }

  /** The codec took `elapsedMs` until `nowMs` for `rawBytes` that can be compressed; the wait for a thread is part of it. */
  compressed(rawBytes: number, elapsedMs: number, nowMs: number): void {
    const isCold = this.#trialBatches === TRIAL_BATCHES
    if (this.#trialBatches > 0) {
      this.#trialBatches -= 1
      this.#tried(elapsedMs, nowMs)
    }
    if (isCold) return
    this.#codecBytes = this.#codecBytes * CODEC_MEMORY + rawBytes
    this.#codecMs = this.#codecMs * CODEC_MEMORY + elapsedMs
  }

  /** It took `elapsedMs` until `nowMs` to see that a batch cannot be compressed: nothing more to try for now. */
  incompressible(elapsedMs: number, nowMs: number): void {
    this.#trialBatches = 0
    this.#tried(elapsedMs, nowMs)
  }

  /** What the line did until `nowMs`. */
  observe(reading: LinkReading, nowMs: number): void {
    this.#isLineBusy = reading.busyShare >= BUSY_SHARE
    const codec = this.codecBytesPerSecond
    if (codec === null) return
    if (this.#state.kind === 'plain') this.#observePlain(this.#state, reading, codec, nowMs)
    else this.#observeCompressing(this.#state, reading, codec, nowMs)
  }

  #observePlain(
    state: State & { kind: 'plain' },
    { bytesPerSecond }: LinkReading,
    codec: number,
    nowMs: number,
  ): void {
    const isSlow = this.#isLineBusy && bytesPerSecond < codec * BEGIN_SHARE && nowMs >= this.#notBeforeMs
    state.slowReadings = isSlow ? state.slowReadings + 1 : 0
    if (state.slowReadings < READINGS) return
    const soon = this.#retriedAtMs !== null && nowMs - this.#retriedAtMs < RETRY_MS
    this.#retryAfterMs = soon ? Math.min(this.#retryAfterMs * 2, MAX_RETRY_MS) : RETRY_MS
    this.#state = { kind: 'compressing', plainRate: bytesPerSecond, inVain: 0, keepsUpSinceMs: null }
  }

  #observeCompressing(
    state: State & { kind: 'compressing' },
    { bytesPerSecond, rawBytesPerSecond }: LinkReading,
    codec: number,
    nowMs: number,
  ): void {
    if (this.#isLineBusy) {
      state.keepsUpSinceMs = null
      state.inVain = 0
      // slower than when it began: that is then what compressing has to be better than
      state.plainRate = Math.min(state.plainRate, bytesPerSecond)
      if (bytesPerSecond > codec * END_SHARE) this.#end()
      return
    }
    state.inVain = rawBytesPerSecond < state.plainRate ? state.inVain + 1 : 0
    if (state.inVain === READINGS) {
      this.#retryAfterMs = Math.min(this.#retryAfterMs * 2, MAX_RETRY_MS)
      this.#notBeforeMs = nowMs + this.#retryAfterMs
      this.#end()
      return
    }
    state.keepsUpSinceMs ??= nowMs
    if (nowMs - state.keepsUpSinceMs < this.#retryAfterMs) return
    this.#retriedAtMs = nowMs
    this.#end()
  }

  #end(): void {
    this.#state = { kind: 'plain', slowReadings: 0 }
  }

  #tried(elapsedMs: number, nowMs: number): void {
    this.#trialElapsedMs += elapsedMs
    this.#trialDueMs = nowMs + Math.max(TRIAL_MS, this.#trialElapsedMs * TRIAL_TIMES)
  }
}
