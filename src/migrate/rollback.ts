// Puts a migration back: the undo of every step that may have had an effect, the last one first. What is to be done at a
// destination that cannot be asked waits until the guest is back. Rejects where the guest could not be given back.

import { toSyncError, type SyncError } from '../errors.js'
import { isGone } from './decide.js'
import { isLoss } from './context.js'
import { isStanding, type Left, type RunsOn, type Stamps } from './journal.js'
import { STEPS, type Step } from './steps.js'
import { textOf, type Work } from './work.js'

export class Rollback {
  readonly #work: Work
  readonly #reconnect: () => Promise<boolean>
  /** Steps whose undo at the destination is still to be done, the last one first. */
  readonly #waiting: Step[] = []

  /** `reconnect` resolves with whether the destination, and its journal where it has one, can be had again. */
  constructor(work: Work, reconnect: () => Promise<boolean>) {
    this.#work = work
    this.#reconnect = reconnect
  }

  /** Resolves with where the guest is then. Rejects with migrate/stuck, or what kept it from being given back. */
  async run(how: 'freely' | 'after-aborted', cause: SyncError): Promise<RunsOn> {
    const { ledger } = this.#work
    if (how === 'after-aborted') await this.#closeThere()
    try {
      await ledger.rollback(cause.message, 'itself')
    } catch (thrown) {
      // behind FENCED a later controller has to find it
      if (ledger.sourceState.isFenced) throw thrown
      this.#work.warn(`the journal could not be written: ${textOf(thrown)}`)
    }
    for (const step of standing(this.#work)) await this.#undo(step)
    const runsOn = await this.#whereItIs()
    // the guest is back: now there is time for a host that did not answer
    const left = await this.#cleanLater()
    try {
      await ledger.ended({ type: 'ended', how: 'back', runsOn, left }, 'wanted')
    } catch (thrown) {
      this.#work.warn(`the journals could not be closed: ${textOf(thrown)}`)
    }
    if (left === 'destination') {
      const { plan } = this.#work
      this.#work.warn(
        `what was made on ${plan.to.typed} is still there; when it can be asked again: blocksync migrate --abort ${plan.id}`,
      )
    }
    return runsOn
  }

  /** Only what was left at the destination, of a migration that is over here. */
  async cleanOnly(): Promise<Left> {
    for (const step of standing(this.#work)) if (step.undo?.at === 'destination') this.#waiting.push(step)
    return await this.#cleanLater()
  }

  /** It can never be told to go from here on, and what was restored there is gone. */
  async #closeThere(): Promise<void> {
    const work = this.#work
    await work.ledger.aborted()
    if (work.procedure !== 'warm') return
    const driver = await work.driverThere()
    if (!isGone(await driver.state(work.guestName))) await driver.destroy(work.guestName)
  }

  async #undo(step: Step): Promise<void> {
    const { undo } = step
    if (undo === null) return
    if (undo.at === 'source') {
      await this.#record(step, await undo.act(this.#work))
      return
    }
    if (!this.#isThere || this.#waiting.length > 0) {
      this.#waiting.push(step)
      return
    }
    try {
      await this.#record(step, await undo.act(this.#work))
    } catch (thrown) {
      this.#work.note(`${step.name} could not be taken back yet: ${textOf(thrown)}`)
      this.#waiting.push(step)
    }
  }

  async #record(step: Step, stamps: Stamps | null): Promise<void> {
    this.#work.context.onEvent({ event: 'step', step: step.name, state: 'undone', message: null })
    try {
      await this.#work.ledger.undone({ type: 'undone', step: step.name, stamps })
    } catch (thrown) {
      this.#work.warn(`the journal could not be written: ${textOf(thrown)}`)
    }
  }

  /** It can be asked, knows of this migration, and has nothing that may be newer than what is here. */
  get #isThere(): boolean {
    const { destination, ledger } = this.#work
    if (destination === null || destination.lost.aborted) return false
    return ledger.destinationState !== null && !ledger.destinationState.hasGo
  }

  async #whereItIs(): Promise<RunsOn> {
    const state = await this.#work.whereabouts(async () => this.#work.driverHere(), [])
    if (state === 'unknown') return this.#work.wasActive ? 'source' : 'nowhere'
    return isGone(state) ? 'nowhere' : 'source'
  }

  async #cleanLater(): Promise<Left> {
    const { ledger, plan, destination } = this.#work
    if (destination === null || destination.lost.aborted) {
      if (destination !== null) await this.#work.drop()
      if (!(await this.#reconnect())) return 'destination'
    }
    const there = ledger.destinationState
    if (there === null) {
      // whatever is at those paths there now may be somebody else's
      this.#work.warn(`${plan.to.typed} knows nothing of this migration any more; nothing was removed there`)
      return 'nothing'
    }
    if (there.hasGo) {
      // given back by hand: what is there may be newer than what is here
      this.#work.warn(`${plan.to.typed} was told to run it; nothing was removed there`)
      return 'nothing'
    }
    try {
      await ledger.aborted()
      for (const step of this.#waiting) {
        if (step.undo === null) continue
        await this.#record(step, await step.undo.act(this.#work))
      }
      return 'nothing'
    } catch (thrown) {
      const error = toSyncError(thrown)
      this.#work.note(`${this.#work.plan.to.typed} could not be cleaned up: ${error.message}`)
      if (isLoss(error)) await this.#work.drop()
      return 'destination'
    }
  }
}

/** Steps that may have had an effect, the last one first. */
function standing({ ledger, procedure }: Work): Step[] {
  return STEPS.filter(
    ({ name, procedures }) => procedures.includes(procedure) && isStanding(ledger.sourceState, name),
  ).toReversed()
}
