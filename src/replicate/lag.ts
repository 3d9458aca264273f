// What a job looks like from outside: made of its configuration, its state and the clock, and of nothing else. Refuses nothing:
// what is not known is null, and a time that cannot be read is not known.

import type { Job } from '../config/config.js'
import type { AttemptRecord, JobState } from './job-state.js'
import type { JobStatus, StatusDocument } from './status.js'

/** What the state does not have. `nextRunMs` is wall clock, ms since 1970. */
export type StatusExtras = Readonly<{
  /** Whether the process of `state.running` is there (src/state/process.ts). */
  runningAlive: boolean
  progress: JobStatus['progress']
  nextRunMs: number | null
}>

export type StatusMaker = Readonly<{
  nowMs: number
  host: string
  daemon: StatusDocument['daemon']
}>

/** The code in `lastError` of an attempt that was killed: nobody was left to give one. */
export const INTERRUPTED = 'interrupted'

const NO_TOTALS: JobStatus['totals'] = { attempts: 0, failures: 0, skipped: 0, sentBytes: 0 }

/** One job. `state` is null for one that was never tried. */
export function jobStatus(job: Job, state: JobState | null, nowMs: number, extras: StatusExtras): JobStatus {
  const isRunning = state !== null && state.running !== null && extras.runningAlive
  const lagSeconds = secondsSince(state?.newest?.takenAt ?? null, nowMs)
  const warningSeconds = toSeconds(job.lag.warningMs)
  const criticalSeconds = toSeconds(job.lag.criticalMs)
  const last = state?.last ?? null
  const paused = state?.paused ?? null
  const done = last?.outcome === 'done' ? last : null
  const isReversed = state?.direction === 'reversed'
  const sources = job.disks.map(({ source }) => source.typed).join(' ')
  const destinations = job.disks.map(({ destination }) => destination.typed).join(' ')
  return {
    name: job.name,
    state: isRunning ? 'running' : quietState(state),
    generation: state?.newest?.generation ?? null,
    lastSuccess: state?.newest?.completedAt ?? null,
    takenAt: state?.newest?.takenAt ?? null,
    lagSeconds,
    lagLevel: lagLevel(lagSeconds, warningSeconds, criticalSeconds),
    nextRun: extras.nextRunMs === null || paused !== null ? null : new Date(extras.nextRunMs).toISOString(),
    paused,
    lastError: lastError(state, isRunning),
    sentBytes: done?.sentBytes ?? null,
    durationMs: done?.durationMs ?? null,
    direction: state?.direction ?? 'forward',
    atRiskBytes: atRisk(state, isRunning ? extras.progress : null),
    progress: isRunning ? extras.progress : null,
    last,
    totals: state?.totals ?? NO_TOTALS,
    warningSeconds,
    criticalSeconds,
    source: isReversed ? destinations : sources,
    destination: isReversed ? sources : destinations,
  }
}

/**
 * What an attempt found to differ and did not bring to a generation: the one that runs, or the last one where it did not end well.
 * There may be more, since it did not come to the end of the disks.
 */
function atRisk(state: JobState | null, progress: JobStatus['progress']): number | null {
  if (progress !== null && progress.sentBytes > 0) return progress.sentBytes
  const last = state?.last ?? null
  return last === null || last.outcome === 'done' || last.sentBytes === 0 ? null : last.sentBytes
}

/** The document of `status --json` and /status.json. */
export function statusDocument(
  jobs: readonly JobStatus[],
  { nowMs, host, daemon }: StatusMaker,
): StatusDocument {
  return { version: 1, at: new Date(nowMs).toISOString(), host, daemon, jobs }
}

/**
 * `unknown` before the first generation. A lag that is exactly the limit is still within it; where there is no limit every
 * lag is `ok`.
 */
export function lagLevel(
  lagSeconds: number | null,
  warningSeconds: number | null,
  criticalSeconds: number | null,
): JobStatus['lagLevel'] {
  if (lagSeconds === null) return 'unknown'
  if (criticalSeconds !== null && lagSeconds > criticalSeconds) return 'critical'
  if (warningSeconds !== null && lagSeconds > warningSeconds) return 'warning'
  return 'ok'
}

/** The two greatest units of a time, for people: `12 s`, `5 min 3 s`, `2 h 5 min`, `3 d 4 h`. */
export function lagText(seconds: number): string {
  const units = [
    ['d', 86_400],
    ['h', 3600],
    ['min', 60],
    ['s', 1],
  ] as const
  const first = Math.max(
    units.findIndex(([, unit]) => seconds >= unit),
    seconds < 1 ? units.length - 1 : 0,
  )
  let left = Math.max(0, Math.floor(seconds))
  const parts: string[] = []
  for (const [name, unit] of units.slice(first, first + 2)) {
    const count = Math.floor(left / unit)
    left -= count * unit
    if (count > 0 || parts.length === 0) parts.push(`${count} ${name}`)
  }
  return parts.join(' ')
}

/** What a job is while no attempt runs. A killed attempt is one that failed, and is tried again. */
function quietState(state: JobState | null): Exclude<JobStatus['state'], 'running'> {
  if (state === null) return 'idle'
  if (state.paused !== null) return 'paused'
  if (state.running !== null) return 'retrying'
  if (state.failures === 0) return 'idle'
  return state.retryAt === null ? 'failed' : 'retrying'
}

/** Of the newest attempt that ended; null where that one ended well. */
function lastError(state: JobState | null, isRunning: boolean): JobStatus['lastError'] {
  if (state === null) return null
  if (state.running !== null && !isRunning) return interrupted(state.running.startedAt)
  return state.failures > 0 && state.last !== null ? errorOf(state.last) : null
}

function errorOf({ error, outcome, startedAt }: AttemptRecord): JobStatus['lastError'] {
  if (error !== null) return { code: error.code, message: error.message }
  return outcome === 'interrupted' ? interrupted(startedAt) : null
}

function interrupted(startedAt: string): JobStatus['lastError'] {
  return {
    code: INTERRUPTED,
    message: `the attempt of ${startedAt} was killed; the next one first leads the replica back to its newest generation`,
  }
}

/** Whole seconds; 0 for an instant that is still to come (a clock was set back). */
function secondsSince(at: string | null, nowMs: number): number | null {
  const atMs = at === null ? Number.NaN : Date.parse(at)
  return Number.isNaN(atMs) ? null : Math.max(0, Math.floor((nowMs - atMs) / 1000))
}

function toSeconds(ms: number | null): number | null {
  return ms === null ? null : ms / 1000
}
