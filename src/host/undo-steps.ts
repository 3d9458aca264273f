// The steps back of a disk of this host: listed, taken back down to one of them, given up from the oldest on. The disk is opened
// and guarded as a run's destination. Refuses a way back with a gap in it, and to give up what is not finished.

import { createDigester } from '../digest/open.js'
import { SyncError } from '../errors.js'
import { lockDisk } from '../guard/lock.js'
import { Survey } from '../guard/survey.js'
import { loadNative } from '../native.js'
import { stateUnusable } from '../state/directory.js'
import { openDisk } from '../sync/open-disk.js'
import { isThere, undoTarget } from '../sync/undo-disk.js'
import { applyUndo, checkDisk, isEmptyPlan, planUndo } from '../undo/apply.js'
import { systemFiles, type JournalFiles } from '../undo/files.js'
import { isUnfinished, listGroups, removeGroup, sweep } from '../undo/groups.js'
import type { DigesterOf } from '../undo/journal-file.js'
import { groupBytes } from '../undo/journal.js'
import type { Group } from '../undo/manifest.js'
import { type DiskParts, knownUndo } from './disk-parts.js'
import type { UndoneSteps, UndoStep } from './host.js'

/**
 * The far end of a run whose link was cut has the disk until it notices, by default within a minute (SILENCE_TIMEOUT_MS), and has
 * flushed: what that run left is what is to be taken back.
 */
const CUT_OFF_WAIT_MS = 75_000

const NONE: UndoneSteps = { steps: 0, restoredBytes: 0, zeroedBytes: 0 }

/** Host.undoSteps. Rejects with state/unusable and undo/broken. */
export async function undoSteps(path: string, parts: DiskParts): Promise<readonly UndoStep[]> {
  const { journals } = await knownUndo(path, parts.statePath)
  if (journals === null) return []
  const files = systemFiles(loadNative(parts.native))
  const steps: UndoStep[] = []
  for (const found of (await listGroups(files, journals)).toReversed()) {
    const { group, state, startedAt } = found.manifest
    steps.push({ group, state, startedAt, bytes: await groupBytes(files, found) })
  }
  return steps
}

/** Host.undoBack. Rejects with undo/*, guard/*, destination/*, state/unusable, and with the reason of the signal. */
export async function undoBack(
  path: string,
  through: string | null,
  { statePath, native: mode, signal }: DiskParts,
): Promise<UndoneSteps> {
  const { state, journals } = await knownUndo(path, statePath)
  const native = loadNative(mode)
  const files = systemFiles(native)
  const groups = journals === null ? [] : await listGroups(files, journals)
  let steps = stepsBehind(groups, through, path)
  if (journals === null || steps.length === 0) return NONE
  let done = NONE
  const [newest] = steps
  if (newest?.manifest.made === 'file' && !(await isThere(path))) {
    // undoing was interrupted right behind its last step
    await removeGroup(files, newest)
    steps.shift()
    done = { ...done, steps: 1 }
    if (steps.length === 0) return done
  }
  await using disk = await openDisk(
    {
      path,
      role: 'destination',
      access: 'write',
      create: 'never',
      createSizeBytes: 0,
      guards: 'on',
      force: [],
      lane: 'first',
      peer: null,
      undo: 'restore',
      lockWaitMs: CUT_OFF_WAIT_MS,
    },
    { native, survey: new Survey(native), state, signal },
  )
  // who had the disk until now may have gone on with its step
  steps = stepsBehind(await listGroups(files, journals), through, path)
  const digesterOf: DigesterOf = (parameters) => createDigester(parameters, native)
  const info = { ...disk.endpoint.info, stable: disk.stable }
  await checkSteps(files, steps, info, digesterOf, signal)
  signal.throwIfAborted()
  await sweep(files, journals)
  disk.isBegun = true
  // what an interrupted run had done is taken back from here on: nothing may be gone on with, wherever this one stops
  const stays = await state.overtake(disk.stable, null)
  if (stays !== null) throw stateUnusable(stays, path, 'nothing was written')
  let { sizeBytes } = info
  for (const step of steps) {
    await using plan = await planUndo(files, step, sizeBytes, digesterOf)
    if (isEmptyPlan(plan)) await removeGroup(files, step)
    else await applyUndo(files, plan, undoTarget(disk), () => signal.throwIfAborted())
    sizeBytes = plan.cutToBytes ?? sizeBytes
    done = {
      steps: done.steps + 1,
      restoredBytes: done.restoredBytes + (plan.removes ? 0 : plan.dataBytes),
      zeroedBytes: done.zeroedBytes + (plan.removes ? 0 : plan.zeroBytes),
    }
    signal.throwIfAborted()
  }
  // after the journals: a crash between the two leaves a record that says too much, and the next run compares anyway
  const oldest = steps.at(-1)?.manifest.startedAt
  const why = oldest === undefined ? null : await state.forgetUndone(disk.stable, oldest)
  if (why !== null) throw stateUnusable(why, path, 'the disk was brought back')
  return done
}

/** Host.dropUndo. Rejects with guard/locked where a run has the disk, with replicate/refused for a step that is not finished. */
export async function dropUndo(path: string, through: string, parts: DiskParts): Promise<void> {
  const { journals } = await knownUndo(path, parts.statePath)
  if (journals === null) return
  const native = loadNative(parts.native)
  const files = systemFiles(native)
  // a run that begins a group must not lose it to the sweep
  const lock = await lockDisk(
    { path, role: 'destination', mode: 'exclusive', waitMs: 0 },
    { native, peerProcess: null, signal: parts.signal },
  )
  try {
    await sweep(files, journals)
    const groups = await listGroups(files, journals)
    const at = groups.findIndex(({ manifest }) => manifest.group === through)
    if (at === -1) return
    const given = groups.slice(at)
    const unfinished = given.find(isUnfinished)
    if (unfinished !== undefined)
      throw new SyncError(
        'replicate/refused',
        `the undo journal of ${path} of ${unfinished.manifest.startedAt} is not finished, so it is the way back to a whole disk; nothing was removed`,
        { operand: path, hint: 'Take it back first, or run the job again.' },
      )
    for (const group of given.toReversed()) {
      parts.signal.throwIfAborted()
      await removeGroup(files, group)
    }
  } finally {
    await lock.release()
  }
}

/** Groups that are newer than `through`, the newest first; all of them for null. Throws undo/missing where there is a gap. */
export function stepsBehind(groups: readonly Group[], through: string | null, path: string): Group[] {
  const at = through === null ? groups.length : groups.findIndex(({ manifest }) => manifest.group === through)
  if (at === -1) throw noWayBack(path, `the step ${through} that it is to be brought back to is not there`)
  const steps = groups.slice(0, at)
  const gap = steps.find(({ manifest }) => manifest.state === 'void')
  if (gap !== undefined) {
    const { startedAt, changedAt } = gap.manifest
    throw noWayBack(
      path,
      `the undo journal of ${startedAt} was given up by a run without --undo, or by another disk there, at ${changedAt}`,
    )
  }
  const making = steps.findIndex(({ manifest }) => manifest.made === 'file')
  if (making === -1 || making === steps.length - 1) return steps
  throw noWayBack(path, `it was made new by the run of ${steps[making]?.manifest.startedAt}`)
}

/** Damage that is found now leaves the disk as it is. One step alone is checked before it is written in any case. */
async function checkSteps(
  files: JournalFiles,
  steps: readonly Group[],
  info: Parameters<typeof checkDisk>[1],
  digesterOf: DigesterOf,
  signal: AbortSignal,
): Promise<void> {
  let { sizeBytes } = info
  for (const step of steps) {
    checkDisk(step, { ...info, sizeBytes })
    if (steps.length === 1) return
    signal.throwIfAborted()
    await using plan = await planUndo(files, step, sizeBytes, digesterOf)
    sizeBytes = plan.cutToBytes ?? sizeBytes
  }
}

function noWayBack(path: string, why: string): SyncError {
  return new SyncError('undo/missing', `there is no way back for ${path}: ${why}; nothing was written`, {
    operand: path,
    hint: 'What is on the disk now stays; a run from its source makes it whole.',
  })
}
