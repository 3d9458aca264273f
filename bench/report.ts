// The report: all tables as one text, and the document and picture that --write makes of them. It says by which command
// and at which commit it was made, and on what; numbers without that are worth nothing.

import { spawnSync } from 'node:child_process'
import { cpus, release, totalmem } from 'node:os'

import { barsOf, type Results } from './bars.js'
import { GIB } from './images.js'
import type { LayerSeries } from './layer.js'
import { barTable, growthTable, layerTable, scenarioTable, startTable } from './tables.js'

export type Measured = Results & Readonly<{ layers: readonly LayerSeries[]; notes: readonly string[] }>

export type Machine = Readonly<{
  commit: string
  cpu: string
  cpuCount: number
  memoryGib: number
  kernel: string
  node: string
  ssh: string
  /** First lines of what the peers print about themselves. */
  peers: readonly string[]
  /** Load average of the minute before the first round. */
  loadBefore: number
}>

/** Whether src and native are as the commit has them; `unknown` outside a repository. */
export type Tree = Readonly<{ commit: string; state: 'committed' | 'changed' | 'unknown' }>

const PICTURE = 'benchmarks.svg'

export function treeOf(root: string): Tree {
  const commit = firstLine('git', ['-C', root, 'rev-parse', '--short', 'HEAD'])
  const words = ['-C', root, 'status', '--porcelain', '--', 'src', 'native']
  const { stdout, status } = spawnSync('git', words, { encoding: 'utf8', timeout: 10_000 })
  if (status !== 0 || commit === null) return { commit: 'unknown', state: 'unknown' }
  return { commit, state: stdout === '' ? 'committed' : 'changed' }
}

export function machine(tree: Tree, loadBefore: number): Machine {
  const processors = cpus()
  const changes = tree.state === 'changed' ? ' with uncommitted changes' : ''
  const versions = [
    firstLine('rsync', ['--version']),
    firstLine('nbdcopy', ['--version']),
    firstLine('nbdkit', ['--version']),
    firstLine('xxhsum', ['--version']),
    firstLine('dd', ['--version']),
  ]
  return {
    commit: tree.commit + changes,
    cpu: processors[0]?.model.trim() ?? 'unknown',
    cpuCount: processors.length,
    memoryGib: Math.round(totalmem() / GIB),
    kernel: `Linux ${release().split('.').slice(0, 2).join('.')}`,
    node: process.version,
    ssh: firstLine('ssh', ['-V'])?.split(',')[0] ?? 'ssh',
    peers: versions.filter((line) => line !== null).map((line) => line.replace(/\s+/g, ' ').trim()),
    loadBefore,
  }
}

/** The first line that a program prints, on whichever stream (ssh says its version on stderr); null where it is not there. */
function firstLine(program: string, words: readonly string[]): string | null {
  const { stdout, stderr, status } = spawnSync(program, words, { encoding: 'utf8', timeout: 10_000 })
  return status === 0 ? ((stdout + stderr).split('\n').find((line) => line.trim() !== '') ?? null) : null
}

/** All tables, each under its heading. */
export function sections(measured: Measured): string {
  const { scenarios, growth, starts, layers, notes } = measured
  const parts = [`## Bars\n\n${barTable(barsOf(measured))}`]
  for (const result of Object.values(scenarios)) parts.push(section(result.title, scenarioTable(result)))
  for (const result of growth) parts.push(section(`growth, ${result.title}`, growthTable(result).trimEnd()))
  if (starts.length > 0) parts.push(section('start-up', startTable(starts)))
  if (layers.length > 0) parts.push(section('layers, one by one', layerTable(layers)))
  if (notes.length > 0) parts.push(section('not measured', notes.map((note) => `- ${note}`).join('\n')))
  return parts.join('\n\n')
}

/** The lines below the picture. */
export function captionsOf(words: readonly string[], { commit, cpuCount, cpu, node }: Machine): string[] {
  return [
    `${commandOf(words)} at commit ${commit}`,
    `Both ends share ${cpuCount} processors (${cpu}); Node.js ${node}. The tables in benchmarks.md have the rest.`,
  ]
}

export function reportOf(
  words: readonly string[],
  rounds: number,
  here: Machine,
  measured: Measured,
  picture: 'drawn' | 'none',
): string {
  return `# Benchmarks

Written by \`${commandOf(words)}\` at commit ${here.commit}: medians of ${rounds} rounds (fewer where a
round takes long, as the columns from-to and the sections say), the tools in turn within each round, in the reverse order
in every other one.
${here.cpuCount} processors (${here.cpu}), ${here.memoryGib} GiB of memory, ${here.kernel}, Node.js ${here.node}, ${here.ssh}.
Beside it: ${here.peers.join('; ')}.
${picture === 'drawn' ? `\n![Times as multiples of a reference, and growth with the size of the disk](${PICTURE})\n` : ''}
## What these numbers are

- Both ends run on this one machine and share its processors: what is parallel on two hosts takes turns here.
- The network is the loopback device, so only ssh's encryption limits it. Where a delay or a speed is named, a relay on
  loopback holds bytes back; it loses none.
- All files were read before each run and come from the page cache, but for the rows that are called cold.
- Every tool flushes what it wrote before its time ends: we always do, the others by \`sync FILE\`, \`--fsync\` or \`--flush\`.
- The limit is two \`xxhsum -H2\` at once, one at each end: nothing can compare two disks without reading both.
- Every result was compared with its source byte by byte before its time counted (of the 1 TiB file: all that holds data).
- CPU seconds are of all processes of that end, ssh and sshd included.
- A peak is two numbers: of the largest process of that end (VmHWM), and of all its processes together, without ssh, where
  pages they share count in each.
- Wire bytes are as seen from the near end: ours as given to ssh and got from it, the others' as ssh counts them.
- The load of the machine in the minute before the first round was ${here.loadBefore.toFixed(1)}: well above 0, other work
  took part of these numbers.

${sections(measured)}
`
}

function commandOf(words: readonly string[]): string {
  return ['npm run bench', ...(words.length === 0 ? [] : ['--', ...words])].join(' ')
}

function section(title: string, body: string): string {
  return `## ${title.slice(0, 1).toUpperCase()}${title.slice(1)}\n\n${body}`
}
