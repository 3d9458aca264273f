// Stale reads are real: a hypervisor's back end can change a disk below the page cache. Here a loop device is held open
// and its backing file is written; a plain read of the device shows old data, two passes of a source see the change.

import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'

import { spanDigests } from '../../src/digest/digester.js'
import type { Endpoint } from '../../src/endpoint/endpoint.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { loadNative } from '../../src/native.js'
import type { NativeCore } from '../../src/native.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { digester } from './conformance.js'

const DISK_BYTES = 1 << 20
const PAGE_BYTES = 4096
/** A page in the middle, so that no partition probe of the machine touches it. */
const PAGE_OFFSET = 8 * 65536

const scratch = useScratch()

for (const [name, native] of [
  ['native core', () => loadNative('require')],
  ['without the native core', () => null],
] as const) {
  const need = name === 'native core' ? needs('loop', 'native') : needs('loop')
  describe(`a device that changes below its cache, ${name}`, need, () => {
    it('two passes of a source over it see the change, where a cached read does not', async () => {
      const { file, device } = await filledDevice('A')
      await using held = await open(device, 'r')
      expect(await letterAt(held)).toBe('A')
      await using source = await openEndpoint(
        {
          path: device,
          role: 'source',
          access: 'read',
          create: 'never',
          createSizeBytes: 0,
          claim: 'exclusive',
        },
        native(),
      )
      const first = await pass(source, native())

      await writeLetter(file, 'B')
      // the hazard itself; if a kernel ever keeps the two coherent, this line says so
      expect(await letterAt(held)).toBe('A')

      const second = await pass(source, native())
      expect(second.letter).toBe('B')
      expect(second.block.equals(first.block)).toBe(false)
      expect(first.letter).toBe('A')
    })

    it('writing less than a page does not bring old bytes of that page back', async () => {
      const { file, device } = await filledDevice('A')
      await using held = await open(device, 'r')
      expect(await letterAt(held)).toBe('A')
      await writeLetter(file, 'B')
      await using destination = await openEndpoint(
        {
          path: device,
          role: 'destination',
          access: 'write',
          create: 'never',
          createSizeBytes: 0,
          claim: 'exclusive',
        },
        native(),
      )
      await destination.write([{ offset: PAGE_OFFSET, length: 512 }], Buffer.alloc(512, 'C'))
      await destination.flush()
      await using below = await open(file, 'r')
      const page = Buffer.alloc(PAGE_BYTES)
      await below.read(page, 0, PAGE_BYTES, PAGE_OFFSET)
      expect(page.equals(Buffer.concat([Buffer.alloc(512, 'C'), Buffer.alloc(PAGE_BYTES - 512, 'B')]))).toBe(
        true,
      )
    })
  })
}

let made = 0

async function filledDevice(letter: string): Promise<{ file: string; device: string }> {
  const file = await scratch().file(`stale-${made++}.img`, Buffer.alloc(DISK_BYTES, letter))
  return { file, device: await scratch().loopDevice(file) }
}

async function writeLetter(file: string, letter: string): Promise<void> {
  await using handle = await open(file, 'r+')
  await handle.write(Buffer.alloc(PAGE_BYTES, letter), 0, PAGE_BYTES, PAGE_OFFSET)
  await handle.sync()
}

async function letterAt(handle: FileHandle): Promise<string> {
  const page = Buffer.alloc(PAGE_BYTES)
  await handle.read(page, 0, PAGE_BYTES, PAGE_OFFSET)
  return page.toString('latin1', 0, 1)
}

async function pass(disk: Endpoint, native: NativeCore | null): Promise<{ block: Buffer; letter: string }> {
  const sha256 = await digester('sha256', native)
  const out = spanDigests(sha256.parameters.geometry, 32, 65536)
  await disk.digestSpan({ offset: PAGE_OFFSET, length: 65536 }, sha256, out)
  const page = Buffer.alloc(PAGE_BYTES)
  const range = { offset: PAGE_OFFSET, length: PAGE_BYTES }
  await disk.readDigested([range], sha256, page, Buffer.alloc(32), new Uint8Array(1))
  expect(out.leaves.length).toBe(16 * 32)
  return { block: Buffer.from(out.blocks), letter: page.toString('latin1', 0, 1) }
}
