// What a migration is given instead of reaching for the process: hosts, drivers, the copier, a clock; and what it tells
// while it runs. Types and small helpers only.

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import type { Driver } from '../hypervisor/driver.js'
import type { Copier } from './copier.js'
import type { RoundFacts, StepName } from './journal.js'

export interface Clock {
  /** Never goes back; for durations. */
  nowMs(): number
  /** Ms since 1970; for journals. */
  wallMs(): number
  sleep(durationMs: number): Promise<void>
}

export type MigrateEvent =
  | Readonly<{
      event: 'step'
      step: StepName
      state: 'begin' | 'done' | 'failed' | 'undone'
      message: string | null
    }>
  | Readonly<{ event: 'progress'; step: StepName; doneBytes: number; totalBytes: number; sentBytes: number }>
  | (Readonly<{ event: 'round'; round: number }> & RoundFacts)
  | Readonly<{ event: 'warning'; message: string }>
  | Readonly<{ event: 'note'; message: string }>

export type MigrateContext = Readonly<{
  source: Host
  /** Connects to the destination; again after the connection was lost. The run closes what it got. */
  openDestination: () => Promise<Host>
  driverFor: (host: Host) => Promise<Driver>
  copier: Copier
  clock: Clock
  onEvent: (event: MigrateEvent) => void
  /** Aborting it before the handover puts everything back; after it, it has no effect. */
  signal: AbortSignal
  /** Most bytes a second of a live move; absent or null is no limit. Passes have theirs in the copier's options. */
  bandwidthBytes?: number | null
  /** Keeps others on this host from disks between save and handover, where the kernel has a way; absent holds nothing. */
  hold?: (paths: readonly string[]) => Promise<AsyncDisposable>
}>

/** The error as one with a status of a migration that was put back (9); what is one already stays as it is. */
export function stoppedBy(error: SyncError, what: string): SyncError {
  const { message, operand, hint } = error
  return new SyncError(error.exitStatus === 9 ? error.code : 'migrate/stopped', `${message}; ${what}`, {
    ...(operand === null ? {} : { operand }),
    ...(hint === null ? {} : { hint }),
    cause: error,
  })
}

/** Codes that say that the other host cannot be asked, and nothing about what it did last. */
export function isLoss({ code }: SyncError): boolean {
  return code === 'host/lost' || code.startsWith('connect/') || code.startsWith('session/')
}
