// Disks that are a part of another disk: partitions that the kernel really has. A partition and its whole disk are one,
// two partitions of one disk are two, and the file behind the disk is all of them.

import { describe, expect, it } from 'vitest'

import { isSameDisk } from '../../src/endpoint/endpoint.js'
import type { Endpoint } from '../../src/endpoint/endpoint.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { deviceNumber, devicesBelow } from '../../src/endpoint/sysfs.js'
import { loadNative } from '../../src/native.js'
import { randomBytes, run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { DESTINATION, SOURCE, expectCode } from './conformance.js'

const MIB = 1 << 20
const SECTOR_BYTES = 512
const scratch = useScratch()
const native = loadNative('auto')

type Partitioned = Readonly<{ file: string; disk: string; first: string; second: string }>

/**
 * A loop device with two partitions of a MiB. The kernel is told of them one by one (as partx does it), since it may be
 * built without any format of partition tables.
 */
async function partitioned(): Promise<Partitioned> {
  const file = await scratch().file('whole.img', randomBytes(4 * MIB))
  const disk = await scratch().loopDevice(file, '--partscan')
  const sectors = MIB / SECTOR_BYTES
  for (const number of [1, 2]) {
    await run('addpart', disk, String(number), String(number * sectors), String(sectors))
    scratch().onClose(() => run('delpart', disk, String(number)))
  }
  return { file, disk, first: `${disk}p1`, second: `${disk}p2` }
}

describe('partitions', needs('loop', 'addpart', 'delpart'), () => {
  it('are the same disk as what they lie on, and not as each other', async () => {
    const { file, disk, first, second } = await partitioned()
    const other = await scratch().loopDevice(await scratch().file('other.img', randomBytes(MIB)))
    const open = (path: string): Promise<Endpoint> => openEndpoint({ ...SOURCE, path }, native)
    await using one = await open(first)
    await using two = await open(second)
    await using whole = await open(disk)
    await using behind = await open(file)
    await using apart = await open(other)
    expect([one.info.sizeBytes, one.info.logicalSectorBytes, whole.info.sizeBytes]).toEqual([
      MIB,
      SECTOR_BYTES,
      4 * MIB,
    ])
    const same = (a: Endpoint, b: Endpoint): boolean[] => [
      isSameDisk(a.info.identity, b.info.identity),
      isSameDisk(b.info.identity, a.info.identity),
    ]
    for (const part of [one, two]) {
      expect(same(part, whole)).toEqual([true, true])
      expect(same(part, behind)).toEqual([true, true])
      expect(same(part, part)).toEqual([true, true])
      expect(same(part, apart)).toEqual([false, false])
    }
    expect(same(one, two)).toEqual([false, false])

    // What the kernel says a partition lies on is its disk; a whole disk lies on nothing.
    const below = [...(one.info.identity.within ?? [])]
    expect(below).toHaveLength(2)
    expect(whole.info.identity.aliases).toEqual(expect.arrayContaining(below))
    expect(whole.info.identity.within ?? []).toEqual([])
    const number = BigInt(Number(disk.replace('/dev/loop', '')))
    expect(await devicesBelow(deviceNumber((7n << 8n) | number))).toEqual([])

    // Claimed as a destination, a partition keeps its disk from being one.
    await using claimed = await openEndpoint({ ...DESTINATION, path: first }, native)
    await expectCode('guard/held', openEndpoint({ ...DESTINATION, path: disk }, native))
    await claimed.close()
    await using free = await openEndpoint({ ...DESTINATION, path: disk }, native)
    expect(free.info.kind).toBe('block-device')
  })
})
