// What the system says about a path goes in, the host/file error of it comes out. Passes on what is no system error.

import { errnoOf, SyncError } from '../errors.js'
import { printable } from '../printable.js'

const WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'it is not there',
  EEXIST: 'something is there already',
  ENOTDIR: 'a part of the path is no directory',
  EISDIR: 'it is a directory',
  ENOTEMPTY: 'the directory is not empty',
  EACCES: 'that is not allowed for this user',
  EPERM: 'that is not allowed (or it is immutable: lsattr tells)',
  ENOSPC: 'no space is left there',
  EDQUOT: 'the quota is used up',
  EFBIG: 'the file system takes no file so large',
  EROFS: 'the file system is read-only',
  EXDEV: 'the two are on different file systems',
  ELOOP: 'too many symbolic links, or a link where none may be',
  EBUSY: 'it is in use',
}

/** A refusal of our own about a path. */
export function fileRefusal(path: string, message: string, hint: string): SyncError {
  return new SyncError('host/file', printable(message), { operand: printable(path), hint: printable(hint) })
}

/** `what` is done to it: 'read', 'renamed to /b'. Throws again what is neither from the system nor from us. */
export function fileFailure(path: string, what: string, thrown: unknown): SyncError {
  if (thrown instanceof SyncError) return thrown
  const errno = errnoOf(thrown)
  if (errno === null) throw thrown
  const why = WORDS[errno] ?? errno
  return new SyncError('host/file', printable(`${path} could not be ${what}: ${why} (${errno})`), {
    operand: printable(path),
    hint: 'Look at that path on that host; make room, or correct it, and run this again.',
    cause: thrown,
  })
}

/** The answer; its rejection as host/file. */
export async function asFileFailure<T>(path: string, what: string, answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (thrown) {
    throw fileFailure(path, what, thrown)
  }
}
