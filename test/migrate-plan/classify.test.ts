// What becomes of each kind of disk: one row a kind, with its fate, and where it is refused, why.

import { describe, expect, it } from 'vitest'

import type { GuestDisk } from '../../src/hypervisor/driver.js'
import { disk, guest, MIB, played, type Layout, type Stage } from './fakes.js'

const BLOCK = '/dev/vg/a'
const QCOW2 = '/srv/vm/q.qcow2'
const ISO = '/srv/iso/x.iso'
const SIZE = 64 * MIB

const onBlock = disk({ source: { kind: 'block', path: BLOCK } })
const qcow2 = disk({ source: { kind: 'file', path: QCOW2 }, format: 'qcow2' })
const iso = disk({ target: 'sda', device: 'cdrom', isReadOnly: true, source: { kind: 'file', path: ISO } })
const network = (protocol: string): GuestDisk =>
  disk({ source: { kind: 'network', protocol, name: 'pool/a' } })

const block = (changes: object = {}): object => ({
  kind: 'block' as const,
  sizeBytes: SIZE,
  identity: '253:0',
  ...changes,
})
const at = (path: string, entry: object = { sizeBytes: SIZE, allocatedBytes: 0 }): Layout => ({
  entries: { [path]: entry },
})
const both = (path: string, here: object, there: object): Pick<Stage, 'source' | 'destination'> => ({
  source: at(path, here),
  destination: at(path, there),
})
/** The directory of the image is one for both. */
const oneDirectory: Pick<Stage, 'destination'> = { destination: { entries: {}, sharedDirectory: '/srv/vm' } }
const chosen = { maps: [], networks: [], disks: null, shared: [] }
const vouched = { request: { chosen: { ...chosen, shared: ['vda'] } } }
const live = { request: { mode: 'live' as const } }

/** A stage of one disk. */
function withDisk(one: GuestDisk, rest: Stage = {}): Stage {
  return { ...rest, guest: guest({ disks: [one] }) }
}

type Row = [what: string, stage: Stage, kind: string, fate: string, codes: string[]]

const rows: Row[] = [
  ['an image that is there', {}, 'file', 'copied', []],
  ['a block device that is there', withDisk(onBlock, both(BLOCK, block(), block())), 'block', 'copied', []],
  [
    'qcow2, as a file',
    withDisk(qcow2, both(QCOW2, { sizeBytes: 5 * MIB }, { sizeBytes: 4 * MIB })),
    'qcow2',
    'copied',
    [],
  ],
  [
    'qcow2 with a backing file',
    withDisk(
      { ...qcow2, backing: ['/srv/base.img'] },
      { source: at(QCOW2), request: { create: { kind: 'file' } } },
    ),
    'qcow2',
    'refused',
    ['backing'],
  ],
  [
    'qcow2, live',
    withDisk(qcow2, { ...live, source: at(QCOW2), request: { mode: 'live', create: { kind: 'file' } } }),
    'qcow2',
    'refused',
    ['live-format'],
  ],
  [
    'qcow2 to a device',
    withDisk(qcow2, both(QCOW2, { sizeBytes: 5 * MIB }, block())),
    'qcow2',
    'refused',
    ['destination-kind'],
  ],
  ['vmdk', withDisk(disk({ format: 'vmdk' })), 'vmdk', 'refused', ['format']],
  [
    'an empty drive',
    withDisk(disk({ device: 'cdrom', source: { kind: 'empty' } })),
    'empty cdrom',
    'left-empty',
    ['no-disks'],
  ],
  [
    'passthrough',
    withDisk(disk({ source: { kind: 'passthrough', what: 'hostdev pci' } })),
    'passthrough',
    'refused',
    ['passthrough'],
  ],
  ...['nfs', 'rbd', 'iscsi', 'gluster', 'nbd'].map((protocol): Row => [
    `a ${protocol} disk`,
    withDisk(network(protocol)),
    protocol,
    'shared',
    [],
  ]),
  ['an image on a file system of both', { ...oneDirectory }, 'shared file', 'shared', []],
  [
    'the same on NFS',
    { ...oneDirectory, source: { ...at('/srv/vm/a.img'), space: { fileSystem: 'nfs4' } } },
    'nfs',
    'shared',
    [],
  ],
  ['one that --shared names and nobody shares', vouched, 'file', 'refused', ['not-shared']],
  [
    'one that --shared names and that is not there',
    { ...vouched, destination: { entries: {} } },
    'file',
    'refused',
    ['not-shared'],
  ],
  [
    'a directory that nothing can be written to',
    { source: { ...at('/srv/vm/a.img'), readOnly: ['/srv/vm'] } },
    'file',
    'refused',
    ['shared-unknown'],
  ],
  [
    'the same, named by --shared',
    { ...vouched, source: { ...at('/srv/vm/a.img'), readOnly: ['/srv/vm'] } },
    'shared file',
    'shared',
    [],
  ],
  [
    'a shared image that --disks names',
    { ...oneDirectory, request: { chosen: { ...chosen, disks: ['vda'] } } },
    'shared file',
    'refused',
    ['same-disk'],
  ],
  [
    'a local image that --disks leaves out',
    { request: { chosen: { ...chosen, disks: [] } } },
    'file',
    'refused',
    ['not-named'],
  ],
  [
    'shared, live, with a cache',
    withDisk(disk({ cache: null }), { ...oneDirectory, ...live }),
    'shared file',
    'refused',
    ['cache'],
  ],
  ['shared, live, without', { ...oneDirectory, ...live }, 'shared file', 'shared', []],
  [
    'an ISO that is there',
    withDisk(iso, both(ISO, { sizeBytes: MIB }, { sizeBytes: MIB })),
    'file',
    'read-only',
    [],
  ],
  [
    'an ISO of another size',
    withDisk(iso, both(ISO, { sizeBytes: MIB }, { sizeBytes: 2 * MIB })),
    'file',
    'refused',
    ['read-only-differs'],
  ],
  ['an ISO that is not there', withDisk(iso, { source: at(ISO) }), 'file', 'refused', ['read-only-missing']],
  [
    'the same with --create file',
    withDisk(iso, { source: at(ISO), request: { create: { kind: 'file' } } }),
    'file',
    'copied',
    [],
  ],
  [
    'a LUN',
    withDisk({ ...onBlock, device: 'lun' }, both(BLOCK, block(), block())),
    'block',
    'refused',
    ['lun'],
  ],
  [
    'a disk that is not there',
    withDisk(disk({ source: { kind: 'file', path: '/nowhere' } })),
    'missing',
    'refused',
    ['source-missing'],
  ],
  [
    'a volume of a pool',
    withDisk(disk({ source: { kind: 'volume', pool: 'p', volume: 'a.img', path: '/srv/vm/a.img' } })),
    'file',
    'copied',
    [],
  ],
]

describe('a disk', () => {
  it.each(rows)('%s', async (_, stage, kind, fate, codes) => {
    const { plan, codes: found, source, destination } = await played(stage)
    expect([plan.disks[0]?.kind, plan.disks[0]?.fate]).toEqual([kind, fate])
    expect(found).toEqual(codes)
    // nothing but the probe, and that is gone
    expect(
      source.changes.every((change, index) => change.startsWith(index % 2 === 0 ? 'write ' : 'remove ')),
    ).toBe(true)
    expect(source.changes.length % 2).toBe(0)
    expect(destination.changes).toEqual([])
  })

  it('that is shared is one by a file beside it, which is removed', async () => {
    const { source } = await played(oneDirectory)
    expect(source.changes).toEqual(['write /srv/vm', 'remove /srv/vm'])
    expect([...source.entries.keys()]).toEqual(['/srv/vm/a.img'])
  })
})

describe('a block device', () => {
  const device = (names: Record<string, string>, changes: object = {}): Layout => ({
    entries: {
      [BLOCK]: { ...block({ realPath: '/dev/dm-0' }), ...changes },
      ...Object.fromEntries(
        Object.entries(names).map(([name, text]) => [`/sys/dev/block/253:0/${name}`, { text: `${text}\n` }]),
      ),
    },
  })
  const stage = (source: Layout, destination: Layout, rest: Stage = {}): Stage =>
    withDisk(onBlock, { ...rest, source, destination })
  const od = (stdout: string): Layout => ({ programs: { od: { stdout } } })
  const sameBoot = { facts: { bootId: 'one' } }

  it.each<Row>([
    [
      'of one hardware number',
      stage(device({ wwid: 'naa.1' }), device({ 'device/wwid': 'naa.1' })),
      'shared block',
      'shared',
      [],
    ],
    [
      'of two hardware numbers',
      stage(device({ wwid: 'naa.1' }), device({ wwid: 'naa.2' })),
      'block',
      'copied',
      [],
    ],
    [
      'of one multipath number',
      stage(device({ 'dm/uuid': 'mpath-36001' }), device({ 'dm/uuid': 'mpath-36001' })),
      'shared block',
      'shared',
      [],
    ],
    [
      'with one LVM UUID, which may be a clone',
      stage(device({ 'dm/uuid': 'LVM-x' }), device({ 'dm/uuid': 'LVM-x' })),
      'block',
      'refused',
      ['shared-unknown'],
    ],
    [
      'with two LVM UUIDs',
      stage(device({ 'dm/uuid': 'LVM-x' }), device({ 'dm/uuid': 'LVM-y' })),
      'block',
      'copied',
      [],
    ],
    [
      'with one LVM UUID and --shared',
      stage(
        { ...device({ 'dm/uuid': 'LVM-x' }), ...od('1 2 3') },
        { ...device({ 'dm/uuid': 'LVM-x' }), ...od('1 2 3') },
        vouched,
      ),
      'shared block',
      'shared',
      [],
    ],
    [
      'that begins otherwise there, with --shared',
      stage({ ...device({}), ...od('1 2 3') }, { ...device({}), ...od('4') }, vouched),
      'block',
      'refused',
      ['not-shared'],
    ],
    [
      'of another number, with --shared',
      stage(device({ wwid: 'naa.1' }), device({ wwid: 'naa.2' }), vouched),
      'block',
      'refused',
      ['not-shared'],
    ],
    [
      'of another size, with --shared',
      stage(device({}), device({}, { sizeBytes: 2 * SIZE }), vouched),
      'block',
      'refused',
      ['not-shared'],
    ],
    [
      'of DRBD on both',
      stage(device({}, { realPath: '/dev/drbd0' }), device({}, { realPath: '/dev/drbd0' })),
      'block',
      'refused',
      ['shared-unknown'],
    ],
    [
      'of one kernel',
      stage({ ...device({}), ...sameBoot }, { ...device({}), ...sameBoot }),
      'shared block',
      'shared',
      [],
    ],
    [
      'of one kernel, but another',
      stage({ ...device({}), ...sameBoot }, { ...device({}, { identity: '253:9' }), ...sameBoot }),
      'block',
      'copied',
      [],
    ],
    [
      'that is a partition of one LUN',
      stage(device({ partition: '1', '../wwid': 'naa.1' }), device({ partition: '2', '../wwid': 'naa.1' })),
      'block',
      'copied',
      [],
    ],
  ])('%s', async (_, given, kind, fate, codes) => {
    const { plan, codes: found } = await played(given)
    expect([plan.disks[0]?.kind, plan.disks[0]?.fate, found]).toEqual([kind, fate, codes])
  })

  it('that is shared on the word of the user alone is a warning', async () => {
    const { plan } = await played(stage(device({}), device({}), vouched))
    expect(plan.warnings).toEqual([
      expect.stringContaining('vda is taken as shared because --shared says so'),
    ])
  })
})
