// Schedules by local time and the control that follows them: over midnight, over weeks, and over the two nights of the year
// in which the clocks are changed.

import { afterAll, beforeAll, describe, expect, it } from 'vitest'

import { syncOptions } from '../../src/options.js'
import { RateControl, rateShare } from '../../src/rate/control.js'
import { constantRate, isRateSchedule, MAX_RATE_SLOTS, rateAt } from '../../src/rate/schedule.js'
import type { RateSchedule, RateSlot } from '../../src/rate/schedule.js'
import { Throttle } from '../../src/rate/throttle.js'
import { parseBwlimit } from '../../src/cli/timetable.js'
import { TestClock } from '../support/test-clock.js'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

let zoneBefore: string | undefined

beforeAll(() => {
  zoneBefore = process.env['TZ']
  process.env['TZ'] = 'Europe/Berlin'
})

afterAll(() => {
  if (zoneBefore === undefined) delete process.env['TZ']
  else process.env['TZ'] = zoneBefore
})

function schedule(text: string): RateSchedule {
  const parsed = parseBwlimit('--bwlimit', text)
  if (parsed === null) throw new Error(`no limit: ${text}`)
  return parsed
}

/** A run of one schedule from an instant on, and the changes it told of. */
function follow(
  text: string,
  from: string,
): { clock: TestClock; control: RateControl; throttle: Throttle; changes: string[] } {
  const clock = new TestClock(Date.parse(from))
  const throttle = new Throttle(null)
  const changes: string[] = []
  const control = new RateControl(schedule(text), throttle, {
    nowMs: clock.nowMs,
    setTimer: clock.setTimer,
    onChange: (rate) => {
      expect(throttle.bytesPerSecond).toBe(rate)
      changes.push(`${new Date(clock.nowMs()).toISOString().slice(0, 16)} ${rate}`)
    },
  })
  return { clock, control, throttle, changes }
}

describe('the rate at an instant', () => {
  it.each<[string, string, number | null]>([
    // Berlin is one hour ahead of UTC in winter, two in summer
    ['08:00,20 19:00,off', '2025-01-15T06:59:59Z', null],
    ['08:00,20 19:00,off', '2025-01-15T07:00:00Z', 20],
    ['08:00,20 19:00,off', '2025-01-15T17:59:59Z', 20],
    ['08:00,20 19:00,off', '2025-01-15T18:00:00Z', null],
    ['08:00,20 19:00,off', '2025-07-15T06:00:00Z', 20],
    ['08:00,20 19:00,30', '2025-01-15T03:00:00Z', 30],
    ['19:00,30 08:00,20', '2025-01-15T03:00:00Z', 30],
    // Friday 3 January 2025, Monday 6 January
    ['Mon-00:00,512 Fri-23:59,10 Sun-20:00,off', '2025-01-03T22:58:00Z', 512],
    ['Mon-00:00,512 Fri-23:59,10 Sun-20:00,off', '2025-01-03T22:59:00Z', 10],
    ['Mon-00:00,512 Fri-23:59,10 Sun-20:00,off', '2025-01-05T18:59:59Z', 10],
    ['Mon-00:00,512 Fri-23:59,10 Sun-20:00,off', '2025-01-05T19:00:00Z', null],
    ['Mon-00:00,512 Fri-23:59,10 Sun-20:00,off', '2025-01-05T22:59:59Z', null],
    ['Mon-00:00,512 Fri-23:59,10 Sun-20:00,off', '2025-01-05T23:00:00Z', 512],
    // the week of one entry wraps round: Sunday is day 0
    ['Wed-12:00,7 Thu-12:00,9', '2025-01-05T12:00:00Z', 9],
    // a day's own entry goes before one for every day
    ['08:00,20 19:00,off Sat-08:00,40', '2025-01-04T12:00:00Z', 40],
    ['08:00,20 19:00,off Sat-08:00,40', '2025-01-05T12:00:00Z', 20],
    ['5', '2025-01-04T12:00:00Z', 5],
  ])('%s at %s', (text, at, rate) => {
    expect(rateAt(schedule(text), Date.parse(at))).toBe(rate)
  })
})

describe('isRateSchedule', () => {
  const slot = (minuteOfWeek: number, bytesPerSecond: number | null = 1): RateSlot => ({
    minuteOfWeek,
    bytesPerSecond,
  })
  it('takes sorted slots, and nothing else', () => {
    expect(isRateSchedule(constantRate(1))).toBe(true)
    expect(isRateSchedule([slot(0, null), slot(10079, 5)])).toBe(true)
    const bad: unknown[] = [
      null,
      [],
      {},
      [slot(1), slot(1)],
      [slot(2), slot(1)],
      [slot(-1)],
      [slot(10080)],
      [slot(0.5)],
      [slot(0, 0)],
      [slot(0, 1.5)],
      [slot(0, Infinity)],
      [{ minuteOfWeek: 1 }],
      [null],
      Array.from({ length: MAX_RATE_SLOTS + 1 }, (_, minute) => slot(minute)),
    ]
    for (const value of bad) expect([value, isRateSchedule(value)]).toEqual([value, false])
    expect(() => syncOptions({ bwlimit: [slot(0, 0)] })).toThrow('--bwlimit')
    expect(syncOptions({ bwlimit: constantRate(9) }).bwlimit).toEqual([slot(0, 9)])
  })
})

describe('RateControl', () => {
  it('changes the rate when the minute comes, over midnight and back', async () => {
    const { clock, control, throttle, changes } = follow(
      '08:00,20 23:30,90 00:10,off',
      '2025-01-15T20:00:20Z',
    )
    expect([control.bytesPerSecond, throttle.bytesPerSecond]).toEqual([20, 20])
    await clock.advance(24 * HOUR_MS)
    expect(changes).toEqual(['2025-01-15T22:30 90', '2025-01-15T23:10 null', '2025-01-16T07:00 20'])
    control[Symbol.dispose]()
    expect(clock.waiting).toBe(0)
    await clock.advance(24 * HOUR_MS)
    expect(changes).toHaveLength(3)
  })

  it('goes by the clock on the wall in the night that is an hour short', async () => {
    // 30 March 2025: 01:59 is followed by 03:00, which is 01:00 UTC
    const { clock, control, changes } = follow('01:30,10 02:30,20 03:30,30', '2025-03-30T00:00:00Z')
    await clock.advance(4 * HOUR_MS)
    expect(changes).toEqual(['2025-03-30T00:30 10', '2025-03-30T01:00 20', '2025-03-30T01:30 30'])
    control[Symbol.dispose]()
  })

  it('goes by the clock on the wall in the night that is an hour long', async () => {
    // 26 October 2025: 02:59 is followed by 02:00, which is 01:00 UTC
    const { clock, control, changes } = follow('01:30,10 02:30,20 03:30,30', '2025-10-25T23:00:00Z')
    await clock.advance(5 * HOUR_MS)
    expect(changes).toEqual([
      '2025-10-25T23:30 10',
      '2025-10-26T00:30 20',
      '2025-10-26T01:00 10',
      '2025-10-26T01:30 20',
      '2025-10-26T02:30 30',
    ])
    control[Symbol.dispose]()
  })

  it('is right again within a minute of having slept', async () => {
    const { clock, control, changes } = follow('08:00,20 19:00,off', '2025-01-15T12:00:30Z')
    // as if the machine had been asleep: the timer goes off hours late
    await clock.advance(9 * HOUR_MS, 8 * HOUR_MS)
    expect([changes.length, control.bytesPerSecond]).toEqual([1, null])
    control[Symbol.dispose]()
  })

  it('takes another schedule at once, tells of real changes only, and sets no timer for one rate', async () => {
    const { clock, control, throttle, changes } = follow('08:00,20 19:00,off', '2025-01-15T12:00:00Z')
    control.set(constantRate(20))
    expect([changes, clock.waiting]).toEqual([[], 0])
    control.set(constantRate(1024))
    control.set(null)
    control.set(null)
    expect(changes).toEqual(['2025-01-15T12:00 1024', '2025-01-15T12:00 null'])
    expect([control.schedule, throttle.bytesPerSecond, clock.waiting]).toEqual([null, null, 0])
    control.set(schedule('13:00,5 13:01,6'))
    expect(control.bytesPerSecond).toBe(5)
    await clock.advance(24 * HOUR_MS - MINUTE_MS)
    // 13:00 in Berlin is 12:00 UTC
    expect(changes.slice(2)).toEqual(['2025-01-15T12:00 5', '2025-01-15T12:01 6'])
    control[Symbol.dispose]()
    control.set(constantRate(1))
    expect(control.bytesPerSecond).toBe(6)
    expect(clock.waiting).toBe(0)
  })
})

describe('the share of a lane', () => {
  it('adds up to no more than the rate, and is never nothing', () => {
    expect([rateShare(null, 4), rateShare(1000, 3), rateShare(2, 4)]).toEqual([null, 333, 1])
  })
})
