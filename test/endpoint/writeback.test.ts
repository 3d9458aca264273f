// What is written through the page cache is bounded: every 8 MiB begin their way to the disk, and the third window before is
// waited for. A failure on that way is a failed flush, and stays one.

import { stat, truncate, writeFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import type { Endpoint } from '../../src/endpoint/endpoint.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { SyncError } from '../../src/errors.js'
import { loadNative } from '../../src/native.js'
import type { NativeCore } from '../../src/native.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { CREATE, DESTINATION, expectCode } from './conformance.js'

const MIB = 1 << 20
const LEAF_BYTES = 4096
const scratch = useScratch()

/** Every other leaf of `bytes` bytes of disk from `offset` on: half as much to write. */
function scattered(offset: number, bytes: number): Range[] {
  return Array.from({ length: bytes / LEAF_BYTES / 2 }, (_, index) => ({
    offset: offset + index * 2 * LEAF_BYTES,
    length: LEAF_BYTES,
  }))
}

describe('what waits in the page cache', needs('native'), () => {
  it('is bounded: started every 8 MiB, waited for two windows later', async () => {
    const real = loadNative('require')
    if (real === null) throw new Error('require gave no core')
    const calls: string[] = []
    const core: NativeCore = {
      ...real,
      startWriteBack: (fd, offset, length) => {
        calls.push(`start ${offset / MIB}+${Math.ceil(length / MIB)}`)
        return real.startWriteBack(fd, offset, length)
      },
      finishWriteBack: (fd, offset, length, drop) => {
        calls.push(`finish ${offset / MIB}+${Math.ceil(length / MIB)}`)
        return real.finishWriteBack(fd, offset, length, drop)
      },
    }
    const path = scratch().path('bounded.img')
    await using disk = await openEndpoint({ ...CREATE, path, createSizeBytes: 64 * MIB }, core)
    const from = randomBytes(MIB)
    for (let offset = 0; offset < 64 * MIB; offset += 2 * MIB)
      await disk.write(scattered(offset, 2 * MIB), from)
    await disk.flush()
    expect(calls).toEqual([
      'start 0+16',
      'start 16+16',
      'start 32+16',
      'finish 0+16',
      'start 48+16',
      'finish 16+16',
    ])
  })

  it('does not get long runs at all', async () => {
    const real = loadNative('require')
    if (real === null) throw new Error('require gave no core')
    let bufferedBytes = 0
    const core: NativeCore = {
      ...real,
      writeRanges: async (...words) => {
        const count = await real.writeRanges(...words)
        bufferedBytes += count.bufferedBytes
        return count
      },
    }
    const path = scratch().path('long.img')
    await using disk = await openEndpoint({ ...CREATE, path, createSizeBytes: 4 * MIB + 512 }, core)
    await disk.write([{ offset: 0, length: 4 * MIB + 512 }], randomBytes(4 * MIB + 512))
    expect(bufferedBytes).toBe(512)
    expect((await stat(path)).size).toBe(4 * MIB + 512)
  })

  it('and cannot be written back fails the flush, once and for all', needs('loop', 'mount'), async () => {
    const core = loadNative('require')
    const mountPoint = await scratch().mount('full', 'tmpfs', '-t', 'tmpfs', '-o', 'size=1M')
    const file = `${mountPoint}/disk.img`
    await writeFile(file, '')
    await truncate(file, 128 * MIB)
    const path = await scratch().loopDevice(file)
    await using disk: Endpoint = await openEndpoint({ ...DESTINATION, path }, core)
    const from = randomBytes(MIB)
    const writeAll = async (): Promise<void> => {
      for (let offset = 0; offset < 128 * MIB; offset += 2 * MIB) {
        await disk.write(scattered(offset, 2 * MIB), from)
      }
      await disk.flush()
    }
    const error = await expectCode('destination/flush', writeAll())
    expect(error).toBeInstanceOf(SyncError)
    expect(await expectCode('destination/flush', disk.flush())).toBe(error)
  })
})

describe('a device claimed by another lane of the same run', needs('loop'), () => {
  it('is opened shared, and by nobody else', async () => {
    const core = loadNative('auto')
    const path = await scratch().loopDevice(await scratch().randomFile('lanes.img', 4 * MIB))
    await using first = await openEndpoint({ ...DESTINATION, path }, core)
    await expectCode('guard/held', openEndpoint({ ...DESTINATION, path }, core))
    await using lane = await openEndpoint({ ...DESTINATION, path, claim: 'shared' }, core)
    await Promise.all([
      first.write([{ offset: 0, length: MIB }], Buffer.alloc(MIB, 1)),
      lane.write([{ offset: MIB, length: MIB }], Buffer.alloc(MIB, 2)),
    ])
    await first.flush()
    await lane.flush()
  })
})
