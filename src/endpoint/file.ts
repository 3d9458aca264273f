// An image file or a block device as an endpoint: digests, data and zeros of ranges pass through descriptors that
// open.ts has checked. It refuses ranges outside the disk, writing to what was opened for reading, and use after close.

import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'

import { NO_FD } from '../digest/digester.js'
import type { Digester, Range, ReadFrom, SpanDigests } from '../digest/digester.js'
import { SyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import { dropCache } from './cache.js'
import type { Endpoint, EndpointInfo, Extent, OpenRequest } from './endpoint.js'
import { fetchExtents } from './extents.js'
import { flushFailure, isSystemError, misuse, readFailure, shortRead, writeFailure } from './failures.js'
import { unmake } from './unmake.js'
import { diskWriter } from './write.js'
import type { DiskWriter } from './write.js'
import { zeroByKernel, zeroByWriting } from './zero.js'

/** What open.ts hands over: from here on the endpoint closes the handles. */
export type OpenDisk = Readonly<{
  info: EndpointInfo
  request: OpenRequest
  read: FileHandle
  /** The same as `read`, or another descriptor of the same disk; null where it was opened for reading. */
  write: FileHandle | null
  /** The same disk opened with O_DIRECT (a device's may be `read`), open for writing where `write` is; or null. */
  around: FileHandle | null
  native: NativeCore | null
  /** The directory whose new entry must reach stable storage with the file, or null. */
  newEntryIn: string | null
  /** What opening made: the file, only its length (it was empty), or nothing. */
  made: 'file' | 'length' | 'nothing'
}>

/** The endpoint over handles that are already open and checked. */
export function diskEndpoint(disk: OpenDisk): Endpoint {
  return new DiskEndpoint(disk)
}

class DiskEndpoint implements Endpoint {
  readonly #request: OpenRequest
  readonly #read: FileHandle
  readonly #write: FileHandle | null
  readonly #around: FileHandle | null
  readonly #from: ReadFrom
  readonly #writer: DiskWriter | null
  readonly #native: NativeCore | null
  #info: EndpointInfo
  #newEntryIn: string | null
  #made: OpenDisk['made']
  /** Written since the last flush: only then are cached pages dropped, so that reading an unchanged disk again is fast. */
  #isWritten = false
  /** A failed fsync marks the pages clean: a second one would succeed and say nothing. So the first failure stays. */
  #flushFailure: SyncError | null = null
  /** Calls under way: a descriptor closed under one of them could already be another file's. */
  readonly #underWay = new Set<Promise<unknown>>()
  #closing: Promise<void> | null = null

  constructor(disk: OpenDisk) {
    this.#request = disk.request
    this.#read = disk.read
    this.#write = disk.write
    this.#around = disk.around
    // a device's reading descriptor goes around the cache by itself
    const hasOther = disk.around !== null && disk.around !== disk.read
    this.#from = { fd: disk.read.fd, directFd: hasOther ? disk.around.fd : NO_FD }
    this.#writer =
      disk.write === null ? null : diskWriter(disk.info.path, disk.write, disk.around, disk.native)
    this.#native = disk.native
    this.#info = disk.info
    this.#newEntryIn = disk.newEntryIn
    this.#made = disk.made
  }

  get info(): EndpointInfo {
    return this.#info
  }

  async *extents(range: Range): AsyncGenerator<Extent> {
    this.#checkRange(range)
    const end = range.offset + range.length
    for (let offset = range.offset; offset < end;) {
      const from = offset
      const batch = await this.#run(() =>
        this.#reading(from, fetchExtents(this.#read, this.#native, this.#info, from, end)),
      )
      for (const extent of batch) {
        yield extent
        offset = extent.offset + extent.length
      }
    }
  }

  async digestSpan(range: Range, digester: Digester, out: SpanDigests): Promise<{ coldBytes: number }> {
    this.#checkRange(range)
    return await this.#run(async () => {
      await this.#prepareRead(range.offset)
      const reading = digester.digestSpan(this.#from, range, out)
      const { bytes, coldBytes } = await this.#reading(range.offset, reading)
      if (bytes < range.length) throw this.#shortRead([range], bytes)
      return { coldBytes }
    })
  }

  async readDigested(
    ranges: readonly Range[],
    digester: Digester,
    into: Uint8Array,
    leaves: Uint8Array,
    zeroLeaves: Uint8Array,
  ): Promise<void> {
    const totalBytes = this.#checkRanges(ranges)
    if (into.byteLength < totalBytes)
      throw misuse(this.#info.path, `${totalBytes} bytes to read into ${into.byteLength}`)
    const first = ranges[0]
    if (first === undefined) return
    await this.#run(async () => {
      await this.#prepareRead(first.offset)
      const reading = digester.readDigested(this.#from, ranges, into, leaves, zeroLeaves)
      const { bytes } = await this.#reading(first.offset, reading)
      if (bytes < totalBytes) throw this.#shortRead(ranges, bytes)
    })
  }

  async write(ranges: readonly Range[], from: Uint8Array): Promise<void> {
    const { writer } = this.#writable('write')
    const totalBytes = this.#checkRanges(ranges)
    if (from.byteLength !== totalBytes)
      throw misuse(this.#info.path, `${from.byteLength} bytes to write to ranges of ${totalBytes}`)
    await this.#run(async () => {
      this.#isWritten = true
      await this.#writing(writer.write(ranges, from))
    })
  }

  async zero(ranges: readonly Range[]): Promise<void> {
    const { handle, writer } = this.#writable('zero')
    if (this.#checkRanges(ranges) === 0) return
    await this.#run(async () => {
      this.#isWritten = true
      let byteOffset = ranges[0]?.offset ?? 0
      try {
        const rest =
          this.#native === null ? ranges : await zeroByKernel(this.#native, handle, this.#info, ranges)
        for (const piece of rest) {
          byteOffset = piece.offset
          const writtenBytes = await zeroByWriting(handle, this.#info, piece)
          await this.#writing(writer.bound([piece], writtenBytes))
        }
      } catch (error) {
        throw isSystemError(error) ? writeFailure(this.#info.path, byteOffset, error) : error
      }
    })
  }

  async grow(sizeBytes: number): Promise<void> {
    const { handle } = this.#writable('grow')
    const { path, kind, sizeBytes: presentBytes } = this.#info
    if (kind === 'block-device') throw misuse(path, 'a block device cannot be made longer')
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < presentBytes) {
      throw misuse(path, `growing from ${presentBytes} to ${sizeBytes} bytes`)
    }
    await this.#run(async () => {
      // the file, not our memory of it, must not become shorter
      const { size } = await handle.stat()
      if (size > sizeBytes) throw misuse(path, `growing to ${sizeBytes} bytes a file that now has ${size}`)
      try {
        await handle.truncate(sizeBytes)
      } catch (error) {
        throw isSystemError(error) ? writeFailure(path, presentBytes, error) : error
      }
      this.#info = { ...this.#info, sizeBytes }
    })
  }

  async takeBack(): Promise<void> {
    const made = this.#made
    const handle = this.#write
    if (made === 'nothing' || handle === null || this.#isWritten) return
    this.#made = 'nothing'
    await this.#run(() => unmake(this.#info.path, handle, made))
  }

  async flush(): Promise<void> {
    await this.#run(async () => {
      const handle = this.#write
      // opened for reading: nothing of ours waits to be written
      if (handle === null) return
      if (this.#flushFailure !== null) throw this.#flushFailure
      const wasWritten = this.#isWritten
      this.#isWritten = false
      try {
        // also where this run wrote nothing: what an interrupted run wrote, and this one found equal, must be stable too
        await handle.sync()
        if (this.#newEntryIn !== null) await syncDirectory(this.#newEntryIn)
        this.#newEntryIn = null
        // A file's cache is coherent and serves the next run; a device's would only go stale, since reads go around it.
        // 'kept' is no failure for the same reasons.
        if (wasWritten && this.#info.kind === 'block-device') await dropCache(handle.fd, this.#native)
      } catch (error) {
        if (!isSystemError(error)) throw error
        this.#flushFailure = flushFailure(this.#info.path, error)
        throw this.#flushFailure
      }
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    // their callers get their failures; here they only have to be over
    await Promise.allSettled(this.#underWay)
    const handles = new Set([this.#read, this.#write, this.#around].filter((handle) => handle !== null))
    const closed = await Promise.allSettled([...handles].map((handle) => handle.close()))
    for (const outcome of closed) {
      if (outcome.status === 'fulfilled') continue
      const { role, path } = this.#request
      throw role === 'destination'
        ? flushFailure(path, outcome.reason)
        : readFailure(role, path, 0, outcome.reason)
    }
  }

  async #run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closing !== null) throw misuse(this.#info.path, 'a disk was used after it was closed')
    const running = work()
    this.#underWay.add(running)
    try {
      return await running
    } finally {
      this.#underWay.delete(running)
    }
  }

  /** Where reads go through the page cache of a device, what is cached may be older than the device. */
  async #prepareRead(byteOffset: number): Promise<void> {
    if (this.#info.kind === 'file' || this.#info.direct) return
    const outcome = await this.#reading(byteOffset, dropCache(this.#read.fd, this.#native))
    if (outcome === 'kept') throw uncacheable(this.#request)
  }

  async #reading<T>(byteOffset: number, answer: Promise<T>): Promise<T> {
    try {
      return await answer
    } catch (error) {
      throw isSystemError(error) ? readFailure(this.#request.role, this.#info.path, byteOffset, error) : error
    }
  }

  /** A failed write-back is a failed flush: the pages are called clean now, and fsync would say nothing. */
  async #writing(writing: Promise<void>): Promise<void> {
    try {
      await writing
    } catch (error) {
      if (error instanceof SyncError && error.code === 'destination/flush') this.#flushFailure ??= error
      throw error
    }
  }

  #shortRead(ranges: readonly Range[], readBytes: number): SyncError {
    let leftBytes = readBytes
    for (const range of ranges) {
      if (leftBytes < range.length)
        return shortRead(this.#request.role, this.#info.path, range.offset + leftBytes, this.#info.sizeBytes)
      leftBytes -= range.length
    }
    return misuse(this.#info.path, `a read of ${readBytes} bytes was called short`)
  }

  #writable(what: string): { handle: FileHandle; writer: DiskWriter } {
    if (this.#closing !== null) throw misuse(this.#info.path, 'a disk was used after it was closed')
    if (this.#write !== null && this.#writer !== null) return { handle: this.#write, writer: this.#writer }
    throw new SyncError(
      'destination/open',
      `cannot ${what} ${this.#info.path}: it was opened for reading only; nothing was written`,
      {
        operand: this.#info.path,
        hint: 'Run without --dry-run to write the destination.',
      },
    )
  }

  #checkRanges(ranges: readonly Range[]): number {
    let totalBytes = 0
    for (const range of ranges) {
      this.#checkRange(range)
      totalBytes += range.length
    }
    return totalBytes
  }

  #checkRange({ offset, length }: Range): void {
    const isInside =
      Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0
    if (isInside && length <= this.#info.sizeBytes - offset) return
    throw misuse(
      this.#info.path,
      `the range of ${length} bytes at ${offset} is not inside a disk of ${this.#info.sizeBytes}`,
    )
  }
}

/** Reads would come from a cache that may be stale and cannot be dropped. */
export function uncacheable({ role, path }: OpenRequest): SyncError {
  return new SyncError(
    `${role}/open`,
    `cannot use the ${role} ${path}: the kernel's cache of it cannot be bypassed or dropped here, so what is read may be old; nothing was written`,
    {
      operand: path,
      hint: 'Build or install the native core (see: blocksync doctor), or install util-linux (blockdev).',
    },
  )
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
