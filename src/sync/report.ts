// What a run tells about itself: data only, cli/ makes text of it.

import type { AlgorithmName, Range } from '../digest/digester.js'
import type { EndpointInfo, StableIdentity } from '../endpoint/endpoint.js'
import type { SyncError } from '../errors.js'
import type { LeafTrack } from '../track/track.js'
import type { Connection, FarSide } from '../transport/transport.js'
import type { WrittenSummary } from './written-ranges.js'

/** One end of a pair: a path here (`at.kind` local) or on a host. `typed` is the operand as the user wrote it. */
export type Operand = Readonly<{
  at: FarSide
  path: string
  typed: string
  /**
   * Of a source that is a snapshot or another copy: the path of the disk that it is of. Records of the pair and guards take
   * that disk for the source, and neither of the two may be the destination. Only in a run with `resume` 'no': a checkpoint
   * says of one copy what the next one need not have.
   */
  standsFor?: string
  /** Of a source in a push: what is known of it, so that not all of it is read; the sources of one run have one seed. */
  track?: LeafTrack
}>

export type DiskPair = Readonly<{
  source: Operand
  destination: Operand
  /**
   * `on-purpose`: the caller has turned the pair round, and a person agreed to that: what records say of its direction is neither
   * refused nor told, and no other guard is affected. Absent: a pair that is the wrong way round is refused (guard/direction).
   */
  turned?: 'on-purpose'
  /**
   * In a push: the destination keeps the leaf digests of what it has then, made with `seed`. `root`: what it has now, if nobody wrote
   * to it, which the caller knows; where it has the leaves of that, it need not be read. Null: all of it is.
   */
  leaves?: Readonly<{ seed: Uint8Array; root: string | null }>
}>

/** Fates of blocks. They add up to totalBlocks when a disk is done. */
export type BlockCounts = {
  /** Compared (or read as zero on both ends) and equal. */
  sameBlocks: number
  /** Differed and were sent. */
  differentBlocks: number
  /** Differed, are zero in the source, and were zeroed. */
  zeroBlocks: number
  /** Holes at both ends: never read. */
  skippedBlocks: number
}

/** What a receipt says of a disk that is done, besides its report. */
export type DiskEvidence = Readonly<{
  source: EndpointInfo
  destination: EndpointInfo
  /** What they are called on the next boot, too; null where that was not asked. */
  stable: Readonly<{ source: StableIdentity | null; destination: StableIdentity | null }>
  far: Readonly<{ version: string; node: string; protocol: number }>
  startedAt: Date
  /** When the last flush of the destination was confirmed; null where nothing was to be written. */
  flushedAt: Date | null
  /** 32 bytes for each section of the disk. */
  sections: Buffer
  written: WrittenSummary
}>

export type DiskReport = BlockCounts & {
  source: string
  destination: string
  /** `partial`: a failure came in between; the counts say how far it got. */
  state: 'not-started' | 'partial' | 'done'
  /** True when the two were found different at the start (what a dry run or verify answers). */
  different: boolean
  created: boolean
  sizeBytes: number
  blockBytes: number
  totalBlocks: number
  /** Payload before compression. In a dry run: what would be sent. */
  sentBytes: number
  /** Bytes zeroed at the destination without payload. */
  zeroedBytes: number
  /** Read (from disk or cache) and digested, on each end; holes are not read. */
  readBytes: { source: number; destination: number }
  wireBytesSent: number
  wireBytesReceived: number
  durationMs: number
  /** Known when the disk is done. */
  digest: {
    algorithm: AlgorithmName
    root: string
    seed: string
    blockBytes: number
    leafBytes: number
  } | null
  /** Equal since a checkpoint of a run that did not finish: not compared again, and counted as skipped. */
  resumedBytes: number
  /** How much was read back from the destination's device, after the flush, and found equal. */
  verified: 'none' | 'written' | 'all'
  /** The pair that both ends keep a record of, and its runs with this one; null where none was written. */
  pair: Readonly<{ pairId: string; generation: number }> | null
  /** Bytes of it that this run had written. */
  verifiedBytes: number
  /** The journal with the destination's old content on its host, and the bytes that this run added; null where none is kept. */
  undo: Readonly<{ group: string; path: string; bytes: number }> | null
  native: { source: boolean; destination: boolean }
  transport: 'local' | 'openssh' | 'ssh2'
  cipher: string | null
  /** Connections that took part, the first one included. */
  lanes: number
  /** The codec that was agreed on; null where nothing was to be compressed. */
  compression: string | null
  /** What of the source could not be read, in ascending order: it was neither compared nor written. Null without `rescue`. */
  unreadable: Readonly<{ bytes: number; ranges: readonly Range[]; mapfile: string }> | null
  /** Where a run that only compares found differences, the first ones. */
  differing: readonly Range[]
  /** Known when the disk is done. */
  evidence: DiskEvidence | null
}

/** Disks in the order they were asked for; `error` is why the run ended early, or null. */
export type RunReport = { disks: DiskReport[]; error: SyncError | null }

export type Progress = Readonly<{
  diskIndex: number
  diskCount: number
  source: string
  destination: string
  /** Decided and, where it had to be written, acknowledged by the destination. */
  doneBytes: number
  totalBytes: number
  sentBytes: number
  sameBlocks: number
  differentBlocks: number
  zeroBlocks: number
  skippedBlocks: number
  totalBlocks: number
  elapsedMs: number
}>

/** A run whose connection failed with `error` begins again after `waitMs`: the `retry`-th time, of `retries`. */
export type Retry = Readonly<{ retry: number; retries: number; waitMs: number; error: SyncError }>

export type RunHooks = Readonly<{
  /** Called at most PROGRESS_INTERVAL_MS apart and once at the end of each disk. */
  onProgress?: (progress: Progress) => void
  /** A sentence for who asked for more words (-v). */
  onDetail?: (text: string) => void
  /** A sentence about what this run does and others do not. */
  onNote?: (text: string) => void
  /** A sentence a user should see though the run goes on. */
  onWarning?: (text: string) => void
  /** Asks a person; absent where there is nobody. No answer is no. */
  confirm?: (question: string) => Promise<boolean>
  onRetry?: (retry: Retry) => void
  /** A sentence about another run that is waited for. */
  onWaiting?: (text: string) => void
  /** A line the far end (or ssh) printed on stderr. */
  onStderrLine?: (line: string) => void
  /** Aborting it ends the run cleanly at both ends; `reason` is the SyncError to report. */
  signal?: AbortSignal
  /** A far end that was started already: the first to ask gets it, and ends it; null from then on. */
  takeConnection?: () => Promise<Connection> | null
}>
