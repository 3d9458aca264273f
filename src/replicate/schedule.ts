// When a job is to run next: a pure function of its schedule, its state and two instants. Refuses nothing; a state that a wrong clock
// has left is not believed. Loads croner only where a job has a cron expression.

import { createHash } from 'node:crypto'

import type { Job } from '../config/config.js'
import { MOST_BACKOFF_MS } from './failures.js'
import type { JobState } from './job-state.js'
import { nextInWindow } from './windows.js'

/** What of a job's state decides. */
export type ScheduleState = Pick<JobState, 'paused' | 'retryAt' | 'scheduledAt'>

/** What of a job decides. */
export type ScheduledJob = Pick<Job, 'name' | 'schedule' | 'windows'>

/**
 * When an attempt is to begin, ms since 1970: at or before `nowMs` it is due, since then. However many runs were missed (the daemon was
 * down, the machine slept), it is due once. Null: paused, or the schedule has no further date. `sinceMs` is when somebody
 * began to look at this state: a job of cron that never ran counts from there, and so does one whose state is of the future,
 * since the clock went back. Times are local, and those of cron in the job's time zone where it has one.
 */
export type NextRun = (
  job: ScheduledJob,
  state: ScheduleState | null,
  nowMs: number,
  sinceMs?: number,
) => number | null

/** The first date of an expression behind an instant; null where there is none. */
type CronDates = (expression: string, timeZone: string | null, fromMs: number) => number | null

/** Four bytes of a digest, as a share of one. */
const SHARE_RANGE = 2 ** 32

/** The function for these jobs. */
export async function openSchedule(jobs: readonly ScheduledJob[]): Promise<NextRun> {
  const needsCron = jobs.some(({ schedule }) => schedule.kind === 'cron')
  const cron = needsCron ? await loadCron() : null
  return (job, state, nowMs, sinceMs = nowMs) => nextRun(job, state, nowMs, sinceMs, cron)
}

/**
 * How much later than its schedule says a job begins: always the same for one name, 0 to `jitterMs`. So jobs of one time spread, and
 * everybody computes the same next run.
 */
export function jitterOf(name: string, jitterMs: number): number {
  const share = createHash('sha256').update(name).digest().readUInt32BE(0) / SHARE_RANGE
  return Math.floor(share * jitterMs)
}

/** Whether the state says that the job was last served later than at an instant when somebody looked, by more than it ever would. */
export function isOfTheFuture(
  job: ScheduledJob,
  state: ScheduleState | null,
  sinceMs: number,
  next: NextRun,
): boolean {
  const servedMs = instantOf(state?.scheduledAt ?? null)
  if (servedMs === null || servedMs <= sinceMs) return false
  const plain = { name: job.name, schedule: job.schedule, windows: [] }
  const regular = { paused: null, retryAt: null, scheduledAt: new Date(sinceMs).toISOString() }
  const afterwards = next(plain, regular, sinceMs, sinceMs)
  return afterwards !== null && servedMs > afterwards
}

function nextRun(
  { name, schedule, windows }: ScheduledJob,
  state: ScheduleState | null,
  nowMs: number,
  sinceMs: number,
  cron: CronDates | null,
): number | null {
  if (state !== null && state.paused !== null) return null
  const dueMs = retryTime(state, sinceMs) ?? regularTime(name, schedule, state, sinceMs, cron)
  if (dueMs === null) return null
  const beginMs = nextInWindow(windows, Math.max(dueMs, nowMs))
  // in a window and late: late since it was due, not since now
  return beginMs === nowMs ? dueMs : beginMs
}

/** Null without one, and for one that no back-off can have set: it is of another clock. */
function retryTime(state: ScheduleState | null, sinceMs: number): number | null {
  const retryMs = instantOf(state?.retryAt ?? null)
  return retryMs === null || retryMs > sinceMs + MOST_BACKOFF_MS ? null : retryMs
}

function regularTime(
  name: string,
  schedule: Job['schedule'],
  state: ScheduleState | null,
  sinceMs: number,
  cron: CronDates | null,
): number | null {
  const servedMs = instantOf(state?.scheduledAt ?? null)
  const jitterMs = jitterOf(name, schedule.jitterMs)
  switch (schedule.kind) {
    case 'every': {
      if (servedMs === null) return sinceMs
      const intervalMs = schedule.everyMs + jitterMs
      return (servedMs - sinceMs > intervalMs ? sinceMs : servedMs) + intervalMs
    }
    case 'cron': {
      if (cron === null) throw new TypeError('openSchedule was not told of this job')
      const behind = (fromMs: number): number | null => {
        // its dates are those of the expression, `jitterMs` later
        const date = cron(schedule.expression, schedule.timeZone, fromMs - jitterMs)
        return date === null ? null : date + jitterMs
      }
      const fromSince = behind(sinceMs)
      if (servedMs === null || (fromSince !== null && servedMs > fromSince)) return fromSince
      return behind(servedMs)
    }
    default:
      throw new TypeError(`unknown schedule ${String(schedule satisfies never)}`)
  }
}

function instantOf(text: string | null): number | null {
  const instantMs = text === null ? Number.NaN : Date.parse(text)
  return Number.isNaN(instantMs) ? null : instantMs
}

async function loadCron(): Promise<CronDates> {
  const { Cron } = await import('croner')
  // parsing takes longer than a date, and jobs are asked again and again
  const parsed = new Map<string, InstanceType<typeof Cron>>()
  return (expression, timeZone, fromMs) => {
    const key = `${timeZone ?? ''} ${expression}`
    let pattern = parsed.get(key)
    if (pattern === undefined) {
      // without a function it sets no timer
      pattern = new Cron(expression, timeZone === null ? {} : { timezone: timeZone })
      parsed.set(key, pattern)
    }
    return pattern.nextRun(new Date(fromMs))?.getTime() ?? null
  }
}
