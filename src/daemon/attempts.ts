// The processes that run attempts and drills now: started with the words they need, listened to, ended in order at the end of the
// daemon. A process that hangs is said to, not killed.

import type { Job } from '../config/config.js'
import type { Argv } from '../exec.js'
import type { RateSchedule } from '../rate/schedule.js'
import type { Phase, TrackedDisk } from '../replicate/events.js'
import type { Bases } from './bases.js'
import type { Budget } from './budget.js'
import type { Work } from './job-entry.js'
import type { Log } from './log.js'
import { startChild, type ChildEnd, type RunningChild } from './supervisor.js'
import type { RunningProgress } from './view.js'

/** A process that told nothing for so long is named once; a large disk that is compared tells how far it is all the time. */
const SILENT_MS = 600_000

/** Of one attempt that are known again; an attempt has a few. */
const MAX_KNOWN_WARNINGS = 100

/** Of what may be ended in order, this share of the time is given before a signal says the same. */
const BEFORE_SIGNAL = 0.5

export type AttemptsContext = Readonly<{
  /** This program: Node.js and its entry. */
  program: Argv
  environment: NodeJS.ProcessEnv
  stateDir: string
  /** The files of the configuration in force. */
  configFiles: () => readonly string[]
  bwlimitText: (schedule: RateSchedule | null) => string
  budget: Budget
  bases: Bases
  log: Log
  steadyMs: () => number
}>

type Running = {
  readonly child: RunningChild
  readonly job: string
  readonly work: Work
  phase: Phase | null
  progress: RunningProgress | null
  heardMs: number
  isSilenceTold: 'yes' | 'no'
}

function minutes(ms: number): string {
  return `${Math.floor(ms / 60_000)} min`
}

export class Attempts {
  readonly #context: AttemptsContext
  readonly #running = new Set<Running>()
  /** By job, of its last attempt: what is so each time is said once. */
  readonly #warned = new Map<string, ReadonlySet<string>>()

  constructor(context: AttemptsContext) {
    this.#context = context
  }

  /** Runs one to its end. Never rejects: how it ended is the answer, and a line in the log. */
  async work(job: Job, work: Work): Promise<ChildEnd> {
    const { budget, bases, log, environment, steadyMs } = this.#context
    const own = job.options.bwlimit
    const share = work === 'attempt' ? budget.shareForNext(own) : null
    const argv = this.#words(job.name, work, share, own)
    const startedMs = steadyMs()
    const warnings = new Set<string>()
    const heard = (running: Running): void => {
      running.heardMs = steadyMs()
      if (running.child.pid !== null && work === 'attempt') budget.heard(running.child.pid)
    }
    // a drill reads the replica, and all of it
    const base = work === 'attempt' ? bases.environmentFor(job) : null
    let tracked: readonly TrackedDisk[] | null = null
    const child = startChild(
      argv,
      { ...environment, ...base },
      {
        onPhase: (phase, attempt) => {
          if (running.phase === null) log('debug', job.name, `attempt ${attempt} began`)
          running.phase = phase
          heard(running)
        },
        onProgress: (progress) => {
          running.progress = progress
          heard(running)
        },
        onWarning: (message) => {
          if (warnings.size < MAX_KNOWN_WARNINGS) warnings.add(message)
          if (this.#warned.get(job.name)?.has(message) !== true) log('warning', job.name, message)
        },
        onTracked: (name, disks) => {
          if (base !== null && name === job.name) tracked = disks
        },
        onSaid: (line) => {
          // warnings came as events already
          if (!line.startsWith('blocksync: warning: ')) log('info', job.name, line)
        },
      },
    )
    const running: Running = {
      child,
      job: job.name,
      work,
      phase: null,
      progress: null,
      heardMs: startedMs,
      isSilenceTold: 'no',
    }
    this.#running.add(running)
    if (child.pid !== null && work === 'attempt') budget.add(child.pid, own)
    try {
      const end = await child.ended
      this.#logEnd(running, end, steadyMs() - startedMs)
      // before the next attempt begins, which removes what it finds of this one
      if (end.ok && tracked !== null) await bases.adopt(job, tracked)
      return end
    } finally {
      this.#running.delete(running)
      if (work === 'attempt') this.#warned.set(job.name, warnings)
      if (child.pid !== null) budget.remove(child.pid)
    }
  }

  progress(): ReadonlyMap<string, RunningProgress> {
    const told = new Map<string, RunningProgress>()
    for (const { job, progress } of this.#running) if (progress !== null) told.set(job, progress)
    return told
  }

  /** Names those that tell nothing; called about once a minute. */
  lookForSilent(): void {
    const { log, steadyMs } = this.#context
    for (const running of this.#running) {
      const silentMs = steadyMs() - running.heardMs
      if (silentMs < SILENT_MS || running.isSilenceTold === 'yes') continue
      running.isSilenceTold = 'yes'
      const where = running.phase === null ? '' : ` in phase ${running.phase}`
      const { pid } = running.child
      log(
        'warning',
        running.job,
        `its process ${pid} has told nothing for ${minutes(silentMs)}${where}; it goes on`,
      )
    }
  }

  /**
   * Has all end in order: at once by the end of their stdin, later by a signal, behind `graceMs` by force. What it returns kills
   * what is left now.
   */
  end(graceMs: number): () => void {
    const all = [...this.#running]
    for (const { child } of all) child.end()
    const signalTimer = setTimeout(() => {
      for (const { child } of all) child.terminate()
    }, graceMs * BEFORE_SIGNAL)
    const killAll = (): void => {
      for (const running of all.filter((one) => this.#running.has(one))) {
        const { child, job } = running
        this.#context.log('warning', job, `its process ${child.pid} did not end in time and was killed`)
        child.kill()
      }
    }
    const killTimer = setTimeout(killAll, graceMs)
    for (const timer of [signalTimer, killTimer]) timer.unref()
    return killAll
  }

  #words(job: string, work: Work, share: RateSchedule | null, own: RateSchedule | null): Argv {
    const { program, stateDir, configFiles, bwlimitText } = this.#context
    const command = work === 'attempt' ? 'run' : 'drill'
    const files = configFiles().flatMap((path) => ['--config', path])
    // without a budget the job's own limit holds, which the process reads itself
    const limit = share === own ? [] : ['--bwlimit', bwlimitText(share)]
    const words = ['--json', '--from-daemon', '--state-dir', stateDir]
    return [...program, 'replicate', command, job, ...words, ...limit, ...files]
  }

  #logEnd({ job, work }: Running, end: ChildEnd, durationMs: number): void {
    const { log } = this.#context
    const what = work === 'attempt' ? 'attempt' : 'drill'
    const seconds = `${(durationMs / 1000).toFixed(1)} s`
    if (end.ok) return log('info', job, `${what} done in ${seconds}`)
    if (end.code === 'replicate/busy')
      return log('info', job, `${what} skipped: ${end.message ?? 'another process has the job'}`)
    log('error', job, `${what} failed after ${seconds}: ${end.code}: ${end.message ?? 'it told no reason'}`)
  }
}
