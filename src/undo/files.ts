// What an undo journal needs of a file system, and the one of this machine. Paths and bytes go through; system errors come
// out as they are. Tests put a file system in memory here that loses power.

import { constants } from 'node:fs'
import { mkdir, open, readdir, rename, rm, rmdir, statfs } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'

import { errnoOf } from '../errors.js'
import type { NativeCore } from '../native.js'

/** Journals hold what was on a disk: they are for their owner. */
const FILE_MODE = 0o600
const DIRECTORY_MODE = 0o700

/** An open file; who opens it closes it. */
export interface JournalFile {
  /** Writes all parts one behind the other from byte `position` on, or rejects. */
  write(parts: readonly Uint8Array[], position: number): Promise<void>
  /** Reads until `into` is full or the file ends; resolves with how many bytes. */
  read(into: Uint8Array, position: number): Promise<number>
  sizeBytes(): Promise<number>
  /** What was written, and the length, is on stable storage when it resolves. */
  sync(): Promise<void>
  close(): Promise<void>
}

export interface JournalFiles {
  /** Names in a directory, sorted, or null where there is none. */
  list(directory: string): Promise<string[] | null>
  /** One level; one that is there already is fine. */
  makeDirectory(directory: string): Promise<void>
  /** A new file for reading and writing; rejects with EEXIST where there is one. */
  create(path: string): Promise<JournalFile>
  /** A file for reading, or null where there is none. */
  open(path: string): Promise<JournalFile | null>
  rename(from: string, to: string): Promise<void>
  /** A file; one that is gone is fine. */
  remove(path: string): Promise<void>
  /** An empty directory; one that is gone is fine. */
  removeDirectory(path: string): Promise<void>
  /** What was made, renamed and removed in a directory is on stable storage when it resolves. */
  syncDirectory(directory: string): Promise<void>
  freeBytes(directory: string): Promise<number>
}

/** Parts of this length and more go around the page cache: what is flushed at once and not read soon has no use there. */
const DIRECT_BYTES = 128 << 10
const NO_FD = -1
const NOTHING = new Uint8Array(0)

/** The file system of this machine; with the native core, long parts go around the page cache. */
export function systemFiles(native: NativeCore | null): JournalFiles {
  return { ...plainFiles, create: (path) => createFile(path, native) }
}

async function createFile(path: string, native: NativeCore | null): Promise<JournalFile> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
  const handle = await open(path, flags, FILE_MODE)
  if (native === null) return new SystemFile(handle, null, null)
  try {
    return new SystemFile(
      handle,
      await open(path, constants.O_WRONLY | constants.O_DIRECT | constants.O_NOFOLLOW),
      native,
    )
  } catch (error) {
    // a file system without direct I/O
    if (errnoOf(error) === 'EINVAL') return new SystemFile(handle, null, null)
    await handle.close()
    throw error
  }
}

const plainFiles: Omit<JournalFiles, 'create'> = {
  async list(directory) {
    return await unlessMissing(async () => (await readdir(directory)).toSorted())
  },
  async makeDirectory(directory) {
    await mkdir(directory, { recursive: true, mode: DIRECTORY_MODE })
  },
  async open(path) {
    const handle = await unlessMissing(() => open(path, constants.O_RDONLY | constants.O_NOFOLLOW))
    return handle === null ? null : new SystemFile(handle, null, null)
  },
  async rename(from, to) {
    await rename(from, to)
  },
  async remove(path) {
    await rm(path, { force: true })
  },
  async removeDirectory(path) {
    await unlessMissing(() => rmdir(path))
  },
  async syncDirectory(directory) {
    const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  },
  async freeBytes(directory) {
    const { bavail, bsize } = await statfs(directory)
    return bavail * bsize
  },
}

class SystemFile implements JournalFile {
  readonly #handle: FileHandle
  readonly #around: FileHandle | null
  readonly #native: NativeCore | null

  constructor(handle: FileHandle, around: FileHandle | null, native: NativeCore | null) {
    this.#handle = handle
    this.#around = around
    this.#native = native
  }

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    const native = this.#native
    if (native === null || !parts.some(({ length }) => length >= DIRECT_BYTES))
      return await this.#writeThrough(parts, position)
    const directFd = this.#around?.fd ?? NO_FD
    let at = position
    const writing = parts
      .filter(({ length }) => length > 0)
      .map((part) => {
        const range = Float64Array.of(at, part.length)
        at += part.length
        return native.writeRanges(this.#handle.fd, directFd, range, part, NOTHING)
      })
    // the file is not closed under one of them
    const failed = (await Promise.allSettled(writing)).find((outcome) => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  async #writeThrough(parts: readonly Uint8Array[], position: number): Promise<void> {
    const totalBytes = parts.reduce((sum, { length }) => sum + length, 0)
    const { bytesWritten } = await this.#handle.writev([...parts], position)
    if (bytesWritten === totalBytes) return
    // a short write says that the next one would fail, or that more fits after all
    const rest = Buffer.concat(parts, totalBytes)
    for (let done = bytesWritten; done < totalBytes;) {
      done += (await this.#handle.write(rest, done, totalBytes - done, position + done)).bytesWritten
    }
  }

  async read(into: Uint8Array, position: number): Promise<number> {
    let done = 0
    while (done < into.length) {
      const { bytesRead } = await this.#handle.read(into, done, into.length - done, position + done)
      if (bytesRead === 0) break
      done += bytesRead
    }
    return done
  }

  async sizeBytes(): Promise<number> {
    return (await this.#handle.stat()).size
  }

  async sync(): Promise<void> {
    await this.#handle.datasync()
  }

  async close(): Promise<void> {
    await Promise.all([this.#handle.close(), this.#around?.close()])
  }
}

async function unlessMissing<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}
