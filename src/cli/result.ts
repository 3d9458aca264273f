// The `result` object of --json: exactly one a run, always the last line, also where the run never began.
// Its fields are a contract with scripts: fields are added, never renamed.

import type { SyncError } from '../errors.js'
import type { RunMode } from '../options.js'
import type { DiskPair, DiskReport, Retry, RunReport } from '../sync/report.js'
import { totalsOf } from './report.js'

/** What is known of a run when its result is printed; `pairs` is empty where the operands were not understood. */
export type Outcome = Readonly<{
  pairs: readonly DiskPair[]
  mode: RunMode
  report: RunReport
  /** How often it was tried: 1, and one for each retry. 0 where it never began. */
  attempts: number
  elapsedMs: number
}>

/** The result of a run. With several disks, `source`, `destination` and `digest.root` are arrays in their order. */
export function resultOf({ pairs, mode, report, attempts, elapsedMs }: Outcome): object {
  const { disks, error } = report
  const totals = totalsOf(disks)
  const [first] = disks
  return {
    event: 'result',
    ok: error === null,
    source: oneOrAll(pairs.map(({ source }) => source.typed)),
    destination: oneOrAll(pairs.map(({ destination }) => destination.typed)),
    sizeBytes: totals.sizeBytes,
    sameBlocks: totals.sameBlocks,
    differentBlocks: totals.differentBlocks,
    zeroBlocks: totals.zeroBlocks,
    skippedBlocks: totals.skippedBlocks,
    totalBlocks: totals.totalBlocks,
    sentBytes: totals.sentBytes,
    wireBytesSent: totals.wireBytesSent,
    wireBytesReceived: totals.wireBytesReceived,
    durationMs: Math.round(elapsedMs),
    attempts,
    digest: digestOf(disks),
    resumedBytes: totals.resumedBytes,
    verified: weakest(disks),
    verifiedBytes: totals.verifiedBytes,
    undo: oneOrAllUndo(disks),
    unreadable: unreadableOf(first),
    native: {
      source: first !== undefined && disks.every(({ native }) => native.source),
      destination: first !== undefined && disks.every(({ native }) => native.destination),
    },
    changed: disks.some((disk) => isChanged(disk, mode)),
    dryRun: mode === 'dry-run',
    created: disks.some(({ created }) => created),
    state: stateOf(disks),
    transport: first?.transport ?? null,
    cipher: first?.cipher ?? null,
    lanes: Math.max(0, ...disks.map(({ lanes }) => lanes)),
    compression: first?.compression ?? null,
    disks: disks.map((disk) => diskResult(disk, mode)),
    ...(error === null ? {} : { error: errorOf(error) }),
  }
}

/** The result where a run failed before there was a report: nothing was counted. */
export function failedResult(error: SyncError): object {
  return resultOf({ pairs: [], mode: 'write', report: { disks: [], error }, attempts: 0, elapsedMs: 0 })
}

/** The object of one `retry` event. */
export function retryEvent({ retry, retries, waitMs, error }: Retry): object {
  return { event: 'retry', retry, retries, waitMs, error: errorOf(error) }
}

export function errorOf({ code, message, operand, hint }: SyncError): object {
  return { code, message, operand, hint }
}

function diskResult(disk: DiskReport, mode: RunMode): object {
  return {
    source: disk.source,
    destination: disk.destination,
    state: disk.state,
    different: disk.different,
    changed: isChanged(disk, mode),
    created: disk.created,
    sizeBytes: disk.sizeBytes,
    sameBlocks: disk.sameBlocks,
    differentBlocks: disk.differentBlocks,
    zeroBlocks: disk.zeroBlocks,
    skippedBlocks: disk.skippedBlocks,
    totalBlocks: disk.totalBlocks,
    sentBytes: disk.sentBytes,
    zeroedBytes: disk.zeroedBytes,
    readBytes: { source: disk.readBytes.source, destination: disk.readBytes.destination },
    wireBytesSent: disk.wireBytesSent,
    wireBytesReceived: disk.wireBytesReceived,
    durationMs: Math.round(disk.durationMs),
    digest: disk.digest,
    resumedBytes: disk.resumedBytes,
    verified: disk.verified,
    verifiedBytes: disk.verifiedBytes,
    undo: disk.undo,
    unreadable: unreadableOf(disk),
    native: { source: disk.native.source, destination: disk.native.destination },
    transport: disk.transport,
    cipher: disk.cipher,
    lanes: disk.lanes,
    compression: disk.compression,
    pair: disk.pair,
  }
}

/** Ranges that the result lists: the map has all of them. */
const MAX_LISTED_RANGES = 100

function unreadableOf(disk: DiskReport | undefined): DiskReport['unreadable'] {
  if (disk === undefined || disk.unreadable === null) return null
  const { bytes, ranges, mapfile } = disk.unreadable
  return { bytes, ranges: ranges.slice(0, MAX_LISTED_RANGES), mapfile }
}

/** True where something was written: a dry run and verify change nothing. */
function isChanged(disk: DiskReport, mode: RunMode): boolean {
  return mode === 'write' && (disk.created || disk.sentBytes > 0 || disk.zeroedBytes > 0)
}

/** One disk is a plain value, several are an array; none is null. */
function oneOrAll<T>(values: readonly T[]): T | readonly T[] | null {
  const [first] = values
  return values.length > 1 ? values : (first ?? null)
}

/** Null where nothing is kept. */
function oneOrAllUndo(disks: readonly DiskReport[]): DiskReport['undo'] | readonly DiskReport['undo'][] {
  if (disks.every(({ undo }) => undo === null)) return null
  return oneOrAll(disks.map(({ undo }) => undo))
}

function digestOf(disks: readonly DiskReport[]): object | null {
  const known = disks.find(({ digest }) => digest !== null)?.digest
  if (!known) return null
  if (disks.length === 1) return { ...known }
  return {
    algorithm: known.algorithm,
    root: disks.map(({ digest }) => digest?.root ?? null),
    seed: disks.map(({ digest }) => digest?.seed ?? null),
    blockBytes: known.blockBytes,
    leafBytes: known.leafBytes,
  }
}

/** What holds for every disk. */
function weakest(disks: readonly DiskReport[]): DiskReport['verified'] {
  if (disks.length === 0 || disks.some(({ verified }) => verified === 'none')) return 'none'
  return disks.every(({ verified }) => verified === 'all') ? 'all' : 'written'
}

function stateOf(disks: readonly DiskReport[]): DiskReport['state'] {
  if (disks.every(({ state }) => state === 'not-started')) return 'not-started'
  return disks.every(({ state }) => state === 'done') ? 'done' : 'partial'
}
