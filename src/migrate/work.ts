// What the steps of one migration share: the plan, both hosts and their drivers, both journals, and what was measured.
// Refuses to answer for a destination that is not connected.

import type { Host } from '../host/host.js'
import type { Driver, GuestState } from '../hypervisor/driver.js'
import { SyncError } from '../errors.js'
import type { MigrateContext } from './context.js'
import type { CopyDisk } from './copier.js'
import { procedureOf, type Procedure, type StepName } from './journal.js'
import { type Ledger, unreachable } from './ledger.js'
import type { Plan } from './plan.js'
import type { Measured } from './rounds.js'
import type { StampedDisk } from './stamps.js'

/** How often a guest is looked at that is on its way into another state. */
const SETTLE_POLL_MS = 500
/** A save of a large guest to a slow disk; the program that began it may be gone. */
const SETTLE_TIMEOUT_MS = 600_000
/** A daemon that is restarted answers by then. */
const DAEMON_PATIENCE_MS = 10_000
const DAEMON_POLL_MS = 2_000

/** Parts of the downtime as they are reported. */
export type DowntimePart = 'saveMs' | 'lastPassMs' | 'stateCopyMs' | 'restoreMs' | 'resumeMs'

export class Work {
  readonly plan: Plan
  readonly procedure: Procedure
  readonly context: MigrateContext
  readonly source: Host
  readonly ledger: Ledger
  /** Of the source, now. */
  readonly bootId: string
  /** An earlier controller had begun to put things back. */
  readonly wasRollingBack: boolean
  readonly passes: Measured[] = []
  readonly warnings: string[] = []
  readonly parts: Record<DowntimePart, number> = {
    saveMs: 0,
    lastPassMs: 0,
    stateCopyMs: 0,
    restoreMs: 0,
    resumeMs: 0,
  }
  /** When the guest began to stop and when it ran again; null where that was not in this process. */
  stoppedAtMs: number | null = null
  resumedAtMs: number | null = null
  /** As the hypervisor says that moved it live. */
  liveDowntimeMs: number | null = null
  #destination: Host | null = null
  #driverHere: Driver | null = null
  #driverThere: Driver | null = null
  #held: AsyncDisposable | null = null

  constructor(plan: Plan, context: MigrateContext, ledger: Ledger, bootId: string) {
    this.plan = plan
    this.procedure = procedureOf(plan)
    this.context = context
    this.source = context.source
    this.ledger = ledger
    this.bootId = bootId
    this.wasRollingBack = ledger.sourceState.rollback !== null
  }

  get guestName(): string {
    return this.plan.guest.name
  }

  /** It was in memory when the migration began, and is to be so at its end. */
  get wasActive(): boolean {
    return this.procedure !== 'off'
  }

  /** A guest that somebody had paused stays so. */
  get wasRunning(): boolean {
    return this.wasActive && this.plan.guest.state !== 'paused'
  }

  /** Disks whose content moves. */
  get moved(): readonly (StampedDisk & CopyDisk)[] {
    return this.plan.disks.flatMap(({ fate, target, sourcePath, destinationPath }) =>
      fate === 'copied' && sourcePath !== null && destinationPath !== null
        ? [{ target, path: sourcePath, sourcePath, destinationPath }]
        : [],
    )
  }

  /** The same, as they are there. */
  get movedThere(): readonly StampedDisk[] {
    return this.moved.map(({ target, destinationPath }) => ({ target, path: destinationPath }))
  }

  get destination(): Host | null {
    return this.#destination
  }

  /** Rejects (by throwing) with host/lost where there is none. */
  there(): Host {
    const host = this.#destination
    if (host === null || host.lost.aborted) throw unreachable()
    return host
  }

  use(host: Host): void {
    this.#destination = host
    this.#driverThere = null
  }

  /** Lets go of a destination that cannot be asked any more, and of its journal. */
  async drop(): Promise<void> {
    const host = this.#destination
    this.#destination = null
    this.#driverThere = null
    this.ledger.detach()
    try {
      await host?.close()
    } catch (thrown) {
      this.warn(`the connection to ${this.plan.to.typed} did not end in order: ${textOf(thrown)}`)
    }
  }

  async driverHere(): Promise<Driver> {
    return (this.#driverHere ??= await this.context.driverFor(this.source))
  }

  async driverThere(): Promise<Driver> {
    return (this.#driverThere ??= await this.context.driverFor(this.there()))
  }

  /** Nobody else on this host is to open the disks until `letGo`, where the kernel has a way for that. */
  async holdDisks(): Promise<void> {
    const { hold } = this.context
    if (hold === undefined || this.#held !== null) return
    this.#held = await hold(this.moved.map(({ sourcePath }) => sourcePath))
  }

  async letGo(): Promise<void> {
    const held = this.#held
    this.#held = null
    await held?.[Symbol.asyncDispose]()
    await this.context.copier.close()
  }

  /** The guest's state when it is on its way nowhere; waits for that. */
  async settledState(driver: Driver, transient: readonly GuestState[]): Promise<GuestState> {
    const { clock } = this.context
    const endsAtMs = clock.nowMs() + SETTLE_TIMEOUT_MS
    for (;;) {
      const state = await driver.state(this.guestName)
      if (!transient.includes(state)) return state
      if (clock.nowMs() >= endsAtMs)
        throw new SyncError('migrate/stuck', `${this.guestName} on ${driver.host.name} stays ${state}`, {
          operand: this.guestName,
          hint: 'Look what its hypervisor does with it.',
        })
      await clock.sleep(SETTLE_POLL_MS)
    }
  }

  /** The same, or `unknown` where the hypervisor cannot be asked within a while. */
  async whereabouts(
    driverOf: () => Promise<Driver>,
    transient: readonly GuestState[],
  ): Promise<GuestState | 'unknown'> {
    const { clock } = this.context
    const endsAtMs = clock.nowMs() + DAEMON_PATIENCE_MS
    for (;;) {
      try {
        return await this.settledState(await driverOf(), transient)
      } catch (thrown) {
        const isHopeless = thrown instanceof SyncError && thrown.code === 'host/lost'
        if (isHopeless || clock.nowMs() >= endsAtMs) {
          this.note(`the state of ${this.guestName} is not known: ${textOf(thrown)}`)
          return 'unknown'
        }
        await clock.sleep(DAEMON_POLL_MS)
      }
    }
  }

  warn(message: string): void {
    this.warnings.push(message)
    this.context.onEvent({ event: 'warning', message })
  }

  note(message: string): void {
    this.context.onEvent({ event: 'note', message })
  }

  /** Measures a part of the downtime; what is done twice counts twice. */
  async timed<T>(part: DowntimePart, act: () => Promise<T>): Promise<T> {
    const startMs = this.context.clock.nowMs()
    try {
      return await act()
    } finally {
      this.parts[part] += this.context.clock.nowMs() - startMs
    }
  }

  progress(step: StepName): (progress: { doneBytes: number; totalBytes: number; sentBytes: number }) => void {
    return (progress) => this.context.onEvent({ event: 'progress', step, ...progress })
  }
}

export function textOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
