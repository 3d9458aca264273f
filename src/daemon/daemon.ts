// `blocksync replicate daemon`: all jobs of a configuration, for ever. One for a state directory; SIGHUP reads the configuration again,
// SIGTERM ends everything in order. Refuses to begin with a configuration that is wrong; later the one before stays.

import { hostname } from 'node:os'

import { SyncError, toSyncError } from '../errors.js'
import { ownWhereabouts } from '../rate/place.js'
import { lockDaemon, type DaemonNote } from '../replicate/daemon-lock.js'
import { BASE_VARIABLE } from '../replicate/given-base.js'
import { ownStatePath } from '../state/directory.js'
import { packageVersion } from '../version.js'
import { within } from '../within.js'
import { Attempts } from './attempts.js'
import { Bases } from './bases.js'
import { Budget, limitBySocket } from './budget.js'
import type { DaemonContext, DaemonSignal } from './daemon-context.js'
import { createLog, usualLogForm, type Log } from './log.js'
import { loadAndKeep, type Loaded } from './reload.js'
import { MOST_SLEEP_MS, Scheduler } from './scheduler.js'
import { schedulerParts } from './scheduler-files.js'
import { serviceManager, type ServiceManager } from './sd-notify.js'
import { Shown } from './shown.js'
import { Teller } from './tell.js'

/**
 * Leading a replica back takes as long as what was written since; behind this time attempts are killed, and the next one does it.
 * Below the 90 s that systemd gives a service to end.
 */
const STOP_GRACE_MS = 75_000
/** What is being told to people when all else has ended. */
const TELL_GRACE_MS = 5_000
/** The schedule is looked at every MOST_SLEEP_MS; when it is not for so long, something is wrong here. */
const MOST_IDLE_MS = 3 * MOST_SLEEP_MS

/** Variables that are for us and not for what we start, and one that we alone say. */
const OWN_VARIABLES = [
  'NOTIFY_SOCKET',
  'WATCHDOG_USEC',
  'WATCHDOG_PID',
  'LISTEN_FDS',
  'LISTEN_PID',
  BASE_VARIABLE,
]

/**
 * Runs until SIGTERM or SIGINT, then resolves with the exit status: 0 for SIGTERM, which is how systemd ends a service, 130 for SIGINT.
 * Attempts that ran were ended in order; a second signal kills them, and the status is 143 or 130. Rejects with config/*,
 * replicate/busy, state/unusable, and with what `openFront` says; then nothing was started.
 */
export async function runDaemon(context: DaemonContext): Promise<number> {
  const { environment, loadConfig, configPaths } = context
  const log = createLog(context.logForm ?? usualLogForm(environment), 'info', Date.now, context.write)
  const first = await loadConfig(configPaths)
  const stateDir = ownStatePath(context.stateDir ?? first.stateDir)
  await using lock = await lockDaemon(stateDir, Date.now())
  const loaded = await loadAndKeep(configPaths, loadConfig, stateDir, Date.now())
  const manager = serviceManager(environment, context.native, (message) => log('warning', null, message))
  const daemon = new Daemon(context, stateDir, loaded, lock.note, log, manager)
  return await daemon.run()
}

class Daemon {
  readonly #context: DaemonContext
  readonly #stateDir: string
  readonly #log: Log
  readonly #manager: ServiceManager
  readonly #budget: Budget
  readonly #bases: Bases
  readonly #attempts: Attempts
  readonly #scheduler: Scheduler
  readonly #teller: Teller
  readonly #shown: Shown
  #loaded: Loaded
  #front: AsyncDisposable | null = null
  #reloads: Promise<void> = Promise.resolve()
  #end: (signal: DaemonSignal) => void = () => undefined
  readonly #firstSignal = new Promise<DaemonSignal>((resolve) => {
    this.#end = resolve
  })
  #killAll: (() => void) | null = null
  /** Whoever sends a second one does not want to wait. */
  #second: DaemonSignal | null = null
  #state: 'starting' | 'running' | 'stopping' = 'starting'

  constructor(
    context: DaemonContext,
    stateDir: string,
    loaded: Loaded,
    note: DaemonNote,
    log: Log,
    manager: ServiceManager,
  ) {
    this.#context = context
    this.#stateDir = stateDir
    this.#loaded = loaded
    this.#log = log
    this.#manager = manager
    const { config, next } = loaded
    const steadyMs = (): number => performance.now()
    const environment = { ...context.environment }
    for (const name of OWN_VARIABLES) delete environment[name]
    this.#budget = new Budget(config.bwlimit, limitBySocket(ownWhereabouts(environment)), (pid, message) =>
      log('warning', null, `the attempt with pid ${pid} did not take its share of the bandwidth: ${message}`),
    )
    this.#bases = new Bases({
      log,
      steadyMs,
      ...(context.statfs === undefined ? {} : { statfs: context.statfs }),
    })
    this.#attempts = new Attempts({
      program: context.program,
      environment,
      stateDir,
      configFiles: () => this.#loaded.files,
      bwlimitText: context.bwlimitText,
      budget: this.#budget,
      bases: this.#bases,
      log,
      steadyMs,
    })
    const files = schedulerParts(stateDir)
    this.#teller = new Teller({
      targets: () => this.#loaded.config.notify,
      statusOf: (job, state) => this.#shown.statusOf(job, state),
      saveTold: files.saveTold,
      log,
      ...(context.notifyBy === undefined ? {} : { by: context.notifyBy }),
    })
    this.#scheduler = new Scheduler(
      {
        nowMs: Date.now,
        steadyMs,
        setTimer: (wake, delayMs) => {
          const timer = setTimeout(wake, delayMs)
          return () => clearTimeout(timer)
        },
        chance: Math.random,
        ...files,
        work: (job, work) => this.#attempts.work(job, work),
        tell: (job, state, why) => this.#teller.tell(job, state, why),
        log,
        onChange: () => this.#changed(),
      },
      next,
      config.maxParallel,
    )
    this.#shown = new Shown({
      scheduler: this.#scheduler,
      attempts: this.#attempts,
      stateDir,
      note,
      host: hostname(),
      version: packageVersion(),
      facts: () => ({ configLoadedAt: this.#loaded.loadedAt, maxParallel: this.#loaded.config.maxParallel }),
      whyUnhealthy: () => this.#whyUnhealthy(),
    })
  }

  async run(): Promise<number> {
    const { signals, openFront } = this.#context
    const { config } = this.#loaded
    const onEnd = { SIGINT: () => this.#asked('SIGINT'), SIGTERM: () => this.#asked('SIGTERM') }
    const onReload = (): void => this.#reloadLater()
    signals.on('SIGINT', onEnd.SIGINT)
    signals.on('SIGTERM', onEnd.SIGTERM)
    signals.on('SIGHUP', onReload)
    let aliveTimer: NodeJS.Timeout | null = null
    try {
      this.#front = await openFront(config.metrics, this.#shown, this.#log)
      aliveTimer = this.#watch()
      await this.#scheduler.setJobs(config.jobs, this.#loaded.next, config.maxParallel)
      if (this.#state === 'starting') this.#state = 'running'
      this.#log(
        'info',
        null,
        `blocksync ${packageVersion()}: ${jobCount(config.jobs.length)}, state in ${this.#stateDir}`,
      )
      await this.#manager.ready(this.#statusText())
      return await this.#stop(await this.#firstSignal)
    } finally {
      if (aliveTimer !== null) clearInterval(aliveTimer)
      await this.#front?.[Symbol.asyncDispose]()
      await this.#bases.dropAll()
      signals.removeListener('SIGINT', onEnd.SIGINT)
      signals.removeListener('SIGTERM', onEnd.SIGTERM)
      signals.removeListener('SIGHUP', onReload)
    }
  }

  #asked(signal: DaemonSignal): void {
    if (this.#state === 'stopping') {
      this.#second = signal
      this.#killAll?.()
      return
    }
    this.#state = 'stopping'
    this.#end(signal)
  }

  /** Ends what runs; resolves with the exit status. */
  async #stop(signal: DaemonSignal): Promise<number> {
    const count = this.#scheduler.runningCount
    this.#log(
      'info',
      null,
      `${signal}: ending${count === 0 ? '' : `, and ${count} that run${count === 1 ? 's' : ''} in order`}`,
    )
    await this.#manager.stopping()
    const ended = this.#scheduler.stop()
    this.#killAll = this.#attempts.end(this.#context.stopGraceMs ?? STOP_GRACE_MS)
    // it may have come while systemd was told
    if (this.#second !== null) this.#killAll()
    await ended
    await this.#reloads
    await Promise.all([this.#bases.dropAll(), within(this.#teller.idle(), TELL_GRACE_MS)])
    this.#log('info', null, 'ended')
    const last = this.#second ?? signal
    if (last === 'SIGINT') return new SyncError('interrupt/sigint', '').exitStatus
    return this.#second === null ? 0 : new SyncError('interrupt/sigterm', '').exitStatus
  }

  #reloadLater(): void {
    this.#reloads = this.#reloads.then(async () => this.#reload())
  }

  /** Never rejects. */
  async #reload(): Promise<void> {
    if (this.#state !== 'running') return
    await this.#manager.reloading()
    try {
      const { configPaths, loadConfig } = this.#context
      const loaded = await loadAndKeep(configPaths, loadConfig, this.#stateDir, Date.now())
      await this.#take(loaded)
      this.#shown.reloaded(null)
      this.#log('info', null, `the configuration was read again: ${jobCount(loaded.config.jobs.length)}`)
    } catch (thrown) {
      const { code, message } = toSyncError(thrown)
      this.#shown.reloaded(message.split('\n')[0] ?? code)
      this.#log(
        'error',
        null,
        `the configuration was not taken over, the one before stays: ${code}: ${message}`,
      )
    }
    this.#changed()
    await this.#manager.ready(this.#statusText())
  }

  /** Rejects where the new address is not to be had; then all is as before. */
  async #take(loaded: Loaded): Promise<void> {
    const { config, next } = loaded
    const before = this.#loaded.config
    const stateDir = ownStatePath(this.#context.stateDir ?? config.stateDir)
    if (stateDir !== this.#stateDir)
      throw new SyncError(
        'config/invalid',
        `state_dir is ${stateDir} now, and this daemon works in ${this.#stateDir}`,
        {
          operand: 'state_dir',
          hint: 'Restart the daemon.',
        },
      )
    if (JSON.stringify(config.metrics) !== JSON.stringify(before.metrics)) {
      await this.#front?.[Symbol.asyncDispose]()
      this.#front = null
      try {
        this.#front = await this.#context.openFront(config.metrics, this.#shown, this.#log)
      } catch (error) {
        this.#front = await this.#context.openFront(before.metrics, this.#shown, this.#log)
        throw error
      }
    }
    this.#loaded = loaded
    this.#budget.setTotal(config.bwlimit)
    await this.#scheduler.setJobs(config.jobs, next, config.maxParallel)
  }

  /** Signs of life for systemd, while there is life. */
  #watch(): NodeJS.Timeout | null {
    const { aliveEveryMs } = this.#manager
    if (aliveEveryMs === null) return null
    return setInterval(() => {
      if (this.#scheduler.idleMs <= MOST_IDLE_MS || this.#state === 'stopping')
        this.#manager
          .alive()
          .catch((error: unknown) => this.#log('warning', null, toSyncError(error).message))
    }, aliveEveryMs)
  }

  #whyUnhealthy(): string | null {
    if (this.#state === 'stopping') return 'the daemon is ending'
    if (this.#state === 'starting') return 'the daemon is starting'
    const { idleMs } = this.#scheduler
    return idleMs <= MOST_IDLE_MS
      ? null
      : `the schedule was last looked at ${Math.round(idleMs / 1000)} s ago`
  }

  #statusText(): string {
    return `${jobCount(this.#loaded.config.jobs.length)}, ${this.#scheduler.runningCount} running`
  }

  #changed(): void {
    this.#attempts.lookForSilent()
    this.#bases.keepOnly(this.#scheduler.views())
    this.#bases.lookForRoom()
    this.#shown.changed()
    if (this.#state !== 'running') return
    this.#manager
      .status(this.#statusText())
      .catch((error: unknown) => this.#log('warning', null, toSyncError(error).message))
  }
}

function jobCount(count: number): string {
  return count === 1 ? '1 job' : `${count} jobs`
}
