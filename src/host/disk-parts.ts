// What the operations of a host that open disks are given, and how they know a disk and its undo journals without opening
// it. Refuses a state directory that cannot be read (state/unusable).

import type { StableIdentity } from '../endpoint/endpoint.js'
import type { NativeMode } from '../options.js'
import { openStateDirectory, stateUnusable } from '../state/directory.js'
import { HostState } from '../state/state.js'
import { undoDirectory } from '../undo/journal.js'
import { checkPath } from './files.js'

export type DiskParts = Readonly<{
  /** The state directory, absolute. */
  statePath: string
  native: NativeMode
  /** Aborted: what works on disks ends where it is. */
  signal: AbortSignal
}>

/** Who a disk is, and where its groups of journals are (null where nothing was ever kept on this host). */
export type KnownUndo = Readonly<{ state: HostState; stable: StableIdentity; journals: string | null }>

/** Rejects with state/unusable, and with host/file for a path that is not absolute. */
export async function knownUndo(path: string, statePath: string): Promise<KnownUndo> {
  checkPath(path)
  const directory = await openStateDirectory(statePath, 'read')
  if (directory.path === null && !directory.isMissing)
    throw stateUnusable(directory.why, path, 'nothing was written')
  const state = await HostState.open(statePath)
  const stable = await state.identifyPath(path)
  return { state, stable, journals: directory.path === null ? null : undoDirectory(statePath, stable.names) }
}
