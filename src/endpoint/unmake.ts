// Undoes the making of a destination that nothing was written to: the file goes, or becomes empty again. Refuses to
// touch what is no longer the file that was made.

import { lstat, unlink } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'

import { errnoOf } from '../errors.js'

/**
 * `made` is what opening did: the file itself, or the length of one that was empty. Rejects with the system error where
 * it is left behind.
 */
export async function unmake(path: string, handle: FileHandle, made: 'file' | 'length'): Promise<void> {
  if (made === 'length') {
    await handle.truncate(0)
    return
  }
  const mine = await handle.stat({ bigint: true })
  try {
    const there = await lstat(path, { bigint: true })
    if (mine.dev === there.dev && mine.ino === there.ino) await unlink(path)
  } catch (error) {
    // somebody else has removed it already
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}
