// Small files that are there as a whole or not at all, whenever the program or the machine stops: written beside and
// renamed. Refuses to read what is larger than any of ours, and what is no plain file (a link, a fifo).

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readdir, rename, stat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { errnoOf } from '../errors.js'

/** More than any record has: two identities, a finished run and a mark are a few KiB. */
export const MAX_STATE_FILE_BYTES = 64 << 10

/** Before its name is given to it, a file has this in front; what a killed process left is known by it. */
const TEMPORARY_PREFIX = '.new-'

/** No write takes so long: what is older was left behind. */
const LEFT_BEHIND_MS = 60 * 60 * 1000

/** How many broken files are kept beside their place; then the last one is replaced. */
const MAX_BROKEN = 9

/**
 * Replaces `path` with a file (mode 0600) of that content. When it resolves the content is on stable storage under that name;
 * when it rejects with the system's error, or the process is killed, the old file is there as it was.
 */
export async function writeAtomically(path: string, content: string | Uint8Array): Promise<void> {
  const directory = dirname(path)
  const temporary = join(directory, `${TEMPORARY_PREFIX}${process.pid}-${randomBytes(6).toString('hex')}`)
  try {
    {
      await using file = await open(temporary, 'wx', 0o600)
      await file.writeFile(content)
      await file.sync()
    }
    await rename(temporary, path)
  } catch (error) {
    await unlinkIfThere(temporary)
    throw error
  }
  await syncDirectory(directory)
}

/** Makes it last that entries of a directory were made, renamed or removed. */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  await directory.sync()
}

/**
 * The text of a plain file of at most MAX_STATE_FILE_BYTES; null where there is none. Rejects with the system's error, and
 * with a RangeError for a file that cannot be ours.
 */
export async function readSmallFile(path: string): Promise<string | null> {
  return (await readPlainFile(path, MAX_STATE_FILE_BYTES))?.toString('utf8') ?? null
}

/** The same of a file of at most `mostBytes`. */
export async function readPlainFile(path: string, mostBytes: number): Promise<Buffer | null> {
  try {
    // a fifo would make the open wait; a link would lead elsewhere
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    const facts = await file.stat()
    if (!facts.isFile()) throw new RangeError('is not a file')
    if (facts.size > mostBytes) throw new RangeError(`has more than ${mostBytes} bytes`)
    // one more, to see its end
    const buffer = Buffer.allocUnsafe(facts.size + 1)
    let bytes = 0
    for (;;) {
      const { bytesRead } = await file.read(buffer, bytes, buffer.length - bytes, bytes)
      bytes += bytesRead
      if (bytesRead === 0 || bytes === buffer.length) break
    }
    if (bytes > facts.size) throw new RangeError('became longer while it was read')
    return buffer.subarray(0, bytes)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    if (errnoOf(error) === 'ELOOP') throw new RangeError('is a symbolic link', { cause: error })
    throw error
  }
}

/** Renames a file that cannot be used to NAME.broken-N and resolves with that path; null where that was not possible. */
export async function setAside(path: string): Promise<string | null> {
  try {
    let to = ''
    for (let number = 1; number <= MAX_BROKEN; number++) {
      to = `${path}.broken-${number}`
      if (!(await exists(to))) break
    }
    await rename(path, to)
    return to
  } catch (error) {
    if (errnoOf(error) === null) throw error
    return null
  }
}

/** Removes what killed processes left in a directory of atomic files. Never rejects for what the system says. */
export async function removeLeftBehind(directory: string, nowMs: number): Promise<void> {
  try {
    for (const name of await readdir(directory)) {
      if (!name.startsWith(TEMPORARY_PREFIX)) continue
      const path = join(directory, name)
      if (nowMs - (await stat(path)).mtimeMs > LEFT_BEHIND_MS) await unlinkIfThere(path)
    }
  } catch (error) {
    // tidying up is for the next one too
    if (errnoOf(error) === null) throw error
  }
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (errnoOf(error) === null) throw error
  }
}
