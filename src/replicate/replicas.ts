// The replicas that are held on a host, found without any configuration: by job or ID, locked, and led back where an attempt did not
// finish. Refuses what is not there, what is there twice, and a replica that somebody works on.

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import { newestOf, withoutChain } from './generations.js'
import { leadBack, lookAtSteps, saveState } from './lead-back.js'
import { differingDisk } from './proof.js'
import type { Generation, ReplicaRecord } from './record.js'
import { listReplicas, readReplica, replicaLock } from './replica-file.js'

/** One replica of a host, for `status` there. */
export type HeldReplica = Readonly<{
  id: string
  job: string
  state: string
  generation: number | null
  takenAt: string | null
  /** Of the newest generation; null before the first. */
  ageSeconds: number | null
  generations: number
  paths: readonly string[]
  /** The source's host. */
  from: string
  /** Why it cannot be told; null where it can. */
  problem: string | null
}>

/** A generation, for people: which, of when, how good. */
export type GenerationFacts = Readonly<{
  generation: number
  takenAt: string
  ageSeconds: number
  /** What a guest finds: a phrase. */
  consistency: string
}>

/** What every use of a replica is given. */
export type ReplicaRequest = Readonly<{
  /** The replica's. Its lock is held until the session ends: who opened it closes it. */
  host: Host
  /** Of a job, or the ID of a replica. */
  name: string
  /** How long an attempt, or another use of the replica, is waited for; absent is not at all. */
  lockWaitMs?: number
  onWarning: (text: string) => void
}>

/** Says what is about to be done, and resolves when it may be; rejects where nobody agrees. */
export type Agree = (lines: readonly string[], question: string) => Promise<void>

/** All of them, by ID. One that cannot be read is there with its problem. */
export async function heldReplicas(host: Host): Promise<readonly HeldReplica[]> {
  const ids = await listReplicas(host)
  const { nowMs } = await host.facts()
  const held: HeldReplica[] = []
  for (const id of ids) held.push(await heldReplica(host, id, nowMs))
  return held
}

async function heldReplica(host: Host, id: string, nowMs: number): Promise<HeldReplica> {
  let record: ReplicaRecord | null
  try {
    record = await readReplica(host, id)
  } catch (error) {
    if (!(error instanceof SyncError) || error.code !== 'replicate/record') throw error
    return unreadable(id, error.message)
  }
  if (record === null) return unreadable(id, 'there is no record')
  const newest = newestOf(record)
  return {
    id,
    job: record.job,
    state: record.state,
    generation: newest?.number ?? null,
    takenAt: newest?.takenAt ?? null,
    ageSeconds: newest === null ? null : ageOf(newest, nowMs),
    generations: record.generations.length,
    paths: record.disks.map(({ path }) => path),
    from: record.source.hostName,
    problem: null,
  }
}

function unreadable(id: string, problem: string): HeldReplica {
  return {
    id,
    job: jobOfId(id),
    state: 'unknown',
    generation: null,
    takenAt: null,
    ageSeconds: null,
    generations: 0,
    paths: [],
    from: '',
    problem,
  }
}

/** An ID is the job's name, a dot and what makes it unique. */
function jobOfId(id: string): string {
  return id.replace(/\.reversed$/, '').replace(/\.[0-9a-f]{8}$/, '')
}

/**
 * Finds it, takes its lock and reads its record. Rejects with replicate/unknown, naming those that there are, replicate/busy
 * (an attempt or a drill has it) and replicate/record.
 */
export async function takeReplica(request: ReplicaRequest): Promise<ReplicaRecord> {
  const { host, name } = request
  const id = await findId(host, name)
  await lockOrWait(id, request)
  // only now: whoever had it may have changed it
  const record = await readReplica(host, id)
  if (record === null) throw unknownReplica(host, name, [])
  return record
}

/** Who waits is told for whom. */
async function lockOrWait(id: string, { host, lockWaitMs = 0, onWarning }: ReplicaRequest): Promise<void> {
  try {
    await host.takeLock(replicaLock(id), 0)
  } catch (error) {
    if (!(error instanceof SyncError) || error.code !== 'replicate/busy' || lockWaitMs === 0) throw error
    onWarning(`${error.message.replace(/; nothing was changed$/, '')}; waiting for that to end`)
    await host.takeLock(replicaLock(id), lockWaitMs)
  }
}

async function findId(host: Host, name: string): Promise<string> {
  const ids = await listReplicas(host)
  if (ids.includes(name)) return name
  const ofJob = ids.filter((id) => jobOfId(id) === name)
  const [only, ...more] = ofJob
  if (only === undefined) throw unknownReplica(host, name, ids)
  if (more.length === 0) return only
  throw new SyncError(
    'replicate/unknown',
    `${host.name} holds ${ofJob.length} replicas of ${printable(name)}; nothing was done`,
    { operand: name, hint: `Name one of them: ${ofJob.join(', ')}.` },
  )
}

function unknownReplica(host: Host, name: string, ids: readonly string[]): SyncError {
  return new SyncError(
    'replicate/unknown',
    `${host.name} holds no replica of ${printable(name)}; nothing was done`,
    {
      operand: printable(name),
      hint:
        ids.length === 0
          ? 'It holds none at all: is it the host of the destination, and the same user and --state-dir?'
          : `It holds ${ids.slice(0, MAX_NAMED).join(', ')}${ids.length > MAX_NAMED ? '...' : ''}.`,
    },
  )
}

/** More names than this are no help. */
const MAX_NAMED = 8

/** The generation that is on the disks, or that they can be led back to; null where what is on them is none. */
export function generationOnDisks(record: ReplicaRecord): Generation | null {
  return record.base === 'generation' && record.state !== 'empty' ? newestOf(record) : null
}

/** The same; rejects with replicate/refused where there is none. */
export function neededOnDisks(record: ReplicaRecord, notDone: string): Generation {
  const found = generationOnDisks(record)
  if (found !== null) return found
  const { job, id, generations } = record
  const kept = generations.map(({ number }) => number).join(', ')
  throw new SyncError(
    'replicate/refused',
    generations.length === 0
      ? `the replica of ${job} has no complete generation yet; ${notDone}`
      : `what is on the disks of the replica of ${job} is no complete generation; ${notDone}`,
    {
      operand: job,
      hint:
        generations.length === 0
          ? `Let an attempt finish first: blocksync replicate run ${job} --now`
          : `There are copies of generation ${kept}: blocksync replicate restore ${id} --generation ${String(generations.at(-1)?.number)} --to PATH`,
    },
  )
}

/**
 * What an attempt left half done is taken back: the disks are the generation that it resolves with. Rejects with
 * replicate/refused where there is none, also where the way back turns out to be gone.
 */
export async function madeWhole(
  { host, onWarning }: Omit<ReplicaRequest, 'name'>,
  record: ReplicaRecord,
  afterwards: 'read-only' | 'writable',
  notDone: string,
): Promise<Readonly<{ record: ReplicaRecord; newest: Generation }>> {
  const newest = neededOnDisks(record, notDone)
  const { nowMs } = await host.facts()
  const proved = await provedInstead(host, record, newest, onWarning)
  const good = await leadBack(host, proved, afterwards, nowMs, onWarning)
  return { record: good, newest: neededOnDisks(good, notDone) }
}

/**
 * Where the undo journals are gone, or somebody else's, they do not tell what is on the disks: reading does. A replica is not given
 * up for a lost journal; only older generations are that had no copy.
 */
async function provedInstead(
  host: Host,
  record: ReplicaRecord,
  newest: Generation,
  onWarning: (text: string) => void,
): Promise<ReplicaRecord> {
  const { steps, broken } = await lookAtSteps(host, record)
  if (broken === null) return record
  for (const { path } of record.disks) if ((await host.look(path)) === null) return record
  if ((await differingDisk(host, record, newest)) !== null) return record
  onWarning(`${broken}; its disks were read, and are generation ${newest.number}`)
  const { nowMs } = await host.facts()
  const without = withoutChain(record, steps)
  const whole: ReplicaRecord = {
    ...without,
    base: 'generation',
    generations: [
      ...without.generations.filter(({ number }) => number !== newest.number),
      { ...newest, disks: newest.disks.map((disk) => ({ ...disk, undo: [] })) },
    ],
  }
  return await saveState(host, whole, 'good', nowMs)
}

export async function generationFacts(host: Host, generation: Generation): Promise<GenerationFacts> {
  const { nowMs } = await host.facts()
  return {
    generation: generation.number,
    takenAt: generation.takenAt,
    ageSeconds: ageOf(generation, nowMs),
    consistency: consistencyOf(generation),
  }
}

/** Clocks of two hosts differ a little: nothing is from the future. */
function ageOf({ takenAt }: Generation, nowMs: number): number {
  return Math.max(0, Math.round((nowMs - Date.parse(takenAt)) / 1000))
}

/** What a guest that starts on it finds: a phrase. */
export function consistencyOf({ cut, quiesced, spreadMs, disks }: Generation): string {
  switch (cut) {
    case 'none':
      return 'not crash-consistent (read without a snapshot)'
    case 'near':
      if (disks.length > 1)
        return `each disk crash-consistent, cut within ${spreadMs} ms${quiesced === 'yes' ? ', quiesced' : ''}`
      return quiesced === 'yes' ? 'quiesced' : 'crash-consistent'
    case 'one-instant':
      return quiesced === 'yes' ? 'quiesced' : 'crash-consistent'
    default:
      return cut satisfies never
  }
}
