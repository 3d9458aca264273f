// Sees to it that people are told of a job once, when its condition changes: not while it is being told already, and what failed is
// tried again behind the next attempt. Waits for nobody.

import pLimit from 'p-limit'

import type { Job, NotifyTarget } from '../config/config.js'
import { toSyncError } from '../errors.js'
import type { JobState } from '../replicate/job-state.js'
import type { JobStatus } from '../replicate/status.js'
import { conditionOf, tellChange, type NotifyBy, type Told } from './notify.js'
import type { Log } from './log.js'

/** A host that is gone lets all its jobs fail at once. */
const MAX_AT_ONCE = 4

export type TellerContext = Readonly<{
  /** Those of all jobs. */
  targets: () => readonly NotifyTarget[]
  statusOf: (job: Job, state: JobState) => JobStatus
  /** Keeps it in the state of the job. Rejects where that cannot be written. */
  saveTold: (job: string, told: Told) => Promise<void>
  log: Log
  by?: NotifyBy
}>

export class Teller {
  readonly #context: TellerContext
  readonly #limit = pLimit(MAX_AT_ONCE)
  readonly #telling = new Map<string, Promise<void>>()
  /** What was last tried, of jobs where it did not work. */
  readonly #tried = new Map<string, Told>()

  constructor(context: TellerContext) {
    this.#context = context
  }

  /** `why` is `attempt` when one has ended, and `time` about once a minute. */
  tell(job: Job, state: JobState, why: 'attempt' | 'time'): void {
    const { name } = job
    const status = this.#context.statusOf(job, state)
    const condition = conditionOf(state, status)
    if (condition === state.told) {
      this.#tried.delete(name)
      return
    }
    if (this.#telling.has(name) || (why === 'time' && this.#tried.get(name) === condition)) return
    this.#tried.set(name, condition)
    const telling = this.#limit(() => this.#told(job, state, status)).then(
      () => undefined,
      (error: unknown) => {
        const { code, message } = toSyncError(error)
        this.#context.log('warning', name, `it is not kept that people were told: ${code}: ${message}`)
      },
    )
    this.#telling.set(
      name,
      telling.then(() => {
        this.#telling.delete(name)
      }),
    )
  }

  /** Resolves when nothing is being told. */
  async idle(): Promise<void> {
    await Promise.all(this.#telling.values())
  }

  async #told(job: Job, state: JobState, status: JobStatus): Promise<void> {
    const { targets, log, by, saveTold } = this.#context
    const told = await tellChange(job, state, status, targets(), log, by)
    if (told !== state.told) await saveTold(job.name, told)
  }
}
