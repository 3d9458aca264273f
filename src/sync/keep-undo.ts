// The undo journal of a destination that is being opened for a run, on its own host: what was asked for and the disk go in,
// the journal that is kept, or that will be void, comes out. Loads nothing of it where there is none and none was asked for.

import { stat } from 'node:fs/promises'

import { createDigester } from '../digest/open.js'
import type { EndpointInfo, StableIdentity } from '../endpoint/endpoint.js'
import { errnoOf, SyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import { stateUnusable } from '../state/directory.js'
import type { HostState } from '../state/state.js'
import type { DiskUndo, UndoDisk, UndoPlace } from '../undo/journal.js'

/** Where journals of this host go, beside the state directory, and how long they may become. */
export type UndoLimits = Readonly<{ directory: string | null; maxBytes: number | null }>

export const NO_UNDO_LIMITS: UndoLimits = { directory: null, maxBytes: null }

/** `keep`: one step back, `chain`: one more; both go on with that of a run that did not finish. */
export type UndoWish = 'keep' | 'chain' | 'none'

export type UndoQuestion = Readonly<{
  keep: UndoWish | 'restore'
  lane: 'first' | 'further'
  info: EndpointInfo
  stable: StableIdentity
  /** The path led to something before it was opened. */
  existed: boolean
}>

export type UndoContext = Readonly<{ state: HostState; limits: UndoLimits; native: NativeCore | null }>

/**
 * The journal of a destination that may be written. Null where none is kept and none is there. Rejects with destination/undo,
 * destination/undo-space and state/unusable; nothing was written then.
 */
export async function openUndo(question: UndoQuestion, context: UndoContext): Promise<DiskUndo | null> {
  const { keep, lane, info, stable, existed } = question
  const { state, limits, native } = context
  if (keep === 'restore') return null
  if (keep === 'none' && (lane === 'further' || !(await isThere(`${state.path}/undo`)))) return null
  const why = await state.prepare()
  if (why !== null) throw stateUnusable(why, info.path, 'nothing was written')
  const { directory, maxBytes } = limits
  if (keep !== 'none' && directory !== null && !(await isThere(directory))) throw noDirectory(directory)
  const [{ joinUndo, keepUndo }, { voidUndo }, { systemFiles }] = await Promise.all([
    import('../undo/journal.js'),
    import('../undo/void.js'),
    import('../undo/files.js'),
  ])
  const disk: UndoDisk = {
    info: { path: info.path, kind: info.kind, sizeBytes: info.sizeBytes, stable },
    made: !info.created ? 'nothing' : existed ? 'length' : 'file',
  }
  const place: UndoPlace = {
    files: systemFiles(native),
    stateDirectory: state.path,
    keep: keep === 'chain' ? 'chain' : 'one',
    filesBase: directory,
    maxBytes,
    digesterOf: (parameters) => createDigester(parameters, native),
  }
  if (keep === 'none') return await voidUndo(disk, place)
  return await (lane === 'first' ? keepUndo(disk, place) : joinUndo(disk, place))
}

function noDirectory(directory: string): SyncError {
  return new SyncError(
    'destination/undo',
    `there is no directory ${directory} for the undo journal; nothing was written`,
    {
      operand: directory,
      hint: `Make it on the destination's host: mkdir -m 700 ${directory}`,
    },
  )
}

async function isThere(directory: string): Promise<boolean> {
  try {
    return (await stat(directory)).isDirectory()
  } catch (error) {
    // without the right to look there, nobody kept a journal there either
    if (errnoOf(error) === null) throw error
    return false
  }
}
