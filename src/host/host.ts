// What a migration or a replication asks of a host, this one or another: programs, files, journals, locks, disks brought back.
// One file per kind (local.ts, remote.ts); open.ts chooses, both pass one conformance suite. Rules are in migrate/, replicate/.

import type { Argv } from '../exec.js'

/** Text that goes to a host in one request (a definition, stdin of a program): far more than any of ours, and it is kept in memory. */
export const MAX_INPUT_BYTES = 1 << 20
/** What comes back in one answer: output of a program, a file. */
export const MAX_OUTPUT_BYTES = 4 << 20
/** One record of a journal: a plan has a few definitions in it. */
export const MAX_JOURNAL_LINE_BYTES = 1 << 20
/** A whole journal, read at once. Some hundred records of a few hundred bytes are usual. */
export const MAX_JOURNAL_BYTES = 16 << 20

export type ProgramRequest = Readonly<{
  argv: Argv
  /** The program is killed when it runs longer than this. */
  timeoutMs: number
  /** Given to it on stdin; absent is an empty stdin. At most MAX_INPUT_BYTES. */
  input?: string
  /** More than this on stdout is a failure; absent is MAX_OUTPUT_BYTES, and more than that cannot be asked for. */
  maxOutputBytes?: number
  /** Added to the host's own environment. The locale is C.UTF-8 and PATH has the sbin directories in any case. */
  environment?: Readonly<Record<string, string>>
  /**
   * It starts processes that stay on purpose (xl leaves one for each guest, a hook may leave a daemon): those do not
   * inherit the locks of journals, the program itself still does. Absent: all that it starts inherits them.
   */
  leavesBehind?: true
}>

/** How a program ended; also a failed one, and one that is not there (`exitStatus` 127, as a shell has it). */
export type ProgramResult = Readonly<{ exitStatus: number; stdout: string; stderrTail: string }>

/** A file or device, looked at without opening it for writing. Numbers that may be large are decimal strings. */
export type FileFacts = Readonly<{
  kind: 'file' | 'block' | 'directory' | 'other'
  /** Symbolic links resolved. */
  realPath: string
  /** Of a block device what it holds. */
  sizeBytes: number
  /** What a file takes of its file system; of a device its size. */
  allocatedBytes: number
  /** Of a device the number of the device itself (major:minor), of a file that of its file system and its inode. */
  identity: string
  mode: number
  modifiedNs: string
  changedNs: string
  /**
   * Sectors that were written to or discarded on a block device since it came up (/sys/dev/block/M:N/stat), with the boot
   * they are counted in; what is still in the page cache is not counted yet. Null for a file, and for a device that does not
   * count (queue/iostats is 0).
   */
  written: Readonly<{ bootId: string; sectors: string }> | null
  /** Whether writing is refused to everybody: `blockdev --getro`, or the immutable attribute of a file. */
  isProtected: boolean
}>

/**
 * What changes when a disk is written to: a file's inode, size and both times; of a device the sectors written since its host came
 * up, and which boot that was. Null for a device that does not count them.
 */
export function diskStamp(facts: FileFacts): string | null {
  const { kind, identity, sizeBytes, modifiedNs, changedNs, written } = facts
  if (written !== null) return `device ${identity} ${sizeBytes} ${written.bootId} ${written.sectors}`
  return kind === 'block' ? null : `${kind} ${identity} ${sizeBytes} ${modifiedNs} ${changedNs}`
}

export type SpaceFacts = Readonly<{
  /** Of the nearest directory above the path that is there. */
  directory: string
  /** Of the file system: equal for two paths only where it is the same one (st_dev). */
  fileSystemId: string
  freeBytes: number
  /** As statfs and /proc/self/mountinfo have it: 'ext4', 'nfs4', 'ceph', 'fuse.glusterfs'... */
  fileSystem: string
  /** Whether we may make files there. */
  isWritable: boolean
}>

export type HostFacts = Readonly<{
  hostName: string
  /** As pair records have it (src/state/machine.ts). */
  machineId: string
  bootId: string
  /** Wall clock, ms since 1970. */
  nowMs: number
  memoryBytes: number
  /** MemAvailable of /proc/meminfo. */
  availableMemoryBytes: number
  processors: number
  blocksyncVersion: string
  isRoot: boolean
  /** Absolute. What a migration keeps is below it in migrate/ID/: ROLE.jsonl, and ROLE.d/ (workDirectory). */
  stateDirectory: string
  /** Where the controller's connection to it comes from, as sshd says (SSH_CONNECTION); null here and where there is no sshd. */
  clientAddress: string | null
}>

/** A volume of LVM that is kept deactivated has a tag: this and the `tag` of its protection. */
export const VOLUME_TAG_PREFIX = 'blocksync-moved-'

/** A volume of LVM that `protect` deactivated. `skipped`: whether it was left out at the start of the host before, too. */
export type ProtectedVolume = Readonly<{ /** GROUP/VOLUME. */ name: string; skipped: 'yes' | 'no' }>

/** How `protect` keeps others from writing; `none` where there was no way, and `why` says so. */
export type Protection = Readonly<{
  by: 'device' | 'immutable' | 'rename' | 'none'
  path: string
  /** What could not be had: of a file why it is not immutable, of a volume why it is read-only and no more. */
  why: string | null
  /** As it was before; what was protected already stays so at `unprotect`. */
  before: 'writable' | 'protected'
  /** The `tag` it was done with: a renamed file is at PATH.moved-TAG. */
  tag: string
  /** Where the device is deactivated: nothing is at `path` then. */
  volume?: ProtectedVolume
}>

/** One line of a journal: any JSON object. Numbered from 0 in the order in which they were written. */
export type JournalLine = Readonly<Record<string, unknown>>

/** Which half of a migration a journal tells. Both may be on one host, or in a state directory that two hosts share. */
export type JournalRole = 'source' | 'destination'

export type JournalName = Readonly<{ id: string; role: JournalRole }>

/** What one `undo` of a disk takes back: a group of undo journals (docs/undo.md). `bytes` is what they take. */
export type UndoStep = Readonly<{
  /** 16 bytes in hex. */
  group: string
  state: 'open' | 'finished' | 'undoing' | 'void'
  /** Of its first run: ISO 8601, UTC. */
  startedAt: string
  bytes: number
}>

/** What undoBack did: 0 steps where the disk was there already. */
export type UndoneSteps = Readonly<{ steps: number; restoredBytes: number; zeroedBytes: number }>

/** A root digest (docs/receipt.md) of the first `lengthBytes` of a disk. `seed` is in hex, `algorithm` as a receipt names it. */
export type DigestRequest = Readonly<{
  path: string
  algorithm: string
  seed: string
  blockBytes: number
  leafBytes: number
  lengthBytes: number
}>

/**
 * A copy of `from` as it was before the groups of `undo`, which are all of those that are newer than the wanted state, the
 * newest first; none is a copy of what it is now. `to` is a file that is not there yet, or a block device that nobody uses
 * and that has `lengthBytes` (the length of `from` then) at least; zeros stay holes.
 */
export type WriteOutRequest = Readonly<{
  from: string
  to: string
  lengthBytes: number
  undo: readonly string[]
}>

export interface Host extends AsyncDisposable {
  /** As a person knows it: the host as typed, or 'this host'. */
  readonly name: string
  readonly kind: 'local' | 'remote'
  /** Aborted when the host cannot be asked any more; `reason` is the SyncError. Never for this host. */
  readonly lost: AbortSignal

  facts(): Promise<HostFacts>
  /** Resolves with any exit status. Rejects with host/program when it is killed, times out or prints too much. */
  run(request: ProgramRequest): Promise<ProgramResult>
  /** Null where nothing is at the path. */
  look(path: string): Promise<FileFacts | null>
  space(path: string): Promise<SpaceFacts>

  /** Null where nothing is there; host/file for what is larger than `maxBytes` (at most MAX_OUTPUT_BYTES) or no text file. */
  readText(path: string, maxBytes: number): Promise<string | null>
  /** At most MAX_INPUT_BYTES. Atomic and flushed, its directory too. `refuse`: rejects with host/file where something is there already. */
  writeText(
    path: string,
    text: string,
    options: Readonly<{ mode: number; existing: 'replace' | 'refuse' }>,
  ): Promise<void>
  /** Makes it and what is missing above it; resolves with what was made, outermost first. Flushed. */
  makeDirectories(path: string): Promise<readonly string[]>
  /** A sparse file of that size that was not there before. Flushed. */
  makeFile(path: string, sizeBytes: number, mode: number): Promise<void>
  /** A file, a link or an empty directory; nothing where it is not there. Its directory is flushed. */
  remove(path: string): Promise<void>
  /** Refuses (host/file) to replace something. Flushed. */
  rename(from: string, to: string): Promise<void>

  /**
   * Keeps everybody on this host from writing to a disk until `unprotect`: a device is set read-only,
   * a volume of LVM deactivated too (for blkback of Xen writes to what is read-only), a file made immutable, or where the file system cannot do that, renamed to PATH.moved-TAG. Flushed, and the same again is no error.
   */
  protect(path: string, tag: string): Promise<Protection>
  unprotect(protection: Protection): Promise<void>

  /**
   * Takes the journal for this session: nobody else has it until the session ends and every program that it started has
   * ended too (flock, inherited by them). Makes it where it is not there (`create`), else rejects with migrate/unknown.
   * Rejects with migrate/busy when it is not free within `waitMs`. Resolves with the lines that are there.
   */
  openJournal(name: JournalName, mode: 'create' | 'continue', waitMs: number): Promise<readonly JournalLine[]>
  /** On stable storage when it resolves. Only of a journal that this session has open. */
  appendJournal(name: JournalName, line: JournalLine): Promise<void>
  /** Without taking it; null where there is none. A last line that is cut is left out. */
  readJournal(name: JournalName): Promise<readonly JournalLine[] | null>
  /** All there are on this host. */
  listJournals(): Promise<readonly JournalName[]>
  /** Its work directory too. Nothing where it is not there; rejects with migrate/busy where another session has it. */
  removeJournal(name: JournalName): Promise<void>
  /** The directory of a migration's own files (saved state, definitions), made 0700 when it is first asked for. */
  workDirectory(name: JournalName): Promise<string>

  /**
   * Keeps every other session out of what goes by that name (letters, digits, dot, dash, underscore) on this host until this
   * session ends and every program that it started has ended too: flock of STATE/locks/NAME.lock. The same again is no error.
   * Rejects with replicate/busy, naming who has it, when it is not free within `waitMs`.
   */
  takeLock(name: string, waitMs: number): Promise<void>
  /** The steps back that there are of a disk, the oldest first; also one of which undoing was interrupted. Nothing is written. */
  undoSteps(path: string): Promise<readonly UndoStep[]>
  /**
   * Takes back every step that is newer than `through`, the newest first (null: all of them). The disk is opened and guarded as
   * the destination of a run; a run that was cut off and still has it is waited for. Can be interrupted anywhere and done again.
   * Rejects with undo/missing, before anything is written, where that step is not there or a void one is in between.
   */
  undoBack(path: string, through: string | null): Promise<UndoneSteps>
  /** Gives up the way back of the steps up to and with `through`, the oldest first. Nothing where that is not there. */
  dropUndo(path: string, through: string): Promise<void>
  /** The root, in hex. Rejects with source/*, guard/size, or usage for parameters that are none. */
  digest(request: DigestRequest): Promise<string>
  /**
   * Everything is checked before the first byte is written, and flushed when it resolves (`bytes`: what was written). A file that
   * it made is removed where it fails. Rejects with undo/*, guard/*, source/*, destination/*.
   */
  writeOut(request: WriteOutRequest): Promise<Readonly<{ bytes: number }>>

  /** Lets go of it. Programs that still run go on; undoBack, digest and writeOut end where they are. */
  close(): Promise<void>
}
