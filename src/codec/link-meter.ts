// How fast the line is, and whether it is what we wait for: frames that went into line and have left come in, readings
// go out. Knows nothing of what is in the frames; refuses nothing.

/** The line over the last while. */
export type LinkReading = Readonly<{
  /** What left, over the time in which something was in line. */
  bytesPerSecond: number
  /** What of the disk that was (before it was compressed), over all of the time. */
  rawBytesPerSecond: number
  /** The part of that while in which something was in line, 0 to 1: near 1 the line is what we wait for. */
  busyShare: number
}>

/** Long enough to level out the pipes and buffers between us and the line, short against a run. */
const READING_MS = 100

export class LinkMeter {
  readonly #now: () => number
  readonly #onReading: (reading: LinkReading) => void
  #framesInLine = 0
  #busySinceMs = 0
  #readingSinceMs: number | null = null
  #busyMs = 0
  #bytes = 0
  #rawBytes = 0

  /** `now` gives milliseconds (a test passes its own). */
  constructor(onReading: (reading: LinkReading) => void, now: () => number = () => performance.now()) {
    this.#onReading = onReading
    this.#now = now
  }

  /** A frame went into line. */
  entered(): void {
    const nowMs = this.#now()
    this.#readingSinceMs ??= nowMs
    if (this.#framesInLine === 0) this.#busySinceMs = nowMs
    this.#framesInLine += 1
  }

  /** The frame that entered first of those in line has left this process; it had `bytes`, before compression `rawBytes`. */
  left(bytes: number, rawBytes: number): void {
    const nowMs = this.#now()
    this.#framesInLine -= 1
    this.#busyMs += nowMs - this.#busySinceMs
    this.#busySinceMs = nowMs
    this.#bytes += bytes
    this.#rawBytes += rawBytes
    const sinceMs = this.#readingSinceMs ?? nowMs
    if (nowMs - sinceMs < READING_MS) return
    // a clock of whole milliseconds may show none for a frame that left at once
    const busyMs = Math.max(this.#busyMs, 0.01)
    const reading = {
      bytesPerSecond: (this.#bytes / busyMs) * 1000,
      rawBytesPerSecond: (this.#rawBytes / (nowMs - sinceMs)) * 1000,
      busyShare: this.#busyMs / (nowMs - sinceMs),
    }
    this.#readingSinceMs = nowMs
    this.#busyMs = 0
    this.#bytes = 0
    this.#rawBytes = 0
    this.#onReading(reading)
  }
}
