// Whether a replica is still what its newest generation left, by stamps of its disks, so that it need not be read: the record and its
// host come in, what the engine may rest on goes out. Refuses nothing: where it is not known, all is read.

import { randomBytes } from 'node:crypto'

import type { Job } from '../config/config.js'
import { SEED_BYTES } from '../digest/digester.js'
import { diskStamp, type Host } from '../host/host.js'
import type { DiskPair } from '../sync/report.js'
import { newestOf } from './generations.js'
import type { ReplicaDisk, ReplicaRecord } from './record.js'

/** Of each disk, in their order: all with one seed. */
export type ReplicaLeaves = readonly NonNullable<DiskPair['leaves']>[]

/** Null where the job is not to keep anything. To be asked before the disks are made writable. */
export async function leavesOf(
  host: Host,
  record: ReplicaRecord,
  { track }: Job,
): Promise<ReplicaLeaves | null> {
  if (track === 'off') return null
  const newest = record.state === 'good' ? newestOf(record) : null
  const seed = newest?.disks[0]?.root.seed
  const shared = seed === undefined ? randomBytes(SEED_BYTES) : Buffer.from(seed, 'hex')
  const leaves = []
  for (const [index, disk] of record.disks.entries()) {
    const root = newest?.disks[index]?.root
    const fits = root?.seed === seed && (await isAsLeft(host, disk))
    leaves.push({ seed: shared, root: fits ? (root?.root ?? null) : null })
  }
  return leaves
}

/** The disks with their stamps of now: written, flushed and marked read-only. */
export async function stamped(host: Host, disks: readonly ReplicaDisk[]): Promise<readonly ReplicaDisk[]> {
  const now: ReplicaDisk[] = []
  for (const disk of disks) now.push({ ...disk, stamp: await stampNow(host, disk) })
  return now
}

/** The disks as if nobody knew whether they were written to. */
export function unstamped(disks: readonly ReplicaDisk[]): readonly ReplicaDisk[] {
  return disks.map((disk) => ({ ...disk, stamp: null }))
}

async function isAsLeft(host: Host, disk: ReplicaDisk): Promise<boolean> {
  const { stamp = null } = disk
  return stamp !== null && stamp === (await stampNow(host, disk))
}

/** Also of the boot: what was written right before the end of another one may have got no later time. */
async function stampNow(host: Host, { path }: ReplicaDisk): Promise<string | null> {
  const facts = await host.look(path)
  if (facts === null) return null
  const stamp = diskStamp(facts)
  return stamp === null ? null : `${(await host.facts()).bootId} ${stamp}`
}
