// What --bwlimit means as data: rates by local time over a week. Pure functions of a schedule and an instant. Refuses
// (isRateSchedule) what is not sorted, names a minute twice, or holds a rate that is none.

/** From this minute of the week on (0 is Sunday 00:00, as Date.getDay counts), local time. Null is no limit. */
export type RateSlot = Readonly<{ minuteOfWeek: number; bytesPerSecond: number | null }>

/**
 * Slots in ascending order, none twice. Before the first one of the week, the last one of the week before holds; so one
 * slot alone holds always.
 */
export type RateSchedule = readonly [RateSlot, ...RateSlot[]]

export const MINUTES_PER_DAY = 24 * 60
export const DAYS_PER_WEEK = 7
const MINUTES_PER_WEEK = DAYS_PER_WEEK * MINUTES_PER_DAY

/** One a quarter of an hour, every day: more is no timetable that a person wrote. */
export const MAX_RATE_SLOTS = DAYS_PER_WEEK * 96

/** The schedule that is always the same rate. `bytesPerSecond` is a whole number of at least 1. */
export function constantRate(bytesPerSecond: number): RateSchedule {
  return [{ minuteOfWeek: 0, bytesPerSecond }]
}

/**
 * Bytes a second at an instant (ms since the epoch), null is no limit. The clock on the wall decides: an hour that is left
 * out in spring is over at once, and one that comes twice in autumn is gone through twice.
 */
export function rateAt(schedule: RateSchedule, epochMs: number): number | null {
  const local = new Date(epochMs)
  const minuteOfWeek = local.getDay() * MINUTES_PER_DAY + local.getHours() * 60 + local.getMinutes()
  const slot = schedule.findLast((candidate) => candidate.minuteOfWeek <= minuteOfWeek)
  return (slot ?? schedule.at(-1) ?? schedule[0]).bytesPerSecond
}

/** True for a number of bytes a second that can be kept to. */
export function isRate(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1
}

/** True for a whole schedule: what comes from another process, or from a caller of the library, is checked with this. */
export function isRateSchedule(value: unknown): value is RateSchedule {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_RATE_SLOTS) return false
  let before = -1
  for (const slot of value as readonly unknown[]) {
    if (typeof slot !== 'object' || slot === null) return false
    if (!('minuteOfWeek' in slot) || !('bytesPerSecond' in slot)) return false
    const { minuteOfWeek, bytesPerSecond } = slot
    if (typeof minuteOfWeek !== 'number' || !Number.isInteger(minuteOfWeek)) return false
    if (minuteOfWeek <= before || minuteOfWeek >= MINUTES_PER_WEEK) return false
    if (bytesPerSecond !== null && !isRate(bytesPerSecond)) return false
    before = minuteOfWeek
  }
  return true
}
