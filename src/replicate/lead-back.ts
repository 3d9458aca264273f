// The disks of a replica as they really are: their undo steps held against the record, and what an attempt left half done taken back
// through them. Can be interrupted anywhere and done again. Refuses nothing: a way back that is gone is said, and not tried.

import type { Host, UndoStep } from '../host/host.js'
import { setReadOnly, setWritable } from './access.js'
import { chainOf, withoutChain, type Chain } from './generations.js'
import type { ReplicaRecord } from './record.js'
import { saveReplica } from './replica-file.js'

export type Found = Readonly<{
  /** Of each disk, the oldest first; none where nothing is at its path. */
  steps: readonly (readonly UndoStep[])[]
  chains: readonly Chain[]
  /** Why what is on the disks is unknown, a sentence about the first disk that says so; null where all is as recorded. */
  broken: string | null
}>

/** Looks; nothing is written. */
export async function lookAtSteps(host: Host, record: ReplicaRecord): Promise<Found> {
  const steps: (readonly UndoStep[])[] = []
  const chains: Chain[] = []
  let broken: string | null = null
  for (const [index, { path }] of record.disks.entries()) {
    const isThere = (await host.look(path)) !== null
    const own = isThere ? await host.undoSteps(path) : []
    const chain = chainOf(record, index, own)
    steps.push(own)
    chains.push(chain)
    if (!isThere && record.base !== 'nothing') broken ??= `${path} on ${host.name} is gone`
    if (chain.broken !== null && record.base !== 'nothing')
      broken ??= `${path} on ${host.name}: ${chain.broken}`
  }
  return { steps, chains, broken }
}

/** The record set to `state`, on stable storage when it resolves. */
export async function saveState(
  host: Host,
  record: ReplicaRecord,
  state: ReplicaRecord['state'],
  nowMs: number,
): Promise<ReplicaRecord> {
  const changed: ReplicaRecord = { ...record, state, changedAt: new Date(nowMs).toISOString() }
  await saveReplica(host, changed)
  return changed
}

/**
 * Takes back what is newer than the newest generation, on all disks, and leaves them as `afterwards` says; the record is `good` then,
 * or `empty` where no generation was on them. Where the way back is gone the record forgets what cannot be reached, and
 * `onWarning` is told. Who calls has the lock of the replica.
 */
export async function leadBack(
  host: Host,
  record: ReplicaRecord,
  afterwards: 'read-only' | 'writable',
  nowMs: number,
  onWarning: (text: string) => void,
): Promise<ReplicaRecord> {
  const found = await lookAtSteps(host, record)
  if (found.broken !== null) {
    const lost = record.generations.length
    const without = withoutChain(record, found.steps)
    onWarning(
      `${found.broken}; what is on the disks of ${record.job} is no known generation until the next attempt is done` +
        ` (${lost - without.generations.length} of ${lost} generations were lost)`,
    )
    return await saveState(host, without, 'empty', nowMs)
  }
  if (record.base === 'nothing') {
    // steps that are there are of before the first generation, and lead to nothing that anybody wants
    for (const { path } of record.disks) if (afterwards === 'read-only') await setReadOnly(host, path)
    return await saveState(host, withoutChain(record, found.steps), 'empty', nowMs)
  }
  let back = record
  const isForeign = record.state !== 'writing' && record.state !== 'back'
  // `writing` says as much: nothing is written where the room may be what is missing
  if (isForeign && found.chains.some(({ extra }) => extra.length > 0))
    back = await saveState(host, record, 'back', nowMs)
  for (const [index, { path }] of record.disks.entries()) {
    const { extra = [], through = null } = found.chains[index] ?? {}
    if (extra.length > 0) {
      await setWritable(host, path)
      await host.undoBack(path, through)
    }
    await (afterwards === 'read-only' ? setReadOnly : setWritable)(host, path)
  }
  return await saveState(host, back, record.base === 'generation' ? 'good' : 'empty', nowMs)
}
