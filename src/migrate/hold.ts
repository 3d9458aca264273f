// Keeps others on this host from taking a device while the guest that it belongs to is stopped: paths come in, they are held
// until that is disposed of. Holds block devices, which the kernel lends to one holder only; files have no such way.

import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'

import { errnoOf } from '../errors.js'

/**
 * Holds what it can. A device that somebody has already is not ours to take, and one that is not there cannot be held: that is
 * no failure here, since what was written to is found out from the disks' stamps.
 */
export async function holdDevices(paths: readonly string[]): Promise<AsyncDisposable> {
  const held: FileHandle[] = []
  const letGo = async (): Promise<void> => {
    for (const handle of held.splice(0)) await handle.close()
  }
  try {
    for (const path of paths) {
      const handle = await claim(path)
      if (handle !== null) held.push(handle)
    }
  } catch (error) {
    await letGo()
    throw error
  }
  return { [Symbol.asyncDispose]: letGo }
}

/** O_EXCL without O_CREAT claims a device (open(2)); for a file it means nothing, so only devices are kept open. */
async function claim(path: string): Promise<FileHandle | null> {
  try {
    const handle = await open(path, constants.O_RDONLY | constants.O_EXCL | constants.O_NONBLOCK)
    if ((await handle.stat()).isBlockDevice()) return handle
    await handle.close()
    return null
  } catch (error) {
    if (['EBUSY', 'ENOENT', 'EACCES', 'EPERM', 'ENXIO'].includes(errnoOf(error) ?? '')) return null
    throw error
  }
}
