// Ranges that differ, and ranges that could not be read, as a control frame has them: pairs of offset and length. Refuses more than a message could name, and
// what lies on no disk.

import type { Range } from '../digest/digester.js'
import { count } from './fields.js'
import { protocolError } from './frame.js'

/** What a message about a difference can name. */
export const MAX_DIFFERING_RANGES = 8

/** What a control frame can hold beside all else, where the numbers are as long as they can be. */
export const MAX_UNREADABLE_RANGES = 1000

export function encodeRanges(ranges: readonly Range[]): number[][] {
  return ranges.map(({ offset, length }) => [offset, length])
}

/** The reverse, of a field that may have `most`; absent is none. Throws session/protocol. */
export function decodeRanges(value: unknown, field: 'differing' | 'unreadable', most: number): Range[] {
  if (value === undefined) return []
  if (!Array.isArray(value) || value.length > most)
    throw protocolError(`finish frame whose ${field} is not a short list`)
  return value.map((pair: unknown) => {
    const [offset, length] = Array.isArray(pair) && pair.length === 2 ? (pair as unknown[]) : []
    const range = { offset: count({ offset }, 'offset'), length: count({ length }, 'length') }
    if (!Number.isSafeInteger(range.offset + range.length))
      throw protocolError(`finish frame whose ${field} is not on a disk`)
    return range
  })
}
