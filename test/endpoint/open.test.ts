// What opening makes, whose disk it says it is, and the fallback where a device refuses O_DIRECT.

import { readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'

import { isSameDisk } from '../../src/endpoint/endpoint.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { deviceNumber } from '../../src/endpoint/sysfs.js'
import { splitAtUnits } from '../../src/endpoint/zero.js'
import { loadNative } from '../../src/native.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { CREATE, DESTINATION, DRY_RUN, SOURCE, expectCode } from './conformance.js'

const MIB = 1 << 20
const scratch = useScratch()
const native = loadNative('auto')

describe('what is made', () => {
  it('a missing file: sparse, of the asked size, for its owner only', async () => {
    const path = scratch().path('new.img')
    await using disk = await openEndpoint({ ...CREATE, path, createSizeBytes: 64 * MIB + 1 }, native)
    expect(disk.info).toMatchObject({ created: true, sizeBytes: 64 * MIB + 1, kind: 'file' })
    const facts = await stat(path)
    expect({ size: facts.size, mode: facts.mode & 0o777 }).toEqual({ size: 64 * MIB + 1, mode: 0o600 })
    expect(facts.blocks * 512).toBeLessThan(MIB)
    await disk.write([{ offset: 64 * MIB, length: 1 }], Buffer.of(9))
    await disk.flush()
    expect((await readFile(path)).at(-1)).toBe(9)
  })

  it('an empty file is taken as new, in a write with --create only', async () => {
    const path = await scratch().file('empty.img', Buffer.alloc(0))
    for (const how of [DESTINATION, DRY_RUN]) {
      await using disk = await openEndpoint({ ...how, path }, native)
      expect(disk.info).toMatchObject({ created: false, sizeBytes: 0 })
    }
    await using disk = await openEndpoint({ ...CREATE, path }, native)
    expect(disk.info).toMatchObject({ created: true, sizeBytes: MIB })
  })

  it.each(['missing', 'empty'])(
    'a dry run with --create has a hole where a %s file would get its size',
    async (what) => {
      const path = scratch().path('dry.img')
      if (what === 'empty') await writeFile(path, '')
      await using disk = await openEndpoint({ ...CREATE, access: 'read', path }, native)
      expect(disk.info).toMatchObject({ created: true, sizeBytes: MIB })
      const extents = []
      for await (const extent of disk.extents({ offset: 0, length: MIB })) extents.push(extent)
      expect(extents).toEqual([{ offset: 0, length: MIB, kind: 'hole' }])
      await expectCode('internal', disk.write([{ offset: 0, length: 1 }], Buffer.of(1)))
      await expectCode('internal', disk.zero([{ offset: 0, length: 1 }]))
      if (what === 'empty') expect((await stat(path)).size).toBe(0)
      else await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' })
    },
  )

  it('a file that is not empty keeps its size and its bytes', async () => {
    const data = randomBytes(5000)
    const path = await scratch().file('old.img', data)
    await using disk = await openEndpoint({ ...CREATE, path }, native)
    expect(disk.info).toMatchObject({ created: false, sizeBytes: 5000 })
    await disk.close()
    expect((await readFile(path)).equals(data)).toBe(true)
  })

  it('a source is never to be written or made', async () => {
    const path = await scratch().file('source.img', randomBytes(512))
    const asDestination = await expectCode(
      'internal',
      openEndpoint({ ...SOURCE, path, access: 'write' }, native),
    )
    const asNew = await expectCode(
      'internal',
      openEndpoint({ ...SOURCE, path, create: 'if-missing' }, native),
    )
    expect([asDestination.operand, asNew.operand]).toEqual([path, path])
  })
})

describe('identity', () => {
  it('two names of one file are the same disk, two files are not', async () => {
    const path = await scratch().file('one.img', randomBytes(512))
    const link = scratch().path('link.img')
    await symlink(path, link)
    const other = await scratch().file('two.img', randomBytes(512))
    await using a = await openEndpoint({ ...SOURCE, path }, native)
    await using b = await openEndpoint({ ...DESTINATION, path: link }, native)
    await using c = await openEndpoint({ ...DESTINATION, path: other }, native)
    expect(isSameDisk(a.info.identity, b.info.identity)).toBe(true)
    expect(isSameDisk(a.info.identity, c.info.identity)).toBe(false)
    expect(b.info.path).toBe(link)
  })

  it('a loop device is the same disk as its file, and as a loop device over it', needs('loop'), async () => {
    const path = await scratch().file('below.img', randomBytes(MIB))
    const device = await scratch().loopDevice(path)
    const above = await scratch().loopDevice(device)
    await using file = await openEndpoint({ ...SOURCE, path }, native)
    await using loop = await openEndpoint({ ...SOURCE, path: device }, native)
    await using tower = await openEndpoint({ ...SOURCE, path: above }, native)
    expect(isSameDisk(file.info.identity, loop.info.identity)).toBe(true)
    expect(isSameDisk(file.info.identity, tower.info.identity)).toBe(true)
    expect(isSameDisk(loop.info.identity, tower.info.identity)).toBe(true)
    expect(loop.info.identity.aliases).toHaveLength(2)
  })
})

describe('small parts', () => {
  it('device numbers beyond eight bits', () => {
    expect(deviceNumber(0x0705n)).toEqual({ major: 7, minor: 5 })
    // makedev(259, 70000) of the C library
    expect(deviceNumber(0x11110370n)).toEqual({ major: 259, minor: 0x11170 })
    expect(deviceNumber(0x1000_0000_0000n)).toEqual({ major: 0x1000, minor: 0 })
  })

  it('whole units of a range and what sticks out', () => {
    const split = (offset: number, length: number) => splitAtUnits({ offset, length }, 4096)
    expect(split(4096, 8192)).toEqual({ inner: { offset: 4096, length: 8192 }, rest: [] })
    expect(split(512, 1024)).toEqual({
      inner: { offset: 512, length: 0 },
      rest: [{ offset: 512, length: 1024 }],
    })
    expect(split(4000, 4400)).toEqual({
      inner: { offset: 4096, length: 4096 },
      rest: [
        { offset: 4000, length: 96 },
        { offset: 8192, length: 208 },
      ],
    })
  })
})
