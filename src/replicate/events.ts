// What an attempt tells while it runs: data only. `run --json` prints one a line, a daemon reads those lines from the process
// that it started.

import type { AttemptRecord } from './job-state.js'

/** In the order in which an attempt comes through them. */
export type Phase = 'connect' | 'recover' | 'snapshot' | 'copy' | 'commit' | 'clean' | 'keep'

/**
 * A disk of an attempt that was committed: `clone` is what was read, and `leaves` a new file with its leaf digests, or null where
 * the one that was given goes on to be used. Whoever is told opens both and takes their names away.
 */
export type TrackedDisk = Readonly<{ clone: string; leaves: string | null }>

export type AttemptEvent =
  | Readonly<{ event: 'phase'; job: string; attempt: string; phase: Phase }>
  | Readonly<{ event: 'progress'; job: string; doneBytes: number; totalBytes: number; sentBytes: number }>
  | Readonly<{ event: 'warning'; job: string; message: string }>
  /** To a daemon alone, before the result; disks in the order of the job. */
  | Readonly<{ event: 'tracked'; job: string; attempt: string; disks: readonly TrackedDisk[] }>
  | (Readonly<{ event: 'result'; ok: boolean; job: string }> & AttemptRecord)
