// What a migration tells while it runs, as lines on stderr or as JSON lines: events in, text out. Refuses to draw more often
// than progress.ts does.

import type { MigrateEvent } from '../migrate/context.js'
import type { Output } from './output.js'
import { JSON_INTERVAL_MS, ProgressView, type ProgressStyle } from './progress.js'
import { formatBytes, formatElapsed } from './units.js'

export type ViewStyle = Readonly<{
  format: 'text' | 'json'
  verbosity: 'quiet' | 'normal'
  progress: ProgressStyle
}>

type ProgressEvent = Extract<MigrateEvent, { event: 'progress' }>

export class MigrateView {
  readonly #style: ViewStyle
  readonly #output: Output
  readonly #nowMs: () => number
  readonly #progress: ProgressView
  #step = ''
  #steps = 0
  #startMs: number
  #shownMs = Number.NEGATIVE_INFINITY

  constructor(style: ViewStyle, output: Output, nowMs: () => number) {
    this.#style = style
    this.#output = output
    this.#nowMs = nowMs
    this.#startMs = nowMs()
    // JSON has events of its own, with the step in them
    this.#progress = new ProgressView(style.progress === 'json' ? 'none' : style.progress, output, nowMs)
  }

  show(event: MigrateEvent): void {
    if (event.event === 'progress') {
      this.#showProgress(event)
      return
    }
    if (this.#style.format === 'json') this.#output.json(event)
    const text = this.#style.verbosity === 'quiet' ? null : textOf(event, this.#style.format)
    if (text !== null) this.#output.note(`blocksync: ${text}`)
  }

  /** Takes the line off the terminal. */
  end(): void {
    this.#progress.end()
  }

  #showProgress(event: ProgressEvent): void {
    const { step, doneBytes, totalBytes, sentBytes } = event
    const now = this.#nowMs()
    if (step !== this.#step) {
      this.#step = step
      this.#steps += 1
      this.#startMs = now
    }
    if (this.#style.progress === 'json') {
      if (now - this.#shownMs < JSON_INTERVAL_MS && doneBytes < totalBytes) return
      this.#shownMs = now
      this.#output.json(event)
      return
    }
    this.#progress.update({
      // a step is measured for itself, as a disk is
      diskIndex: this.#steps,
      diskCount: 1,
      source: step,
      destination: '',
      doneBytes,
      totalBytes,
      sentBytes,
      sameBlocks: 0,
      differentBlocks: 0,
      zeroBlocks: 0,
      skippedBlocks: 0,
      totalBlocks: 0,
      elapsedMs: now - this.#startMs,
    })
  }
}

/** A line for people; null where there is nothing to say. With JSON on stdout only what is for people goes to stderr. */
function textOf(event: Exclude<MigrateEvent, ProgressEvent>, format: 'text' | 'json'): string | null {
  switch (event.event) {
    case 'warning':
      return `warning: ${event.message}`
    case 'note':
      return event.message
    case 'round':
      return format === 'json'
        ? null
        : `round ${event.round}: ${formatBytes(event.sentBytes)} sent in ${formatElapsed(event.durationMs)}; ` +
            `downtime would be about ${formatElapsed(event.forecastDowntimeMs)}`
    case 'step':
      if (event.state === 'failed')
        return `${event.step} failed${event.message === null ? '' : `: ${event.message}`}`
      if (format === 'json' || event.state === 'done') return null
      return event.state === 'undone' ? `${event.step}: taken back` : event.step
    default:
      return event satisfies never
  }
}
