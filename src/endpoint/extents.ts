// Which parts of an open disk are data and which are holes, a batch at a time. A device, and any disk without the native
// core, is one run of data; what a file no longer has is data too, so that reading it fails.

import type { FileHandle } from 'node:fs/promises'

import type { NativeCore } from '../native.js'
import type { EndpointInfo, Extent } from './endpoint.js'
import { misuse } from './failures.js'

/** Extents fetched at a time: 24 bytes each, so a fragmented disk costs 12 KiB of memory, not its extent count. */
const EXTENT_BATCH = 512

/**
 * At least one extent; the first starts at byte `offset`, none goes past `end` (`offset` < `end`).
 * Rejects with the system error of the failed call.
 */
export async function fetchExtents(
  handle: FileHandle,
  native: NativeCore | null,
  info: EndpointInfo,
  offset: number,
  end: number,
): Promise<Extent[]> {
  const all: Extent = { offset, length: end - offset, kind: 'data' }
  if (native === null || info.kind === 'block-device') return [all]
  // Past the end of a file that was cut the kernel answers "hole". That must not pass for zeros.
  const { size } = await handle.stat()
  const knownEnd = Math.min(end, size)
  if (knownEnd <= offset) return [all]
  const triples = new Float64Array(EXTENT_BATCH * 3)
  const count = await native.extents(handle.fd, offset, knownEnd - offset, triples)
  const batch: Extent[] = []
  let next = offset
  for (let i = 0; i < count; i++) {
    const [start = -1, length = 0, kind = 1] = triples.subarray(i * 3, i * 3 + 3)
    if (start !== next || !(length > 0) || length > end - next) {
      throw misuse(info.path, `extents with a gap at byte ${next}`)
    }
    batch.push({ offset: start, length, kind: kind === 0 ? 'hole' : 'data' })
    next += length
  }
  return batch.length === 0 ? [all] : batch
}
