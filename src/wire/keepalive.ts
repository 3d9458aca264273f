// Notices that the other side of a channel is gone without the connection ending: a cable that was pulled, a host that
// lost its power, a process that is stopped. Each side sends something now and then; who hears nothing gives up.

import { SyncError } from '../errors.js'
import { AGAIN } from './outgoing.js'

/** A side that had nothing to say for so long says that it is there: several of these fit into any sensible time-out. */
export const PING_EVERY_MS = 15_000
/** Of a side that was not told another one: the default of --timeout. */
export const SILENCE_TIMEOUT_MS = 60_000
/** Pings without an answer; more are not sent, since they would only wait behind each other. */
const MAX_UNANSWERED = 4
/** Of a time-out, how often it is looked: what is heard in the last of these still counts. */
const LOOKS = 4
/** What a ping of this kind carries, so that its answer is told from that of another. */
const PING_BODY = Buffer.from('keep-up\n')

/** What is watched: one channel. */
export type Line = Readonly<{
  /** Bytes that came, and bytes that were put in line. */
  receivedBytes: () => number
  sentBytes: () => number
  /** True while this side does not read: then it cannot hear anything. */
  isDeaf: () => boolean
  ping: (body: Buffer) => void
  fail: (error: SyncError) => void
}>

export class Keepalive implements Disposable {
  readonly #line: Line
  readonly #timeoutMs: number
  readonly #peerName: string
  readonly #lookEveryMs: number
  readonly #timer: NodeJS.Timeout
  #receivedBytes = 0
  #sentBytes = 0
  #unanswered = 0
  #silentMs = 0
  #lookedMs = performance.now()
  #isLost = false

  /** `timeoutMs` is how long nothing may be heard; 0 is for ever (then it only tells the other side that this one is there). */
  constructor(line: Line, timeoutMs: number, peerName: string) {
    this.#line = line
    this.#timeoutMs = timeoutMs
    this.#peerName = peerName
    this.#lookEveryMs = timeoutMs === 0 ? PING_EVERY_MS : Math.min(PING_EVERY_MS, timeoutMs / LOOKS)
    this.#timer = setInterval(() => this.#look(), this.#lookEveryMs).unref()
  }

  /** True when it has given the other side up. */
  get isLost(): boolean {
    return this.#isLost
  }

  /** True for the answer to a ping that was sent from here; the channel takes no other notice of it. */
  takes(pong: Buffer): boolean {
    if (this.#unanswered === 0 || !pong.equals(PING_BODY)) return false
    this.#unanswered -= 1
    return true
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const line = this.#line
    const nowMs = performance.now()
    // A process that was stopped, or busy, could not have heard: that much of the time is not the other side's.
    const passedMs = Math.min(nowMs - this.#lookedMs, 2 * this.#lookEveryMs)
    this.#lookedMs = nowMs
    const isHeard = line.receivedBytes() !== this.#receivedBytes
    this.#receivedBytes = line.receivedBytes()
    this.#silentMs = isHeard || line.isDeaf() ? 0 : this.#silentMs + passedMs
    if (this.#timeoutMs > 0 && this.#silentMs >= this.#timeoutMs) return this.#giveUp()
    // who hears nothing asks; who said nothing lets the other side hear that it is there, deaf or not
    const isQuiet = line.sentBytes() === this.#sentBytes
    if ((isQuiet || !isHeard) && this.#unanswered < MAX_UNANSWERED) {
      this.#unanswered += 1
      line.ping(PING_BODY)
    }
    this.#sentBytes = line.sentBytes()
  }

  #giveUp(): void {
    this.#isLost = true
    this[Symbol.dispose]()
    const seconds = Math.round(this.#timeoutMs / 1000)
    this.#line.fail(
      new SyncError('session/lost', `nothing was heard of ${this.#peerName} for ${seconds} s`, {
        operand: this.#peerName,
        hint: `${AGAIN} --timeout says how long to listen.`,
      }),
    )
  }
}
