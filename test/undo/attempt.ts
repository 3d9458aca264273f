// Runs as a destination does them, and undoing, on a machine in memory: what the crash tests drive.

import { createDigester } from '../../src/digest/open.js'
import type { DigestParameters } from '../../src/digest/digester.js'
import type { DiskInfo } from '../../src/endpoint/endpoint.js'
import { SyncError } from '../../src/errors.js'
import { loadNative } from '../../src/native.js'
import { applyUndo, checkDisk, isEmptyPlan, planUndo } from '../../src/undo/apply.js'
import { listGroups, removeGroup, sweep } from '../../src/undo/groups.js'
import { joinUndo, keepUndo, undoDirectory } from '../../src/undo/journal.js'
import type { DiskUndo, UndoDisk, UndoPlace } from '../../src/undo/journal.js'
import type { Made } from '../../src/undo/manifest.js'
import { DISK_PATH } from './power.js'
import type { Machine } from './power.js'

const native = loadNative('auto')
export const digesterOf = (parameters: DigestParameters): ReturnType<typeof createDigester> =>
  createDigester(parameters, native)
export const LEAF_BYTES = 512
export const NAMES = [`path:${DISK_PATH}`]

export function diskOf(machine: Machine, made: Made = 'nothing'): UndoDisk {
  const info: Pick<DiskInfo, 'path' | 'kind' | 'sizeBytes' | 'stable'> = {
    path: DISK_PATH,
    kind: 'file',
    sizeBytes: machine.disk?.length ?? 0,
    stable: { machineId: 'here', hostName: 'here', names: NAMES },
  }
  return { info, made }
}

export function placeOn(machine: Machine, change: Partial<UndoPlace> = {}): UndoPlace {
  return {
    files: machine.files(),
    stateDirectory: '/state',
    keep: 'one',
    filesBase: null,
    maxBytes: null,
    digesterOf,
    ...change,
  }
}

export type Frame = readonly (
  | { kind: 'data'; offset: number; bytes: Buffer }
  | { kind: 'zero'; offset: number; length: number }
)[]

export type Attempt = Readonly<{
  frames: readonly Frame[]
  growTo?: number
  lanes?: number
  end: 'finished' | 'stopped'
  place?: Partial<UndoPlace>
  onBegun?: (undo: DiskUndo) => void
}>

/** One run with --undo. Frames are under way together, as many as a window holds. */
export async function attempt(
  machine: Machine,
  { frames, growTo, lanes = 1, end, place, onBegun }: Attempt,
): Promise<void> {
  const target = machine.target()
  await using undo = await keepUndo(diskOf(machine), placeOn(machine, place))
  onBegun?.(undo)
  await undo.begin()
  if (growTo !== undefined) await target.grow(growTo)
  const undos: DiskUndo[] = [undo]
  while (undos.length < lanes) undos.push(await joinUndo(diskOf(machine), placeOn(machine, place)))
  const preservers = undos.map((each) => each.preserver(target, LEAF_BYTES))
  try {
    const writing = frames.map(async (frame, index) => {
      const preserver = preservers[index % preservers.length]
      await preserver?.before(frame.map((each) => ({ offset: each.offset, length: lengthOf(each) })))
      for (const each of frame) {
        const range = { offset: each.offset, length: lengthOf(each) }
        await (each.kind === 'data' ? target.write([range], each.bytes) : target.zero([range]))
      }
    })
    const outcomes = await Promise.allSettled(writing)
    const failed = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  } finally {
    for (const preserver of preservers) await preserver?.close()
    await target.flush()
  }
  if (end === 'finished') await undo.finish()
}

function lengthOf(record: Frame[number]): number {
  return record.kind === 'data' ? record.bytes.length : record.length
}

/** The newest group there is, or null. */
export async function newestGroup(machine: Machine): Promise<string | null> {
  const [group] = await listGroups(machine.files(), undoDirectory('/state', NAMES))
  return group?.manifest.group ?? null
}

/** The groups there are, the oldest first. */
export async function groupsOf(machine: Machine): Promise<string[]> {
  const groups = await listGroups(machine.files(), undoDirectory('/state', NAMES))
  return groups.map(({ manifest }) => manifest.group).toReversed()
}

/** Gives up the oldest steps, up to and with `through`. */
export async function drop(machine: Machine, through: string): Promise<void> {
  const files = machine.files()
  const directory = undoDirectory('/state', NAMES)
  await sweep(files, directory)
  const groups = await listGroups(files, directory)
  const at = groups.findIndex(({ manifest }) => manifest.group === through)
  for (const group of groups.slice(at === -1 ? groups.length : at).toReversed())
    await removeGroup(files, group)
}

/** `blocksync undo`. Rejects with undo/missing where there is no journal. */
export async function undo(machine: Machine): Promise<void> {
  const files = machine.files()
  const directory = undoDirectory('/state', NAMES)
  await sweep(files, directory)
  const [group] = await listGroups(files, directory)
  if (group === undefined) throw new SyncError('undo/missing', 'no journal')
  if (machine.disk !== null) checkDisk(group, diskOf(machine).info)
  await using plan = await planUndo(files, group, machine.disk?.length ?? 0, digesterOf)
  if (isEmptyPlan(plan)) await removeGroup(files, group)
  else await applyUndo(files, plan, machine.target())
}
