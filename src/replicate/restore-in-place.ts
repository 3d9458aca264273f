// The replica itself is led back to an older generation: by its undo journals, or by the copies of all of its disks. Newer generations
// are gone then. Refuses a promoted replica, which somebody may use.

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import { setReadOnly, setWritable } from './access.js'
import { sweepCopies } from './copies.js'
import { openCopy } from './copy-source.js'
import { withoutChain } from './generations.js'
import { lookAtSteps } from './lead-back.js'
import { rootFits } from './proof.js'
import type { Generation, GenerationCopy, ReplicaRecord } from './record.js'
import { saveReplica } from './replica-file.js'
import { generationOnDisks, madeWhole } from './replicas.js'
import { diskOf, listed, outcome, type Restored, type RestoredDisk, type RestoreRequest } from './restore.js'

/** Sharing the blocks of a file with millions of extents takes seconds. */
const CLONE_TIMEOUT_MS = 300_000

/** The record is read and locked. See `restore`. */
export async function restoreInPlace(
  request: RestoreRequest,
  record: ReplicaRecord,
  wanted: Generation,
): Promise<Restored> {
  const { host, agree, signal } = request
  const { job, state } = record
  if (state === 'promoted')
    throw refused(
      record,
      wanted,
      'it is promoted, and somebody may use its disks',
      'Write it out beside it: --to PATH',
    )
  const newer = record.generations.filter(({ number }) => number > wanted.number)
  const byCopies = wanted.disks.map(({ copy }) => copy).filter((copy) => copy !== null)
  // the newest one is what the undo journals lead to, whatever copies there are of it
  const isByUndo = generationOnDisks(record) !== null && (newer.length === 0 || byCopies.length === 0)
  if (!isByUndo && byCopies.length < record.disks.length)
    throw refused(
      record,
      wanted,
      'some of its disks have copies of it, and others undo journals',
      'Write it out beside the replica: --to DIRECTORY',
    )
  await agree(
    [
      `${job} on ${host.name} is led back to generation ${wanted.number}, taken ${wanted.takenAt}`,
      ...(newer.length === 0 ? [] : [`gone then: generation ${listed(newer)}`]),
      `the next attempt overwrites it with what the source has; blocksync replicate pause ${job} keeps it from that`,
    ],
    `Lead the replica of ${job} back?`,
  )
  signal.throwIfAborted()
  const kept = { ...record, generations: record.generations.filter(({ number }) => number <= wanted.number) }
  const back = await (isByUndo ? undone(request, kept, newer.length) : copied(request, kept, byCopies))
  const disks = await proved(host, back, wanted)
  // what the record does not name any more
  for (const [index, { path }] of back.disks.entries())
    await sweepCopies(
      host,
      path,
      back.generations.map((each) => diskOf(each, index).copy).filter((copy) => copy !== null),
    )
  const dropped = newer.map(({ number }) => number)
  return await outcome(host, back, wanted, disks, dropped)
}

/** The record first: whoever comes next, after whatever ends this, leads the disks on to the same generation. */
async function undone(request: RestoreRequest, kept: ReplicaRecord, newer: number): Promise<ReplicaRecord> {
  const shorter: ReplicaRecord = newer === 0 ? kept : { ...kept, state: 'back' }
  if (newer > 0) await saveReplica(request.host, shorter)
  return (await madeWhole(request, shorter, 'read-only', 'it was not led back')).record
}

/**
 * What is on the disks is nothing until all of them are written: ended in between, the next attempt compares all of it, and doing
 * this again begins it again.
 */
async function copied(
  { host, signal }: RestoreRequest,
  kept: ReplicaRecord,
  copies: readonly GenerationCopy[],
): Promise<ReplicaRecord> {
  const { steps } = await lookAtSteps(host, kept)
  const open: ReplicaRecord = { ...withoutChain(kept, steps), state: 'empty', changedAt: await nowOf(host) }
  await saveReplica(host, open)
  for (const [index, { path }] of open.disks.entries()) {
    signal.throwIfAborted()
    const copy = copies[index]
    if (copy === undefined) continue
    await setWritable(host, path)
    await overwrite(host, path, copy, open.generations.at(-1), index)
    await setReadOnly(host, path)
  }
  const good: ReplicaRecord = { ...open, state: 'good', base: 'generation', changedAt: await nowOf(host) }
  const newest = good.generations.at(-1)
  if (newest !== undefined) await proved(host, good, newest)
  await saveReplica(host, good)
  return good
}

async function overwrite(
  host: Host,
  path: string,
  copy: GenerationCopy,
  generation: Generation | undefined,
  index: number,
): Promise<void> {
  if (copy.kind === 'lvm-thin') {
    const lengthBytes = generation === undefined ? 0 : diskOf(generation, index).root.lengthBytes
    await using source = await openCopy(host, copy)
    await host.writeOut({ from: source.path, to: path, lengthBytes, undo: [] })
    return
  }
  // into the file that is there: its identity is in the records of the pair
  for (const argv of [
    ['cp', '--reflink=always', '--', copy.path, path],
    ['sync', path],
  ] as const) {
    const { exitStatus, stderrTail } = await host.run({ argv, timeoutMs: CLONE_TIMEOUT_MS })
    if (exitStatus !== 0)
      throw new SyncError('host/program', `${printable(path)} could not be made of its copy: ${stderrTail}`, {
        operand: printable(path),
        hint: 'Make room there and type the same again; the copy is as it was.',
      })
  }
}

/** Rejects with replicate/drill where a disk is not what the generation says. */
async function proved(
  host: Host,
  { disks, job }: ReplicaRecord,
  wanted: Generation,
): Promise<RestoredDisk[]> {
  const restored: RestoredDisk[] = []
  for (const [index, { path }] of disks.entries()) {
    const { root } = diskOf(wanted, index)
    if (!(await rootFits(host, path, root)))
      throw new SyncError(
        'replicate/drill',
        `${printable(path)} was led back to generation ${wanted.number} and is not what the record says`,
        {
          operand: printable(path),
          hint: `Let an attempt make it good again: blocksync replicate run ${job} --now`,
        },
      )
    restored.push({ path, to: null, bytes: root.lengthBytes })
  }
  return restored
}

function refused({ job }: ReplicaRecord, { number }: Generation, why: string, hint: string): SyncError {
  return new SyncError(
    'replicate/refused',
    `the replica of ${job} was not led back to generation ${number}: ${why}`,
    { operand: job, hint },
  )
}

async function nowOf(host: Host): Promise<string> {
  return new Date((await host.facts()).nowMs).toISOString()
}
