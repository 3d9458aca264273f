// What a disk is to the engine: a size, extents, digests, reads, writes, zeroing and a flush. One file per kind
// implements this; all kinds pass test/endpoint/conformance.ts. Errors are SyncErrors that already know the role.

import type { Digester, Range, SpanDigests } from '../digest/digester.js'

export type Role = 'source' | 'destination'

/**
 * 256 TiB. 32 bytes are kept for each 64 MiB of a disk: who may claim any length may claim any amount of memory.
 */
export const MAX_DISK_BYTES = 2 ** 48

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

/**
 * Who a disk is, in names that are the same on the next boot, best first. A name is `KIND:TEXT`: 'dm:LVM-...' (device
 * mapper's uuid), 'md:UUID', 'wwid:...', 'part:PARTUUID', and last 'path:/real/path' (of a loop device that of its backing
 * file). `machineId` stands for the machine without telling its /etc/machine-id; `hostName` is for people.
 */
export type StableIdentity = Readonly<{ machineId: string; hostName: string; names: readonly string[] }>

/**
 * Something recognised on a disk by its signature: a file system, a partition table, a volume of some kind. `kind` is such
 * as 'ext4', 'gpt', 'lvm2-pv' (src/guard/signature.ts); `id` its UUID or serial number, `label` its name (of a physical
 * volume that of its group), `partitions` how many a partition table has; null where it has none.
 */
export type Signature = Readonly<{
  kind: string
  id: string | null
  label: string | null
  partitions: number | null
  /** The number of the partition it is in, or null where it is the disk's own. */
  inPartition: number | null
  /** Where it begins on the disk. */
  offsetBytes: number
}>

/** A disk that was opened for a run: what the endpoint says, who it is for ever, and what was recognised on it. */
export type DiskInfo = EndpointInfo & Readonly<{ stable: StableIdentity; content: readonly Signature[] }>

/** An open disk. Who opens it closes it; `close` may be called twice; anything after `close` rejects. */
export interface Endpoint extends AsyncDisposable {
  readonly info: EndpointInfo

  /** Covers `range` exactly once, in order. Fetched as it is consumed, never for the whole disk at once. */
  extents(range: Range): AsyncIterable<Extent>

  /**
   * Reads and digests; see Digester.digestSpan. Resolves with how many of the bytes came from the device and not from the
   * page cache, as far as that is known: a disk that answers from the device wants more calls at once. Rejects with source/shrank or destination/read where the disk
   * ended early. `keptBytes` were not read: their digests were known.
   */
  digestSpan(
    range: Range,
    digester: Digester,
    out: SpanDigests,
  ): Promise<{ coldBytes: number; keptBytes?: number }>

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

  /** How much longer the disk is now than `info` says: somebody else may lengthen a file or a volume at any time. 0 where it is not. */
  grownBytes(): Promise<number>

  /**
   * Takes back what opening made and nothing was written to: a new file is removed, an empty one made empty again.
   * For a run that ends before this disk's pass; resolves without effect in every other case.
   */
  takeBack(): Promise<void>

  /**
   * Until what it resolves with is disposed of, reads come from the device and not from memory: what is cached is dropped,
   * and read around where something is left. What was written must be flushed. Rejects with destination/open (source/open)
   * where neither can be had here.
   */
  readFromDevice(): Promise<Disposable>

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
   * `exclusive` claims a device for this run: whoever else has it claimed or mounted is a refusal (guard/held). `shared` is
   * for a further lane of a run that holds the claim already, for a disk that is only read, and for one that the user wants
   * written all the same; it checks everything but that. A file is not claimed.
   */
  claim: 'exclusive' | 'shared'
  /** Of a source: the path of the disk that it is a copy of. The identity is that of both then; null (absent) is its own. */
  standsFor?: string | null
}>
