// What a checkpoint has to fit, point by point, without a disk; which sections are looked at; and what is known to be frozen.

import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import type { EndpointInfo } from '../../src/endpoint/endpoint.js'
import { SYNC_DEFAULTS, type SyncOptions, syncOptions } from '../../src/options.js'
import type { KnownDisk, PairRecord } from '../../src/state/record.js'
import type { Checkpoint } from '../../src/state/resume-file.js'
import { isFrozen, stampOf } from '../../src/sync/disk-stamp.js'
import { misfitOf, sampleOf } from '../../src/sync/resume.js'
import type { ResumeCase } from '../../src/sync/resuming.js'
import { useScratch } from '../support/disks.js'
import { BY, end, OTHER_PAIR_ID, PAIR_ID, pairRecord, stable } from '../state/fixtures.js'

const GIB = 1 << 30
const scratch = useScratch()

const SOURCE = stable('host1', 'path:/a')
const DESTINATION = stable('host2', 'dm:LVM-2', 'path:/b')
const CHECKPOINT: Checkpoint = {
  pairId: PAIR_ID,
  runId: OTHER_PAIR_ID,
  savedAt: '2026-11-21T01:02:03.004Z',
  source: { stable: SOURCE, stamp: '1.2.3.4' },
  destination: { stable: DESTINATION, stamp: null },
  lengthBytes: GIB,
  destinationBytes: GIB,
  algorithm: 'xxh64x2',
  seed: '0f'.repeat(16),
  blockBytes: 1 << 20,
  leafBytes: 4096,
  verified: 'none',
  done: [[0, 16]],
  digests: Buffer.alloc(16 * 32),
}
const RUNNING = { runId: OTHER_PAIR_ID, since: '2026-11-21T01:02:03.004Z', by: BY, process: 'b 1 2' }
const RECORD = pairRecord({
  role: 'destination',
  disk: end('host2', '/b'),
  peer: end('host1', '/a'),
  running: RUNNING,
})
const INFO: EndpointInfo = {
  path: '/b',
  kind: 'block-device',
  sizeBytes: GIB,
  logicalSectorBytes: 512,
  created: false,
  direct: true,
  identity: { machine: 'there', aliases: [] },
}

type Changes = {
  checkpoint?: Partial<Checkpoint>
  record?: Partial<PairRecord>
  source?: Partial<KnownDisk>
  destination?: Partial<KnownDisk>
  info?: Partial<EndpointInfo>
  size?: ResumeCase['open']['size']
  options?: Partial<SyncOptions>
  algorithms?: string[]
}

function misfit(changes: Changes = {}): string | null {
  const known = { content: [], frozen: false }
  const source = { ...known, stable: SOURCE, stamp: '1.2.3.4', pairs: [], ...changes.source }
  const pairs = [{ ...RECORD, ...changes.record }]
  const destination = { ...known, stable: DESTINATION, stamp: null, pairs, ...changes.destination }
  const size = changes.size ?? { lengthBytes: GIB, destinationBytes: GIB }
  const open = { size, far: { ...INFO, ...changes.info }, near: { info: INFO } }
  const found = { open, paired: { pairId: PAIR_ID }, source, destination } as unknown as ResumeCase
  const session = {
    far: { algorithms: changes.algorithms ?? ['xxh64x2', 'sha256'] },
  } as unknown as Parameters<typeof misfitOf>[2]
  const options = { ...SYNC_DEFAULTS, ...changes.options }
  const geometry = { blockBytes: options.blockBytes, leafBytes: options.granularityBytes }
  const context = { push: true, options, native: null, digester: { parameters: { geometry } } }
  const checkpoint = { ...CHECKPOINT, ...changes.checkpoint }
  return misfitOf(checkpoint, found, session, context as unknown as Parameters<typeof misfitOf>[3])
}

describe('a checkpoint', () => {
  it('fits what it was made of', () => {
    expect(misfit()).toBeNull()
    expect(misfit({ options: { verify: 'all' } })).toBeNull()
    expect(misfit({ options: { verify: 'written' }, checkpoint: { verified: 'written' } })).toBeNull()
    expect(misfit({ options: { digest: 'xxh64x2' } })).toBeNull()
  })

  const finished = { running: null }
  const cases: [why: string, changes: Changes][] = [
    ['no record of that run', { record: finished }],
    ['no record of that run', { record: { pairId: OTHER_PAIR_ID } }],
    ['no record of that run', { record: { role: 'source' } }],
    ['no record of that run', { destination: { pairs: [] } }],
    ['another run wrote', { record: { running: { ...RUNNING, runId: PAIR_ID } } }],
    ['somebody else wrote', { record: { running: { ...RUNNING, overtaken: true } } }],
    ['the source is another disk', { source: { stable: stable('host1', 'path:/c') } }],
    ['the source is another disk', { source: { stable: stable('host3', 'path:/a') } }],
    ['the source has changed', { source: { stamp: '1.2.3.5' } }],
    ['the source has changed', { source: { stamp: null } }],
    [
      'the destination is another disk',
      { destination: { stable: stable('host2', 'dm:LVM-3', 'path:/b'), pairs: [RECORD] } },
    ],
    ['the destination has changed', { destination: { stamp: '7', pairs: [RECORD] } }],
    ['made, or made longer', { info: { created: true } }],
    ['made, or made longer', { info: { sizeBytes: GIB / 2 } }],
    ['the sizes', { checkpoint: { lengthBytes: GIB / 2 } }],
    ['the sizes', { checkpoint: { destinationBytes: 2 * GIB } }],
    ['--block-size', { checkpoint: { blockBytes: 1 << 19 } }],
    ['--granularity', { checkpoint: { leafBytes: 8192 } }],
    ['the digest xxh64x2', { options: { digest: 'sha256' } }],
    ['the digest xxh64x2', { algorithms: ['sha256'] }],
    ['the digest xxh3-128', { checkpoint: { algorithm: 'xxh3-128' } }],
    ['not read back', { options: { verify: 'written' } }],
    ['longer than the disk', { checkpoint: { done: [[0, 17]] } }],
  ]
  it.each(cases)('does not: %s', (why, changes) => {
    expect(misfit(changes)).toContain(why)
  })
})

describe('what is looked at', () => {
  it('is each end of what is done, where something was recognised, and a few by chance', () => {
    const done = [
      [0, 100],
      [200, 300],
    ] as const
    expect(sampleOf(done, [5, 150, 250, 5], () => 0)).toEqual([0, 5, 99, 200, 250, 299])
    expect(sampleOf(done, [], () => 0.999_999)).toEqual([0, 99, 200, 299])
    let next = 0
    const chances = [0.25, 0.75, 0.5, 0.255]
    expect(sampleOf(done, [], () => chances[next++] ?? 0)).toEqual([0, 50, 51, 99, 200, 250, 299])
    const signatures = Array.from({ length: 90 }, (_, at) => at + 1)
    expect(sampleOf(done, signatures, () => 0).length).toBe(4 + 8)
    expect(sampleOf([[3, 4]], [], () => 0.5)).toEqual([3])
  })
})

describe('a stamp', () => {
  it('is of a file alone: of a source all that changes with it, of a destination which one it is', async () => {
    const path = await scratch().file('stamped', Buffer.from('x'))
    const facts = statSync(path, { bigint: true })
    const aliases = [`file:${facts.dev}:${facts.ino}`]
    const info: EndpointInfo = { ...INFO, kind: 'file', identity: { machine: 'here', aliases } }
    expect(stampOf('source', info, facts)).toBe(`${facts.ino}.1.${facts.mtimeNs}.${facts.ctimeNs}`)
    expect(stampOf('destination', info, null)).toBe(String(facts.ino))
    expect(stampOf('source', INFO, facts)).toBeNull()
    expect(await isFrozen(facts)).toBe(false)
  })
})

describe('a device', () => {
  type Sys = { ro: string; uuid?: string; below?: string[] }
  const facts = (): Parameters<typeof isFrozen>[0] =>
    ({ isBlockDevice: () => true, rdev: 0xfd07n }) as unknown as Parameters<typeof isFrozen>[0]
  let made = 0

  function sys({ ro, uuid, below = [] }: Sys): string {
    const root = scratch().path(`sys-${made++}`)
    const directory = join(root, 'dev/block/253:7')
    mkdirSync(join(directory, 'dm'), { recursive: true })
    writeFileSync(join(directory, 'ro'), `${ro}\n`)
    if (uuid !== undefined) writeFileSync(join(directory, 'dm/uuid'), `${uuid}\n`)
    below.forEach((each, index) => {
      mkdirSync(join(directory, `slaves/dm-${index}/dm`), { recursive: true })
      writeFileSync(join(directory, `slaves/dm-${index}/dm/uuid`), `${each}\n`)
    })
    return root
  }

  it.each([
    [true, { ro: '1', uuid: 'LVM-abc', below: ['LVM-real', 'LVM-abc-cow'] }],
    [true, { ro: '1', uuid: 'LVM-abc', below: ['LVM-pool-tpool'] }],
    [false, { ro: '0', uuid: 'LVM-abc', below: ['LVM-pool-tpool'] }],
    [false, { ro: '1', uuid: 'LVM-abc', below: [] }],
    [false, { ro: '1', uuid: 'LVM-abc', below: ['CRYPT-LUKS2-x'] }],
    [false, { ro: '1', uuid: 'mpath-abc', below: ['LVM-pool-tpool'] }],
    [false, { ro: '1', below: ['LVM-pool-tpool'] }],
  ])('is frozen: %s, for %j', async (expected, what) => {
    expect(await isFrozen(facts(), sys(what))).toBe(expected)
  })
})

describe('--resume', () => {
  it('contradicts what writes nothing or leaves parts out', () => {
    expect(() => syncOptions({ resume: 'yes', mode: 'verify' })).toThrow('--resume')
    expect(() => syncOptions({ resume: 'yes', mode: 'dry-run' })).toThrow('--resume')
    expect(() => syncOptions({ resume: 'yes', rescue: '/tmp/map' })).toThrow('--resume')
    expect(() => syncOptions({ checkpointEveryMs: 0 })).toThrow('checkpointEveryMs')
    expect(syncOptions({ resume: 'yes', verify: 'all' }).resume).toBe('yes')
  })
})
