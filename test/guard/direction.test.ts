// The direction of a pair, from the records of both ends.

import { describe, expect, it } from 'vitest'

import { directionRefusal, pairHistory, type PairSide } from '../../src/guard/direction.js'
import type { PairRecord } from '../../src/state/record.js'
import { BY, end, finishedRun, OTHER_PAIR_ID, PAIR_ID, pairRecord } from '../state/fixtures.js'

const here = end('host1', '/dev/vg/web', 'dm:LVM-1')
const there = end('host2', '/dev/vg/web', 'dm:LVM-2')
/** What the two ends keep after host1 was synced to host2. */
const atHere = pairRecord()
const atThere = pairRecord({ role: 'destination', disk: there, peer: here })

function sides(nearRecords: PairRecord[], farRecords: PairRecord[]): { near: PairSide; far: PairSide } {
  return {
    near: { name: '/dev/vg/web', stable: here.stable, records: nearRecords },
    far: { name: 'host2:/dev/vg/web', stable: there.stable, records: farRecords },
  }
}

describe('the direction of a pair', () => {
  it('is unknown without a record', () => {
    const { near, far } = sides([], [])
    const history = pairHistory(near, far)
    expect(history).toMatchObject({ pairId: null, generation: 0, isReversed: false, last: null, notes: [] })
    expect(directionRefusal(near, far, history)).toBeNull()
  })

  it.each([
    ['both', [atHere], [atThere]],
    ['the source alone', [atHere], []],
    ['the destination alone', [], [atThere]],
  ])('is known to %s', (_, nearRecords, farRecords) => {
    const { near, far } = sides(nearRecords, farRecords)
    const history = pairHistory(near, far)
    expect(history).toMatchObject({ pairId: PAIR_ID, generation: 3, isReversed: false })
    expect(directionRefusal(near, far, history)).toBeNull()

    const reversed = pairHistory(far, near)
    expect(reversed).toMatchObject({ pairId: PAIR_ID, isReversed: true })
    const refusal = directionRefusal(far, near, reversed)
    expect(refusal).toMatchObject({ code: 'guard/direction', exitStatus: 3, operand: '/dev/vg/web' })
    expect(refusal?.message).toBe(
      'on 2026-11-20 12:00 UTC /dev/vg/web was synced to host2:/dev/vg/web by anna@host1, and now it would be overwritten with that; nothing was written',
    )
    expect(refusal?.hint).toContain('--force-direction')
  })

  it('is that of the newer record where one end was not told of a reversal', () => {
    const reversedThere = { ...atThere, role: 'source', generation: 4 } as const
    const { near, far } = sides([atHere], [reversedThere])
    expect(pairHistory(near, far)).toMatchObject({ isReversed: true, generation: 4 })
    expect(pairHistory(far, near)).toMatchObject({ isReversed: false, generation: 4 })
  })

  it('counts what was begun: the source of an interrupted run is not overwritten with half of it', () => {
    const running = { runId: OTHER_PAIR_ID, since: '2026-11-21T01:02:03.004Z', by: BY, process: 'x' }
    const begun = { ...atThere, generation: 0, finished: null, running }
    const { near, far } = sides([], [begun])
    expect(pairHistory(near, far)).toMatchObject({
      isReversed: false,
      last: { state: 'unfinished', at: running.since },
    })
    expect(directionRefusal(far, near, pairHistory(far, near))?.message).toContain(
      'did not finish, so host2:/dev/vg/web may be half old and half new',
    )
    // a forced reversal that did not finish: host1 is half new, the older record of host2 says otherwise
    const reversing = { ...atHere, role: 'destination', finished: null, running } as const
    const both = sides([reversing], [atThere])
    expect(pairHistory(both.near, both.far).isReversed).toBe(true)
    expect(pairHistory(both.far, both.near).isReversed).toBe(false)
  })

  it('does not use a record of a disk that was made anew, explains it, and has it replaced', () => {
    const old = pairRecord({
      peer: { ...there, stable: { ...there.stable, names: ['dm:LVM-9', 'path:/dev/vg/web'] } },
    })
    const { near, far } = sides([old], [])
    const history = pairHistory(far, near)
    expect(history).toMatchObject({
      pairId: null,
      isReversed: false,
      replaces: { source: [], destination: [PAIR_ID] },
    })
    expect(history.notes).toEqual([
      'the record of /dev/vg/web and host2:/dev/vg/web of 2026-11-20 12:00 UTC is of another disk and not used: another disk has that name now (dm:LVM-2, then dm:LVM-9)',
    ])
  })

  it('has a second record of the same two replaced', () => {
    const second = pairRecord({ pairId: OTHER_PAIR_ID, generation: 1, finished: finishedRun() })
    const { near, far } = sides([atHere, second], [atThere])
    expect(pairHistory(near, far)).toMatchObject({ pairId: PAIR_ID, replaces: { source: [OTHER_PAIR_ID] } })
  })
})
