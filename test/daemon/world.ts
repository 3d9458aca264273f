// Jobs, states and attempts of a scheduler in memory, under a clock that a test turns. A fake attempt ends when the test says so, and
// writes what a real one would have written.

import type { Job } from '../../src/config/config.js'
import type { Work } from '../../src/daemon/job-entry.js'
import type { Told } from '../../src/daemon/notify.js'
import { Scheduler } from '../../src/daemon/scheduler.js'
import type { ChildEnd } from '../../src/daemon/supervisor.js'
import { syncOptions } from '../../src/options.js'
import type { JobState } from '../../src/replicate/job-state.js'
import { openSchedule } from '../../src/replicate/schedule.js'
import { newJobState } from '../../src/replicate/state-file.js'
import { turns } from '../support/turns.js'
import { TestClock } from '../support/test-clock.js'

export const START = Date.parse('2026-05-05T12:00:00Z')

export function job(name: string, change: Partial<Job> = {}): Job {
  const operand = { typed: `/${name}`, host: null, path: `/${name}` }
  return {
    name,
    place: { file: 'config.yaml', line: 1, column: 1 },
    disks: [{ source: operand, destination: operand }] as unknown as Job['disks'],
    schedule: { kind: 'every', everyMs: 60_000, jitterMs: 0 },
    windows: [],
    snapshot: { kind: 'none' },
    track: 'auto',
    quiesce: null,
    keep: { last: 1, hourly: 0, daily: 0, weekly: 0 },
    lag: { warningMs: 120_000, criticalMs: 240_000 },
    verifyEveryMs: null,
    hooks: { pre: null, post: null, onError: null, finally: null },
    notify: [],
    boot: null,
    options: syncOptions({}),
    ...change,
  }
}

export const WELL: ChildEnd = {
  told: 'result',
  ok: true,
  code: null,
  message: null,
  exitStatus: 0,
  signal: null,
}

export function failed(code: string): ChildEnd {
  return { ...WELL, ok: false, code, message: `it is ${code}`, exitStatus: 8 }
}

export type Begun = Readonly<{
  job: string
  work: Work
  atMs: number
  /** Ends it; the state is written as an attempt would, unless `writes` is `nothing`. */
  end: (end?: ChildEnd, writes?: 'state' | 'nothing') => Promise<void>
}>

export class World {
  readonly clock = new TestClock(START)
  readonly states = new Map<string, JobState>()
  readonly stamps = new Map<string, number>()
  readonly begun: Begun[] = []
  readonly lines: string[] = []
  readonly told: [job: string, why: string][] = []
  readonly skipped: string[] = []
  broken = new Map<string, Error>()
  /** Behind the clock on the wall, which somebody may set. */
  offsetMs = 0
  changes = 0
  reads = 0
  running = 0
  mostRunning = 0
  #ended = 0
  #scheduler: Scheduler | null = null

  get scheduler(): Scheduler {
    if (this.#scheduler === null) throw new Error('it has not begun')
    return this.#scheduler
  }

  readonly wallMs = (): number => this.clock.nowMs() + this.offsetMs

  async begin(jobs: readonly Job[], maxParallel = 2): Promise<void> {
    const next = await openSchedule(jobs)
    this.#scheduler = new Scheduler(
      {
        nowMs: this.wallMs,
        steadyMs: this.clock.nowMs,
        setTimer: this.clock.setTimer,
        chance: () => 0,
        readState: async (name) => {
          this.reads++
          const error = this.broken.get(name)
          if (error !== undefined) throw error
          return this.states.get(name) ?? newJobState(name)
        },
        stampOf: async (name) => String(this.stamps.get(name) ?? 'none'),
        work: async (one, work) => await this.#work(one, work),
        countSkipped: async (name) => {
          this.skipped.push(name)
          this.write(name, {})
        },
        tell: (one, state, why) => this.told.push([`${one.name}:${state.told satisfies Told}`, why]),
        log: (level, name, message) => this.lines.push(`${level} ${name ?? '-'}: ${message}`),
        onChange: () => {
          this.changes++
        },
      },
      next,
      maxParallel,
    )
    await this.jobs(jobs, maxParallel)
  }

  async jobs(jobs: readonly Job[], maxParallel = 2): Promise<void> {
    await this.scheduler.setJobs(jobs, await openSchedule(jobs), maxParallel)
    await turns(10)
  }

  /** As somebody else would write it. */
  write(name: string, change: Partial<JobState>): void {
    this.states.set(name, { ...(this.states.get(name) ?? newJobState(name)), ...change })
    this.stamps.set(name, (this.stamps.get(name) ?? 0) + 1)
  }

  /** Seconds since the start at which attempts began, by job. */
  times(name: string): number[] {
    return this.begun.filter((one) => one.job === name).map(({ atMs }) => (atMs - START) / 1000)
  }

  /** Lets all that were begun, and all that are begun until then, end well at once while the clock goes on. */
  async passBy(ms: number): Promise<void> {
    const untilMs = this.clock.nowMs() + ms
    while (this.clock.nowMs() < untilMs) {
      for (; this.#ended < this.begun.length; this.#ended++) await this.begun[this.#ended]?.end()
      await this.clock.advance(Math.min(1000, untilMs - this.clock.nowMs()))
    }
  }

  async #work(one: Job, work: Work): Promise<ChildEnd> {
    const atMs = this.wallMs()
    this.running++
    this.mostRunning = Math.max(this.mostRunning, this.running)
    let hasEnded = false
    return await new Promise((resolve) => {
      this.begun.push({
        job: one.name,
        work,
        atMs,
        end: async (end = WELL, writes = 'state') => {
          if (hasEnded) return
          hasEnded = true
          this.running--
          if (writes === 'state') this.#writeEnd(one.name, work, atMs, end)
          resolve(end)
          await turns(10)
        },
      })
    })
  }

  #writeEnd(name: string, work: Work, atMs: number, end: ChildEnd): void {
    const at = new Date(atMs).toISOString()
    if (work === 'drill') return this.write(name, { drill: { at, outcome: 'proved', generation: 1 } })
    const failures = end.ok ? 0 : (this.states.get(name)?.failures ?? 0) + 1
    const retryAt = end.code === 'session/lost' ? new Date(this.wallMs() + 5_000).toISOString() : null
    const newest = { generation: 1, takenAt: at, completedAt: at }
    this.write(name, { scheduledAt: at, failures, retryAt, ...(end.ok ? { newest } : {}) })
  }
}
