// sha256: for disks whose content a hostile guest chooses, who could aim at a collision of a fast digest.
// Made by node:crypto with and without the native core; several times slower than the others.

import { hash } from 'node:crypto'
import type { Digester, DigestParameters } from './digester.js'
import { plainDigester } from './plain.js'

const SHA256_BYTES = 32

/** A digester of SHA-256 (FIPS 180-4), 32 bytes. Not seeded: its strength does not rest on a secret, and `parameters.seed` is not used. */
export function sha256Digester(parameters: DigestParameters): Digester {
  return plainDigester(parameters, {
    digestBytes: SHA256_BYTES,
    hashInto(data, out, outOffset) {
      new Uint8Array(out.buffer, out.byteOffset + outOffset, SHA256_BYTES).set(hash('sha256', data, 'buffer'))
    },
  })
}
