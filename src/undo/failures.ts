// What goes wrong with an undo journal, in the words of the run that keeps it: which disk, what was not done, what to type.

import { errnoOf, SyncError } from '../errors.js'

/** The file system has no room, the quota is used up, or the file would be longer than allowed. */
const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])

/** The journal could not be written: nothing of `disk` was overwritten that is not in it. */
export function journalFailure(disk: string, where: string, cause: unknown): SyncError {
  if (cause instanceof SyncError) return cause
  const errno = errnoOf(cause)
  if (errno !== null && NO_SPACE.has(errno)) return noRoom(disk, `no room in ${where} (${errno})`, cause)
  const reason = errno ?? (cause instanceof Error ? cause.message : String(cause))
  return new SyncError(
    'destination/undo',
    `cannot keep the undo journal of ${disk} in ${where}: ${reason}; nothing was overwritten that is not in it`,
    {
      operand: disk,
      cause,
      hint: `See the kernel's log (dmesg) and: ls -ld ${where}; take back what was written with blocksync undo ${disk}, or run again without --undo.`,
    },
  )
}

/** The journal may not become longer. `why` is how much there is. */
export function noRoom(disk: string, why: string, cause?: unknown): SyncError {
  return new SyncError(
    'destination/undo-space',
    `the undo journal of ${disk} cannot go on: ${why}; nothing was overwritten that is not in it`,
    {
      operand: disk,
      hint: `Take back what was written with blocksync undo ${disk}, or make room and run again; without --undo it goes on without a way back.`,
      ...(cause === undefined ? {} : { cause }),
    },
  )
}

/** A journal that is not whole: `what` names the file and the place. */
export function broken(disk: string, what: string): SyncError {
  return new SyncError(
    'undo/broken',
    `the undo journal of ${disk} is damaged: ${what}; nothing was written`,
    {
      operand: disk,
      hint: 'Look for errors of the disk that it is on (dmesg). Without it only a run from a good source makes the disk whole.',
    },
  )
}
