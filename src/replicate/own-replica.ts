// The record of a job's replica, with its lock taken, before an attempt changes anything; or a first one, in memory only. Refuses a
// replica that was promoted, and one of other disks.

import type { Job } from '../config/config.js'
import { SyncError } from '../errors.js'
import type { Host, HostFacts } from '../host/host.js'
import { printable } from '../printable.js'
import type { AttemptContext } from './context.js'
import { newestOf } from './generations.js'
import type { JobState } from './job-state.js'
import { lookAtSteps } from './lead-back.js'
import type { GenerationRequest } from './make-generation.js'
import type { Places } from './places.js'
import { REPLICA_RECORD_VERSION, type Generation, type ReplicaRecord } from './record.js'
import { readReplica, replicaId, replicaLock } from './replica-file.js'

/** Rejects with replicate/busy, replicate/promoted and replicate/record; nothing was written. */
export async function ownReplica(
  job: Job,
  context: AttemptContext,
  request: GenerationRequest,
  sourceHost: Host,
  host: Host,
): Promise<ReplicaRecord> {
  const { direction, places, lockWaitMs, tell } = request
  const source = await sourceHost.facts()
  const destination = await host.facts()
  const controller = sourceHost.kind === 'local' ? source : destination
  const id = replicaId(job.name, controller.machineId, direction)
  await host.takeLock(replicaLock(id), lockWaitMs)
  const known = await readReplica(host, id)
  const from = {
    hostName: source.hostName,
    machineId: source.machineId,
    ...whereToAsk(job, places, destination),
  }
  if (known === null) {
    tell.newest(null, false)
    return await firstRecord(
      {
        version: REPLICA_RECORD_VERSION,
        id,
        job: job.name,
        controller: { hostName: controller.hostName, machineId: controller.machineId },
        source: from,
        state: 'empty',
        base: direction === 'reversed' ? 'old-source' : 'nothing',
        attempt: null,
        changedAt: new Date(context.nowMs()).toISOString(),
        disks: places.pairs.map((pair) => ({
          path: pair.destination.path,
          sourcePath: pair.source.path,
          droppedUndo: null,
        })),
        nextGeneration: 1,
        generations: [],
        guest: null,
      },
      host,
    )
  }
  tell.newest(known.base === 'generation' ? factsOf(newestOf(known)) : null, false)
  if (known.state === 'promoted') throw promoted(job, host, known)
  const isSame =
    known.disks.length === places.pairs.length &&
    known.disks.every(({ path }, index) => path === places.pairs[index]?.destination.path)
  if (!isSame) throw otherDisks(job, host, known)
  const disks = known.disks.map((disk, index) => ({
    ...disk,
    sourcePath: places.pairs[index]?.source.path ?? disk.sourcePath,
  }))
  return { ...known, disks, source: from }
}

/** Journals of runs by hand lead to nothing that is ours. */
async function firstRecord(record: ReplicaRecord, host: Host): Promise<ReplicaRecord> {
  const { steps } = await lookAtSteps(host, record)
  const disks = record.disks.map((disk, index) => ({
    ...disk,
    droppedUndo: steps[index]?.at(-1)?.group ?? null,
  }))
  return { ...record, disks }
}

/** What the state of the job says of the newest generation. */
export function factsOf(generation: Generation | null): JobState['newest'] {
  if (generation === null) return null
  const { number, takenAt, completedAt } = generation
  return { generation: number, takenAt, completedAt }
}

/** What the destination's host can ask whether the source is alive. */
function whereToAsk(
  { options }: Job,
  { sourceSide }: Places,
  { clientAddress }: HostFacts,
): Pick<ReplicaRecord['source'], 'address' | 'port'> {
  if (sourceSide.kind === 'local') return { address: clientAddress, port: null }
  return { address: sourceSide.host, port: sourceSide.port ?? options.transport.port }
}

function promoted(job: Job, host: Host, { id, changedAt }: ReplicaRecord): SyncError {
  return new SyncError(
    'replicate/promoted',
    `the replica of ${job.name} on ${host.name} was promoted at ${changedAt}; nothing was written`,
    { operand: id, hint: `To replicate in the other direction: blocksync replicate reverse ${job.name}` },
  )
}

function otherDisks(job: Job, host: Host, { id, disks }: ReplicaRecord): SyncError {
  const paths = printable(disks.map(({ path }) => path).join(', '))
  return new SyncError(
    'replicate/record',
    `the replica ${id} on ${host.name} has other disks than the job: ${paths}; nothing was written`,
    {
      operand: job.name,
      hint: 'Give the job with its new disks another name, or its old disks: a replica keeps those that it was begun with.',
    },
  )
}
