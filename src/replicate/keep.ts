// What is kept behind a commit: a copy of the newest generation where the storage can make one, and of older ones what retention
// wants. Nothing is given up before the record says so on stable storage; what fails here is tried again by the next attempt.

import type { Retention } from '../config/config.js'
import type { Host } from '../host/host.js'
import { makeCopy, sweepCopies } from './copies.js'
import { groupsOf, newestOf, prune } from './generations.js'
import { saveState, type Found } from './lead-back.js'
import type { GenerationCopy, ReplicaRecord } from './record.js'
import { keepsOlder, wanted } from './retention.js'

/**
 * Copies disks of the newest generation that have none. Who calls knows that they are that generation, and that nobody writes.
 * Resolves with the record, written where it changed.
 */
export async function copyNewest(
  host: Host,
  record: ReplicaRecord,
  keep: Retention,
  nowMs: number,
  onWarning: (text: string) => void,
): Promise<ReplicaRecord> {
  const newest = newestOf(record)
  if (newest === null || !keepsOlder(keep)) return record
  const copies: (GenerationCopy | null)[] = []
  for (const [index, { path }] of record.disks.entries()) {
    const copy = newest.disks[index]?.copy ?? null
    copies.push(copy ?? (await orWarn(host, onWarning, () => makeCopy(host, path, newest.number))))
  }
  if (newest.disks.every(({ copy }, index) => copy === copies[index])) return record
  const disks = newest.disks.map((disk, index) => ({ ...disk, copy: copies[index] ?? null }))
  const generations = [...record.generations.slice(0, -1), { ...newest, disks }]
  return await saveState(host, { ...record, generations }, record.state, nowMs)
}

/**
 * Leaves out of the record what is not wanted any more, then takes away copies and undo groups that only led there.
 * `unclean`: an attempt before may have left copies that no record has.
 */
export async function keepWanted(
  host: Host,
  record: ReplicaRecord,
  keep: Retention,
  unclean: boolean,
  nowMs: number,
  onWarning: (text: string) => void,
): Promise<ReplicaRecord> {
  const { record: pruned, sacrificed } = prune(record, wanted(record.generations, keep))
  if (sacrificed.length > 0)
    onWarning(
      `generation ${sacrificed.join(', ')} of ${record.job} had to go: the undo journals that lead there have too many steps` +
        ' (keep fewer generations, or put the replica on storage that makes copies: btrfs, xfs, thin LVM)',
    )
  const hasCopies = record.generations.some(({ disks }) => disks.some(({ copy }) => copy !== null))
  const isSame =
    pruned.generations.length === record.generations.length &&
    pruned.disks.every(({ droppedUndo }, index) => droppedUndo === record.disks[index]?.droppedUndo)
  const saved = isSame ? record : await saveState(host, pruned, record.state, nowMs)
  for (const [index, { path, droppedUndo }] of saved.disks.entries()) {
    const before = record.disks[index]?.droppedUndo
    if (droppedUndo !== null && droppedUndo !== before)
      await orWarn(host, onWarning, async () => host.dropUndo(path, droppedUndo))
    if (!hasCopies && !unclean) continue
    const kept = saved.generations.flatMap(({ disks }) => disks[index]?.copy ?? [])
    await orWarn(host, onWarning, async () => sweepCopies(host, path, kept))
  }
  return saved
}

/** Drops what an attempt gave up and did not come to drop. */
export async function dropLeftOver(
  host: Host,
  record: ReplicaRecord,
  found: Found,
  onWarning: (text: string) => void,
): Promise<void> {
  for (const [index, { path }] of record.disks.entries()) {
    const leftover = found.chains[index]?.leftover ?? null
    if (leftover === null || groupsOf(record, index).includes(leftover)) continue
    await orWarn(host, onWarning, async () => host.dropUndo(path, leftover))
  }
}

/** Null where it failed: said, and not final. A lost host ends the attempt. */
async function orWarn<T>(
  host: Host,
  onWarning: (text: string) => void,
  act: () => Promise<T>,
): Promise<T | null> {
  try {
    return await act()
  } catch (thrown) {
    if (host.lost.aborted) throw thrown
    onWarning(thrown instanceof Error ? thrown.message : String(thrown))
    return null
  }
}
