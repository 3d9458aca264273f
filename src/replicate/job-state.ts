// What is known of a job on the host that runs it: STATE/replicate/JOB/state.json, replaced whole or not at all, and beside it
// history.jsonl (an AttemptRecord a line) and lock. Whoever has the lock writes; anybody may read.

export const JOB_STATE_VERSION = 1

/** Why an attempt failed, for people and programs. */
export type FailureRecord = Readonly<{
  code: string
  message: string
  operand: string | null
  hint: string | null
}>

/** One attempt, from its begin to its end. */
export type AttemptRecord = Readonly<{
  attempt: string
  /** ISO 8601, UTC, as all times here. */
  startedAt: string
  endedAt: string
  outcome: 'done' | 'failed' | 'interrupted'
  /** The generation that it made, or null. */
  generation: number | null
  takenAt: string | null
  sentBytes: number
  /** What went over the wire, in both directions. */
  wireBytes: number
  durationMs: number
  error: FailureRecord | null
  warnings: readonly string[]
}>

/** `process` is of src/state/process.ts: it names a process once and for ever. */
export type RunningAttempt = Readonly<{
  attempt: string
  process: string
  startedAt: string
}>

export type JobState = Readonly<{
  version: typeof JOB_STATE_VERSION
  job: string
  /** `reversed`: data goes from the configured destination to the configured source. */
  direction: 'forward' | 'reversed'
  paused: Readonly<{ since: string; reason: string | null }> | null
  /** Null while none runs. One whose process is gone was killed. */
  running: RunningAttempt | null
  /** The newest complete generation: its number, when it was taken, when it was complete. Null before the first. */
  newest: Readonly<{ generation: number; takenAt: string; completedAt: string }> | null
  last: AttemptRecord | null
  /** Attempts that failed since the last one that did not. */
  failures: number
  /** When the next try is due after a failure that may pass by itself; null where there is none but the next regular one. */
  retryAt: string | null
  /** When the schedule was last served, by whatever outcome: the next regular run counts from here. */
  scheduledAt: string | null
  /** What was last told through `notify`: told again only when it changes. */
  told: 'well' | 'failing' | 'late'
  /** Counters for metrics, since the state was made. */
  totals: Readonly<{ attempts: number; failures: number; skipped: number; sentBytes: number }>
  /** When the replica was last proved by a drill, and whether it held. */
  drill: Readonly<{ at: string; outcome: 'proved' | 'failed'; generation: number }> | null
}>
