// Watches what the link to the far end does while a disk is run, and asks for more lanes where the policy says that they
// would help. Measures with pings, which cost nothing while nobody waits for them: those before a disk is run say how long
// the way is, those after it how much stands before the line.

import { availableParallelism } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'

import { toSyncError } from '../errors.js'
import type { SyncOptions } from '../options.js'
import { bondSession } from './bond-near.js'
import type { OpenPair } from './disk-pass.js'
import { streamsFor } from './lane-policy.js'
import type { Lanes } from './lanes.js'
import type { Session } from './session.js'

/** Between two looks: long enough for a rate, short beside what a lane takes to come up. */
const LOOK_EVERY_MS = 250
/** A bond that has just come about shows what it does only after some round trips. */
const BOND_SETTLES_MS = 1000
/** Between the answer to a ping and the next one. */
const PING_EVERY_MS = 50
/** Of pings behind the data, the latest that count: their middle one is the answer. */
const LOADED_PINGS = 5
/** Before anything else is on the line: what is sent later waits behind the data that is on its way. */
const FIRST_PINGS = 3

export class LinkWatch implements Disposable {
  readonly #session: Session
  readonly #push: boolean
  readonly #onDetail: (text: string) => void
  readonly #idle: Promise<void>
  #roundTripMs = Infinity
  /** Of pings that went while a disk was run, the latest ones. */
  readonly #loadedMs: number[] = []
  #timer: NodeJS.Timeout | null = null
  #isBonding = false

  /** `onDetail` hears whether the session was bonded, where its round trip asks for that. */
  constructor(session: Session, push: boolean, onDetail: (text: string) => void) {
    this.#session = session
    this.#push = push
    this.#onDetail = onDetail
    // A session that fails says so to everybody else as well.
    this.#idle = this.#ping(FIRST_PINGS).catch(() => undefined)
  }

  /** From now on it is `open` that is run. Asks for lanes at once where their number was given. */
  begin(
    { meter, size }: OpenPair,
    lanes: Lanes,
    options: SyncOptions,
    bytesPerSecond: () => number | null,
  ): void {
    this[Symbol.dispose]()
    if (options.mode !== 'write') return
    if (options.streams !== 'auto') return lanes.grow(options.streams, 'required')
    // There the window is ours to choose; see transport/ssh2-channel.ts.
    if (!this.#push && this.#session.connection.kind === 'ssh2') return
    const { channel, far } = this.#session
    const unwritten = (): number => (this.#push ? channel.inFlightBytes : channel.unreleasedBytes)
    const moved = (): number => (this.#push ? channel.wireBytesSent : channel.wireBytesReceived) - unwritten()
    let startMs = performance.now()
    let startBytes = moved()
    let startDoneBytes = meter.doneBytes
    let members = this.#session.members
    this.#loadedMs.length = 0
    const look = (): void => {
      const doneBytes = meter.doneBytes
      if (this.#isBonding || members !== this.#session.members) {
        // What was seen until now was another link.
        members = this.#session.members
        startMs = performance.now()
        startBytes = moved()
        startDoneBytes = doneBytes
        this.#loadedMs.length = 0
      }
      const elapsedMs = performance.now() - startMs
      if (members > 1 && elapsedMs < BOND_SETTLES_MS) return
      const streams = streamsFor({
        direction: this.#push ? 'push' : 'pull',
        members,
        roundTripMs: this.#roundTripMs,
        loadedRoundTripMs: middle(this.#loadedMs),
        movedBytes: moved() - startBytes,
        elapsedMs,
        unwrittenBytes: unwritten(),
        doneBytes: doneBytes - startDoneBytes,
        leftBytes: size.lengthBytes - doneBytes,
        processors: Math.min(availableParallelism(), far.processors),
        bytesPerSecond: bytesPerSecond(),
      })
      if (streams > lanes.wanted) lanes.grow(streams, 'welcome')
    }
    const timer = setInterval(look, LOOK_EVERY_MS).unref()
    this.#timer = timer
    this.#pingOn(() => this.#timer === timer && lanes.wanted === 1).catch(() => undefined)
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** Pings behind the data, a few between two looks, for as long as it `isWanted`. */
  async #pingOn(isWanted: () => boolean): Promise<void> {
    await this.#idle
    while (isWanted()) {
      const tookMs = await this.#session.roundTripMs()
      this.#roundTripMs = Math.min(this.#roundTripMs, tookMs)
      this.#loadedMs.push(tookMs)
      if (this.#loadedMs.length > LOADED_PINGS) this.#loadedMs.shift()
      await delay(PING_EVERY_MS, undefined, { ref: false, signal: this.#session.channel.failed })
    }
  }

  async #ping(times: number): Promise<void> {
    for (let left = times; left > 0; left -= 1) {
      const pinged = this.#session.roundTripMs()
      if (left === times) this.#bond(pinged)
      this.#roundTripMs = Math.min(this.#roundTripMs, await pinged)
    }
  }

  /** As early as can be: what is in line for the one stream by then leaves through it. */
  #bond(pinged: Promise<number>): void {
    this.#isBonding = true
    bondSession(this.#session, pinged, () => this.#roundTripMs)
      .then((members) => {
        if (members !== null)
          this.#onDetail(
            `${members} of ssh's windows are used (round trip ${Math.round(this.#roundTripMs)} ms)`,
          )
      })
      .catch((error: unknown) => this.#session.channel.fail(toSyncError(error)))
      .finally(() => (this.#isBonding = false))
  }
}

function middle(values: readonly number[]): number | null {
  return values.toSorted((one, other) => one - other)[values.length >> 1] ?? null
}
