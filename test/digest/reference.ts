// What the digests must be, made slowly and in the simplest way by other people's code: the package xxhash-addon (which ships
// xxHash itself, with streaming instead of our one-shot calls) and node:crypto.

import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'

import {
  SEED_BYTES,
  type AlgorithmName,
  type DigestParameters,
  type Geometry,
  type Range,
} from '../../src/digest/digester.js'

type Streaming = { update(data: Buffer): void; digest(): Buffer }
type Oracle = Record<'XXHash64' | 'XXHash128', new (seed: Buffer) => Streaming>

const oracle = createRequire(import.meta.url)('xxhash-addon') as Oracle

export function parametersOf(
  algorithm: AlgorithmName,
  geometry: Geometry,
  seed?: Uint8Array,
): DigestParameters {
  return {
    algorithm,
    geometry,
    seed: seed ?? Uint8Array.from({ length: SEED_BYTES }, (_, index) => 251 * (index + 3)),
  }
}

/** One digest. The oracle takes its seed big-endian, a session's seed is little-endian. */
export function referenceDigest({ algorithm, seed }: DigestParameters, data: Uint8Array): Buffer {
  const seedA = Buffer.from(seed.subarray(0, 8)).reverse()
  const seedB = Buffer.from(seed.subarray(8, 16)).reverse()
  if (seedA.equals(seedB)) seedB.writeBigUint64BE(seedB.readBigUint64BE() ^ 0x9e3779b97f4a7c15n)
  switch (algorithm) {
    case 'xxh3-128':
      return streamed(new oracle.XXHash128(seedA), data)
    case 'xxh64x2':
      return Buffer.concat([
        streamed(new oracle.XXHash64(seedA), data),
        streamed(new oracle.XXHash64(seedB), data),
      ])
    case 'sha256':
      return createHash('sha256').update(data).digest()
    default:
      throw new Error(algorithm satisfies never)
  }
}

/** What digestSpan must fill in for `range` of a disk that holds `disk`. */
export function referenceSpan(parameters: DigestParameters, disk: Uint8Array, { offset, length }: Range) {
  const { blockBytes, leafBytes } = parameters.geometry
  const leaves: Buffer[] = []
  const blocks: Buffer[] = []
  const zeroLeaves: number[] = []
  const zeroBlocks: number[] = []
  const end = Math.min(offset + length, disk.length)
  for (let block = offset; block < end; block += blockBytes) {
    const blockLeaves: Buffer[] = []
    const blockZeros: number[] = []
    for (let leaf = block; leaf < Math.min(block + blockBytes, end); leaf += leafBytes) {
      const data = disk.subarray(leaf, Math.min(leaf + leafBytes, end))
      blockLeaves.push(referenceDigest(parameters, data))
      blockZeros.push(Buffer.alloc(data.length).equals(data) ? 1 : 0)
    }
    leaves.push(...blockLeaves)
    zeroLeaves.push(...blockZeros)
    blocks.push(referenceDigest(parameters, Buffer.concat(blockLeaves)))
    zeroBlocks.push(blockZeros.every((flag) => flag === 1) ? 1 : 0)
  }
  return {
    bytesRead: Math.max(0, end - offset),
    leaves: Buffer.concat(leaves),
    blocks: Buffer.concat(blocks),
    zeroLeaves: Uint8Array.from(zeroLeaves),
    zeroBlocks: Uint8Array.from(zeroBlocks),
  }
}

function streamed(hasher: Streaming, data: Uint8Array): Buffer {
  hasher.update(Buffer.from(data))
  return hasher.digest()
}
