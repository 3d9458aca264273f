// What a configuration takes from the command line: each value of a job goes through the function that has it from the words
// of `blocksync sync`. Refuses options that a job has no use for, by name.

import { Command } from 'commander'
import type { Option } from 'commander'

import type { ConfigParsers, GivenOptions, JobOption } from '../config/parsers.js'
import { SyncError } from '../errors.js'
import { forceOption, GUARD_NAMES } from '../guard/guard-name.js'
import type { SyncOptions } from '../options.js'
import type { DiskPair } from '../sync/report.js'
import { addConnectionFlags, addSyncFlags, bareCompress } from './flags.js'
import type { SyncFlags } from './flags.js'
import { parsePairs, remoteOf } from './pairs.js'
import { optionsOf } from './settings.js'
import { parseBwlimit } from './timetable.js'
import { parseDuration, parseSize } from './units.js'
import { bareVerify } from './verify-flags.js'
import { splitWords } from './words.js'

const PRINTED = 'what is printed is for the command line of blocksync replicate'
const KEPT = 'every attempt keeps what it overwrites, until its generation is no longer kept'
const ALONE = 'a job writes to nothing that is in use, unwatched; type it once by hand with replicate run'

const REFUSED: ReadonlyMap<string, string> = new Map([
  ['dry-run', 'an attempt writes; blocksync verify compares'],
  ['create', 'an attempt makes a destination that is missing when it is the first one'],
  ['yes', 'what the destination holds is overwritten without a question only by hand'],
  ['size', 'a replica always grows with its source'],
  ['disk', 'write source and destination, or disks'],
  ['receipt', 'the record of the replica has the digests of each generation'],
  ['rescue', 'a replica of a disk that cannot be read is none'],
  ['resume', 'each attempt is planned afresh'],
  ['no-resume', 'each attempt is planned afresh'],
  ['undo', KEPT],
  ['undo-dir', KEPT],
  ['undo-max', KEPT],
  ['retries', 'an attempt that failed is begun again by itself'],
  ['state-dir', 'it is state_dir, for all jobs'],
  ['verbose', PRINTED],
  ['quiet', PRINTED],
  ['progress', PRINTED],
  ['no-progress', PRINTED],
  ['json', PRINTED],
  ['stats', PRINTED],
  ...GUARD_NAMES.map((name): [string, string] => [forceOption(name).slice('--'.length), ALONE]),
])

/** Files: `~` and the working directory are a shell's. */
const PATHS: readonly string[] = ['identity', 'ssh-config']

let made: ConfigParsers | null = null

/** The parsers of this command line: one object for a process, by which the reader keeps what it made of them. */
export function configParsers(): ConfigParsers {
  made ??= makeParsers()
  return made
}

function makeParsers(): ConfigParsers {
  const farSide = new Set(addConnectionFlags(new Command()).options.map((option) => option.name()))
  const known = new Map(
    addSyncFlags(new Command(), 'sync')
      .options.filter((option) => !REFUSED.has(nameOf(option)))
      .map((option) => [nameOf(option), option]),
  )
  return {
    sizeBytes: parseSize,
    rate: parseBwlimit,
    durationMs: parseDuration,
    words: (key, text) => {
      const [program = '', ...words] = splitWords(key, text)
      return [program, ...words]
    },
    pair: (source, destination) => onePair(source, destination),
    jobOptions: Array.from(known.values(), (option) => jobOption(option, farSide)),
    refusedOptions: REFUSED,
    checkOption: (name, values) => {
      flagsOf(new Map([[name, values]]), known)
    },
    syncOptions: (given, stateDir, pair) => syncOptionsOf(flagsOf(given, known), stateDir, pair),
  }
}

function onePair(source: string, destination: string): DiskPair {
  // nothing here is asked of this machine: what a name means is the same tomorrow
  const [pair] = parsePairs([source, destination], [], { cwd: '/', isFile: () => false })
  if (pair === undefined) throw new SyncError('internal', 'two operands are one pair')
  return pair
}

function syncOptionsOf(flags: SyncFlags, stateDir: string | null, pair: DiskPair): SyncOptions {
  return optionsOf(stateDir === null ? flags : { ...flags, stateDir }, 'sync', remoteOf([pair]))
}

/** The long name as it is typed, without dashes; commander's own leaves out the `no-`. */
function nameOf({ long, short }: Option): string {
  return (long ?? short ?? '').replace(/^--?/, '')
}

function jobOption(option: Option, farSide: ReadonlySet<string>): JobOption {
  const name = nameOf(option)
  return {
    name,
    help: option.description,
    kind: option.isBoolean() ? 'switch' : isRepeatable(name) ? 'list' : 'text',
    choices: option.argChoices ?? null,
    bare: option.optional ? { on: bareValue(name), off: 'none' } : null,
    about: farSide.has(name) ? 'far-side' : 'run',
  }
}

function isRepeatable(name: string): boolean {
  return name === 'identity'
}

/** What the option means where it stands alone. */
function bareValue(name: string): string {
  const [word = ''] = bareVerify(bareCompress([`--${name}`]))
  return word.slice(word.indexOf('=') + 1)
}

/** What commander would make of `--name value`, for each value; rejects with `usage`. */
function flagsOf(given: GivenOptions, known: ReadonlyMap<string, Option>): SyncFlags {
  const flags: Record<string, unknown> = {}
  for (const [name, values] of given) {
    const option = known.get(name)
    if (option === undefined) throw new SyncError('internal', `no option ${name}`)
    for (const value of values) {
      if (PATHS.includes(name) && !value.startsWith('/'))
        throw new SyncError('usage', `${value} is not an absolute path; nothing was opened`, {
          operand: `--${name}`,
        })
      const attribute = option.attributeName()
      if (option.isBoolean()) flags[attribute] = true
      else flags[attribute] = option.parseArg?.(value, flags[attribute]) ?? value
    }
  }
  return flags
}
