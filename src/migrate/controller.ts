// Drives one migration: forward through its steps, and after any failure to one runnable guest, as far as decide.ts allows.
// Refuses nothing itself; where nothing is allowed it starts nothing and says what is known.

import { SyncError, toSyncError } from '../errors.js'
import { decide, type Evidence, isActive, type Verdict, type Whereabouts } from './decide.js'
import { isLoss } from './context.js'
import { isStanding, type JournalState, type RunsOn, type StepName } from './journal.js'
import { Rollback } from './rollback.js'
import { stepsOf, type Step } from './steps.js'
import { checkFenceHolds, undoFence } from './steps-handover.js'
import { textOf, type Work } from './work.js'

/** How often going on is tried again behind the handover, before a person is asked. */
const MAX_TRIES = 3
const RETRY_AFTER_MS = 2_000
/** Behind FENCED the guest stands still: a line that comes back within this is waited for, one that does not is told of. */
const RECONNECT_FOR_MS = 30_000
/** A program that is gone has left its job to the hypervisor, which ends it one way or the other by then. */
const MOVING_TIMEOUT_MS = 30_000

/** `back`: it is where it was. `stuck`: nothing was started, a person is needed. */
export type Outcome =
  | Readonly<{ kind: 'moved'; runsOn: RunsOn }>
  | Readonly<{ kind: 'back'; runsOn: RunsOn; cause: SyncError }>
  | Readonly<{
      kind: 'stuck'
      runsOn: RunsOn
      why: string
      cause: SyncError | null
      evidence: Evidence | null
    }>

export class Controller {
  readonly #work: Work
  /** Steps that are done and are done once more. */
  readonly #again = new Set<StepName>()

  constructor(work: Work) {
    this.#work = work
  }

  /** All steps that are not done. Rejects with what the first one that failed says. */
  async forward(): Promise<void> {
    const { plan, procedure, ledger, context } = this.#work
    const state = ledger.sourceState
    for (const step of stepsOf(procedure, plan.options)) {
      if (state.done.has(step.name) && !this.#again.has(step.name)) continue
      if (!state.isFenced) context.signal.throwIfAborted()
      await this.#one(step)
      this.#again.delete(step.name)
    }
  }

  /** Resolves with where it runs; the journals are closed. */
  async conclude(): Promise<Outcome> {
    const { ledger, plan, procedure, wasActive } = this.#work
    const finished = ledger.sourceState.done.get('finish')
    const left = finished !== undefined && 'left' in finished ? finished.left : 'nothing'
    const runs = wasActive || (procedure === 'off' && plan.options.start === 'yes')
    const runsOn = runs ? 'destination' : 'nowhere'
    try {
      await ledger.ended({ type: 'ended', how: 'moved', runsOn, left }, 'wanted')
    } catch (thrown) {
      this.#work.warn(`the journals could not be closed: ${textOf(thrown)}`)
    }
    return { kind: 'moved', runsOn }
  }

  async #one(step: Step): Promise<void> {
    const { name } = step
    const { ledger, context } = this.#work
    const tell = (state: 'begin' | 'done' | 'failed', message: string | null = null): void =>
      context.onEvent({ event: 'step', step: name, state, message })
    const isFenceOfLive = name === 'fence' && this.#work.procedure === 'live'
    const there = isFenceOfLive ? 'wanted' : step.there
    tell('begin')
    try {
      await ledger.intent(name, there)
      const facts = await step.act(this.#work)
      await ledger.done(name, facts, there)
    } catch (thrown) {
      tell('failed', textOf(thrown))
      throw thrown
    }
    tell('done')
  }

  /**
   * After a failure, or in a recovery: to one runnable guest, in the wished direction where that is allowed. `cause` is
   * what came in between. Never rejects.
   */
  async settle(wish: 'continue' | 'abort', cause: SyncError | null): Promise<Outcome> {
    let latest = cause
    let wanted = wish
    let evidence: Evidence | null = null
    try {
      for (let tries = 1; ; tries += 1) {
        evidence = await this.#gather(cause === null ? 'recovery' : 'run')
        const verdict = decide(evidence)
        const { forward, back, why } = verdict
        if (forward === 'no' && back === 'no') return this.#stuck(why, latest, evidence)
        if (forward !== 'no' && (wanted === 'continue' || back === 'no') && tries <= MAX_TRIES) {
          const failed = await this.#forwardAgain(verdict, evidence)
          if (failed === null) return await this.conclude()
          latest = failed
          // what can be taken back is not tried for ever
          wanted = 'abort'
          await this.#work.context.clock.sleep(RETRY_AFTER_MS)
          continue
        }
        if (back === 'no') return this.#stuck('it could not be brought to its end', latest, evidence)
        const rollback = new Rollback(this.#work, async () => (await this.#connect('once')) !== null)
        const why9 = latest ?? this.#notAllowed(evidence)
        const runsOn = await rollback.run(back, why9)
        return { kind: 'back', runsOn, cause: why9 }
      }
    } catch (thrown) {
      const error = toSyncError(thrown)
      const known = evidence === null ? null : await this.#lookAgain(evidence)
      return this.#stuck(error.message, error, known)
    }
  }

  /** Null where it came to its end. */
  async #forwardAgain({ forward }: Verdict, { there }: Evidence): Promise<SyncError | null> {
    const { ledger, procedure } = this.#work
    if (forward === 'before-handover')
      for (const { name, again } of stepsOf(procedure, { start: 'no' }))
        if (again === 'yes' && ledger.sourceState.done.has(name)) this.#again.add(name)
    // what was restored and checked is not there any more
    if (forward === 'handover' && procedure === 'warm' && there !== 'paused' && there !== 'running')
      for (const name of ['restore', 'check'] as const) this.#again.add(name)
    try {
      if (forward === 'handover' && procedure !== 'live') await checkFenceHolds(this.#work)
      // of a fence that was only begun: the last pass, which comes before it again, finds no disk where that has hidden it
      if (forward === 'before-handover' && procedure !== 'live' && isStanding(ledger.sourceState, 'fence')) {
        const stamps = await undoFence(this.#work)
        await ledger.undone({ type: 'undone', step: 'fence', stamps })
      }
      await this.forward()
      return null
    } catch (thrown) {
      return toSyncError(thrown)
    }
  }

  /** Why a migration that was to be continued is put back without anything having failed. */
  #notAllowed({ here, destination, source }: Evidence): SyncError {
    const { guestName, plan } = this.#work
    const why =
      source.rollback !== null
        ? `it was being put back: ${source.rollback.why}`
        : destination === 'unreachable'
          ? `${plan.to.typed} cannot be asked`
          : destination === 'forgotten'
            ? `${plan.to.typed} knows nothing of it`
            : isActive(here)
              ? `${guestName} runs here`
              : 'as was asked for'
    return new SyncError('migrate/stopped', `the migration of ${guestName} was taken back: ${why}`, {
      operand: guestName,
    })
  }

  #stuck(why: string, cause: SyncError | null, evidence: Evidence | null): Outcome {
    const { done } = this.#work.ledger.sourceState
    const isThere = evidence?.there === 'running' || done.has('resume') || done.has('start')
    const runsOn = evidence?.here === 'running' ? 'source' : isThere ? 'destination' : 'nowhere'
    return { kind: 'stuck', runsOn, why, cause, evidence }
  }

  /** Where the guest is and what both journals say. In a run that can be put back without it, no connection is made anew. */
  async #gather(during: 'run' | 'recovery'): Promise<Evidence> {
    const work = this.#work
    const source = work.ledger.sourceState
    let destination = await this.#read()
    if (destination === 'unreachable') {
      const isNeeded = source.isFenced || (work.procedure === 'live' && source.intents.has('live'))
      if (during === 'recovery') destination = (await this.#connect('once')) ?? 'unreachable'
      else if (isNeeded) destination = (await this.#connect('patiently')) ?? 'unreachable'
    }
    const isMoving = work.procedure === 'live' && isStanding(source, 'live')
    if (isMoving) await this.#untilMoved()
    const here = await work.whereabouts(async () => work.driverHere(), ['saving', 'stopping'])
    const there: Whereabouts =
      destination === 'unreachable'
        ? 'unknown'
        : await work.whereabouts(async () => work.driverThere(), ['stopping'])
    if (destination !== 'unreachable' && (work.destination?.lost.aborted ?? true)) {
      await work.drop()
      destination = 'unreachable'
    }
    const sameBoot = source.intents.get('save') === work.bootId ? 'yes' : 'no'
    return { procedure: work.procedure, source, destination, here, there, sameBoot }
  }

  /** At the end of a live move it is paused for a moment, on both sides. */
  async #untilMoved(): Promise<void> {
    const { clock } = this.#work.context
    const endsAtMs = clock.nowMs() + MOVING_TIMEOUT_MS
    if (!this.#work.wasRunning) return
    while (clock.nowMs() < endsAtMs) {
      if ((await this.#work.whereabouts(async () => this.#work.driverHere(), [])) !== 'paused') return
      await clock.sleep(RETRY_AFTER_MS)
    }
  }

  /** After a failure on the way back: what can be said then. */
  async #lookAgain(evidence: Evidence): Promise<Evidence> {
    const here = await this.#work.whereabouts(async () => this.#work.driverHere(), [])
    return { ...evidence, here }
  }

  /** The journal there as it is on its disk now: what a failed append said is no proof. */
  async #read(): Promise<JournalState | 'unreachable' | 'forgotten'> {
    const work = this.#work
    if (work.destination === null) return 'unreachable'
    try {
      if (work.destination.lost.aborted) throw work.destination.lost.reason
      if (work.ledger.destinationState === null) return 'forgotten'
      return (await work.ledger.refresh()) ?? 'forgotten'
    } catch (thrown) {
      work.note(`${work.plan.to.typed} does not answer: ${textOf(thrown)}`)
      await work.drop()
      return 'unreachable'
    }
  }

  /** Null where it cannot be reached, or its journal cannot be had. */
  async #connect(how: 'once' | 'patiently'): Promise<JournalState | 'forgotten' | null> {
    const { context, ledger, plan } = this.#work
    const { clock } = context
    const endsAtMs = clock.nowMs() + (how === 'patiently' ? RECONNECT_FOR_MS : 0)
    for (;;) {
      try {
        const host = await context.openDestination()
        this.#work.use(host)
        await ledger.attach(host, 'continue')
        return ledger.destinationState
      } catch (thrown) {
        const error = toSyncError(thrown)
        if (error.code === 'migrate/unknown') return 'forgotten'
        if (this.#work.destination !== null) await this.#work.drop()
        this.#work.note(`${plan.to.typed} cannot be asked: ${error.message}`)
        if (clock.nowMs() >= endsAtMs || !(isLoss(error) || error.code === 'migrate/busy')) return null
      }
      await clock.sleep(RETRY_AFTER_MS)
    }
  }
}
