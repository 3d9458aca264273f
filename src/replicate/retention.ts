// Which generations stay: a pure function of their numbers and times. The newest always does; hours, days and weeks (from Monday)
// are those of UTC, so that two hosts and two seasons agree. Refuses nothing.

import type { Retention } from '../config/config.js'

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const DAYS_PER_WEEK = 7
/** 1970-01-01 was a Thursday: three days behind a Monday. */
const DAYS_SINCE_MONDAY = 3

export type Dated = Readonly<{ number: number; takenAt: string }>

/**
 * Numbers of those that stay: the `last` newest, and of each of the last so many hours, days and weeks in which there is one the
 * newest. What is left out once is never wanted again, whatever comes after it.
 */
export function wanted(generations: readonly Dated[], keep: Retention): ReadonlySet<number> {
  const newestFirst = generations.toSorted((a, b) => b.number - a.number)
  const stays = new Set(newestFirst.slice(0, Math.max(1, keep.last)).map(({ number }) => number))
  const addNewestOfEach = (periods: number, periodOf: (ms: number) => number): void => {
    const seen = new Set<number>()
    for (const { number, takenAt } of newestFirst) {
      const period = periodOf(Date.parse(takenAt))
      if (seen.has(period)) continue
      if (seen.size >= periods) return
      seen.add(period)
      stays.add(number)
    }
  }
  addNewestOfEach(keep.hourly, (ms) => Math.floor(ms / HOUR_MS))
  addNewestOfEach(keep.daily, (ms) => Math.floor(ms / DAY_MS))
  addNewestOfEach(keep.weekly, (ms) =>
    Math.floor((Math.floor(ms / DAY_MS) + DAYS_SINCE_MONDAY) / DAYS_PER_WEEK),
  )
  return stays
}

/** Whether it ever wants more than the newest one. */
export function keepsOlder({ last, hourly, daily, weekly }: Retention): boolean {
  return Math.max(last, hourly, daily, weekly) > 1
}
