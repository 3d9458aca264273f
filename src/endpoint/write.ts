// Writes packed bytes to ranges of an open disk, all of them or it throws: long runs around the page cache, the rest through
// it, where a bounded amount waits to be written. Lengths and bounds were checked before; a failure says at which byte.

import type { FileHandle } from 'node:fs/promises'

import { NO_FD } from '../digest/digester.js'
import type { Range } from '../digest/digester.js'
import { errnoOf } from '../errors.js'
import type { NativeCore } from '../native.js'
import { flushFailure, isSystemError, writeFailure } from './failures.js'
import { rangePairs } from './pairs.js'

/** Written through the page cache before its way to the disk begins: enough to keep the disk busy, little to wait for at the end. */
const WINDOW_BYTES = 8 << 20
/** Windows on their way to the disk before the oldest is waited for. With the one being filled 24 MiB can be dirty. */
const WINDOWS_UNDER_WAY = 2
/** Below it a run may leave in the page cache what it wrote; above, it takes out again what was not there before. */
const KEPT_BYTES = 64 << 20

const NOTHING = new Uint8Array(0)

/** What was written through the page cache since the last window: where, how much, and what of it to drop afterwards. */
type Window = { start: number; end: number; bytes: number; drop: Range[] }

/** Writes to one disk, for as long as it is open. */
export type DiskWriter = Readonly<{
  /**
   * Writes `from` to `ranges`. Rejects with destination/write or destination/no-space, or with destination/flush where what
   * was written earlier could not be written back.
   */
  write: (ranges: readonly Range[], from: Uint8Array) => Promise<void>
  /** Bounds what waits in the page cache after `bytes` were written to `ranges` in another way. Rejects with destination/flush. */
  bound: (ranges: readonly Range[], bytes: number) => Promise<void>
}>

/** A writer for the disk called `path`. `around` is the disk opened with O_DIRECT for writing; without the core it is not used. */
export function diskWriter(
  path: string,
  handle: FileHandle,
  around: FileHandle | null,
  native: NativeCore | null,
): DiskWriter {
  if (native !== null) return new CoreWriter(path, handle, around, native)
  return {
    write: (ranges, from) => writePlainly(path, handle, ranges, from),
    bound: () => Promise.resolve(),
  }
}

class CoreWriter implements DiskWriter {
  readonly #path: string
  readonly #handle: FileHandle
  readonly #native: NativeCore
  #around: FileHandle | null
  #isBounded = true
  #bufferedBytes = 0
  #window = emptyWindow()
  readonly #underWay: Window[] = []

  constructor(path: string, handle: FileHandle, around: FileHandle | null, native: NativeCore) {
    this.#path = path
    this.#handle = handle
    this.#around = around
    this.#native = native
  }

  async write(ranges: readonly Range[], from: Uint8Array): Promise<void> {
    const { fd } = this.#handle
    const fresh = this.#bufferedBytes < KEPT_BYTES ? NOTHING : new Uint8Array(ranges.length)
    try {
      const directFd = this.#around?.fd ?? NO_FD
      const count = await this.#native.writeRanges(fd, directFd, rangePairs(ranges), from, fresh)
      if (count.isDirectRefused) this.#around = null
      await this.#bound(ranges, count.bufferedBytes, fresh)
    } catch (error) {
      throw isSystemError(error) ? writeFailure(this.#path, ranges[0]?.offset ?? 0, error) : error
    }
  }

  bound(ranges: readonly Range[], bytes: number): Promise<void> {
    return this.#bound(ranges, bytes, NOTHING)
  }

  async #bound(ranges: readonly Range[], bytes: number, fresh: Uint8Array): Promise<void> {
    if (bytes === 0 || !this.#isBounded) return
    this.#bufferedBytes += bytes
    const window = this.#window
    window.bytes += bytes
    ranges.forEach((range, index) => {
      window.start = Math.min(window.start, range.offset)
      window.end = Math.max(window.end, range.offset + range.length)
      if (fresh[index] === 1) window.drop.push(range)
    })
    if (window.bytes < WINDOW_BYTES) return
    this.#window = emptyWindow()
    this.#underWay.push(window)
    const oldest = this.#underWay.length > WINDOWS_UNDER_WAY ? this.#underWay.shift() : undefined
    try {
      await Promise.all([this.#start(window), oldest === undefined ? undefined : this.#finish(oldest)])
    } catch (error) {
      if (!isSystemError(error)) throw error
      // a sandbox that forbids the call: then only the flush bounds what waits, as without the core
      if (errnoOf(error) !== 'ENOSYS') throw flushFailure(this.#path, error)
      this.#isBounded = false
    }
  }

  #start({ start, end }: Window): Promise<void> {
    return this.#native.startWriteBack(this.#handle.fd, start, end - start)
  }

  #finish({ start, end, drop }: Window): Promise<void> {
    return this.#native.finishWriteBack(this.#handle.fd, start, end - start, rangePairs(drop))
  }
}

function emptyWindow(): Window {
  return { start: Number.MAX_SAFE_INTEGER, end: 0, bytes: 0, drop: [] }
}

async function writePlainly(
  path: string,
  handle: FileHandle,
  ranges: readonly Range[],
  from: Uint8Array,
): Promise<void> {
  let taken = 0
  for (const range of ranges) {
    for (let done = 0; done < range.length;) {
      const byteOffset = range.offset + done
      try {
        done += (await handle.write(from, taken + done, range.length - done, byteOffset)).bytesWritten
      } catch (error) {
        throw isSystemError(error) ? writeFailure(path, byteOffset, error) : error
      }
    }
    taken += range.length
  }
}
