// What a destination does to its disk: checked records come in, are written or zeroed a few frames at a time, their credit
// goes back in order, and at the end they are flushed. Refuses nothing: what comes in was checked (destination.ts).

import type { CodecId } from '../codec/codec.js'
import { decompress } from '../codec/open.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import type { Preserver } from '../undo/preserver.js'
import type { DataRecord } from '../wire/bodies.js'
import type { Channel } from '../wire/channel.js'
import { WINDOW_BYTES } from '../wire/channel.js'
import type { Frame } from '../wire/frame.js'
import { BoundedQueue, Window } from '../wire/queue.js'

/** Frames being written at once: a disk wants a queue, and one write must not wait for the next frame to come. */
const WRITE_DEPTH = 4
/** The same where old content is kept first: all frames that one flush of the journal made free are written together. */
const PRESERVED_WRITE_DEPTH = 16

/** A data frame that was checked and digested. */
export type Arrived = Readonly<{
  frame: Frame
  records: readonly DataRecord[]
  payload: Buffer
  /** What `unpack` took for it; 0 where it came as it is. */
  unpackedBytes: number
  /** All blocks below it were decided when this came, and their data is in earlier frames. */
  markedBlock: number
}>

export class Writer {
  readonly #channel: Channel
  readonly #endpoint: Endpoint
  readonly #preserver: Preserver | null
  readonly #permitted: Promise<unknown>
  readonly #depth: number
  readonly #onWritten: (markedBlock: number | null) => void
  readonly #arrived = new BoundedQueue<Arrived & { preserved: Promise<void> | null }>(Number.MAX_SAFE_INTEGER)
  /** Credit counts what crossed the wire; what came compressed takes more here until it is written. */
  readonly #unpacked = new Window(Number.MAX_SAFE_INTEGER, WINDOW_BYTES)
  /** The marks of frames that were accepted and are not written yet, in order. */
  readonly #marks: number[] = []
  /** Who waits until there are none. */
  #waiting: { resolve: () => void; reject: (error: unknown) => void } | null = null
  #written = false
  #failure: { error: unknown } | null = null

  /**
   * `preserver` keeps what is overwritten, or is null where nobody asked for it; who gave it closes it. Nothing is written
   * before `permitted` resolves. `onWritten` is called when frames were written, with the mark of the first one that is not,
   * or null when everything that was put is.
   */
  constructor(
    channel: Channel,
    endpoint: Endpoint,
    before: Readonly<{ preserver?: Preserver | null; permitted?: Promise<unknown> }>,
    onWritten: (markedBlock: number | null) => void,
  ) {
    const { preserver = null, permitted = Promise.resolve() } = before
    this.#channel = channel
    this.#endpoint = endpoint
    this.#permitted = permitted
    this.#preserver = preserver
    this.#depth = preserver === null ? WRITE_DEPTH : PRESERVED_WRITE_DEPTH
    this.#onWritten = onWritten
  }

  /** True when everything that was put is written. */
  get isIdle(): boolean {
    return this.#marks.length === 0
  }

  /** Payload as it was before it was compressed; waits until there is memory for it. */
  async unpack(codec: Exclude<CodecId, 0>, packed: Buffer, rawBytes: number): Promise<Buffer> {
    await this.#unpacked.reserve(rawBytes)
    return await decompress(codec, packed, rawBytes)
  }

  /** Takes a frame to be written; its credit goes back when it is. Frames do not overlap. */
  put(arrived: Arrived): void {
    this.#marks.push(arrived.markedBlock)
    // begun at once, so that frames that wait to be written share a flush of the journal
    const preserved = this.#preserver?.before(arrived.records) ?? null
    preserved?.catch(() => undefined) // awaited before the write, or told to all who come later
    this.#arrived.put({ ...arrived, preserved })
  }

  /** Nothing more comes. */
  end(): void {
    this.#arrived.end()
  }

  /** Begins no further write; `run` rejects with `error` when those under way are over. */
  fail(error: unknown): void {
    this.#failure ??= { error }
    this.#waiting?.reject(error)
    this.#unpacked.fail(error)
    this.#arrived.fail(error)
  }

  /** Several frames are being written at once; their credit goes back in order. Resolves after `end`, when all are. */
  async run(): Promise<void> {
    const underWay: (Arrived & { writing: Promise<void> })[] = []
    try {
      for (let next = await this.#arrived.shift(); next !== undefined; next = await this.#arrived.shift()) {
        const writing = this.#overwrite(next)
        writing.catch(() => undefined) // awaited below, in order
        underWay.push({ ...next, writing })
        while (underWay.length >= this.#depth || (underWay.length > 0 && this.#arrived.ready === 0)) {
          const oldest = underWay.shift()
          if (oldest === undefined) break
          await oldest.writing
          this.#channel.release(oldest.frame)
          if (oldest.unpackedBytes > 0) this.#unpacked.restore(1, oldest.unpackedBytes)
          this.#marks.shift()
        }
        this.#onWritten(this.#marks[0] ?? null)
        if (this.isIdle) this.#waiting?.resolve() // again is without effect
      }
    } finally {
      await Promise.allSettled(underWay.map(({ writing }) => writing))
    }
  }

  /** Resolves when everything that was put is written. Nothing is put meanwhile. */
  async settled(): Promise<void> {
    if (this.#failure !== null) throw this.#failure.error
    if (this.isIdle) return
    await new Promise<void>((resolve, reject) => (this.#waiting = { resolve, reject }))
  }

  /** The one flush of a pass: what was written is on stable storage when it resolves. */
  async flush(): Promise<void> {
    await this.#endpoint.flush()
  }

  /** Flushes what was written before the pass failed with `error`; what to throw then. */
  async flushAfter(error: unknown): Promise<unknown> {
    if (!this.#written) return error
    try {
      await this.flush()
      return error
    } catch (flushError) {
      // A disk that failed already says more; whatever else ended the pass must not hide that this did not reach the disk.
      if (error instanceof SyncError && error.code.startsWith('destination/')) return error
      return flushError
    }
  }

  /** The one place where a pass changes what is on the disk: behind it the old content is gone. */
  async #overwrite({
    records,
    payload,
    preserved,
  }: Arrived & { preserved: Promise<void> | null }): Promise<void> {
    await this.#permitted
    await preserved
    const ranges = records.filter((record) => record.kind === 'data')
    this.#written = true
    if (ranges.length > 0) await this.#endpoint.write(ranges, payload)
    const zeros = records.filter((record) => record.kind === 'zero')
    if (zeros.length > 0) await this.#endpoint.zero(zeros)
  }
}
