// Names of a disk that outlive a boot: from trees of /sys and udev's database made here, and of real files and devices.

import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import type { BigIntStats } from 'node:fs'
import { stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { MAX_NAME_UNITS, stableNames } from '../../src/endpoint/stable.js'
import { checkedStable } from '../../src/state/record.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

let base = ''
beforeEach(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), 'blocksync-stable-')))
})
afterEach(() => rmSync(base, { recursive: true, force: true }))

/** What stat says of a device 8:`minor`. */
function device(minor: number): BigIntStats {
  return { isBlockDevice: () => true, rdev: BigInt((8 << 8) | minor) } as BigIntStats
}

/** Files of /sys for devices, a link in dev/block for each as the kernel has it, and udev's database. */
function roots(files: Readonly<Record<string, string>>, links: Readonly<Record<string, string>>) {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(base, name)), { recursive: true })
    writeFileSync(join(base, name), text)
  }
  mkdirSync(join(base, 'sys/dev/block'), { recursive: true })
  for (const [key, to] of Object.entries(links))
    symlinkSync(join(base, 'sys', to), join(base, 'sys/dev/block', key))
  return { sys: join(base, 'sys'), udev: join(base, 'udev') }
}

describe('stableNames', () => {
  it('of a logical volume: the uuid of device mapper, and the name it has on each boot', async () => {
    const files = { 'sys/devices/dm-3/dm/uuid': 'LVM-abc\n', 'sys/devices/dm-3/dm/name': 'vg-web\n' }
    expect(await stableNames('/dev/vg/web', device(3), roots(files, { '8:3': 'devices/dm-3' }))).toEqual([
      'dm:LVM-abc',
      'path:/dev/mapper/vg-web',
    ])
  })

  it('of a drive and its partition: the number of the hardware before the UUID of the partition', async () => {
    const files = {
      'sys/devices/sda/device/wwid': 't10.ATA     QEMU HARDDISK   \n',
      'sys/devices/sda/sda1/partition': '1\n',
      'sys/devices/sda/sda1/uevent': 'MAJOR=8\nPARTUUID=from-uevent\n',
      'udev/data/b8:1': 'S:disk/by-partlabel/x\nE:ID_PART_ENTRY_UUID=ABCD-01\nE:ID_FS_TYPE=ext4\n',
    }
    const links = { '8:0': 'devices/sda', '8:1': 'devices/sda/sda1' }
    const where = roots(files, links)
    expect(await stableNames('/dev/sda', device(0), where)).toEqual([
      'wwid:t10.ATA%20%20%20%20%20QEMU%20HARDDISK',
      'path:/dev/sda',
    ])
    expect(await stableNames('/dev/sda1', device(1), where)).toEqual([
      'wwid:t10.ATA%20%20%20%20%20QEMU%20HARDDISK-part1',
      'part:abcd-01',
      'path:/dev/sda1',
    ])
    rmSync(join(base, 'udev'), { recursive: true })
    expect(await stableNames('/dev/sda1', device(1), where)).toContain('part:from-uevent')
  })

  it('of a virtio disk its serial, of an NVMe its wwid, of a RAID its uuid', async () => {
    const files = {
      'sys/devices/vda/serial': 'root-disk\n',
      'sys/devices/nvme0n1/wwid': 'eui.0025\n',
      'sys/devices/md0/md/uuid': '0123-45\n',
      'udev/data/b8:4': 'E:MD_UUID=aa:bb\n',
      'sys/devices/md1/size': '8\n',
    }
    const links = {
      '8:1': 'devices/vda',
      '8:2': 'devices/nvme0n1',
      '8:3': 'devices/md0',
      '8:4': 'devices/md1',
    }
    const where = roots(files, links)
    expect(await stableNames('/dev/vda', device(1), where)).toEqual(['wwid:root-disk', 'path:/dev/vda'])
    expect(await stableNames('/dev/nvme0n1', device(2), where)).toEqual([
      'wwid:eui.0025',
      'path:/dev/nvme0n1',
    ])
    expect(await stableNames('/dev/md0', device(3), where)).toEqual(['md:0123-45', 'path:/dev/md0'])
    expect(await stableNames('/dev/md1', device(4), where)).toEqual(['md:aa:bb', 'path:/dev/md1'])
  })

  it('of a loop device the file behind it, also of its partitions', async () => {
    const files = {
      'sys/devices/loop7/loop/backing_file': '/srv/a disk.img\n',
      'sys/devices/loop7/loop7p2/partition': '2\n',
      'udev/data/b8:8': 'E:ID_PART_ENTRY_UUID=the-same-in-each-copy\n',
    }
    const where = roots(files, { '8:7': 'devices/loop7', '8:8': 'devices/loop7/loop7p2' })
    expect(await stableNames('/dev/loop7', device(7), where)).toEqual(['path:/srv/a%20disk.img'])
    expect(await stableNames('/dev/loop7p2', device(8), where)).toEqual(['path:/srv/a%20disk.img-part2'])
  })

  it('of a file its path without links, also where it is not there yet', async () => {
    mkdirSync(join(base, 'real'))
    symlinkSync(join(base, 'real'), join(base, 'link'))
    writeFileSync(join(base, 'real/a.img'), '')
    const facts = await stat(join(base, 'link/a.img'), { bigint: true })
    expect(await stableNames(join(base, 'link/a.img'), facts)).toEqual([`path:${base}/real/a.img`])
    expect(await stableNames(join(base, 'link/b.img'), null)).toEqual([`path:${base}/real/b.img`])
    expect(await stableNames(join(base, 'link/none/b.img'), null)).toEqual([`path:${base}/real/none/b.img`])
  })

  it('are short and printable whatever the path is, and different for different paths', async () => {
    const odd = [
      '\u001b[2J',
      '\u00e9',
      'a b',
      '100%',
      'x'.repeat(200),
      `${'y/'.repeat(300)}a`,
      `${'y/'.repeat(300)}b`,
    ]
    const names = await Promise.all(
      odd.map(async (name) => (await stableNames(join(base, name), null))[0] ?? ''),
    )
    expect(new Set(names).size).toBe(odd.length)
    for (const name of names) {
      expect(name.length).toBeLessThanOrEqual(MAX_NAME_UNITS)
      const identity = { machineId: '0'.repeat(32), hostName: 'h', names: [name] }
      expect(checkedStable(identity)).toEqual(identity)
    }
  })
})

describe('on this machine', () => {
  const scratch = useScratch()
  it('a loop device has the name of its file', needs('loop'), async () => {
    const on = scratch()
    const file = await on.sparseFile('disk.img', 1 << 20)
    const loop = await on.loopDevice(file)
    expect(await stableNames(loop, await stat(loop, { bigint: true }))).toEqual([
      `path:${realpathSync(file)}`,
    ])
  })
})
