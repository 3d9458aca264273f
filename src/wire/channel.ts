// Frames over any pair of byte streams, with credit: bytes of the transport come in, checked frames go to one receiver;
// frames go out in order. Refuses frames beyond the credit it gave. Knows nothing of disks or digests.

import type { Readable, Writable } from 'node:stream'

import { SyncError } from '../errors.js'
import { decodeCredit, encodeCredit } from './bodies.js'
import { decodeError, encodeError } from './control.js'
import type { Frame, FrameType } from './frame.js'
import { encodeHeader, FRAME, frameName, HEADER_BYTES, isAside, isCredited, protocolError } from './frame.js'
import { Incoming } from './incoming.js'
import { Keepalive } from './keepalive.js'
import { AGAIN, Outgoing } from './outgoing.js'
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
/** Small frames that have not left: far more than any peer that reads leaves here, and a few dozen MiB of objects. */
export const MAX_WAITING_POSTS = 64 << 10
/** Bytes that have not left: a window of credited frames, the answers a destination gives ahead, and some more. */
const MAX_BACKLOG_BYTES = 6 * WINDOW_BYTES

export class Channel {
  /** Called when the other side gives back credit for frames of ours, in the order they were sent. */
  onCredit: ((frames: number) => void) | null = null
  /** Called with frames that are not part of a pass (see isAside). What it throws ends the channel. */
  onAside: ((frame: Frame) => void) | null = null

  /** Aborted, with the failure as its reason, when this channel has failed. */
  readonly failed: AbortSignal

  readonly #incoming: Incoming
  readonly #outgoing: Outgoing
  readonly #received = new BoundedQueue<Frame>(Number.MAX_SAFE_INTEGER)
  readonly #window = new Window(WINDOW_FRAMES, WINDOW_BYTES)
  #outstandingFrames = 0
  #outstandingBytes = 0
  #owedFrames = 0
  #owedBytes = 0
  #waitingPongs = 0
  #waitingPosts = 0
  readonly #failing = new AbortController()
  #failure: SyncError | null = null
  #peerError: SyncError | null = null
  #inputEnded = false
  #keepalive: Keepalive | null = null

  /** `rest` is what was read behind the banner. */
  constructor(input: Readable, output: Writable, rest: Uint8Array) {
    this.failed = this.#failing.signal
    this.#incoming = new Incoming(input, {
      onFrame: (frame) => this.#onFrame(frame),
      onChunk: () => {
        if (this.#failure === null && this.#isCrowded(1)) this.#incoming.pause()
      },
      onFailure: (error) => this.fail(error),
      onEnd: () => this.#onEnd(),
    })
    this.#outgoing = new Outgoing(output, (cause) => this.#onOutputError(cause))
    // Whoever made the channel first says who is to get what comes.
    queueMicrotask(() => this.#incoming.listen(rest))
  }

  get wireBytesReceived(): number {
    return this.#incoming.bytes
  }

  get wireBytesSent(): number {
    return this.#outgoing.bytes
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

  /** Bytes of credited frames that arrived and were not released here. */
  get unreleasedBytes(): number {
    return this.#outstandingBytes
  }

  /** True when the other side was given up because nothing was heard of it. */
  get isSilent(): boolean {
    return this.#keepalive?.isLost ?? false
  }

  /** Watches the other side from now on: fails with session/lost when nothing is heard of it for `timeoutMs` (0: never). */
  keepAlive(timeoutMs: number, peerName: string): void {
    const line = {
      receivedBytes: () => this.wireBytesReceived,
      sentBytes: () => this.wireBytesSent,
      isDeaf: () => this.#incoming.isPaused,
      ping: (body: Buffer) => this.post(FRAME.ping, 0, body),
      fail: (error: SyncError) => this.fail(error),
    }
    this.#keepalive = new Keepalive(line, timeoutMs, peerName)
  }

  /** From now on has at most `windowBytes` (below WINDOW_BYTES) of credited frames in flight. */
  narrow(windowBytes: number): void {
    this.#window.narrow(WINDOW_BYTES - windowBytes)
  }

  /** Bytes put in line that the transport has not taken yet. */
  get backlogBytes(): number {
    return this.#outgoing.backlogBytes
  }

  /** The next frame. Rejects with the peer's error, session/protocol or session/lost. */
  async receive(): Promise<Frame> {
    const frame = await this.#received.shift()
    if (this.#incoming.isPaused && !this.#isCrowded(0.5)) this.#incoming.resume()
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
    const left = this.#outgoing.write([header, ...parts])
    left.catch(() => undefined) // the failure is also the channel's; whoever awaits `left` still gets it
    return { left }
  }

  /** Sends a small frame that needs no credit, in order, without waiting. A failure shows in `receive`. */
  post(type: FrameType, disk: number, ...parts: readonly Uint8Array[]): void {
    if (this.#failure !== null || this.#outgoing.isEnded) return
    if (this.#waitingPosts === MAX_WAITING_POSTS || this.backlogBytes > MAX_BACKLOG_BYTES)
      return this.fail(protocolError('more was asked for than is read'))
    const bodyBytes = parts.reduce((sum, part) => sum + part.length, 0)
    this.#waitingPosts += 1
    this.#outgoing.put([encodeHeader(type, disk, bodyBytes), ...parts], () => {
      this.#waitingPosts -= 1
    })
  }

  /** Tells the other side why this one gives up, and ends the stream towards it. */
  postError(error: SyncError): void {
    if (this.#outgoing.isGone) return
    const body = encodeError(error)
    this.#outgoing.put([encodeHeader(FRAME.error, 0, body.length), body], null)
    this.end()
  }

  /** What is sent from now on goes to `output`; what was put in line before is left to the one there was. */
  sendOver(output: Writable): void {
    this.#outgoing.moveTo(output)
  }

  /** For `onAside`: what follows the frame it was called with comes from another stream, made of the bytes read behind it. */
  receiveFrom(nextInput: (rest: Uint8Array) => Readable): void {
    this.#incoming.moveTo(nextInput)
  }

  /** Half-closes: nothing more will be sent. */
  end(): void {
    this.#keepalive?.[Symbol.dispose]()
    this.#outgoing.end()
  }

  /** Fails everybody who waits on this channel. The first failure counts. */
  fail(error: SyncError): void {
    if (this.#failure !== null) return
    this.#failure = error
    this.#keepalive?.[Symbol.dispose]()
    this.#received.fail(this.failure)
    this.#window.fail(this.failure)
    this.#outgoing.fail(this.failure ?? error)
    this.#failing.abort(this.failure)
  }

  /** Takes what still comes and throws it away, but for an error frame: its words are `peerError` when the stream has ended. */
  drain(): void {
    this.#incoming.resume()
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
    if (frame.type === FRAME.pong && this.#keepalive?.takes(frame.body) === true) return
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
    if (this.#failure !== null || this.#outgoing.isEnded) return
    if (this.#waitingPongs === MAX_WAITING_PONGS)
      throw protocolError('pings sent faster than their answers are read')
    this.#waitingPongs += 1
    this.#outgoing.put([encodeHeader(FRAME.pong, 0, body.length), body], () => {
      this.#waitingPongs -= 1
    })
  }

  #onEnd(): void {
    if (this.#inputEnded) return
    this.#inputEnded = true
    this.#keepalive?.[Symbol.dispose]()
    // What came before the end is still handed out: only then does `receive` reject.
    this.#failure ??= this.#incoming.isBetweenFrames
      ? lost()
      : new SyncError('session/lost', 'the connection ended in the middle of a frame', { hint: AGAIN })
    this.#received.end()
    this.#window.fail(this.#failure)
    this.#outgoing.fail(this.#failure)
    this.#failing.abort(this.failure)
  }

  #onOutputError(cause: Error): void {
    // The peer's own error frame may still be on its way to us: it says why, this does not. See `drain`.
    this.fail(
      new SyncError('session/lost', 'the connection to the far end broke while sending', {
        cause,
        hint: AGAIN,
      }),
    )
  }
}

function lost(): SyncError {
  return new SyncError('session/lost', 'the far end ended before it was done', { hint: AGAIN })
}
