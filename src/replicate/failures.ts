// What comes after an attempt that failed: soon again with pauses that grow, or not before the next regular time. Refuses nothing.

import type { ErrorCode, SyncError } from '../errors.js'

/** `soon`: it may pass by itself; `regular`: somebody has to do something, or room has to be made. */
export type FailureClass = 'soon' | 'regular'

/** Before the first try again; doubled for each further one. */
export const FIRST_BACKOFF_MS = 5_000
/** Longer pauses would only make the end of an outage last longer. */
export const MOST_BACKOFF_MS = 600_000
/** Up to so much of a pause is left out, by chance: jobs that one outage ended do not all come back at once. */
const JITTER = 0.25

/** Beside those that the engine itself would try again (SyncError.isRetriable). */
const SOON: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'session/lost',
  // all of it is read then
  'source/track',
  'destination/track',
  'connect/refused',
  'connect/failed',
  'connect/host',
  'host/lost',
  // a program that did not end in time, a volume that was busy for a moment
  'host/program',
  'replicate/snapshot',
  'replicate/quiesce',
  // another run, a drill or the end of a lost session still has it
  'replicate/busy',
  'guard/locked',
])

/** By what it failed of. */
export function classOf(error: Pick<SyncError, 'code' | 'isRetriable'>): FailureClass {
  return error.isRetriable || SOON.has(error.code) ? 'soon' : 'regular'
}

/**
 * How long to wait after so many failures in a row (1 is the first): 5 s, doubled, up to ten minutes and never longer than
 * `everyMs` (null: no interval). `chance` is from 0 to 1.
 */
export function backoffMs(failures: number, everyMs: number | null, chance: number): number {
  const most = Math.min(MOST_BACKOFF_MS, everyMs ?? MOST_BACKOFF_MS)
  // doubling for ever would leave the numbers
  const doublings = Math.min(Math.max(failures, 1) - 1, 16)
  return Math.round(Math.min(most, FIRST_BACKOFF_MS * 2 ** doublings) * (1 - JITTER * chance))
}
