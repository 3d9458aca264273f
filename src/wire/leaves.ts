// What a start frame says of the leaf digests that a destination keeps: an object comes in, a checked wish goes out. Refuses a root that
// is none.

import { isObject } from '../json.js'
import { hex, ROOT_BYTES } from './fields.js'
import { protocolError } from './frame.js'

/** What of a destination need not be read: its leaf digests are kept, and were when it had that root; null: there are none yet. */
export type LeavesWish = Readonly<{ root: string | null }>

/** As the field `leaves` of `start`. */
export function leavesField(wish: LeavesWish | null): object {
  if (wish === null) return {}
  return { leaves: wish.root === null ? {} : { root: wish.root } }
}

/** Null where the field is absent. Throws session/protocol. */
export function decodeLeaves(value: unknown): LeavesWish | null {
  if (value === undefined) return null
  if (!isObject(value)) throw protocolError('start frame whose leaves are no object')
  return { root: value['root'] === undefined ? null : hex(value, 'root', ROOT_BYTES) }
}
