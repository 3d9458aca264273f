// What begins when: missed runs, places, back-off, windows, jobs that others touch, clocks that jump, a configuration read again.

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { MOST_SLEEP_MS } from '../../src/daemon/scheduler.js'
import { failed, job, START, WELL, World } from './world.js'

const MINUTE = 60_000
const iso = (ms: number): string => new Date(ms).toISOString()

describe('the scheduler', () => {
  it('begins a new job at once, and again an interval after that', async () => {
    const world = new World()
    await world.begin([job('a')])
    await world.passBy(150_000)
    expect(world.times('a')).toEqual([0, 60, 120])
    expect(world.scheduler.views()[0]).toMatchObject({ isRunning: false, nextRunMs: START + 180_000 })
  })

  it('catches up what was missed once, also when the machine slept', async () => {
    const world = new World()
    world.write('a', { scheduledAt: iso(START - 60 * MINUTE) })
    await world.begin([job('a')])
    await world.passBy(1_000)
    expect(world.times('a')).toEqual([0])
    // the wall clock goes on while the machine sleeps, ours does not
    world.offsetMs += 600 * MINUTE
    await world.passBy(MOST_SLEEP_MS)
    expect(world.times('a')).toEqual([0, 600 * 60 + 60])
    expect(world.lines.filter((line) => line.includes('slept'))).toHaveLength(1)
  })

  it('gives a place to the latest first, and never more places than there are', async () => {
    const world = new World()
    const names = ['a', 'b', 'c', 'd', 'e']
    for (const [index, name] of names.entries())
      world.write(name, { scheduledAt: iso(START - (index + 2) * MINUTE) })
    await world.begin(
      names.map((name) => job(name)),
      2,
    )
    for (let ended = 0; ended < names.length; ended++) await world.begun[ended]?.end()
    expect(world.begun.map((one) => one.job)).toEqual(['a', 'e', 'd', 'c', 'b'].toSorted().toReversed())
    expect(world.mostRunning).toBe(2)
  })

  it('does not run a job twice at once, however long it takes', async () => {
    const world = new World()
    await world.begin([job('a')], 4)
    await world.clock.advance(10 * MINUTE)
    expect(world.begun).toHaveLength(1)
    expect(world.scheduler.views()[0]).toMatchObject({ isRunning: true })
    await world.begun[0]?.end()
    expect(world.times('a')).toEqual([0, 600])
  })

  it('tries again soon what may pass, and not before its time what does not', async () => {
    const world = new World()
    await world.begin([job('lost'), job('refused')])
    await world.begun[0]?.end(failed('session/lost'))
    await world.begun[1]?.end(failed('guard/mounted'))
    await world.clock.advance(4_000)
    expect(world.begun).toHaveLength(2)
    await world.clock.advance(1_000)
    expect(world.times('lost')).toEqual([0, 5])
    await world.begun[2]?.end()
    await world.clock.advance(55_000)
    expect(world.times('refused')).toEqual([0, 60])
  })

  it('waits longer each time for a process that dies without a word, and shows why', async () => {
    const world = new World()
    await world.begin([job('a', { schedule: { kind: 'every', everyMs: 10 * MINUTE, jitterMs: 0 } })])
    const dead = {
      ...WELL,
      told: 'nothing',
      ok: false,
      code: 'internal',
      message: 'was killed',
      signal: 'SIGKILL',
    } as const
    for (let count = 0; count < 4; count++) {
      await world.begun[count]?.end(dead, 'nothing')
      const [view] = world.scheduler.views()
      expect(view?.state).toMatchObject({ failures: count + 1, last: { error: { message: 'was killed' } } })
      await world.clock.advance(5_000 * 2 ** count)
    }
    expect(world.times('a')).toEqual([0, 5, 15, 35, 75])
    await world.begun[4]?.end()
    expect(world.scheduler.views()[0]?.state.failures).toBe(0)
  })

  it('does not turn in a circle where an attempt could not write its state', async () => {
    const world = new World()
    await world.begin([job('a')])
    for (let count = 0; count < 5; count++) {
      await world.begun[count]?.end(failed('state/unusable'), 'nothing')
      await world.clock.advance(59_000)
      expect(world.begun).toHaveLength(count + 1)
      await world.clock.advance(1_000)
    }
    expect(world.times('a')).toEqual([0, 60, 120, 180, 240, 300])
    expect(world.clock.timersSet).toBeLessThan(20)
  })

  it('skips a job that somebody runs by hand, and goes on from that run', async () => {
    const world = new World()
    await world.begin([job('a', { schedule: { kind: 'every', everyMs: 5 * MINUTE, jitterMs: 0 } })])
    await world.begun[0]?.end(failed('replicate/busy'), 'nothing')
    expect(world.skipped).toEqual(['a'])
    expect(world.scheduler.views()[0]?.state.failures).toBe(0)
    await world.clock.advance(29_000)
    expect(world.begun).toHaveLength(1)
    await world.clock.advance(1_000)
    expect(world.begun).toHaveLength(2)
    await world.begun[1]?.end(failed('replicate/busy'), 'nothing')
    // it ends: it was begun before we asked
    world.write('a', { scheduledAt: iso(START - 10_000) })
    await world.scheduler.refresh()
    await world.clock.advance(4 * MINUTE)
    expect(world.begun).toHaveLength(2)
    await world.clock.advance(MINUTE)
    expect(world.times('a')).toEqual([0, 30, 290])
  })

  it('sees a pause before it begins, and within a minute that a job is resumed', async () => {
    const world = new World()
    await world.begin([job('a')])
    await world.begun[0]?.end()
    world.write('a', { paused: { since: iso(START), reason: null } })
    await world.clock.advance(10 * MINUTE)
    expect(world.begun).toHaveLength(1)
    expect(world.scheduler.views()[0]?.nextRunMs).toBeNull()
    world.write('a', { paused: null })
    await world.clock.advance(MOST_SLEEP_MS)
    expect(world.begun).toHaveLength(2)
  })

  it('does not begin what was paused while it waited for a place', async () => {
    const world = new World()
    await world.begin([job('a'), job('b')], 1)
    world.write('b', { paused: { since: iso(START), reason: null } })
    await world.begun[0]?.end()
    await world.clock.advance(30_000)
    expect(world.times('b')).toEqual([])
  })

  it('begins within a window only, also what waited until it was over', async () => {
    const world = new World()
    const local = new Date(START)
    const minute = local.getHours() * 60 + local.getMinutes()
    const windows = [{ days: [0, 1, 2, 3, 4, 5, 6], fromMinute: minute + 10, toMinute: minute + 12 }]
    await world.begin([job('slow', { windows: [] }), job('a', { windows })], 1)
    expect(world.times('a')).toEqual([])
    await world.begun[0]?.end()
    await world.clock.advance(9 * MINUTE + 30_000)
    // it has the only place until the window is over
    expect(world.running).toBe(1)
    await world.clock.advance(3 * MINUTE)
    await world.begun[1]?.end()
    expect(world.times('a')).toEqual([])
    expect(world.scheduler.views()[1]?.nextRunMs).toBe(START + 24 * 60 * MINUTE + 10 * MINUTE)
  })

  it('says that the clock went back, and runs as if it had not', async () => {
    const world = new World()
    await world.begin([job('a')])
    await world.begun[0]?.end()
    world.offsetMs -= 400 * 24 * 60 * MINUTE
    await world.passBy(3 * MINUTE)
    expect(world.lines[0]).toBe('warning -: the clock went back by 34560000 s')
    expect(world.scheduler.clockSteps).toBe(1)
    expect(world.begun.length).toBeGreaterThanOrEqual(3)
    expect(world.begun.length).toBeLessThanOrEqual(4)
  })

  it('does not wait for a time of the future that another clock has left', async () => {
    const world = new World()
    world.write('a', { scheduledAt: iso(START + 1000 * MINUTE), retryAt: iso(START + 1000 * MINUTE) })
    await world.begin([job('a')])
    expect(world.lines).toEqual([expect.stringContaining('warning a: the clock went back')])
    await world.passBy(61_000)
    expect(world.times('a')).toEqual([60])
  })

  it('shows a state that cannot be read as a failure, says so once, and runs when it can be', async () => {
    const world = new World()
    world.broken.set('a', new SyncError('replicate/record', 'the state of a is damaged'))
    await world.begin([job('a'), job('b')])
    await world.clock.advance(10 * MINUTE)
    expect(world.times('a')).toEqual([])
    expect(world.times('b')).toEqual([0])
    expect(world.lines).toEqual(['error a: replicate/record: the state of a is damaged'])
    expect(world.scheduler.views()[0]?.state.last?.error?.code).toBe('replicate/record')
    world.broken.clear()
    await world.clock.advance(MOST_SLEEP_MS)
    expect(world.times('a')).toHaveLength(1)
  })

  it('keeps what runs when the configuration changes, and takes over the rest', async () => {
    const world = new World()
    await world.begin([job('gone'), job('stays'), job('waits')], 2)
    const slower = job('stays', { schedule: { kind: 'every', everyMs: 5 * MINUTE, jitterMs: 0 } })
    await world.jobs([job('new'), slower], 3)
    expect(world.begun.map((one) => one.job)).toEqual(['gone', 'stays', 'new'])
    for (const one of Array.from(world.begun)) await one.end()
    expect(world.scheduler.views().map((view) => view.job.name)).toEqual(['new', 'stays'])
    await world.passBy(4 * MINUTE)
    expect(world.times('gone')).toEqual([0])
    expect(world.times('waits')).toEqual([])
    expect(world.times('stays')).toEqual([0])
    expect(world.times('new').length).toBeGreaterThanOrEqual(4)
  })

  it('proves a replica when that is due, between two attempts', async () => {
    const world = new World()
    await world.begin([job('a', { verifyEveryMs: 150_000 })])
    await world.passBy(10 * MINUTE)
    const drills = world.begun.filter(({ work }) => work === 'drill').map(({ atMs }) => (atMs - START) / 1000)
    expect(drills[0]).toBeLessThanOrEqual(1)
    expect(drills.length).toBeGreaterThanOrEqual(4)
    expect(world.begun.filter(({ work }) => work === 'attempt').length).toBeGreaterThanOrEqual(10)
    expect(world.mostRunning).toBe(1)
  })

  it('ends when all that runs has ended, and begins nothing more', async () => {
    const world = new World()
    await world.begin([job('a'), job('b'), job('c')], 2)
    let isEnded = false
    const ended = world.scheduler.stop().then(() => {
      isEnded = true
    })
    await world.begun[0]?.end()
    await world.clock.advance(5 * MINUTE)
    expect([isEnded, world.begun.length]).toEqual([false, 2])
    await world.begun[1]?.end()
    await ended
    expect(world.begun).toHaveLength(2)
    expect(world.clock.waiting).toBe(0)
  })

  it('sleeps while nothing is due: a timer a minute for any number of jobs', async () => {
    const world = new World()
    const jobs = Array.from({ length: 500 }, (_, index) => {
      world.write(`j${index}`, { scheduledAt: iso(START) })
      return job(`j${index}`, { schedule: { kind: 'every', everyMs: 24 * 60 * MINUTE, jitterMs: 0 } })
    })
    await world.begin(jobs)
    const [timers, reads] = [world.clock.timersSet, world.reads]
    await world.clock.advance(60 * MINUTE)
    expect(world.clock.timersSet - timers).toBeLessThanOrEqual(62)
    expect(world.reads).toBe(reads)
  })
})
