// What an attempt is given from outside: clock, hosts, snapshots, the engine, and who is told. Types only: tests give fakes,
// cli/replicate-engine.ts gives the real ones.

import type { HookName, QuiesceChoice } from '../config/config.js'
import type { GuardName } from '../guard/guard-name.js'
import type { Host } from '../host/host.js'
import type { SyncOptions } from '../options.js'
import type { Cut, CutRequest, SnapshotMethod } from '../snapshot/snapshot.js'
import type { DiskPair, RunHooks, RunReport } from '../sync/report.js'
import type { FarSide } from '../transport/transport.js'
import type { AttemptEvent, Phase } from './events.js'
import type { FailureRecord } from './job-state.js'
import type { BeginTracking } from './tracking.js'

/** The engine's entry: sync() of src/sync/sync.ts, or syncPersistently. Never rejects. */
export type RunSync = (
  pairs: readonly DiskPair[],
  options: SyncOptions,
  hooks: RunHooks,
) => Promise<RunReport>

/** cutQuiesced of src/snapshot/quiesce.ts. */
export type CutQuiesced = (
  host: Host,
  quiesce: QuiesceChoice | null,
  method: SnapshotMethod,
  request: CutRequest,
) => Promise<Cut>

/** What a hook of the job is told. */
export type AttemptFacts = Readonly<{
  job: string
  attempt: string
  /** How far it came; null before the first. */
  phase: Phase | null
  /** The generation that it made, or null. */
  generation: number | null
  takenAt: string | null
  sentBytes: number
  error: FailureRecord | null
}>

export type AttemptHooks = Readonly<{
  onEvent: (event: AttemptEvent) => void
  /**
   * Runs the job's hook of that name on this host; resolves at once where the job has none. Rejects with replicate/hook. It has to
   * run `onError` and `finally` also where the attempt's signal is aborted.
   */
  runHook: (name: HookName, facts: AttemptFacts) => Promise<void>
}>

export type AttemptContext = Readonly<{
  /** The state directory of this host (ownStatePath of src/state/directory.ts): absolute. Made where it is missing. */
  stateDir: string
  /** Wall clock, ms since 1970. */
  nowMs: () => number
  /** Of an attempt: letters, digits and dashes, never twice the same; part of the names of snapshots. */
  newId: () => string
  /** From 0 to 1: spreads what is tried again. */
  chance: () => number
  /** Aborted with a SyncError it ends in order: the replica is led back, the snapshot removed. */
  signal: AbortSignal
  /** openHost of src/host/open.ts with the job's transport options. Asked at most once for this host and once for the other. */
  openHost: (side: FarSide) => Promise<Host>
  /** openSnapshots(job.snapshot) of src/snapshot/open.ts. */
  snapshots: SnapshotMethod
  cutQuiesced: CutQuiesced
  /** trackingOf of replicate/tracking.ts; null where each attempt reads all of its source. */
  track: BeginTracking | null
  runSync: RunSync
  /** For what the engine says besides: details, notes, lines of stderr, a person who confirms. */
  syncHooks: Pick<RunHooks, 'confirm' | 'onDetail' | 'onNote' | 'onStderrLine' | 'onRetry' | 'onWaiting'>
  hooks: AttemptHooks
  /** Guards that are overridden, for a first run onto a disk that has content. */
  force: readonly GuardName[]
  /** `now`: asked for by a person: windows do not count. A paused job is refused in either case. */
  trigger: 'regular' | 'now'
}>
