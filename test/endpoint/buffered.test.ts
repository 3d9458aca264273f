// A block device that refuses O_DIRECT: it is read through the cache, which is dropped before every read, and where the
// cache cannot be dropped it is refused. open() is made to refuse here; all the rest is the real thing.

import type { Mode, PathLike } from 'node:fs'
import { constants } from 'node:fs'
import type * as fsPromises from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { describe, expect, it, vi } from 'vitest'

import { openEndpoint } from '../../src/endpoint/open.js'
import type { NativeCore } from '../../src/native.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { DESTINATION, SOURCE, cores, digester, expectCode } from './conformance.js'

vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<typeof fsPromises>()
  return {
    ...real,
    open: (path: PathLike, flags?: string | number, mode?: Mode) => {
      if (typeof flags !== 'number' || (flags & constants.O_DIRECT) === 0) return real.open(path, flags, mode)
      return Promise.reject(Object.assign(new Error('EINVAL: invalid argument, open'), { code: 'EINVAL' }))
    },
  }
})

const PAGE_BYTES = 4096
const DISK_BYTES = 1 << 20
const scratch = useScratch()

describe('a device that refuses O_DIRECT', needs('loop'), () => {
  it.each(cores())('is read fresh all the same, $name', async ({ name, core }) => {
    const file = await scratch().file(`${name}.img`, Buffer.alloc(DISK_BYTES, 'A'))
    const device = await scratch().loopDevice(file)
    await using source = await openEndpoint({ ...SOURCE, path: device }, core)
    expect(source.info.direct).toBe(false)
    const sha256 = await digester('sha256', core)
    const page = Buffer.alloc(PAGE_BYTES)
    for (const letter of ['A', 'B', 'C']) {
      await using below = await open(file, 'r+')
      await below.write(Buffer.alloc(PAGE_BYTES, letter), 0, PAGE_BYTES, 8 * 65536)
      const range = { offset: 8 * 65536, length: PAGE_BYTES }
      await source.readDigested([range], sha256, page, Buffer.alloc(32), new Uint8Array(1))
      expect(page.toString('latin1', 0, 1)).toBe(letter)
    }
  })

  it('is written and read back', async () => {
    const device = await scratch().loopDevice(await scratch().file('rw.img', Buffer.alloc(DISK_BYTES, 'A')))
    await using disk = await openEndpoint({ ...DESTINATION, path: device }, null)
    const sha256 = await digester('sha256', null)
    const page = Buffer.alloc(PAGE_BYTES)
    await disk.write([{ offset: 65536, length: PAGE_BYTES }], Buffer.alloc(PAGE_BYTES, 'W'))
    await disk.readDigested(
      [{ offset: 65536, length: PAGE_BYTES }],
      sha256,
      page,
      Buffer.alloc(32),
      new Uint8Array(1),
    )
    expect(page.equals(Buffer.alloc(PAGE_BYTES, 'W'))).toBe(true)
  })

  it.each(cores().filter(({ core }) => core !== null))(
    'is refused where its cache stays, $name',
    async ({ core }) => {
      const device = await scratch().loopDevice(await scratch().file('kept.img', Buffer.alloc(DISK_BYTES)))
      const keeps: NativeCore = Object.create(core, {
        dropCache: {
          value: () => Promise.reject(Object.assign(new Error('no such call'), { code: 'ENOSYS' })),
        },
      }) as NativeCore
      const asSource = await expectCode('source/open', openEndpoint({ ...SOURCE, path: device }, keeps))
      const asDestination = await expectCode(
        'destination/open',
        openEndpoint({ ...DESTINATION, path: device }, keeps),
      )
      expect([asSource.operand, asDestination.operand]).toEqual([device, device])
      // and the refusal let go of it: it can be claimed again
      await using again = await openEndpoint({ ...DESTINATION, path: device }, core)
      expect(again.info.sizeBytes).toBe(DISK_BYTES)
    },
  )
})
