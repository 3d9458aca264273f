// What was written to one disk, to stable storage: the file, and the directory that a new file's name is in. Refuses to
// flush again after a flush that failed, since the kernel would say yes to the second one.

import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'

import { SyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import { dropCache } from './cache.js'
import type { EndpointInfo } from './endpoint.js'
import { flushFailure, isSystemError, removed } from './failures.js'

/** For one descriptor that writes. */
export class Flusher {
  readonly #handle: FileHandle
  readonly #path: string
  readonly #kind: EndpointInfo['kind']
  readonly #native: NativeCore | null
  #newEntryIn: string | null
  /** Written since the last flush: only then are cached pages dropped, so that reading an unchanged disk again is fast. */
  #isWritten = false
  /** A failed fsync marks the pages clean: a second one would succeed and say nothing. So the first failure stays. */
  #failure: SyncError | null = null

  /** `newEntryIn`: the directory whose new entry must reach stable storage with the file, or null. */
  constructor(
    handle: FileHandle,
    { path, kind }: EndpointInfo,
    newEntryIn: string | null,
    native: NativeCore | null,
  ) {
    this.#handle = handle
    this.#path = path
    this.#kind = kind
    this.#newEntryIn = newEntryIn
    this.#native = native
  }

  get isWritten(): boolean {
    return this.#isWritten
  }

  /** Something is about to be written. */
  begin(): void {
    this.#isWritten = true
  }

  /** A failed write-back is a failed flush: the pages are called clean now, and fsync would say nothing. */
  async watch(writing: Promise<void>): Promise<void> {
    try {
      await writing
    } catch (error) {
      if (error instanceof SyncError && error.code === 'destination/flush') this.#failure ??= error
      throw error
    }
  }

  /**
   * Resolves when everything written is on stable storage. Rejects with destination/flush, then and ever after; with
   * destination/write where the file is in no directory any more.
   */
  async flush(): Promise<void> {
    if (this.#failure !== null) throw this.#failure
    const wasWritten = this.#isWritten
    this.#isWritten = false
    try {
      // also where this run wrote nothing: what an interrupted run wrote, and this one found equal, must be stable too
      await this.#handle.sync()
      if (this.#kind === 'file' && (await this.#handle.stat()).nlink === 0) throw removed(this.#path)
      if (this.#newEntryIn !== null) await syncDirectory(this.#newEntryIn)
      this.#newEntryIn = null
      // A file's cache is coherent and serves the next run; a device's would only go stale, since reads go around it.
      // 'kept' is no failure for the same reasons.
      if (wasWritten && this.#kind === 'block-device') await dropCache(this.#handle.fd, this.#native)
    } catch (error) {
      if (!isSystemError(error)) throw error
      this.#failure = flushFailure(this.#path, error)
      throw this.#failure
    }
  }
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
