// Frames over any pair of byte streams, with credit: bytes of the transport come in, checked frames go to one receiver;
// frames go out in order. Refuses frames beyond the credit it gave. Knows nothing of disks or digests.

import type { Readable, Writable } from 'node:stream'

import { SyncError } from '../errors.js'
import { decodeCredit, encodeCredit } from './bodies.js'
import { decodeError, encodeError } from './control.js'
import type { Frame, FrameType } from './frame.js'
import {
  encodeHeader,
  FRAME,
  FrameDecoder,
  frameName,
  HEADER_BYTES,
  isAside,
  isCredited,
  protocolError,
} from './frame.js'
import { BoundedQueue, Window } from './queue.js'

/** Credited frames in flight in one direction, not yet dealt with by the receiver. */
export const WINDOW_FRAMES = 256
/** Their bytes: a 16 MiB window keeps 400 MiB/s going over a 40 ms round trip. */
export const WINDOW_BYTES = 16 << 20
/** Received frames that wait for the receiver; above it the stream is paused. */
const MAX_WAITING_FRAMES = 1024
/** Their bodies, in bytes: types without credit have no other bound while nobody receives. Credited ones have the window. */
const MAX_WAITING_BYTES = WINDOW_BYTES
/** Answers to pings that have not left yet: a side that asks and does not read is refused. */
export const MAX_WAITING_PONGS = 1024

export class Channel {
  wireBytesSent = 0
  wireBytesReceived = 0
  /** Called when the other side gives back credit for frames of ours, in the order they were sent. */
  onCredit: ((frames: number) => void) | null = null
  /** Called with frames that are not part of a pass (see isAside). What it throws ends the channel. */
  onAside: ((frame: Frame) => void) | null = null

  /** Aborted, with the failure as its reason, when this channel has failed. */
  readonly failed: AbortSignal

  readonly #input: Readable
  readonly #output: Writable
  readonly #decoder = new FrameDecoder()
  readonly #received = new BoundedQueue<Frame>(Number.MAX_SAFE_INTEGER)
  readonly #window = new Window(WINDOW_FRAMES, WINDOW_BYTES)
  #outstandingFrames = 0
  #outstandingBytes = 0
  #owedFrames = 0
  #owedBytes = 0
  #waitingPongs = 0
  readonly #failing = new AbortController()
  #failure: SyncError | null = null
  #peerError: SyncError | null = null
  /** What flows before that is lost. */
  #isListening = false
  #inputEnded = false
  #outputEnded = false
  /** Writes under way: a stream that is destroyed need not call back for those. */
  readonly #leaving = new Set<(error: SyncError) => void>()

  /** `rest` is what was read behind the banner. */
  constructor(input: Readable, output: Writable, rest: Uint8Array) {
    this.failed = this.#failing.signal
    this.#input = input
    this.#output = output
    output.on('error', this.#onOutputError)
    input.on('error', ignoreError)
    // Whoever made the channel first says who is to get what comes.
    queueMicrotask(() => this.#listen(rest))
  }

  #listen(rest: Uint8Array): void {
    const input = this.#input
    this.#isListening = true
    if (rest.length > 0) this.#onData(rest)
    input.on('data', this.#onData).on('end', this.#onEnd).on('close', this.#onEnd)
    if (input.readableEnded || input.destroyed) this.#onEnd()
    input.resume()
  }

  /** The first thing that went wrong on this channel, or null. An error frame of the peer is kept in preference. */
  get failure(): SyncError | null {
    return this.#peerError ?? this.#failure
  }

  /** What the other side said was wrong, or null. */
  get peerError(): SyncError | null {
    return this.#peerError
  }

  /** Bytes of credited frames that were sent and are not dealt with there. */
  get inFlightBytes(): number {
    return this.#window.taken.bytes
  }

  /** Bytes put in line that the transport has not taken yet. */
  get backlogBytes(): number {
    return this.#output.writableLength
  }

  /** The next frame. Rejects with the peer's error, session/protocol or session/lost. */
  async receive(): Promise<Frame> {
    const frame = await this.#received.shift()
    if (this.#input.isPaused() && !this.#isCrowded(0.5)) this.#input.resume()
    if (frame === undefined) throw this.failure ?? lost()
    return frame
  }

  /** The next frame, which must be of `type`. */
  async expect(type: FrameType): Promise<Frame> {
    const frame = await this.receive()
    if (frame.type !== type)
      throw protocolError(`${frameName(frame.type)} frame where ${frameName(type)} was due`)
    return frame
  }

  /** Done with a frame: its memory is reused and, where its type is credited, the credit goes back. */
  release(frame: Frame): void {
    if (isCredited(frame.type)) {
      const bytes = HEADER_BYTES + frame.body.length
      this.#outstandingFrames -= 1
      this.#outstandingBytes -= bytes
      this.#owedFrames += 1
      this.#owedBytes += bytes
      // Small debts wait for company: an eighth of the window keeps the sender going.
      if (
        this.#owedFrames >= WINDOW_FRAMES / 8 ||
        this.#owedBytes >= WINDOW_BYTES / 8 ||
        this.#outstandingFrames === 0
      ) {
        this.post(FRAME.credit, 0, encodeCredit(this.#owedFrames, this.#owedBytes))
        this.#owedFrames = 0
        this.#owedBytes = 0
      }
    }
    frame.recycle()
  }

  /**
   * Sends a credited frame: waits for credit, then puts it in line. Resolves when it is in line (a later `post` comes
   * after it); `left` of the result resolves when its bytes have left this process and the parts may be reused.
   * Both reject when the channel has failed.
   */
  async send(type: FrameType, disk: number, parts: readonly Uint8Array[]): Promise<{ left: Promise<void> }> {
    const bodyBytes = parts.reduce((sum, part) => sum + part.length, 0)
    const header = encodeHeader(type, disk, bodyBytes)
    if (isCredited(type)) await this.#window.reserve(HEADER_BYTES + bodyBytes)
    if (this.#failure !== null) throw this.failure ?? this.#failure
    const left = this.#write([header, ...parts])
    left.catch(() => undefined) // the failure is also the channel's; whoever awaits `left` still gets it
    return { left }
  }

  /** Sends a small frame that needs no credit, in order, without waiting. A failure shows in `receive`. */
  post(type: FrameType, disk: number, ...parts: readonly Uint8Array[]): void {
    if (this.#failure !== null || this.#outputEnded) return
    const bodyBytes = parts.reduce((sum, part) => sum + part.length, 0)
    this.#put([encodeHeader(type, disk, bodyBytes), ...parts], null)
  }

  /** Tells the other side why this one gives up, and ends the stream towards it. */
  postError(error: SyncError): void {
    if (this.#outputEnded || this.#output.destroyed) return
    const body = encodeError(error)
    this.#put([encodeHeader(FRAME.error, 0, body.length), body], null)
    this.end()
  }

  /** Half-closes: nothing more will be sent. */
  end(): void {
    if (this.#outputEnded) return
    this.#outputEnded = true
    this.#output.end()
  }

  /** Fails everybody who waits on this channel. The first failure counts. */
  fail(error: SyncError): void {
    if (this.#failure !== null) return
    this.#failure = error
    this.#received.fail(this.failure)
    this.#window.fail(this.failure)
    for (const reject of this.#leaving) reject(this.failure ?? error)
    this.#failing.abort(this.failure)
  }

  /** Takes what still comes and throws it away, but for an error frame: its words are `peerError` when the stream has ended. */
  drain(): void {
    if (this.#isListening) this.#input.resume()
  }

  readonly #onData = (chunk: Uint8Array): void => {
    this.wireBytesReceived += chunk.length
    try {
      this.#decoder.push(chunk, (frame) => this.#onFrame(frame))
    } catch (thrown) {
      this.fail(
        thrown instanceof SyncError ? thrown : new SyncError('internal', String(thrown), { cause: thrown }),
      )
      this.#input.off('data', this.#onData)
      this.#input.resume()
      return
    }
    if (this.#failure === null && this.#isCrowded(1)) this.#input.pause()
  }

  #isCrowded(share: number): boolean {
    const { ready, weight } = this.#received
    return ready > share * MAX_WAITING_FRAMES || weight > share * MAX_WAITING_BYTES
  }

  #onFrame(frame: Frame): void {
    if (frame.type === FRAME.credit) {
      const { frames, bytes } = decodeCredit(frame.body)
      const { taken } = this.#window
      // More would lift the bound on what waits here to be sent.
      if (frames > taken.frames || bytes > taken.bytes)
        throw protocolError(`credit for ${frames} frames, ${bytes} bytes, more than was sent`)
      this.#window.restore(frames, bytes)
      this.onCredit?.(frames)
      return
    }
    if (frame.type === FRAME.ping) {
      return this.#pong(frame.body)
    }
    if (isAside(frame.type)) {
      if (this.onAside === null) throw protocolError(`${frameName(frame.type)} frame that nobody asked for`)
      return this.onAside(frame)
    }
    if (frame.type === FRAME.error) {
      this.#peerError ??= decodeError(frame.body)
      this.fail(this.#peerError)
      return
    }
    if (isCredited(frame.type)) {
      this.#outstandingFrames += 1
      this.#outstandingBytes += HEADER_BYTES + frame.body.length
      if (this.#outstandingFrames > WINDOW_FRAMES || this.#outstandingBytes > WINDOW_BYTES) {
        throw protocolError(
          `more in flight than the window of ${WINDOW_FRAMES} frames, ${WINDOW_BYTES} bytes`,
        )
      }
    }
    if (this.#failure === null) this.#received.put(frame, frame.body.length)
  }

  #pong(body: Buffer): void {
    if (this.#failure !== null || this.#outputEnded) return
    if (this.#waitingPongs === MAX_WAITING_PONGS)
      throw protocolError('pings sent faster than their answers are read')
    this.#waitingPongs += 1
    this.#put([encodeHeader(FRAME.pong, 0, body.length), body], () => {
      this.#waitingPongs -= 1
    })
  }

  readonly #onEnd = (): void => {
    if (this.#inputEnded) return
    this.#inputEnded = true
    // What came before the end is still handed out: only then does `receive` reject.
    this.#failure ??= this.#decoder.isBetweenFrames
      ? lost()
      : new SyncError('session/lost', 'the connection ended in the middle of a frame', { hint: AGAIN })
    this.#received.end()
    this.#window.fail(this.#failure)
    for (const reject of this.#leaving) reject(this.#failure)
    this.#failing.abort(this.failure)
  }

  readonly #onOutputError = (cause: Error): void => {
    // The peer's own error frame may still be on its way to us: it says why, this does not. See `drain`.
    this.fail(
      new SyncError('session/lost', 'the connection to the far end broke while sending', {
        cause,
        hint: AGAIN,
      }),
    )
  }

  async #write(parts: readonly Uint8Array[]): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#leaving.add(reject)
      this.#put(parts, (error) => {
        this.#leaving.delete(reject)
        if (error === null || error === undefined) resolve()
        else
          reject(
            this.failure ??
              new SyncError('session/lost', 'the connection broke while sending', {
                cause: error,
                hint: AGAIN,
              }),
          )
      })
    })
  }

  #put(parts: readonly Uint8Array[], done: ((error?: Error | null) => void) | null): void {
    const pieces = joinSmall(parts)
    const last = pieces.length - 1
    this.#output.cork()
    pieces.forEach((part, index) => {
      this.wireBytesSent += part.length
      if (index === last && done !== null) this.#output.write(part, done)
      else this.#output.write(part)
    })
    this.#output.uncork()
  }
}

/** Parts below this are copied together: a write of its own (over ssh a packet of its own) costs more than the copy. */
const SMALL_PART_BYTES = 16 << 10

/** The same bytes in fewer parts. */
function joinSmall(parts: readonly Uint8Array[]): Uint8Array[] {
  const joined: Uint8Array[] = []
  let small: Uint8Array[] = []
  const flush = (): void => {
    const [only] = small
    if (only !== undefined) joined.push(small.length === 1 ? only : Buffer.concat(small))
    small = []
  }
  for (const part of parts) {
    if (part.length < SMALL_PART_BYTES) small.push(part)
    else {
      flush()
      joined.push(part)
    }
  }
  flush()
  return joined
}

function ignoreError(): void {
  // the stream is closed behind it, and that is heard
}

const AGAIN = 'Run the same command again; it continues from what is there.'

function lost(): SyncError {
  return new SyncError('session/lost', 'the far end ended before it was done', { hint: AGAIN })
}
