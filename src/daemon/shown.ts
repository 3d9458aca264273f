// What a daemon lets itself be asked: see DaemonView. Made of its memory when somebody asks; nothing here waits for a host.

import type { Job } from '../config/config.js'
import type { DaemonNote } from '../replicate/daemon-lock.js'
import type { AttemptRecord, JobState } from '../replicate/job-state.js'
import { jobStatus, statusDocument } from '../replicate/lag.js'
import { readHistory, runningAttempt } from '../replicate/state-file.js'
import type { JobStatus, StatusDocument } from '../replicate/status.js'
import type { Attempts } from './attempts.js'
import type { Scheduler } from './scheduler.js'
import type { DaemonFacts, DaemonView, MetricsSnapshot, RunningProgress } from './view.js'

/** Files are looked at again for whoever asks, at most so often. */
const REFRESH_MS = 1_000

export type ShownContext = Readonly<{
  scheduler: Scheduler
  attempts: Attempts
  stateDir: string
  note: DaemonNote
  host: string
  version: string
  facts: () => Pick<DaemonFacts, 'configLoadedAt' | 'maxParallel'>
  whyUnhealthy: () => string | null
}>

export class Shown implements DaemonView {
  readonly #context: ShownContext
  readonly #listeners = new Set<() => void>()
  #configError: string | null = null
  #refreshedMs = Number.NEGATIVE_INFINITY
  #isCalling: 'yes' | 'no' = 'no'

  constructor(context: ShownContext) {
    this.#context = context
  }

  /** The configuration was read again; `error` is why it was refused. */
  reloaded(error: string | null): void {
    this.#configError = error
  }

  /** Tells the listeners, once for all that changes in one turn. */
  changed(): void {
    if (this.#isCalling === 'yes') return
    this.#isCalling = 'yes'
    setImmediate(() => {
      this.#isCalling = 'no'
      for (const listener of Array.from(this.#listeners)) listener()
    })
  }

  /** Of a job that does not run, for those who are told of it. */
  statusOf(job: Job, state: JobState): JobStatus {
    const extras = { runningAlive: false, progress: null, nextRunMs: null }
    return jobStatus(job, { ...state, running: null }, Date.now(), extras)
  }

  async statuses(): Promise<StatusDocument> {
    const { scheduler, attempts, note, host } = this.#context
    const steadyMs = performance.now()
    if (steadyMs - this.#refreshedMs >= REFRESH_MS) {
      this.#refreshedMs = steadyMs
      await scheduler.refresh()
    }
    const progress = attempts.progress()
    const nowMs = Date.now()
    const jobs: JobStatus[] = []
    for (const { job, state, isRunning, nextRunMs } of scheduler.views()) {
      // one that was started by hand runs in a process that is not ours
      const runningAlive = isRunning || (state.running !== null && (await runningAttempt(state)) !== null)
      const extras = { runningAlive, progress: progress.get(job.name) ?? null, nextRunMs }
      jobs.push(jobStatus(job, state, nowMs, extras))
    }
    return statusDocument(jobs, { nowMs, host, daemon: note })
  }

  async metrics(): Promise<MetricsSnapshot> {
    const { scheduler, note, version, facts } = this.#context
    const status = await this.statuses()
    return {
      status,
      daemon: {
        version,
        pid: note.pid,
        startedAt: note.startedAt,
        ...facts(),
        isConfigReloadOk: this.#configError === null,
        configError: this.#configError,
        runningAttempts: scheduler.runningCount,
        waitingAttempts: scheduler.waitingCount,
        clockSteps: scheduler.clockSteps,
      },
    }
  }

  progress(): ReadonlyMap<string, RunningProgress> {
    return this.#context.attempts.progress()
  }

  async history(job: string, count: number): Promise<readonly AttemptRecord[]> {
    const { scheduler, stateDir } = this.#context
    if (!scheduler.views().some((view) => view.job.name === job)) return []
    return await readHistory(stateDir, job, count)
  }

  whyUnhealthy(): string | null {
    return this.#context.whyUnhealthy()
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }
}
