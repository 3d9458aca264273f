// What a path leads to, before anything is opened: a disk, nothing (where a file may be made), or a refusal that says why.
// A fifo or a socket is never opened: that alone could block, or wake somebody up.

import type { BigIntStats } from 'node:fs'
import { realpath, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

import { SyncError, errnoOf } from '../errors.js'
import type { OpenRequest } from './endpoint.js'
import { isSystemError, openFailure } from './failures.js'
import { linkTarget } from './sysfs.js'

/** A tmpfs that hangs below /dev by convention; image files may live there. */
const SHARED_MEMORY = /^\/dev\/shm(\/|$)/

/** What the path leads to, if it is a disk; null where a file is to be made there. */
export async function lookUp(request: OpenRequest): Promise<BigIntStats | null> {
  const { path, role } = request
  let facts: BigIntStats
  try {
    facts = await stat(path, { bigint: true })
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw openFailure(role, path, error)
    return decideMissing(request, error)
  }
  const what = notADisk(facts)
  if (what === null) return facts
  const code = role === 'source' ? 'source/open' : 'guard/kind'
  throw new SyncError(
    code,
    `the ${role} ${path} is ${what}, not a block device or an image file; nothing was written`,
    {
      operand: path,
      hint: facts.isDirectory()
        ? `Name a file in it, such as ${path.replace(/\/+$/, '')}/disk.img`
        : `See what it is: ls -lL ${path}`,
    },
  )
}

/** What it is instead, with its article; null for a regular file or a block device. */
export function notADisk(facts: BigIntStats): string | null {
  if (facts.isFile() || facts.isBlockDevice()) return null
  if (facts.isDirectory()) return 'a directory'
  if (facts.isCharacterDevice()) return 'a character device'
  if (facts.isFIFO()) return 'a fifo'
  if (facts.isSocket()) return 'a socket'
  return 'something else'
}

async function decideMissing(request: OpenRequest, cause: unknown): Promise<null> {
  const { path, role, create } = request
  const target = await linkTarget(path)
  const what = target === null ? 'does not exist' : `is a symbolic link to ${target}, which does not exist`
  if (role === 'source') {
    throw new SyncError('source/missing', `the source ${path} ${what}; nothing was opened`, {
      operand: path,
      cause,
      hint: `Check the path (ls -l ${path}); if it is a logical volume, is it active? See: lvs`,
    })
  }
  if (await isUnderDev(path)) {
    throw new SyncError(
      create === 'never' ? 'guard/missing' : 'guard/kind',
      `the destination ${path} ${what}; a plain file is not made in /dev; nothing was written`,
      {
        operand: path,
        cause,
        hint: 'Create the volume first, of the size of the source (for LVM: lvcreate -L SIZE -n NAME GROUP), or name an image file elsewhere.',
      },
    )
  }
  if (create === 'never' || target !== null) {
    throw new SyncError('guard/missing', `the destination ${path} ${what}; nothing was written`, {
      operand: path,
      cause,
      hint:
        target === null
          ? 'Check the path; to make an image file there, run with --create.'
          : `Remove the link (rm ${path}) or name what it should lead to.`,
    })
  }
  return null
}

/** True where a plain file would be one in /dev, which is memory: by its name, or by where its directory really is. */
export async function isUnderDev(path: string): Promise<boolean> {
  const absolute = resolve(path)
  let directory = dirname(absolute)
  try {
    directory = await realpath(directory)
  } catch (error) {
    // no such directory, or not ours to look into: its name has to do, and making the file will fail with the reason
    if (!isSystemError(error)) throw error
  }
  return [absolute, `${directory}/`].some((name) => name.startsWith('/dev/') && !SHARED_MEMORY.test(name))
}

/** The device is write-protected. */
export function readOnlyDevice(path: string): SyncError {
  return new SyncError(
    'destination/open',
    `cannot open the destination ${path}: the device is read-only; nothing was written`,
    {
      operand: path,
      hint: `See: blockdev --getro ${path}; for a logical volume: lvchange --permission rw`,
    },
  )
}

/** The kernel will not give the destination for writing: somebody whom nobody could see has claimed it. */
export function claimedByOthers(path: string, cause: unknown): SyncError {
  const by =
    errnoOf(cause) === 'ETXTBSY'
      ? 'in use as swap or as a running program'
      : 'claimed by another program, or mounted where this process cannot see it'
  return new SyncError('guard/held', `the destination ${path} is ${by}; nothing was written`, {
    operand: path,
    cause,
    hint:
      errnoOf(cause) === 'ETXTBSY'
        ? `See who has it: fuser -v ${path}; swapon --show`
        : `See who has it: lsblk ${path}; fuser -v ${path}; or type --force-held if you know better.`,
  })
}
