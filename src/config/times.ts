// Times as a configuration writes them: '1h30m', '10%', 'mon-fri 22:00-06:00', cron expressions. Refuses a number without a
// unit, what never comes, and what comes all the time.

import { Cron } from 'croner'

import type { SyncError } from '../errors.js'
import type { TimeWindow } from './config.js'
import type { ConfigParsers } from './parsers.js'
import { wrong } from './problems.js'

const SECOND_MS = 1000
const DAY_MS = 86_400_000

/** The shortest interval: an attempt opens a connection, and cuts and removes snapshots. */
export const MIN_EVERY_MS = SECOND_MS
/** A longer one is a typing error. */
export const MAX_TIME_MS = 366 * DAY_MS
/** More is no longer the schedule that somebody wrote down. */
const MAX_JITTER_PERCENT = 50

const MAX_TEXT = 100

/** In the order of Date.getDay. */
const DAYS = ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday'] as const
const ALL_DAYS = DAYS.map((_name, day) => day)
const MINUTES_PER_DAY = 24 * 60

/** `10s`, `15m`, `1h30m`, `1.5h`, `2d`: milliseconds. A unit has to be there. Rejects with config/invalid. */
export function durationOf(text: string, parsers: Pick<ConfigParsers, 'durationMs'>): number {
  const refused = (): SyncError =>
    wrong(`'${shown(text)}' is not a time with its unit; write for example 10s, 15m, 1h30m or 2d`)
  const trimmed = text.trim()
  if (trimmed.length > MAX_TEXT || !/^(?:[0-9]+(?:\.[0-9]+)? ?[smhd] ?)+$/.test(trimmed)) throw refused()
  const parts = trimmed.match(/[0-9.]+ ?[smhd]/g) ?? []
  const units = parts.map((part) => 'dhms'.indexOf(part.at(-1) ?? ''))
  // 30m1h and 5m5m are not what somebody meant to write
  if (units.some((unit, index) => index > 0 && unit <= (units[index - 1] ?? 0))) throw refused()
  const ms = parts.reduce((sum, part) => sum + parsers.durationMs('', part), 0)
  if (ms > MAX_TIME_MS) throw wrong(`'${shown(text)}' is more than a year`)
  return ms
}

/** As durationOf, and at least so much. */
export function durationFrom(
  least: number,
  text: string,
  parsers: Pick<ConfigParsers, 'durationMs'>,
): number {
  const ms = durationOf(text, parsers)
  if (ms < least) throw wrong(`'${shown(text)}' is too short; the least is ${least / SECOND_MS}s`)
  return ms
}

/** Up to how much later an attempt begins: a time, or a share of the interval. */
export type Jitter = Readonly<{ ms: number }> | Readonly<{ percent: number }>

export function jitterOf(text: string, parsers: Pick<ConfigParsers, 'durationMs'>): Jitter {
  if (text === '0') return { ms: 0 }
  const share = /^([0-9]{1,3}) ?%$/.exec(text)
  if (share === null) return { ms: durationOf(text, parsers) }
  const percent = Number(share[1])
  if (percent > MAX_JITTER_PERCENT) throw wrong(`${percent}% is too much; the most is ${MAX_JITTER_PERCENT}%`)
  return { percent }
}

const WINDOW_HINT = 'write for example 22:00-06:00, mon-fri 22:00-06:00 or sat,sun'

/** `[DAYS ]HH:MM-HH:MM`, or DAYS alone; DAYS are days and ranges of days with commas between. Rejects with config/invalid. */
export function windowOf(text: string): TimeWindow {
  const parts = text.trim().split(/\s+/)
  const refused = (why: string): SyncError => wrong(`'${shown(text)}' ${why}; ${WINDOW_HINT}`)
  if (text.length > MAX_TEXT || parts.length > 2 || text.trim() === '')
    throw refused('is not a window of time')
  const [first = '', second] = parts
  const hasDays = !/^[0-9]/.test(first)
  if (!hasDays && second !== undefined) throw refused('has its days behind the time, or is two windows')
  const days = hasDays ? daysOf(first) : ALL_DAYS
  if (days === null) throw refused('names no days that there are')
  const clock = hasDays ? second : first
  if (clock === undefined) return { days, fromMinute: 0, toMinute: 0 }
  const times = /^([0-9]{1,2}:[0-9]{2})-([0-9]{1,2}:[0-9]{2})$/.exec(clock)
  const [fromMinute, toMinute] = [minuteOf(times?.[1] ?? ''), minuteOf(times?.[2] ?? '')]
  if (fromMinute === null || toMinute === null || fromMinute === MINUTES_PER_DAY)
    throw refused('has no time from 00:00 to 24:00 at its end')
  // what ends at midnight ends at the first minute of the next day
  return { days, fromMinute, toMinute: toMinute % MINUTES_PER_DAY }
}

function daysOf(text: string): number[] | null {
  const days = new Set<number>()
  for (const piece of text.toLowerCase().split(',')) {
    const [from = '', to = from, ...more] = piece.split('-')
    const [first, last] = [dayOf(from), dayOf(to)]
    if (first < 0 || last < 0 || more.length > 0) return null
    for (let day = first; ; day = (day + 1) % DAYS.length) {
      days.add(day)
      if (day === last) break
    }
  }
  return [...days].toSorted((a, b) => a - b)
}

/** Three letters or the whole name; -1 where it is no day. */
function dayOf(word: string): number {
  return DAYS.findIndex((day) => word === day || word === day.slice(0, 3))
}

function minuteOf(clock: string): number | null {
  const [hours = Number.NaN, minutes = Number.NaN] = clock.split(':').map(Number)
  if (!(hours <= 24 && minutes < 60) || (hours === 24 && minutes > 0)) return null
  return hours * 60 + minutes
}

/** Five fields, or six with seconds in front, or @hourly and its like. Rejects with config/invalid. Format: crontab(5), as croner reads it. */
export function cronOf(text: string): string {
  const expression = text.trim().replaceAll(/\s+/g, ' ')
  const fields = expression.split(' ').length
  if (
    text.length > MAX_TEXT ||
    // croner takes it for a date then
    expression.includes(':') ||
    !(fields === 5 || fields === 6 || (fields === 1 && expression.startsWith('@')))
  )
    throw wrong(
      `'${shown(text)}' is not a cron expression of five fields, or of six with seconds in front; write for example '30 2 * * *'`,
    )
  let next: Date | null
  try {
    next = new Cron(expression, { paused: true }).nextRun()
  } catch (thrown) {
    if (!(thrown instanceof TypeError || thrown instanceof RangeError)) throw thrown
    throw wrong(
      `'${shown(text)}' is not a cron expression: ${shown(thrown.message.replace(/^CronPattern: /, ''))}`,
    )
  }
  if (next === null) throw wrong(`'${shown(text)}' is a date that never comes`)
  return expression
}

/** A name of the time zone database that is known here. Rejects with config/invalid. */
export function timeZoneOf(text: string): string {
  try {
    new Intl.DateTimeFormat('en', { timeZone: text }).format(0)
    return text
  } catch (thrown) {
    if (!(thrown instanceof RangeError)) throw thrown
    throw wrong(`'${shown(text)}' is no time zone that is known here; write for example Europe/Berlin or UTC`)
  }
}

function shown(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 60)}...`
}
