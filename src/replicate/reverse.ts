// A job is turned round on its controller, after its replica was promoted: the next attempt reads what was the replica and writes
// what was the source. Nothing is copied here. Refuses a replica that nobody promoted, and a job of which an attempt runs.

import type { Job } from '../config/config.js'
import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import type { JobState } from './job-state.js'
import { changeJobState, lockJob, openJobState } from './state-file.js'
import type { ReplicaRecord } from './record.js'
import { readReplica, replicaId, replicaLock } from './replica-file.js'
import { type Agree, madeWhole, neededOnDisks } from './replicas.js'
import { giveUpContent } from './take-back.js'

export type ReverseRequest = Readonly<{
  job: Job
  /** Of the controller, which is this host: absolute. */
  stateDir: string
  /** The controller's, as IDs of replicas have it. */
  machineId: string
  /** As configured, whichever way it goes now. Both are needed: there is a record on each. */
  source: Host
  destination: Host
  /** `force`: data goes back from a replica that nobody uses. */
  notPromoted: 'refuse' | 'force'
  agree: Agree
  onWarning: (text: string) => void
}>

/** `source` and `destination` as data goes from now on. */
export type Reversed = Readonly<{
  job: string
  direction: JobState['direction']
  source: string
  destination: string
}>

/**
 * What lies beneath the disks that are to be written is looked at first, then the direction is changed: killed in between it is
 * done again. Rejects with replicate/refused, replicate/busy and replicate/record.
 */
export async function reverse(request: ReverseRequest): Promise<Reversed> {
  const { job, stateDir } = request
  await using _ = await lockJob(stateDir, job.name)
  const { direction } = await openJobState(stateDir, job.name)
  const next = direction === 'forward' ? 'reversed' : 'forward'
  const old = await replicaOf(request, direction)
  if (!wasNeverWritten(old.record, direction)) await refuseUnusable(request, old)
  const ends = endsOf(job, next)
  await request.agree(
    [
      `${job.name} is turned round: data goes from ${ends.source} to ${ends.destination}`,
      `what is on ${ends.destination} is overwritten where it differs, by the next attempt`,
    ],
    `Turn ${job.name} round?`,
  )
  const { host, record } = await replicaOf(request, next)
  // somebody used those disks since: the way back to its generations is gone. Not where nothing ever came the other way.
  if (record?.state === 'promoted' && !wasNeverWritten(old.record, direction))
    await giveUpContent(host, record)
  await changeJobState(stateDir, job.name, (state) => ({
    ...state,
    direction: next,
    // of the other replica; lag is unknown until the first attempt this way is complete
    newest: null,
    failures: 0,
    retryAt: null,
    scheduledAt: null,
    drill: null,
  }))
  return { job: job.name, direction: next, ...ends }
}

type Held = Readonly<{ host: Host; record: ReplicaRecord | null }>

/** The replica that attempts in that direction write, locked. */
async function replicaOf(
  { job, machineId, source, destination }: ReverseRequest,
  direction: JobState['direction'],
): Promise<Held> {
  const host = direction === 'forward' ? destination : source
  const id = replicaId(job.name, machineId, direction)
  await host.takeLock(replicaLock(id), 0)
  return { host, record: await readReplica(host, id) }
}

/** A job that was turned round, and of which no attempt wrote anything that way: it may go back as if nothing had been. */
function wasNeverWritten(record: ReplicaRecord | null, direction: JobState['direction']): boolean {
  return (
    direction === 'reversed' &&
    (record === null || (record.state === 'empty' && record.base === 'old-source'))
  )
}

async function refuseUnusable(
  { job: { name }, notPromoted, onWarning }: ReverseRequest,
  { host, record }: Held,
): Promise<void> {
  if (record === null)
    throw new SyncError(
      'replicate/refused',
      `there is no replica of ${name} on ${host.name}; nothing was done`,
      {
        operand: name,
        hint: `Let an attempt finish first: blocksync replicate run ${name} --now`,
      },
    )
  neededOnDisks(record, 'nothing was done')
  if (record.state === 'promoted') return
  if (notPromoted === 'refuse')
    throw new SyncError(
      'replicate/refused',
      `the replica of ${name} on ${host.name} is not promoted: nothing was written there that could go back; nothing was done`,
      {
        operand: name,
        hint:
          `Promote it first, on ${host.name}: blocksync replicate promote ${name}. ` +
          'To send it back as it is, type --force-not-promoted.',
      },
    )
  // what is read from now on has to be a whole generation
  await madeWhole({ host, onWarning }, record, 'read-only', 'nothing was done')
}

function endsOf(
  job: Job,
  direction: JobState['direction'],
): Readonly<{ source: string; destination: string }> {
  const named = (end: 'source' | 'destination'): string => job.disks.map((disk) => disk[end].typed).join(', ')
  return direction === 'forward'
    ? { source: named('source'), destination: named('destination') }
    : { source: named('destination'), destination: named('source') }
}
