// `blocksync [sync]` and `blocksync verify`: operands and flags in, an exit status out. Everything is understood and
// checked before the engine is loaded; what the engine says is shown here.

import { EXIT, SyncError, toSyncError } from '../errors.js'
import type { SyncOptions } from '../options.js'
import type { DiskPair, RunHooks, RunReport } from '../sync/report.js'
import type { CommandContext } from './context.js'
import type { SyncFlags } from './flags.js'
import { parsePairs, remoteOf } from './pairs.js'
import { printingOf, type Printing } from './printing.js'
import { ProgressView } from './progress.js'
import { reportLines, retryText, stoppedLine } from './report.js'
import type { OpenReceipt } from './receipt-file.js'
import { resultOf, retryEvent } from './result.js'
import { optionsOf } from './settings.js'
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
  const { output, ask } = context
  const { kind, operands, flags } = request
  const pairs = parsePairs(operands, flags.disk ?? [], context.names)
  const options = optionsOf(flags, kind, remoteOf(pairs))
  await using receipt = await receiptFor(flags, options, context)
  const printing = printingOf(flags, output.canRedraw(context.environment) ? 'possible' : 'impossible')

  const view = new ProgressView(printing.progress, output, context.nowMs)
  using interruption = runSignal(context.signals, (text) => output.note(text), context.exit)
  const startMs = context.nowMs()
  const startedAt = new Date()
  let attempts = 1
  const hooks: RunHooks = {
    onProgress: (progress) => view.update(progress),
    onDetail: (text) => {
      if (printing.verbosity === 'verbose') output.note(`blocksync: ${text}`)
    },
    onWarning: (text) => {
      if (printing.verbosity !== 'quiet') output.note(`blocksync: warning: ${text}`)
    },
    onNote: (text) => {
      if (printing.verbosity !== 'quiet') output.note(`blocksync: ${text}`)
    },
    onWaiting: (text) => {
      if (printing.verbosity !== 'quiet') output.note(`blocksync: ${text}`)
    },
    onRetry: (retry) => {
      attempts += 1
      view.again()
      if (printing.verbosity !== 'quiet') output.note(`blocksync: ${retryText(retry)}`)
      if (printing.format === 'json') output.json(retryEvent(retry))
    },
    onStderrLine: (line) => {
      if (printing.verbosity !== 'quiet') output.note(`remote: ${line}`)
    },
    signal: interruption.signal,
    ...(ask === null || printing.format === 'json'
      ? {}
      : {
          confirm: (question) => {
            output.clearStatus()
            return ask(question, interruption.signal)
          },
        }),
  }
  const done = await runToReport(async () => {
    const sync = await context.loadSync()
    return sync(pairs, options, hooks)
  }, interruption.signal)
  view.end()
  const report = await withReceipt(receipt, done, { kind, pairs, options, startedAt })

  printReport({ pairs, options, printing, report, attempts, elapsedMs: context.nowMs() - startMs }, context)
  if (report.error !== null) return report.error.exitStatus
  return options.mode !== 'write' && report.disks.some(({ different }) => different)
    ? EXIT.different
    : EXIT.ok
}

/** Found out before anything is opened; null where none is wanted. */
async function receiptFor(
  { receipt }: SyncFlags,
  { mode }: SyncOptions,
  { loadReceipts }: CommandContext,
): Promise<OpenReceipt | null> {
  if (receipt === undefined) return null
  if (mode === 'dry-run')
    throw new SyncError(
      'usage',
      '--receipt is of what was done, and a dry run does nothing; nothing was opened',
      {
        operand: '--receipt',
        hint: 'Leave one of the two away; blocksync verify --receipt FILE compares and makes one.',
      },
    )
  const receipts = await loadReceipts()
  return await receipts.open(receipt)
}

type Ran = Readonly<{
  kind: SyncRequest['kind']
  pairs: readonly DiskPair[]
  options: SyncOptions
  startedAt: Date
}>

/** The report of a run whose receipt is written: there is one only of disks that are equal now. */
async function withReceipt(
  receipt: OpenReceipt | null,
  report: RunReport,
  { kind, pairs, options, startedAt }: Ran,
): Promise<RunReport> {
  const { disks, error } = report
  const isEqual = options.mode === 'write' || !disks.some(({ different }) => different)
  if (receipt === null || error !== null || !isEqual) return report
  try {
    const { receiptNow } = await import('./receipt.js')
    await receipt.commit(receiptNow({ mode: kind, pairs, disks, startedAt }))
    return report
  } catch (thrown) {
    return { disks, error: toSyncError(thrown) }
  }
}

type Finished = Readonly<{
  pairs: readonly DiskPair[]
  options: SyncOptions
  printing: Printing
  report: RunReport
  attempts: number
  elapsedMs: number
}>

function printReport(
  { pairs, options, printing, report, attempts, elapsedMs }: Finished,
  { output }: CommandContext,
): void {
  const { disks, error } = report
  if (error !== null) {
    output.error(error)
    const stopped = stoppedLine(report, options.mode)
    if (stopped !== null) output.note(stopped)
  }
  if (printing.format === 'json') {
    output.json(resultOf({ pairs, mode: options.mode, report, attempts, elapsedMs }))
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
