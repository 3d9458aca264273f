// What the core does with the page cache: cold data is read around it and leaves no trace, dirty data is never missed, long
// runs are written around it, short ones through it. On an ext4 of the test's own, where what is cached can be said for sure.

import { constants } from 'node:fs'
import { open, readFile, type FileHandle } from 'node:fs/promises'

import { afterEach, describe, expect, it } from 'vitest'

import { loadNative, type CoreReadCount, type NativeCore } from '../../src/native.js'
import { randomBytes, run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const MIB = 1 << 20
const KIB = 1024
const FILE_BYTES = 8 * MIB + 5 * KIB + 3
const LEAF_BYTES = 4096
const SEED = new Uint8Array(16).fill(7)
const NOTHING = new Uint8Array(0)
const NO_FD = -1

describe('the page cache', needs('native', 'loop', 'mkfs.ext4', 'mount'), () => {
  const scratch = useScratch()
  const handles: FileHandle[] = []
  let mounted = 0

  afterEach(async () => {
    for (const handle of handles.splice(0)) await handle.close()
  })

  function core(): NativeCore {
    const loaded = loadNative('require')
    if (loaded === null) throw new Error('require gave no core')
    return loaded
  }

  async function fileSystem(sizeBytes: number): Promise<string> {
    const image = await scratch().sparseFile(`fs${mounted}.img`, sizeBytes)
    await run('mkfs.ext4', '-q', '-F', '-O', '^has_journal', image)
    return await scratch().mount(`fs${mounted++}`, image, '-o', 'loop')
  }

  /** A file with these bytes, all of it on the disk below and none of it in the page cache. */
  async function cold(data: Buffer): Promise<{ path: string; plain: FileHandle; around: FileHandle }> {
    const path = `${await fileSystem(64 * MIB)}/disk.img`
    const plain = await open(path, 'w+')
    handles.push(plain)
    await plain.write(data, 0, data.length, 0)
    await plain.sync()
    await core().dropCache(plain.fd)
    const around = await open(path, constants.O_RDWR | constants.O_DIRECT)
    handles.push(around)
    return { path, plain, around }
  }

  async function digested(
    fd: number,
    directFd: number,
    length: number,
  ): Promise<CoreReadCount & { leaves: Buffer }> {
    const leaves = Buffer.alloc(Math.ceil(length / LEAF_BYTES) * 16)
    const flags = new Uint8Array(Math.ceil(length / LEAF_BYTES))
    const blocks = Buffer.alloc(Math.ceil(length / MIB) * 16)
    const found = await core().digestSpan(
      fd,
      directFd,
      0,
      length,
      MIB,
      LEAF_BYTES,
      1,
      SEED,
      leaves,
      blocks,
      flags,
      new Uint8Array(Math.ceil(length / MIB)),
    )
    return { ...found, leaves }
  }

  function leavesOf(data: Uint8Array): Buffer {
    const leaves = Buffer.alloc(Math.ceil(data.length / LEAF_BYTES) * 16)
    core().digestItems(1, SEED, data, LEAF_BYTES, leaves)
    return leaves
  }

  it('stays as it was when a cold file is read, and tells that it was cold', async () => {
    const data = randomBytes(FILE_BYTES)
    const { plain, around } = await cold(data)
    for (const round of ['first', 'second']) {
      const found = await digested(plain.fd, around.fd, FILE_BYTES)
      expect(found.leaves.equals(leavesOf(data)), round).toBe(true)
      expect(found, round).toMatchObject({ bytes: FILE_BYTES, coldBytes: FILE_BYTES })
    }
    // read through the cache, the same file is no longer cold
    expect(await digested(plain.fd, NO_FD, FILE_BYTES)).toMatchObject({ bytes: FILE_BYTES, coldBytes: 0 })
    expect(await digested(plain.fd, around.fd, FILE_BYTES)).toMatchObject({ bytes: FILE_BYTES, coldBytes: 0 })
  })

  it('never hides what is dirty in it, whatever mix of cached, cold and dirty', async () => {
    const data = randomBytes(FILE_BYTES)
    const { plain, around } = await cold(data)
    await plain.read(Buffer.alloc(2 * MIB), 0, 2 * MIB, MIB)
    for (const offset of [100, MIB + 5000, 4 * MIB - 10, 6 * MIB, FILE_BYTES - 3]) {
      const change = randomBytes(Math.min(9000, FILE_BYTES - offset))
      change.copy(data, offset)
      await plain.write(change, 0, change.length, offset)
    }
    const found = await digested(plain.fd, around.fd, FILE_BYTES)
    expect(found.leaves.equals(leavesOf(data))).toBe(true)
    expect(found.coldBytes).toBeGreaterThan(0)
    expect(found.coldBytes).toBeLessThan(FILE_BYTES)
  })

  it('is gone around for scattered leaves too, adjacent ones in one read', async () => {
    const data = randomBytes(FILE_BYTES)
    const { plain, around } = await cold(data)
    const tail = FILE_BYTES - (FILE_BYTES % LEAF_BYTES)
    const ranges = [0, 4096, 8192, 4096, 3 * MIB, 2 * MIB, tail, FILE_BYTES - tail]
    const into = Buffer.alloc(8192 + 2 * MIB + FILE_BYTES - tail)
    const leaves = Buffer.alloc(Math.ceil(into.length / LEAF_BYTES) * 16)
    const flags = new Uint8Array(leaves.length / 16)
    const found = await core().readDigested(
      plain.fd,
      around.fd,
      Float64Array.from(ranges),
      LEAF_BYTES,
      1,
      SEED,
      into,
      leaves,
      flags,
    )
    expect(found).toEqual({ bytes: into.length, coldBytes: into.length })
    const wanted = [
      data.subarray(0, 4096),
      data.subarray(8192, 12_288),
      data.subarray(3 * MIB, 5 * MIB),
      data.subarray(tail),
    ]
    expect(into.equals(Buffer.concat(wanted))).toBe(true)
    expect(leaves.equals(leavesOf(into))).toBe(true)
  })

  it('gets the short and unaligned ends of what is written, the device the long middle', async () => {
    const data = randomBytes(FILE_BYTES)
    const { path, plain, around } = await cold(data)
    // adjacent, from 1000 to 2 MiB + 500; alone and short; alone and long
    const ranges = [1000, MIB, 1000 + MIB, MIB - 500, 3 * MIB, 64 * KIB, 4 * MIB, 128 * KIB]
    const from = randomBytes(2 * MIB - 500 + 192 * KIB)
    const fresh = new Uint8Array(4)
    const found = await core().writeRanges(plain.fd, around.fd, Float64Array.from(ranges), from, fresh)
    expect(found).toEqual({ bufferedBytes: 4096 - 1000 + 500 + 64 * KIB, isDirectRefused: false })
    expect([...fresh]).toEqual([1, 1, 1, 1])
    let at = 0
    for (let index = 0; index < ranges.length; index += 2) {
      const [offset = 0, length = 0] = ranges.slice(index)
      from.copy(data, offset, at, at + length)
      at += length
    }
    expect((await readFile(path)).equals(data)).toBe(true)
    await plain.sync()
    await core().dropCache(plain.fd)
    expect((await readFile(path)).equals(data)).toBe(true)
    // now all is cached: nothing is fresh
    await core().writeRanges(plain.fd, NO_FD, Float64Array.of(0, 4096), randomBytes(4096), fresh.fill(9))
    expect(fresh[0]).toBe(0)
  })

  it('gets everything where the direct descriptor takes no such writes', async () => {
    const data = randomBytes(FILE_BYTES)
    const { path, plain } = await cold(data)
    // this file answers EINVAL to whatever is not a number, and does nothing
    const refusing = await open('/proc/self/oom_score_adj', 'r+')
    handles.push(refusing)
    const from = Buffer.alloc(2 * MIB, 'x')
    const ranges = Float64Array.of(0, MIB, 4 * MIB, MIB)
    expect(await core().writeRanges(plain.fd, refusing.fd, ranges, from, NOTHING)).toEqual({
      bufferedBytes: 2 * MIB,
      isDirectRefused: true,
    })
    from.copy(data, 0, 0, MIB)
    from.copy(data, 4 * MIB, MIB)
    expect((await readFile(path)).equals(data)).toBe(true)
  })

  it('is not needed to learn that the disk is full', async () => {
    const path = `${await fileSystem(8 * MIB)}/disk.img`
    const plain = await open(path, 'w+')
    const around = await open(path, constants.O_RDWR | constants.O_DIRECT)
    handles.push(plain, around)
    const writing = core().writeRanges(
      plain.fd,
      around.fd,
      Float64Array.of(0, 16 * MIB),
      randomBytes(16 * MIB),
      NOTHING,
    )
    await expect(writing).rejects.toMatchObject({ code: 'ENOSPC', syscall: 'pwrite' })
  })

  it('is written back and emptied of what is to be dropped', async () => {
    const { plain, around } = await cold(randomBytes(FILE_BYTES))
    await plain.write(Buffer.alloc(4 * MIB, 1), 0, 4 * MIB, 0)
    await plain.write(Buffer.alloc(MIB, 2), 0, MIB, 6 * MIB)
    await core().startWriteBack(plain.fd, 0, 8 * MIB)
    await core().finishWriteBack(plain.fd, 0, 8 * MIB, Float64Array.of(0, 4 * MIB))
    // what was not to be dropped is still there
    expect(await digested(plain.fd, around.fd, 8 * MIB)).toMatchObject({ bytes: 8 * MIB, coldBytes: 7 * MIB })
    await expect(core().startWriteBack(1_000_000, 0, 4096)).rejects.toMatchObject({ code: 'EBADF' })
    await expect(core().finishWriteBack(1_000_000, 0, 4096, Float64Array.of())).rejects.toMatchObject({
      code: 'EBADF',
      syscall: 'sync_file_range',
    })
  })
})

describe('openPipe', needs('native'), () => {
  it('gives a wide pipe that programs do not inherit', async () => {
    const core = loadNative('require')
    if (core === null) throw new Error('require gave no core')
    const { readFd, writeFd } = core.openPipe()
    const [reader, writer] = await Promise.all(
      [readFd, writeFd].map((fd) => readFile(`/proc/self/fdinfo/${fd}`, 'utf8')),
    )
    const { closeSync, readSync, writeSync } = await import('node:fs')
    try {
      const octal = (text = ''): number => parseInt(/flags:\s+(\d+)/.exec(text)?.[1] ?? '', 8)
      const closeOnExec = 0o2000000
      expect(octal(reader) & closeOnExec).toBe(closeOnExec)
      expect(octal(writer) & closeOnExec).toBe(closeOnExec)
      // a plain pipe holds 64 KiB and would block here
      const data = randomBytes(128 * KIB)
      expect(writeSync(writeFd, data)).toBe(data.length)
      const got = Buffer.alloc(data.length)
      for (let at = 0; at < got.length;) at += readSync(readFd, got, at, got.length - at, null)
      expect(got.equals(data)).toBe(true)
    } finally {
      closeSync(readFd)
      closeSync(writeFd)
    }
  })
})
