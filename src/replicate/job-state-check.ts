// What was read of a job's files, every field checked: who rests on it need not look again. Throws RecordError.

import {
  countOf,
  listOf,
  nullOr,
  objectOf,
  oneOf,
  orNull,
  RecordError,
  textOf,
  timeOf,
} from '../state/fields.js'
import { JOB_STATE_VERSION, type AttemptRecord, type FailureRecord, type JobState } from './job-state.js'

/** An attempt warns of a few things; more are a mistake. */
const MAX_WARNINGS = 1000

/** Of the job `name`. */
export function checkedState(value: unknown, name: string): JobState {
  const fields = objectOf(value, 'the state')
  if (fields['version'] !== JOB_STATE_VERSION)
    throw new RecordError(`it is of version ${String(fields['version'])}, not ${JOB_STATE_VERSION}`)
  if (fields['job'] !== name) throw new RecordError('it is of another job')
  return {
    version: JOB_STATE_VERSION,
    job: name,
    direction: oneOf(fields, 'direction', ['forward', 'reversed']),
    paused: nullOr(fields, 'paused', (paused) => {
      const inside = objectOf(paused, 'paused')
      return { since: timeOf(inside, 'since'), reason: orNull(inside, 'reason', textOf) }
    }),
    running: nullOr(fields, 'running', (running) => {
      const inside = objectOf(running, 'running')
      return {
        attempt: textOf(inside, 'attempt'),
        process: textOf(inside, 'process'),
        startedAt: timeOf(inside, 'startedAt'),
      }
    }),
    newest: nullOr(fields, 'newest', (newest) => {
      const inside = objectOf(newest, 'newest')
      return {
        generation: countOf(inside, 'generation'),
        takenAt: timeOf(inside, 'takenAt'),
        completedAt: timeOf(inside, 'completedAt'),
      }
    }),
    last: nullOr(fields, 'last', checkedAttempt),
    failures: countOf(fields, 'failures'),
    retryAt: orNull(fields, 'retryAt', timeOf),
    scheduledAt: orNull(fields, 'scheduledAt', timeOf),
    told: oneOf(fields, 'told', ['well', 'failing', 'late']),
    totals: checkedTotals(fields['totals']),
    drill: nullOr(fields, 'drill', (drill) => {
      const inside = objectOf(drill, 'drill')
      return {
        at: timeOf(inside, 'at'),
        outcome: oneOf(inside, 'outcome', ['proved', 'failed']),
        generation: countOf(inside, 'generation'),
      }
    }),
  }
}

function checkedTotals(value: unknown): JobState['totals'] {
  const fields = objectOf(value, 'totals')
  return {
    attempts: countOf(fields, 'attempts'),
    failures: countOf(fields, 'failures'),
    skipped: countOf(fields, 'skipped'),
    sentBytes: countOf(fields, 'sentBytes'),
  }
}

/** One line of the history, and the last attempt of a state. */
export function checkedAttempt(value: unknown): AttemptRecord {
  const fields = objectOf(value, 'an attempt')
  return {
    attempt: textOf(fields, 'attempt'),
    startedAt: timeOf(fields, 'startedAt'),
    endedAt: timeOf(fields, 'endedAt'),
    outcome: oneOf(fields, 'outcome', ['done', 'failed', 'interrupted']),
    generation: orNull(fields, 'generation', countOf),
    takenAt: orNull(fields, 'takenAt', timeOf),
    sentBytes: countOf(fields, 'sentBytes'),
    wireBytes: countOf(fields, 'wireBytes'),
    durationMs: countOf(fields, 'durationMs'),
    error: nullOr(fields, 'error', checkedFailure),
    warnings: listOf(fields, 'warnings', MAX_WARNINGS, (warning) => textOf({ warning }, 'warning')),
  }
}

function checkedFailure(value: unknown): FailureRecord {
  const fields = objectOf(value, 'error')
  return {
    code: textOf(fields, 'code'),
    message: textOf(fields, 'message'),
    operand: orNull(fields, 'operand', textOf),
    hint: orNull(fields, 'hint', textOf),
  }
}
