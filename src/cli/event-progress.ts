// The progress of runs that tell it as events of their own (migrate, replicate): those events in, as they are as JSON or as the
// line of progress.ts. Refuses to show more often than that does.

import type { Output } from './output.js'
import { JSON_INTERVAL_MS, ProgressView, type ProgressStyle } from './progress.js'

/** How far a step of a run is; what else is in the event is for JSON only. */
export type ProgressEvent = Readonly<{
  event: 'progress'
  doneBytes: number
  totalBytes: number
  sentBytes: number
}>

/** Decides when to show what, as ProgressView does. */
export class EventProgress {
  readonly #style: ProgressStyle
  readonly #output: Output
  readonly #nowMs: () => number
  readonly #line: ProgressView
  #label: string | null = null
  #steps = 0
  #startMs = 0
  #shownMs = Number.NEGATIVE_INFINITY

  constructor(style: ProgressStyle, output: Output, nowMs: () => number) {
    this.#style = style
    this.#output = output
    this.#nowMs = nowMs
    this.#line = new ProgressView(style === 'json' ? 'none' : style, output, nowMs)
  }

  /** `label` is what the line begins with. With another label another step begins: it is measured for itself, as a disk is. */
  show(label: string, event: ProgressEvent): void {
    const { doneBytes, totalBytes, sentBytes } = event
    const now = this.#nowMs()
    if (label !== this.#label) {
      this.#label = label
      this.#steps += 1
      this.#startMs = now
    }
    if (this.#style === 'json') {
      if (now - this.#shownMs < JSON_INTERVAL_MS && doneBytes < totalBytes) return
      this.#shownMs = now
      this.#output.json(event)
      return
    }
    this.#line.update({
      diskIndex: this.#steps,
      diskCount: 1,
      source: label,
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

  /** Takes the line off the terminal. */
  end(): void {
    this.#line.end()
  }
}
