// Tells people that a job is no longer well, or well again: by a command, an HTTP ping or mail, on a change and not on each run.
// Refuses to let a message add a header or a line; a way that does not work is a warning and is tried again next time.

import { hostname } from 'node:os'

import type { Job, NotifyTarget } from '../config/config.js'
import type { JobState } from '../replicate/job-state.js'
import type { JobStatus } from '../replicate/status.js'
import type { Log } from './log.js'
import { notifyBy, type Notice } from './notify-ways.js'

export type Told = JobState['told']

/** One lost connection that comes back by itself is nothing to wake people for; so many failures in a row are. */
export const RETRIES_BEFORE_TOLD = 3

/** Sends one notice one way; rejects with why not. */
export type NotifyBy = (target: NotifyTarget, notice: Notice) => Promise<void>

/**
 * What is to be told of a job now. `failing`: an attempt failed that is not tried again by itself before its regular time, or
 * RETRIES_BEFORE_TOLD did that are. `late`: the lag is over the limit of a warning or above, whatever the reason. A paused job
 * stays what it was told to be.
 */
export function conditionOf(state: JobState, status: JobStatus): Told {
  if (state.paused !== null) return state.told
  const isFailing = state.failures > 0 && (state.retryAt === null || state.failures >= RETRIES_BEFORE_TOLD)
  if (isFailing) return 'failing'
  return status.lagLevel === 'warning' || status.lagLevel === 'critical' ? 'late' : 'well'
}

/** One sentence or two, without line ends. */
export function noticeMessage(condition: Told, status: JobStatus): string {
  const generation =
    status.generation === null || status.lagSeconds === null
      ? 'there is no complete generation'
      : `generation ${status.generation} is ${status.lagSeconds} s old`
  switch (condition) {
    case 'well':
      return `well again: ${generation}`
    case 'failing': {
      const { code, message } = status.lastError ?? { code: 'internal', message: 'no reason is known' }
      return `failing: ${code}: ${message}; ${generation}`
    }
    case 'late':
      return `late: ${generation}, and the limit is ${status.warningSeconds ?? status.criticalSeconds ?? 0} s`
    default:
      throw new TypeError(`unknown condition ${String(condition satisfies never)}`)
  }
}

/**
 * Tells, where the condition of the job is another one than `state.told`, all targets at once: those of all jobs (`common`) and its
 * own. Resolves with what is to be kept as `told`: the old one where a way failed, so that it is told again. Never rejects.
 * For whoever ends an attempt: the daemon, or `replicate run` that was not started by one; he writes the answer to the state.
 */
export async function tellChange(
  job: Job,
  state: JobState,
  status: JobStatus,
  common: readonly NotifyTarget[],
  log: Log,
  by: NotifyBy = notifyBy,
): Promise<Told> {
  const condition = conditionOf(state, status)
  if (condition === state.told) return condition
  const notice: Notice = {
    job: job.name,
    condition,
    before: state.told,
    message: noticeMessage(condition, status),
    host: hostname(),
    lagSeconds: status.lagSeconds,
    generation: status.generation,
    errorCode: condition === 'failing' ? (status.lastError?.code ?? null) : null,
  }
  const failures = await Promise.all(
    [...common, ...job.notify].map(async (target) => {
      try {
        await by(target, notice)
        return 0
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error)
        log('warning', job.name, `nobody was told by ${wordOf(target)} that it is ${condition}: ${why}`)
        return 1
      }
    }),
  )
  return failures.some((count) => count > 0) ? state.told : condition
}

/** Without what may be secret: the path of a ping is. */
function wordOf(target: NotifyTarget): string {
  switch (target.kind) {
    case 'command':
      return `the command ${target.command[0]}`
    case 'http':
      return `a request to ${new URL(target.url).host}`
    case 'mail':
      return `mail to ${target.to}`
    default:
      throw new TypeError(`unknown target ${String(target satisfies never)}`)
  }
}
