// The lanes of a run: the first connection and the further ones, each with a far process of its own. What one of them
// fails with fails all. Refuses lanes beyond the number that was asked for, and work after the end.

import pLimit from 'p-limit'

import { SyncError, toSyncError } from '../errors.js'
import type { Channel } from '../wire/channel.js'
import type { RunHooks } from './report.js'
import type { Session } from './session.js'

/** `required`: a lane that does not come up ends the run; `welcome`: the run goes on with those there are. */
export type LaneNeed = 'required' | 'welcome'

/** Connections being opened at once: sshd turns away at random when ten are not authenticated yet (MaxStartups). */
const lanesAtOnce = pLimit(6)
/** In flight to a further lane: four times what ssh takes at once, and half as much waiting memory in each far process. */
export const FURTHER_WINDOW_BYTES = 8 << 20

export type Lane = Readonly<{ session: Session; number: number; need: LaneNeed }>

/** What a lane does for one disk: opens it, then works until there is nothing left for it to do. */
export type LaneWork = Readonly<{ open: (lane: Lane) => Promise<void>; work: (lane: Lane) => Promise<void> }>

export class Lanes {
  /** Of all lanes, in the order they came. */
  readonly channels: Channel[]
  /** Called when the number of lanes has changed. */
  onChange: (() => void) | null = null
  readonly #first: Session
  readonly #connect: () => Promise<Session>
  readonly #hooks: RunHooks
  readonly #further: Lane[] = []
  readonly #opening = new Set<Promise<void>>()
  readonly #working = new Set<Promise<void>>()
  #wanted = 1
  #work: LaneWork | null = null
  #failure: SyncError | null = null
  #state: 'open' | 'ended' = 'open'
  #isWarned = false

  /** `connect` opens the session of a further lane; it rejects, and cleans up, when the run ends meanwhile. */
  constructor(first: Session, connect: () => Promise<Session>, hooks: RunHooks) {
    this.channels = [first.channel]
    this.#first = first
    this.#connect = connect
    this.#hooks = hooks
  }

  /** The first session and those of the further lanes that are up. */
  get sessions(): readonly Session[] {
    return [this.#first, ...this.#further.map(({ session }) => session)]
  }

  /** Lanes that are up or were asked for. */
  get wanted(): number {
    return this.#wanted
  }

  /** Why a further lane, and with it the run, failed; already explained. */
  get failure(): SyncError | null {
    return this.#failure
  }

  /** Opens lanes until there are `count` with the first one. Does not wait for them. */
  grow(count: number, need: LaneNeed): void {
    for (; this.#wanted < count && this.#state === 'open'; this.#wanted += 1) {
      const number = this.#wanted + 1
      const opening = lanesAtOnce(() => this.#open(number, need)).finally(() => this.#opening.delete(opening))
      this.#opening.add(opening)
    }
  }

  /** Has `work` done on every further lane, also on those that come up later, until `finish`. */
  start(work: LaneWork): void {
    this.#work = work
    for (const lane of this.#further) this.#put(lane, work)
  }

  /** No lane takes up work any more; resolves when all are done with theirs, rejects when one failed. */
  async finish(): Promise<void> {
    this.#work = null
    await Promise.all(this.#working)
    if (this.#failure !== null) throw this.#failure
  }

  /** Ends what all lanes do, because of `error`. */
  fail(error: SyncError): void {
    this.#state = 'ended'
    this.#work = null
    for (const channel of this.channels) channel.fail(error)
  }

  /** Ends further lanes that did all they were to do. Rejects where one of their far ends does not end well. */
  async goodbye(): Promise<void> {
    this.#state = 'ended'
    await Promise.all(this.#further.map(({ session }) => session.goodbye()))
  }

  /** Ends further lanes after `error`, as Session.giveUp does; resolves with what each of them says to it. */
  async giveUp(error: SyncError): Promise<SyncError[]> {
    this.fail(error)
    await Promise.all(this.#working)
    return await Promise.all(this.#further.map(({ session }) => session.giveUp(error)))
  }

  /** Waits for lanes that were still coming up, and disposes of all. `connect` has been told that the run is over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#state = 'ended'
    await Promise.all(this.#opening)
    await Promise.all(this.#further.map(({ session }) => session[Symbol.asyncDispose]()))
  }

  /** Never rejects. */
  async #open(number: number, need: LaneNeed): Promise<void> {
    if (this.#isEnded()) return
    let session: Session
    try {
      session = await this.#connect()
    } catch (thrown) {
      if (this.#state === 'open') this.#missing(number, need, toSyncError(thrown))
      return
    }
    if (this.#isEnded()) {
      await session[Symbol.asyncDispose]()
      return
    }
    session.channel.narrow(FURTHER_WINDOW_BYTES)
    const lane = { session, number, need }
    this.#further.push(lane)
    this.channels.push(session.channel)
    this.onChange?.()
    if (this.#work !== null) this.#put(lane, this.#work)
  }

  #isEnded(): boolean {
    return this.#state === 'ended'
  }

  #missing(number: number, need: LaneNeed, error: SyncError): void {
    if (need === 'required') return this.#end(named(error, number))
    // What keeps one away mostly keeps the others away too.
    if (this.#isWarned) return
    this.#isWarned = true
    this.#hooks.onWarning?.(
      `lane ${number} could not be opened (${error.message}); the run goes on without it`,
    )
  }

  #put(lane: Lane, work: LaneWork): void {
    const working = this.#run(lane, work).finally(() => this.#working.delete(working))
    this.#working.add(working)
  }

  async #run(lane: Lane, { open, work }: LaneWork): Promise<void> {
    const { session, number, need } = lane
    let phase: 'opening' | 'working' = 'opening'
    try {
      await open(lane)
      phase = 'working'
      await work(lane)
    } catch (thrown) {
      if (this.#state === 'ended' || this.#failure !== null) return // it was ended by the failure of another
      // What was lost is explained by how its far end ended.
      const error = await session.giveUp(thrown)
      if (phase === 'working') return this.#end(named(error, number))
      this.#further.splice(this.#further.indexOf(lane), 1)
      await session[Symbol.asyncDispose]()
      this.#missing(number, need, error)
    }
  }

  #end(error: SyncError): void {
    this.#failure ??= error
    this.fail(error)
  }
}

function named(error: SyncError, number: number): SyncError {
  return new SyncError(error.code, `lane ${number}: ${error.message}`, {
    ...(error.operand === null ? {} : { operand: error.operand }),
    ...(error.hint === null ? {} : { hint: error.hint }),
    ...(error.isRetriable ? { passing: true } : {}),
    cause: error,
  })
}
