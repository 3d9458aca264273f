// Batches of payload on their way out: each is compressed where that pays, else it leaves as it came. Looks at samples
// first, and seldom where nothing could be gained for a while. Refuses batches above MAX_PIECE_BYTES.

import { AutoChoice } from './auto.js'
import { checkPieceBytes, type Codec, CODEC_ID, type CodecId } from './codec.js'
import { LinkMeter } from './link-meter.js'

/** What goes into a `data` frame: the codec's id and the payload; `rawBytes` is its length uncompressed. */
export type Packed = Readonly<{ codec: CodecId; parts: readonly Uint8Array[]; rawBytes: number }>

/** `ceiling`: the most that may leave in bytes a second, for `auto`; null is unlimited. `now`: milliseconds, for tests. */
export type CompressorOptions = Readonly<{ ceiling?: () => number | null; now?: () => number }>

/** Below this the codec's call costs more than the line, on any line. */
export const MIN_BATCH_BYTES = 512
/** What is gained must be worth the far end's work too: raw over compressed. */
export const LEAST_RATIO = 1.1
/** Eight leaves over the batch, about 3 % of it: enough to see what a disk's content is like here. */
const SAMPLES = 8
const SAMPLE_BYTES = 4096
/** A batch that is hardly more than its samples is compressed at once. */
const MIN_SAMPLED_BYTES = 2 * SAMPLES * SAMPLE_BYTES
/** Where nothing was gained again and again, batches that are not even looked at. 15 MiB until a change is seen. */
const MAX_SKIPPED = 15

const RAW = CODEC_ID.none

export class Compressor {
  readonly #codec: Codec
  readonly #now: () => number
  /** Null where every batch is tried. */
  readonly #auto: AutoChoice | null
  readonly #meter: LinkMeter | null
  /** Batches in a row that were not worth it; null where the last one was, so that the next needs no samples. */
  #misses: number | null = 0
  #skip = 0

  constructor(codec: Codec, mode: 'always' | 'auto', options: CompressorOptions = {}) {
    const { ceiling = unlimited, now = () => performance.now() } = options
    this.#codec = codec
    this.#now = now
    const auto = mode === 'auto' ? new AutoChoice(ceiling) : null
    this.#auto = auto
    this.#meter = auto === null ? null : new LinkMeter((reading) => auto.observe(reading, now()), now)
  }

  /**
   * The batch in `parts` (in order, together at most MAX_PIECE_BYTES), compressed in libuv's pool, or `parts` themselves
   * where that does not pay. `parts` must not change until the promise settles, and where they come back until they
   * have left.
   */
  async pack(parts: readonly Uint8Array[]): Promise<Packed> {
    const rawBytes = parts.reduce((sum, part) => sum + part.length, 0)
    const raw: Packed = { codec: RAW, parts, rawBytes }
    if (rawBytes < MIN_BATCH_BYTES) return raw
    checkPieceBytes(rawBytes)
    const beganMs = this.#now()
    if (this.#auto?.wants(beganMs) === false) return raw
    if (this.#skip > 0) {
      this.#skip -= 1
      return raw
    }
    const piece = (await this.#isPromising(parts, rawBytes)) ? await this.#compress(parts, rawBytes) : null
    if (piece === null) {
      this.#missed(beganMs)
      return raw
    }
    this.#misses = null
    return { codec: this.#codec.id, parts: [piece], rawBytes }
  }

  /**
   * Tells that a packed batch is in line, and by `left` (as Channel.send gives it) when it has left this process: from
   * that `auto` learns how fast the line is. In the order of the line.
   */
  watch({ parts, rawBytes }: Packed, left: Promise<void>): void {
    const meter = this.#meter
    if (meter === null) return
    const bytes = parts.reduce((sum, part) => sum + part.length, 0)
    meter.entered()
    left.then(
      () => meter.left(bytes, rawBytes),
      () => undefined, // the channel has failed and says so where it is read; there is nothing more to measure
    )
  }

  async #isPromising(parts: readonly Uint8Array[], rawBytes: number): Promise<boolean> {
    if (this.#misses === null || rawBytes < MIN_SAMPLED_BYTES) return true
    const sample = sampleOf(parts, rawBytes)
    const { length } = await this.#codec.compress(sample)
    return pays(sample.length, length)
  }

  async #compress(parts: readonly Uint8Array[], rawBytes: number): Promise<Buffer | null> {
    const beganMs = this.#now()
    const [only] = parts
    const whole = parts.length === 1 && only !== undefined ? only : Buffer.concat(parts, rawBytes)
    const piece = await this.#codec.compress(whole)
    if (!pays(rawBytes, piece.length)) return null
    const nowMs = this.#now()
    this.#auto?.compressed(rawBytes, nowMs - beganMs, nowMs)
    return piece
  }

  #missed(beganMs: number): void {
    const nowMs = this.#now()
    this.#auto?.incompressible(nowMs - beganMs, nowMs)
    this.#misses = (this.#misses ?? 0) + 1
    this.#skip = Math.min(2 ** (this.#misses - 1) - 1, MAX_SKIPPED)
  }
}

function pays(rawBytes: number, packedBytes: number): boolean {
  return packedBytes * LEAST_RATIO <= rawBytes
}

/** SAMPLES pieces of SAMPLE_BYTES, spread evenly, each on a multiple of its length: one leaf of the usual size. */
function sampleOf(parts: readonly Uint8Array[], rawBytes: number): Buffer {
  const sample = Buffer.allocUnsafe(SAMPLES * SAMPLE_BYTES)
  const leaves = Math.floor(rawBytes / SAMPLE_BYTES)
  let partAt = 0
  let part = 0
  for (let index = 0; index < SAMPLES; index += 1) {
    let from = Math.floor((index * leaves) / SAMPLES) * SAMPLE_BYTES
    for (let filled = 0; filled < SAMPLE_BYTES;) {
      let source = parts[part] ?? sample
      while (partAt + source.length <= from) {
        partAt += source.length
        part += 1
        source = parts[part] ?? sample
      }
      const piece = source.subarray(from - partAt, from - partAt + SAMPLE_BYTES - filled)
      sample.set(piece, index * SAMPLE_BYTES + filled)
      filled += piece.length
      from += piece.length
    }
  }
  return sample
}

function unlimited(): null {
  return null
}
