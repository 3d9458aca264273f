// `blocksync undo`: one disk of this host and its journal in, the disk as it was before comes out. Opened and guarded as the
// destination of a run. Refuses where there is no journal, where it is another disk's, and where it is damaged.

import { lstat, open, truncate, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'

import { createDigester } from '../digest/open.js'
import { errnoOf, SyncError } from '../errors.js'
import type { GuardName } from '../guard/guard-name.js'
import { Survey } from '../guard/survey.js'
import { loadNative } from '../native.js'
import type { NativeMode } from '../options.js'
import { openStateDirectory, ownStatePath, stateUnusable } from '../state/directory.js'
import { HostState } from '../state/state.js'
import { applyUndo, checkDisk, isEmptyPlan, planUndo, type UndoPlan, type UndoTarget } from '../undo/apply.js'
import { systemFiles } from '../undo/files.js'
import { listGroups, removeGroup, sweep } from '../undo/groups.js'
import { groupBytes, undoDirectory } from '../undo/journal.js'
import type { Group, GroupState } from '../undo/manifest.js'
import { type OpenDisk, openDisk } from './open-disk.js'

export type UndoRequest = Readonly<{
  path: string
  /** `look`: nothing is written. */
  mode: 'write' | 'look'
  stateDir: string | null
  force: readonly GuardName[]
  native: NativeMode
}>

/** What undoing does, or did. */
export type UndoSummary = Readonly<{
  group: string
  state: GroupState
  /** Of the first run that is taken back. */
  startedAt: string
  runs: number
  journalBytes: number
  /** Old content that is written back, and ranges that become zeros again. */
  restoredBytes: number
  zeroedBytes: number
  /** A file that a run made longer is cut to this length. */
  cutToBytes: number | null
  /** A file that a run made is removed. */
  removed: boolean
  /** False where the run had not overwritten anything. */
  changed: boolean
}>

export type UndoHooks = Readonly<{
  /** Asked when everything is checked and before the first byte is written. */
  confirm: (summary: UndoSummary) => Promise<boolean>
  onProgress: (doneBytes: number, totalBytes: number) => void
  onWarning: (text: string) => void
  signal: AbortSignal
}>

/** Takes the last run back (or the last ones, where they did not finish). Resolves with null where the answer was no. */
export async function undoDisk(request: UndoRequest, hooks: UndoHooks): Promise<UndoSummary | null> {
  const { path, mode, stateDir, force } = request
  const native = loadNative(request.native)
  const files = systemFiles(native)
  const statePath = ownStatePath(stateDir)
  const directory = await openStateDirectory(statePath, 'read')
  if (directory.path === null && !directory.isMissing)
    throw stateUnusable(directory.why, path, 'nothing was written')
  const state = await HostState.open(statePath)
  const stable = await state.identifyPath(path)
  const journals = undoDirectory(statePath, stable.names)
  const group = newest(await listGroups(files, journals), path)
  if (group.manifest.made === 'file' && !(await isThere(path))) {
    // undoing was interrupted right behind its last step
    if (mode === 'write') await removeGroup(files, group)
    return { ...summaryOf(group), removed: true, changed: true }
  }
  await using disk = await openDisk(
    {
      path,
      role: 'destination',
      access: mode === 'write' ? 'write' : 'read',
      create: 'never',
      createSizeBytes: 0,
      guards: 'on',
      force,
      lane: 'first',
      peer: null,
      undo: 'restore',
    },
    { native, survey: new Survey(), state },
  )
  for (const warning of disk.warnings) hooks.onWarning(warning)
  const { info } = disk.endpoint
  checkDisk(group, { ...info, stable: disk.stable })
  await using plan = await planUndo(files, group, info.sizeBytes, (parameters) =>
    createDigester(parameters, native),
  )
  const summary = { ...summaryOf(group), journalBytes: await groupBytes(files, group), ...effectOf(plan) }
  if (mode === 'look') return summary
  hooks.signal.throwIfAborted()
  if (summary.changed && !(await hooks.confirm(summary))) return null
  await sweep(files, journals)
  disk.isBegun = true
  // what an interrupted run had done is taken back from here on: nothing may be gone on with, wherever this one stops
  const stays = await state.overtake(disk.stable, null)
  if (stays !== null) hooks.onWarning(stays)
  if (!summary.changed) await removeGroup(files, group)
  else
    await applyUndo(files, plan, undoTarget(disk), (doneBytes, totalBytes) => {
      hooks.signal.throwIfAborted()
      hooks.onProgress(doneBytes, totalBytes)
    })
  // after the journal: a crash between the two leaves a record that says too much, and the next run compares anyway
  const why = await state.forgetUndone(disk.stable, group.manifest.startedAt)
  if (why !== null) hooks.onWarning(why)
  return summary
}

function newest([group]: readonly Group[], path: string): Group {
  const details = {
    operand: path,
    hint: 'There is one only after a run with --undo, on the host of its destination, for the user (and the --state-dir) that wrote it.',
  }
  if (group === undefined)
    throw new SyncError(
      'undo/missing',
      `there is no undo journal of ${path} here; nothing was written`,
      details,
    )
  const { state, startedAt, changedAt } = group.manifest
  if (state !== 'void') return group
  throw new SyncError(
    'undo/missing',
    `there is no way back: the undo journal of ${path} of ${startedAt} was given up by a run without --undo at ${changedAt}; nothing was written`,
    details,
  )
}

function summaryOf({ manifest }: Group): UndoSummary {
  const { group, state, startedAt, runs } = manifest
  return {
    group,
    state,
    startedAt,
    runs,
    journalBytes: 0,
    restoredBytes: 0,
    zeroedBytes: 0,
    cutToBytes: null,
    removed: false,
    changed: false,
  }
}

function effectOf(
  plan: UndoPlan,
): Pick<UndoSummary, 'restoredBytes' | 'zeroedBytes' | 'cutToBytes' | 'removed' | 'changed'> {
  const { removes, cutToBytes, dataBytes, zeroBytes } = plan
  if (removes) return { restoredBytes: 0, zeroedBytes: 0, cutToBytes: null, removed: true, changed: true }
  return {
    restoredBytes: dataBytes,
    zeroedBytes: zeroBytes,
    cutToBytes,
    removed: false,
    changed: !isEmptyPlan(plan),
  }
}

/** A disk that is open for writing. A file is cut and removed by its path, as long as that leads to the file that is open. */
export function undoTarget({ endpoint }: OpenDisk): UndoTarget {
  const { path } = endpoint.info
  return {
    write: (ranges, from) => endpoint.write(ranges, from),
    zero: (ranges) => endpoint.zero(ranges),
    flush: () => endpoint.flush(),
    async cut(sizeBytes) {
      await refuseAnother(endpoint.info.identity.aliases, path)
      await truncate(path, sizeBytes)
      await syncPath(path)
    },
    async remove() {
      await refuseAnother(endpoint.info.identity.aliases, path)
      await unlink(path)
      await syncPath(dirname(path))
    },
  }
}

async function refuseAnother(aliases: readonly string[], path: string): Promise<void> {
  const { dev, ino } = await lstat(path, { bigint: true })
  if (aliases.includes(`file:${dev}:${ino}`)) return
  throw new SyncError(
    'undo/mismatch',
    `${path} is not the file that was opened any more, or a symbolic link to it`,
    {
      operand: path,
      hint: 'Name the file itself and run the same command again.',
    },
  )
}

async function syncPath(path: string): Promise<void> {
  await using handle = await open(path)
  await handle.sync()
}

/** Whether anything is at the path, also a link that leads nowhere. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path)
    return true
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
