// The options about what is kept of disks between runs: --state-dir, and --yes, which answers the question of a first
// sync. Refuses a directory whose name a shell on the other host would not take literally.

import { resolve } from 'node:path'

import type { Command } from 'commander'
import { Option } from 'commander'

import { SyncError } from '../errors.js'
import { isPlainWord } from '../shell-word.js'
import type { RemoteSide } from '../transport/transport.js'
import { hasControlCharacter } from './words.js'

export type StateFlags = { stateDir?: string; yes?: true }

export function addStateFlag(command: Command): Command {
  return command.addOption(
    new Option(
      '--state-dir <dir>',
      'where records of pairs are kept, on both hosts (default /var/lib/blocksync; of a user ~/.local/state/blocksync)',
    ).argParser(parseStateDir),
  )
}

export function addYesFlag(command: Command): Command {
  return command.option('-y, --yes', 'overwrite content of the destination that the source has not, unasked')
}

/** An absolute path. Rejects with `usage`. */
function parseStateDir(text: string): string {
  if (text.trim() === '') throw wrong('is empty', 'Was a shell variable empty?')
  if (hasControlCharacter(text)) throw wrong('contains a control character', 'Write it without.')
  return resolve(text)
}

/** Words for `serve`; the far side is told only what is not its default. Rejects with `usage`. */
export function stateArguments({ stateDir }: StateFlags, remote: RemoteSide | null): string[] {
  if (stateDir === undefined) return []
  const word = `--state-dir=${stateDir}`
  if (remote !== null && !isPlainWord(word))
    throw wrong(
      `is also the directory on ${remote.typed}, and ${stateDir} is no plain word there`,
      'Use letters, digits and _@%+=:,./- only.',
    )
  return [word]
}

function wrong(problem: string, hint: string): SyncError {
  return new SyncError('usage', `--state-dir ${problem}; nothing was opened`, {
    operand: '--state-dir',
    hint,
  })
}
