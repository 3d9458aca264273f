// What a run did, as text: the report in, lines out. The last line of a text run is a contract with scripts:
// `same: 942, diff: 82, 1024/1024` (blocks the same, blocks different, blocks done / blocks in all).

import type { RunMode } from '../options.js'
import type { BlockCounts, DiskReport, Retry, RunReport } from '../sync/report.js'
import { formatBytes, formatElapsed, formatRate } from './units.js'

/** Sums over the disks of a run. */
export type Totals = BlockCounts & {
  totalBlocks: number
  sizeBytes: number
  sentBytes: number
  resumedBytes: number
  verifiedBytes: number
  wireBytesSent: number
  wireBytesReceived: number
}

/** What the text is to hold beside the last line. */
export type TextReport = Readonly<{ mode: RunMode; perDisk: 'shown' | 'hidden'; stats: 'shown' | 'hidden' }>

export function totalsOf(disks: readonly DiskReport[]): Totals {
  const sum = (value: (disk: DiskReport) => number): number =>
    disks.reduce((total, disk) => total + value(disk), 0)
  return {
    sameBlocks: sum((disk) => disk.sameBlocks),
    differentBlocks: sum((disk) => disk.differentBlocks),
    zeroBlocks: sum((disk) => disk.zeroBlocks),
    skippedBlocks: sum((disk) => disk.skippedBlocks),
    totalBlocks: sum((disk) => disk.totalBlocks),
    sizeBytes: sum((disk) => disk.sizeBytes),
    sentBytes: sum((disk) => disk.sentBytes),
    resumedBytes: sum((disk) => disk.resumedBytes),
    verifiedBytes: sum((disk) => disk.verifiedBytes),
    wireBytesSent: sum((disk) => disk.wireBytesSent),
    wireBytesReceived: sum((disk) => disk.wireBytesReceived),
  }
}

/** Blocks whose fate is decided. */
export function doneBlocks(counts: BlockCounts): number {
  return counts.sameBlocks + counts.differentBlocks + counts.zeroBlocks + counts.skippedBlocks
}

/** The last line of a text run. */
export function lastLine(disks: readonly DiskReport[]): string {
  const totals = totalsOf(disks)
  const same = totals.sameBlocks + totals.skippedBlocks
  const different = totals.differentBlocks + totals.zeroBlocks
  return `same: ${same}, diff: ${different}, ${doneBlocks(totals)}/${totals.totalBlocks}`
}

/** All lines for stdout, the last line last. `elapsedMs` is the time of the whole run. */
export function reportLines(report: RunReport, text: TextReport, elapsedMs: number): string[] {
  const { disks, error } = report
  const lines: string[] = []
  if (text.perDisk === 'shown' || disks.length > 1) lines.push(...disks.map(diskLine))
  if (text.stats === 'shown') {
    for (const disk of disks) lines.push(...statsLines(disk))
    if (disks.length > 1) lines.push(...sumLines(disks, elapsedMs))
  }
  if (error === null) lines.push(...answerLines(disks, text.mode))
  lines.push(lastLine(disks))
  return lines
}

/** How far a run that failed got; null where nothing was begun. */
export function stoppedLine(report: RunReport, mode: RunMode): string | null {
  const { disks } = report
  const index = disks.findIndex(({ state }) => state !== 'done')
  const disk = disks[index]
  if (disk === undefined || (disk.state === 'not-started' && index === 0)) return null
  const which = disks.length > 1 ? ` (disk ${index + 1} of ${disks.length})` : ''
  const again = mode === 'write' ? '; run the same command again to continue' : ''
  const totals = totalsOf(disks)
  return `stopped at ${disk.source} -> ${disk.destination}${which}; ${doneBlocks(totals)} of ${totals.totalBlocks} blocks done${again}`
}

function diskLine(disk: DiskReport): string {
  const counts =
    `same ${disk.sameBlocks}, diff ${disk.differentBlocks}, zero ${disk.zeroBlocks}, skipped ${disk.skippedBlocks}, ` +
    `sent ${formatBytes(disk.sentBytes)} in ${formatElapsed(disk.durationMs)}`
  return `${disk.source} -> ${disk.destination}: ${STATE_TEXT[disk.state]}${counts}`
}

const STATE_TEXT = { done: '', partial: 'stopped early: ', 'not-started': 'not started: ' } as const

function answerLines(disks: readonly DiskReport[], mode: RunMode): string[] {
  const totals = totalsOf(disks)
  switch (mode) {
    case 'write':
      return verifiedLines(disks)
    case 'dry-run':
      return [`would send ${totals.sentBytes} bytes; nothing was written`]
    case 'verify': {
      const different = totals.differentBlocks + totals.zeroBlocks
      if (different > 0) return [`different: ${different} of ${totals.totalBlocks} blocks differ`]
      return [disks.some((disk) => disk.different) ? 'different' : 'identical']
    }
    default:
      return mode satisfies never
  }
}

/** What was read back, where that was asked for. */
function verifiedLines(disks: readonly DiskReport[]): string[] {
  if (disks.every(({ verified }) => verified === 'none')) return []
  const { verifiedBytes, sizeBytes } = totalsOf(disks)
  const written = `verified: ${formatBytes(verifiedBytes)} written, read back and equal`
  if (disks.some(({ verified }) => verified !== 'all')) return [written]
  return [`${written}; all ${formatBytes(sizeBytes)} compared again and equal`]
}

function statsLines(disk: DiskReport): string[] {
  const seconds = disk.durationMs / 1000
  const rate = (bytes: number): string => (seconds > 0 ? formatRate(bytes / seconds) : '-')
  const read = Math.max(disk.readBytes.source, disk.readBytes.destination)
  const rows: [string, string][] = [
    ['size', `${both(disk.sizeBytes)}, ${disk.totalBlocks} blocks of ${formatBytes(disk.blockBytes)}`],
    [
      'read, digested',
      `source ${both(disk.readBytes.source)}, destination ${both(disk.readBytes.destination)}`,
    ],
    ['same', `${disk.sameBlocks} blocks`],
    ['different', `${disk.differentBlocks} blocks`],
    ['zero', `${disk.zeroBlocks} blocks`],
    ['skipped', `${disk.skippedBlocks} blocks`],
    ...(disk.resumedBytes === 0 ? [] : [['resumed', both(disk.resumedBytes)] satisfies [string, string]]),
    ['sent', both(disk.sentBytes)],
    ['zeroed', both(disk.zeroedBytes)],
    ['on the wire', `sent ${both(disk.wireBytesSent)}, received ${both(disk.wireBytesReceived)}`],
    ['rates', `compared ${rate(read)}, sent ${rate(disk.sentBytes)}`],
    ['elapsed', formatElapsed(disk.durationMs)],
    ['digest', digestText(disk)],
    ['verified', disk.verified],
    ['native', `source ${yesNo(disk.native.source)}, destination ${yesNo(disk.native.destination)}`],
    ['transport', disk.cipher === null ? disk.transport : `${disk.transport}, ${disk.cipher}`],
    ['connections', String(disk.lanes)],
    ['compression', disk.compression ?? 'none'],
  ]
  return [`${disk.source} -> ${disk.destination}`, ...rows.map(row)]
}

function sumLines(disks: readonly DiskReport[], elapsedMs: number): string[] {
  const totals = totalsOf(disks)
  const rows: [string, string][] = [
    ['size', both(totals.sizeBytes)],
    ['sent', both(totals.sentBytes)],
    ['on the wire', `sent ${both(totals.wireBytesSent)}, received ${both(totals.wireBytesReceived)}`],
    ['elapsed', formatElapsed(elapsedMs)],
  ]
  return [`all ${disks.length} disks`, ...rows.map(row)]
}

/** As wide as the longest name and its colon. */
const NAME_COLUMNS = 16

function row([name, value]: [string, string]): string {
  return `  ${`${name}:`.padEnd(NAME_COLUMNS)}${value}`
}

function digestText({ digest }: DiskReport): string {
  if (digest === null) return 'none: it did not come that far'
  return `${digest.algorithm}, leaves of ${formatBytes(digest.leafBytes)}, root ${digest.root}`
}

function both(bytes: number): string {
  return bytes < 1024 ? formatBytes(bytes) : `${formatBytes(bytes)} (${bytes} bytes)`
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no'
}

/** What is said before a run begins again. */
export function retryText({ retry, retries, waitMs, error }: Retry): string {
  const seconds = Math.max(1, Math.round(waitMs / 1000))
  return `retrying in ${seconds} s (${retry} of ${retries}): ${error.message}`
}
