// Small steps of making batches: which leaves of a decision go out, and records and payload that grow by what continues
// them. Pure; reads nothing, sends nothing.

import type { DataRecord } from '../wire/bodies.js'
import { MAX_ZERO_RECORD_BYTES } from '../wire/frame.js'
import type { Decision } from './compare.js'
import type { PassGeometry } from './geometry.js'

/** A decision about one block of which leaves go out. */
export type BlockDecision = Decision & { kind: 'leaves' | 'fill' }

/** Leaves of a block that go out, as runs in order: to be read, or known zeros that the destination does not have. */
export function* leafRuns(
  decision: BlockDecision,
  geometry: PassGeometry,
): Generator<{ kind: 'read' | 'zero'; firstLeaf: number; endLeaf: number }> {
  const leafCount = geometry.leafCount(decision.firstBlock)
  const isFill = decision.kind === 'fill'
  const zeroLeaves = isFill ? (decision.known?.zeroLeaves ?? null) : decision.zeroLeaves
  const different = isFill ? null : decision.target.different
  for (let leaf = 0; leaf < leafCount;) {
    // Of a block that is all zeros there, every leaf differs; searched for in one call, since there are millions.
    const firstLeaf = different === null ? leaf : nextOf(different, 1, leaf, leafCount)
    const differentEnd = different === null ? leafCount : nextOf(different, 0, firstLeaf, leafCount)
    for (leaf = firstLeaf; leaf < differentEnd;) {
      const isZero = zeroLeaves?.[leaf] === 1
      const endLeaf =
        zeroLeaves === null ? differentEnd : nextOf(zeroLeaves, isZero ? 0 : 1, leaf, differentEnd)
      if (!isZero) yield { kind: 'read', firstLeaf: leaf, endLeaf }
      else if (!isFill) yield { kind: 'zero', firstLeaf: leaf, endLeaf }
      leaf = endLeaf
    }
  }
}

/** Where `value` comes next from `from` on; `end` where it does not come before that. */
export function nextOf(flags: Uint8Array, value: 0 | 1, from: number, end: number): number {
  const at = flags.indexOf(value, from)
  return at === -1 || at > end ? end : at
}

/** Adds to the last record where it continues it. */
export function append(records: DataRecord[], kind: 'data' | 'zero', offset: number, length: number): void {
  const last = records.at(-1)
  if (
    last !== undefined &&
    last.kind === kind &&
    last.offset + last.length === offset &&
    last.length + length <= MAX_ZERO_RECORD_BYTES
  ) {
    last.length += length
  } else {
    records.push({ kind, offset, length })
  }
}

/** Adds [at, at + length) of `payload`, growing the last part where it continues it. */
export function appendPart(parts: Uint8Array[], payload: Uint8Array, at: number, length: number): void {
  const last = parts.at(-1)
  if (last !== undefined && last.byteOffset + last.length === payload.byteOffset + at) {
    parts[parts.length - 1] = payload.subarray(at - last.length, at + length)
  } else {
    parts.push(payload.subarray(at, at + length))
  }
}
