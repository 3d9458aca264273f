// What goes wrong after a disk was opened: it becomes shorter, its room or its device goes, its cache cannot be dropped.

import { truncate, writeFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'

import { spanDigests } from '../../src/digest/digester.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { exitStatusOf } from '../../src/errors.js'
import type { SyncError } from '../../src/errors.js'
import { loadNative } from '../../src/native.js'
import type { NativeCore } from '../../src/native.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { CREATE, DESTINATION, SOURCE, collect, cores, digester, expectCode } from './conformance.js'
import { onFileSystem } from './obstacles.js'

const MIB = 1 << 20
const scratch = useScratch()
const native = loadNative('auto')

describe('what fails while it runs', () => {
  it.each([
    ['source', SOURCE, 'source/shrank', /shorter than announced/],
    ['destination', DESTINATION, 'destination/read', /shorter/],
  ] as const)('a %s file that is cut while it is open', async (_, how, code, says) => {
    for (const { core } of cores()) {
      const path = await scratch().file('cut.img', randomBytes(MIB))
      await using disk = await openEndpoint({ ...how, path }, core)
      await truncate(path, 100_000)
      const sha256 = await digester('sha256', core)
      const out = spanDigests(sha256.parameters.geometry, 32, MIB)
      const error = await expectCode(
        code,
        disk.digestSpan({ offset: 65536, length: MIB - 65536 }, sha256, out),
      )
      expect(error.message).toMatch(says)
      expect(error.message).toContain(`${path} ended at byte 100000 of ${MIB}`)
      const ranges = [4096, 200_704].map((offset) => ({ offset, length: 4096 }))
      const read = disk.readDigested(ranges, sha256, Buffer.alloc(8192), Buffer.alloc(64), new Uint8Array(2))
      expect((await expectCode(code, read)).message).toContain('byte 200704')
      // what is missing must not be taken for a hole, that is, for zeros
      const extents = await collect(disk.extents({ offset: 0, length: MIB }))
      const lastByte = extents.find(({ offset, length }) => offset + length === MIB)
      expect(lastByte?.kind).toBe('data')
    }
  })

  it('what a cut file no longer has is no hole, even if the kernel said so', needs('native'), async () => {
    const core = loadNative('require')
    const path = await scratch().file('cut-hole.img', randomBytes(MIB))
    const asked: number[] = []
    const tellsHoles = Object.create(core, {
      extents: {
        value: (_fd: number, offset: number, length: number, out: Float64Array) => {
          asked.push(offset + length)
          out.set([offset, length, 0])
          return Promise.resolve(1)
        },
      },
    }) as NativeCore
    await using disk = await openEndpoint({ ...SOURCE, path }, tellsHoles)
    await truncate(path, 4096)
    expect(await collect(disk.extents({ offset: 0, length: MIB }))).toEqual([
      { offset: 0, length: 4096, kind: 'hole' },
      { offset: 4096, length: MIB - 4096, kind: 'data' },
    ])
    expect(asked).toEqual([4096])
  })

  it('no space left while writing', needs('root', 'mount'), async () => {
    for (const { name, core } of cores()) {
      const mountPoint = await scratch().mount(`small-${name}`, 'tmpfs', '-t', 'tmpfs', '-o', 'size=1M')
      const path = `${mountPoint}/disk.img`
      await using disk = await openEndpoint({ ...CREATE, path, createSizeBytes: 8 * MIB }, core)
      const from = randomBytes(4 * MIB)
      const error = await expectCode(
        'destination/no-space',
        disk.write([{ offset: MIB, length: 4 * MIB }], from),
      )
      expectNoSpace(error, path, MIB)
      expect(exitStatusOf(error.code)).toBe(6)
      expect(error.message).toContain('ENOSPC')
    }
  })

  it(
    'a file that would become longer than its file system allows',
    needs('loop', 'mkfs.ext4', 'mount'),
    async () => {
      const path = await onFileSystem('grow.img')(scratch())
      await using disk = await openEndpoint({ ...CREATE, path }, native)
      const error = await expectCode('destination/no-space', disk.grow(Number.MAX_SAFE_INTEGER))
      expect(error.message).toContain('EFBIG')
      expect(disk.info.sizeBytes).toBe(MIB)
    },
  )

  it.each(cores())('a device that cannot be read any more, $name', needs('loop'), async ({ core }) => {
    const file = await scratch().randomFile('lost.img', 4 * MIB)
    const path = await scratch().loopDevice(file)
    await using disk = await openEndpoint({ ...SOURCE, path }, core)
    // a loop device answers EIO for what its file does not have
    await truncate(file, 2 * MIB)
    for (const algorithm of ['sha256', 'xxh64x2'] as const) {
      const made = await digester(algorithm, core)
      const out = spanDigests(made.parameters.geometry, 32, 65536)
      const error = await expectCode(
        'source/read',
        disk.digestSpan({ offset: 3 * MIB, length: 65536 }, made, out),
      )
      expect(error.message).toContain(`${path} at byte ${3 * MIB}: input/output error (EIO)`)
      expect(exitStatusOf(error.code)).toBe(5)
    }
  })

  it.each(cores())(
    'a device that loses what was written, $name',
    needs('loop', 'mount'),
    async ({ name, core }) => {
      // the cache takes the bytes, the file system below has no room for them: only the flush can know
      const mountPoint = await scratch().mount(`full-${name}`, 'tmpfs', '-t', 'tmpfs', '-o', 'size=1M')
      const file = `${mountPoint}/disk.img`
      await writeFile(file, '')
      await truncate(file, 8 * MIB)
      const path = await scratch().loopDevice(file)
      await using disk = await openEndpoint({ ...DESTINATION, path }, core)
      await disk.write(
        Array.from({ length: 64 }, (_, index) => ({ offset: index * 131_072, length: 65_536 })),
        randomBytes(4 * MIB),
      )
      const error = await expectCode('destination/flush', disk.flush())
      expect(exitStatusOf(error.code)).toBe(6)
      // a second fsync finds clean pages and succeeds; it must not be taken for a flush
      expect(await expectCode('destination/flush', disk.flush())).toBe(error)
    },
  )
})

function expectNoSpace(error: SyncError, path: string, leastOffset: number): void {
  const byteOffset = Number(/at byte (\d+)/.exec(error.message)?.[1])
  expect(error.message).toContain(path)
  expect(byteOffset).toBeGreaterThanOrEqual(leastOffset)
  expect(error.hint).toMatch(/df -h/)
}
