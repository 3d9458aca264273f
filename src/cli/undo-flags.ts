// The options about the way back of a run, and those of `blocksync undo`. Refuses bounds and directories that belong to no
// journal, since they would have no effect.

import type { Command } from 'commander'
import { Option } from 'commander'

import { SyncError } from '../errors.js'
import type { SyncOptions } from '../options.js'
import { parseSize } from './units.js'

export type UndoRunFlags = { undo?: true; undoDir?: string; undoMax?: number }

export function addUndoRunFlags(command: Command): Command {
  return command
    .option('--undo', "keep what is overwritten, on the destination's host, for blocksync undo DISK there")
    .addOption(
      new Option(
        '--undo-max <size>',
        'most that is kept; when it is reached the run stops (default: no bound)',
      ).argParser((text: string) => parseSize('--undo-max', text)),
    )
    .option('--undo-dir <dir>', 'where on that host it is kept (default: in the state directory)')
}

/** What a run keeps; null is nothing. Rejects with `usage`. */
export function undoOf({ undo, undoDir, undoMax }: UndoRunFlags): SyncOptions['undo'] {
  if (undo === true) return { keep: 'one', directory: undoDir ?? null, maxBytes: undoMax ?? null }
  const idle = undoDir !== undefined ? '--undo-dir' : undoMax !== undefined ? '--undo-max' : null
  if (idle === null) return null
  throw new SyncError('usage', `${idle} is about what --undo keeps; nothing was opened`, {
    operand: idle,
    hint: 'Write --undo too, or leave it away.',
  })
}

/** Options of `blocksync undo`. */
export function addUndoFlags(command: Command): Command {
  return command
    .option('-n, --dry-run', 'check the journal, write nothing, and say what would be done')
    .option('-y, --yes', 'do it unasked')
    .option('-q, --quiet', 'nothing but errors')
    .option('--json', 'one JSON result on stdout')
}
