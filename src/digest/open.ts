// The one place that knows every algorithm: from parameters to a digester. Refused: a wrong seed or geometry, and an
// algorithm that this end cannot compute.

import type { NativeCore } from '../native.js'
import { SEED_BYTES, type AlgorithmName, type Digester, type DigestParameters } from './digester.js'
import { sha256Digester } from './sha256.js'
import { xxh3Digester } from './xxh3.js'
import { xxh64x2Digester } from './xxh64x2.js'

/** What this end can compute, the best first: the first one that both ends have is used for `auto`. */
export function availableAlgorithms(native: NativeCore | null): AlgorithmName[] {
  return native === null ? ['xxh64x2', 'sha256'] : ['xxh3-128', 'xxh64x2', 'sha256']
}

/**
 * A digester for one session; it needs no closing. The same parameters give the same bytes with and without the native core.
 * Rejects with native/required for xxh3-128 without the core, with RangeError for a seed that is not SEED_BYTES long or a
 * block that is not a whole number of leaves (both are checked before, at the options and at the wire).
 */
export async function createDigester(
  parameters: DigestParameters,
  native: NativeCore | null,
): Promise<Digester> {
  const { algorithm, seed, geometry } = parameters
  if (seed.length !== SEED_BYTES) throw new RangeError(`a seed has ${SEED_BYTES} bytes, not ${seed.length}`)
  const { blockBytes, leafBytes } = geometry
  if (!Number.isSafeInteger(blockBytes) || !(leafBytes >= 1) || !Number.isInteger(blockBytes / leafBytes)) {
    throw new RangeError(`a block of ${blockBytes} bytes is not a whole number of leaves of ${leafBytes}`)
  }
  switch (algorithm) {
    case 'xxh3-128':
      return xxh3Digester(parameters, native)
    case 'xxh64x2':
      return xxh64x2Digester(parameters, native)
    case 'sha256':
      return sha256Digester(parameters)
    default:
      throw new RangeError(`unknown digest ${String(algorithm satisfies never)}`)
  }
}
