// `npm run bench`: measures the layers and whole runs over a private sshd on loopback, beside rsync, dd and the limits,
// and says which bars are held. Refuses options that it does not know; leaves nothing behind but what --write names.

import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { cpus, loadavg, release, tmpdir, totalmem } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'

import { nativePath } from '../src/native.js'
import { sshdSkipReason, startSshd } from '../test/support/sshd.js'
import { type Bar, barsOf, type Results } from './bars.js'
import { GIB } from './images.js'
import { type LayerSeries, measureLayers } from './layers.js'
import { type Bench, type ScenarioName, SCENARIOS } from './scenarios.js'
import { barTable, layerTable, scenarioTable } from './tables.js'

/** The package's root, from dist-tools/bench/. */
const ROOT = join(import.meta.dirname, '..', '..')
const PROGRAM = join(ROOT, 'dist', 'cli', 'main.js')
const REPORT = join(ROOT, 'docs', 'benchmarks.md')
const NAMES = ['layers', ...Object.keys(SCENARIOS)] as readonly (ScenarioName | 'layers')[]
const DEFAULT_ROUNDS = 5
const QUICK_ROUNDS = 3

const HELP = `npm run bench [-- OPTION...]
  --quick          ${QUICK_ROUNDS} rounds instead of ${DEFAULT_ROUNDS}
  --rounds N       so many rounds
  --size 1G..      size of the identical disks (default 4G); the others take at most this
  --only NAME...   ${NAMES.join(', ')}
  --directory DIR  where images are made (default: the directory for temporary files)
  --json           the result as JSON on stdout; the text goes to stderr
  --write          writes docs/benchmarks.md`

type Settings = Readonly<{
  names: readonly (ScenarioName | 'layers')[]
  rounds: number
  sizeBytes: number
  directory: string
  format: 'text' | 'json'
  report: 'written' | 'not written'
}>

type Machine = Readonly<{
  commit: string
  cpu: string
  cpuCount: number
  memoryGib: number
  kernel: string
  node: string
  ssh: string
  /** Load average of the minute before the first round. */
  loadBefore: number
}>

/** Throws an Error whose message is for the user. */
function settingsOf(words: readonly string[]): Settings | 'help' {
  const { values, positionals } = parseArgs({
    args: [...words],
    allowPositionals: true,
    options: {
      quick: { type: 'boolean' },
      rounds: { type: 'string' },
      size: { type: 'string' },
      only: { type: 'string', multiple: true },
      directory: { type: 'string' },
      json: { type: 'boolean' },
      write: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help === true) return 'help'
  const only = [...(values.only ?? []), ...positionals].flatMap((word) => word.split(','))
  if (positionals.length > 0 && values.only === undefined)
    throw new Error(`what is "${positionals[0]}"? (names follow --only)`)
  const strange = only.find((name) => !NAMES.some((known) => known === name))
  if (strange !== undefined) throw new Error(`there is no "${strange}"; there are ${NAMES.join(', ')}`)
  const rounds =
    values.rounds === undefined
      ? values.quick === true
        ? QUICK_ROUNDS
        : DEFAULT_ROUNDS
      : Number(values.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a number from 1')
  const size = /^(\d+)([MG])$/.exec(values.size ?? '4G')
  if (size === null) throw new Error('--size takes a number with M or G')
  const sizeBytes = Number(size[1]) * (size[2] === 'G' ? GIB : 2 ** 20)
  if (sizeBytes < 64 << 20) throw new Error('--size is at least 64M: less is over before it is measured')
  return {
    names: only.length === 0 ? NAMES : NAMES.filter((name) => only.includes(name)),
    rounds,
    sizeBytes,
    directory: values.directory ?? tmpdir(),
    format: values.json === true ? 'json' : 'text',
    report: values.write === true ? 'written' : 'not written',
  }
}

function machine(loadBefore: number): Machine {
  const processors = cpus()
  return {
    commit: commit(),
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cpuCount: processors.length,
    memoryGib: Math.round(totalmem() / GIB),
    kernel: `Linux ${release().split('.').slice(0, 2).join('.')}`,
    node: process.version,
    ssh: firstLine('ssh', ['-V']).split(',')[0] ?? 'ssh',
    loadBefore,
  }
}

function commit(): string {
  const changed = firstLine('git', [
    '-C',
    ROOT,
    'status',
    '--porcelain',
    '--untracked-files=no',
    '--',
    'src',
    'native',
  ])
  return (
    firstLine('git', ['-C', ROOT, 'rev-parse', '--short', 'HEAD']) + (changed === '' ? '' : ' with changes')
  )
}

/** The first line that a program prints, on whichever stream: ssh says its version on stderr. */
function firstLine(program: string, words: readonly string[]): string {
  const { stdout, stderr, status } = spawnSync(program, words, { encoding: 'utf8', timeout: 10_000 })
  return status === 0 ? ((stdout + stderr).split('\n')[0] ?? '') : 'unknown'
}

async function measureAll(
  settings: Settings,
  signal: AbortSignal,
): Promise<{ results: Results; layers: LayerSeries[] }> {
  const reason = sshdSkipReason()
  if (reason !== null) throw new Error(reason)
  const directory = await mkdtemp(join(settings.directory, 'blocksync-bench-'))
  const sshd = await startSshd()
  const { rounds, sizeBytes } = settings
  const bench: Bench = {
    directory,
    sshd,
    program: PROGRAM,
    rounds,
    sizeBytes,
    signal,
    say: (text) => console.error(text),
  }
  const results: Results = {}
  let layers: LayerSeries[] = []
  try {
    for (const name of settings.names) {
      // The core's file is named for the machine; compiled tools look for it beside themselves.
      const flavour = nativePath()
      const corePath = join(ROOT, 'native', 'prebuilds', basename(dirname(flavour)), basename(flavour))
      if (name === 'layers') layers = await measureLayers(bench, corePath)
      else results[name] = await SCENARIOS[name](bench)
    }
    return { results, layers }
  } finally {
    await sshd.stop()
    await rm(directory, { recursive: true, force: true })
  }
}

function sections(results: Results, layers: readonly LayerSeries[], bars: readonly Bar[]): string {
  const parts = [`## Bars\n\n${barTable(bars)}`]
  for (const result of Object.values(results))
    parts.push(`## ${capital(result.title)}\n\n${scenarioTable(result)}`)
  if (layers.length > 0) parts.push(`## Layers, one by one\n\n${layerTable(layers)}`)
  return parts.join('\n\n')
}

function reportOf(settings: Settings, words: readonly string[], here: Machine, tables: string): string {
  return `# Benchmarks

Written by \`npm run bench -- ${words.join(' ')}\` at commit ${here.commit}: medians of ${settings.rounds} rounds, the tools
in turn within each round. ${here.cpuCount} processors (${here.cpu}), ${here.memoryGib} GiB of memory, ${here.kernel}, Node.js ${here.node},
${here.ssh}.

What distorts these numbers: both ends run on this one machine and share its processors, so what is parallel on two hosts
takes turns here; the network is the loopback device, so only ssh's encryption limits it; all files were read before each
run and come from the page cache, so no disk is slower than memory, but what is written is flushed to a real disk. CPU
seconds are of all processes of that end, ssh and sshd included. Peaks are of the largest process of that end (VmHWM). Wire
bytes are both directions together: ours as given to ssh, the others' as ssh counts them with its own framing.
Every result was compared with its source byte by byte before its time counted (of the 1 TiB file: all that holds data).
The machine's load in the minute before the first round was ${here.loadBefore.toFixed(1)}: well above 0, other work took part of these numbers.

${tables}
`
}

function capital(text: string): string {
  return text.slice(0, 1).toUpperCase() + text.slice(1)
}

async function main(words: readonly string[]): Promise<number> {
  let settings: Settings | 'help'
  try {
    settings = settingsOf(words)
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n\n${HELP}`)
    return 2
  }
  if (settings === 'help') {
    console.log(HELP)
    return 0
  }
  const interrupt = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => interrupt.abort(new Error(`${name} came`)))
  const loadBefore = loadavg()[0] ?? 0
  try {
    const { results, layers } = await measureAll(settings, interrupt.signal)
    const bars = barsOf(results)
    const here = machine(loadBefore)
    const tables = sections(results, layers, bars)
    if (settings.format === 'json')
      console.log(JSON.stringify({ machine: here, rounds: settings.rounds, bars, results, layers }, null, 2))
    if (settings.format === 'json') console.error(tables)
    else console.log(tables)
    if (settings.report === 'written') await writeFile(REPORT, reportOf(settings, words, here, tables))
    return 0
  } catch (error) {
    console.error(`\nThe benchmark stopped: ${error instanceof Error ? error.message : String(error)}`)
    return 1
  }
}

process.exitCode = await main(process.argv.slice(2))
