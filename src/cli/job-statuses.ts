// The status of all jobs as it stands in the files of this host, with what a daemon adds. Changes nothing, asks no other host.
// Refuses nothing for one job: a state that cannot be read is what its status says.

import { hostname } from 'node:os'

import type { Config, Job } from '../config/config.js'
import { SyncError } from '../errors.js'
import { findDaemon } from '../replicate/daemon-lock.js'
import { jobStatus, statusDocument } from '../replicate/lag.js'
import { openSchedule, type NextRun } from '../replicate/schedule.js'
import { openJobState, runningAttempt } from '../replicate/state-file.js'
import type { JobStatus, StatusDocument } from '../replicate/status.js'
import { askDaemon, type DaemonStatus } from './daemon-status.js'

/** `stateDir` is absolute. */
export async function jobStatuses(config: Config, stateDir: string, nowMs: number): Promise<StatusDocument> {
  const { jobs, metrics } = config
  const [schedule, daemon] = await Promise.all([
    openSchedule(jobs),
    metrics.listen === null ? null : askDaemon(metrics.listen),
  ])
  const parts = { stateDir, nowMs, schedule, daemon }
  const statuses: JobStatus[] = []
  for (const job of jobs) statuses.push(await statusOf(job, parts))
  const running = daemon?.daemon ?? (await findDaemon(stateDir))
  return statusDocument(statuses, { nowMs, host: hostname(), daemon: running })
}

type Parts = Readonly<{
  stateDir: string
  nowMs: number
  schedule: NextRun
  daemon: DaemonStatus | null
}>

async function statusOf(job: Job, { stateDir, nowMs, schedule, daemon }: Parts): Promise<JobStatus> {
  try {
    const state = await openJobState(stateDir, job.name)
    const runningAlive = (await runningAttempt(state)) !== null
    return jobStatus(job, state, nowMs, {
      runningAlive,
      progress: daemon?.progress.get(job.name) ?? null,
      nextRunMs: schedule(job, state, nowMs),
    })
  } catch (error) {
    if (!(error instanceof SyncError)) throw error
    const { code, message } = error
    const nothing = { runningAlive: false, progress: null, nextRunMs: null }
    return { ...jobStatus(job, null, nowMs, nothing), state: 'failed', lastError: { code, message } }
  }
}
