// One job as the daemon has it in memory: what its file says, and what is known beyond that, since an attempt may end without writing
// anything. Pure but for the entry itself. Refuses nothing.

import type { Job } from '../config/config.js'
import { backoffMs, classOf } from '../replicate/failures.js'
import type { AttemptRecord, JobState } from '../replicate/job-state.js'
import type { NextRun } from '../replicate/schedule.js'
import { nextInWindow } from '../replicate/windows.js'
import { isErrorCode, SyncError } from '../errors.js'
import type { ChildEnd } from './supervisor.js'

/** `waiting`: due, and there is no place yet. */
export type EntryPhase = 'idle' | 'waiting' | 'running'
export type Work = 'attempt' | 'drill'

/** An attempt that left no trace in the state: it could not begin, or its process died. */
export type Untold = Readonly<{
  atMs: number
  retryAtMs: number | null
  /** So many in a row. */
  count: number
  /** Null where another process has the job: then it is no failure. */
  failure: Readonly<{ code: string; message: string }> | null
}>

export type Entry = {
  job: Job
  /** As it was last read. */
  state: JobState
  /** Of the file that it was read from: changes when that does. Null before the first reading. */
  stamp: string | null
  /** When it was read, ms since 1970: see NextRun. */
  sinceMs: number
  untold: Untold | null
  /** Of the last drill that was begun here. */
  drilledMs: number | null
  phase: EntryPhase
  work: Work
  /** Since when it runs. */
  startedMs: number
  dueMs: number | null
  drillDueMs: number | null
}

/** How long a job is left alone that another process has: it tells nobody when it is done. */
const BUSY_WAIT_MS = 30_000

/** The state with what is known beyond it. */
export function effectiveState({ job, state, untold, phase, startedMs }: Entry): JobState {
  const startedAt = new Date(startedMs).toISOString()
  const running = phase === 'running' ? { attempt: '', process: '', startedAt } : state.running
  if (untold === null) return { ...state, running }
  const at = new Date(untold.atMs).toISOString()
  const isLater = state.scheduledAt === null || Date.parse(state.scheduledAt) < untold.atMs
  return {
    ...state,
    running,
    scheduledAt: isLater ? at : state.scheduledAt,
    retryAt: untold.retryAtMs === null ? null : new Date(untold.retryAtMs).toISOString(),
    failures: state.failures + untold.count,
    last: untold.failure === null ? state.last : failedRecord(job.name, at, untold.failure),
  }
}

/**
 * What is remembered of an attempt that has ended, behind `state` having been read again; null where the state has it. `chance` is
 * from 0 to 1.
 */
export function untoldOf(
  entry: Entry,
  state: JobState,
  end: ChildEnd,
  nowMs: number,
  chance: number,
): Untold | null {
  const { startedMs } = entry
  const everyMs = entry.job.schedule.kind === 'every' ? entry.job.schedule.everyMs : null
  if (end.code === 'replicate/busy') {
    const waitMs = Math.min(BUSY_WAIT_MS, everyMs ?? BUSY_WAIT_MS)
    return { atMs: startedMs, retryAtMs: nowMs + waitMs, count: 0, failure: null }
  }
  const isInState = state.scheduledAt !== null && Date.parse(state.scheduledAt) >= startedMs
  // a process that wrote that it begins, and then died, has told no more than that
  if (isInState && (end.told === 'result' || state.running === null)) return null
  // nothing was to be done: it was paused in between, or its window was over
  if (end.ok || end.code === 'replicate/paused')
    return { atMs: startedMs, retryAtMs: null, count: 0, failure: null }
  const count = (entry.untold?.count ?? 0) + 1
  const failure = { code: end.code ?? 'internal', message: end.message ?? 'it told no reason' }
  const waitMs = backoffMs(state.failures + count, everyMs, chance)
  const isSoon = end.told === 'nothing' || classOfCode(failure.code) === 'soon'
  return { atMs: startedMs, retryAtMs: isSoon ? nowMs + waitMs : null, count, failure }
}

/** When the job is to be proved next, ms since 1970; null where it never is. A replica that was never proved is due. */
export function nextDrill({ job, state, sinceMs, drilledMs }: Entry, nowMs: number): number | null {
  if (job.verifyEveryMs === null || state.newest === null || state.paused !== null) return null
  const provedMs = state.drill === null ? Number.NEGATIVE_INFINITY : Date.parse(state.drill.at)
  const lastMs = Math.max(provedMs, drilledMs ?? Number.NEGATIVE_INFINITY)
  // one of the future is of a clock that went back: it counts from when that was seen
  const dueMs = Number.isFinite(lastMs) ? Math.min(lastMs, sinceMs) + job.verifyEveryMs : sinceMs
  const beginMs = nextInWindow(job.windows, Math.max(dueMs, nowMs))
  return beginMs === nowMs ? dueMs : beginMs
}

/** Plans it anew. */
export function plan(entry: Entry, next: NextRun, nowMs: number): void {
  entry.dueMs = next(entry.job, effectiveState(entry), nowMs, entry.sinceMs)
  entry.drillDueMs = nextDrill(entry, nowMs)
}

/** What is to be done now, and since when; null where nothing is. An attempt comes before a drill. */
export function dueWork(
  { dueMs, drillDueMs }: Entry,
  nowMs: number,
): Readonly<{ work: Work; atMs: number }> | null {
  if (dueMs !== null && dueMs <= nowMs) return { work: 'attempt', atMs: dueMs }
  if (drillDueMs !== null && drillDueMs <= nowMs) return { work: 'drill', atMs: drillDueMs }
  return null
}

function failedRecord(job: string, at: string, failure: NonNullable<Untold['failure']>): AttemptRecord {
  return {
    attempt: job,
    startedAt: at,
    endedAt: at,
    outcome: 'failed',
    generation: null,
    takenAt: null,
    sentBytes: 0,
    wireBytes: 0,
    durationMs: 0,
    error: { ...failure, operand: null, hint: null },
    warnings: [],
  }
}

function classOfCode(code: string): 'soon' | 'regular' {
  return isErrorCode(code) ? classOf(new SyncError(code, '')) : 'soon'
}
