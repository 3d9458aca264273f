// What the scheduler is given (clocks, states, somebody who runs an attempt), and what it shows. Types only.

import type { Job } from '../config/config.js'
import type { JobState } from '../replicate/job-state.js'
import type { Work } from './job-entry.js'
import type { Log } from './log.js'
import type { ChildEnd } from './supervisor.js'

/** What the scheduler needs of the rest; tests give their own. */
export type SchedulerParts = Readonly<{
  /** Wall clock, ms since 1970. */
  nowMs: () => number
  /** A clock that nobody sets. */
  steadyMs: () => number
  /** Calls `wake` once; what it returns calls that off. */
  setTimer: (wake: () => void, delayMs: number) => () => void
  /** From 0 to 1. */
  chance: () => number
  /** Rejects where it is damaged or cannot be read. */
  readState: (job: string) => Promise<JobState>
  /** Of the file of the state: another text when it was written. Rejects as readState does. */
  stampOf: (job: string) => Promise<string>
  /** Runs it to its end. Never rejects. */
  work: (job: Job, work: Work) => Promise<ChildEnd>
  /** Another process had the job: counts it. Rejects where that cannot be written. */
  countSkipped: (job: string) => Promise<void>
  /** Something may have to be told to people. `why` is `attempt` when one has ended. Does not wait for it. */
  tell: (job: Job, state: JobState, why: 'attempt' | 'time') => void
  log: Log
  /** A state has changed. */
  onChange: () => void
}>

/** A job as it is now. */
export type JobView = Readonly<{ job: Job; state: JobState; isRunning: boolean; nextRunMs: number | null }>
