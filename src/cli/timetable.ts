// The value of --bwlimit: one rate, or a timetable of local time as rclone writes it; and back to text that can be typed
// again. Refuses what is neither, naming the piece that is wrong, and two rates for one time.

import { SyncError } from '../errors.js'
import { constantRate, DAYS_PER_WEEK, MAX_RATE_SLOTS, MINUTES_PER_DAY } from '../rate/schedule.js'
import type { RateSchedule, RateSlot } from '../rate/schedule.js'
import { parseRate } from './units.js'

/** In the order of Date.getDay. */
const DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'] as const

/** An entry is about 15 characters: more than this is no timetable that a person wrote. */
const MAX_TIMETABLE_TEXT = 16 * MAX_RATE_SLOTS

/** `day` null is every day. */
type Entry = Readonly<{
  day: number | null
  minuteOfDay: number
  bytesPerSecond: number | null
  piece: string
}>

/**
 * `20M`, `off`, `0`, or a timetable: entries `HH:MM,RATE` or `DAY-HH:MM,RATE` with blanks or `;` between them, in any order.
 * An entry without a day is for every day, but where a day has its own at that time. Null is no limit at any time.
 * `option` is what the error is about. Rejects with `usage`. Format: rclone's --bwlimit, but that a plain number is bytes.
 */
export function parseBwlimit(option: string, text: string): RateSchedule | null {
  const pieces = text.split(/[\s;]+/).filter((piece) => piece !== '')
  if (pieces.length < 2 && !/[,:;]/.test(text)) {
    const bytesPerSecond = parseRate(option, text)
    return bytesPerSecond === null ? null : constantRate(bytesPerSecond)
  }
  if (text.length > MAX_TIMETABLE_TEXT || pieces.length > MAX_RATE_SLOTS)
    throw refused(option, text.slice(0, 40), `begins a timetable of more than ${MAX_RATE_SLOTS} entries`)
  const slots = slotsOf(option, entriesOf(option, text, pieces))
  const [first, ...rest] = slots
  if (first === undefined) throw refused(option, text, 'is neither a rate nor a timetable')
  if (slots.some(({ bytesPerSecond }) => bytesPerSecond !== first.bytesPerSecond)) return [first, ...rest]
  return first.bytesPerSecond === null ? null : constantRate(first.bytesPerSecond)
}

/** Text that parseBwlimit reads as this schedule. Days that are all alike are not named. */
export function bwlimitText(schedule: RateSchedule | null): string {
  if (schedule === null) return 'off'
  if (schedule.length === 1) return rateWord(schedule[0].bytesPerSecond)
  const days = DAYS.map((_name, day) => schedule.filter((slot) => dayOf(slot) === day))
  const entries = days.map((slots) =>
    slots.map((slot) => `${timeWord(slot)},${rateWord(slot.bytesPerSecond)}`),
  )
  const [sunday = []] = entries
  if (entries.every((words) => words.join() === sunday.join())) return sunday.join(' ')
  return entries.flatMap((words, day) => words.map((word) => `${DAYS[day]?.slice(0, 3)}-${word}`)).join(' ')
}

/** A rate as it can be typed: `20M`, `1000`, `off`. */
export function rateWord(bytesPerSecond: number | null): string {
  if (bytesPerSecond === null) return 'off'
  for (const [power, letter] of [
    [4, 'T'],
    [3, 'G'],
    [2, 'M'],
    [1, 'K'],
  ] as const) {
    if (bytesPerSecond % 1024 ** power === 0) return `${bytesPerSecond / 1024 ** power}${letter}`
  }
  return String(bytesPerSecond)
}

function entriesOf(option: string, text: string, pieces: readonly string[]): Entry[] {
  return pieces.map((piece) => {
    const [time = '', rate = '', ...more] = piece.split(',')
    if (!piece.includes(',')) {
      const missing = /(^|-)[0-9]{1,2}:[0-9]*$/.test(piece) ? 'has a time and no rate' : 'is not TIME,RATE'
      throw refused(option, piece, pieces.length === 1 ? missing : `in '${shown(text)}' ${missing}`)
    }
    if (more.length > 0) throw refused(option, piece, 'has more than one comma: one entry is TIME,RATE')
    if (rate === '') throw refused(option, piece, 'has no rate behind its comma')
    const parts = /^(?:([^-]*)-)?([^-]*)$/.exec(time)
    if (parts === null)
      throw refused(option, piece, 'names more than one day: each day is an entry of its own')
    const [, dayWord, clock = ''] = parts
    const day = dayWord === undefined ? null : dayNumber(dayWord)
    if (day === undefined)
      throw refused(option, piece, `does not begin with a day: '${dayWord}' is none of Mon to Sun`)
    const minuteOfDay = minuteNumber(clock)
    if (minuteOfDay === null)
      throw refused(option, piece, `has '${clock}' where a time from 00:00 to 23:59 belongs`)
    return { day, minuteOfDay, bytesPerSecond: rateOf(option, piece, rate), piece }
  })
}

/** The entries over a whole week, sorted; a day's own entry goes before one for every day. */
function slotsOf(option: string, entries: readonly Entry[]): RateSlot[] {
  const own = minutesOf(
    option,
    entries.filter(({ day }) => day !== null),
  )
  const everyDay = minutesOf(
    option,
    entries.filter(({ day }) => day === null),
  )
  const together = new Map([...everyDay, ...own])
  return Array.from(together, ([minuteOfWeek, { bytesPerSecond }]) => ({
    minuteOfWeek,
    bytesPerSecond,
  })).toSorted((a, b) => a.minuteOfWeek - b.minuteOfWeek)
}

function minutesOf(option: string, entries: readonly Entry[]): Map<number, Entry> {
  const minutes = new Map<number, Entry>()
  for (const entry of entries) {
    for (let day = entry.day ?? 0; day <= (entry.day ?? DAYS_PER_WEEK - 1); day += 1) {
      const minuteOfWeek = day * MINUTES_PER_DAY + entry.minuteOfDay
      const before = minutes.get(minuteOfWeek)
      if (before !== undefined)
        throw refused(option, entry.piece, `is for the same time as '${before.piece}'`)
      minutes.set(minuteOfWeek, entry)
    }
  }
  return minutes
}

/** Undefined where it is no day. Three letters or the whole name, upper or lower case. */
function dayNumber(word: string): number | undefined {
  const lower = word.toLowerCase()
  const day = DAYS.findIndex((name) => [name.toLowerCase(), name.slice(0, 3).toLowerCase()].includes(lower))
  return day < 0 ? undefined : day
}

function minuteNumber(clock: string): number | null {
  const parts = /^([0-9]{1,2}):([0-9]{2})$/.exec(clock)
  if (parts === null) return null
  const [hours, minutes] = [Number(parts[1]), Number(parts[2])]
  return hours < 24 && minutes < 60 ? hours * 60 + minutes : null
}

function rateOf(option: string, piece: string, rate: string): number | null {
  try {
    return parseRate(option, rate)
  } catch (thrown) {
    if (!(thrown instanceof SyncError)) throw thrown
    throw refused(option, piece, `has '${shown(rate)}' where a rate belongs`)
  }
}

function dayOf({ minuteOfWeek }: RateSlot): number {
  return Math.floor(minuteOfWeek / MINUTES_PER_DAY)
}

function timeWord({ minuteOfWeek }: RateSlot): string {
  const minuteOfDay = minuteOfWeek % MINUTES_PER_DAY
  const two = (value: number): string => String(value).padStart(2, '0')
  return `${two(Math.floor(minuteOfDay / 60))}:${two(minuteOfDay % 60)}`
}

/** Enough of what was typed to find it. */
function shown(text: string): string {
  return text.length <= 60 ? text : `${text.slice(0, 60)}...`
}

function refused(option: string, piece: string, problem: string): SyncError {
  return new SyncError('usage', `'${shown(piece)}' ${problem}; nothing was opened`, {
    operand: option,
    hint: `Write for example ${option} 20M, ${option} off or ${option} '08:00,20M 19:00,off Sat-08:00,off'.`,
  })
}
