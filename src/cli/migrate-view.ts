// What a migration tells while it runs, as lines on stderr or as JSON lines: events in, text out. Refuses nothing; how often
// progress is drawn is decided by event-progress.ts.

import type { MigrateEvent } from '../migrate/context.js'
import { EventProgress } from './event-progress.js'
import type { Output } from './output.js'
import type { Printing } from './printing.js'
import { formatBytes, formatElapsed } from './units.js'

export class MigrateView {
  readonly #printing: Printing
  readonly #output: Output
  readonly #progress: EventProgress

  constructor(printing: Printing, output: Output, nowMs: () => number) {
    this.#printing = printing
    this.#output = output
    this.#progress = new EventProgress(printing.progress, output, nowMs)
  }

  show(event: MigrateEvent): void {
    if (event.event === 'progress') {
      this.#progress.show(event.step, event)
      return
    }
    const { format, verbosity } = this.#printing
    if (format === 'json') this.#output.json(event)
    const text = verbosity === 'quiet' ? null : textOf(event, format)
    if (text !== null) this.#output.note(`blocksync: ${text}`)
  }

  /** Takes the line off the terminal. */
  end(): void {
    this.#progress.end()
  }
}

/** A line for people; null where there is nothing to say. With JSON on stdout only what is for people goes to stderr. */
function textOf(event: Exclude<MigrateEvent, { event: 'progress' }>, format: 'text' | 'json'): string | null {
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
