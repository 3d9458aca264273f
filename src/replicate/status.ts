// What people and programs are told of jobs: made of the configuration, the state of the job and the clock. The one source of
// `status`, `check`, the metrics and the page.

import type { AttemptRecord } from './job-state.js'

export type JobStatus = Readonly<{
  name: string
  state: 'idle' | 'running' | 'retrying' | 'paused' | 'failed'
  /** The number of the newest complete one; null before the first. */
  generation: number | null
  /** When it was complete: ISO 8601, UTC. */
  lastSuccess: string | null
  /** When it was taken at the source: lag counts from here. */
  takenAt: string | null
  /** Now minus the instant that the newest complete generation was taken; null before the first. */
  lagSeconds: number | null
  lagLevel: 'ok' | 'warning' | 'critical' | 'unknown'
  /** ISO 8601; null where nothing is planned (paused, or the schedule has no further date). */
  nextRun: string | null
  /** Also while an attempt, begun before, still runs. */
  paused: Readonly<{ since: string; reason: string | null }> | null
  lastError: Readonly<{ code: string; message: string }> | null
  /** Of the last attempt that ended well. */
  sentBytes: number | null
  durationMs: number | null
  direction: 'forward' | 'reversed'
  /** What the source has and the newest generation has not, at least, as an attempt found out; null where nobody knows. */
  atRiskBytes: number | null
  /** Of the attempt that runs; null while none does, and where it tells nothing. */
  progress: Readonly<{ doneBytes: number; totalBytes: number; sentBytes: number }> | null
  last: AttemptRecord | null
  totals: Readonly<{ attempts: number; failures: number; skipped: number; sentBytes: number }>
  warningSeconds: number | null
  criticalSeconds: number | null
  source: string
  destination: string
}>

/** The document of `status --json` and /status.json. */
export type StatusDocument = Readonly<{
  version: 1
  /** ISO 8601, UTC. */
  at: string
  host: string
  /** Whether a daemon runs on this host; its pid. */
  daemon: Readonly<{ pid: number; startedAt: string }> | null
  jobs: readonly JobStatus[]
}>
