// What only volumes of LVM have: areas that run full, groups without room, several names for one device. Run in the emulated
// machine (inside.ts), beside what all kinds of snapshots have to do.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { symlink } from 'node:fs/promises'

import { openSnapshots } from '../../../src/snapshot/open.js'
import { refusal, requestFor, type Check } from '../../snapshot/conformance.js'

const MIB = 1 << 20
const BOTH = ['lvm', 'lvm-thin'] as const

function lvm(...words: readonly string[]): string {
  const [program = '', ...rest] = words
  return execFileSync(program, rest, { encoding: 'utf8', timeout: 60_000, stdio: ['ignore', 'pipe', 'pipe'] })
}

/** More than a snapshot of 4 MiB keeps. */
function overwrite(disk: string): void {
  execFileSync('dd', ['if=/dev/urandom', `of=${disk}`, 'bs=1M', 'count=16', 'conv=fsync'], { stdio: 'pipe' })
}

export const VOLUME_CHECKS: readonly Check[] = [
  {
    name: 'links and names of device-mapper lead to the volume',
    kinds: BOTH,
    run: async (world) => {
      const [one] = world.disks
      const mapped = `/dev/mapper/${one.replace('/dev/', '').replaceAll('-', '--').replace('/', '-')}`
      const link = `/tmp/link-${process.pid}-${world.method.kind}`
      await symlink(one, link)
      await world.write(one, 5)
      for (const disk of [mapped, link]) {
        const request = requestFor(world, { disks: [disk] })
        const cut = await world.method.cut(world.host, request)
        assert.equal(cut.disks[0]?.original, disk)
        assert.equal(await world.read(cut.disks[0]?.path ?? ''), 5)
        assert.equal((await world.method.removeOrphans(world.host, request)).length, 1)
      }
    },
  },
  {
    name: 'a snapshot that ran full is found out, and can be removed',
    kinds: ['lvm'],
    run: async (world) => {
      const { host, disks } = world
      const small = openSnapshots({ kind: 'lvm', size: { bytes: 4 * MIB } })
      const request = requestFor(world, { disks: [disks[0]] })
      const cut = await small.cut(host, request)
      await small.check(host, request, cut)
      overwrite(disks[0])
      const failure = await refusal(small.check(host, request, cut))
      assert.match(failure.message, /ran full/)
      await assert.rejects(world.read(cut.disks[0]?.path ?? ''))
      await small.remove(host, request, cut)
      assert.deepEqual(await world.left(), [])
    },
  },
  {
    name: 'a thin snapshot has room for all that its pool has',
    kinds: ['lvm-thin'],
    run: async (world) => {
      const request = requestFor(world, { disks: [world.disks[0]] })
      await world.write(world.disks[0], 9)
      const cut = await world.method.cut(world.host, request)
      overwrite(world.disks[0])
      await world.method.check(world.host, request, cut)
      assert.equal(await world.read(cut.disks[0]?.path ?? ''), 9)
      await world.method.remove(world.host, request, cut)
    },
  },
  {
    name: 'a snapshot that somebody removed is found out',
    kinds: BOTH,
    run: async (world) => {
      const cut = await world.method.cut(world.host, requestFor(world))
      await world.lose(cut.disks[1]?.path ?? '')
      assert.match((await refusal(world.method.check(world.host, requestFor(world), cut))).message, /is gone/)
      await world.method.remove(world.host, requestFor(world), cut)
    },
  },
  {
    name: 'a group without room says what is free, and nothing is left of the first disk',
    kinds: ['lvm'],
    run: async (world) => {
      const free = Number(lvm('vgs', '--noheadings', '--nosuffix', '--units', 'm', '-o', 'vg_free', 'vg0'))
      lvm(
        'lvcreate',
        '--yes',
        '-Zn',
        '-Wn',
        '--size',
        `${Math.floor(free / 4) * 4 - 20}m`,
        '--name',
        'rest',
        'vg0',
      )
      try {
        const method = openSnapshots({ kind: 'lvm', size: { bytes: 16 * MIB } })
        const failure = await refusal(method.cut(world.host, requestFor(world)))
        assert.match(
          failure.message,
          /vg0 on this host has no room for a snapshot of .*two: \d+ MiB are free/,
        )
        assert.match(failure.hint ?? '', /snapshot_size/)
        assert.deepEqual(await world.left(), [])
      } finally {
        lvm('lvremove', '--yes', 'vg0/rest')
      }
    },
  },
  {
    name: 'the size may be a share of the volume',
    kinds: ['lvm'],
    run: async (world) => {
      const method = openSnapshots({ kind: 'lvm', size: { percent: 50 } })
      const request = requestFor(world, { disks: [world.disks[0]] })
      const cut = await method.cut(world.host, request)
      const size = lvm(
        'lvs',
        '--noheadings',
        '--nosuffix',
        '--units',
        'm',
        '-o',
        'lv_size',
        cut.disks[0]?.path ?? '',
      )
      const area = lvm('lvs', '--noheadings', '-o', 'seg_size_pe', cut.disks[0]?.path ?? '')
      assert.ok(Number(size) > 0 && area.trim() !== '')
      overwrite(world.disks[0])
      await method.check(world.host, request, cut)
      await method.remove(world.host, request, cut)
    },
  },
  {
    name: 'a thin volume may have a thick snapshot, too',
    kinds: ['lvm'],
    run: async (world) => {
      const request = requestFor(world, { disks: ['/dev/vg0/thin-one'] })
      await world.write('/dev/vg0/thin-one', 4)
      const cut = await world.method.cut(world.host, request)
      await world.write('/dev/vg0/thin-one', 5)
      await world.method.check(world.host, request, cut)
      assert.equal(await world.read(cut.disks[0]?.path ?? ''), 4)
      await world.method.remove(world.host, request, cut)
    },
  },
  {
    name: 'a thick volume is no thin one, and a device without LVM is neither',
    kinds: ['lvm-thin'],
    run: async (world) => {
      const thick = requestFor(world, { disks: ['/dev/vg0/thick-one'] })
      assert.match((await refusal(world.method.cut(world.host, thick))).hint ?? '', /snapshot: lvm$/)
      const device = requestFor(world, { disks: ['/dev/vda'] })
      assert.match((await refusal(world.method.cut(world.host, device))).message, /no volume of LVM/)
    },
  },
]
