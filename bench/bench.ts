// `npm run bench`: measures the layers and whole runs over a private sshd on loopback, beside the tools one could take
// instead and the limits, and says which bars are held. Refuses options that it does not know; leaves nothing behind but
// what --write names.

import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { loadavg } from 'node:os'
import { basename, dirname, join } from 'node:path'

import { nativePath } from '../src/native.js'
import { type Sshd, sshdSkipReason, startSshd } from '../test/support/sshd.js'
import { barsOf, type Results } from './bars.js'
import { type Growth, measureGrowth } from './growth.js'
import type { LayerSeries } from './layer.js'
import { measureLayers } from './layers.js'
import { pictureOf } from './picture.js'
import { captionsOf, machine, type Measured, reportOf, sections, treeOf } from './report.js'
import type { Bench } from './rounds.js'
import { SCENARIOS } from './scenarios.js'
import { HELP, type Settings, settingsOf } from './settings.js'
import { measureStarts, type StartSeries } from './starts.js'
import { makeUsedDisk, type UsedDisk } from './used.js'

/** The package's root, from dist-tools/bench/. */
const ROOT = join(import.meta.dirname, '..', '..')
const PROGRAM = join(ROOT, 'dist', 'cli', 'main.js')
const REPORT = join(ROOT, 'docs', 'benchmarks.md')
const PICTURE = join(ROOT, 'docs', 'benchmarks.svg')

function benchOf(settings: Settings, directory: string, sshd: Sshd, signal: AbortSignal): Bench {
  const { rounds, slowRounds, sizes } = settings
  const help = spawnSync(process.execPath, [PROGRAM, '--help'], { encoding: 'utf8', timeout: 20_000 })
  if (help.status !== 0) throw new Error(`${PROGRAM} --help ended with ${help.status}: ${help.stderr}`)
  let disk: Promise<UsedDisk> | null = null
  return {
    directory,
    sshd,
    program: PROGRAM,
    has: { streams: help.stdout.includes('--streams'), compress: help.stdout.includes('--compress') },
    rounds,
    slowRounds,
    sizes,
    usedDisk: () => (disk ??= makeUsedDisk(directory, 'used', sizes.used, signal)),
    signal,
    say: (text) => console.error(text),
  }
}

async function measureAll(settings: Settings, signal: AbortSignal): Promise<Measured> {
  const reason = sshdSkipReason()
  if (reason !== null) throw new Error(reason)
  const directory = await mkdtemp(join(settings.directory, 'blocksync-bench-'))
  try {
    const sshd = await startSshd()
    try {
      return await measureParts(settings, benchOf(settings, directory, sshd, signal))
    } finally {
      await sshd.stop()
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function measureParts(settings: Settings, quiet: Bench): Promise<Measured> {
  const notes = new Set<string>()
  const say = (text: string): void => {
    quiet.say(text)
    // The report must say why a row is missing; which programs failed with what is for the terminal.
    if (/: (not measured|left out|nothing above)/.test(text))
      notes.add(text.replace(/it failed:.*/s, 'it failed'))
  }
  const bench: Bench = { ...quiet, say }
  const scenarios: { -readonly [name in keyof Results['scenarios']]: Results['scenarios'][name] } = {}
  let growth: Growth[] = []
  let layers: LayerSeries[] = []
  let starts: StartSeries[] = []
  for (const part of settings.parts) {
    if (part === 'growth') growth = await measureGrowth(bench)
    else if (part === 'starts') starts = await measureStarts(bench)
    else if (part === 'layers') layers = await measureLayers(bench, corePath())
    else scenarios[part] = await SCENARIOS[part](bench)
  }
  return { scenarios, growth, starts, layers, notes: [...notes] }
}

/** The core's file is named for the machine; compiled tools look for it beside themselves. */
function corePath(): string {
  const flavour = nativePath()
  return join(ROOT, 'native', 'prebuilds', basename(dirname(flavour)), basename(flavour))
}

function checkTree(settings: Settings): void {
  if (settings.report !== 'written' || treeOf(ROOT).state !== 'changed') return
  throw new Error(
    'src or native have changes that are in no commit, so nobody could measure the same again; nothing was measured. Commit them, or add --dirty: the report then says so.',
  )
}

async function main(words: readonly string[]): Promise<number> {
  let settings: Settings | 'help'
  try {
    settings = await settingsOf(words)
  } catch (error) {
    console.error(`${messageOf(error)}\n\n${HELP}`)
    return 2
  }
  if (settings === 'help') {
    console.log(HELP)
    return 0
  }
  const interrupt = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(name, () => interrupt.abort(new Error(`${name} came`)))
  const loadBefore = loadavg()[0] ?? 0
  try {
    checkTree(settings)
    const measured = await measureAll(settings, interrupt.signal)
    const here = machine(treeOf(ROOT), loadBefore)
    const { rounds } = settings
    if (settings.format === 'json')
      console.log(JSON.stringify({ machine: here, rounds, bars: barsOf(measured), ...measured }, null, 2))
    if (settings.format === 'json') console.error(sections(measured))
    else console.log(sections(measured))
    if (settings.report !== 'not written') {
      const picture = pictureOf(measured, captionsOf(words, here))
      if (picture !== null) await writeFile(PICTURE, picture)
      const text = reportOf(words, rounds, here, measured, picture === null ? 'none' : 'drawn')
      await writeFile(REPORT, text)
    }
    return 0
  } catch (error) {
    console.error(`\nThe benchmark stopped: ${messageOf(error)}`)
    return 1
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

process.exitCode = await main(process.argv.slice(2))
