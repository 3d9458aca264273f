// Two clones of an image on xfs and btrfs, and what was done to the image between them: what comes out as changed, and that all
// else is the same content.

import { type FileHandle, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import type { NativeCore } from '../../src/native.js'
import { changedRanges, trackable } from '../../src/track/changed-ranges.js'
import { fileSystem } from '../snapshot/worlds.js'
import { randomBytes, run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { core, GRAIN, grainsOf, KIB, MIB, randomOf, range, useFiles, useImages } from './images.js'

describe.each([
  ['xfs', ['-m', 'reflink=1']],
  ['btrfs', []],
] as const)('two clones on %s', (kind, words) => {
  describe('on a new file system', needs('native', 'loop', 'fallocate', `mkfs.${kind}`), () => {
    const images = useImages(kind, ...words)

    it('can be told apart, also when they have no name any more', async () => {
      const image = await images().make(randomBytes(MIB))
      const base = await images().opened(await images().clone(image))
      const now = await images().opened(await images().clone(image))
      await rm(image)
      expect(await trackable(base.fd)).toBe(true)
      const what = { lengthBytes: MIB, grainBytes: GRAIN }
      expect(await changedRanges(core(), base.fd, now.fd, what)).toEqual([])
      expect(await trackable((await images().opened(images().directory)).fd)).toBe(false)
    })

    it('nothing was done: nothing changed, whatever the length and the grain', async () => {
      for (const length of [GRAIN, MIB + 100, 5 * MIB]) {
        const image = await images().make(randomBytes(length))
        for (const grain of [512, GRAIN, 64 * KIB, MIB])
          expect(await images().changedBy(image, () => Promise.resolve(), grain)).toEqual([])
      }
      expect(
        await images().changedBy(await images().make(new Uint8Array(0)), () => Promise.resolve()),
      ).toEqual([])
    })

    it('a piece is written: just its grains', async () => {
      const image = await images().make(randomBytes(4 * MIB))
      const act = async (): Promise<void> => {
        await images().write(image, MIB + 100, 5000)
        await images().write(image, 3 * MIB, GRAIN)
      }
      expect(await images().changedBy(image, act)).toEqual([range(MIB, 2 * GRAIN), range(3 * MIB, GRAIN)])
      expect(await images().changedBy(image, act, 64 * KIB)).toEqual([
        range(MIB, 64 * KIB),
        range(3 * MIB, 64 * KIB),
      ])
      // the last grain ends with the disk
      const odd = await images().make(randomBytes(MIB + 100))
      expect(await images().changedBy(odd, () => images().write(odd, MIB + 50, 10))).toEqual([
        range(MIB, 100),
      ])
    })

    it('a piece is written twice, and what was in it once more: its grains', async () => {
      const data = randomBytes(MIB)
      const image = await images().make(data)
      const act = async (): Promise<void> => {
        await images().write(image, 64 * KIB, 16 * KIB)
        await run('sync', image)
        await images().write(image, 68 * KIB, 4 * KIB)
        await (await images().opened(image, 'r+')).write(data, 64 * KIB, 16 * KIB, 64 * KIB)
      }
      expect(await images().changedBy(image, act)).toEqual([range(64 * KIB, 16 * KIB)])
    })

    it('a hole is made, is there, is filled: changed', async () => {
      const image = await images().make(randomBytes(MIB))
      const hole = range(256 * KIB, 128 * KIB)
      expect(await images().changedBy(image, () => images().punch(image, hole.offset, hole.length))).toEqual([
        hole,
      ])
      expect(await images().changedBy(image, () => Promise.resolve())).toEqual([hole])
      expect(await images().changedBy(image, () => images().write(image, hole.offset, hole.length))).toEqual([
        hole,
      ])
      expect(await images().changedBy(image, () => Promise.resolve())).toEqual([])
    })

    it('blocks are laid out in advance: changed, as long as nothing is in them', async () => {
      const image = await images().make(randomBytes(MIB))
      await images().punch(image, 256 * KIB, 128 * KIB)
      const room = range(256 * KIB, 128 * KIB)
      const lay = (): Promise<string> =>
        run('fallocate', '--offset', `${room.offset}`, '--length', `${room.length}`, image)
      expect(await images().changedBy(image, lay)).toEqual([room])
      expect(await images().changedBy(image, () => Promise.resolve())).toEqual([room])
      await images().write(image, room.offset, 64 * KIB)
      expect(await images().changedBy(image, () => Promise.resolve())).toEqual([
        range(room.offset + 64 * KIB, 64 * KIB),
      ])
    })

    it('the file is longer or shorter: what is behind the end of one of them, from the grain on that it ends in', async () => {
      const image = await images().make(randomBytes(MIB + 100))
      const set = (length: number) => () => run('truncate', '--size', `${length}`, image)
      expect(await images().changedBy(image, set(MIB + 200))).toEqual([range(MIB, 200)])
      expect(await images().changedBy(image, set(2 * MIB))).toEqual([range(MIB, MIB)])
      expect(await images().changedBy(image, set(MIB / 2))).toEqual([])
      // these bytes are what they were; some kernels make the block anew for the zeros behind them
      expect([[], [range(MIB / 4, 10)]]).toContainEqual(await images().changedBy(image, set(MIB / 4 + 10)))
      expect(await images().changedBy(image, () => images().write(image, MIB / 4 + 10, MIB))).toEqual([
        range(MIB / 4, MIB + 10),
      ])
    })

    it('another image is in its place, or a part of it: no content of its own', async () => {
      const [one, other] = [await images().make(randomBytes(MIB)), await images().make(randomBytes(MIB))]
      expect(await images().changed(await images().clone(one), await images().clone(other))).toEqual([
        range(0, MIB),
      ])
    })

    it.each([1, 2, 3, 4, 5, 6])('is the same where nothing is said to have changed (%i)', async (seed) => {
      const random = randomOf(seed)
      const image = await images().make(randomBytes(8 * MIB + random(GRAIN)))
      let base = await images().clone(image)
      let [quiet, untold] = [0, 0]
      for (let round = 0; round < 3; round++) {
        const touched = new Uint8Array(Math.ceil((24 * MIB) / GRAIN))
        const touch = (offset: number, end: number): unknown =>
          touched.fill(1, Math.floor(offset / GRAIN), Math.ceil(end / GRAIN))
        let { size } = await stat(image)
        for (let step = 0; step < 60; step++) {
          const offset = random(size)
          const length = 1 + random(64 * KIB)
          const action = random(20)
          if (action === 0) {
            const next = Math.max(4 * MIB, size - 256 * KIB + random(512 * KIB))
            await run('truncate', '--size', `${next}`, image)
            touch(Math.min(size, next), 24 * MIB)
            size = next
          } else if (action === 1) {
            await run('fallocate', '--keep-size', '--offset', `${offset}`, '--length', `${length}`, image)
          } else if (action < 5) {
            await images().punch(image, offset, length)
            touch(offset, offset + length)
          } else {
            await images().write(image, offset, length)
            touch(offset, offset + length)
            size = Math.max(size, offset + length)
          }
          if (random(8) === 0) await run('sync', image)
        }
        const now = await images().clone(image)
        const [then, later] = [await readFile(base), await readFile(now)]
        const grains = grainsOf(await images().changed(base, now), later.length, GRAIN)
        const wrong = Array.from(grains.keys()).filter((grain) => {
          const [from, end] = [grain * GRAIN, Math.min((grain + 1) * GRAIN, later.length)]
          return grains[grain] === 0 && !then.subarray(from, end).equals(later.subarray(from, end))
        })
        expect(wrong).toEqual([])
        for (const [grain, told] of grains.entries()) {
          // holes are always told; nobody knows of all of them where they are
          if (
            touched[grain] === 1 ||
            then.subarray(grain * GRAIN, (grain + 1) * GRAIN).every((byte) => byte === 0)
          )
            continue
          quiet += 1
          untold += 1 - told
        }
        base = now
      }
      expect(quiet).toBeGreaterThan(500)
      expect(untold).toBe(quiet)
    })
  })
})

describe('two clones on btrfs alone', needs('native', 'loop', 'mkfs.btrfs', 'btrfs'), () => {
  const images = useImages('btrfs')

  it('all that is compressed is changed', async () => {
    await run('mount', '--options', 'remount,compress-force=zstd', images().directory)
    try {
      const plain = await images().make(randomBytes(MIB)) // it would be longer
      expect(await images().changedBy(plain, () => Promise.resolve())).toEqual([])
      const image = await images().make(Buffer.alloc(MIB, 'the same words again and again '))
      expect(await images().changedBy(image, () => Promise.resolve())).toEqual([range(0, MIB)])
    } finally {
      await run('mount', '--options', 'remount,compress=no', images().directory)
    }
  })

  it('what the file system moved in the meantime, it moved for both', needs('btrfs'), async () => {
    const image = await images().make(randomBytes(4 * MIB))
    const base = await images().opened(await images().clone(image))
    await images().write(image, MIB, GRAIN)
    const now = await images().opened(await images().clone(image))
    await run('btrfs', 'balance', 'start', '--full-balance', images().directory)
    const what = { lengthBytes: 4 * MIB, grainBytes: GRAIN }
    expect(await changedRanges(core(), base.fd, now.fd, what)).toEqual([range(MIB, GRAIN)])
  })
})

describe('files that do not say', needs('native', 'loop', 'mkfs.ext4', 'mkfs.xfs'), () => {
  const scratch = useScratch()
  const opened = useFiles()

  it('are not trackable, and refused', async () => {
    const directories = [
      await fileSystem(scratch(), 'ext4'),
      await scratch().mount('memory', 'tmpfs', '-t', 'tmpfs', '-o', 'size=1M'),
      await fileSystem(scratch(), 'xfs', '-m', 'reflink=1'),
    ]
    const files: FileHandle[] = []
    for (const directory of directories) {
      await writeFile(join(directory, 'image'), randomBytes(GRAIN))
      files.push(await opened(join(directory, 'image')))
    }
    const [ext4 = -1, memory = -1, xfs = -1] = files.map(({ fd }) => fd)
    expect(await Promise.all([ext4, memory, xfs].map(trackable))).toEqual([false, false, true])
    const what = { lengthBytes: GRAIN, grainBytes: GRAIN }
    await expect(changedRanges(core(), ext4, ext4, what)).rejects.toThrow('does not say what lies where')
    await expect(changedRanges(core(), ext4, xfs, what)).rejects.toThrow('not on one file system')
    await expect(changedRanges(core(), xfs, 1_000_000, what)).rejects.toMatchObject({ code: 'EBADF' })
    await expect(trackable(1_000_000)).rejects.toMatchObject({ code: 'EBADF' })
    const device = await opened(await scratch().loopDevice(await scratch().sparseFile('disk', MIB)))
    expect(await trackable(device.fd)).toBe(false)
    // a core without the map of a file is not taken for a file without one
    const failing: NativeCore = { ...core(), extentMap: () => Promise.reject(new Error('no map')) }
    await expect(changedRanges(failing, xfs, xfs, what)).rejects.toThrow('no map')
  })
})
