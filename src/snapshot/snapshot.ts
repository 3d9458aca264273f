// Disks of a source host as they were at one instant: cut, read by an attempt, removed. One file per kind (lvm.ts, lvm-thin.ts,
// reflink.ts, none.ts, command.ts); open.ts chooses, and all pass the same conformance suite. Refuses nothing that is only slow.

import type { Host } from '../host/host.js'

/** What all of our snapshots begin with, on every storage: so that those of a run that was killed are known as ours. */
export const SNAPSHOT_PREFIX = 'blocksync-snap-'

/**
 * How the disks of one cut belong together. `one-instant`: all at the same moment; `near`: one after the other, `spreadMs`
 * apart at most; `none`: read while they change.
 */
export type CutKind = 'one-instant' | 'near' | 'none'

/** A disk as it is to be read. `path` is the snapshot's, `original` the disk that it is of. */
export type CutDisk = Readonly<{ original: string; path: string }>

export type Cut = Readonly<{
  kind: CutKind
  /**
   * Wall clock of the source host, ms since 1970: all that was written to them until then is in the cut. Right before the first of
   * them was cut, or later where it is known that nobody could write meanwhile.
   */
  takenAtMs: number
  spreadMs: number
  /** Whether a file system or program inside was told to be quiet while it was cut. */
  quiesced: 'yes' | 'no'
  /** In the order that was asked for. */
  disks: readonly CutDisk[]
  /** Sentences that a person should read: a freeze that failed, a disk in use that is read without a snapshot. */
  warnings: readonly string[]
}>

export type CutRequest = Readonly<{
  /** Absolute paths on the host. */
  disks: readonly string[]
  /** Of the job: part of the names, [A-Za-z0-9._-]. */
  job: string
  /** Whose job it is, 8 hex digits (snapshotOwner of replicate/replica-file.ts): part of the names, so that jobs of one name do not take each other's for orphans. */
  owner: string
  /** Of the attempt: part of the names, so that two never meet. */
  attempt: string
}>

export interface SnapshotMethod {
  readonly kind: 'lvm' | 'lvm-thin' | 'reflink' | 'none' | 'command'
  /**
   * Cuts all disks; all or none are there when it settles. Rejects with replicate/snapshot, naming the disk, what is missing and
   * what to type.
   */
  cut(host: Host, request: CutRequest): Promise<Cut>
  /** Also of a cut whose storage is half gone; nothing is there when it resolves. Rejects with replicate/snapshot. */
  remove(host: Host, request: CutRequest, cut: Cut): Promise<void>
  /**
   * Called when all was read and before anything rests on it: rejects with replicate/snapshot where a snapshot did not stay
   * what it was (one of LVM that ran full), so that nobody commits what was read of it.
   */
  check(host: Host, request: CutRequest, cut: Cut): Promise<void>
  /**
   * Removes every snapshot of this job's disks that has our name, that of the job and its owner, whichever attempt made it (only
   * while the job's lock is held); resolves with their names.
   */
  removeOrphans(host: Host, request: CutRequest): Promise<readonly string[]>
}
