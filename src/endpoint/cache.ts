// Drops the kernel's cached pages of an open file or device, so that what is read next comes from below. Only clean
// pages go: it loses nothing, and answers `kept` where this machine has no way to do it.

import { errnoOf } from '../errors.js'
import type { NativeCore } from '../native.js'

/** Dropping is a walk over cached pages; a program that takes longer is stuck. */
const PROGRAM_TIMEOUT_MS = 30_000

/** The file system or device has no such call: nothing was dropped. */
const UNSUPPORTED = new Set(['EINVAL', 'ENOSYS', 'EOPNOTSUPP', 'ENOTTY', 'ESPIPE'])

/**
 * Programs that do it without the native core, on the descriptor that they get as their standard input.
 * dd's nocache flag with no blocks to copy is posix_fadvise(DONTNEED) on all of it (GNU coreutils manual, "dd").
 */
const PROGRAMS = [
  ['dd', 'iflag=nocache', 'count=0', 'status=none'],
  ['blockdev', '--flushbufs', '/proc/self/fd/0'],
] as const

/**
 * Drops the clean cached pages behind descriptor `fd`. Resolves with `kept` where that is not possible here; rejects
 * with the system error where the kernel failed to.
 */
export async function dropCache(fd: number, native: NativeCore | null): Promise<'dropped' | 'kept'> {
  if (native !== null) {
    try {
      await native.dropCache(fd)
      return 'dropped'
    } catch (error) {
      if (UNSUPPORTED.has(errnoOf(error) ?? '')) return 'kept'
      throw error
    }
  }
  for (const [program, ...args] of PROGRAMS) {
    if (await succeeds(program, args, fd)) return 'dropped'
  }
  return 'kept'
}

/** Runs a program with `fd` as its standard input; false where it is missing, failed or took too long. */
async function succeeds(program: string, args: readonly string[], fd: number): Promise<boolean> {
  // only without the core: it takes milliseconds of every start
  const { spawn } = await import('node:child_process')
  return await new Promise((resolve) => {
    const child = spawn(program, args, { stdio: [fd, 'ignore', 'ignore'], timeout: PROGRAM_TIMEOUT_MS })
    // a program that is not installed is an answer here: the next one is tried, and after the last the caller is told
    child.once('error', () => resolve(false))
    child.once('exit', (exitStatus) => resolve(exitStatus === 0))
  })
}
