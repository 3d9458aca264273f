// What a disk is to the engine: a size, extents, digests, reads, writes, zeroing and a flush. One file per kind
// implements this; all kinds pass test/endpoint/conformance.ts. Errors are SyncErrors that already know the role.

import type { Digester, Range, SpanDigests } from '../digest/digester.js'

export type Role = 'source' | 'destination'

/** A run of the disk with one property. `hole`: nothing is allocated there, it reads as zeros and is not read. */
export type Extent = Range & { kind: 'data' | 'hole' }

/**
 * Identity of a disk on the machine it lives on. Two endpoints are the same disk when their `machine` is equal and
 * their `aliases` share an entry. `machine` is the kernel's boot id; an alias is 'file:DEV:INO' or 'block:MAJ:MIN'
 * (a loop device also has the alias of its backing file).
 */
export type DiskIdentity = Readonly<{
  machine: string
  aliases: readonly string[]
  /** Aliases of the disks this one is a part of or lies on: a partition's whole disk, what a mapped device maps to. */
  within?: readonly string[]
}>

export type EndpointInfo = Readonly<{
  /** The path as it was given. */
  path: string
  kind: 'file' | 'block-device'
  sizeBytes: number
  logicalSectorBytes: number
  /** True where this endpoint made the destination in this run (an image file that did not exist, or was empty). */
  created: boolean
  /** True where reads bypass the page cache. */
  direct: boolean
  identity: DiskIdentity
}>

/** An open disk. Who opens it closes it; `close` may be called twice; anything after `close` rejects. */
export interface Endpoint extends AsyncDisposable {
  readonly info: EndpointInfo

  /** Covers `range` exactly once, in order. Fetched as it is consumed, never for the whole disk at once. */
  extents(range: Range): AsyncIterable<Extent>

  /**
   * Reads and digests; see Digester.digestSpan. Resolves with how many of the bytes came from the device and not from the
   * page cache, as far as that is known: a disk that answers from the device wants more calls at once. Rejects with source/shrank or destination/read where the disk
   * ended early.
   */
  digestSpan(range: Range, digester: Digester, out: SpanDigests): Promise<{ coldBytes: number }>

  /** Reads and digests what will be sent; see Digester.readDigested. Rejects on a short read as digestSpan does. */
  readDigested(
    ranges: readonly Range[],
    digester: Digester,
    into: Uint8Array,
    leaves: Uint8Array,
    zeroLeaves: Uint8Array,
  ): Promise<void>

  /**
   * Writes `from` (packed, in order) to `ranges`, which do not overlap. Every byte is written or it rejects with
   * destination/write or no-space; with destination/flush where writing back what an earlier call wrote failed.
   */
  write(ranges: readonly Range[], from: Uint8Array): Promise<void>

  /** Makes the ranges read as zeros without writing data where the kernel can (holes in a file, BLKZEROOUT on a device). */
  zero(ranges: readonly Range[]): Promise<void>

  /** Sets the length of an image file (never of a device, never below its present size). */
  grow(sizeBytes: number): Promise<void>

  /**
   * Takes back what opening made and nothing was written to: a new file is removed, an empty one made empty again.
   * For a run that ends before this disk's pass; resolves without effect in every other case.
   */
  takeBack(): Promise<void>

  /** Everything written is on stable storage when it resolves; a device's cached pages are dropped afterwards. */
  flush(): Promise<void>

  close(): Promise<void>
}

/** True when both are one and the same disk, or one is a part of the other. Two parts of one disk are two disks. */
export function isSameDisk(a: DiskIdentity, b: DiskIdentity): boolean {
  if (a.machine !== b.machine) return false
  return (
    [a.aliases, a.within ?? []].some((names) => names.some((name) => b.aliases.includes(name))) ||
    (b.within ?? []).some((name) => a.aliases.includes(name))
  )
}

export type OpenRequest = Readonly<{
  path: string
  role: Role
  /** `write` only for a destination that will be written; `read` opens read-only (sources, dry runs, verify). */
  access: 'read' | 'write'
  /** For a destination that does not exist (or is an empty file): make it, sparse, of `createSizeBytes`. */
  create: 'never' | 'if-missing'
  createSizeBytes: number
  /**
   * `exclusive` claims a device for this run: whoever else has it claimed or mounted is a refusal (guard/in-use). `shared` is
   * for a further lane of a run that holds the claim already, and checks everything but that. A file is not claimed.
   */
  claim: 'exclusive' | 'shared'
}>
