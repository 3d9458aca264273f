// `blocksync replicate`: what its commands ask of the rest of the program, and those that look and leave notes: check-config,
// status, history, pause, resume. Refuses a job that is neither configured nor known here.

import type { Config, Job, NotifyTarget } from '../config/config.js'
import { EXIT, SyncError, toSyncError } from '../errors.js'
import type { GuardName } from '../guard/guard-name.js'
import type { RateSchedule } from '../rate/schedule.js'
import type { AttemptContext } from '../replicate/context.js'
import type { AttemptEvent } from '../replicate/events.js'
import type { AttemptRecord } from '../replicate/job-state.js'
import type { HeldReplica } from '../replicate/replicas.js'
import type { StatusDocument } from '../replicate/status.js'
import { ownStatePath } from '../state/directory.js'
import type { CommandContext } from './context.js'
import {
  DEFAULT_HISTORY,
  type DaemonFlags,
  type HistoryFlags,
  type PauseFlags,
  type PlaceFlags,
  type ReplicateFlags,
  type StatusWatchFlags,
} from './replicate-flags.js'
import { configSummary, historyLines, jobLines, replicaLines, statusLines } from './replicate-text.js'
import type { UseEngine } from './replicate-use.js'
import { errorOf } from './result.js'
import { runSignal, type RunSignal } from './signals.js'

/** What a command works on. `config` is null on a host that has none. */
export type Setting = Readonly<{ config: Config | null; stateDir: string | null }>

export type AttemptRequest = Readonly<{
  stateDir: string | null
  trigger: 'regular' | 'now'
  force: readonly GuardName[]
  /** Undefined is that of the job. */
  bwlimit: RateSchedule | null | undefined
  signal: AbortSignal
  onEvent: (event: AttemptEvent) => void
  /** What a daemon holds of the attempt before (BASE_VARIABLE); undefined where nothing is kept between attempts. */
  base: string | undefined
  /** Who tells people of a change: a daemon, or this attempt, whom all jobs have in common. */
  notify: Readonly<{ by: 'daemon' | 'this'; targets: readonly NotifyTarget[] }>
  /** For what the engine says besides. */
  syncHooks: AttemptContext['syncHooks']
}>

export type DaemonRequest = Readonly<{
  files: readonly string[] | null
  stateDir: string | null
  log: DaemonFlags['log']
  environment: NodeJS.ProcessEnv
}>

/** What the commands ask of the rest of the program. */
export type ReplicateEngine = UseEngine &
  Readonly<{
    /** Null is the usual place. Rejects with config/missing and config/invalid. */
    loadConfig: (files: readonly string[] | null) => Promise<Config>
    /** Why no attempt may begin by itself now: outside of the windows. Null where one may. */
    whyNotNow: (job: Job, nowMs: number) => string | null
    /** One attempt; its record has what went wrong. Rejects where none was begun: replicate/busy, replicate/paused. */
    run: (job: Job, request: AttemptRequest) => Promise<AttemptRecord>
    /** Until it is told to end; resolves with the exit status. */
    daemon: (request: DaemonRequest) => Promise<number>
    status: (config: Config, stateDir: string | null) => Promise<StatusDocument>
    /** Those whose record is on this host. */
    replicas: (stateDir: string | null) => Promise<readonly HeldReplica[]>
    /** Whether there is a state of a job of that name here. */
    knows: (stateDir: string | null, job: string) => Promise<boolean>
    /** Newest last. */
    history: (stateDir: string | null, job: string, count: number) => Promise<readonly AttemptRecord[]>
    /** Null resumes. Resolves with how it was before. */
    setPaused: (
      stateDir: string | null,
      job: string,
      paused: Readonly<{ reason: string | null }> | null,
    ) => Promise<'paused' | 'running'>
  }>

/** Rejects with config/*; config/missing only where a file was named, or a configuration is needed. */
export async function settingOf(
  { config: files, stateDir }: PlaceFlags,
  engine: ReplicateEngine,
  need: 'config' | 'perhaps',
): Promise<Setting> {
  try {
    const config = await engine.loadConfig(files ?? null)
    // a daemon names the directory that it works in; where that is the usual one, the other host has its own usual one
    const isUsual = stateDir === undefined || stateDir === ownStatePath(config.stateDir)
    return { config, stateDir: isUsual ? config.stateDir : stateDir }
  } catch (thrown) {
    const isMissing = thrown instanceof SyncError && thrown.code === 'config/missing'
    if (!isMissing || files !== undefined || need === 'config') throw thrown
    return { config: null, stateDir: stateDir ?? null }
  }
}

/** With a configuration that has to be there. */
export async function configuredSetting(
  flags: PlaceFlags,
  engine: ReplicateEngine,
): Promise<Setting & { config: Config }> {
  const { config, stateDir } = await settingOf(flags, engine, 'config')
  if (config === null) throw new SyncError('config/missing', 'there is no configuration; nothing was done')
  return { config, stateDir }
}

/** Rejects with replicate/unknown. */
export function jobOf({ jobs }: Config, name: string): Job {
  const job = jobs.find((one) => one.name === name)
  if (job !== undefined) return job
  throw new SyncError('replicate/unknown', `there is no job ${name}; nothing was done`, {
    operand: name,
    hint:
      jobs.length === 0
        ? 'No job is configured.'
        : jobs.length <= MAX_NAMED_JOBS
          ? `There is ${jobs.map((one) => one.name).join(', ')}.`
          : 'blocksync replicate check-config lists them.',
  })
}

const MAX_NAMED_JOBS = 8

/** SIGINT, SIGTERM, and for what a daemon started the end of stdin, which it holds open: each ends it in order. */
export function childSignal(
  { fromDaemon }: Readonly<{ fromDaemon?: true }>,
  { output, signals, exit, onInputEnd }: CommandContext,
): RunSignal {
  const interruption = runSignal(signals, (text) => output.note(text), exit)
  if (fromDaemon !== true) return interruption
  const daemonGone = new AbortController()
  const input = onInputEnd(() =>
    daemonGone.abort(new SyncError('interrupt/sigterm', 'the daemon that started this ended it, or is gone')),
  )
  return {
    signal: AbortSignal.any([interruption.signal, daemonGone.signal]),
    [Symbol.dispose]: () => {
      input[Symbol.dispose]()
      interruption[Symbol.dispose]()
    },
  }
}

/** What a command did, or its error: printed once, as text or as the one JSON object. Resolves with the exit status. */
export async function printed(
  flags: ReplicateFlags,
  { output }: CommandContext,
  about: Readonly<Record<string, unknown>>,
  act: () => Promise<Readonly<{ lines: readonly string[]; json: object }>>,
): Promise<number> {
  try {
    const { lines, json } = await act()
    if (flags.json === true) output.json(json)
    else if (flags.quiet !== true) for (const line of lines) output.line(line)
    return EXIT.ok
  } catch (thrown) {
    const error = toSyncError(thrown)
    output.error(error)
    if (flags.json === true) output.json({ event: 'result', ok: false, ...about, error: errorOf(error) })
    return error.exitStatus
  }
}

export async function checkConfigCommand(flags: ReplicateFlags, context: CommandContext): Promise<number> {
  return await printed(flags, context, {}, async () => {
    const engine = await context.loadReplicate()
    const { config, stateDir } = await configuredSetting(flags, engine)
    const { jobs, at } = await engine.status(config, stateDir)
    const nextOf = ({ name }: Job): string | null =>
      jobs.find((status) => status.name === name)?.nextRun ?? null
    return {
      lines: [
        configSummary(config),
        ...config.jobs.flatMap((job) => jobLines(job, nextOf(job), Date.parse(at))),
      ],
      json: {
        event: 'config',
        ok: true,
        files: config.files,
        stateDir,
        jobs: config.jobs.map((job) => ({
          name: job.name,
          schedule: job.schedule,
          windows: job.windows,
          nextRun: nextOf(job),
          disks: job.disks.map(({ source, destination }) => ({
            source: source.typed,
            destination: destination.typed,
          })),
          snapshot: job.snapshot,
          track: job.track,
          quiesce: job.quiesce,
          keep: job.keep,
          lag: job.lag,
          verifyEveryMs: job.verifyEveryMs,
        })),
      },
    }
  })
}

export async function statusCommand(flags: StatusWatchFlags, context: CommandContext): Promise<number> {
  const engine = await context.loadReplicate()
  const { output } = context
  if (flags.watch === true) {
    const { watch } = await import('./replicate-watch.js')
    return await watch(() => statusPage(flags, engine, output.columns), context)
  }
  return await printed(flags, context, {}, async () => {
    const { lines, document, replicas } = await statusPage(flags, engine, output.width)
    return { lines, json: { ...document, replicas } }
  })
}

export type StatusPage = Readonly<{
  lines: readonly string[]
  document: Partial<StatusDocument>
  replicas: readonly HeldReplica[]
}>

async function statusPage(
  flags: PlaceFlags,
  engine: ReplicateEngine,
  columns: number | null,
): Promise<StatusPage> {
  const { config, stateDir } = await settingOf(flags, engine, 'perhaps')
  const replicas = await engine.replicas(stateDir)
  const document = config === null ? null : await engine.status(config, stateDir)
  const jobs = document?.jobs ?? []
  const lines = [
    ...(document === null || jobs.length === 0 ? [] : statusLines(document, columns)),
    ...(jobs.length > 0 && replicas.length > 0 ? [''] : []),
    ...(replicas.length === 0 ? [] : replicaLines(replicas)),
  ]
  if (lines.length === 0) lines.push('no job is configured, and no replica is held here')
  return { lines, document: document ?? { jobs: [] }, replicas }
}

export async function historyCommand(
  name: string,
  flags: HistoryFlags,
  context: CommandContext,
): Promise<number> {
  return await printed(flags, context, { job: name }, async () => {
    const { engine, stateDir } = await knownJob(name, flags, context)
    const attempts = await engine.history(stateDir, name, flags.count ?? DEFAULT_HISTORY)
    return {
      lines: attempts.length === 0 ? [`${name}: no attempt yet`] : historyLines(attempts),
      json: { event: 'history', job: name, attempts },
    }
  })
}

export async function pauseCommand(
  name: string,
  flags: PauseFlags,
  context: CommandContext,
): Promise<number> {
  return await printed(flags, context, { job: name }, async () => {
    const { engine, stateDir } = await knownJob(name, flags, context)
    const before = await engine.setPaused(stateDir, name, { reason: flags.reason ?? null })
    const text = before === 'paused' ? `${name} was paused already` : `${name} is paused`
    return { lines: [text], json: { event: 'result', ok: true, job: name, paused: true } }
  })
}

export async function resumeCommand(
  name: string,
  flags: ReplicateFlags,
  context: CommandContext,
): Promise<number> {
  return await printed(flags, context, { job: name }, async () => {
    const { engine, stateDir } = await knownJob(name, flags, context)
    const before = await engine.setPaused(stateDir, name, null)
    const text = before === 'paused' ? `${name} runs again` : `${name} was not paused`
    return { lines: [text], json: { event: 'result', ok: true, job: name, paused: false } }
  })
}

/**
 * The engine, and where the state of a job is, also of one that was taken out of the configuration. Rejects with config/*, and
 * with replicate/unknown where nothing is known of it.
 */
async function knownJob(
  name: string,
  flags: PlaceFlags,
  context: CommandContext,
): Promise<Readonly<{ engine: ReplicateEngine; stateDir: string | null }>> {
  const engine = await context.loadReplicate()
  const { config, stateDir } = await settingOf(flags, engine, 'perhaps')
  const isConfigured = config?.jobs.some((job) => job.name === name) === true
  if (isConfigured || (await engine.knows(stateDir, name))) return { engine, stateDir }
  if (config !== null) jobOf(config, name)
  throw new SyncError(
    'replicate/unknown',
    `there is no job ${name} here, and no configuration; nothing was done`,
    {
      operand: name,
      hint: 'Name the configuration with --config FILE, or type this on the host that has it.',
    },
  )
}
