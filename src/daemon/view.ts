// What a daemon lets itself be asked by those that show it (http.ts, metrics.ts, textfile.ts): documents of data, made of its
// memory. Nothing here changes anything, and nothing waits for a host.

import type { MetricsConfig } from '../config/config.js'
import type { AttemptRecord } from '../replicate/job-state.js'
import type { JobStatus, StatusDocument } from '../replicate/status.js'
import type { Log } from './log.js'

/** Of the daemon itself, beside its jobs. */
export type DaemonFacts = Readonly<{
  version: string
  pid: number
  /** ISO 8601, UTC, as all times here. */
  startedAt: string
  /** When the configuration that is in force was read. */
  configLoadedAt: string
  /** False where the last reload was refused: then the configuration before is in force. */
  isConfigReloadOk: boolean
  /** Why it was refused: the first line of it; null where it was not. */
  configError: string | null
  runningAttempts: number
  /** Due, and waiting for one of `maxParallel` places. */
  waitingAttempts: number
  maxParallel: number
  /** How often somebody set the clock, or the machine slept, since the daemon was started. */
  clockSteps: number
}>

/** Everything that metrics are made of, at one moment. */
export type MetricsSnapshot = Readonly<{ status: StatusDocument; daemon: DaemonFacts }>

export type RunningProgress = NonNullable<JobStatus['progress']>

export interface DaemonView {
  /** As `replicate status --json` prints it, with the progress of what runs. No disk is asked. */
  statuses(): Promise<StatusDocument>
  metrics(): Promise<MetricsSnapshot>
  /** By name of job; what runs and has told nothing yet is not in it. */
  progress(): ReadonlyMap<string, RunningProgress>
  /**
   * The newest attempts of a job out of its history.jsonl, oldest first, at most `count`; none for a job that is not
   * configured. For the picture of its lag.
   */
  history(job: string, count: number): Promise<readonly AttemptRecord[]>
  /** Null while it works; else why not, a sentence (the configuration of a reload was refused is none: the old one works). */
  whyUnhealthy(): string | null
  /**
   * Calls back (never while the caller still holds the call) when a state has changed: an attempt began or ended, the
   * configuration was read again; and about every minute. Progress alone is no change. Returns what ends it.
   */
  onChange(listener: () => void): () => void
}

/**
 * Opens what is shown: the textfile and the HTTP server, as configured (either may be null, also both). Rejects where the
 * address is not to be had. Disposing it ends all of it and removes a socket file. On a reload that changes `metrics` it is
 * disposed and opened anew.
 */
export type OpenFront = (config: MetricsConfig, view: DaemonView, log: Log) => Promise<AsyncDisposable>
