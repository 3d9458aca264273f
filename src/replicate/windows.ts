// The hours in which attempts of a job may begin, by the clock on the wall. Pure functions of windows and an instant. Refuses nothing:
// no window at all is always.

import type { TimeWindow } from '../config/config.js'

const MINUTE_MS = 60_000
const MINUTES_PER_DAY = 24 * 60
const DAYS_PER_WEEK = 7
/** Whoever looks for a window looks so far: each comes once a week, and one may fall into an hour that is left out in spring. */
const MOST_DAYS_AHEAD = 2 * DAYS_PER_WEEK + 1

/** True where an attempt may begin at that instant (ms since 1970). An hour that comes twice in autumn counts twice. */
export function isInWindow(windows: readonly TimeWindow[], epochMs: number): boolean {
  if (windows.length === 0) return true
  const local = new Date(epochMs)
  const day = local.getDay()
  const minute = local.getHours() * 60 + local.getMinutes()
  const dayBefore = (day + DAYS_PER_WEEK - 1) % DAYS_PER_WEEK
  return windows.some(({ days, fromMinute, toMinute }) => {
    if (fromMinute < toMinute) return days.includes(day) && minute >= fromMinute && minute < toMinute
    return (days.includes(day) && minute >= fromMinute) || (days.includes(dayBefore) && minute < toMinute)
  })
}

/** The first instant from `epochMs` on that is in a window; null where none is within two weeks. */
export function nextInWindow(windows: readonly TimeWindow[], epochMs: number): number | null {
  if (isInWindow(windows, epochMs)) return epochMs
  const local = new Date(epochMs)
  let earliest: number | null = null
  for (let ahead = 0; ahead <= MOST_DAYS_AHEAD && earliest === null; ahead++) {
    const day = (local.getDay() + ahead) % DAYS_PER_WEEK
    for (const { days, fromMinute } of windows) {
      if (!days.includes(day)) continue
      const start = startOf(windows, local, ahead, fromMinute, epochMs)
      if (start !== null && (earliest === null || start < earliest)) earliest = start
    }
  }
  return earliest
}

/** When that window begins, so many days ahead; null where it does not, or is over. */
function startOf(
  windows: readonly TimeWindow[],
  local: Date,
  ahead: number,
  fromMinute: number,
  epochMs: number,
): number | null {
  const named = new Date(
    local.getFullYear(),
    local.getMonth(),
    local.getDate() + ahead,
    Math.floor(fromMinute / 60),
    fromMinute % 60,
  )
  let startMs = named.getTime()
  if (startMs < epochMs || !isInWindow(windows, startMs)) return null
  if (named.getHours() * 60 + named.getMinutes() === fromMinute) return startMs
  // a time that is left out in spring is moved behind the gap by as much as it is in it: the window begins with the gap's end
  for (let back = 0; back < MINUTES_PER_DAY; back++) {
    const before = startMs - MINUTE_MS
    if (before < epochMs || !isInWindow(windows, before)) break
    startMs = before
  }
  return startMs
}
