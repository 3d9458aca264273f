// What is measured over ssh: the situations of a disk that is kept equal, each with its images, the tools that are run on
// them in turn, and what must be put back between two runs. A run whose result is wrong ends the benchmark.

import { existsSync } from 'node:fs'
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { findProgram } from '../test/support/needs.js'
import type { Sshd } from '../test/support/sshd.js'
import {
  allocatedBytes,
  assertEqual,
  BLOCK_BYTES,
  GIB,
  makeRandomFile,
  makeSparseFile,
  makeUsedImage,
  overwriteBlocks,
  pickBlocks,
  type Piece,
  scatter,
  warm,
} from './images.js'
import { measure, type Sample } from './measure.js'
import { openRelay } from './relay.js'
import { blocksync, DD, isInstalled, rsync, XXHSUM, type Place, type Tool } from './tools.js'

export type Bench = Readonly<{
  directory: string
  sshd: Sshd
  /** dist/cli/main.js */
  program: string
  rounds: number
  /** Size of the identical disks. */
  sizeBytes: number
  signal: AbortSignal
  say: (text: string) => void
}>

/** All samples of one tool in one scenario. */
export type Series = Readonly<{ scenario: string; tool: string; samples: readonly Sample[] }>

/** Facts that bars are computed from, in bytes. */
export type Facts = Readonly<{ changedBytes?: number; allocatedBytes?: number }>

export type ScenarioResult = Readonly<{ title: string; series: readonly Series[]; facts: Facts }>

/** A round trip of a line between continents. */
export const ROUND_TRIP_MS = 50
const USED_SHARE = 0.6
const CHANGED_SHARE = 0.01
const SPARSE_BYTES = 1024 * GIB
const SPARSE_PIECES = 64

const OURS = blocksync('require')
const OURS_PLAIN = blocksync('off')

export const SCENARIOS = { identical, changed, first: firstCopy, latency, sparse } as const

export type ScenarioName = keyof typeof SCENARIOS

/** One tool in one situation, and what is put back before each of its runs. */
type Turn = Readonly<{ scenario: string; tool: Tool; place: Place; reset: () => Promise<void> }>

async function identical(bench: Bench): Promise<ScenarioResult> {
  const { sizeBytes } = bench
  const place = placeIn(bench, whole(sizeBytes))
  await makeRandomFile(place.source, sizeBytes, 'identical')
  await copyFlushed(place)
  const tools = [OURS, XXHSUM, rsync('delta'), OURS_PLAIN]
  const series = await inTurn(bench, turns('identical', tools, place, nothing))
  await removeImages(place)
  return { title: `${gib(sizeBytes)} of random data, identical on both ends`, series, facts: {} }
}

/** 1 % of the 4 KiB blocks of 1 GiB, chosen at random; beside it the same disk identical, which the bar refers to. */
async function changed(bench: Bench): Promise<ScenarioResult> {
  const sizeBytes = Math.min(GIB, bench.sizeBytes)
  const place = placeIn(bench, whole(sizeBytes))
  await makeRandomFile(place.source, sizeBytes, 'changed')
  await copyFlushed(place)
  const byteOffsets = pickBlocks(sizeBytes, Math.round((sizeBytes / BLOCK_BYTES) * CHANGED_SHARE), 'which')
  const age = (): Promise<void> => overwriteBlocks(place.destination, byteOffsets, 'older')
  const series = await inTurn(bench, [
    ...turns('identical', [OURS], place, nothing),
    ...turns('changed', [OURS, rsync('delta'), OURS_PLAIN], place, age),
  ])
  await removeImages(place)
  const title = `${gib(sizeBytes)}, 1 % of the 4 KiB blocks changed at random (${byteOffsets.length} blocks)`
  return { title, series, facts: { changedBytes: byteOffsets.length * BLOCK_BYTES } }
}

async function firstCopy(bench: Bench): Promise<ScenarioResult> {
  const sizeBytes = Math.min(2 * GIB, bench.sizeBytes)
  const place = placeIn(bench, whole(sizeBytes))
  const what = await makeUsedImage(place.source, sizeBytes, USED_SHARE, findProgram('mkfs.ext4'), 'used')
  const allocated = await allocatedBytes(place.source)
  const tools = [blocksync('require', 'create'), DD, rsync('whole'), blocksync('off', 'create')]
  const series = await inTurn(
    bench,
    turns('first copy', tools, place, () => rm(place.destination, { force: true })),
  )
  await removeImages(place)
  const title = `first copy of ${gib(sizeBytes)}, ${Math.round((allocated / sizeBytes) * 100)} % allocated: ${what}`
  return { title, series, facts: { allocatedBytes: allocated } }
}

async function latency(bench: Bench): Promise<ScenarioResult> {
  const sizeBytes = Math.min(GIB, bench.sizeBytes)
  const place = placeIn(bench, whole(sizeBytes))
  await makeRandomFile(place.source, sizeBytes, 'latency')
  await copyFlushed(place)
  await using relay = await openRelay(bench.sshd.port, ROUND_TRIP_MS / 2)
  const sshConfig = join(bench.directory, 'ssh_config_slow')
  const config = await readFile(bench.sshd.clientConfigPath, 'utf8')
  // The host key is known under the port of sshd itself.
  const known = `  HostKeyAlias [127.0.0.1]:${bench.sshd.port}\n  Port ${relay.port}`
  await writeFile(sshConfig, config.replace(/^ {2}Port .*$/m, known))
  const series = await inTurn(bench, [
    ...turns('no delay', [OURS], place, nothing),
    ...turns('delay', [OURS, rsync('delta'), OURS_PLAIN], { ...place, sshConfig }, nothing),
  ])
  await removeImages(place)
  return { title: `${gib(sizeBytes)}, identical, ${ROUND_TRIP_MS} ms round trip`, series, facts: {} }
}

/**
 * Only ours with the native core: rsync and dd read every hole, and so do we without the core, since Node.js cannot ask a
 * file for its holes. That takes half an hour a run.
 */
async function sparse(bench: Bench): Promise<ScenarioResult> {
  const dataBytes = Math.min(GIB, bench.sizeBytes)
  const pieces = scatter(SPARSE_BYTES, SPARSE_PIECES, dataBytes / SPARSE_PIECES, 'sparse')
  const place = placeIn(bench, pieces)
  await makeSparseFile(place.source, SPARSE_BYTES, pieces, 'sparse')
  const facts = { allocatedBytes: await allocatedBytes(place.source) }
  const remove = (): Promise<void> => rm(place.destination, { force: true })
  const series = await inTurn(bench, [
    ...turns('first copy', [blocksync('require', 'create')], place, remove),
    ...turns('identical', [OURS], place, nothing),
  ])
  await removeImages(place)
  return { title: `1 TiB with ${gib(dataBytes)} of data in ${SPARSE_PIECES} places`, series, facts }
}

/** A B C A B C...: what changes on the machine while we measure changes for all of them. */
async function inTurn(bench: Bench, all: readonly Turn[]): Promise<Series[]> {
  const samples = all.map((): Sample[] => [])
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const [index, { scenario, tool, place, reset }] of all.entries()) {
      if (!isInstalled(tool)) {
        if (round === 0) bench.say(`${scenario}: ${tool.program} is not installed and not measured`)
        continue
      }
      await reset()
      await warm(place.source, place.data)
      if (existsSync(place.destination)) await warm(place.destination, place.data)
      const sample = withOwnCount(tool, await measure(tool.argvs(place), bench.sshd, bench.signal))
      if (tool.leaves === 'copy') await assertEqual(place.source, place.destination, place.data)
      samples[index]?.push(sample)
      bench.say(`${scenario}, ${tool.name}: ${sample.wallSeconds.toFixed(2)} s`)
    }
  }
  return all.flatMap(({ scenario, tool }, index) => {
    const mine = samples[index] ?? []
    return mine.length === 0 ? [] : [{ scenario, tool: tool.name, samples: mine }]
  })
}

function turns(scenario: string, tools: readonly Tool[], place: Place, reset: () => Promise<void>): Turn[] {
  return tools.map((tool) => ({ scenario, tool, place, reset }))
}

async function nothing(): Promise<void> {
  // both disks are as they were
}

function whole(sizeBytes: number): Piece[] {
  return [{ offset: 0, length: sizeBytes }]
}

/** Ours counts what it gives to ssh and gets from it, and says so in its result. */
function withOwnCount(tool: Tool, sample: Sample): Sample {
  if (tool.program !== 'blocksync') return sample
  const result: unknown = JSON.parse(sample.stdout.trim().split('\n').at(-1) ?? '')
  if (typeof result !== 'object' || result === null) throw new Error(`not a result: ${sample.stdout}`)
  const { wireBytesSent, wireBytesReceived } = result as Readonly<Record<string, unknown>>
  return { ...sample, wireBytes: Number(wireBytesSent) + Number(wireBytesReceived) }
}

function placeIn(bench: Bench, data: readonly Piece[]): Place {
  return {
    source: join(bench.directory, 'source.img'),
    destination: join(bench.directory, 'destination.img'),
    sshConfig: bench.sshd.clientConfigPath,
    program: bench.program,
    data,
  }
}

async function copyFlushed({ source, destination }: Place): Promise<void> {
  await copyFile(source, destination)
  await overwriteBlocks(destination, [], '')
}

async function removeImages({ source, destination }: Place): Promise<void> {
  await rm(source, { force: true })
  await rm(destination, { force: true })
}

function gib(bytes: number): string {
  return `${Number((bytes / GIB).toFixed(2))} GiB`
}
