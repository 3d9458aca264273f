// How far a run is, for people and for programs: acknowledged work in, one line or one JSON object out. Draws at most
// five times a second; makes no promise (ETA) before it has measured a rate.

import path from 'node:path'

import type { Progress } from '../sync/report.js'
import type { Output } from './output.js'
import { formatBytes, formatDuration, formatRate } from './units.js'

/** Five redraws a second: the eye wants no more, and slow terminals stand no more. */
export const REDRAW_INTERVAL_MS = 200
/** Lines for logs and timers. */
export const LINE_INTERVAL_MS = 30_000
export const JSON_INTERVAL_MS = 1000

/** Rates are over the last ten seconds: long enough to be steady, short enough to follow a change. */
export const RATE_WINDOW_MS = 10_000
/** Less than this has not measured anything: no rate, no ETA. */
const MIN_MEASURED_MS = 1000
/** At most RATE_WINDOW_MS / SAMPLE_INTERVAL_MS samples are kept. */
const SAMPLE_INTERVAL_MS = 100
/** An ETA of more than six weeks says only that nothing moves. */
const MAX_ETA_MS = 1000 * 3600 * 1000

/** `redraw`: one line on the terminal; `lines`: one line an interval; `json`: events on stdout; `none`: nothing. */
export type ProgressStyle = 'redraw' | 'lines' | 'json' | 'none'

/** Bytes a second over the window; null until something was measured. */
export type Rates = Readonly<{ doneBytesPerSecond: number | null; sentBytesPerSecond: number | null }>

/** Time to the end of the disk at the measured rate, in ms; null where there is no rate or it is nothing. */
export function etaMs(progress: Progress, rates: Rates): number | null {
  const rate = rates.doneBytesPerSecond
  if (rate === null || rate <= 0) return null
  const left = ((progress.totalBytes - progress.doneBytes) / rate) * 1000
  return left > MAX_ETA_MS ? null : Math.max(0, left)
}

/** The line for people, at most `columns` wide: what matters least goes first where it does not fit. */
export function progressLine(progress: Progress, rates: Rates, columns: number): string {
  const { doneBytes, totalBytes, sentBytes, differentBlocks, zeroBlocks } = progress
  const decided = progress.sameBlocks + progress.skippedBlocks + differentBlocks + zeroBlocks
  const eta = etaMs(progress, rates)
  const parts: { text: string; worth: number }[] = [
    { text: labelOf(progress), worth: 3 },
    { text: `${share(doneBytes, totalBytes)}%`, worth: 9 },
    { text: `${formatBytes(doneBytes)}/${formatBytes(totalBytes)}`, worth: 5 },
  ]
  if (rates.doneBytesPerSecond !== null) parts.push({ text: formatRate(rates.doneBytesPerSecond), worth: 6 })
  const sentRate = rates.sentBytesPerSecond === null ? '' : ` ${formatRate(rates.sentBytesPerSecond)}`
  parts.push({ text: `sent ${formatBytes(sentBytes)}${sentRate}`, worth: 4 })
  if (decided > 0) parts.push({ text: `diff ${share(differentBlocks + zeroBlocks, decided)}%`, worth: 2 })
  if (eta !== null && doneBytes < totalBytes) parts.push({ text: `ETA ${formatDuration(eta)}`, worth: 8 })

  while (parts.length > 1 && widthOf(joined(parts)) > columns) {
    const least = parts.reduce((a, b) => (b.worth < a.worth ? b : a))
    parts.splice(parts.indexOf(least), 1)
  }
  const line = joined(parts)
  return widthOf(line) > columns ? line.slice(0, Math.max(0, columns)) : line
}

/** The object of one `progress` event. */
export function progressEvent(progress: Progress, rates: Rates): object {
  const eta = etaMs(progress, rates)
  const whole = (value: number | null): number | null => (value === null ? null : Math.round(value))
  return {
    event: 'progress',
    disk: progress.diskIndex + 1,
    disks: progress.diskCount,
    source: progress.source,
    destination: progress.destination,
    doneBytes: progress.doneBytes,
    totalBytes: progress.totalBytes,
    sentBytes: progress.sentBytes,
    sameBlocks: progress.sameBlocks,
    differentBlocks: progress.differentBlocks,
    zeroBlocks: progress.zeroBlocks,
    skippedBlocks: progress.skippedBlocks,
    totalBlocks: progress.totalBlocks,
    elapsedMs: Math.round(progress.elapsedMs),
    bytesPerSecond: whole(rates.doneBytesPerSecond),
    sentBytesPerSecond: whole(rates.sentBytesPerSecond),
    etaMs: whole(eta),
  }
}

type Sample = { atMs: number; doneBytes: number; sentBytes: number }

/** Rates over the last RATE_WINDOW_MS of what it was told. */
export class RateWindow {
  #samples: Sample[] = []

  /** Takes note of the totals at `atMs` and gives the rates up to there. */
  add(atMs: number, doneBytes: number, sentBytes: number): Rates {
    const samples = this.#samples
    // one sample before the window stays, so that the window is covered whole
    while (samples.length > 1 && (samples[1]?.atMs ?? atMs) <= atMs - RATE_WINDOW_MS) samples.shift()
    const first = samples[0]
    const last = samples.at(-1)
    if (last === undefined || atMs - last.atMs >= SAMPLE_INTERVAL_MS)
      samples.push({ atMs, doneBytes, sentBytes })
    const spanMs = first === undefined ? 0 : atMs - first.atMs
    if (first === undefined || spanMs < MIN_MEASURED_MS)
      return { doneBytesPerSecond: null, sentBytesPerSecond: null }
    return {
      doneBytesPerSecond: (Math.max(0, doneBytes - first.doneBytes) / spanMs) * 1000,
      sentBytesPerSecond: (Math.max(0, sentBytes - first.sentBytes) / spanMs) * 1000,
    }
  }
}

/** Decides when to show what. `update` is fed by the engine; `nowMs` is any steady clock. */
export class ProgressView {
  readonly #style: ProgressStyle
  readonly #output: Output
  readonly #nowMs: () => number
  #shownMs: number
  #diskIndex = -1
  #finishedDisk = -1
  #window = new RateWindow()

  constructor(style: ProgressStyle, output: Output, nowMs: () => number) {
    this.#style = style
    this.#output = output
    this.#nowMs = nowMs
    // lines: the first comes after the first interval; the others show at once
    this.#shownMs = style === 'lines' ? nowMs() : Number.NEGATIVE_INFINITY
  }

  /** The run begins again: what was counted until now says nothing of its rates. */
  again(): void {
    this.end()
    this.#diskIndex = -1
    this.#finishedDisk = -1
  }

  update(progress: Progress): void {
    if (this.#style === 'none') return
    const now = this.#nowMs()
    if (progress.diskIndex !== this.#diskIndex) {
      this.#diskIndex = progress.diskIndex
      this.#window = new RateWindow()
    }
    const rates = this.#window.add(now, progress.doneBytes, progress.sentBytes)
    const sinceMs = now - this.#shownMs
    switch (this.#style) {
      case 'redraw':
        if (sinceMs < REDRAW_INTERVAL_MS) return
        // the last column stays free: a full line makes some terminals wrap
        this.#output.status(progressLine(progress, rates, this.#output.columns - 1))
        break
      case 'lines':
        if (sinceMs < LINE_INTERVAL_MS) return
        this.#output.note(progressLine(progress, rates, Number.POSITIVE_INFINITY))
        break
      case 'json': {
        const ended = progress.doneBytes >= progress.totalBytes && this.#finishedDisk !== progress.diskIndex
        if (sinceMs < JSON_INTERVAL_MS && !ended) return
        if (ended) this.#finishedDisk = progress.diskIndex
        this.#output.json(progressEvent(progress, rates))
        break
      }
      default:
        this.#style satisfies never
    }
    this.#shownMs = now
  }

  /** Takes the line off the terminal. */
  end(): void {
    this.#output.clearStatus()
  }
}

/** Two blanks between the parts. */
function joined(parts: readonly { text: string }[]): string {
  return parts.map(({ text }) => text).join('  ')
}

/** A name longer than this says no more. */
const MAX_LABEL = 24

function labelOf({ source, diskIndex, diskCount }: Progress): string {
  const name = path.posix.basename(source) || source
  const short = name.length > MAX_LABEL ? `${name.slice(0, MAX_LABEL - 3)}...` : name
  return diskCount > 1 ? `${diskIndex + 1}/${diskCount} ${short}` : short
}

/** Per cent with one digit; never 100.0 before the end, never 0.0 where there is something. */
function share(part: number, whole: number): string {
  if (whole <= 0) return '100.0'
  const tenths = (part / whole) * 1000
  const shown = part >= whole ? 1000 : Math.min(999, part > 0 ? Math.max(1, Math.floor(tenths)) : 0)
  return (shown / 10).toFixed(1)
}

/** Columns a text takes, never too few: what is not ASCII may be two wide. */
function widthOf(text: string): number {
  let width = 0
  for (const character of text) width += character.charCodeAt(0) < 0x7f ? 1 : 2
  return width
}
