// Checkpoints on disk: whole or not at all, strictly read, bounded; broken ones are set aside and said. And the marks that
// make one useless.

import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { loadRecords, overtake, saveRecord } from '../../src/state/disk-records.js'
import { PairKeeper } from '../../src/state/pair-keeper.js'
import { RecordError } from '../../src/state/fields.js'
import {
  type Checkpoint,
  checkpointBytes,
  hasCheckpoints,
  loadCheckpoint,
  parseCheckpoint,
  removeCheckpoint,
  saveCheckpoint,
} from '../../src/state/resume-file.js'
import { HostState } from '../../src/state/state.js'
import { randomBytes } from '../support/disks.js'
import { BY, end, OTHER_PAIR_ID, PAIR_ID, pairRecord, stable } from './fixtures.js'

let state = ''
beforeEach(() => {
  state = mkdtempSync(join(tmpdir(), 'blocksync-resume-'))
})
afterEach(() => rmSync(state, { recursive: true, force: true }))

const CHECKPOINT: Checkpoint = {
  pairId: PAIR_ID,
  runId: OTHER_PAIR_ID,
  savedAt: '2026-11-21T01:02:03.004Z',
  source: { stable: stable('host1', 'path:/a'), stamp: '1.2.3.4' },
  destination: { stable: stable('host2', 'dm:LVM-2', 'path:/b'), stamp: null },
  lengthBytes: 1 << 30,
  destinationBytes: 1 << 30,
  algorithm: 'xxh3-128',
  seed: '0f'.repeat(16),
  blockBytes: 1 << 20,
  leafBytes: 4096,
  verified: 'none',
  done: [
    [0, 3],
    [14, 16],
  ],
  digests: randomBytes(5 * 32),
}
const path = (): string => join(state, 'resume', `${PAIR_ID}.checkpoint`)

/** With another header, and a checksum that fits. */
const changed = (changes: object): Buffer => checkpointBytes({ ...CHECKPOINT, ...changes })

describe('a checkpoint', () => {
  it('comes back as it was written, is replaced, and goes', async () => {
    expect(await hasCheckpoints(state)).toBe(false)
    expect(await loadCheckpoint(state, PAIR_ID)).toEqual({ checkpoint: null, problem: null })
    await saveCheckpoint(state, CHECKPOINT)
    expect(await loadCheckpoint(state, PAIR_ID)).toEqual({ checkpoint: CHECKPOINT, problem: null })
    expect([await hasCheckpoints(state), statSync(path()).mode & 0o777]).toEqual([true, 0o600])
    const more: Checkpoint = { ...CHECKPOINT, done: [[0, 16]], digests: randomBytes(16 * 32) }
    await saveCheckpoint(state, more)
    expect((await loadCheckpoint(state, PAIR_ID)).checkpoint).toEqual(more)
    expect(readdirSync(join(state, 'resume'))).toHaveLength(1)
    // what nobody came back for in a quarter of a year goes with the next one that is written
    const forgotten = join(state, 'resume', `${OTHER_PAIR_ID}.checkpoint`)
    writeFileSync(forgotten, 'x')
    await saveCheckpoint(state, more)
    expect(readdirSync(join(state, 'resume'))).toHaveLength(2)
    utimesSync(forgotten, 0, 0)
    await saveCheckpoint(state, more)
    expect(readdirSync(join(state, 'resume'))).toHaveLength(1)
    await removeCheckpoint(state, PAIR_ID)
    await removeCheckpoint(state, PAIR_ID)
    expect(readdirSync(join(state, 'resume'))).toEqual([])
  })

  it('with any byte changed, or any end missing, is set aside and not used', async () => {
    const whole = checkpointBytes(CHECKPOINT)
    for (let at = 0; at < whole.length; at += 7) {
      const bytes = Buffer.from(whole)
      bytes[at] = (bytes[at] ?? 0) ^ 0x40
      expect(() => parseCheckpoint(bytes)).toThrow(RecordError)
      expect(() => parseCheckpoint(whole.subarray(0, at))).toThrow(RecordError)
    }
    await saveCheckpoint(state, CHECKPOINT)
    writeFileSync(path(), whole.subarray(0, whole.length - 1))
    const { checkpoint, problem } = await loadCheckpoint(state, PAIR_ID)
    expect(checkpoint).toBeNull()
    expect(problem).toMatch(/is broken and not used \(its checksum does not fit\); it is .*\.broken-1 now$/)
    expect(readdirSync(join(state, 'resume'))).toEqual([`${PAIR_ID}.checkpoint.broken-1`])
    mkdirSync(path())
    expect((await loadCheckpoint(state, PAIR_ID)).problem).toContain('is not a file')
  })

  it.each([
    [{ pairId: '../x' }],
    [{ runId: null }],
    [{ savedAt: 'today' }],
    [{ source: null }],
    [{ source: { stable: {}, stamp: null } }],
    [{ destination: { ...CHECKPOINT.destination, stamp: 'x'.repeat(129) } }],
    [{ lengthBytes: -1 }],
    [{ destinationBytes: 2 ** 60 }],
    [{ algorithm: 'md5' }],
    [{ seed: '00' }],
    [{ verified: 'all' }],
    [{ done: [[0, 4]] }],
    [{ done: [[0, 6]] }],
    [
      {
        done: [
          [3, 0],
          [0, 5],
        ],
      },
    ],
    [
      {
        done: [
          [0, 2],
          [2, 5],
        ],
      },
    ],
    [
      {
        done: [
          [0, 2],
          [1, 4],
        ],
      },
    ],
    [{ done: [[0, 5, 5], 'x'] }],
    [{ done: [[0.5, 5.5]] }],
    [
      {
        done: Array.from({ length: 4097 }, (_, at) => [2 * at, 2 * at + 1]),
        digests: randomBytes(4097 * 32),
      },
    ],
  ])('that says %j is none', (changes) => {
    expect(() => parseCheckpoint(changed(changes))).toThrow(RecordError)
  })

  it('of another pair is none of this one', async () => {
    await saveCheckpoint(state, CHECKPOINT)
    writeFileSync(path(), changed({ pairId: OTHER_PAIR_ID }))
    expect((await loadCheckpoint(state, PAIR_ID)).problem).toContain('it is that of another pair')
  })
})

describe('a run that did not finish', () => {
  const disk = end('host2', '/dev/vg/web')
  const peer = end('host1', '/dev/vg/web')
  const running = { runId: OTHER_PAIR_ID, since: '2026-11-21T01:02:03.004Z', by: BY, process: 'b 1 2' }
  const unfinished = pairRecord({ role: 'destination', disk, peer, running })

  it('is overtaken by a run of another pair, before that writes', async () => {
    const host = await HostState.open(state)
    await saveRecord(state, unfinished)
    const keeper = new PairKeeper(host, disk, 'destination', [])
    const start = { pairId: OTHER_PAIR_ID, runId: PAIR_ID, generation: 0, peer: end('host3', '/c'), by: BY }
    expect(await keeper.begin(start)).toBeNull()
    const { records } = await loadRecords(state, disk.stable)
    const marks = records.map(({ pairId, running: mark }) => [pairId, mark?.runId, mark?.overtaken ?? false])
    expect(new Set(marks)).toEqual(
      new Set([
        [PAIR_ID, OTHER_PAIR_ID, true],
        [OTHER_PAIR_ID, PAIR_ID, false],
      ]),
    )
  })

  it('is not by the next run of its own pair, but by an undo', async () => {
    await saveRecord(state, unfinished)
    await overtake(state, disk.stable, PAIR_ID)
    expect((await loadRecords(state, disk.stable)).records).toEqual([unfinished])
    const host = await HostState.open(state)
    expect(await host.overtake(disk.stable, null)).toBeNull()
    expect((await loadRecords(state, disk.stable)).records[0]?.running?.overtaken).toBe(true)
  })

  it('of which the disk was the source stays what it is', async () => {
    const source = pairRecord({ disk, peer, running })
    await saveRecord(state, source)
    await overtake(state, disk.stable, null)
    expect((await loadRecords(state, disk.stable)).records).toEqual([source])
  })
})
