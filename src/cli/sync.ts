// `blocksync [sync]` and `blocksync verify`: operands and flags in, an exit status out. Everything is understood and
// checked before the engine is loaded; what the engine says is shown here.

import { EXIT, SyncError, toSyncError } from '../errors.js'
import type { SyncOptions } from '../options.js'
import type { DiskPair, RunHooks, RunReport } from '../sync/report.js'
import type { CommandContext } from './context.js'
import { optionsOf, printingOf } from './flags.js'
import type { Printing, SyncFlags } from './flags.js'
import { parsePairs, remoteOf } from './pairs.js'
import { ProgressView } from './progress.js'
import { reportLines, stoppedLine } from './report.js'
import { resultOf } from './result.js'
import { runSignal } from './signals.js'

/** The engine's one entry. */
export type RunSync = (
  pairs: readonly DiskPair[],
  options: SyncOptions,
  hooks: RunHooks,
) => Promise<RunReport>

export type SyncRequest = Readonly<{ kind: 'sync' | 'verify'; operands: readonly string[]; flags: SyncFlags }>

/** Runs it; resolves with the exit status. Rejects with `usage` before anything is opened; later failures are printed. */
export async function syncCommand(request: SyncRequest, context: CommandContext): Promise<number> {
  const { output } = context
  const { kind, operands, flags } = request
  const pairs = parsePairs(operands, flags.disk ?? [], context.names)
  const options = optionsOf(flags, kind, remoteOf(pairs))
  const printing = printingOf(flags, output.canRedraw(context.environment) ? 'possible' : 'impossible')

  const view = new ProgressView(printing.progress, output, context.nowMs)
  using interruption = runSignal(context.signals, (text) => output.note(text), context.exit)
  const startMs = context.nowMs()
  const hooks: RunHooks = {
    onProgress: (progress) => view.update(progress),
    onDetail: (text) => {
      if (printing.verbosity === 'verbose') output.note(`blocksync: ${text}`)
    },
    onWarning: (text) => {
      if (printing.verbosity !== 'quiet') output.note(`blocksync: warning: ${text}`)
    },
    onStderrLine: (line) => {
      if (printing.verbosity !== 'quiet') output.note(`remote: ${line}`)
    },
    signal: interruption.signal,
  }
  const report = await runToReport(async () => {
    const sync = await context.loadSync()
    return sync(pairs, options, hooks)
  }, interruption.signal)
  view.end()

  printReport({ pairs, options, printing, report, elapsedMs: context.nowMs() - startMs }, context)
  if (report.error !== null) return report.error.exitStatus
  return options.mode !== 'write' && report.disks.some(({ different }) => different)
    ? EXIT.different
    : EXIT.ok
}

type Finished = Readonly<{
  pairs: readonly DiskPair[]
  options: SyncOptions
  printing: Printing
  report: RunReport
  elapsedMs: number
}>

function printReport(
  { pairs, options, printing, report, elapsedMs }: Finished,
  { output }: CommandContext,
): void {
  const { disks, error } = report
  if (error !== null) {
    output.error(error)
    const stopped = stoppedLine(report, options.mode)
    if (stopped !== null) output.note(stopped)
  }
  if (printing.format === 'json') {
    output.json(resultOf({ pairs, mode: options.mode, report, elapsedMs }))
    return
  }
  // a run that failed before it began has no blocks to count
  const begun = error === null || disks.some(({ state }) => state !== 'not-started')
  if (printing.verbosity === 'quiet' || !begun) return
  const text = {
    mode: options.mode,
    perDisk: printing.verbosity === 'verbose' ? 'shown' : 'hidden',
    stats: printing.stats,
  } as const
  for (const line of reportLines(report, text, elapsedMs)) output.line(line)
}

/** The engine reports its failures; what it throws all the same is reported as a run that never began. */
async function runToReport(run: () => Promise<RunReport>, signal: AbortSignal): Promise<RunReport> {
  try {
    return await run()
  } catch (thrown) {
    // an interrupted wait may surface as whatever the wait throws: the interruption is the reason
    const error = signal.aborted && signal.reason instanceof SyncError ? signal.reason : toSyncError(thrown)
    return { disks: [], error }
  }
}
