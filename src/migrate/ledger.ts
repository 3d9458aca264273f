// Both journals of one migration while a controller has them: every line goes to stable storage before what it announces
// is done. Refuses 'go' before FENCED or after 'aborted', 'aborted' after 'go', and anything forward in a rollback.

import { SyncError, toSyncError } from '../errors.js'
import type { Host, JournalLine } from '../host/host.js'
import type { Clock } from './context.js'
import { isLoss } from './context.js'
import {
  emptyState,
  fold,
  readState,
  type FactsOf,
  type JournalRecord,
  type JournalState,
  type Made,
  type StepName,
} from './journal.js'

/** A controller that was killed has left programs at work, which have the journal until they end. */
export const LOCK_WAIT_MS = 30_000

/** Whether a line has to be on the destination's disk, too. */
type There = 'required' | 'wanted'

export class Ledger {
  readonly #id: string
  readonly #source: Host
  readonly #clock: Clock
  readonly #bootId: string
  readonly sourceState: JournalState
  #destination: { host: Host; state: JournalState } | null = null
  /** In this process nothing goes forward any more, whether that could be written or not. */
  #isRollingBack = false

  constructor(id: string, source: Host, bootId: string, lines: readonly JournalLine[], clock: Clock) {
    this.#id = id
    this.#source = source
    this.#clock = clock
    this.#bootId = bootId
    this.sourceState = lines.length === 0 ? emptyState() : readState(lines, `${id} on ${source.name}`)
  }

  get destinationState(): JournalState | null {
    return this.#destination?.state ?? null
  }

  /** Takes the journal there. Rejects with migrate/unknown (`continue`) or migrate/busy. */
  async attach(host: Host, mode: 'create' | 'continue'): Promise<void> {
    const lines = await host.openJournal({ id: this.#id, role: 'destination' }, mode, LOCK_WAIT_MS)
    const state = lines.length === 0 ? emptyState() : readState(lines, `${this.#id} on ${host.name}`)
    this.#destination = { host, state }
  }

  detach(): void {
    this.#destination = null
  }

  /**
   * Reads the journal there again: what a failed append says is no proof that its line is not there. Resolves with null
   * where it is not there any more.
   */
  async refresh(): Promise<JournalState | null> {
    const there = this.#attached()
    const lines = await there.host.readJournal({ id: this.#id, role: 'destination' })
    if (lines === null) return null
    there.state = readState(lines, `${this.#id} on ${there.host.name}`)
    return there.state
  }

  /** Here first: what is begun there is known here, and can be cleaned up from here. */
  async beginHere(record: Extract<JournalRecord, { type: 'begin' }>): Promise<void> {
    await this.#toSource(record)
  }

  async beginThere(record: Extract<JournalRecord, { type: 'begin' }>): Promise<void> {
    await this.#toDestination(record)
  }

  async intent(step: StepName, there: There): Promise<void> {
    if (this.#isRollingBack) throw new Error(`${step} in a rollback`)
    await this.#both({ type: 'intent', step, bootId: this.#bootId }, there)
  }

  async done<Name extends StepName>(step: Name, facts: FactsOf[Name], there: There): Promise<void> {
    // FENCED is what the destination waits for: it is told nothing before that is on the disk here
    if (step === 'fence') {
      await this.#toSource({ type: 'done', step, facts })
      return
    }
    await this.#both({ type: 'done', step, facts }, there)
  }

  async making(made: Made): Promise<void> {
    await this.#both({ type: 'making', made }, 'required')
  }

  async made(made: Made): Promise<void> {
    await this.#both({ type: 'made', made }, 'required')
  }

  async unmade(made: Made): Promise<void> {
    await this.#both({ type: 'unmade', made }, 'wanted')
  }

  async round(round: Extract<JournalRecord, { type: 'round' }>['round']): Promise<void> {
    await this.#toSource({ type: 'round', round })
  }

  /** Leave to run it there; see the rules of decide.ts. */
  async go(): Promise<void> {
    const there = this.#attached()
    if (there.state.hasGo) return
    if (!this.sourceState.isFenced || this.#isRollingBack || there.state.isAborted)
      throw new Error('go before the fence, or after an abort')
    await this.#toDestination({ type: 'go' })
  }

  async aborted(): Promise<void> {
    const there = this.#attached()
    if (there.state.isAborted) return
    if (there.state.hasGo) throw new Error('an abort after go')
    await this.#toDestination({ type: 'aborted' })
  }

  /** From here on everything is put back. `required`: it has to be on the disk (behind FENCED). */
  async rollback(why: string, by: 'itself' | 'hand'): Promise<void> {
    this.#isRollingBack = true
    if (this.sourceState.rollback === null) await this.#toSource({ type: 'rollback', why, by })
  }

  async undone(record: Extract<JournalRecord, { type: 'undone' }>): Promise<void> {
    await this.#toSource(record)
  }

  async ended(record: Extract<JournalRecord, { type: 'ended' }>, there: There): Promise<void> {
    await this.#both(record, there)
  }

  #attached(): { host: Host; state: JournalState } {
    const there = this.#destination
    if (there === null) throw unreachable()
    return there
  }

  /** Both at once: they are on different disks. */
  async #both(record: JournalRecord, there: There): Promise<void> {
    const [source, destination] = await Promise.allSettled([
      this.#toSource(record),
      this.#toDestination(record),
    ])
    if (source.status === 'rejected') throw source.reason
    if (destination.status === 'rejected' && !(there === 'wanted' && isLoss(toSyncError(destination.reason))))
      throw destination.reason
  }

  async #toSource(record: JournalRecord): Promise<void> {
    const atMs = this.#clock.wallMs()
    await this.#source.appendJournal({ id: this.#id, role: 'source' }, { at: atMs, ...record })
    fold(this.sourceState, record, atMs)
  }

  async #toDestination(record: JournalRecord): Promise<void> {
    const { host, state } = this.#attached()
    const atMs = this.#clock.wallMs()
    await host.appendJournal({ id: this.#id, role: 'destination' }, { at: atMs, ...record })
    fold(state, record, atMs)
  }
}

/** What is asked of a destination that is not there. */
export function unreachable(): SyncError {
  return new SyncError('host/lost', 'the destination cannot be asked', {
    hint: 'Is it up, and can it be reached with ssh?',
  })
}
