// One situation after the other, all tools in turn, in rounds: what is common to everything that is measured over ssh.
// A run of ours whose result is wrong, or that fails, ends the benchmark; a peer that fails is left out, and that is said.

import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'

import { run } from '../src/exec.js'
import { findProgram } from '../test/support/needs.js'
import type { Sshd } from '../test/support/sshd.js'
import { assertEqual, type Piece, warm } from './images.js'
import { measure, type Sample } from './measure.js'
import { missingFor, type Place, type Tool } from './tools.js'
import type { UsedDisk } from './used.js'

/** Sizes of what is measured, in bytes. */
export type Sizes = Readonly<{
  identical: number
  used: number
  random: number
  /** Sent over a long line. */
  line: number
  /** The disk that is copied over a slow line. */
  slow: number
  /** Data of the sparse disk. */
  sparseData: number
  dense: readonly number[]
  sparse: readonly number[]
}>

export type Bench = Readonly<{
  directory: string
  sshd: Sshd
  /** dist/cli/main.js */
  program: string
  /** Rounds of what takes most of a minute each: long and slow lines. */
  slowRounds: number
  /** What `--help` of the program names. */
  has: Readonly<{ streams: boolean; compress: boolean }>
  rounds: number
  sizes: Sizes
  /** The disk of a machine in use, made when it is first asked for. */
  usedDisk: () => Promise<UsedDisk>
  signal: AbortSignal
  say: (text: string) => void
}>

/** All samples of one tool in one situation. */
export type Series = Readonly<{ scenario: string; tool: string; samples: readonly Sample[] }>

/** Facts that bars are computed from. */
export type Facts = Readonly<{ changedBytes?: number; allocatedBytes?: number; sizeBytes?: number }>

/** `references` says for a situation whose time the picture takes for 1. */
export type ScenarioResult = Readonly<{
  title: string
  series: readonly Series[]
  facts: Facts
  references: Readonly<Record<string, string>>
}>

/** One tool in one situation, what is put back before each of its runs, and whether the disks are in the page cache. */
export type Turn = Readonly<{
  scenario: string
  tool: Tool
  place: Place
  reset: () => Promise<void>
  cache: 'warm' | 'cold'
}>

const DROP_TIMEOUT_MS = 60_000
/** A page or two are always read again: by whoever looks. */
const MAX_STILL_CACHED_SHARE = 0.02

/** A B C, C B A, A B C...: what changes on the machine while we measure changes for all of them. */
export async function inTurn(bench: Bench, all: readonly Turn[], rounds = bench.rounds): Promise<Series[]> {
  const samples = all.map((): Sample[] => [])
  const leftOut = new Set<number>()
  for (const [index, { tool }] of all.entries()) {
    const missing = missingFor(tool)
    if (missing.length === 0) continue
    leftOut.add(index)
    bench.say(`${tool.name}: not measured, there is no ${missing.join(' and no ')} here`)
  }
  for (let round = 0; round < rounds; round += 1) {
    const order = [...all.entries()].filter(([index]) => !leftOut.has(index))
    if (round % 2 === 1) order.reverse()
    for (const [index, turn] of order) {
      try {
        const sample = await oneRun(bench, turn)
        samples[index]?.push(sample)
        bench.say(`${turn.scenario}, ${turn.tool.name}: ${sample.wallSeconds.toFixed(2)} s`)
      } catch (error) {
        if (turn.tool.owner === 'us' || bench.signal.aborted) throw error
        leftOut.add(index)
        samples[index] = []
        const why = error instanceof Error ? error.message : String(error)
        bench.say(`${turn.scenario}, ${turn.tool.name}: left out, it failed: ${why}`)
      }
    }
  }
  return all.flatMap(({ scenario, tool }, index) => {
    const mine = samples[index] ?? []
    return mine.length === 0 ? [] : [{ scenario, tool: tool.name, samples: mine }]
  })
}

async function oneRun(bench: Bench, { tool, place, reset, cache }: Turn): Promise<Sample> {
  await reset()
  const paths = [place.source, place.destination].filter((path) => existsSync(path))
  for (const path of paths) {
    if (cache === 'cold') await dropCached(path, bench.signal)
    else await warm(path, place.data)
  }
  const sample = withOwnCount(tool, await measure(tool.work(place), bench.sshd, bench.signal))
  if (tool.leaves === 'copy') await assertEqual(place.source, place.destination, place.data)
  return sample
}

/** Drops the cached pages of one file, which must have been flushed, and makes sure of it where fincore can be asked. */
export async function dropCached(path: string, signal: AbortSignal): Promise<void> {
  const ask = async (...argv: [string, ...string[]]): Promise<string> => {
    const request = {
      argv,
      timeoutMs: DROP_TIMEOUT_MS,
      errorCode: 'internal',
      operand: path,
      signal,
    } as const
    const { exitStatus, stdout, stderrTail } = await run(request)
    if (exitStatus !== 0) throw new Error(`${argv.join(' ')} ended with ${exitStatus}: ${stderrTail}`)
    return stdout
  }
  await ask('dd', `if=${path}`, 'iflag=nocache', 'count=0', 'status=none')
  if (findProgram('fincore') === null) return
  const [cachedBytes = 0, sizeBytes = 0] = (await ask('fincore', '-b', '-n', '-r', '-o', 'RES,SIZE', path))
    .trim()
    .split(/\s+/)
    .map(Number)
  if (!(cachedBytes <= sizeBytes * MAX_STILL_CACHED_SHARE))
    throw new Error(`${cachedBytes} bytes of ${path} are still in the page cache`)
}

export function turns(
  scenario: string,
  tools: readonly Tool[],
  place: Place,
  reset: () => Promise<void>,
  cache: 'warm' | 'cold' = 'warm',
): Turn[] {
  return tools.map((tool) => ({ scenario, tool, place, reset, cache }))
}

export async function nothing(): Promise<void> {
  // both disks are as they were
}

/** Two paths of the benchmark's own directory, with data in `data`. */
export function placeIn(bench: Bench, sizeBytes: number, data: readonly Piece[] = whole(sizeBytes)): Place {
  return {
    directory: bench.directory,
    source: join(bench.directory, 'source.img'),
    destination: join(bench.directory, 'destination.img'),
    sizeBytes,
    sshConfig: bench.sshd.clientConfigPath,
    program: bench.program,
    data,
  }
}

export async function removeFiles(...paths: readonly string[]): Promise<void> {
  for (const path of paths) await rm(path, { force: true })
}

function whole(sizeBytes: number): Piece[] {
  return [{ offset: 0, length: sizeBytes }]
}

/** Ours counts what it gives to ssh and gets from it, and says so in its result. */
function withOwnCount(tool: Tool, sample: Sample): Sample {
  if (tool.owner !== 'us') return sample
  const result: unknown = JSON.parse(sample.stdout.trim().split('\n').at(-1) ?? '')
  if (typeof result !== 'object' || result === null) throw new Error(`not a result: ${sample.stdout}`)
  const { wireBytesSent, wireBytesReceived } = result as Readonly<Record<string, unknown>>
  return { ...sample, sentBytes: Number(wireBytesSent), receivedBytes: Number(wireBytesReceived) }
}
