// Begins what is due: every job by itself, so many at once, the latest first. Sleeps until the next one is due, and looks at the clock
// and at the files once a minute. Refuses nothing that was missed: it is caught up once.

import pLimit from 'p-limit'

import type { Job } from '../config/config.js'
import { toSyncError, type SyncError } from '../errors.js'
import { newJobState } from '../replicate/state-file.js'
import type { JobState } from '../replicate/job-state.js'
import { isOfTheFuture, type NextRun } from '../replicate/schedule.js'
import { dueWork, effectiveState, plan, untoldOf, type Entry, type Work } from './job-entry.js'
import type { JobView, SchedulerParts } from './scheduler-parts.js'
import type { ChildEnd } from './supervisor.js'

/** The clock may be set, the machine may sleep, a job may be resumed by hand: all is seen within this time. */
export const MOST_SLEEP_MS = 60_000
/** A timer may fire a little early; and what is due and cannot begin is not asked for at full speed. */
const LEAST_SLEEP_MS = 50
/** Clocks are set by less than this all the time. */
const CLOCK_STEP_MS = 2_000

/** What of a state says when the job is next; the rest may change without that. */
function scheduleKey({ scheduledAt, retryAt, paused, running }: JobState): string {
  return [scheduledAt, retryAt, paused?.since, running?.attempt].join(' ')
}

export class Scheduler {
  readonly #parts: SchedulerParts
  readonly #limit: ReturnType<typeof pLimit>
  readonly #entries = new Map<string, Entry>()
  readonly #waiting = new Set<Entry>()
  readonly #running = new Map<Entry, Promise<void>>()
  #next: NextRun
  #callOff: (() => void) | null = null
  #state: 'open' | 'stopping' = 'open'
  #pass: 'none' | 'under-way' | 'again' = 'none'
  #lastWallMs: number
  #lastSteadyMs: number
  #refreshedSteadyMs: number
  #clockSteps = 0

  constructor(parts: SchedulerParts, next: NextRun, maxParallel: number) {
    this.#parts = parts
    this.#next = next
    this.#limit = pLimit(maxParallel)
    this.#lastWallMs = parts.nowMs()
    this.#lastSteadyMs = this.#refreshedSteadyMs = parts.steadyMs()
  }

  /** Reads the states of all and begins what is due. Later it replaces the jobs: what runs goes on, also of a job that is gone. */
  async setJobs(jobs: readonly Job[], next: NextRun, maxParallel: number): Promise<void> {
    this.#next = next
    this.#limit.concurrency = maxParallel
    const names = new Set(jobs.map(({ name }) => name))
    for (const [name, entry] of this.#entries) {
      if (names.has(name)) continue
      this.#entries.delete(name)
      this.#waiting.delete(entry)
    }
    for (const job of jobs) {
      const known = this.#entries.get(job.name)
      if (known === undefined) await this.#add(job)
      else known.job = job
    }
    // in the order of the configuration, which is that of the jobs that were never run
    const ordered = jobs.flatMap(({ name }) => this.#entries.get(name) ?? [])
    this.#entries.clear()
    for (const entry of ordered) this.#entries.set(entry.job.name, entry)
    const nowMs = this.#parts.nowMs()
    for (const entry of ordered) plan(entry, this.#next, nowMs)
    this.wake()
  }

  /** Looks at the clock and at what is due; it is called by the timer, and may be called at any time. */
  wake(): void {
    if (this.#state === 'stopping') return
    if (this.#pass !== 'none') {
      this.#pass = 'again'
      return
    }
    this.#pass = 'under-way'
    this.#look().then(
      () => this.#looked(),
      (error: unknown) => {
        this.#parts.log('error', null, `the schedule could not be looked at: ${toSyncError(error).message}`)
        this.#looked()
      },
    )
  }

  /** Begins nothing more; resolves when all that runs has ended. */
  async stop(): Promise<void> {
    this.#state = 'stopping'
    this.#callOff?.()
    this.#callOff = null
    await Promise.all(this.#running.values())
  }

  /** How long ago the clock was last looked at: far more than MOST_SLEEP_MS is a defect. */
  get idleMs(): number {
    return this.#parts.steadyMs() - this.#lastSteadyMs
  }

  get runningCount(): number {
    return this.#running.size
  }

  get waitingCount(): number {
    return this.#waiting.size
  }

  /** How often the clock was set, or the machine slept. */
  get clockSteps(): number {
    return this.#clockSteps
  }

  /** Reads again what others have written (a pause, a run by hand). */
  async refresh(): Promise<void> {
    for (const entry of this.#entries.values()) if (entry.phase !== 'running') await this.#reread(entry)
  }

  views(): JobView[] {
    const nowMs = this.#parts.nowMs()
    return Array.from(this.#entries.values(), (entry) => {
      const state = effectiveState(entry)
      const isRunning = entry.phase === 'running'
      if (!isRunning) return { job: entry.job, state, isRunning, nextRunMs: entry.dueMs }
      // as it will be when this attempt has ended well
      const served = { ...state, scheduledAt: new Date(entry.startedMs).toISOString(), retryAt: null }
      return { job: entry.job, state, isRunning, nextRunMs: this.#next(entry.job, served, nowMs, nowMs) }
    })
  }

  async #add(job: Job): Promise<void> {
    const entry: Entry = {
      job,
      state: newJobState(job.name),
      stamp: null,
      sinceMs: this.#parts.nowMs(),
      untold: null,
      drilledMs: null,
      phase: 'idle',
      work: 'attempt',
      startedMs: 0,
      dueMs: null,
      drillDueMs: null,
    }
    this.#entries.set(job.name, entry)
    await this.#reread(entry)
  }

  /** Reads the state again where its file is another one than before, and plans. Never rejects. */
  async #reread(entry: Entry): Promise<void> {
    const { name } = entry.job
    try {
      const stamp = await this.#parts.stampOf(name)
      if (stamp === entry.stamp) return
      const state = await this.#parts.readState(name)
      // an attempt has begun while it was read
      if (entry.phase === 'running') return
      const { untold } = entry
      const isOther = scheduleKey(state) !== scheduleKey(entry.state)
      // it can be read again; or whoever had the job has ended with it
      if (entry.stamp === null || (untold?.failure === null && isOther)) entry.untold = null
      this.#take(entry, state, stamp)
    } catch (error) {
      this.#unreadable(entry, toSyncError(error), this.#parts.nowMs())
    }
    plan(entry, this.#next, this.#parts.nowMs())
  }

  #take(entry: Entry, state: JobState, stamp: string): void {
    if (entry.stamp === null || scheduleKey(state) !== scheduleKey(entry.state))
      entry.sinceMs = this.#parts.nowMs()
    entry.state = state
    entry.stamp = stamp
    const { untold } = entry
    if (untold !== null && state.scheduledAt !== null && Date.parse(state.scheduledAt) >= untold.atMs)
      entry.untold = null
    if (isOfTheFuture(entry.job, state, entry.sinceMs, this.#next)) {
      const when = `${state.scheduledAt} is still to come`
      this.#parts.log('warning', entry.job.name, `the clock went back: ${when}; the next run counts from now`)
    }
  }

  /** It is not run while that is so, and looked at once a minute. */
  #unreadable(entry: Entry, { code, message }: SyncError, atMs: number): void {
    if (entry.untold?.failure?.message !== message)
      this.#parts.log('error', entry.job.name, `${code}: ${message}`)
    entry.untold = { atMs, retryAtMs: null, count: 1, failure: { code, message } }
    entry.sinceMs = atMs
    entry.stamp = null
  }

  async #look(): Promise<void> {
    this.#callOff?.()
    this.#callOff = null
    const isClockSet = this.#lookAtClock()
    if (isClockSet || this.#parts.steadyMs() - this.#refreshedSteadyMs >= MOST_SLEEP_MS) {
      this.#refreshedSteadyMs = this.#parts.steadyMs()
      await this.refresh()
      for (const entry of this.#entries.values()) this.#parts.tell(entry.job, effectiveState(entry), 'time')
      this.#parts.onChange()
    }
    const nowMs = this.#parts.nowMs()
    const due = Array.from(this.#entries.values()).filter(
      (entry) => entry.phase === 'idle' && dueWork(entry, nowMs) !== null,
    )
    for (const entry of due) {
      // it may have been paused, or run by hand, and a window may be over
      await this.#reread(entry)
      plan(entry, this.#next, nowMs)
    }
    // all of them before the first place is given away
    for (const entry of due) if (entry.phase === 'idle' && dueWork(entry, nowMs) !== null) this.#queue(entry)
  }

  #looked(): void {
    const again = this.#pass === 'again'
    this.#pass = 'none'
    if (this.#state === 'stopping') return
    if (again) return this.wake()
    const nowMs = this.#parts.nowMs()
    let sleepMs = MOST_SLEEP_MS
    for (const { phase, dueMs, drillDueMs } of this.#entries.values()) {
      if (phase !== 'idle') continue
      for (const atMs of [dueMs, drillDueMs]) if (atMs !== null) sleepMs = Math.min(sleepMs, atMs - nowMs)
    }
    this.#callOff = this.#parts.setTimer(() => this.wake(), Math.max(LEAST_SLEEP_MS, sleepMs))
  }

  /** True where somebody set the clock, or the machine slept. */
  #lookAtClock(): boolean {
    const [wallMs, steadyMs] = [this.#parts.nowMs(), this.#parts.steadyMs()]
    const stepMs = wallMs - this.#lastWallMs - (steadyMs - this.#lastSteadyMs)
    this.#lastWallMs = wallMs
    this.#lastSteadyMs = steadyMs
    if (Math.abs(stepMs) < CLOCK_STEP_MS) return false
    this.#clockSteps += 1
    const seconds = Math.round(Math.abs(stepMs) / 1000)
    const what = stepMs < 0 ? 'went back by' : 'went forward by, or the machine slept for,'
    this.#parts.log('warning', null, `the clock ${what} ${seconds} s`)
    if (stepMs < 0) {
      // what was counted from a time that is still to come counts from now
      for (const entry of this.#entries.values()) {
        entry.sinceMs = Math.min(entry.sinceMs, wallMs)
        plan(entry, this.#next, wallMs)
      }
    }
    return true
  }

  #queue(entry: Entry): void {
    entry.phase = 'waiting'
    this.#waiting.add(entry)
    // the place is given to whoever is latest when there is one, not to whoever asked first
    this.#limit(() => this.#beginLatest()).catch((error: unknown) => {
      this.#parts.log('error', null, `an attempt could not be begun: ${toSyncError(error).message}`)
    })
  }

  async #beginLatest(): Promise<void> {
    const nowMs = this.#parts.nowMs()
    let latest: Entry | null = null
    let latestMs = Infinity
    for (const entry of this.#waiting) {
      const atMs = dueWork(entry, nowMs)?.atMs ?? Infinity
      if (latest !== null && atMs >= latestMs) continue
      latest = entry
      latestMs = atMs
    }
    if (latest === null || this.#state === 'stopping') return
    this.#waiting.delete(latest)
    await this.#reread(latest)
    plan(latest, this.#next, nowMs)
    const due = dueWork(latest, this.#parts.nowMs())
    if (due === null || this.#stopped() || this.#entries.get(latest.job.name) !== latest) {
      latest.phase = 'idle'
      this.wake()
      return
    }
    const running = this.#run(latest, due.work)
    this.#running.set(latest, running)
    await running
  }

  /** Also while it was waited for something. */
  #stopped(): boolean {
    return this.#state === 'stopping'
  }

  async #run(entry: Entry, work: Work): Promise<void> {
    entry.phase = 'running'
    entry.work = work
    entry.startedMs = this.#parts.nowMs()
    this.#parts.onChange()
    try {
      await this.#settle(entry, await this.#parts.work(entry.job, work))
    } catch (error) {
      this.#unreadable(entry, toSyncError(error), this.#parts.nowMs())
    } finally {
      entry.phase = 'idle'
      this.#running.delete(entry)
    }
    plan(entry, this.#next, this.#parts.nowMs())
    this.#parts.tell(entry.job, effectiveState(entry), 'attempt')
    this.#parts.onChange()
    this.wake()
  }

  async #settle(entry: Entry, end: ChildEnd): Promise<void> {
    const { name } = entry.job
    if (end.code === 'replicate/busy' && entry.work === 'attempt') await this.#parts.countSkipped(name)
    const [stamp, state] = [await this.#parts.stampOf(name), await this.#parts.readState(name)]
    this.#take(entry, state, stamp)
    entry.sinceMs = this.#parts.nowMs()
    // what stands in the state is of attempts; a drill that could not be made is tried again at its next time
    if (entry.work === 'drill') entry.drilledMs = entry.startedMs
    else entry.untold = untoldOf(entry, state, end, this.#parts.nowMs(), this.#parts.chance())
  }
}
