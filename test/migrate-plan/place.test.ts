// Where disks go: maps, what is made, what is in the way there, and that each refusal names the path and what to type.

import { describe, expect, it } from 'vitest'

import type { JournalLine } from '../../src/host/host.js'
import { volumeOf } from '../../src/migrate/lvm.js'
import { parseMapping } from '../../src/migrate/map.js'
import { disk, guest, MIB, played, type Layout, type Stage } from './fakes.js'

const SIZE = 64 * MIB
const NOTHING: Layout = { entries: {} }
const VGS = { vgs: { stdout: `  ${1024 * MIB} ${4 * MIB}\n` } }
const map = (to: string, from = 'vda'): Pick<Stage, 'request'> => ({
  request: { chosen: { maps: [{ from, to }], networks: [], disks: null, shared: [] } },
})
const lvm = { kind: 'lvm', group: 'vg1' } as const
const there = (entry: object, programs: Layout['programs'] = {}): Pick<Stage, 'destination'> => ({
  destination: { entries: { '/srv/vm/a.img': entry }, programs },
})

describe('a copied disk', () => {
  it('is made as a file with the directories that are missing', async () => {
    const { plan, codes } = await played({
      destination: { entries: { '/srv/x': {} } },
      request: { create: { kind: 'file' } },
    })
    expect([codes, plan.disks[0]?.creation]).toEqual([[], { kind: 'file', directories: ['/srv/vm'] }])
  })

  it('goes where it is mapped, by target or by path; a slash keeps the name', async () => {
    const paths = await Promise.all(
      [map('/srv/x'), map('/srv/x', '/srv/vm/a.img'), map('/data/')].map(async (stage) => {
        const { plan } = await played({ ...stage, destination: NOTHING })
        return plan.disks[0]?.destinationPath
      }),
    )
    expect(paths).toEqual(['/srv/x', '/srv/x', '/data/a.img'])
  })

  it('becomes a volume of the group, rounded up to extents', async () => {
    const image = { '/srv/vm/a.img': { sizeBytes: SIZE + 512 } }
    const { plan, codes } = await played({
      source: { entries: image },
      destination: { programs: VGS, entries: {} },
      request: { create: lvm },
    })
    const [first] = plan.disks
    expect(codes).toEqual([])
    expect([first?.destinationPath, first?.destinationKind, first?.creation]).toEqual([
      '/dev/vg1/a',
      'block',
      { kind: 'lvm', group: 'vg1', volume: 'a' },
    ])
    expect(plan.warnings).toEqual([expect.stringContaining(`the guest will see ${SIZE + 4 * MIB} bytes`)])
    expect(plan.commands.map(({ argv }) => argv.join(' '))).toContain(
      `lvcreate --yes --zero y --wipesignatures y --name a --size ${SIZE + 512}b vg1`,
    )
  })

  it('over content is asked about, and over an empty image is not', async () => {
    const blkid = { blkid: { stdout: 'DEVNAME=/x\nLABEL=data\nTYPE=ext4\n' } }
    const { overwrites } = await played(there({ sizeBytes: SIZE }, blkid))
    expect(overwrites).toEqual([{ target: 'vda', path: '/srv/vm/a.img', what: "ext4 'data'" }])
    const { overwrites: none } = await played(there({ sizeBytes: SIZE, allocatedBytes: 0 }, blkid))
    expect(none).toEqual([])
  })

  it('over what this guest left there when it moved here is not asked about, protected or renamed', async () => {
    const fences = { destinationDriver: { fences: [{ id: 'M1', guest: 'web.moved-M1', uuid: 'aaaa' }] } }
    const blkid = { blkid: { stdout: 'TYPE=ext4\n' } }
    const back = await played({ ...fences, ...there({ sizeBytes: SIZE, isProtected: true }, blkid) })
    expect([back.codes, back.overwrites, back.cameFromThere]).toEqual([[], [], 'yes'])
    const renamed = await played({
      ...fences,
      destination: { entries: { '/srv/vm/a.img.moved-M1': { sizeBytes: SIZE } } },
    })
    expect([renamed.codes, renamed.plan.disks[0]?.creation]).toEqual([[], { kind: 'present' }])
  })

  it('is the volume that a fence of this guest has deactivated there, and no other one', async () => {
    const fences = { destinationDriver: { fences: [{ id: 'M1', guest: 'web.moved-M1', uuid: 'aaaa' }] } }
    const tagged = (tags: string, sizeBytes = SIZE): Stage => ({
      ...fences,
      ...map('/dev/vg-1/a'),
      destination: { entries: {}, programs: { 'lvs vg-1/a': { stdout: `  ${sizeBytes} ${tags}\n` } } },
    })
    const back = await played(tagged('x,blocksync-moved-M1'))
    expect([back.codes, back.overwrites, back.plan.disks[0]?.creation]).toEqual([[], [], { kind: 'present' }])
    expect((await played(tagged('blocksync-moved-M2'))).codes).toEqual(['destination-missing'])
    expect((await played(tagged(''))).codes).toEqual(['destination-missing'])
    expect((await played(tagged('blocksync-moved-M1', SIZE - 512))).codes).toEqual(['destination-size'])
  })

  it('over what a transient guest left there is known by the journal, and asked about where it is not protected any more', async () => {
    const left = (uuid: string, rest: object[] = []): Layout['journals'] => ({
      M1: [
        { type: 'begin', version: 1, at: 1, plan: { guest: { uuid } } },
        { type: 'done', step: 'fence', at: 2 },
        ...rest,
      ] as JournalLine[],
    })
    const at = (journals: Layout['journals'], isProtected: boolean): Stage => ({
      destination: {
        entries: { '/srv/vm/a.img': { sizeBytes: SIZE, isProtected } },
        programs: { blkid: { stdout: 'TYPE=ext4\n' } },
        journals: journals ?? {},
      },
    })
    const back = await played(at(left('aaaa'), true))
    expect([back.codes, back.overwrites.length, back.cameFromThere]).toEqual([[], 0, 'yes'])
    const reused = await played(at(left('aaaa'), false))
    expect([reused.codes, reused.overwrites.length]).toEqual([[], 1])
    const strange = await played(at(left('bbbb'), true))
    expect([strange.codes, strange.cameFromThere]).toEqual([['protected'], 'no'])
    const undone = await played(at(left('aaaa', [{ type: 'rollback', why: '', by: 'hand', at: 3 }]), true))
    expect(undone.codes).toEqual(['protected'])
    const unreadable = await played(at({ M1: [{ type: 'begin', version: 9 }] }, true))
    expect(unreadable.codes).toEqual(['protected'])
  })

  it('onto a larger one is a warning, and live a refusal', async () => {
    const larger = there({ sizeBytes: 2 * SIZE, allocatedBytes: 0 })
    const warm = await played(larger)
    expect([warm.codes, warm.plan.warnings]).toEqual([[], [expect.stringContaining('larger than vda')]])
    const live = await played({ ...larger, request: { mode: 'live' } })
    expect(live.codes).toEqual(['destination-size'])
  })
})

type Row = [what: string, stage: Stage, code: string, operand: string, hint: RegExp]

const lsblk = (device: object): Layout['programs'] => ({
  lsblk: { stdout: JSON.stringify({ blockdevices: [device] }) },
})
const onDevice = (programs: Layout['programs']): Stage => ({
  ...map('/dev/vg1/a'),
  destination: {
    entries: { '/dev/vg1/a': { kind: 'block', sizeBytes: SIZE, identity: '253:1' } },
    ...(programs === undefined ? {} : { programs }),
  },
})
const withCreate = (stage: Stage, create: NonNullable<Stage['request']>['create'] & object): Stage => ({
  ...stage,
  request: { ...stage.request, create },
})

const rows: Row[] = [
  ['nothing there', { destination: NOTHING }, 'destination-missing', '/srv/vm/a.img', /--create file/],
  [
    'no volume there',
    { ...map('/dev/vg1/a'), destination: NOTHING },
    'destination-missing',
    '/dev/vg1/a',
    /--create lvm:vg1 .* ssh root@host2 lvcreate .*67108864b vg1/,
  ],
  [
    'no device there',
    { ...map('/dev/sdx'), destination: NOTHING },
    'destination-missing',
    '/dev/sdx',
    /--map vda=/,
  ],
  [
    'a file in /dev',
    withCreate({ ...map('/dev/sdx'), destination: NOTHING }, { kind: 'file' }),
    'no-file-there',
    '/dev/sdx',
    /--map vda=/,
  ],
  ['a directory', there({ kind: 'directory' }), 'destination-kind', '/srv/vm/a.img', /--map vda=/],
  [
    'a smaller one',
    there({ sizeBytes: MIB, allocatedBytes: 0 }),
    'destination-size',
    '/srv/vm/a.img',
    /at least 67108864 bytes/,
  ],
  [
    'a protected one',
    there({ sizeBytes: SIZE, isProtected: true }),
    'protected',
    '/srv/vm/a.img',
    /chattr -i \/srv\/vm\/a.img/,
  ],
  [
    'a mounted one',
    onDevice(lsblk({ name: 'a', type: 'lvm', mountpoint: '/mnt' })),
    'in-use',
    '/dev/vg1/a',
    /Free it there/,
  ],
  [
    'one with a volume on it',
    onDevice(
      lsblk({
        name: 'sdb',
        type: 'disk',
        mountpoint: null,
        children: [
          {
            name: 'sdb1',
            type: 'part',
            mountpoint: null,
            children: [{ name: 'vg-x', type: 'lvm', mountpoint: null }],
          },
        ],
      }),
    ),
    'in-use',
    '/dev/vg1/a',
    /Free it there/,
  ],
  [
    'one under a loop device',
    there({ sizeBytes: SIZE }, { losetup: { stdout: '/dev/loop3\n' } }),
    'in-use',
    '/srv/vm/a.img',
    /Free it there/,
  ],
  [
    'a directory where nothing may be made',
    withCreate(
      { destination: { entries: { '/srv/vm/other': {} }, readOnly: ['/srv/vm'] } },
      { kind: 'file' },
    ),
    'not-writable',
    '/srv/vm/a.img',
    /--map vda=/,
  ],
  [
    'a volume outside of the group',
    withCreate({ ...map('/dev/vg2/a'), destination: { ...NOTHING, programs: VGS } }, lvm),
    'lvm-path',
    '/dev/vg2/a',
    /\/dev\/vg1\/NAME/,
  ],
  [
    'no such group',
    withCreate(
      { destination: { ...NOTHING, programs: { vgs: { exitStatus: 5, stderrTail: 'not found' } } } },
      lvm,
    ),
    'lvm-group',
    '/dev/vg1/a',
    /vgs/,
  ],
  [
    'no LVM',
    withCreate({ destination: { ...NOTHING, programs: { vgs: { exitStatus: 127 } } } }, lvm),
    'tools',
    '/dev/vg1/a',
    /lvm2/,
  ],
  [
    'an image as a volume',
    withCreate(
      { guest: guest({ disks: [disk({ format: 'qcow2' })] }), ...map('/dev/vg1/a'), destination: NOTHING },
      lvm,
    ),
    'lvm-image',
    '/dev/vg1/a',
    /--create file/,
  ],
  [
    'a map of no disk',
    { ...map('/x', 'vdz') },
    'no-such-disk',
    '--map vdz=/x',
    /It has vda \(\/srv\/vm\/a.img\)/,
  ],
  [
    'a map of an empty drive',
    {
      ...map('/x', 'sda'),
      guest: guest({ disks: [disk(), disk({ target: 'sda', device: 'cdrom', source: { kind: 'empty' } })] }),
    },
    'map-pathless',
    '--map sda=/x',
    /Leave/,
  ],
  [
    'two maps of one disk',
    {
      request: {
        chosen: {
          maps: [
            { from: 'vda', to: '/srv/vm/a.img' },
            { from: '/srv/vm/a.img', to: '/srv/vm/a.img' },
          ],
          networks: [],
          disks: null,
          shared: [],
        },
      },
    },
    'map-twice',
    '--map /srv/vm/a.img=/srv/vm/a.img',
    /one --map/,
  ],
  [
    'a network that it is not on',
    { request: { chosen: { maps: [], networks: [{ from: 'br7', to: 'br1' }], disks: null, shared: [] } } },
    'no-such-network',
    '--network br7=br1',
    /Leave/,
  ],
]

describe('a destination is refused:', () => {
  it.each(rows)('%s', async (_, stage, code, operand, hint) => {
    const { plan } = await played(stage)
    expect(plan.problems.map((problem) => [problem.code, problem.operand])).toEqual([[code, operand]])
    expect(plan.problems[0]?.hint).toMatch(hint)
  })
})

describe('names', () => {
  it.each([
    ['/dev/vg1/web', { group: 'vg1', volume: 'web' }],
    ['/dev/mapper/vg--a-web--root', { group: 'vg-a', volume: 'web-root' }],
    ['/dev/mapper/control', null],
    ['/dev/disk/by-id', null],
    ['/dev/sda', null],
    ['/srv/vg/web', null],
  ])('%s as a volume', (path, expected) => {
    expect(volumeOf(path)).toEqual(expected)
  })

  it.each([
    ['vda', 'is not OLD=NEW'],
    ['=/x', 'is not OLD=NEW'],
    ['vda=', 'is not OLD=NEW'],
    ['vda=x', 'is not an absolute path'],
  ])('%s is no map', (text, expected) => {
    expect(() => parseMapping('--map', text, 'path')).toThrow(expected)
  })

  it('a path with = in it is mapped as it is on the right', () => {
    expect(parseMapping('--map', 'vda=/a=b', 'path')).toEqual({ from: 'vda', to: '/a=b' })
  })
})
