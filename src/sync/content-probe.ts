// Reads the few places of an open disk where signatures stand, and has them recognised. A place that cannot be read has
// nothing on it as far as we know: whether the disk can be read is for the pass to say.

import { availableAlgorithms, createDigester } from '../digest/open.js'
import { type Digester, type Range, SEED_BYTES } from '../digest/digester.js'
import type { Endpoint, Signature } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { firstPlaces, partitionPlaces, recognise } from '../guard/signature.js'
import type { Place } from '../guard/signature-view.js'
import type { NativeCore } from '../native.js'

/** Reads are of whole leaves: what direct I/O wants of any disk. */
const LEAF_BYTES = 4096
const BLOCK_BYTES = 1 << 20

/** What is on the disk, in one or two reads of about a megabyte. */
export async function probeContent(endpoint: Endpoint, native: NativeCore | null): Promise<Signature[]> {
  const { sizeBytes, created } = endpoint.info
  if (created) return []
  // reading goes with digesting here; the cheapest that is loaded already
  const [best] = availableAlgorithms(native)
  const algorithm = native === null ? 'sha256' : (best ?? 'sha256')
  const geometry = { blockBytes: BLOCK_BYTES, leafBytes: LEAF_BYTES }
  const digester = await createDigester({ algorithm, seed: new Uint8Array(SEED_BYTES), geometry }, native)
  const places = await readPlaces(endpoint, digester, firstPlaces(sizeBytes, LEAF_BYTES))
  const further = partitionPlaces(places, sizeBytes, LEAF_BYTES)
  if (further.length > 0) places.push(...(await readPlaces(endpoint, digester, further)))
  return recognise(places, sizeBytes)
}

/** In one call; where that fails, place by place without those that cannot be read. */
async function readPlaces(
  endpoint: Endpoint,
  digester: Digester,
  ranges: readonly Range[],
): Promise<Place[]> {
  try {
    return await readAll(endpoint, digester, ranges)
  } catch (error) {
    if (!(error instanceof SyncError) || error.code === 'internal') throw error
    if (ranges.length <= 1) return []
    const single = await Promise.all(ranges.map((range) => readPlaces(endpoint, digester, [range])))
    return single.flat()
  }
}

async function readAll(endpoint: Endpoint, digester: Digester, ranges: readonly Range[]): Promise<Place[]> {
  const bytes = Buffer.allocUnsafeSlow(ranges.reduce((sum, { length }) => sum + length, 0))
  const leafCount = ranges.reduce((sum, { length }) => sum + Math.ceil(length / LEAF_BYTES), 0)
  const leaves = new Uint8Array(leafCount * digester.digestBytes)
  await endpoint.readDigested(ranges, digester, bytes, leaves, new Uint8Array(leafCount))
  let at = 0
  return ranges.map(({ offset, length }) => {
    const place = { offset, bytes: bytes.subarray(at, at + length) }
    at += length
    return place
  })
}
