// What a digest is: fixed-size leaves are digested, the leaf digests of a block are digested into the block's digest.
// A digester is one algorithm with one seed and one geometry, for one session. It never opens or writes anything.

/** Names as they appear in options, reports and on the wire. */
export type AlgorithmName = 'xxh3-128' | 'xxh64x2' | 'sha256'

/** Sizes of the two levels, in bytes. `blockBytes` is a multiple of `leafBytes`. */
export type Geometry = Readonly<{ blockBytes: number; leafBytes: number }>

/** What it takes to make the same digester on both ends. `seed` is SEED_BYTES random bytes, new for each session. */
export type DigestParameters = Readonly<{ algorithm: AlgorithmName; seed: Uint8Array; geometry: Geometry }>

export const SEED_BYTES = 16

/**
 * Digests of one span of whole blocks (the last one may be short, at the end of the disk).
 * `leaves`: leafCount x digestBytes. `blocks`: blockCount x digestBytes.
 * `zeroLeaves`: one byte a leaf, 1 where every byte of the leaf is zero, else 0. `zeroBlocks`: the same, one byte a block.
 */
export type SpanDigests = { leaves: Buffer; blocks: Buffer; zeroLeaves: Uint8Array; zeroBlocks: Uint8Array }

/** A piece of a disk in bytes: half open, `offset` from the start of the disk. */
export type Range = { offset: number; length: number }

/**
 * Where a digester reads: `fd`, and another descriptor of the same file that goes around the page cache (O_DIRECT), or NO_FD.
 * With both, what is cached is read from the cache and what is not from the device, and the cache stays as it was.
 */
export type ReadFrom = Readonly<{ fd: number; directFd: number }>

/** In place of a descriptor that is not there. */
export const NO_FD = -1

/** Bytes read, and how many of them came from the device: 0 where the digester cannot know. */
export type ReadCount = Readonly<{ bytes: number; coldBytes: number }>

export interface Digester {
  readonly parameters: DigestParameters
  readonly digestBytes: number
  /** True when the native core does the work off the main thread. */
  readonly native: boolean

  /**
   * Reads `range` and digests it; the data never reaches JavaScript where the native core is used, without it `fd` alone is read.
   * `range.offset` is a multiple of blockBytes; `range.length` is too, but at the end of the disk.
   * Resolves with the number of bytes read: fewer than `range.length` only where the file ended early.
   * Rejects with the system error of the failed read (its `code` is the errno name; `offset` is where, when known).
   */
  digestSpan(from: ReadFrom, range: Range, out: SpanDigests): Promise<ReadCount>

  /**
   * Reads `ranges` one after the other into `into` (packed, in order) and digests the leaves of what was read:
   * each range starts at a multiple of leafBytes and ends at one or at the end of the disk.
   * `leaves` and `zeroLeaves` are filled packed, in order. Resolves as digestSpan.
   */
  readDigested(
    from: ReadFrom,
    ranges: readonly Range[],
    into: Uint8Array,
    leaves: Uint8Array,
    zeroLeaves: Uint8Array,
  ): Promise<ReadCount>

  /** Digests the leaves of `data` in memory (last one may be short) into `leaves` (packed). Synchronous: data of a frame only. */
  digestLeaves(data: Uint8Array, leaves: Uint8Array): void

  /**
   * Digests each item of `itemBytes` bytes of `data` (the last may be short) into `out`, packed:
   * with itemBytes = a group's worth of leaf digests it makes group digests, with a block's worth a block digest.
   */
  digestItems(data: Uint8Array, itemBytes: number, out: Uint8Array): void
}

/** An output of the right sizes for a span of `lengthBytes` bytes. */
export function spanDigests(geometry: Geometry, digestBytes: number, lengthBytes: number): SpanDigests {
  const leafCount = Math.ceil(lengthBytes / geometry.leafBytes)
  const blockCount = Math.ceil(lengthBytes / geometry.blockBytes)
  // One piece of memory: four cost more than the call that fills them.
  const whole = Buffer.allocUnsafeSlow((leafCount + blockCount) * (digestBytes + 1))
  let at = 0
  const next = (lengthBytes: number): Buffer => whole.subarray(at, (at += lengthBytes))
  return {
    leaves: next(leafCount * digestBytes),
    blocks: next(blockCount * digestBytes),
    zeroLeaves: next(leafCount),
    zeroBlocks: next(blockCount),
  }
}
