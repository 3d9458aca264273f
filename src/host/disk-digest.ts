// Host.digest: a disk of this host and the parameters of its digest in, the root out. Refuses (usage) parameters that no run
// could have had.

import { type AlgorithmName, SEED_BYTES } from '../digest/digester.js'
import { SyncError } from '../errors.js'
import { loadNative } from '../native.js'
import { syncOptions } from '../options.js'
import { printable } from '../printable.js'
import { diskRoot } from '../sync/disk-root.js'
import type { DiskParts } from './disk-parts.js'
import { checkPath } from './files.js'
import type { DigestRequest } from './host.js'

const ALGORITHMS: readonly AlgorithmName[] = ['xxh3-128', 'xxh64x2', 'sha256']

/** Rejects with source/*, guard/size, native/required, usage, and with the reason of the signal. */
export async function rootOfDisk(
  { path, algorithm, seed, blockBytes, leafBytes, lengthBytes }: DigestRequest,
  { native, signal }: Pick<DiskParts, 'native' | 'signal'>,
): Promise<string> {
  checkPath(path)
  const name = ALGORITHMS.find((each) => each === algorithm)
  if (name === undefined) throw wrong(`'${printable(algorithm.slice(0, 40))}' is no digest`)
  if (!new RegExp(`^[0-9a-f]{${2 * SEED_BYTES}}$`).test(seed)) throw wrong('the seed is not 16 bytes in hex')
  syncOptions({ blockBytes, granularityBytes: leafBytes })
  const core = loadNative(native)
  if (name === 'xxh3-128' && core === null)
    throw new SyncError(
      'native/required',
      `the digest ${name} of ${path} needs the native core; nothing was read`,
      {
        operand: path,
        hint: 'See why it is missing on that host: blocksync doctor.',
      },
    )
  const parameters = { algorithm: name, seed: Buffer.from(seed, 'hex'), geometry: { blockBytes, leafBytes } }
  const { root } = await diskRoot({ path, parameters, lengthBytes }, core, signal)
  return root
}

function wrong(what: string): SyncError {
  return new SyncError('usage', `${what}; nothing was read`)
}
