// All digesters, with and without the native core, give the bytes of the reference: over files, holes, odd sizes, every
// geometry, O_DIRECT and loop devices; and they refuse the same things.

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'

import { afterEach, describe, expect, it } from 'vitest'

import { createDigester } from '../../src/digest/open.js'
import {
  NO_FD,
  spanDigests,
  type AlgorithmName,
  type Digester,
  type Geometry,
  type Range,
  type ReadFrom,
} from '../../src/digest/digester.js'
import { loadNative } from '../../src/native.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { parametersOf, referenceDigest, referenceSpan } from './reference.js'

const SMALL: Geometry = { blockBytes: 65536, leafBytes: 4096 }
const GEOMETRIES: readonly Geometry[] = [
  { blockBytes: 4096, leafBytes: 512 },
  { blockBytes: 4096, leafBytes: 4096 },
  SMALL,
  { blockBytes: 1 << 20, leafBytes: 512 },
  { blockBytes: 1 << 20, leafBytes: 65536 },
  { blockBytes: 2 << 20, leafBytes: 2 << 20 },
]
const SIZES = [0, 1, 8, 511, 512, 4095, 4096, 4097, 65536, 1_000_003, (2 << 20) + 517, (3 << 20) + 4096]

/** Every way to compute a digest: the pairs that exist. */
const WAYS: ReadonlyArray<{ algorithm: AlgorithmName; native: 'require' | 'off' }> = [
  { algorithm: 'xxh3-128', native: 'require' },
  { algorithm: 'xxh64x2', native: 'require' },
  { algorithm: 'xxh64x2', native: 'off' },
  { algorithm: 'sha256', native: 'off' },
]

/** Random data with zero leaves, zero blocks, and leaves with one byte that is not zero: first, last, in the middle. */
function mixedDisk(sizeBytes: number): Buffer {
  const disk = randomBytes(sizeBytes)
  for (let at = 0; at < sizeBytes; at += 3 * 4096) disk.fill(0, at, Math.min(at + 4096, sizeBytes))
  for (let at = 65536; at < sizeBytes; at += 5 * 65536) disk.fill(0, at, Math.min(at + 2 * 65536, sizeBytes))
  const marks = [4096 * 6, 4096 * 9 + 4095, 4096 * 12 + 2049, 65536 + 777]
  for (const at of marks.filter((mark) => mark < sizeBytes)) disk[at] = 1
  return disk
}

type Span = Awaited<ReturnType<typeof spanOf>>

/** The parts that are not equal in every byte: buffers are too large to print. */
function differences(got: Span, expected: ReturnType<typeof referenceSpan>): string[] {
  const keys = ['leaves', 'blocks', 'zeroLeaves', 'zeroBlocks'] as const
  const different: string[] = keys.filter((key) => Buffer.compare(got[key], expected[key]) !== 0)
  if (got.bytesRead !== expected.bytesRead)
    different.push(`bytesRead ${got.bytesRead}, expected ${expected.bytesRead}`)
  return different
}

/** Reads by the page cache, or by whatever the handle was opened for. */
function from({ fd }: { fd: number }): ReadFrom {
  return { fd, directFd: NO_FD }
}

async function spanOf(digester: Digester, handle: FileHandle, range: Range) {
  const out = spanDigests(digester.parameters.geometry, digester.digestBytes, range.length)
  const { bytes: bytesRead } = await digester.digestSpan(from(handle), range, out)
  return { bytesRead, ...out }
}

describe.each(WAYS)('$algorithm, native $native', ({ algorithm, native }) => {
  const skip = native === 'require' ? needs('native') : { skip: false }
  describe('gives the bytes of the reference', skip, () => {
    const scratch = useScratch()
    const handles: FileHandle[] = []
    let names = 0

    afterEach(async () => {
      for (const handle of handles.splice(0)) await handle.close()
    })

    async function opened(path: string, flags: number = constants.O_RDONLY): Promise<FileHandle> {
      const handle = await open(path, flags)
      handles.push(handle)
      return handle
    }

    async function holding(disk: Uint8Array): Promise<FileHandle> {
      return opened(await scratch().file(`disk${names++}`, disk))
    }

    function digesterOf(geometry: Geometry, seed?: Uint8Array): Promise<Digester> {
      return createDigester(parametersOf(algorithm, geometry, seed), loadNative(native))
    }

    it('says what it is', async () => {
      const digester = await digesterOf(SMALL)
      expect(digester.native).toBe(native === 'require')
      expect(digester.digestBytes).toBe(algorithm === 'sha256' ? 32 : 16)
      expect(digester.parameters.algorithm).toBe(algorithm)
    })

    it.each(GEOMETRIES)('digests spans of any size as the reference does: %o', async (geometry) => {
      const digester = await digesterOf(geometry)
      for (const size of SIZES) {
        const disk = mixedDisk(size)
        const range = { offset: 0, length: size }
        const got = await spanOf(digester, await holding(disk), range)
        expect(differences(got, referenceSpan(digester.parameters, disk, range)), `size ${size}`).toEqual([])
      }
    })

    it('digests a span in the middle, and several at once', async () => {
      const digester = await digesterOf(SMALL)
      const disk = mixedDisk(5_000_001)
      const handle = await holding(disk)
      const ranges = Array.from({ length: 20 }, (_, index) => ({
        offset: index * 3 * 65536,
        length: 65536 * 7,
      }))
      const spans = await Promise.all(ranges.map((range) => spanOf(digester, handle, range)))
      spans.forEach((span, index) => {
        expect(differences(span, referenceSpan(digester.parameters, disk, ranges[index] as Range))).toEqual(
          [],
        )
      })
    })

    it('stops at the end of a file that is shorter than asked', async () => {
      const digester = await digesterOf(SMALL)
      const disk = mixedDisk(100_000)
      const got = await spanOf(digester, await holding(disk), { offset: 0, length: 4 * 65536 })
      const expected = referenceSpan(digester.parameters, disk, { offset: 0, length: 4 * 65536 })
      expect(got.bytesRead).toBe(100_000)
      expect(got.leaves.subarray(0, expected.leaves.length)).toEqual(expected.leaves)
      expect(got.blocks.subarray(0, expected.blocks.length)).toEqual(expected.blocks)
      const past = await spanOf(digester, await holding(disk), { offset: 1 << 20, length: 65536 })
      expect(past.bytesRead).toBe(0)
    })

    it.each([0, constants.O_DIRECT])(
      'reads and digests scattered ranges, with open flag %i',
      async (flag) => {
        const geometry = { blockBytes: 1 << 20, leafBytes: 512 }
        const digester = await digesterOf(geometry)
        const disk = mixedDisk((3 << 20) + 100)
        const handle = await opened(await scratch().file(`disk${names++}`, disk), constants.O_RDONLY | flag)
        const ranges = [
          { offset: 512, length: 512 },
          { offset: 4608, length: 1536 },
          { offset: 1 << 20, length: (1 << 20) + 4096 },
          { offset: 3 << 20, length: 100 },
        ]
        const wanted = ranges.map((range) => disk.subarray(range.offset, range.offset + range.length))
        const total = ranges.reduce((sum, { length }) => sum + length, 0)
        const leafCount = ranges.reduce((sum, { length }) => sum + Math.ceil(length / 512), 0)
        const into = Buffer.alloc(total + 1, 0xee)
        const leaves = Buffer.alloc((leafCount + 1) * digester.digestBytes, 0xee)
        const zeroLeaves = Buffer.alloc(leafCount + 1, 0xee)
        expect(await digester.readDigested(from(handle), ranges, into, leaves, zeroLeaves)).toMatchObject({
          bytes: total,
        })
        expect(into.subarray(0, total).equals(Buffer.concat(wanted))).toBe(true)
        const spans = wanted.map((data) =>
          referenceSpan(digester.parameters, data, { offset: 0, length: data.length }),
        )
        expect(leaves.subarray(0, -digester.digestBytes)).toEqual(
          Buffer.concat(spans.map((span) => span.leaves)),
        )
        expect(zeroLeaves.subarray(0, -1)).toEqual(Buffer.concat(spans.map((span) => span.zeroLeaves)))
        // Not a byte further than what was asked for.
        expect([into.at(-1), leaves.at(-1), zeroLeaves.at(-1)]).toEqual([0xee, 0xee, 0xee])
        expect(await digester.readDigested(from(handle), [], into, leaves, zeroLeaves)).toEqual({
          bytes: 0,
          coldBytes: 0,
        })
      },
    )

    it('ends a scattered read where the file ends', async () => {
      const digester = await digesterOf(SMALL)
      const disk = mixedDisk(10_000)
      const handle = await holding(disk)
      const ranges = [
        { offset: 8192, length: 4096 },
        { offset: 0, length: 4096 },
      ]
      const into = Buffer.alloc(8192)
      const leaves = Buffer.alloc(2 * digester.digestBytes)
      expect(
        await digester.readDigested(from(handle), ranges, into, leaves, new Uint8Array(2)),
      ).toMatchObject({
        bytes: 10_000 - 8192,
      })
      expect(into.subarray(0, 1808)).toEqual(disk.subarray(8192))
    })

    it('digests memory: every length up to past the short forms, and the last item short', async () => {
      const digester = await digesterOf({ blockBytes: 8192, leafBytes: 1024 })
      const data = randomBytes(8 * 1024 + 5)
      for (let length = 1; length <= 600; length++) {
        const out = Buffer.alloc(digester.digestBytes)
        digester.digestItems(data.subarray(0, length), 600, out)
        expect(out, `length ${length}`).toEqual(
          referenceDigest(digester.parameters, data.subarray(0, length)),
        )
      }
      const leaves = Buffer.alloc(9 * digester.digestBytes)
      digester.digestLeaves(data, leaves)
      expect(leaves).toEqual(
        referenceSpan(digester.parameters, data, { offset: 0, length: data.length }).leaves,
      )
    })

    it('depends on as much of the seed as the algorithm takes', async () => {
      const data = randomBytes(4096)
      const digests = new Set<string>()
      for (const [low, high] of [
        [1, 2],
        [3, 2],
        [1, 3],
        [1, 1],
        [0, 0],
      ] as const) {
        const seed = Buffer.alloc(16)
        seed.writeBigUint64LE(BigInt(low), 0)
        seed.writeBigUint64LE(BigInt(high), 8)
        const digester = await digesterOf(SMALL, seed)
        const out = Buffer.alloc(digester.digestBytes)
        digester.digestLeaves(data, out)
        expect(out).toEqual(referenceDigest(digester.parameters, data))
        // Never 64 bits twice, also with equal halves.
        expect(out.subarray(0, 8)).not.toEqual(out.subarray(8, 16))
        digests.add(out.toString('hex'))
      }
      expect(digests.size).toBe({ 'xxh3-128': 3, xxh64x2: 5, sha256: 1 }[algorithm])
    })

    it('digests past 2 GiB and 4 GiB of a sparse file', async () => {
      const digester = await digesterOf(SMALL)
      const data = randomBytes(65536)
      const at = [2 ** 31, 2 ** 32 + 65536, 2 ** 40]
      const path = await scratch().sparseFile(
        'big',
        2 ** 40 + 65536,
        at.map((offset) => ({ offset, data })),
      )
      const handle = await opened(path)
      for (const offset of at) {
        const got = await spanOf(digester, handle, { offset, length: 65536 })
        expect(
          differences(got, referenceSpan(digester.parameters, data, { offset: 0, length: 65536 })),
        ).toEqual([])
        const before = await spanOf(digester, handle, { offset: offset - 65536, length: 65536 })
        expect([...before.zeroBlocks]).toEqual([1])
      }
    })

    it('reads a file through O_DIRECT at any alignment', async () => {
      const disk = mixedDisk((2 << 20) + 1234)
      const path = await scratch().file('direct', disk)
      const handle = await opened(path, constants.O_RDONLY | constants.O_DIRECT)
      for (const geometry of GEOMETRIES) {
        const digester = await digesterOf(geometry)
        const range = { offset: 0, length: disk.length }
        expect(
          differences(await spanOf(digester, handle, range), referenceSpan(digester.parameters, disk, range)),
        ).toEqual([])
      }
    })

    // Sizes of whole sectors that are and are not multiples of the unit of direct reads.
    it.each([4096 * 256, 4096 * 256 + 512, 4096 * 511 + 3584, 512])(
      'reads a loop device of %i bytes, buffered and direct',
      needs('loop'),
      async (size) => {
        const disk = mixedDisk(size)
        disk.fill(7, size - 300)
        const device = await scratch().loopDevice(await scratch().file(`loop${names++}`, disk))
        const geometry = { blockBytes: 65536, leafBytes: 512 }
        const digester = await digesterOf(geometry)
        for (const flags of [constants.O_RDONLY, constants.O_RDONLY | constants.O_DIRECT]) {
          const handle = await opened(device, flags)
          const range = { offset: 0, length: size }
          expect(
            differences(
              await spanOf(digester, handle, range),
              referenceSpan(digester.parameters, disk, range),
            ),
          ).toEqual([])
          const last = { offset: size - 512, length: 512 }
          const into = Buffer.alloc(512)
          expect(
            await digester.readDigested(from(handle), [last], into, Buffer.alloc(32), new Uint8Array(1)),
          ).toMatchObject({ bytes: 512 })
          expect(into).toEqual(disk.subarray(-512))
        }
      },
    )

    it('lets the event loop run while it works', async () => {
      const digester = await digesterOf(SMALL)
      const handle = await opened(await scratch().sparseFile(`disk${names++}`, 32 << 20))
      let isDone = false
      let turns = 0
      const turn = (): void => {
        turns += 1
        if (!isDone) setImmediate(turn)
      }
      setImmediate(turn)
      await spanOf(digester, handle, { offset: 0, length: 32 << 20 })
      isDone = true
      // In JavaScript a read is awaited for each MiB; the core does not use this thread at all.
      expect(turns).toBeGreaterThanOrEqual(native === 'off' ? 16 : 1)
    })

    it('gives the errno and offset of a failed read', async () => {
      // Nothing is mapped so low in this process, and the kernel answers a read of that with EIO.
      const handle = await opened('/proc/self/mem')
      const digester = await digesterOf(SMALL)
      const failed = { code: 'EIO', offset: 65536 }
      await expect(spanOf(digester, handle, { offset: 65536, length: 131072 })).rejects.toMatchObject(failed)
      const out = spanDigests(SMALL, digester.digestBytes, 4096)
      const reading = digester.readDigested(
        from(handle),
        [{ offset: 65536, length: 4096 }],
        Buffer.alloc(4096),
        out.leaves,
        out.zeroLeaves,
      )
      await expect(reading).rejects.toMatchObject(failed)
    })

    it('rejects on a descriptor that is not open', async () => {
      const digester = await digesterOf(SMALL)
      const out = spanDigests(SMALL, digester.digestBytes, 65536)
      await expect(
        digester.digestSpan({ fd: 1_000_000, directFd: NO_FD }, { offset: 0, length: 65536 }, out),
      ).rejects.toMatchObject({
        code: 'EBADF',
        offset: 0,
      })
    })

    it('refuses outputs that are too small and ranges out of step', async () => {
      const digester = await digesterOf(SMALL)
      const handle = await holding(randomBytes(131072))
      const range = { offset: 0, length: 131072 }
      const good = spanDigests(SMALL, digester.digestBytes, range.length)
      for (const key of ['leaves', 'blocks', 'zeroLeaves', 'zeroBlocks'] as const) {
        const out = { ...good, [key]: good[key].subarray(1) }
        await expect(digester.digestSpan(from(handle), range, out)).rejects.toBeInstanceOf(RangeError)
      }
      for (const bad of [
        { offset: 4096, length: 4096 },
        { offset: -65536, length: 65536 },
        { offset: 0, length: 0.5 },
      ]) {
        await expect(digester.digestSpan(from(handle), bad, good)).rejects.toBeInstanceOf(RangeError)
      }
      const ranges = [range]
      const into = Buffer.alloc(range.length)
      const refusals = [
        digester.readDigested(from(handle), ranges, into.subarray(1), good.leaves, good.zeroLeaves),
        digester.readDigested(from(handle), ranges, into, good.leaves.subarray(1), good.zeroLeaves),
        digester.readDigested(from(handle), ranges, into, good.leaves, good.zeroLeaves.subarray(1)),
        digester.readDigested(
          from(handle),
          [{ offset: 512, length: 512 }],
          into,
          good.leaves,
          good.zeroLeaves,
        ),
      ]
      for (const refusal of refusals) await expect(refusal).rejects.toBeInstanceOf(RangeError)
      expect(() => digester.digestItems(into, 4096, good.blocks)).toThrow(RangeError)
      expect(() => digester.digestItems(into, 0, good.leaves)).toThrow(RangeError)
    })
  })
})
