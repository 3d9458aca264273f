// Turning a job round and back, between two hosts with state directories of their own: which replica has to be promoted, and what
// becomes of the record on the other side. No attempt is made here; how records look behind one is set by hand.

import { describe, expect, it } from 'vitest'

import type { Job } from '../../src/config/config.js'
import { SyncError } from '../../src/errors.js'
import type { LocalHost } from '../../src/host/local.js'
import { SYNC_DEFAULTS } from '../../src/options.js'
import type { ReplicaRecord } from '../../src/replicate/record.js'
import { readReplica, replicaId, saveReplica } from '../../src/replicate/replica-file.js'
import { reverse, type Reversed, type ReverseRequest } from '../../src/replicate/reverse.js'
import { changeJobState, lockJob, openJobState } from '../../src/replicate/state-file.js'
import { useScratch } from '../support/disks.js'
import { refusal } from '../support/refusal.js'
import { ID, killAttempt, isContent, makeWorld, type World } from './world.js'

const scratch = useScratch()
const MACHINE = '0123abcd'.repeat(4)
const BACK = replicaId('web', MACHINE, 'reversed')
let number = 0

type Pair = Readonly<{ forward: World; back: World; stateDir: string; job: Job }>

/** The replica on the destination; on the source there is none yet. */
async function pair(change: Partial<ReplicaRecord> = {}): Promise<Pair> {
  number += 1
  const forward = await makeWorld(scratch(), { generations: 2, change })
  const back = await makeWorld(scratch(), { generations: 2, change: { id: BACK, state: 'promoted' } })
  await back.open().remove(`${back.stateDir}/replica/${BACK}/replica.json`)
  const disks = forward.disks.map((path, index) => ({
    source: { at: { kind: 'local' }, path: back.disks[index] ?? '', typed: back.disks[index] ?? '' } as const,
    destination: { at: { kind: 'local' }, path, typed: path } as const,
  }))
  const job: Job = {
    name: 'web',
    place: { file: 'config.yaml', line: 1, column: 1 },
    disks,
    schedule: { kind: 'every', everyMs: 60_000, jitterMs: 0 },
    windows: [],
    snapshot: { kind: 'none' },
    track: 'auto',
    quiesce: null,
    keep: { last: 1, hourly: 0, daily: 0, weekly: 0 },
    lag: { warningMs: null, criticalMs: null },
    verifyEveryMs: null,
    hooks: { pre: null, post: null, onError: null, finally: null },
    notify: [],
    boot: null,
    options: SYNC_DEFAULTS,
  }
  return { forward, back, stateDir: scratch().path(`controller-${number}`), job }
}

async function reversing(
  { forward, back, stateDir, job }: Pair,
  change: Partial<ReverseRequest> = {},
): Promise<Reversed> {
  await using source: LocalHost = back.open()
  await using destination: LocalHost = forward.open()
  return await reverse({
    job,
    stateDir,
    machineId: MACHINE,
    source,
    destination,
    notPromoted: 'refuse',
    agree: () => Promise.resolve(),
    onWarning: () => undefined,
    ...change,
  })
}

/** What a reversed attempt leaves on the old source. */
async function reversedAttempt({ forward, back }: Pair, state: ReplicaRecord['state']): Promise<void> {
  await saveReplica(back.open(), { ...(await forward.record()), id: BACK, state, base: 'generation' })
}

describe('reverse', () => {
  it('turns the job round when its replica is promoted: as if it were a new one', async () => {
    const there = await pair({ state: 'promoted' })
    await changeJobState(there.stateDir, 'web', (state) => ({
      ...state,
      newest: { generation: 2, takenAt: '2026-01-02T03:04:05.000Z', completedAt: '2026-01-02T03:04:06.000Z' },
      failures: 3,
    }))
    const { source, destination, direction } = await reversing(there)
    expect(direction).toBe('reversed')
    expect(source).toBe(there.forward.disks.join(', '))
    expect(destination).toBe(there.back.disks.join(', '))
    expect(await openJobState(there.stateDir, 'web')).toMatchObject({
      direction: 'reversed',
      newest: null,
      failures: 0,
    })
    expect((await there.forward.record()).state).toBe('promoted')
  })

  it('refuses a replica that is not promoted, none at all, and a job that runs', async () => {
    const there = await pair()
    const error = await refusal(reversing(there))
    expect(error.code).toBe('replicate/refused')
    expect(error.hint).toContain('promote web')
    const none = await pair({ id: 'other.0123abcd' })
    expect((await refusal(reversing(none))).message).toContain('there is no replica')
    await using _ = await lockJob(there.stateDir, 'web')
    expect((await refusal(reversing(there))).code).toBe('replicate/busy')
    expect((await openJobState(there.stateDir, 'web')).direction).toBe('forward')
  })

  it('sends a replica back that nobody used, where that is asked for: made whole before', async () => {
    const there = await pair()
    await killAttempt(there.forward)
    await expect(reversing(there, { notPromoted: 'force' })).resolves.toMatchObject({ direction: 'reversed' })
    expect(await isContent(there.forward, 2)).toBe(true)
    expect((await there.forward.record()).state).toBe('good')
  })

  it('goes back as if nothing had been, where nothing came the other way', async () => {
    const there = await pair({ state: 'promoted' })
    await reversing(there)
    await expect(reversing(there)).resolves.toMatchObject({ direction: 'forward' })
    // a guest may use it still
    expect((await there.forward.record()).state).toBe('promoted')
    expect((await there.forward.record()).generations).toHaveLength(2)
  })

  it('goes back when the other replica was promoted: the first one begins anew, and its numbers go on', async () => {
    const there = await pair({ state: 'promoted' })
    await reversing(there)
    await reversedAttempt(there, 'good')
    expect((await refusal(reversing(there))).message).toContain('is not promoted')
    await reversedAttempt(there, 'promoted')
    await expect(reversing(there)).resolves.toMatchObject({ direction: 'forward' })
    expect(await there.forward.record()).toMatchObject({
      id: ID,
      state: 'empty',
      base: 'old-source',
      generations: [],
      nextGeneration: 3,
    })
    expect(await readReplica(there.back.open(), BACK)).toMatchObject({ state: 'promoted' })
  })

  it('changes nothing where nobody agrees', async () => {
    const there = await pair({ state: 'promoted' })
    const no = new SyncError('replicate/refused', 'nobody agreed')
    expect(await refusal(reversing(there, { agree: () => Promise.reject(no) }))).toBe(no)
    expect((await openJobState(there.stateDir, 'web')).direction).toBe('forward')
  })
})
