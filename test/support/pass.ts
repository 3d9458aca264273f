// One pass in this process: the source half against the destination half over streams in memory. What the two should
// come to is worked out here a second time, in the plainest way.

import { PassThrough } from 'node:stream'

import type { Compressor } from '../../src/codec/compressor.js'
import type { AlgorithmName, Geometry, Range } from '../../src/digest/digester.js'
import { createDigester } from '../../src/digest/open.js'
import type { Endpoint } from '../../src/endpoint/endpoint.js'
import { toSyncError } from '../../src/errors.js'
import type { NativeCore } from '../../src/native.js'
import { type DestinationPass, type DestinationResult, runDestination } from '../../src/sync/destination.js'
import type { BlockCounts } from '../../src/sync/report.js'
import { runSource, type SourceResult } from '../../src/sync/source.js'
import { Throttle } from '../../src/rate/throttle.js'
import { Channel } from '../../src/wire/channel.js'
import { isZero } from './memory-disk.js'

export type PassRequest = Readonly<{
  source: Endpoint
  destination: Endpoint
  geometry: Geometry
  lengthBytes?: number
  /** Instead of all of it. */
  range?: Range
  algorithm?: AlgorithmName
  mode?: 'write' | 'compare'
  native?: { source: NativeCore | null; destination: NativeCore | null }
  throttle?: Throttle
  compressor?: Compressor
  badSectors?: 'stop' | 'skip'
  /** What the destination is to read back. */
  verify?: Exclude<DestinationPass['verify'], undefined>
  /** Sees both channels before anything is sent. */
  onChannels?: (source: Channel, destination: Channel) => void
}>

export type PassOutcome = Readonly<{
  source: PromiseSettledResult<SourceResult>
  destination: PromiseSettledResult<DestinationResult>
  wireBytes: { toDestination: number; toSource: number }
}>

const NO_BYTES = Buffer.alloc(0)

/** Runs one pass; each half tells the other of its failure as a session does. Never rejects for a failed pass. */
export async function runPass(request: PassRequest): Promise<PassOutcome> {
  const { source, destination, geometry, algorithm = 'xxh64x2', mode = 'write' } = request
  const seed = Buffer.from('0123456789abcdef')
  const forward = new PassThrough()
  const backward = new PassThrough()
  const near = new Channel(backward, forward, NO_BYTES)
  const far = new Channel(forward, backward, NO_BYTES)
  request.onChannels?.(near, far)
  const parameters = { algorithm, seed, geometry }
  const native = request.native ?? { source: null, destination: null }
  const [sourceDigester, destinationDigester] = await Promise.all([
    createDigester(parameters, native.source),
    createDigester(parameters, native.destination),
  ])
  const range = request.range ?? { offset: 0, length: request.lengthBytes ?? source.info.sizeBytes }
  const common = { disk: 0, mode, range } as const
  const telling = async <T>(channel: Channel, half: Promise<T>): Promise<T> => {
    try {
      return await half
    } catch (thrown) {
      channel.postError(toSyncError(thrown))
      throw thrown
    }
  }
  const [sourceResult, destinationResult] = await Promise.allSettled([
    telling(
      near,
      runSource({
        ...common,
        channel: near,
        endpoint: source,
        digester: sourceDigester,
        throttle: request.throttle ?? new Throttle(null),
        compressor: request.compressor ?? null,
        scan: null,
        badSectors: request.badSectors ?? 'stop',
      }),
    ),
    telling(
      far,
      runDestination({
        ...common,
        channel: far,
        endpoint: destination,
        digester: destinationDigester,
        operand: 'the destination',
        ...(request.verify === undefined ? {} : { verify: request.verify }),
      }),
    ),
  ])
  return {
    source: sourceResult,
    destination: destinationResult,
    wireBytes: { toDestination: near.wireBytesSent, toSource: far.wireBytesSent },
  }
}

/** The two results of a pass that must have worked; throws the first failure. */
export function worked({ source, destination, wireBytes }: PassOutcome): {
  said: SourceResult['said']
  root: string
  wireBytes: PassOutcome['wireBytes']
} {
  if (source.status === 'rejected') throw source.reason
  if (destination.status === 'rejected') throw destination.reason
  if (destination.value.root !== source.value.destination.root)
    throw new Error('the two halves report different roots')
  return { said: source.value.said, root: destination.value.root, wireBytes }
}

export type Expected = BlockCounts & { sentBytes: number; changedLeaves: number; totalBlocks: number }

/** What a pass over these contents comes to, by comparing bytes. `isHole` says of a block whether nothing of it is allocated. */
export function expectedOf(
  source: Buffer,
  destination: Buffer,
  { blockBytes, leafBytes }: Geometry,
  isHole: (block: number) => boolean = () => false,
): Expected {
  const expected = {
    sameBlocks: 0,
    differentBlocks: 0,
    zeroBlocks: 0,
    skippedBlocks: 0,
    sentBytes: 0,
    changedLeaves: 0,
    totalBlocks: Math.ceil(source.length / blockBytes),
  }
  for (let block = 0; block < expected.totalBlocks; block += 1) {
    const from = block * blockBytes
    const end = Math.min(from + blockBytes, source.length)
    const ours = source.subarray(from, end)
    if (ours.equals(destination.subarray(from, end))) {
      if (isHole(block)) expected.skippedBlocks += 1
      else expected.sameBlocks += 1
      continue
    }
    if (isZero(ours)) {
      expected.zeroBlocks += 1
      continue
    }
    expected.differentBlocks += 1
    for (let at = from; at < end; at += leafBytes) {
      const leaf = source.subarray(at, Math.min(at + leafBytes, end))
      if (leaf.equals(destination.subarray(at, at + leaf.length))) continue
      expected.changedLeaves += 1
      if (!isZero(leaf)) expected.sentBytes += leaf.length
    }
  }
  return expected
}

/** The most that a pass may put on the wire, both ways: payload, and for each block and changed leaf what it takes to find it. */
export function wireBound(
  expected: Expected,
  { blockBytes, leafBytes }: Geometry,
  digestBytes: number,
): number {
  const groups = Math.ceil(blockBytes / leafBytes / 16)
  // Of a run: its header. Of a block: its digest, a mark, and where it differs a question and its groups' digests.
  const perBlock = digestBytes + 8 + 16
  const perDifferent = 12 + 16 + groups * digestBytes
  // Of a leaf: its record and, where it is the only one of its group, a question and the digests of sixteen.
  const perLeaf = 16 + 12 + 16 + 16 * digestBytes
  return (
    expected.sentBytes +
    perBlock * expected.totalBlocks +
    perDifferent * (expected.differentBlocks + expected.zeroBlocks) +
    perLeaf * expected.changedLeaves +
    4096
  )
}
