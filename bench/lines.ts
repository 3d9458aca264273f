// The line between two hosts as it is in the world: far away, or slow. A relay on loopback stands for it; it holds bytes
// back, and loses none.

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { copyImage, copyPieces, makeRandomFile, sizeWords } from './images.js'
import { type Line, openRelay } from './relay.js'
import { type Bench, inTurn, placeIn, removeFiles, type ScenarioResult, turns } from './rounds.js'
import { blocksync, CAT, CAT_FROM_THERE, rsync, type Tool } from './tools.js'
import { makeUsedImage } from './used.js'

/** Between continents. */
export const ROUND_TRIP_MS = 50
/** Across one: what the window of one ssh channel leaves of the line is measured here. */
const THROUGHPUT_ROUND_TRIP_MS = 40
/** A fast Ethernet port, or a good line to a small office. */
const SLOW_BYTES_PER_SECOND = 12.5e6
const SLOW_ROUND_TRIP_MS = 10

const OURS = blocksync()

/** Identical, and a day later: with the delay and without. */
export async function latency(bench: Bench): Promise<ScenarioResult> {
  const disk = await bench.usedDisk()
  const place = placeIn(bench, disk.sizeBytes)
  const { path: later, pieces } = disk.aged['2 %']
  await copyImage(disk.path, place.destination, disk.data)
  const age = (): Promise<void> => copyPieces(disk.path, place.destination, pieces)
  const same = { ...place, source: disk.path }
  const day = { ...place, source: later }
  await using line = await openLine(bench, { oneWayMs: ROUND_TRIP_MS / 2, bytesPerSecond: null })
  const { sshConfig } = line
  const series = await inTurn(bench, [
    ...turns('no delay, identical', [OURS], same, age),
    ...turns('50 ms, identical', [OURS, rsync('delta')], { ...same, sshConfig }, age),
    ...turns('no delay, 2 % changed', [OURS], day, age),
    ...turns('50 ms, 2 % changed', [OURS, rsync('delta')], { ...day, sshConfig }, age),
  ])
  await removeFiles(place.destination)
  return {
    title: `a used disk of ${sizeWords(disk.sizeBytes)}, ${ROUND_TRIP_MS} ms round trip`,
    series,
    facts: {},
    references: { '50 ms, identical': rsync('delta').name, '50 ms, 2 % changed': rsync('delta').name },
  }
}

/** How much of a long line is used: random data that all must be sent, there and back. */
export async function throughput(bench: Bench): Promise<ScenarioResult> {
  const sizeBytes = bench.sizes.line
  const place = placeIn(bench, sizeBytes)
  await makeRandomFile(place.source, sizeBytes, 'line', bench.signal)
  await using line = await openLine(bench, { oneWayMs: THROUGHPUT_ROUND_TRIP_MS / 2, bytesPerSecond: null })
  const far = { ...place, sshConfig: line.sshConfig }
  const ours = (direction: 'push' | 'pull'): Tool[] => [
    blocksync({ destination: 'create', direction }),
    ...(bench.has.streams ? [blocksync({ destination: 'create', direction, words: ['--streams=1'] })] : []),
  ]
  const remove = (): Promise<void> => removeFiles(place.destination)
  const series = await inTurn(
    bench,
    [
      ...turns('40 ms, push', [...ours('push'), CAT], far, remove),
      ...turns('40 ms, pull', [...ours('pull'), CAT_FROM_THERE], far, remove),
    ],
    bench.slowRounds,
  )
  await removeFiles(place.source, place.destination)
  return {
    title: `first copy of ${sizeWords(sizeBytes)} of random data, ${THROUGHPUT_ROUND_TRIP_MS} ms round trip (${bench.slowRounds} rounds)`,
    series,
    facts: { sizeBytes },
    references: { '40 ms, push': CAT.name, '40 ms, pull': CAT_FROM_THERE.name },
  }
}

/** A first copy where the line is what takes time: compression is worth its processor time here. */
export async function slowLine(bench: Bench): Promise<ScenarioResult> {
  const sizeBytes = bench.sizes.slow
  const place = placeIn(bench, sizeBytes)
  const words = await makeUsedImage(place.source, sizeBytes, bench.signal)
  await using line = await openLine(bench, {
    oneWayMs: SLOW_ROUND_TRIP_MS / 2,
    bytesPerSecond: SLOW_BYTES_PER_SECOND,
  })
  const tools = [
    blocksync({ destination: 'create' }),
    ...(bench.has.compress
      ? [
          blocksync({ destination: 'create', words: ['-z'] }),
          blocksync({ destination: 'create', words: ['--compress=auto'] }),
        ]
      : []),
    rsync('whole, compressed'),
  ]
  const remove = (): Promise<void> => removeFiles(place.destination)
  const series = await inTurn(
    bench,
    turns('slow line', tools, { ...place, sshConfig: line.sshConfig }, remove),
    bench.slowRounds,
  )
  await removeFiles(place.source, place.destination)
  const speed = `${Math.round((SLOW_BYTES_PER_SECOND * 8) / 1e6)} Mbit/s`
  return {
    title: `first copy of ${sizeWords(sizeBytes)} over a line of ${speed} (${bench.slowRounds} rounds): ${words}`,
    series,
    facts: {},
    references: { 'slow line': rsync('whole, compressed').name },
  }
}

type OpenLine = AsyncDisposable & Readonly<{ sshConfig: string }>

/** A relay to sshd, and an ssh configuration that leads through it. */
async function openLine(bench: Bench, line: Line): Promise<OpenLine> {
  const relay = await openRelay(bench.sshd.port, line)
  const sshConfig = join(bench.directory, `ssh_config_${relay.port}`)
  const config = await readFile(bench.sshd.clientConfigPath, 'utf8')
  // The host key is known under the port of sshd itself.
  const through = `  HostKeyAlias [127.0.0.1]:${bench.sshd.port}\n  Port ${relay.port}`
  await writeFile(sshConfig, config.replace(/^ {2}Port .*$/m, through))
  return { sshConfig, [Symbol.asyncDispose]: () => relay[Symbol.asyncDispose]() }
}
