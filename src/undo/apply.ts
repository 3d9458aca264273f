// Takes a group of undo journals back: all of it is checked first, then the old content is written, the newest run first.
// It can be interrupted anywhere and done again; refuses a disk that is not the journal's, and a journal that is not whole.

import type { DiskInfo, Endpoint } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { broken } from './failures.js'
import type { JournalFiles } from './files.js'
import type { DigesterOf } from './journal-file.js'
import { changeGroup, journalNames, removeGroup } from './groups.js'
import type { Group } from './manifest.js'
import { openChecked } from './reader.js'
import type { CheckedFile, UndoRecord } from './reader.js'

/** The disk that is brought back. */
export type UndoTarget = Pick<Endpoint, 'write' | 'zero' | 'flush'> & {
  /** Makes a file shorter; on stable storage when it resolves. */
  cut(sizeBytes: number): Promise<void>
  /** Removes the file; on stable storage when it resolves. */
  remove(): Promise<void>
}

/** What undoing a group does. `cutToBytes` and `removes` say what becomes of a file that a run made longer, or made. */
export type UndoPlan = Readonly<{
  group: Group
  /** The newest run first. */
  checked: readonly CheckedFile[]
  dataBytes: number
  zeroBytes: number
  cutToBytes: number | null
  removes: boolean
}>

export type UndoProgress = (doneBytes: number, totalBytes: number) => void

/** Throws undo/mismatch where the disk is not the one that the group is of. */
export function checkDisk(
  { manifest }: Group,
  info: Pick<DiskInfo, 'path' | 'kind' | 'sizeBytes' | 'stable'>,
): void {
  const { stable, kind, sizeBytes, made, startedAt } = manifest
  const difference =
    stable.machineId !== info.stable.machineId
      ? `it was kept on another machine (${stable.hostName})`
      : stable.names[0] !== info.stable.names[0]
        ? `it is of ${stable.names[0] ?? 'another disk'}, and this is ${info.stable.names[0] ?? 'a disk without a name'}`
        : kind !== info.kind
          ? `it is of a ${kind}, and this is a ${info.kind}`
          : made === 'nothing' && info.sizeBytes < sizeBytes
            ? `the disk had ${sizeBytes} bytes then, and has ${info.sizeBytes}`
            : null
  if (difference === null) return
  throw new SyncError(
    'undo/mismatch',
    `the undo journal of ${startedAt} does not fit ${info.path}: ${difference}; nothing was written`,
    { operand: info.path, hint: 'Name the disk as it was named in the run.' },
  )
}

/** Checks all of a group; who gets the plan closes it. Rejects with undo/broken. `sizeBytes` is that of the disk now. */
export async function planUndo(
  files: JournalFiles,
  group: Group,
  sizeBytes: number,
  digesterOf: DigesterOf,
): Promise<UndoPlan & AsyncDisposable> {
  const { manifest } = group
  const checked: CheckedFile[] = []
  const close = async (): Promise<void> => {
    await Promise.all(checked.map((file) => file.close()))
  }
  try {
    const names = await journalNames(files, group)
    for (const { name } of manifest.files)
      if (!names.includes(name)) throw broken(manifest.path, `${manifest.filesIn}/${name} is missing`)
    for (const name of names) {
      const file = await openChecked(files, manifest, name, digesterOf)
      if (file !== null) checked.push(file)
    }
  } catch (error) {
    await close()
    throw error
  }
  const sum = (bytesOf: (file: CheckedFile) => number): number =>
    checked.reduce((bytes, file) => bytes + bytesOf(file), 0)
  return {
    group,
    checked: checked.toSorted((a, b) => b.run - a.run),
    dataBytes: sum((file) => file.dataBytes),
    zeroBytes: sum((file) => file.zeroBytes),
    removes: manifest.made === 'file',
    cutToBytes: manifest.kind === 'file' && sizeBytes > manifest.sizeBytes ? manifest.sizeBytes : null,
    [Symbol.asyncDispose]: close,
  }
}

/** True where undoing the group changes nothing: the run that began it never came to write. */
export function isEmptyPlan({ checked, cutToBytes, removes }: UndoPlan): boolean {
  return cutToBytes === null && !removes && checked.every(({ places }) => places.length === 0)
}

/**
 * Writes the old content back, flushes, and removes the group. Until it resolves the group stays, and doing it again gives
 * the same result. Rejects with what writing rejects with.
 */
export async function applyUndo(
  files: JournalFiles,
  plan: UndoPlan,
  target: UndoTarget,
  onProgress: UndoProgress = () => undefined,
): Promise<void> {
  // from here on the disk is neither what it was nor what it became: a run that comes in between goes on with this group
  const group = await changeGroup(files, plan.group, { state: 'undoing', files: plan.group.manifest.files })
  if (plan.removes) await target.remove()
  else {
    await writeBack(plan, target, onProgress)
    await target.flush()
    if (plan.cutToBytes !== null) await target.cut(plan.cutToBytes)
  }
  await removeGroup(files, group)
}

/** Writes the old content of a plan, and no more: nothing is flushed, cut or removed. */
export async function writeBack(
  { checked, dataBytes, zeroBytes }: UndoPlan,
  target: Pick<UndoTarget, 'write' | 'zero'>,
  onProgress: UndoProgress,
): Promise<void> {
  let doneBytes = 0
  for await (const { entries, payload } of recordsBackwards(checked)) {
    const data = entries.filter(({ kind }) => kind === 'data')
    const zeros = entries.filter(({ kind }) => kind === 'zeros')
    if (data.length > 0) await target.write(data, payload)
    if (zeros.length > 0) await target.zero(zeros)
    doneBytes += entries.reduce((sum, { length }) => sum + length, 0)
    onProgress(doneBytes, dataBytes + zeroBytes)
  }
}

/** The records of all files from the last to the first; one is read ahead while another is written. */
async function* recordsBackwards(checked: readonly CheckedFile[]): AsyncGenerator<UndoRecord> {
  const places = checked.flatMap((file) => file.places.toReversed().map((place) => ({ file, place })))
  let next: Promise<UndoRecord> | null = null
  try {
    for (const [index, { file, place }] of places.entries()) {
      const reading: Promise<UndoRecord> = next ?? file.read(place)
      const behind = places[index + 1]
      const record = await reading
      next = behind === undefined ? null : behind.file.read(behind.place)
      next?.catch(() => undefined) // awaited in the next turn
      yield record
    }
  } finally {
    await next?.catch(() => undefined) // who stopped early has an error of its own
  }
}
