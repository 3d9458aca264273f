// Watches what the link to the far end does while a disk is run, and asks for more lanes where the policy says that they
// would help. Measures with pings, which cost nothing while nobody waits for them.

import { availableParallelism } from 'node:os'

import type { SyncOptions } from '../options.js'
import type { OpenPair } from './disk-run.js'
import { streamsFor } from './lane-policy.js'
import type { Lanes } from './lanes.js'
import type { Session } from './session.js'

/** Between two looks: long enough for a rate, short beside what a lane takes to come up. */
const LOOK_EVERY_MS = 250
/** Before anything else is on the line: what is sent later waits behind the data that is on its way. */
const FIRST_PINGS = 3

export class LinkWatch implements Disposable {
  readonly #session: Session
  readonly #push: boolean
  #roundTripMs = Infinity
  #timer: NodeJS.Timeout | null = null

  constructor(session: Session, push: boolean) {
    this.#session = session
    this.#push = push
    // A session that fails says so to everybody else as well.
    this.#ping(FIRST_PINGS).catch(() => undefined)
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
    const startMs = performance.now()
    const look = (): void => {
      const doneBytes = meter.doneBytes
      const streams = streamsFor({
        roundTripMs: this.#roundTripMs,
        movedBytes: this.#push ? channel.wireBytesSent - channel.inFlightBytes : channel.wireBytesReceived,
        elapsedMs: performance.now() - startMs,
        doneBytes,
        leftBytes: size.lengthBytes - doneBytes,
        processors: Math.min(availableParallelism(), far.processors),
        bytesPerSecond: bytesPerSecond(),
      })
      if (streams > lanes.wanted) lanes.grow(streams, 'welcome')
    }
    this.#timer = setInterval(look, LOOK_EVERY_MS).unref()
  }

  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  async #ping(times: number): Promise<void> {
    for (let left = times; left > 0; left -= 1)
      this.#roundTripMs = Math.min(this.#roundTripMs, await this.#session.roundTripMs())
  }
}
