// xxh3-128: XXH3 with 128 bits and a 64-bit seed, 16 bytes in canonical (big-endian) order, as `xxhsum -H2` prints it.
// Only the native core makes it; without the core it is refused.

import { SyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import { coreDigester } from './core.js'
import type { Digester, DigestParameters } from './digester.js'

const XXH3_WIRE_ID = 1

/**
 * A digester of XXH3_128bits_withSeed (xxHash 0.8). Its seed is the first 8 bytes of `parameters.seed`, little-endian.
 * Throws native/required without the core.
 */
export function xxh3Digester(parameters: DigestParameters, native: NativeCore | null): Digester {
  if (native === null) {
    throw new SyncError(
      'native/required',
      'the digest xxh3-128 needs the native core, which is not in use here',
      {
        operand: '--digest',
        hint: 'Use --digest xxh64x2 (or auto), or --native require to see why the core is not loaded.',
      },
    )
  }
  return coreDigester(parameters, native, XXH3_WIRE_ID)
}
