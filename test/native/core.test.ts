// The native core's calls on disks: holes, maps, zeroing, writing, geometry, cache; and what each refuses before it starts.

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readFile, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'

import { afterEach, beforeAll, describe, expect, it } from 'vitest'

import { loadNative, type NativeCore } from '../../src/native.js'
import { allocatedBytes, run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const CLOSED_FD = 1_000_000
const MIB = 1 << 20
const HOLE = 0
const DATA = 1
const NOTHING = new Uint8Array(0)

describe('the native core', needs('native'), () => {
  const scratch = useScratch()
  const handles: FileHandle[] = []
  let names = 0

  afterEach(async () => {
    for (const handle of handles.splice(0)) await handle.close()
  })

  function core(): NativeCore {
    const loaded = loadNative('require')
    if (loaded === null) throw new Error('require gave no core')
    return loaded
  }

  async function opened(path: string, flags: string | number = 'r+'): Promise<FileHandle> {
    const handle = await open(path, flags)
    handles.push(handle)
    return handle
  }

  async function sparse(sizeBytes: number, ...dataOffsets: number[]): Promise<FileHandle> {
    const data = randomBytes(65536)
    return opened(
      await scratch().sparseFile(
        `sparse${names++}`,
        sizeBytes,
        dataOffsets.map((offset) => ({ offset, data })),
      ),
    )
  }

  async function extentsOf(
    handle: FileHandle,
    offset: number,
    length: number,
    room = 64,
  ): Promise<number[][]> {
    const out = new Float64Array(room * 3)
    const count = await core().extents(handle.fd, offset, length, out)
    return Array.from({ length: count }, (_, index) => [...out.subarray(index * 3, index * 3 + 3)])
  }

  it('locks at once or says that somebody else has it; one lock for each open file', async () => {
    const one = await sparse(4096)
    const two = await opened(`/proc/self/fd/${one.fd}`)
    expect(core().lock(one.fd, true)).toBe(true)
    expect([core().lock(two.fd, true), core().lock(two.fd, false)]).toEqual([false, false])
    expect([core().lock(one.fd, false), core().lock(two.fd, false)]).toEqual([true, true])
    expect(core().lock(one.fd, true)).toBe(false)
    expect(() => core().lock(CLOSED_FD, true)).toThrow(expect.objectContaining({ code: 'EBADF' }))
    expect(() => core().lock(one.fd, 1 as unknown as boolean)).toThrow(TypeError)
  })

  describe('extents', () => {
    it('tells data from holes, clipped to the range and to the end of the file', async () => {
      const handle = await sparse(4 * MIB, MIB, 2 * MIB)
      expect(await extentsOf(handle, 0, 8 * MIB)).toEqual([
        [0, MIB, HOLE],
        [MIB, 65536, DATA],
        [MIB + 65536, MIB - 65536, HOLE],
        [2 * MIB, 65536, DATA],
        [2 * MIB + 65536, 2 * MIB - 65536, HOLE],
      ])
      expect(await extentsOf(handle, MIB + 4096, 4096)).toEqual([[MIB + 4096, 4096, DATA]])
      expect(await extentsOf(handle, MIB - 4096, 8192)).toEqual([
        [MIB - 4096, 4096, HOLE],
        [MIB, 4096, DATA],
      ])
      expect(await extentsOf(handle, 3 * MIB, 2 * MIB)).toEqual([[3 * MIB, MIB, HOLE]])
    })

    it('has nothing past the end and for nothing', async () => {
      const handle = await sparse(MIB, 0)
      expect(await extentsOf(handle, MIB, MIB)).toEqual([])
      expect(await extentsOf(handle, 5 * MIB, MIB)).toEqual([])
      expect(await extentsOf(handle, 0, 0)).toEqual([])
    })

    it('gives as many as fit, from the start', async () => {
      const handle = await sparse(4 * MIB, MIB, 2 * MIB)
      expect(await extentsOf(handle, 0, 4 * MIB, 2)).toEqual([
        [0, MIB, HOLE],
        [MIB, 65536, DATA],
      ])
    })

    it('works far out in a sparse file', async () => {
      const handle = await sparse(2 ** 40, 2 ** 39)
      expect(await extentsOf(handle, 0, 2 ** 40)).toEqual([
        [0, 2 ** 39, HOLE],
        [2 ** 39, 65536, DATA],
        [2 ** 39 + 65536, 2 ** 39 - 65536, HOLE],
      ])
    })

    it('is one data extent on a device', needs('loop'), async () => {
      const device = await scratch().loopDevice(await scratch().sparseFile(`image${names++}`, MIB))
      expect(await extentsOf(await opened(device, 'r'), 4096, 8192)).toEqual([[4096, 8192, DATA]])
    })
  })

  describe('extentMap', needs('loop', 'mkfs.ext4'), () => {
    /** Enough for more than one call of the kernel. */
    const PIECES = 1500
    const PIECE_BYTES = 16384
    let image = ''

    beforeAll(async () => {
      const fileSystem = await scratch().sparseFile(`fs${names++}`, 64 * MIB)
      await run('mkfs.ext4', '-q', fileSystem)
      image = join(await scratch().mount('mapped', fileSystem, '-o', 'loop'), 'image')
      const handle = await open(image, 'w')
      await handle.truncate(PIECES * PIECE_BYTES)
      for (let at = 0; at < PIECES; at++) await handle.write(randomBytes(4096), 0, 4096, at * PIECE_BYTES)
      await handle.close()
    })

    async function mapOf(
      handle: FileHandle,
      offset: number,
      length: number,
      room: number,
    ): Promise<number[][]> {
      const out = new Float64Array(room * 4)
      const count = await core().extentMap(handle.fd, offset, length, out)
      return Array.from({ length: count }, (_, index) => [...out.subarray(index * 4, index * 4 + 4)])
    }

    it('tells where data is, each piece in a place of its own, and nothing of holes', async () => {
      const map = await mapOf(await opened(image, 'r'), 0, 2 ** 40, 2 * PIECES)
      expect(map.map(([logical, , length]) => [logical, length])).toEqual(
        Array.from({ length: PIECES }, (_, at) => [at * PIECE_BYTES, 4096]),
      )
      const places = map.map(([, physical = 0]) => physical)
      expect(new Set(places).size).toBe(PIECES)
      expect(places.every((place) => place > 0 && place % 1024 === 0)).toBe(true)
      // FIEMAP_EXTENT_LAST: nothing else is to be said of them
      expect(map.map(([, , , flags]) => flags)).toEqual([...Array.from({ length: PIECES - 1 }, () => 0), 1])
    })

    it('gives as many as fit, from where it is asked', async () => {
      const handle = await opened(image, 'r')
      const whole = await mapOf(handle, 0, PIECES * PIECE_BYTES, PIECES)
      for (const room of [1, 7, 1024, 1025]) {
        const found: number[][] = []
        for (let at = 0; found.length < PIECES;) {
          const part = await mapOf(handle, at, PIECES * PIECE_BYTES - at, room)
          expect(part).toHaveLength(Math.min(room, PIECES - found.length))
          found.push(...part)
          const [logical = 0, , length = 0] = part.at(-1) ?? []
          at = logical + length
        }
        expect(found).toEqual(whole)
      }
    })

    it('is cut to the range, places too', async () => {
      const handle = await opened(image, 'r')
      const [[, first = 0] = [], [, second = 0] = []] = await mapOf(handle, 0, 2 * PIECE_BYTES, 4)
      const map = await mapOf(handle, 1000, PIECE_BYTES, 4)
      // to some file systems the last one of the range is the last one
      const LAST = 1
      expect(
        map.map(([logical, physical, length, flags = 0]) => [logical, physical, length, flags & ~LAST]),
      ).toEqual([
        [1000, first + 1000, 3096, 0],
        [PIECE_BYTES, second, 1000, 0],
      ])
      expect(await mapOf(handle, 4096, PIECE_BYTES - 4096, 4)).toEqual([])
      expect(await mapOf(handle, 0, 0, 4)).toEqual([])
      expect(await mapOf(handle, PIECES * PIECE_BYTES, MIB, 4)).toEqual([])
    })

    it('knows what was written just now, and what was only laid out', needs('fallocate'), async () => {
      const handle = await opened(`${image}-new`, 'w+')
      await handle.write(randomBytes(8192))
      await run('fallocate', '--offset', '8192', '--length', '8192', `${image}-new`)
      const map = await mapOf(handle, 0, MIB, 4)
      // FIEMAP_EXTENT_DELALLOC and _UNKNOWN of the first one are gone; _UNWRITTEN
      expect(map.map(([logical, , length, flags = 0]) => [logical, length, flags & 0x806])).toEqual([
        [0, 8192, 0],
        [8192, 8192, 0x800],
      ])
    })

    it('says why there is none', async () => {
      const memory = await scratch().mount('unmapped', 'tmpfs', '-t', 'tmpfs', '-o', 'size=1M')
      const device = await scratch().loopDevice(await scratch().sparseFile(`image${names++}`, MIB))
      await expect(mapOf(await opened(`${memory}/image`, 'w+'), 0, MIB, 1)).rejects.toMatchObject({
        code: 'EOPNOTSUPP',
        syscall: 'ioctl FS_IOC_FIEMAP',
      })
      for (const path of [device, memory])
        await expect(mapOf(await opened(path, 'r'), 4096, MIB, 1)).rejects.toMatchObject({
          code: 'ENOTTY',
          offset: 4096,
        })
      const closed = core().extentMap(CLOSED_FD, 0, 1, new Float64Array(4))
      await expect(closed).rejects.toMatchObject({ code: 'EBADF', syscall: 'fstat' })
    })
  })

  describe('zeroRanges', () => {
    it('makes a hole in a file and keeps its size', async () => {
      const data = randomBytes(MIB)
      const path = await scratch().file(`full${names++}`, data)
      const handle = await opened(path)
      await handle.sync()
      const before = await allocatedBytes(path)
      await core().zeroRanges(handle.fd, Float64Array.of(4096, MIB - 4096))
      expect(before - (await allocatedBytes(path))).toBeGreaterThanOrEqual(MIB - 8192)
      expect(
        (await readFile(path)).equals(Buffer.concat([data.subarray(0, 4096), Buffer.alloc(MIB - 4096)])),
      ).toBe(true)
      await core().zeroRanges(handle.fd, Float64Array.of(0, 100))
      await core().zeroRanges(handle.fd, Float64Array.of(0, 0))
      expect((await readFile(path)).subarray(0, 4096)).toEqual(
        Buffer.concat([Buffer.alloc(100), data.subarray(100, 4096)]),
      )
    })

    it('zeroes a device and nothing beside it', needs('loop'), async () => {
      const data = randomBytes(4 * MIB)
      const device = await scratch().loopDevice(await scratch().file(`image${names++}`, data))
      const handle = await opened(device)
      await core().zeroRanges(handle.fd, Float64Array.of(MIB, 2 * MIB))
      const expected = Buffer.concat([data.subarray(0, MIB), Buffer.alloc(2 * MIB), data.subarray(3 * MIB)])
      expect((await readFile(device)).equals(expected)).toBe(true)
      // The kernel zeroes whole sectors.
      await expect(core().zeroRanges(handle.fd, Float64Array.of(100, 100))).rejects.toMatchObject({
        code: 'EINVAL',
        offset: 100,
      })
    })

    it('says EOPNOTSUPP or its kind where it is not possible', async () => {
      await expect(core().zeroRanges(CLOSED_FD, Float64Array.of(0, 4096))).rejects.toMatchObject({
        code: 'EBADF',
      })
      const readOnly = await opened(await scratch().file(`ro${names++}`, randomBytes(4096)), 'r')
      await expect(core().zeroRanges(readOnly.fd, Float64Array.of(0, 4096))).rejects.toMatchObject({
        code: 'EBADF',
        syscall: 'fallocate',
      })
    })
  })

  describe('writeRanges', () => {
    it('writes packed data where it belongs, past 4 GiB too', async () => {
      const handle = await sparse(2 ** 33)
      const from = randomBytes(10_000)
      const ranges = Float64Array.of(5, 1000, 2 ** 32 + 1, 8000, 70_000, 0, 2 ** 33 - 1000, 1000)
      await core().writeRanges(handle.fd, -1, ranges, from, NOTHING)
      let at = 0
      for (let index = 0; index < ranges.length; index += 2) {
        const length = ranges[index + 1] as number
        const { buffer } = await handle.read(Buffer.alloc(length), 0, length, ranges[index] as number)
        expect(buffer.equals(from.subarray(at, at + length))).toBe(true)
        at += length
      }
      expect((await handle.stat()).size).toBe(2 ** 33)
    })

    it('says where a device was full', needs('root'), async () => {
      const directory = await scratch().mount('small', 'tmpfs', '-t', 'tmpfs', '-o', 'size=1M')
      const handle = await opened(`${directory}/image`, 'w+')
      const writing = core().writeRanges(
        handle.fd,
        -1,
        Float64Array.of(0, 2 * MIB),
        randomBytes(2 * MIB),
        NOTHING,
      )
      await expect(writing).rejects.toMatchObject({
        code: 'ENOSPC',
        offset: MIB,
        syscall: 'pwrite',
        errno: -28,
      })
    })

    it('rejects on a descriptor that is not open or not writable', async () => {
      const from = randomBytes(512)
      await expect(
        core().writeRanges(CLOSED_FD, -1, Float64Array.of(0, 512), from, NOTHING),
      ).rejects.toMatchObject({
        code: 'EBADF',
      })
      const readOnly = await opened(await scratch().file(`ro${names++}`, from), 'r')
      await expect(
        core().writeRanges(readOnly.fd, -1, Float64Array.of(0, 512), from, NOTHING),
      ).rejects.toMatchObject({
        code: 'EBADF',
      })
    })
  })

  describe('geometry', () => {
    it('knows the size of a file and of a device, and its sectors', needs('loop'), async () => {
      const path = await scratch().sparseFile(`image${names++}`, 3 * MIB)
      const handle = await opened(path, 'r')
      expect(core().geometry(handle.fd)).toMatchObject({
        sizeBytes: 3 * MIB,
        isBlockDevice: false,
        logicalSectorBytes: 512,
      })
      const device = await opened(await scratch().loopDevice(path, '--sector-size', '4096'), 'r')
      expect(core().geometry(device.fd)).toEqual({
        sizeBytes: 3 * MIB,
        isBlockDevice: true,
        logicalSectorBytes: 4096,
        physicalSectorBytes: 4096,
      })
    })

    it('throws on a descriptor that is not open', () => {
      expect(() => core().geometry(CLOSED_FD)).toThrow(
        expect.objectContaining({ code: 'EBADF', syscall: 'fstat' }),
      )
      expect(() => core().geometry(-1)).toThrow(expect.objectContaining({ code: 'EBADF' }))
    })
  })

  describe('dropCache', () => {
    it(
      'lets a buffered reader of a held device see what its backing file holds now',
      needs('loop'),
      async () => {
        const backing = await scratch().file(`image${names++}`, Buffer.alloc(MIB, 1))
        const device = await opened(await scratch().loopDevice(backing), constants.O_RDONLY)
        const first = async () => (await device.read(Buffer.alloc(4096), 0, 4096, 0)).buffer[0]
        expect(await first()).toBe(1)
        const file = await opened(backing)
        await file.write(Buffer.alloc(MIB, 2), 0, MIB, 0)
        await file.sync()
        expect(await first()).toBe(1)
        await core().dropCache(device.fd)
        expect(await first()).toBe(2)
      },
    )

    it('works on a file, and rejects on a closed descriptor', async () => {
      const handle = await opened(await scratch().file(`file${names++}`, randomBytes(4096)), 'r')
      await expect(core().dropCache(handle.fd)).resolves.toBeUndefined()
      await expect(core().dropCache(CLOSED_FD)).rejects.toMatchObject({ code: 'EBADF' })
    })
  })

  describe('arguments are refused before any work', () => {
    const seed = new Uint8Array(16)
    const room = new Uint8Array(4096)
    const numbers = Float64Array.of(0, 4096)
    type Row = [
      what: string,
      call: (native: Record<string, (...values: unknown[]) => unknown>) => unknown,
      error: ErrorConstructor,
    ]
    const rows: Row[] = [
      ['too few', (native) => native['digestSpan']?.(0), TypeError],
      ['fd as text', (native) => native['dropCache']?.('0'), TypeError],
      ['fd with a fraction', (native) => native['dropCache']?.(0.5), RangeError],
      ['fd out of range', (native) => native['dropCache']?.(2 ** 40), RangeError],
      ['fd not a number', (native) => native['geometry']?.(NaN), RangeError],
      ['negative offset', (native) => native['zeroRanges']?.(0, Float64Array.of(-1, 1)), RangeError],
      ['unsafe length', (native) => native['zeroRanges']?.(0, Float64Array.of(0, 2 ** 60)), RangeError],
      [
        'end past the largest disk',
        (native) => native['startWriteBack']?.(0, Number.MAX_SAFE_INTEGER, 4096),
        RangeError,
      ],
      ['infinite length', (native) => native['extents']?.(0, 0, Infinity, new Float64Array(3)), RangeError],
      ['extents without room', (native) => native['extents']?.(0, 0, 1, new Float64Array(2)), RangeError],
      ['a map without room', (native) => native['extentMap']?.(0, 0, 1, new Float64Array(3)), RangeError],
      ['a map into bytes', (native) => native['extentMap']?.(0, 0, 1, new Uint8Array(32)), TypeError],
      [
        'a map from a fraction on',
        (native) => native['extentMap']?.(0, 0.5, 1, new Float64Array(4)),
        RangeError,
      ],
      ['extents into bytes', (native) => native['extents']?.(0, 0, 1, new Uint8Array(24)), TypeError],
      [
        'half a pair',
        (native) => native['writeRanges']?.(0, -1, Float64Array.of(0, 1, 2), room, NOTHING),
        RangeError,
      ],
      [
        'data shorter than its ranges',
        (native) => native['writeRanges']?.(0, -1, Float64Array.of(0, 5000), room, NOTHING),
        RangeError,
      ],
      [
        'fewer flags than ranges',
        (native) => native['writeRanges']?.(0, -1, Float64Array.of(0, 1, 1, 1), room, new Uint8Array(1)),
        RangeError,
      ],
      [
        'ranges to drop that are none',
        (native) => native['finishWriteBack']?.(0, 0, 4096, Float64Array.of(0)),
        RangeError,
      ],
      [
        'ranges that wrap around',
        (native) => native['writeRanges']?.(0, -1, Float64Array.of(0, 2 ** 53 - 1, 0, 8), room, NOTHING),
        RangeError,
      ],
      ['a text to write', (native) => native['writeRanges']?.(0, -1, numbers, 'text', NOTHING), TypeError],
      [
        'a view that is not of bytes',
        (native) => native['writeRanges']?.(0, -1, numbers, new Uint16Array(4096), NOTHING),
        TypeError,
      ],
      [
        'leaf of 0',
        (native) => native['readDigested']?.(0, -1, numbers, 0, 1, seed, room, room, room),
        RangeError,
      ],
      [
        'leaf of 1 GiB',
        (native) => native['readDigested']?.(0, -1, numbers, 2 ** 30, 1, seed, room, room, room),
        RangeError,
      ],
      [
        'no such algorithm',
        (native) => native['readDigested']?.(0, -1, numbers, 512, 3, seed, room, room, room),
        RangeError,
      ],
      [
        'seed too short',
        (native) => native['readDigested']?.(0, -1, numbers, 512, 1, seed.subarray(1), room, room, room),
        RangeError,
      ],
      [
        'into too small',
        (native) => native['readDigested']?.(0, -1, numbers, 512, 1, seed, room.subarray(1), room, room),
        RangeError,
      ],
      [
        'block not of whole leaves',
        (native) => native['digestSpan']?.(0, -1, 0, 4096, 5000, 4096, 1, seed, room, room, room, room),
        RangeError,
      ],
      [
        'offset inside a block',
        (native) => native['digestSpan']?.(0, -1, 512, 512, 4096, 512, 1, seed, room, room, room, room),
        RangeError,
      ],
      ['item of 0', (native) => native['digestItems']?.(1, seed, room, 0, room), RangeError],
      ['out too small', (native) => native['digestItems']?.(1, seed, room, 16, room.subarray(1)), RangeError],
    ]

    it.each(rows)('%s', (_, call, error) => {
      const native = core() as unknown as Record<string, (...values: unknown[]) => unknown>
      expect(() => call(native)).toThrow(error)
    })
  })
})
