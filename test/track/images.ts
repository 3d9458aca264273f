// Images on a file system of their own, copies of them that share their blocks, and what tests of src/track do to them; ranges in
// order, and numbers that are the same each time.

import { constants } from 'node:fs'
import { copyFile, type FileHandle, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { afterAll, afterEach, beforeAll } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import { loadNative, type NativeCore } from '../../src/native.js'
import { changedRanges } from '../../src/track/changed-ranges.js'
import { fileSystem } from '../snapshot/worlds.js'
import { openScratch, randomBytes, type Scratch } from '../support/disks.js'

export const KIB = 1024
export const MIB = 1 << 20
export const GRAIN = 4096

export function core(): NativeCore {
  const loaded = loadNative('require')
  if (loaded === null) throw new Error('require gave no core')
  return loaded
}

export function range(offset: number, length: number): Range {
  return { offset, length }
}

/** The same numbers for the same seed: a test that fails can be looked at. */
export function randomOf(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Which grains of a disk are in ranges; rejects ranges that are not ascending, apart, and on the grid. */
export function grainsOf(ranges: readonly Range[], lengthBytes: number, grainBytes: number): Uint8Array {
  const grains = new Uint8Array(Math.ceil(lengthBytes / grainBytes))
  let last = -1
  for (const { offset, length } of ranges) {
    const end = offset + length
    if (offset <= last || length <= 0 || offset % grainBytes !== 0 || end > lengthBytes)
      throw new Error(`not in order: ${offset} ${length} behind ${last}`)
    if (end % grainBytes !== 0 && end !== lengthBytes) throw new Error(`off the grid: ${offset} ${length}`)
    grains.fill(1, offset / grainBytes, Math.ceil(end / grainBytes))
    last = end
  }
  return grains
}

/** Files that are closed behind each test of the enclosing `describe` (or file). */
export function useFiles(): (path: string, flags?: string) => Promise<FileHandle> {
  const handles: FileHandle[] = []
  afterEach(async () => {
    for (const handle of handles.splice(0)) await handle.close()
  })
  return async (path, flags = 'r') => {
    const handle = await open(path, flags)
    handles.push(handle)
    return handle
  }
}

/** For all tests of the enclosing `describe`: images on a new file system of that kind. */
export function useImages(kind: string, ...words: readonly string[]): () => Images {
  let scratch: Scratch | null = null
  let images: Images | null = null
  const opened = useFiles()
  beforeAll(async () => {
    scratch = await openScratch()
    images = new Images(await fileSystem(scratch, kind, ...words), opened)
  })
  afterAll(async () => {
    await scratch?.close()
  })
  return () => {
    if (images === null) throw new Error('the images are only there while tests run')
    return images
  }
}

export class Images {
  readonly directory: string
  readonly opened: (path: string, flags?: string) => Promise<FileHandle>
  #names = 0

  constructor(directory: string, opened: (path: string, flags?: string) => Promise<FileHandle>) {
    this.directory = directory
    this.opened = opened
  }

  /** A path where nothing is. */
  path(): string {
    return join(this.directory, `file${this.#names++}`)
  }

  async make(data: Uint8Array): Promise<string> {
    const path = this.path()
    await writeFile(path, data)
    return path
  }

  async clone(path: string): Promise<string> {
    const to = this.path()
    await copyFile(path, to, constants.COPYFILE_FICLONE_FORCE)
    return to
  }

  async write(path: string, offset: number, length: number): Promise<void> {
    await using handle = await open(path, 'r+')
    await handle.write(randomBytes(length), 0, length, offset)
  }

  async punch(path: string, offset: number, length: number): Promise<void> {
    await using handle = await open(path, 'r+')
    await core().zeroRanges(handle.fd, Float64Array.of(offset, length))
  }

  async changed(base: string, now: string, grainBytes = GRAIN): Promise<readonly Range[]> {
    const [one, other] = [await this.opened(base), await this.opened(now)]
    const { size } = await other.stat()
    return await changedRanges(core(), one.fd, other.fd, { lengthBytes: size, grainBytes })
  }

  /** What a clone before and one behind `act` differ in. */
  async changedBy(image: string, act: () => Promise<unknown>, grainBytes = GRAIN): Promise<readonly Range[]> {
    const base = await this.clone(image)
    await act()
    return await this.changed(base, await this.clone(image), grainBytes)
  }
}
