// What an `opened` frame says of the undo journal that is kept of its disk: text of a far host, checked and made printable.

import { printable } from '../printable.js'
import { count, type Fields, flag, hex, text } from './fields.js'
import { protocolError } from './frame.js'

/** Where the old content of a destination is kept, on its host. `continues`: the journal of a run that did not finish. */
export type KeptJournal = Readonly<{ group: string; path: string; freeBytes: number; continues: boolean }>

const GROUP_BYTES = 16
/** The frame has a path of its own and much else in it; this one is only shown. */
const MAX_PATH_UNITS = 500

/** The field as it is sent; none where nothing is kept. */
export function journalFields(journal: KeptJournal | null): object {
  if (journal === null) return {}
  const { group, path, freeBytes, continues } = journal
  return { undo: { group, path: path.slice(0, MAX_PATH_UNITS), freeBytes, continues } }
}

/** The field as it was sent; null where there is none. Throws session/protocol. */
export function decodeJournal(value: unknown): KeptJournal | null {
  if (value === undefined) return null
  if (typeof value !== 'object' || value === null)
    throw protocolError('opened frame whose undo is not an object')
  const fields = value as Fields
  const path = text(fields, 'path')
  if (path.length > MAX_PATH_UNITS) throw protocolError('opened frame whose undo has a path that is too long')
  return {
    group: hex(fields, 'group', GROUP_BYTES),
    path: printable(path),
    freeBytes: count(fields, 'freeBytes'),
    continues: flag(fields, 'continues'),
  }
}
