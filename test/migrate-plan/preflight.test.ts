// What would refuse a migration beside its disks: one row a reason, all of them at once, and what is only a warning.

import { describe, expect, it } from 'vitest'

import type { MigrateOptions } from '../../src/migrate/plan.js'
import { disk, GIB, guest, MIB, planRequest, played, type Layout, type Stage } from './fakes.js'

const IMAGE = { '/srv/vm/a.img': { sizeBytes: 64 * MIB } }
const EMPTY_IMAGE = { '/srv/vm/a.img': { sizeBytes: 64 * MIB, allocatedBytes: 0 } }
const there = (layout: Layout): Pick<Stage, 'destination'> => ({
  destination: { entries: EMPTY_IMAGE, ...layout },
})
const here = (layout: Layout): Pick<Stage, 'source'> => ({ source: { entries: IMAGE, ...layout } })
const options = (changes: Partial<MigrateOptions>): Pick<Stage, 'request'> => ({
  request: { options: { ...planRequest().options, ...changes } },
})
const listed = (name: string, state: 'running' | 'off', uuid = 'bbbb') =>
  ({ name, uuid, state, disks: ['/srv/vm/a.img'] }) as const
const begun = (role: 'source' | 'destination', uuid = 'aaaa') => ({
  open: [{ id: 'M1', role, uuid, phase: 'after save' }],
})
const oneMore = disk({ target: 'vdb', source: { kind: 'file', path: '/srv/vm/b.img' } })
const nvram = guest({ files: [{ kind: 'nvram', path: '/nvram/web.fd' }] })
const twoImages = { ...IMAGE, '/srv/vm/b.img': { sizeBytes: 64 * MIB } }

type Row = [what: string, stage: Stage, codes: string[], hint: RegExp]

const rows: Row[] = [
  [
    'warm of a guest that is off',
    { guest: guest({ state: 'off' }), request: { mode: 'warm' } },
    ['state'],
    /start it/,
  ],
  [
    'a paused guest that is to shut down',
    { guest: guest({ state: 'paused' }), request: { mode: 'cold' } },
    ['state'],
    /run/,
  ],
  ['a crashed guest', { guest: guest({ state: 'crashed' }) }, ['state'], /run/],
  [
    'live without a way to do it',
    { sourceDriver: { live: 'no' }, request: { mode: 'live' } },
    ['live'],
    /--mode warm/,
  ],
  ['a guest without disks', { guest: guest({ disks: [] }) }, ['no-disks'], /definition/],
  [
    'what the guest says of its mode',
    {
      guest: guest({
        problems: [{ code: 'snapshots', text: 'it has snapshots', hint: 'delete them', modes: ['warm'] }],
      }),
    },
    ['snapshots'],
    /delete/,
  ],
  [
    'what the destination says',
    { destinationDriver: { problems: [{ code: 'cpu', text: 'its CPU is older', hint: 'use another' }] } },
    ['cpu'],
    /another/,
  ],
  ['a migration of it that is open', begun('source'), ['open-migration'], /--continue M1.*--abort M1/],
  [
    'one that was put back, unheard of there',
    { ...begun('destination'), leftBehind: ['M1'] },
    ['open-migration'],
    /cleans that up first.*--abort M1/,
  ],
  ['one that was begun elsewhere', begun('destination'), ['open-migration'], /finish it there/],
  [
    'what a migration left here',
    { sourceDriver: { fences: [{ id: 'M1', guest: 'other', uuid: 'aaaa' }] } },
    ['moved-away'],
    /--unfence M1/,
  ],
  ['no root there', there({ facts: { isRoot: false } }), ['rights'], /--sudo/],
  ['no root here', here({ facts: { isRoot: false } }), ['rights'], /sudo/],
  [
    'a disk of another guest there, off',
    { destinationDriver: { guests: [listed('db', 'off')] } },
    ['belongs-to-guest'],
    /--map vda=/,
  ],
  [
    'a disk of another guest here, running',
    { sourceDriver: { guests: [listed('db', 'running')] } },
    ['used-by-guest'],
    /--shared vda/,
  ],
  [
    'two disks in one place',
    {
      guest: guest({ disks: [disk(), oneMore] }),
      source: { entries: twoImages },
      request: {
        chosen: { maps: [{ from: 'vdb', to: '/srv/vm/a.img' }], networks: [], disks: null, shared: [] },
      },
    },
    ['one-path'],
    /--map vdb=/,
  ],
  [
    'an nvram there',
    {
      guest: nvram,
      ...here({ entries: { ...IMAGE, '/nvram/web.fd': { text: 'a' } } }),
      ...there({ entries: { ...EMPTY_IMAGE, '/nvram/web.fd': { text: 'bb' } } }),
    },
    ['taken'],
    /rm \/nvram\/web.fd/,
  ],
  [
    'an nvram that is a directory',
    { guest: nvram, ...here({ entries: { ...IMAGE, '/nvram/web.fd': { kind: 'directory' } } }) },
    ['file-kind'],
    /definition/,
  ],
  ['clocks five minutes apart', there({ facts: { nowMs: 1_000_000 + 301_000 } }), ['clock'], /timedatectl/],
  ['no room for the state there', there({ space: { freeBytes: 150 * MIB } }), ['space'], /room/],
  ['no room for the state here', here({ space: { freeBytes: 150 * MIB } }), ['space'], /--state-dir/],
  [
    'no room for two disks together',
    {
      guest: guest({ disks: [disk(), oneMore] }),
      source: { entries: twoImages },
      destination: { entries: {}, space: { freeBytes: 290 * MIB } },
      request: { create: { kind: 'file' } },
    },
    ['space'],
    /room/,
  ],
  [
    'no room in the group',
    {
      destination: { entries: {}, programs: { vgs: { stdout: `${MIB} ${MIB}` } } },
      request: { create: { kind: 'lvm', group: 'vg1' } },
    },
    ['space'],
    /vgextend/,
  ],
  ['hooks that are not there', options({ hooksDirectory: '/etc/hooks' }), ['hooks'], /directory/],
  [
    'a directory without hooks',
    { ...here({ entries: { ...IMAGE, '/etc/hooks/x': {} } }), ...options({ hooksDirectory: '/etc/hooks' }) },
    ['hooks'],
    /leave --hook away/,
  ],
  [
    'a hook that nobody may run',
    {
      ...here({ entries: { ...IMAGE, '/etc/hooks/before-save': {} } }),
      ...options({ hooksDirectory: '/etc/hooks' }),
    },
    ['hooks'],
    /chmod \+x/,
  ],
]

describe('a migration is refused for', () => {
  it.each(rows)('%s', async (_, stage, codes, hint) => {
    const { plan, codes: found } = await played(stage)
    expect(found).toEqual(codes)
    expect(plan.problems[0]?.hint).toMatch(hint)
    expect(plan.problems[0]?.operand).not.toBe('')
  })

  it('all reasons at once', async () => {
    const { codes } = await played({
      guest: guest({ state: 'crashed', disks: [disk({ format: 'vmdk' })] }),
      ...there({ facts: { isRoot: false, nowMs: 9_000_000 } }),
      ...begun('source'),
    })
    expect(codes.toSorted()).toEqual(['clock', 'format', 'open-migration', 'rights', 'state'])
  })
})

describe('a migration is not refused for', () => {
  it.each<[string, Stage]>([
    [
      'a guest of another name that is off and has the disk here',
      { sourceDriver: { guests: [listed('db', 'off')] } },
    ],
    ['itself in the list there', { destinationDriver: { guests: [listed('web.moved-M1', 'off', 'aaaa')] } }],
    ['being paused', { guest: guest({ state: 'paused' }) }],
    ['an open migration of another guest', begun('source', 'cccc')],
    [
      'what stands in the way of another mode',
      { guest: guest({ problems: [{ code: 'x', text: '', hint: '', modes: ['live'] }] }) },
    ],
    ['room that is just enough', there({ space: { freeBytes: 180 * MIB } })],
    ['nvram that is not there yet', { guest: nvram }],
    [
      'nvram there that it left',
      {
        guest: nvram,
        destinationDriver: { fences: [{ id: 'M1', guest: 'web.moved-M1', uuid: 'aaaa' }] },
        ...here({ entries: { ...IMAGE, '/nvram/web.fd': { text: 'a' } } }),
        ...there({ entries: { ...EMPTY_IMAGE, '/nvram/web.fd': { text: 'bb' } } }),
      },
    ],
    [
      'a hook that can be run',
      {
        ...here({ entries: { ...IMAGE, '/etc/hooks/on-failure': { mode: 0o755 } } }),
        ...options({ hooksDirectory: '/etc/hooks' }),
      },
    ],
  ])('%s', async (_, stage) => {
    expect((await played(stage)).codes).toEqual([])
  })

  it.each<[string, Stage, RegExp]>([
    [
      'clocks three seconds apart',
      there({ facts: { nowMs: 1_003_000 } }),
      /clock of root@host2 is 3\.0 s ahead/,
    ],
    ['clocks behind', there({ facts: { nowMs: 990_000 } }), /10\.0 s behind/],
    ['another version', there({ facts: { blocksyncVersion: '0.2.0' } }), /0\.1\.0 here and 0\.2\.0/],
    [
      'a processor that nobody could compare',
      {
        destinationDriver: {
          problems: [{ code: 'cpu', text: 'not compared', hint: 'it may fail', weight: 'warning' }],
        },
      },
      /not compared; it may fail/,
    ],
    ['--start of a guest that runs', options({ start: 'yes' }), /--start/],
    ['--force-off where nothing is shut down', options({ forceOff: 'yes' }), /--force-off/],
  ])('%s, but it is said', async (_, stage, text) => {
    const { plan, codes } = await played(stage)
    expect([codes, plan.warnings]).toEqual([[], [expect.stringMatching(text)]])
  })
})

describe('what is not there rejects', () => {
  it('with migrate/guest for the guest', async () => {
    await expect(played({ request: { guest: 'nobody' } })).rejects.toMatchObject({
      code: 'migrate/guest',
      exitStatus: 2,
    })
  })
})

describe('the mode', () => {
  it.each([
    ['running', 'warm'],
    ['off', 'cold'],
  ] as const)('of a guest that is %s is %s', async (state, mode) => {
    expect((await played({ guest: guest({ state }) })).plan.options.mode).toBe(mode)
  })
})

describe('the estimate', () => {
  it('is of what is allocated and the memory, at the measured rate', async () => {
    const { plan } = await played({
      source: { entries: { '/srv/vm/a.img': { sizeBytes: GIB, allocatedBytes: 16 * MIB } } },
      destination: { entries: {} },
      request: { create: { kind: 'file' } },
    })
    // half a MiB took half a second more than nothing
    expect(plan.estimate).toEqual({
      bytes: 144 * MIB,
      durationMs: 144_000,
      downtimeMs: 128_000 + 1280 + 1500,
    })
  })

  it('goes by the limit where that is lower', async () => {
    const { plan } = await played({ request: { bytesPerSecond: MIB / 2 } })
    expect(plan.estimate.durationMs).toBe(2 * 192_000)
  })

  it('has no times where nothing could be measured', async () => {
    const { plan } = await played(there({ programs: { wc: { exitStatus: 127 } } }))
    expect(plan.estimate).toEqual({ bytes: 192 * MIB, durationMs: null, downtimeMs: null })
  })

  it('knows no downtime of a shutdown, and none of a guest that is off', async () => {
    const cold = await played({ request: { mode: 'cold' } })
    const off = await played({ guest: guest({ state: 'off' }) })
    expect([cold.plan.estimate.downtimeMs, off.plan.estimate.downtimeMs]).toEqual([null, 0])
  })
})
