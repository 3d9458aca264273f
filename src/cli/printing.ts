// The flags about what is printed, into what is printed: one answer for all commands that show how far they are. Refuses
// nothing: contradictions are the parser's business.

import type { SyncFlags } from './flags.js'
import type { ProgressStyle } from './progress.js'

/** What a run prints. `quiet`: nothing but errors (and the JSON result, where JSON is asked for). */
export type Printing = Readonly<{
  format: 'text' | 'json'
  verbosity: 'quiet' | 'normal' | 'verbose'
  progress: ProgressStyle
  stats: 'shown' | 'hidden'
}>

type PrintingFlags = Pick<SyncFlags, 'json' | 'quiet' | 'verbose' | 'progress' | 'stats'>

/** `redraw`: whether stderr is a terminal that can draw a line again. */
export function printingOf(flags: PrintingFlags, redraw: 'possible' | 'impossible'): Printing {
  const format = flags.json === true ? 'json' : 'text'
  const verbosity = flags.quiet === true ? 'quiet' : flags.verbose === true ? 'verbose' : 'normal'
  return {
    format,
    verbosity,
    progress: progressStyle(flags, redraw),
    stats: flags.stats === true ? 'shown' : 'hidden',
  }
}

function progressStyle(flags: PrintingFlags, redraw: 'possible' | 'impossible'): ProgressStyle {
  if (flags.progress === false || flags.quiet === true) return 'none'
  if (flags.json === true) return 'json'
  if (redraw === 'possible') return 'redraw'
  return flags.progress === true || flags.verbose === true ? 'lines' : 'none'
}
