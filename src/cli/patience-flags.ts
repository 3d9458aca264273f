// The options about how patient a run is: --timeout, --lock-wait, --retries. Words in, milliseconds and a number out;
// refuses what is not a time or a number.

import { Option } from 'commander'
import type { Command } from 'commander'

import { SyncError } from '../errors.js'
import { MAX_RETRIES, type SyncOptions } from '../options.js'
import { parseDuration } from './units.js'

export type PatienceFlags = { timeout?: number; lockWait?: number; retries?: number }

export function addPatienceFlags(command: Command): Command {
  return command
    .optionsGroup('Patience:')
    .addOption(
      new Option(
        '--timeout <time>',
        'give up when nothing is heard of the far side for so long: seconds, or 5m (default 60; 0 never)',
      ).argParser((text: string) => parseDuration('--timeout', text)),
    )
    .addOption(
      new Option(
        '--lock-wait <time>',
        'wait so long for another run that has a disk: seconds, 10m or 2h (default 0)',
      ).argParser((text: string) => parseDuration('--lock-wait', text)),
    )
    .addOption(
      new Option('--retries <n>', 'try so often again where the connection fails (default 0)').argParser(
        parseRetries,
      ),
    )
}

/** The part of the options that they are. */
export function patienceOf(
  flags: PatienceFlags,
): Partial<Pick<SyncOptions, 'timeoutMs' | 'lockWaitMs' | 'retries'>> {
  return {
    ...(flags.timeout === undefined ? {} : { timeoutMs: flags.timeout }),
    ...(flags.lockWait === undefined ? {} : { lockWaitMs: flags.lockWait }),
    ...(flags.retries === undefined ? {} : { retries: flags.retries }),
  }
}

function parseRetries(text: string): number {
  const retries = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN
  if (retries <= MAX_RETRIES) return retries
  throw new SyncError(
    'usage',
    `--retries is a number from 0 to ${MAX_RETRIES}, not '${text}'; nothing was opened`,
    { operand: '--retries', hint: 'Write for example --retries 10.' },
  )
}
