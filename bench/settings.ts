// The benchmark's own options, completed and checked before anything is made. Refuses what it does not know, and names
// what there is.

import { tmpdir } from 'node:os'
import { parseArgs } from 'node:util'

import { denseSizes } from './growth.js'
import { GIB, MIB } from './images.js'
import type { Sizes } from './rounds.js'
import { type ScenarioName, SCENARIOS } from './scenarios.js'

export type PartName = ScenarioName | 'starts' | 'layers' | 'growth'

export type Settings = Readonly<{
  parts: readonly PartName[]
  rounds: number
  slowRounds: number
  sizes: Sizes
  directory: string
  format: 'text' | 'json'
  report: 'written' | 'written from a changed tree' | 'not written'
}>

const SCENARIO_NAMES = Object.keys(SCENARIOS) as ScenarioName[]
const PARTS: readonly PartName[] = ['starts', ...SCENARIO_NAMES, 'growth', 'layers']
const DEFAULT_ROUNDS = 5
const QUICK_ROUNDS = 3
/** Of what takes most of a minute a round: long and slow lines. */
const MAX_SLOW_ROUNDS = { full: 2, quick: 1 } as const
/** Less is over before it is measured. */
const LEAST_BYTES = 64 * MIB
const FULL = {
  used: 2 * GIB,
  random: GIB,
  line: 256 * MIB,
  slow: 128 * MIB,
  dense: 16 * GIB,
  sparse: 512 * GIB,
}
const QUICK = {
  used: GIB,
  random: 512 * MIB,
  line: 128 * MIB,
  slow: 64 * MIB,
  dense: 4 * GIB,
  sparse: 256 * GIB,
}
const IDENTICAL_BYTES = 4 * GIB

export const HELP = `npm run bench [-- OPTION...]
  --quick          ${QUICK_ROUNDS} rounds instead of ${DEFAULT_ROUNDS}, and smaller disks: at most 6 minutes instead of 20
  --rounds N       so many rounds
  --size 1G..      size of the identical disks (default ${IDENTICAL_BYTES / GIB}G); no other disk is larger than this
  --dense-to 64G   how far the dense disk grows, where the disk has room (default: what memory holds, at most ${FULL.dense / GIB}G)
  --only NAME...   ${PARTS.join(', ')}
  --directory DIR  where images are made (default: the directory for temporary files)
  --json           the result as JSON on stdout; the text goes to stderr
  --write          writes docs/benchmarks.md and docs/benchmarks.svg; refuses while src or native have uncommitted changes
  --dirty          writes them nevertheless; the report says so`

/** Throws an Error whose message is for the user. */
export async function settingsOf(words: readonly string[]): Promise<Settings | 'help'> {
  const { values, positionals } = parseArgs({
    args: [...words],
    allowPositionals: true,
    options: {
      quick: { type: 'boolean' },
      rounds: { type: 'string' },
      size: { type: 'string' },
      'dense-to': { type: 'string' },
      only: { type: 'string', multiple: true },
      directory: { type: 'string' },
      json: { type: 'boolean' },
      write: { type: 'boolean' },
      dirty: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help === true) return 'help'
  if (values.dirty === true && values.write !== true) throw new Error('--dirty is about --write')
  const isQuick = values.quick === true
  const directory = values.directory ?? tmpdir()
  const denseTo = values['dense-to'] === undefined ? null : sizeOf('--dense-to', values['dense-to'])
  const rounds = roundsOf(values.rounds, isQuick ? QUICK_ROUNDS : DEFAULT_ROUNDS)
  return {
    parts: partsOf(values.only, positionals),
    rounds,
    slowRounds: Math.min(rounds, isQuick ? MAX_SLOW_ROUNDS.quick : MAX_SLOW_ROUNDS.full),
    sizes: await sizesOf(
      values.size === undefined ? null : sizeOf('--size', values.size),
      isQuick ? QUICK : FULL,
      denseTo,
      directory,
    ),
    directory,
    format: values.json === true ? 'json' : 'text',
    report:
      values.write !== true
        ? 'not written'
        : values.dirty === true
          ? 'written from a changed tree'
          : 'written',
  }
}

function partsOf(only: readonly string[] | undefined, positionals: readonly string[]): readonly PartName[] {
  if (only === undefined && positionals[0] !== undefined)
    throw new Error(`what is "${positionals[0]}"? (names follow --only)`)
  const wanted = [...(only ?? []), ...positionals].flatMap((word) => word.split(','))
  const strange = wanted.find((name) => !PARTS.some((known) => known === name))
  if (strange !== undefined) throw new Error(`there is no "${strange}"; there are ${PARTS.join(', ')}`)
  return wanted.length === 0 ? PARTS : PARTS.filter((name) => wanted.includes(name))
}

function roundsOf(given: string | undefined, otherwise: number): number {
  const rounds = given === undefined ? otherwise : Number(given)
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a number from 1')
  return rounds
}

function sizeOf(option: string, given: string): number {
  const match = /^(\d+)([MG])$/.exec(given)
  if (match === null) throw new Error(`${option} takes a number with M or G`)
  const sizeBytes = Number(match[1]) * (match[2] === 'G' ? GIB : MIB)
  if (sizeBytes < LEAST_BYTES || sizeBytes % LEAST_BYTES !== 0)
    throw new Error(`${option} takes a multiple of 64M: less is over before it is measured`)
  return sizeBytes
}

/** `--size` is a lid on every disk, and on the data of the sparse ones. */
async function sizesOf(
  lidBytes: number | null,
  usual: typeof FULL,
  denseTo: number | null,
  directory: string,
): Promise<Sizes> {
  const most = (bytes: number): number => Math.min(bytes, lidBytes ?? bytes)
  const sparse: number[] = []
  // Each size is four times the one before: a line over them is steered by its far end, where time is most certain.
  for (let bytes = GIB; bytes < usual.sparse; bytes *= 4) sparse.push(bytes)
  return {
    identical: lidBytes ?? IDENTICAL_BYTES,
    used: most(usual.used),
    random: most(usual.random),
    line: most(usual.line),
    slow: most(usual.slow),
    sparseData: most(GIB),
    dense: await denseSizes(directory, denseTo, most(usual.dense)),
    sparse: [...sparse, usual.sparse],
  }
}
