// A disk of a run in the far process of a further lane: asked for by the token of the first lane, without its questions.
// Refuses a far end that opened another disk, or that keeps another undo journal, than that of the first lane.

import { isSameDisk } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { protocolError } from '../wire/frame.js'
import type { OpenPair } from './disk-pass.js'
import type { DiskRunContext } from './disk-run.js'
import type { Lane } from './lanes.js'
import { undoWish } from './open-pairs.js'

/** Opens it. Rejects with guard/same-disk, and with what the far end refuses it with. */
export async function openOnLane(
  { session, number }: Lane,
  { disk, pair, far }: OpenPair,
  { push, options, invitation }: Pick<DiskRunContext, 'push' | 'options' | 'invitation'>,
): Promise<void> {
  const { path } = push ? pair.destination : pair.source
  session.open(disk, {
    role: push ? 'destination' : 'source',
    path,
    access: push && options.mode === 'write' ? 'write' : 'read',
    create: 'never',
    createSizeBytes: 0,
    // one holder: the first lane was asked, and may be what others would be found to do
    guards: 'off',
    force: [],
    peer: null,
    lane: push ? await invitation() : null,
    lockWaitMs: 0,
    undo: push ? undoWish(options) : 'none',
    standsFor: null,
  })
  const info = await session.opened()
  if (push && options.undo !== null && info.undo?.group !== far.undo?.group)
    throw protocolError('opened frame without the undo journal of the first lane')
  if (isSameDisk(info.identity, far.identity)) return
  throw new SyncError(
    'guard/same-disk',
    `${path} is not the same disk in lane ${number} as in the first one; nothing was written through it`,
    { operand: path, hint: 'Does the name of the host lead to several hosts? Name one of them.' },
  )
}
