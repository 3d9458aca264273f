// The options of reading back, of receipts and of `blocksync digest`: added to commander's commands here, and a bare
// --verify given its value. Refuses a value in a word of its own, which could be an operand.

import { Option } from 'commander'
import type { Command } from 'commander'

import { SEED_BYTES } from '../digest/digester.js'
import type { AlgorithmName } from '../digest/digester.js'
import { SyncError } from '../errors.js'
import type { VerifyChoice } from '../options.js'
import { parseSize } from './units.js'
import { hasControlCharacter } from './words.js'

const VERIFY_CHOICES = ['written', 'all', 'none'] satisfies VerifyChoice[]
const DIGESTS = ['auto', 'xxh3-128', 'xxh64x2', 'sha256'] satisfies (AlgorithmName | 'auto')[]

/** --verify and --receipt of sync, --receipt of verify. */
export function addVerifyFlags(command: Command, kind: 'sync' | 'verify'): Command {
  if (kind === 'sync') {
    // the value in brackets is one word with the option (bareVerify), so that what follows it stays an operand
    command.addOption(
      new Option(
        '--verify [=what]',
        'after the flush, read back from the disk what was written (the default of --verify), or all of both disks',
      ).choices(VERIFY_CHOICES),
    )
  }
  const text =
    kind === 'sync'
      ? 'write a receipt: what was made equal to what, by which digest (JSON)'
      : 'write a receipt where the two are identical; with one DISK alone: compare it with that receipt'
  return command.addOption(new Option('--receipt <file>', text).argParser(parseFile))
}

/** All options of `blocksync digest` but --native. */
export function addDigestFlags(command: Command): Command {
  return command
    .addOption(
      new Option('--digest <name>', 'auto (default, the best that works here), xxh3-128, xxh64x2 or sha256')
        .choices(DIGESTS)
        .conflicts('receipt'),
    )
    .addOption(
      new Option('--seed <hex>', 'the seed, 16 bytes (default: zeros)')
        .argParser(parseSeed)
        .conflicts('receipt'),
    )
    .addOption(
      new Option('--receipt <file>', 'take digest, seed, sizes and length from a receipt').argParser(
        parseFile,
      ),
    )
    .addOption(sizeOption('--block-size', 'unit of the digest (default 1M)'))
    .addOption(sizeOption('--granularity', 'unit below it (default 4K)'))
    .addOption(sizeOption('--length', 'only so much of the disk, from its start'))
    .option('--json', 'one JSON result on stdout')
}

function sizeOption(name: string, text: string): Option {
  return new Option(`${name} <size>`, text)
    .argParser((value: string) => parseSize(name, value))
    .conflicts('receipt')
}

/**
 * A bare `--verify` becomes `--verify=written`: its value is only ever in the same word. Words behind `--` stay. Rejects
 * with `usage` where the next word is a value.
 */
export function bareVerify(words: readonly string[]): string[] {
  const end = words.includes('--') ? words.indexOf('--') : words.length
  return words.map((word, index) => {
    if (index >= end || word !== '--verify') return word
    const next = words[index + 1] ?? ''
    if (index + 1 < end && VERIFY_CHOICES.some((choice) => choice === next))
      throw new SyncError(
        'usage',
        `--verify takes its value in the same word, and ${next} is the next one; nothing was opened`,
        { operand: '--verify', hint: `Write --verify=${next}, or ${next}: for a host of that name.` },
      )
    return '--verify=written'
  })
}

function parseFile(text: string): string {
  if (text !== '' && !hasControlCharacter(text)) return text
  throw new SyncError('usage', '--receipt needs the name of a file; nothing was opened', {
    operand: '--receipt',
    hint: 'Was a shell variable empty?',
  })
}

/** The value of --seed. Rejects with `usage`. */
function parseSeed(text: string): string {
  const seed = text.toLowerCase()
  if (seed.length === SEED_BYTES * 2 && /^[0-9a-f]*$/.test(seed)) return seed
  throw new SyncError('usage', `--seed is ${SEED_BYTES} bytes in hex, not '${text}'; nothing was opened`, {
    operand: '--seed',
    hint: 'Leave it away for the seed of zeros, or copy that of a receipt.',
  })
}
