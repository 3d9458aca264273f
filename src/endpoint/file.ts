// An image file or a block device as an endpoint: digests, data and zeros of ranges pass through descriptors that
// open.ts has checked. It refuses ranges outside the disk, writing to what was opened for reading, and use after close.

import type { FileHandle } from 'node:fs/promises'

import { NO_FD } from '../digest/digester.js'
import type { Digester, Range, ReadCount, ReadFrom, SpanDigests } from '../digest/digester.js'
import { errnoOf, SyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import { dropCache } from './cache.js'
import type { Endpoint, EndpointInfo, Extent, OpenRequest } from './endpoint.js'
import { fetchExtents } from './extents.js'
import {
  flushFailure,
  isSystemError,
  misuse,
  readFailure,
  shortRead,
  uncacheable,
  writeFailure,
} from './failures.js'
import { Flusher } from './flush.js'
import { grownSince } from './size.js'
import { unmake } from './unmake.js'
import { diskWriter, type DiskWriter } from './write.js'
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

/** The descriptor that writes, and what goes by it. */
type Writing = Readonly<{ handle: FileHandle; writer: DiskWriter; flusher: Flusher }>

function writingOf({ info, write, around, native, newEntryIn }: OpenDisk): Writing | null {
  if (write === null) return null
  const writer = diskWriter(info.path, write, around, native)
  return { handle: write, writer, flusher: new Flusher(write, info, newEntryIn, native) }
}

/** The endpoint over handles that are already open and checked. */
export function diskEndpoint(disk: OpenDisk): Endpoint {
  return new DiskEndpoint(disk)
}

class DiskEndpoint implements Endpoint {
  readonly #request: OpenRequest
  readonly #read: FileHandle
  readonly #around: FileHandle | null
  readonly #from: ReadFrom
  /** Null where it was opened for reading. */
  readonly #writing: Writing | null
  readonly #native: NativeCore | null
  #info: EndpointInfo
  #made: OpenDisk['made']
  /** Calls under way: a descriptor closed under one of them could already be another file's. */
  readonly #underWay = new Set<Promise<unknown>>()
  #closing: Promise<void> | null = null
  /** Who wants to be answered by the device now. */
  #deviceReaders = 0
  /** A file system may take O_DIRECT at the opening, and then no direct read. */
  #isDirectRefused = false

  constructor(disk: OpenDisk) {
    this.#request = disk.request
    this.#read = disk.read
    this.#around = disk.around
    // a device's reading descriptor goes around the cache by itself
    const hasOther = disk.around !== null && disk.around !== disk.read
    this.#from = { fd: disk.read.fd, directFd: hasOther ? disk.around.fd : NO_FD }
    this.#writing = writingOf(disk)
    this.#native = disk.native
    this.#info = disk.info
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
      const read = (from: ReadFrom): Promise<ReadCount> => digester.digestSpan(from, range, out)
      const { bytes, coldBytes } = await this.#readBy(range.offset, read)
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
      const read = (from: ReadFrom): Promise<ReadCount> =>
        digester.readDigested(from, ranges, into, leaves, zeroLeaves)
      const { bytes } = await this.#readBy(first.offset, read)
      if (bytes < totalBytes) throw this.#shortRead(ranges, bytes)
    })
  }

  async write(ranges: readonly Range[], from: Uint8Array): Promise<void> {
    const { writer, flusher } = this.#writable('write')
    const totalBytes = this.#checkRanges(ranges)
    if (from.byteLength !== totalBytes)
      throw misuse(this.#info.path, `${from.byteLength} bytes to write to ranges of ${totalBytes}`)
    await this.#run(async () => {
      flusher.begin()
      await flusher.watch(writer.write(ranges, from))
    })
  }

  async zero(ranges: readonly Range[]): Promise<void> {
    const { handle, writer, flusher } = this.#writable('zero')
    if (this.#checkRanges(ranges) === 0) return
    await this.#run(async () => {
      flusher.begin()
      let byteOffset = ranges[0]?.offset ?? 0
      try {
        const rest =
          this.#native === null ? ranges : await zeroByKernel(this.#native, handle, this.#info, ranges)
        for (const piece of rest) {
          byteOffset = piece.offset
          const writtenBytes = await zeroByWriting(handle, this.#info, piece)
          await flusher.watch(writer.bound([piece], writtenBytes))
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

  async grownBytes(): Promise<number> {
    return await this.#run(() => this.#reading(0, grownSince(this.#info, this.#read, this.#native)))
  }

  async takeBack(): Promise<void> {
    const made = this.#made
    if (made === 'nothing' || this.#writing === null || this.#writing.flusher.isWritten) return
    const { handle } = this.#writing
    this.#made = 'nothing'
    await this.#run(() => unmake(this.#info.path, handle, made))
  }

  async readFromDevice(): Promise<Disposable> {
    const outcome = await this.#run(() => this.#reading(0, dropCache(this.#read.fd, this.#native)))
    if (outcome === 'kept' && !this.#info.direct && this.#around === null) throw uncacheable(this.#request)
    this.#deviceReaders += 1
    let isHeld = true
    return {
      [Symbol.dispose]: () => {
        if (isHeld) this.#deviceReaders -= 1
        isHeld = false
      },
    }
  }

  async flush(): Promise<void> {
    // opened for reading: nothing of ours waits to be written
    await this.#run(async () => await this.#writing?.flusher.flush())
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
    const handles = new Set(
      [this.#read, this.#writing?.handle ?? null, this.#around].filter((handle) => handle !== null),
    )
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

  /** Reads from where reads come from now. */
  async #readBy<T>(byteOffset: number, read: (from: ReadFrom) => Promise<T>): Promise<T> {
    const isWanted = this.#deviceReaders > 0 && this.#info.kind === 'file' && !this.#isDirectRefused
    if (!isWanted || this.#around === null) return await this.#reading(byteOffset, read(this.#from))
    const device = { fd: this.#around.fd, directFd: NO_FD }
    return await this.#reading(
      byteOffset,
      read(device).catch((error: unknown) => {
        if (errnoOf(error) !== 'EINVAL') throw error
        // what was dropped from the cache comes from the device in this way too
        this.#isDirectRefused = true
        return read(this.#from)
      }),
    )
  }

  async #reading<T>(byteOffset: number, answer: Promise<T>): Promise<T> {
    try {
      return await answer
    } catch (error) {
      throw isSystemError(error) ? readFailure(this.#request.role, this.#info.path, byteOffset, error) : error
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

  #writable(what: string): Writing {
    if (this.#closing !== null) throw misuse(this.#info.path, 'a disk was used after it was closed')
    if (this.#writing !== null) return this.#writing
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
