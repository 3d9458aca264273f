// What a run tells about itself: data only, cli/ makes text of it.

import type { AlgorithmName } from '../digest/digester.js'
import type { SyncError } from '../errors.js'
import type { Connection, FarSide } from '../transport/transport.js'

/** One end of a pair: a path here (`at.kind` local) or on a host. `typed` is the operand as the user wrote it. */
export type Operand = Readonly<{ at: FarSide; path: string; typed: string }>

export type DiskPair = Readonly<{ source: Operand; destination: Operand }>

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
  verified: 'none' | 'written' | 'all'
  native: { source: boolean; destination: boolean }
  transport: 'local' | 'openssh' | 'ssh2'
  cipher: string | null
  /** Connections that took part, the first one included. */
  lanes: number
  /** The codec that was agreed on; null where nothing was to be compressed. */
  compression: string | null
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

export type RunHooks = Readonly<{
  /** Called at most PROGRESS_INTERVAL_MS apart and once at the end of each disk. */
  onProgress?: (progress: Progress) => void
  /** A sentence for who asked for more words (-v). */
  onDetail?: (text: string) => void
  /** A sentence a user should see though the run goes on. */
  onWarning?: (text: string) => void
  /** A line the far end (or ssh) printed on stderr. */
  onStderrLine?: (line: string) => void
  /** Aborting it ends the run cleanly at both ends; `reason` is the SyncError to report. */
  signal?: AbortSignal
  /** A far end that was started already: the first to ask gets it, and ends it; null from then on. */
  takeConnection?: () => Promise<Connection> | null
}>
