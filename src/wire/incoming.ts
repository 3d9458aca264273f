// The way into a channel: bytes of the transport in, whole frames out; behind a frame the bytes may go on in another
// stream. What the frames are is the channel's to judge; refused is here only what is none.

import type { Readable } from 'node:stream'

import { SyncError } from '../errors.js'
import { type Frame, FrameDecoder } from './frame.js'

/** Who gets what comes in. */
export type Receiver = Readonly<{
  /** Every frame, in order. What it throws is a failure. */
  onFrame: (frame: Frame) => void
  /** When the frames of a chunk have been handed out: the moment to hold the stream back. */
  onChunk: () => void
  /** Once; nothing is handed out after it. */
  onFailure: (error: SyncError) => void
  /** May be called more than once. */
  onEnd: () => void
}>

export class Incoming {
  /** Bytes that came. */
  bytes = 0
  #stream: Readable
  readonly #receiver: Receiver
  readonly #decoder = new FrameDecoder()
  /** Where what follows the frame that is being dealt with comes from, when that is not where it came from. */
  #next: ((rest: Uint8Array) => Readable) | null = null
  /** What flows before that is lost. */
  #isListening = false

  constructor(stream: Readable, receiver: Receiver) {
    this.#stream = stream
    this.#receiver = receiver
    stream.on('error', ignoreError)
  }

  /** True between frames: a stream that ends elsewhere was cut. */
  get isBetweenFrames(): boolean {
    return this.#decoder.isBetweenFrames
  }

  get isPaused(): boolean {
    return this.#stream.isPaused()
  }

  pause(): void {
    this.#stream.pause()
  }

  /** Begins, with the bytes that were read before. */
  listen(rest: Uint8Array): void {
    const stream = this.#stream
    this.#isListening = true
    if (rest.length > 0) this.#onData(rest)
    // It may have gone on elsewhere already, and is heard there then.
    if (stream === this.#stream) this.#hear()
  }

  /** Goes on reading, once it has begun. */
  resume(): void {
    if (this.#isListening) this.#stream.resume()
  }

  /** For `onFrame`: what follows the frame it was called with comes from another stream, made of the bytes read behind it. */
  moveTo(next: (rest: Uint8Array) => Readable): void {
    this.#next = next
    this.#decoder.stop()
  }

  #hear(): void {
    const { onEnd } = this.#receiver
    const stream = this.#stream
    stream.on('data', this.#onData).on('end', onEnd).on('close', onEnd)
    if (stream.readableEnded || stream.destroyed) onEnd()
    stream.resume()
  }

  readonly #onData = (chunk: Uint8Array): void => {
    this.bytes += chunk.length
    try {
      const takenBytes = this.#decoder.push(chunk, this.#receiver.onFrame)
      if (this.#next !== null) this.#moveOn(this.#next, chunk.subarray(takenBytes))
    } catch (thrown) {
      this.#receiver.onFailure(
        thrown instanceof SyncError ? thrown : new SyncError('internal', String(thrown), { cause: thrown }),
      )
      this.#stream.off('data', this.#onData)
      this.#stream.resume()
      return
    }
    this.#receiver.onChunk()
  }

  #moveOn(next: (rest: Uint8Array) => Readable, rest: Uint8Array): void {
    const { onEnd } = this.#receiver
    this.#next = null
    this.#stream.off('data', this.#onData).off('end', onEnd).off('close', onEnd)
    // They are counted, without their headers, when they come out of it.
    this.bytes -= rest.length
    this.#stream = next(rest)
    this.#stream.on('error', ignoreError)
    this.#hear()
  }
}

function ignoreError(): void {
  // the stream is closed behind it, and that is heard
}
