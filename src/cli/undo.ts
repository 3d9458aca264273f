// `blocksync undo DISK`: brings a disk of this host back to what it was before the last run with --undo. Refuses disks on
// other hosts, and to write unasked where nobody can be asked.

import { EXIT, SyncError, toSyncError } from '../errors.js'
import { type NativeMode, SYNC_DEFAULTS } from '../options.js'
import type { UndoHooks, UndoRequest, UndoSummary } from '../sync/undo-disk.js'
import type { CommandContext } from './context.js'
import { type ForceFlags, forcedGuards } from './force-flags.js'
import { localDisk } from './operand.js'
import { errorOf } from './result.js'
import { runSignal } from './signals.js'
import { formatBytes } from './units.js'

/** What the command asks of the rest of the program. */
export type RunUndo = (request: UndoRequest, hooks: UndoHooks) => Promise<UndoSummary | null>

export type UndoFlags = ForceFlags & {
  dryRun?: true
  yes?: true
  json?: true
  quiet?: true
  stateDir?: string
  native?: NativeMode
}

/** Resolves with 0, or the status of what failed; 1 where the answer was no. Rejects with `usage`. */
export async function undoCommand(typed: string, flags: UndoFlags, context: CommandContext): Promise<number> {
  const { output } = context
  const path = localPath(typed, context)
  const mode = flags.dryRun === true ? 'look' : 'write'
  const ask = flags.json === true ? null : context.ask
  if (mode === 'write' && flags.yes !== true && ask === null)
    throw new SyncError(
      'usage',
      `${typed} would be overwritten with what it was before; nothing was opened`,
      {
        operand: typed,
        hint: 'Type --yes to do it unasked, or --dry-run to see what would be done.',
      },
    )
  const startMs = context.nowMs()
  using interruption = runSignal(context.signals, (text) => output.note(text), context.exit)
  const { signal } = interruption
  const head = { event: 'result', command: 'undo', disk: typed, dryRun: mode === 'look' }
  try {
    const undo = await context.loadUndo()
    const request: UndoRequest = {
      path,
      mode,
      stateDir: flags.stateDir ?? null,
      force: forcedGuards(flags),
      native: flags.native ?? SYNC_DEFAULTS.native,
    }
    const done = await undo(request, {
      signal,
      confirm: async (summary) => {
        if (flags.yes === true || ask === null) return true
        for (const line of linesOf(summary, typed)) output.note(line)
        return await ask(`Bring ${typed} back to that? [y/N] `, signal)
      },
      onProgress: () => undefined,
      onWarning: (text) => {
        if (flags.quiet !== true) output.note(`blocksync: warning: ${text}`)
      },
    })
    const durationMs = Math.round(context.nowMs() - startMs)
    if (flags.json === true) output.json({ ...head, ok: true, ...done, durationMs })
    else if (done === null) output.note('blocksync: nothing was written')
    else if (flags.quiet !== true)
      for (const line of mode === 'look' ? linesOf(done, typed) : [doneLine(done, typed)]) output.line(line)
    return done === null ? EXIT.different : EXIT.ok
  } catch (thrown) {
    const error = toSyncError(signal.aborted ? signal.reason : thrown)
    output.error(error)
    if (flags.json === true) output.json({ ...head, ok: false, error: errorOf(error) })
    return error.exitStatus
  }
}

function linesOf(summary: UndoSummary, typed: string): string[] {
  const { startedAt, runs, state, changed, removed, cutToBytes, restoredBytes, zeroedBytes, journalBytes } =
    summary
  const which = runs === 1 ? `the run of ${startedAt}` : `${runs} runs, the first of ${startedAt}`
  const how =
    state === 'finished'
      ? 'which finished'
      : state === 'undoing'
        ? 'the undoing of which was interrupted'
        : 'which did not finish'
  const lines = [`${typed}: back to before ${which}, ${how} (journal: ${formatBytes(journalBytes)})`]
  if (!changed) lines.push('  nothing was overwritten by it')
  else if (removed) lines.push('  the file was made by it, and would be removed')
  else
    lines.push(
      `  ${formatBytes(restoredBytes)} of old content to be written, ${formatBytes(zeroedBytes)} to become zeros` +
        (cutToBytes === null ? '' : `; the file to be cut to ${cutToBytes} bytes`),
    )
  return lines
}

function doneLine(
  { startedAt, changed, removed, restoredBytes, zeroedBytes }: UndoSummary,
  typed: string,
): string {
  if (!changed) return `${typed}: nothing had been overwritten by the run of ${startedAt}`
  if (removed) return `${typed}: removed, since the run of ${startedAt} had made it`
  return `${typed}: as before the run of ${startedAt} (${formatBytes(restoredBytes + zeroedBytes)} written back)`
}

/** A disk of this host. */
function localPath(typed: string, { names }: CommandContext): string {
  return localDisk(typed, names, { what: 'is for a disk of this host', command: 'blocksync undo' })
}
