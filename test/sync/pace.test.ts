// When a run is cut, by a clock of the test's own; and what of a disk is left to whom.

import { describe, expect, it } from 'vitest'

import { SECTION_BYTES } from '../../src/digest/root.js'
import { DoneSections, Ground } from '../../src/sync/ground.js'
import { Pace } from '../../src/sync/pace.js'

const S = SECTION_BYTES
const SECOND = 1000

function paced(everyMs = 20 * SECOND): {
  pace: Pace
  pass: (bytes: number, ms: number, stallMs?: number) => void
  at: (ms: number) => void
} {
  let nowMs = 0
  const pace = new Pace(everyMs, () => nowMs)
  let stalledMs = 0
  const pass = (bytes: number, ms: number, stallMs = 0): void => {
    pace.begun()
    nowMs += stalledMs
    pace.progressed(1, bytes)
    nowMs += ms
    pace.progressed(bytes, bytes)
    nowMs += stallMs / 2
    pace.ended(bytes)
    stalledMs = stallMs / 2
  }
  return { pace, pass, at: (ms) => (nowMs = ms) }
}

describe('the pace of a run', () => {
  it('lets the first pass go over everything, and cuts it when it has taken its time', () => {
    const { pace, at } = paced()
    expect([pace.nextBytes(1e15), pace.patienceMs]).toEqual([Infinity, 20 * SECOND])
    pace.begun()
    at(20 * SECOND)
    expect(pace.isWorthACut(100 * S, 1000 * S)).toBe(true)
    // it has less than half as much before it
    expect(pace.isWorthACut(100 * S, 49 * S)).toBe(false)
  })

  it('plans the next one to take as long, at least a section, and leaves no little rest', () => {
    const { pace, pass } = paced()
    pass(100 * S, 20 * SECOND)
    expect(pace.nextBytes(1e15) / S).toBeCloseTo(100)
    expect(pace.patienceMs).toBe(40 * SECOND)
    expect(pace.nextBytes(149 * S)).toBe(Infinity)
    expect(pace.nextBytes(151 * S)).toBeLessThan(151 * S)
    pass(S, 200 * SECOND)
    expect(pace.nextBytes(1e15)).toBe(S)
  })

  it('grows by steps: what was fast says little of what follows', () => {
    const { pace, pass } = paced()
    pass(10 * S, 20 * SECOND)
    pass(10 * S, 1)
    expect(pace.nextBytes(1e15)).toBe(40 * S)
  })

  it('goes longer where the moment between two passes is long, up to a bound', () => {
    const { pace, pass } = paced()
    pass(100 * S, 20 * SECOND, 400)
    pass(100 * S, 20 * SECOND, 400)
    expect(pace.everyMs).toBeGreaterThanOrEqual(20 * SECOND)
    pass(100 * S, 20 * SECOND, 1600)
    pace.begun()
    pass(100 * S, 20 * SECOND, 1600)
    expect(pace.everyMs).toBeGreaterThan(70 * SECOND)
    for (let more = 0; more < 3; more += 1) pass(100 * S, 20 * SECOND, 60_000)
    expect(pace.everyMs).toBe(200 * SECOND)
  })

  it('makes some hundred passes of the longest run', () => {
    const { pace, pass } = paced()
    const monthMs = 30 * 86_400 * SECOND
    let passes = 0
    let sumMs = 0
    for (; sumMs < monthMs && passes < 10_000; passes += 1) {
      const ms = pace.everyMs
      pass(100 * S, ms)
      sumMs += ms
    }
    expect(passes).toBeLessThan(600)
  })
})

describe('the ground of a run', () => {
  const LENGTH = 10 * S + 777

  it('is given out from both ends, at section boundaries, each byte once', () => {
    const ground = new Ground(LENGTH)
    expect(ground.takeFront(2.9 * S)).toEqual({ offset: 0, length: 2 * S })
    expect(ground.takeBack(100)).toEqual({ offset: 10 * S, length: 777 })
    expect(ground.takeBack(S + 1)).toEqual({ offset: 8 * S, length: 2 * S })
    expect(ground.bytes).toBe(6 * S)
    ground.giveBack({ offset: S, length: S })
    expect(ground.takeFront(Infinity)).toEqual({ offset: S, length: 7 * S })
    expect([ground.takeFront(S), ground.takeBack(S), ground.bytes]).toEqual([null, null, 0])
    ground.giveBack({ offset: 4 * S, length: S })
    expect(ground.takeBack(5 * S)).toEqual({ offset: 4 * S, length: S })
  })

  it('is what is not done', () => {
    const ground = new Ground(LENGTH, [
      [0, 2],
      [4, 5],
      [10, 11],
    ])
    expect(ground.bytes).toBe(7 * S)
    expect(ground.takeFront(Infinity)).toEqual({ offset: 2 * S, length: 2 * S })
    expect(ground.takeBack(2 * S)).toEqual({ offset: 8 * S, length: 2 * S })
    expect(ground.takeFront(Infinity)).toEqual({ offset: 5 * S, length: 3 * S })
    expect(ground.takeFront(Infinity)).toBeNull()
    expect(new Ground(LENGTH, [[0, 11]]).takeFront(S)).toBeNull()
  })

  it('of an empty disk is one range of nothing', () => {
    const ground = new Ground(0)
    expect(ground.takeFront(Infinity)).toEqual({ offset: 0, length: 0 })
    expect(ground.takeFront(Infinity)).toBeNull()
  })

  it('is counted as done in any order', () => {
    const done = new DoneSections(LENGTH)
    done.add({ offset: 10 * S, length: 777 })
    done.add({ offset: 0, length: 2 * S })
    done.add({ offset: 9 * S, length: S })
    done.add({ offset: 3 * S, length: S })
    done.add({ offset: 4 * S, length: 0 })
    expect(done.runs).toEqual([
      [0, 2],
      [3, 4],
      [9, 11],
    ])
  })
})
