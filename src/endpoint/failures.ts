// System errors of disks as the errors a user sees: what comes in is an errno and where it happened, what goes out names
// the path and the byte, says what was not done and what to do next. The role decides the code.

import { SyncError, errnoOf } from '../errors.js'
import type { ErrorCode } from '../errors.js'
import type { OpenRequest, Role } from './endpoint.js'

/** The file system has no room, the quota is used up, or the file would be longer than allowed. */
const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

const MEANING: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EIO: 'input/output error',
  ENOSPC: 'no space left',
  EDQUOT: 'disk quota used up',
  EFBIG: 'longer than the file system (or ulimit -f) allows',
  EROFS: 'read-only',
  ENXIO: 'no such device behind that name',
  ENOMEDIUM: 'no medium',
  ENOTDIR: 'a part of the path is not a directory',
  ELOOP: 'too many symbolic links',
  EMFILE: 'too many open files in this process',
  ENFILE: 'too many open files on this machine',
}

/** True for an error of the system (an errno), false for one of Node's argument checks or of our own. */
export function isSystemError(error: unknown): boolean {
  return /^E(?!RR_)[A-Z0-9]+$/.test(errnoOf(error) ?? '')
}

/** 'permission denied (EACCES)'. */
export function describeErrno(error: unknown): string {
  const errno = errnoOf(error)
  if (errno === null) return error instanceof Error ? error.message : String(error)
  const meaning = MEANING[errno]
  return meaning === undefined ? errno : `${meaning} (${errno})`
}

/** The source or destination could not be opened; nothing was read or written. */
export function openFailure(role: Role, path: string, cause: unknown): SyncError {
  const errno = errnoOf(cause)
  const verb = role === 'source' ? 'read' : 'written'
  const details = { operand: path, cause, hint: openHint(role, errno, path) }
  return new SyncError(
    `${role}/open`,
    `cannot open the ${role} ${path}: ${describeErrno(cause)}; nothing was ${verb}`,
    details,
  )
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

function openHint(role: Role, errno: string | null, path: string): string {
  switch (errno) {
    case 'EACCES':
    case 'EPERM':
      return `Run as a user who may ${role === 'source' ? 'read' : 'write'} it (root, or group disk), or with --sudo; see: ls -lL ${path}`
    case 'EROFS':
      return `It, or the file system it is on, is read-only; see: findmnt -T ${path}`
    case 'ENXIO':
    case 'ENOMEDIUM':
      return `The name is there but no disk is behind it; see: lsblk ${path}`
    case 'ENOTDIR':
      return `Check the path: ls -ld ${path}`
    default:
      return `See: ls -lL ${path}; and the kernel's log: dmesg`
  }
}

/** A read failed; `byteOffset` is the start of what was asked for where the error does not say more. */
export function readFailure(role: Role, path: string, byteOffset: number, cause: unknown): SyncError {
  const where = offsetOf(cause) ?? byteOffset
  return new SyncError(
    `${role}/read`,
    `cannot read the ${role} ${path} at byte ${where}: ${describeErrno(cause)}`,
    {
      operand: path,
      cause,
      hint: `Look for the disk's errors in the kernel's log (dmesg) on the host of ${path}; what was already acknowledged stays written.`,
    },
  )
}

/** The disk ended at `byteOffset` though it was `sizeBytes` long when it was opened. */
export function shortRead(role: Role, path: string, byteOffset: number, sizeBytes: number): SyncError {
  const code: ErrorCode = role === 'source' ? 'source/shrank' : 'destination/read'
  const what = role === 'source' ? 'source shorter than announced' : 'destination became shorter'
  return new SyncError(
    code,
    `${what}: ${path} ended at byte ${byteOffset} of ${sizeBytes}; the copy is not complete`,
    {
      operand: path,
      hint: `Something made ${path} shorter during the run; when that has stopped, run the same command again.`,
    },
  )
}

/** A write, zeroing or growing failed at or after `byteOffset`. */
export function writeFailure(path: string, byteOffset: number, cause: unknown): SyncError {
  const where = offsetOf(cause) ?? byteOffset
  if (NO_SPACE.has(errnoOf(cause) ?? '')) {
    return new SyncError(
      'destination/no-space',
      `no room for the destination ${path} at byte ${where}: ${describeErrno(cause)}`,
      {
        operand: path,
        cause,
        hint: `Make room where ${path} lives (see: df -h ${path}), then run the same command again; it continues from what is there.`,
      },
    )
  }
  return new SyncError(
    'destination/write',
    `cannot write the destination ${path} at byte ${where}: ${describeErrno(cause)}`,
    {
      operand: path,
      cause,
      hint: `Look for the disk's errors in the kernel's log (dmesg) on the host of ${path}, then run the same command again.`,
    },
  )
}

/** The file was taken away or replaced while it was written. */
export function removed(path: string): SyncError {
  return new SyncError(
    'destination/write',
    `the destination ${path} was removed during the run; what was written is gone with it`,
    {
      operand: path,
      hint: `Something removed or replaced it; when that has stopped, run the same command again (with --create where ${path} is missing).`,
    },
  )
}

/** What was written may not be on stable storage. */
export function flushFailure(path: string, cause: unknown): SyncError {
  return new SyncError(
    'destination/flush',
    `cannot flush the destination ${path}: ${describeErrno(cause)}; what was written may be lost`,
    {
      operand: path,
      cause,
      hint: `Look for the disk's errors in the kernel's log (dmesg), then run the same command again from the start.`,
    },
  )
}

/** A defect of the caller, said with the disk it was about. */
export function misuse(path: string, what: string): SyncError {
  return new SyncError('internal', `internal error: ${what} (${path})`, {
    operand: path,
    hint: 'This is a defect in blocksync; please report it with the output of blocksync doctor.',
  })
}

/** Where on the disk a system error happened, when whoever threw it said so. */
function offsetOf(error: unknown): number | null {
  if (error instanceof Error && 'offset' in error && typeof error.offset === 'number') return error.offset
  return null
}
