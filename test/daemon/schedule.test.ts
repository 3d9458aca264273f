// Next runs of jobs: due, missed, spread, in windows, by cron over changes of the clocks, and with a clock that jumped.

import { afterEach, beforeAll, describe, expect, it } from 'vitest'

import fc from 'fast-check'

import type { Job, TimeWindow } from '../../src/config/config.js'
import { isOfTheFuture, jitterOf, openSchedule, type NextRun } from '../../src/replicate/schedule.js'
import { isInWindow, nextInWindow } from '../../src/replicate/windows.js'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const NOW = Date.parse('2026-05-05T12:00:00Z')

type Scheduled = Pick<Job, 'name' | 'schedule' | 'windows'>

function every(everyMs: number, more: Partial<Scheduled> & { jitterMs?: number } = {}): Scheduled {
  return {
    name: 'web01',
    schedule: { kind: 'every', everyMs, jitterMs: more.jitterMs ?? 0 },
    windows: [],
    ...more,
  }
}

function cron(expression: string, timeZone: string | null = null, jitterMs = 0): Scheduled {
  return { name: 'web01', schedule: { kind: 'cron', expression, timeZone, jitterMs }, windows: [] }
}

function served(atMs: number, more: { retryMs?: number; paused?: true } = {}) {
  return {
    scheduledAt: new Date(atMs).toISOString(),
    retryAt: more.retryMs === undefined ? null : new Date(more.retryMs).toISOString(),
    paused: more.paused === true ? { since: new Date(atMs).toISOString(), reason: null } : null,
  }
}

const zone = process.env['TZ']
let next: NextRun

beforeAll(async () => {
  next = await openSchedule([cron('* * * * *')])
})

afterEach(() => {
  if (zone === undefined) delete process.env['TZ']
  else process.env['TZ'] = zone
})

describe('every', () => {
  it('is due at once before its first run, then an interval after the last one was begun', () => {
    expect(next(every(15 * MINUTE), null, NOW)).toBe(NOW)
    expect(next(every(15 * MINUTE), null, NOW, NOW - 5)).toBe(NOW - 5)
    expect(next(every(15 * MINUTE), served(NOW - MINUTE), NOW)).toBe(NOW + 14 * MINUTE)
  })

  it('catches up what was missed once, and says since when', () => {
    const missed = served(NOW - 3 * 24 * HOUR)
    expect(next(every(15 * MINUTE), missed, NOW)).toBe(NOW - 3 * 24 * HOUR + 15 * MINUTE)
    expect(next(every(15 * MINUTE), served(NOW), NOW)).toBe(NOW + 15 * MINUTE)
  })

  it('does not run while it is paused', () => {
    expect(next(every(MINUTE), served(NOW - HOUR, { paused: true }), NOW)).toBeNull()
  })

  it('is tried again when its back-off is over, not before', () => {
    const state = served(NOW - HOUR, { retryMs: NOW + 5_000 })
    expect(next(every(15 * MINUTE), state, NOW)).toBe(NOW + 5_000)
  })

  it('counts from when somebody looked, where the state is of the future', () => {
    const state = served(NOW + 24 * HOUR)
    expect(next(every(15 * MINUTE), state, NOW + MINUTE, NOW)).toBe(NOW + 15 * MINUTE)
    expect(next(every(15 * MINUTE), state, NOW + 16 * MINUTE, NOW)).toBe(NOW + 15 * MINUTE)
    expect(isOfTheFuture(every(15 * MINUTE), state, NOW, next)).toBe(true)
    expect(isOfTheFuture(every(15 * MINUTE), served(NOW + 14 * MINUTE), NOW, next)).toBe(false)
    expect(isOfTheFuture(every(15 * MINUTE), served(NOW - MINUTE), NOW, next)).toBe(false)
    expect(next(every(15 * MINUTE), { ...state, retryAt: new Date(NOW + HOUR).toISOString() }, NOW)).toBe(
      NOW + 15 * MINUTE,
    )
  })

  it('waits longer by a share of its jitter that is its own', () => {
    const jitterMs = 10 * MINUTE
    const shares = Array.from({ length: 200 }, (_, index) => jitterOf(`job${index}`, jitterMs))
    expect(jitterOf('web01', jitterMs)).toBe(jitterOf('web01', jitterMs))
    expect(new Set(shares).size).toBeGreaterThan(190)
    expect(shares.every((share) => share >= 0 && share < jitterMs)).toBe(true)
    expect(shares.filter((share) => share < jitterMs / 2).length).toBeGreaterThan(60)
    const job = every(15 * MINUTE, { jitterMs })
    expect(next(job, served(NOW), NOW)).toBe(NOW + 15 * MINUTE + jitterOf('web01', jitterMs))
  })

  it('is never more than an interval and its jitter away, whatever the state says', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: -1e10, max: 1e10 }),
        fc.option(fc.integer({ min: -1e10, max: 1e10 }), { nil: undefined }),
        fc.integer({ min: 10_000, max: 24 * HOUR }),
        (servedMs, retryMs, everyMs) => {
          const state = served(NOW + servedMs, retryMs === undefined ? {} : { retryMs: NOW + retryMs })
          const dueMs = next(every(everyMs), state, NOW, NOW)
          expect(dueMs).toBeLessThanOrEqual(NOW + Math.max(2 * everyMs, 10 * MINUTE))
        },
      ),
    )
  })
})

describe('cron', () => {
  it('counts from when somebody looked before its first run', () => {
    const at = Date.parse('2026-05-05T12:30:00Z')
    expect(next(cron('30 * * * *', 'UTC'), null, NOW)).toBe(at)
    expect(next(cron('30 * * * *', 'UTC'), null, at + 5, NOW)).toBe(at)
  })

  it('is due once for all the dates that were missed', () => {
    const job = cron('0 2 * * *', 'UTC')
    const missed = served(Date.parse('2026-05-01T02:00:00Z'))
    expect(next(job, missed, NOW)).toBe(Date.parse('2026-05-02T02:00:00Z'))
    expect(next(job, served(NOW), NOW)).toBe(Date.parse('2026-05-06T02:00:00Z'))
  })

  it('keeps to its dates with jitter, and leaves none out', () => {
    const job = cron('0 * * * *', 'UTC', 10 * MINUTE)
    const jitterMs = jitterOf('web01', 10 * MINUTE)
    let atMs = NOW
    const dates: number[] = []
    for (let run = 0; run < 5; run++) {
      const dueMs = next(job, served(atMs), atMs) ?? 0
      dates.push(dueMs - jitterMs)
      atMs = dueMs + 7
    }
    const first = jitterMs > 0 ? 0 : 1
    expect(dates).toEqual([0, 1, 2, 3, 4].map((hour) => NOW + (hour + first) * HOUR))
  })

  it('has a date in the hour that is left out in spring, and one in the hour that comes twice in autumn', () => {
    const job = cron('30 2 * * *', 'Europe/Berlin')
    const from = (text: string): string => {
      const atMs = Date.parse(text)
      return new Date(next(job, served(atMs), atMs) ?? 0).toISOString()
    }
    // 02:30 is left out on 29 March: it runs when the gap begins to be over
    expect(from('2026-03-28T12:00:00Z')).toBe('2026-03-29T01:00:00.000Z')
    expect(from('2026-03-29T01:00:00Z')).toBe('2026-03-30T00:30:00.000Z')
    expect(from('2026-10-24T12:00:00Z')).toBe('2026-10-25T00:30:00.000Z')
    expect(from('2026-10-25T00:30:00Z')).toBe('2026-10-26T01:30:00.000Z')
  })

  it('runs each half of an hour that comes twice, where it is to run every half hour', () => {
    const job = cron('*/30 * * * *', 'Europe/Berlin')
    let atMs = Date.parse('2026-10-25T00:00:00Z')
    const seen = Array.from({ length: 4 }, () => {
      atMs = next(job, served(atMs), atMs) ?? 0
      return new Date(atMs).toISOString().slice(11, 16)
    })
    expect(seen).toEqual(['00:30', '01:00', '01:30', '02:00'])
  })

  it('does not wait for a date of another year because the clock went back', () => {
    const job = cron('0 2 * * *', 'UTC')
    const state = served(NOW + 400 * 24 * HOUR)
    expect(next(job, state, NOW, NOW)).toBe(Date.parse('2026-05-06T02:00:00Z'))
    expect(isOfTheFuture(job, state, NOW, next)).toBe(true)
  })

  it('has no date where there is none', () => {
    expect(next(cron('0 0 30 2 *', 'UTC'), null, NOW)).toBeNull()
  })
})

describe('windows', () => {
  const daily = [0, 1, 2, 3, 4, 5, 6]
  const local = (text: string): number => new Date(text).getTime()
  const night: TimeWindow = { days: [1, 2, 3, 4, 5], fromMinute: 22 * 60, toMinute: 6 * 60 }

  it('is in one over midnight until its end on the next day', () => {
    // 4 May 2026 is a Monday
    expect(isInWindow([night], local('2026-05-04T21:59:59'))).toBe(false)
    expect(isInWindow([night], local('2026-05-04T22:00:00'))).toBe(true)
    expect(isInWindow([night], local('2026-05-05T05:59:59'))).toBe(true)
    expect(isInWindow([night], local('2026-05-05T06:00:00'))).toBe(false)
    expect(isInWindow([night], local('2026-05-09T03:00:00'))).toBe(true)
    expect(isInWindow([night], local('2026-05-09T23:00:00'))).toBe(false)
    expect(isInWindow([{ days: [1], fromMinute: 60, toMinute: 60 }], local('2026-05-05T00:30:00'))).toBe(true)
  })

  it('waits for the next one, over a weekend too', () => {
    expect(nextInWindow([night], local('2026-05-04T12:00:00'))).toBe(local('2026-05-04T22:00:00'))
    expect(nextInWindow([night], local('2026-05-09T12:00:00'))).toBe(local('2026-05-11T22:00:00'))
    expect(nextInWindow([night], local('2026-05-04T23:00:00'))).toBe(local('2026-05-04T23:00:00'))
    expect(nextInWindow([], NOW)).toBe(NOW)
    expect(nextInWindow([{ days: [], fromMinute: 0, toMinute: 0 }], NOW)).toBeNull()
  })

  it('begins with the end of the hour that is left out, and goes on through the one that comes twice', () => {
    process.env['TZ'] = 'Europe/Berlin'
    const early: TimeWindow = { days: daily, fromMinute: 150, toMinute: 300 }
    expect(nextInWindow([early], local('2026-03-29T00:30:00'))).toBe(Date.parse('2026-03-29T01:00:00Z'))
    const gone: TimeWindow = { days: daily, fromMinute: 135, toMinute: 165 }
    expect(nextInWindow([gone], local('2026-03-29T00:30:00'))).toBe(local('2026-03-30T02:15:00'))
    expect(isInWindow([early], Date.parse('2026-10-25T00:45:00Z'))).toBe(true)
    expect(isInWindow([early], Date.parse('2026-10-25T01:15:00Z'))).toBe(false)
    expect(isInWindow([early], Date.parse('2026-10-25T01:45:00Z'))).toBe(true)
  })

  it('holds back what is due, also what is tried again', () => {
    const job = every(15 * MINUTE, { windows: [night] })
    const noon = local('2026-05-04T12:00:00')
    const evening = local('2026-05-04T22:00:00')
    expect(next(job, served(noon - HOUR), noon)).toBe(evening)
    expect(next(job, served(noon - HOUR, { retryMs: noon - 1 }), noon)).toBe(evening)
    expect(next(job, served(noon - HOUR), evening + 5)).toBe(noon - 45 * MINUTE)
  })

  it('always answers with a time in a window, at or behind the one asked for', () => {
    const window = fc.record({
      days: fc.subarray(daily, { minLength: 1 }),
      fromMinute: fc.integer({ min: 0, max: 1439 }),
      toMinute: fc.integer({ min: 0, max: 1440 }),
    })
    fc.assert(
      fc.property(
        fc.array(window, { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 0, max: 400 * 24 }),
        (windows, hours) => {
          const fromMs = NOW + hours * HOUR + 1234
          const found = nextInWindow(windows, fromMs)
          expect(found).not.toBeNull()
          expect(found).toBeGreaterThanOrEqual(fromMs)
          expect(isInWindow(windows, found ?? 0)).toBe(true)
        },
      ),
    )
  })
})
