// Ranges as the native core takes them. Checks nothing: the core does.

import type { Range } from '../digest/digester.js'

/** Ranges as pairs (offset, length), end to end. */
export function rangePairs(ranges: readonly Range[]): Float64Array {
  const pairs = new Float64Array(ranges.length * 2)
  let at = 0
  for (const { offset, length } of ranges) {
    pairs[at++] = offset
    pairs[at++] = length
  }
  return pairs
}
