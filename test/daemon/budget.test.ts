// Shares of one budget: as numbers, with runs that are faked, and with the control socket of a real one.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { Budget, lesser, limitBySocket, shareOf } from '../../src/daemon/budget.js'
import { RateControl } from '../../src/rate/control.js'
import { constantRate, isRateSchedule, rateAt, type RateSchedule } from '../../src/rate/schedule.js'
import { openControl } from '../../src/rate/socket.js'
import { Throttle } from '../../src/rate/throttle.js'
import { turns } from '../support/turns.js'

const slots: fc.Arbitrary<RateSchedule> = fc
  .uniqueArray(fc.integer({ min: 0, max: 7 * 1440 - 1 }), { minLength: 1, maxLength: 672 })
  .chain((minutes) =>
    fc
      .array(fc.option(fc.integer({ min: 1, max: 1e9 })), {
        minLength: minutes.length,
        maxLength: minutes.length,
      })
      .map(
        (rates) =>
          minutes
            .toSorted((a, b) => a - b)
            .map((minuteOfWeek, index) => ({
              minuteOfWeek,
              bytesPerSecond: rates[index] ?? null,
            })) as unknown as RateSchedule,
      ),
  )

describe('a share', () => {
  it('is an equal part, the job’s own limit where that is lower, and never nothing', () => {
    expect(shareOf(constantRate(100), 3, null)).toEqual(constantRate(33))
    expect(shareOf(constantRate(2), 5, null)).toEqual(constantRate(1))
    expect(shareOf(null, 5, constantRate(7))).toEqual(constantRate(7))
    expect(shareOf(constantRate(100), 2, constantRate(20))).toEqual(constantRate(20))
    expect(shareOf(constantRate(100), 2, constantRate(80))).toEqual(constantRate(50))
    expect(shareOf(null, 5, null)).toBeNull()
  })

  it('follows both timetables, and is a schedule in any case', () => {
    fc.assert(
      fc.property(slots, slots, fc.integer({ min: 0, max: 7 * 24 * 4 - 1 }), (one, other, quarter) => {
        const low = lesser(one, other)
        expect(isRateSchedule(low)).toBe(true)
        // at quarters it is exact, however many slots there were
        const sunday = new Date(2026, 4, 3)
        const atMs = new Date(2026, 4, 3, 0, quarter * 15).getTime()
        expect(sunday.getDay()).toBe(0)
        const rates = [rateAt(one, atMs), rateAt(other, atMs)].filter((rate) => rate !== null)
        expect(rateAt(low, atMs)).toBe(rates.length === 0 ? null : Math.min(...rates))
      }),
      { numRuns: 60 },
    )
  })
})

describe('a budget', () => {
  it('is shared out again whenever the number of runs changes', async () => {
    const limits = new Map<number, RateSchedule | null>()
    const budget = new Budget(
      constantRate(1200),
      async (pid, schedule) => {
        limits.set(pid, schedule)
        return true
      },
      () => expect.unreachable(),
    )
    const begin = (pid: number, own: RateSchedule | null = null): void => {
      limits.set(pid, budget.shareForNext(own))
      budget.add(pid, own)
    }
    begin(1)
    expect(limits.get(1)).toEqual(constantRate(1200))
    begin(2)
    begin(3, constantRate(100))
    await turns(2)
    expect([...limits.values()]).toEqual([constantRate(400), constantRate(400), constantRate(100)])
    budget.remove(2)
    limits.delete(2)
    await turns(2)
    expect([...limits.values()]).toEqual([constantRate(600), constantRate(100)])
    budget.setTotal(null)
    await turns(2)
    expect([...limits.values()]).toEqual([null, constantRate(100)])
  })

  it('asks a run that has no socket yet again when it tells something, and no run too often', async () => {
    const asked: number[] = []
    let hasSocket = false
    const budget = new Budget(
      constantRate(1000),
      async (pid) => {
        asked.push(pid)
        return hasSocket
      },
      () => expect.unreachable(),
    )
    budget.add(1, null)
    budget.add(2, null)
    await turns(2)
    expect(asked).toEqual([1])
    budget.heard(1)
    await turns(2)
    hasSocket = true
    for (let count = 0; count < 5; count++) {
      budget.heard(1)
      budget.heard(2)
      await turns(2)
    }
    expect(asked).toEqual([1, 1, 1])
  })

  it('says that a run does not take its share, once for each share', async () => {
    const failures: string[] = []
    const budget = new Budget(
      constantRate(1000),
      async () => {
        throw new Error('it does not answer')
      },
      (pid, message) => failures.push(`${pid}: ${message}`),
    )
    budget.add(1, null)
    budget.add(2, null)
    await turns(2)
    for (let count = 0; count < 5; count++) budget.heard(1)
    await turns(2)
    expect(failures).toEqual(['1: it does not answer'])
  })

  it('reaches a real run by its socket', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'blocksync-budget-'))
    try {
      const whereabouts = {
        uid: process.getuid?.() ?? -1,
        runtimeDirectory: null,
        systemDirectory: directory,
        temporaryDirectory: directory,
      }
      using rate = new RateControl(null, new Throttle(null))
      const setLimit = limitBySocket(whereabouts)
      expect(await setLimit(process.pid, constantRate(5))).toBe(false)
      await using control = await openControl({ disks: [], pid: process.pid }, rate, whereabouts)
      expect(control.why).toBeNull()
      expect(await setLimit(process.pid, constantRate(5))).toBe(true)
      expect(rate.bytesPerSecond).toBe(5)
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  })
})
