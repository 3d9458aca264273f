// A generation is written out beside the replica, on its host; what was written is read again and compared with the record. Refuses a
// generation that is not kept, and to overwrite files. (restore-in-place.ts leads the replica itself back.)

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import { openCopy } from './copy-source.js'
import { wayBack } from './generations.js'
import { rootFits } from './proof.js'
import type { Generation, GenerationDisk, ReplicaRecord } from './record.js'
import {
  type Agree,
  generationFacts,
  type GenerationFacts,
  madeWhole,
  type ReplicaRequest,
  takeReplica,
} from './replicas.js'

export type RestoreRequest = ReplicaRequest &
  Readonly<{
    /** Null is the newest one. */
    generation: number | null
    /** Absolute, on the replica's host: a file that is not there yet, a device, or a directory. Null leads the replica back. */
    to: string | null
    agree: Agree
    /** Looked at between disks. */
    signal: AbortSignal
  }>

export type Restored = Readonly<{
  job: string
  id: string
  host: string
  restored: GenerationFacts
  /** `to` null where the replica itself was led back. */
  disks: readonly RestoredDisk[]
  /** Newer generations that are gone. */
  dropped: readonly number[]
}>

export type RestoredDisk = Readonly<{ path: string; to: string | null; bytes: number }>

/** More names than this are no help. */
const MAX_NAMED = 20

/**
 * Rejects with replicate/unknown (no such generation), replicate/refused, replicate/drill (what was written is not what the
 * record says: a file is removed then, a device is named), and with what writing rejects with.
 */
export async function restore(request: RestoreRequest): Promise<Restored> {
  const { host, generation, to } = request
  const record = await takeReplica(request)
  const wanted = generationOf(record, generation)
  if (to === null) {
    const { restoreInPlace } = await import('./restore-in-place.js')
    return await restoreInPlace(request, record, wanted)
  }
  const targets = await targetsFor(host, record, to)
  // of copies nothing depends on what is on the disks; of a promoted one only the roots tell whether it can be reached
  const isByCopies = wanted.disks.every(({ copy }) => copy !== null)
  const whole =
    isByCopies || record.state === 'promoted'
      ? record
      : (await madeWhole(request, record, 'read-only', 'nothing was restored')).record
  const disks: RestoredDisk[] = []
  for (const [index, { path }] of whole.disks.entries()) {
    request.signal.throwIfAborted()
    const target = targets[index] ?? ''
    const disk = diskOf(wanted, index)
    const { bytes } = await writeOut(host, whole, wanted, index, target)
    if (!(await rootFits(host, target, disk.root))) throw await unlike(host, whole, wanted, target)
    disks.push({ path, to: target, bytes })
  }
  return await outcome(host, whole, wanted, disks, [])
}

export async function outcome(
  host: Host,
  { job, id }: ReplicaRecord,
  wanted: Generation,
  disks: readonly RestoredDisk[],
  dropped: readonly number[],
): Promise<Restored> {
  return { job, id, host: host.name, restored: await generationFacts(host, wanted), disks, dropped }
}

export function diskOf({ disks, number }: Generation, index: number): GenerationDisk {
  const disk = disks[index]
  if (disk !== undefined) return disk
  throw new SyncError(
    'replicate/record',
    `generation ${number} has no disk ${index + 1}; nothing was restored`,
  )
}

/** `4, 5, 6`, the newest ones where there are many. */
export function listed(generations: readonly Generation[]): string {
  const numbers = generations.map(({ number }) => String(number))
  return numbers.length <= MAX_NAMED
    ? numbers.join(', ')
    : `${numbers.slice(-MAX_NAMED).join(', ')} and older ones`
}

function generationOf({ job, generations }: ReplicaRecord, number: number | null): Generation {
  const wanted = number === null ? generations.at(-1) : generations.find((each) => each.number === number)
  if (wanted !== undefined) return wanted
  throw new SyncError(
    'replicate/unknown',
    number === null
      ? `the replica of ${job} has no complete generation; nothing was restored`
      : `the replica of ${job} has no generation ${number}; nothing was restored`,
    { operand: job, hint: generations.length === 0 ? 'None is kept yet.' : `It has ${listed(generations)}.` },
  )
}

async function writeOut(
  host: Host,
  record: ReplicaRecord,
  wanted: Generation,
  index: number,
  to: string,
): Promise<Readonly<{ bytes: number }>> {
  const { root, copy } = diskOf(wanted, index)
  const { lengthBytes } = root
  if (copy === null) {
    const from = record.disks[index]?.path ?? ''
    return await host.writeOut({ from, to, lengthBytes, undo: wayBack(record, wanted.number, index) })
  }
  await using source = await openCopy(host, copy)
  return await host.writeOut({ from: source.path, to, lengthBytes, undo: [] })
}

/** Where each disk goes: into a directory by its own name, else to the path itself. All is asked before the first byte is written. */
async function targetsFor(host: Host, { disks, job }: ReplicaRecord, to: string): Promise<readonly string[]> {
  const facts = await host.look(to)
  const isInside = facts?.kind === 'directory' || disks.length > 1 || to.endsWith('/')
  if (!isInside && (facts === null || facts.kind === 'block')) return [to]
  if (!isInside || (facts !== null && facts.kind !== 'directory'))
    throw isThereAlready(
      to,
      isInside ? 'Name a directory: each disk becomes a file in it.' : 'Name a new file.',
    )
  const names = disks.map(({ path }) => posix.basename(path))
  if (new Set(names).size < names.length)
    throw new SyncError(
      'replicate/refused',
      `two disks of ${job} have the same name, and cannot be files of one directory; nothing was restored`,
      { operand: to, hint: 'Lead the replica itself back (--in-place), and copy its disks by hand.' },
    )
  const targets = names.map((name) => posix.join(to, name))
  for (const target of targets)
    if ((await host.look(target)) !== null)
      throw isThereAlready(target, 'Name another directory, or move that away.')
  if (facts === null) await host.makeDirectories(posix.resolve(to))
  return targets
}

function isThereAlready(path: string, hint: string): SyncError {
  return new SyncError('replicate/refused', `${printable(path)} is there already; nothing was restored`, {
    operand: printable(path),
    hint,
  })
}

async function unlike(
  host: Host,
  { job, state }: ReplicaRecord,
  { number }: Generation,
  target: string,
): Promise<SyncError> {
  const isDevice = (await host.look(target))?.kind === 'block'
  if (!isDevice) await host.remove(target)
  return new SyncError(
    'replicate/drill',
    `generation ${number} of ${job} was written to ${printable(target)} and is not what the record says; ` +
      (isDevice ? 'do not use what is on it' : 'the file was removed'),
    {
      operand: printable(target),
      hint:
        state === 'promoted'
          ? 'The replica was written since it was promoted: generations without a copy cannot be reached any more.'
          : `Prove the replica: blocksync replicate drill ${job}`,
    },
  )
}
