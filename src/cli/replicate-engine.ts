// The replicating part of the program in one piece: loaded by `blocksync replicate` and `blocksync check`, and by nothing else.

import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

import type { BootChoice, Job } from '../config/config.js'
import { loadConfig } from '../config/load.js'
import { tellChange } from '../daemon/notify.js'
import { errnoOf, SyncError, toSyncError } from '../errors.js'
import { openHost } from '../host/open.js'
import { runAttempt } from '../replicate/attempt.js'
import { drill, recordDrill, type Drilled } from '../replicate/drill.js'
import { runHook } from '../replicate/hooks.js'
import type { AttemptRecord } from '../replicate/job-state.js'
import { jobStatus } from '../replicate/lag.js'
import { promote } from '../replicate/promote.js'
import { heldReplicas } from '../replicate/replicas.js'
import { restore } from '../replicate/restore.js'
import { reverse } from '../replicate/reverse.js'
import { changeJobState, openJobState, readHistory } from '../replicate/state-file.js'
import { parseBase } from '../replicate/given-base.js'
import { trackingOf } from '../replicate/tracking.js'
import { takeBack } from '../replicate/take-back.js'
import { isInWindow, nextInWindow } from '../replicate/windows.js'
import { openSnapshots } from '../snapshot/open.js'
import { cutQuiesced } from '../snapshot/quiesce.js'
import { ownStatePath, stateUnusable } from '../state/directory.js'
import { sync } from '../sync/sync.js'
import { configParsers } from './config-parsers.js'
import { jobStatuses } from './job-statuses.js'
import {
  type FoundReplica,
  hostOptions,
  openThisHost,
  withBothHosts,
  withReplica,
  withStateDir,
} from './replica-host.js'
import { jobOf, type AttemptRequest, type ReplicateEngine } from './replicate.js'

const ID_RANDOM_BYTES = 4

/** Letters, digits and dashes, in the order of time. */
export function newAttemptId(now: Date): string {
  const [day = '', time = ''] = now.toISOString().split('T')
  return `${day.replaceAll('-', '')}-${time.slice(0, 8).replaceAll(':', '')}-${randomBytes(ID_RANDOM_BYTES).toString('hex')}`
}

export const replicateEngine: ReplicateEngine = {
  loadConfig: async (files) => await loadConfig({ paths: files }, configParsers()),
  whyNotNow,
  run,
  daemon: async (request) => await (await import('./replicate-daemon.js')).startDaemon(request),
  status: async (config, stateDir) => await jobStatuses(config, ownStatePath(stateDir), Date.now()),
  replicas: async (stateDir) => {
    await using here = await openThisHost(stateDir)
    return await heldReplicas(here)
  },
  knows: async (stateDir, name) => (await knownJobs(ownStatePath(stateDir))).includes(name),
  history: async (stateDir, name, count) => await readHistory(ownStatePath(stateDir), name, count),
  setPaused: async (stateDir, name, paused) => {
    let before: 'paused' | 'running' = 'running'
    await changeJobState(ownStatePath(stateDir), name, (state) => {
      before = state.paused === null ? 'running' : 'paused'
      if (paused === null) return state.paused === null ? state : { ...state, paused: null }
      return { ...state, paused: { since: new Date().toISOString(), reason: paused.reason } }
    })
    return before
  },
  promote: async (request) =>
    await withReplica(request, async ({ host, name, ownMachineId }) => {
      return await promote({ ...request, host, name, ownMachineId })
    }),
  takeBack: async (request) =>
    await withReplica(request, async ({ host, name }) => await takeBack({ ...request, host, name })),
  restore: async (request) =>
    await withReplica(request, async ({ host, name }) => await restore({ ...request, host, name })),
  drill: async (request) => await withReplica(request, async (found) => await drillReplica(request, found)),
  reverse: async (request) => {
    const { config, name } = request
    if (config === null) throw new SyncError('config/missing', 'there is no configuration; nothing was done')
    const job = jobOf(config, name)
    return await withBothHosts(job, request, async (source, destination, machineId) => {
      const stateDir = ownStatePath(request.stateDir)
      return await reverse({ ...request, job, stateDir, machineId, source, destination })
    })
  },
}

async function drillReplica(
  request: Parameters<ReplicateEngine['drill']>[0],
  { job, host, name }: FoundReplica,
): Promise<Drilled> {
  const boot = request.boot === 'yes' ? bootOf(job, request.name) : null
  const clockMs = (): number => performance.now()
  if (job === null) return await drill({ ...request, host, name, boot, clockMs })
  const stateDir = ownStatePath(request.stateDir)
  const keep = async (outcome: 'proved' | 'failed', generation: number): Promise<void> =>
    await recordDrill(stateDir, job.name, { at: new Date().toISOString(), outcome, generation })
  try {
    const drilled = await drill({ ...request, host, name, boot, clockMs })
    await keep('proved', drilled.proved.generation)
    return drilled
  } catch (thrown) {
    if (thrown instanceof SyncError && thrown.code === 'replicate/drill')
      await keep('failed', (await openJobState(stateDir, job.name)).newest?.generation ?? 0)
    throw thrown
  }
}

function bootOf(job: Job | null, name: string): BootChoice {
  const boot = job?.boot ?? null
  if (boot !== null) return boot
  const where = job === null ? 'is not configured here' : 'has no boot in its configuration'
  throw new SyncError('usage', `${name} ${where}, which says what --boot waits for; nothing was done`, {
    operand: '--boot',
    hint: 'Write boot: { memory: 1G, expect: "login:" } into the job, or leave --boot away.',
  })
}

/** Names of jobs that have a state here. */
async function knownJobs(stateDir: string): Promise<readonly string[]> {
  try {
    return await readdir(join(stateDir, 'replicate'))
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return []
    throw stateUnusable(
      `${stateDir} cannot be read (${errnoOf(thrown) ?? String(thrown)})`,
      stateDir,
      'nothing was done',
    )
  }
}

function whyNotNow({ windows }: Job, nowMs: number): string | null {
  if (isInWindow(windows, nowMs)) return null
  const next = nextInWindow(windows, nowMs)
  return next === null
    ? 'it has no window that ever opens'
    : `its next window opens at ${new Date(next).toLocaleString('sv-SE')}`
}

async function run(job: Job, request: AttemptRequest): Promise<AttemptRecord> {
  const { stateDir, trigger, force, bwlimit, signal, onEvent, syncHooks } = request
  const options = withStateDir(job, stateDir)
  const limited: Job = { ...job, options: bwlimit === undefined ? options : { ...options, bwlimit } }
  const path = ownStatePath(stateDir)
  const base = parseBase(request.base)
  const record = await runAttempt(limited, {
    stateDir: path,
    nowMs: () => Date.now(),
    newId: () => newAttemptId(new Date()),
    chance: () => Math.random(),
    signal,
    openHost: async (side) =>
      await openHost(
        side,
        hostOptions(limited.options, { signal, onStderrLine: (line) => syncHooks.onStderrLine?.(line) }),
      ),
    snapshots: openSnapshots(job.snapshot),
    cutQuiesced,
    track: base === null ? null : trackingOf(limited, path, base),
    runSync: sync,
    syncHooks,
    hooks: { onEvent, runHook: async (name, facts) => await runHook(job, name, facts, signal) },
    force,
    trigger,
  })
  if (request.notify.by === 'this') await tell(job, path, request)
  return record
}

/** Whoever begins attempts by a timer has no daemon that tells people; one that has ended is told here. */
async function tell(job: Job, stateDir: string, { notify, onEvent }: AttemptRequest): Promise<void> {
  const warn = (message: string): void => onEvent({ event: 'warning', job: job.name, message })
  try {
    const state = await openJobState(stateDir, job.name)
    const nothing = { runningAlive: false, progress: null, nextRunMs: null }
    const status = jobStatus(job, state, Date.now(), nothing)
    const told = await tellChange(job, state, status, notify.targets, (level, _, message) => {
      if (level === 'error' || level === 'warning') warn(message)
    })
    if (told !== state.told) await changeJobState(stateDir, job.name, (now) => ({ ...now, told }))
  } catch (thrown) {
    // the attempt has ended as it has
    warn(`nobody could be told of it: ${toSyncError(thrown).message}`)
  }
}
