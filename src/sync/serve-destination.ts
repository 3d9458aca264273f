// A pass over a destination at the far end: what was asked for and an open disk come in; its journal is begun, its record marked, its
// leaves are kept where that is wished, then the pass runs. Refuses nothing itself: what it calls does.

import type { NativeCore } from '../native.js'
import type { HostState } from '../state/state.js'
import type { StartMessage } from '../wire/control.js'
import { type DestinationPass, runDestination } from './destination.js'
import type { KeptLeaves } from './keep-leaves.js'
import type { OpenDisk } from './open-disk.js'
import { prepareDestination } from './prepare.js'

export type ServedContext = Readonly<{
  native: NativeCore | null
  state: HostState
  /** False as soon as another lane may write to the disk: what it writes is not known here. */
  keepsLeaves: () => boolean
}>

/** Resolves when the pass is done, and what is kept of it is. Rejects as runDestination does. */
export async function serveDestination(
  pass: Omit<DestinationPass, 'verify' | 'preserver' | 'permitted'>,
  open: OpenDisk,
  start: StartMessage,
  { native, state, keepsLeaves }: ServedContext,
): Promise<void> {
  const { endpoint, digester } = pass
  const isWriting = start.mode === 'write'
  // the journal is begun, or void, before anything is written; the disk is made longer after that
  if (isWriting) await open.undo?.begin()
  const permitted = start.pair === null ? Promise.resolve() : open.keeper.begin(start.pair)
  await prepareDestination(endpoint, start, permitted)
  const verify = { what: start.verify, native }
  const preserver = isWriting ? (open.undo?.preserver(endpoint, start.leafBytes) ?? null) : null
  let kept: KeptLeaves | null = null
  if (isWriting && start.leaves !== null && keepsLeaves()) {
    const { openLeaves } = await import('./keep-leaves.js')
    kept = await openLeaves(start.leaves, digester, open, state)
  }
  try {
    const over = { ...pass, endpoint: kept?.endpoint ?? endpoint }
    const { root } = await runDestination({ ...over, verify, permitted, preserver })
    if (keepsLeaves()) await kept?.seal(root)
  } finally {
    await kept?.close()
  }
}
