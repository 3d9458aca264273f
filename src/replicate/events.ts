// What an attempt tells while it runs: data only. `run --json` prints one a line, a daemon reads those lines from the process
// that it started.

import type { AttemptRecord } from './job-state.js'

/** In the order in which an attempt comes through them. */
export type Phase = 'connect' | 'recover' | 'snapshot' | 'copy' | 'commit' | 'clean' | 'keep'

export type AttemptEvent =
  | Readonly<{ event: 'phase'; job: string; attempt: string; phase: Phase }>
  | Readonly<{ event: 'progress'; job: string; doneBytes: number; totalBytes: number; sentBytes: number }>
  | Readonly<{ event: 'warning'; job: string; message: string }>
  | (Readonly<{ event: 'result'; ok: boolean; job: string }> & AttemptRecord)
