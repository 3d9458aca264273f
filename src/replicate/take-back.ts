// A replica that was promoted becomes one again: where nothing was written to it since, which is proved by reading it, or where what
// was written is given up. Refuses disks that are in use, and to lose content that only exists here.

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import { setReadOnly } from './access.js'
import { turned } from './generations.js'
import { lookAtSteps, saveState } from './lead-back.js'
import { differingDisk } from './proof.js'
import type { ReplicaRecord } from './record.js'
import { saveReplica } from './replica-file.js'
import { type Agree, neededOnDisks, type ReplicaRequest, takeReplica } from './replicas.js'

/** Reading all links of /proc of a busy host takes a second or two. */
const ASK_TIMEOUT_MS = 60_000

export type TakeBackRequest = ReplicaRequest &
  Readonly<{
    /** `discard`: the next attempt overwrites what was written to the disks, and older generations are given up. */
    written: 'refuse' | 'discard'
    agree: Agree
    signal: AbortSignal
  }>

/** `generation` is what is on the disks; null where what was written is given up. */
export type TakenBack = Readonly<{ job: string; id: string; host: string; generation: number | null }>

/**
 * Disks become read-only first, then the record changes: an attempt never writes to a disk that is marked as given to people.
 * Rejects with replicate/refused where it is no promoted one, where a process has a disk open, and where something was written.
 */
export async function takeBack(request: TakeBackRequest): Promise<TakenBack> {
  const { host, written } = request
  const record = await takeReplica(request)
  const { job, id, disks, state } = record
  if (state !== 'promoted')
    throw new SyncError('replicate/refused', `the replica of ${job} is not promoted; nothing was done`, {
      operand: job,
      hint: 'blocksync replicate status shows what it is.',
    })
  for (const { path } of disks) await refuseOpened(host, job, path)
  const done = { job, id, host: host.name }
  if (written === 'refuse') {
    const generation = await proved(request, record)
    await setAllReadOnly(host, record)
    await saveState(host, record, 'good', await nowOf(host))
    return { ...done, generation }
  }
  await request.agree(
    [
      `${job} on ${host.name}: what was written since it was promoted is given up, and all generations of which there are no copies`,
      ...disks.map(({ path }) => `  ${path}`),
    ],
    'Make it a replica again? The next attempt overwrites it.',
  )
  await setAllReadOnly(host, record)
  await giveUpContent(host, record)
  return { ...done, generation: null }
}

/**
 * What is on the disks is no generation any more, and nothing leads back from it. The next attempt compares all of it and sends what
 * differs; until that is done it can still be led back to what is there now.
 */
export async function giveUpContent(host: Host, record: ReplicaRecord): Promise<void> {
  const { steps } = await lookAtSteps(host, record)
  await saveReplica(host, turned(record, steps, new Date(await nowOf(host)).toISOString()))
}

async function nowOf(host: Host): Promise<number> {
  return (await host.facts()).nowMs
}

/** Nothing is lost where all of it is what the record says. */
async function proved({ host, signal }: TakeBackRequest, record: ReplicaRecord): Promise<number> {
  const newest = neededOnDisks(record, 'nothing was done')
  const differing = await differingDisk(host, record, newest, signal)
  if (differing === null) return newest.number
  throw new SyncError(
    'replicate/refused',
    `${printable(differing.path)} was written since ${record.job} was promoted; it stays promoted, and nothing was changed`,
    {
      operand: record.job,
      hint:
        `To send that back to the source, type blocksync replicate reverse ${record.job} where the job is configured; ` +
        'to give it up, type the same again with --discard.',
    },
  )
}

async function setAllReadOnly(host: Host, { disks }: ReplicaRecord): Promise<void> {
  for (const { path } of disks) await setReadOnly(host, path)
}

/** A guest that has it open would find its disk read-only, all at once; so would a file system that is mounted. */
async function refuseOpened(host: Host, job: string, path: string): Promise<void> {
  const facts = await host.look(path)
  if (facts === null)
    throw new SyncError('replicate/refused', `${printable(path)} is not there; nothing was changed`, {
      operand: job,
      hint: 'Bring the disk back first.',
    })
  const { realPath } = facts
  const uses = facts.kind === 'block' ? await usesOfDevice(host, realPath) : await usesOfFile(host, realPath)
  // processes may end while they are looked at: what find says of that, and its status, mean nothing
  const { stdout } = await host.run({
    argv: ['find', '/proc', '-maxdepth', '3', '-path', '/proc/[0-9]*/fd/*', '-lname', literal(realPath)],
    timeoutMs: ASK_TIMEOUT_MS,
  })
  const pids = new Set(Array.from(stdout.matchAll(/^\/proc\/(\d+)\//gm), ([, pid = '']) => pid))
  if (pids.size > 0) uses.push(`is open in process ${[...pids].join(', ')}`)
  if (uses.length === 0) return
  throw new SyncError(
    'replicate/refused',
    `${printable(path)} on ${host.name} ${uses.join(', and ')}; nothing was changed`,
    { operand: job, hint: 'Stop the guest that uses it, or unmount it, then type the same again.' },
  )
}

/** Itself, its partitions and what is built on them. */
async function usesOfDevice(host: Host, path: string): Promise<string[]> {
  const { exitStatus, stdout } = await host.run({
    argv: ['lsblk', '--noheadings', '--raw', '--output', 'TYPE,MOUNTPOINT', path],
    timeoutMs: ASK_TIMEOUT_MS,
  })
  if (exitStatus !== 0) return []
  const rows = stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' '))
  const mounts = rows.map(([, mounted = '']) => mounted).filter((mounted) => mounted !== '')
  const built = rows.slice(1).filter(([type]) => type !== 'part')
  return [
    ...(mounts.length > 0 ? [`is mounted at ${printable(mounts.join(', '))}`] : []),
    ...(built.length > 0 ? ['has something built on it (LVM, RAID, encryption)'] : []),
  ]
}

async function usesOfFile(host: Host, path: string): Promise<string[]> {
  const { exitStatus, stdout } = await host.run({
    argv: ['losetup', '--noheadings', '--output', 'NAME', '--associated', path],
    timeoutMs: ASK_TIMEOUT_MS,
  })
  const devices = exitStatus === 0 ? stdout.split(/\s+/).filter((name) => name !== '') : []
  return devices.length === 0 ? [] : [`is attached to ${printable(devices.join(', '))}`]
}

/** Of a path, as a pattern of find: its own stars and brackets are themselves. */
function literal(path: string): string {
  return path.replace(/[\\*?[\]]/g, '\\$&')
}
