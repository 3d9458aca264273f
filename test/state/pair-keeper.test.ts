// The record of one disk during a run: a mark that is slower than the run does not outlive it.

import { expect, it } from 'vitest'

import { loadRecords } from '../../src/state/disk-records.js'
import { PairKeeper } from '../../src/state/pair-keeper.js'
import { HostState } from '../../src/state/state.js'
import { useScratch } from '../support/disks.js'
import { BY, end, finishedRun, PAIR_ID } from './fixtures.js'

const scratch = useScratch()

it('is done when it says so, also where nobody waited for the mark', async () => {
  const path = scratch().path('state')
  const state = await HostState.open(path)
  const disk = end('host1', '/dev/vg/web')
  const peer = end('host2', '/dev/vg/web')
  for (let run = 1; run <= 20; run += 1) {
    const keeper = new PairKeeper(state, disk, 'destination', [])
    const finished = finishedRun()
    // a run that finds nothing to write goes on to its end
    const marking = keeper.begin({
      pairId: PAIR_ID,
      runId: finished.runId,
      generation: run - 1,
      peer,
      by: BY,
    })
    expect(await keeper.finish({ pairId: PAIR_ID, peer, generation: run, finished, replaces: [] })).toBe(null)
    expect(await marking).toBe(null)
    const { records } = await loadRecords(path, disk.stable)
    expect(records).toMatchObject([{ generation: run, running: null, finished }])
  }
})
