// One attempt of a job: a generation more at the destination, or the last one untouched. Keeps the state of the job and its history;
// what it does to disks is in make-generation.ts. Refuses to run beside another one, a job that is paused, and outside its windows.

import type { HookName, Job } from '../config/config.js'
import { SyncError, toSyncError } from '../errors.js'
import { printable } from '../printable.js'
import { ownProcess } from '../state/process.js'
import type { AttemptContext, AttemptFacts } from './context.js'
import type { Phase } from './events.js'
import { backoffMs, classOf, FIRST_BACKOFF_MS } from './failures.js'
import type { AttemptRecord, FailureRecord, JobState } from './job-state.js'
import { isSkipped, makeGeneration, type Progressing } from './make-generation.js'
import { placesOf } from './places.js'
import { appendHistory, changeJobState, lockJob, openJobState } from './state-file.js'
import { isInWindow } from './windows.js'

/** Of one attempt: they are kept in its record. A far end that says something about every block is cut off. */
const MAX_WARNINGS = 50
const MAX_WORDS_UNITS = 1000
/** How long a replica that a killed session may still have is waited for, beyond the time it takes to notice. */
const NOTICE_GRACE_MS = 10_000
/** A drill, or a restore, has the replica for longer than anybody waits; a session that is just ending is not. */
const SHORT_WAIT_MS = 2_000

/**
 * Runs one attempt to its end, whatever it meets: that is the record's `error`. Rejects only where nothing was begun:
 * replicate/busy (another attempt of the job runs, or the replica is in use), replicate/paused, replicate/record, state/unusable.
 */
export async function runAttempt(job: Job, context: AttemptContext): Promise<AttemptRecord> {
  const { stateDir, nowMs } = context
  await using _lock = await skippedIfBusy(job, context, lockJob(stateDir, job.name))
  const before = await openJobState(stateDir, job.name)
  refusePaused(job, before, context)
  const attempt = context.newId()
  const startedAt = iso(nowMs())
  const process = await ownProcess()
  await changeJobState(stateDir, job.name, (state) => ({
    ...state,
    running: { attempt, process, startedAt },
    scheduledAt: startedAt,
  }))
  const run = new Attempt(job, context, attempt, startedAt)
  // one that was killed, or lost the line, may have a session there that has not noticed yet
  const { running, failures, last } = before
  const isBroken = running !== null || failures > 0 || last?.outcome === 'interrupted'
  const isUnclean = isBroken || (last?.warnings.length ?? 0) > 0
  const noticeMs = job.options.timeoutMs + NOTICE_GRACE_MS
  const error = await run.run(before, isUnclean, isBroken ? noticeMs : SHORT_WAIT_MS)
  if (error !== null && isSkipped(error)) {
    await changeJobState(stateDir, job.name, (state) => skipped({ ...state, running: null }))
    throw error
  }
  const record = await noted(run, error, async (ended) => {
    await changeJobState(stateDir, job.name, (state) =>
      afterwards(state, ended, run.found, error, job, context),
    )
    await appendHistory(stateDir, job.name, ended)
  })
  context.hooks.onEvent({ event: 'result', ok: error === null, job: job.name, ...record })
  return record
}

/** A state directory that is full now undoes nothing of what the attempt did: its record says so, and is told. */
async function noted(
  run: Attempt,
  error: SyncError | null,
  write: (record: AttemptRecord) => Promise<void>,
): Promise<AttemptRecord> {
  const record = run.record(error)
  try {
    await write(record)
    return record
  } catch (thrown) {
    run.warn(toSyncError(thrown).message)
    return { ...record, warnings: run.record(error).warnings }
  }
}

function refusePaused(job: Job, { paused }: JobState, { trigger, nowMs }: AttemptContext): void {
  if (paused !== null) {
    const why = paused.reason === null ? '' : ` (${printable(paused.reason)})`
    throw new SyncError(
      'replicate/paused',
      `${job.name} is paused since ${paused.since}${why}; nothing was done`,
      {
        operand: job.name,
        hint: `To go on: blocksync replicate resume ${job.name}`,
      },
    )
  }
  if (trigger === 'now' || isInWindow(job.windows, nowMs())) return
  throw new SyncError(
    'replicate/paused',
    `no attempt of ${job.name} begins outside its windows; nothing was done`,
    {
      operand: job.name,
      hint: `To run it all the same: blocksync replicate run ${job.name} --now`,
    },
  )
}

async function skippedIfBusy<T>(job: Job, context: AttemptContext, locking: Promise<T>): Promise<T> {
  try {
    return await locking
  } catch (error) {
    if (error instanceof SyncError && error.code === 'replicate/busy')
      await changeJobState(context.stateDir, job.name, skipped)
    throw error
  }
}

function skipped(state: JobState): JobState {
  return { ...state, totals: { ...state.totals, skipped: state.totals.skipped + 1 } }
}

/** The state behind an attempt: `found` is the newest generation that the replica's record has. */
function afterwards(
  state: JobState,
  record: AttemptRecord,
  found: JobState['newest'] | undefined,
  error: SyncError | null,
  job: Job,
  context: AttemptContext,
): JobState {
  const { totals } = state
  const failures =
    record.outcome === 'failed' ? state.failures + 1 : record.outcome === 'done' ? 0 : state.failures
  const everyMs = job.schedule.kind === 'every' ? job.schedule.everyMs : null
  const waitMs =
    error === null
      ? null
      : record.outcome === 'interrupted'
        ? FIRST_BACKOFF_MS
        : classOf(error) === 'soon'
          ? backoffMs(failures, everyMs, context.chance())
          : null
  return {
    ...state,
    running: null,
    newest: found === undefined ? state.newest : found,
    last: record,
    failures,
    retryAt: waitMs === null ? null : iso(Date.parse(record.endedAt) + waitMs),
    totals: {
      attempts: totals.attempts + 1,
      failures: totals.failures + (record.outcome === 'failed' ? 1 : 0),
      skipped: totals.skipped,
      sentBytes: totals.sentBytes + record.sentBytes,
    },
  }
}

class Attempt implements Progressing {
  readonly #job: Job
  readonly #context: AttemptContext
  readonly #id: string
  readonly #startedAt: string
  readonly #warnings: string[] = []
  #phase: Phase | null = null
  #sentBytes = 0
  #wireBytes = 0
  #takenAt: string | null = null
  #generation: number | null = null
  /** Undefined: the record was not read. */
  found: JobState['newest'] | undefined = undefined

  constructor(job: Job, context: AttemptContext, id: string, startedAt: string) {
    this.#job = job
    this.#context = context
    this.#id = id
    this.#startedAt = startedAt
  }

  /** Resolves with why it failed, or null. */
  async run(before: JobState, isUnclean: boolean, lockWaitMs: number): Promise<SyncError | null> {
    let error: SyncError | null = null
    try {
      await this.#hook('pre', null)
      this.#context.signal.throwIfAborted()
      const places = placesOf(this.#job, before.direction)
      await makeGeneration(this.#job, this.#context, {
        attempt: this.#id,
        direction: before.direction,
        places,
        isUnclean,
        lockWaitMs,
        tell: this,
      })
      await this.#tryHook('post', null)
    } catch (thrown) {
      error = toSyncError(thrown)
      if (isSkipped(error)) this.warn(error.message)
      else await this.#tryHook('onError', error)
    }
    await this.#tryHook('finally', error)
    return error
  }

  record(error: SyncError | null): AttemptRecord {
    const endedMs = this.#context.nowMs()
    return {
      attempt: this.#id,
      startedAt: this.#startedAt,
      endedAt: iso(endedMs),
      outcome: error === null ? 'done' : error.code.startsWith('interrupt/') ? 'interrupted' : 'failed',
      generation: this.#generation,
      takenAt: this.#takenAt,
      sentBytes: this.#sentBytes,
      wireBytes: this.#wireBytes,
      // a clock that was set back made no attempt shorter than nothing
      durationMs: Math.max(0, endedMs - Date.parse(this.#startedAt)),
      error: failureOf(error),
      warnings: [...this.#warnings],
    }
  }

  phase(phase: Phase): void {
    this.#phase = phase
    this.#context.hooks.onEvent({ event: 'phase', job: this.#job.name, attempt: this.#id, phase })
  }

  warn(text: string): void {
    const message = printable(text).slice(0, MAX_WORDS_UNITS)
    if (this.#warnings.length >= MAX_WARNINGS || this.#warnings.includes(message)) return
    this.#warnings.push(message)
    this.#context.hooks.onEvent({ event: 'warning', job: this.#job.name, message })
  }

  sent(sentBytes: number, wireBytes: number): void {
    this.#sentBytes = sentBytes
    this.#wireBytes = wireBytes
  }

  taken(takenAt: string): void {
    this.#takenAt = takenAt
  }

  newest(newest: JobState['newest'], isNew: boolean): void {
    this.found = newest
    if (isNew) this.#generation = newest?.generation ?? null
  }

  async #hook(name: HookName, error: SyncError | null): Promise<void> {
    const facts: AttemptFacts = {
      job: this.#job.name,
      attempt: this.#id,
      phase: this.#phase,
      generation: this.#generation,
      takenAt: this.#takenAt,
      sentBytes: this.#sentBytes,
      error: failureOf(error),
    }
    await this.#context.hooks.runHook(name, facts)
  }

  /** The same where nothing is to fail for it. */
  async #tryHook(name: HookName, error: SyncError | null): Promise<void> {
    try {
      await this.#hook(name, error)
    } catch (thrown) {
      this.warn(toSyncError(thrown).message)
    }
  }
}

function failureOf(error: SyncError | null): FailureRecord | null {
  if (error === null) return null
  const cut = (text: string | null): string | null => (text === null ? null : text.slice(0, MAX_WORDS_UNITS))
  const { code, message, operand, hint } = error
  return { code, message: message.slice(0, MAX_WORDS_UNITS), operand: cut(operand), hint: cut(hint) }
}

function iso(epochMs: number): string {
  return new Date(epochMs).toISOString()
}
