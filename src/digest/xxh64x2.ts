// xxh64x2: two XXH64 with two seeds, end to end, so that no digest is under 128 bits where there is no native core.
// With the core it runs there; without it in WebAssembly. Both give the same bytes.

import type { XXHashAPI } from 'xxhash-wasm'
import type { NativeCore } from '../native.js'
import { CORE_DIGEST_BYTES, coreDigester } from './core.js'
import type { Digester, DigestParameters } from './digester.js'
import { plainDigester } from './plain.js'

const XXH64X2_WIRE_ID = 2
/** 2^64 / golden ratio. Equal seeds would make both halves equal, 64 bits in all. The same value as in native/digest.c. */
const EQUAL_SEED_MIX = 0x9e3779b97f4a7c15n

/**
 * A digester of XXH64(data, seedA) then XXH64(data, seedB), each 8 bytes in canonical (big-endian) order. seedA and seedB
 * are the two halves of `parameters.seed`, each little-endian; where they are equal, seedB is seedA xor EQUAL_SEED_MIX.
 */
export async function xxh64x2Digester(
  parameters: DigestParameters,
  native: NativeCore | null,
): Promise<Digester> {
  if (native !== null) return coreDigester(parameters, native, XXH64X2_WIRE_ID)
  const wasm = await loadWasm()
  const [seedA, seedB] = seedPair(parameters.seed)
  return plainDigester(parameters, {
    digestBytes: CORE_DIGEST_BYTES,
    hashInto(data, out, outOffset) {
      out.setBigUint64(outOffset, wasm.h64Raw(data, seedA))
      out.setBigUint64(outOffset + 8, wasm.h64Raw(data, seedB))
    },
  })
}

/** The two XXH64 seeds in a session's seed. */
function seedPair(seed: Uint8Array): [bigint, bigint] {
  const view = new DataView(seed.buffer, seed.byteOffset, seed.byteLength)
  const seedA = view.getBigUint64(0, true)
  const seedB = view.getBigUint64(8, true)
  return [seedA, seedA === seedB ? seedB ^ EQUAL_SEED_MIX : seedB]
}

let loaded: Promise<XXHashAPI> | null = null

/**
 * Loaded only where it is needed: with the core a start-up does not compile WebAssembly. Once: each instance has memory of
 * its own, and a client may begin as many passes as it likes.
 */
async function loadWasm(): Promise<XXHashAPI> {
  loaded ??= import('xxhash-wasm').then(({ default: instantiate }) => instantiate())
  return await loaded
}
