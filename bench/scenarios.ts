// What is measured over ssh on this machine: the situations of a disk that is kept equal, each with its images and the
// tools that are run on them in turn. What is about the line between the hosts is in lines.ts.

import { cp } from 'node:fs/promises'

import {
  copyImage,
  copyPieces,
  GIB,
  makeRandomFile,
  makeSparseFile,
  MIB,
  scatter,
  sizeWords,
  syncFile,
} from './images.js'
import { latency, slowLine, throughput } from './lines.js'
import { type Bench, inTurn, nothing, placeIn, removeFiles, type ScenarioResult, turns } from './rounds.js'
import {
  BDSYNC_PATCH,
  blocksync,
  CAT,
  DD,
  FETCHED_DIGESTS,
  NBDCOPY,
  type Place,
  rsync,
  SSH_TRUE,
  XXHSUM,
} from './tools.js'

const SPARSE_BYTES = 1024 * GIB
const SPARSE_PIECES = 64
/** So small that only starting and connecting take time. */
const START_BYTES = 64 * MIB

const OURS = blocksync()
const COMPARING_PEERS = [rsync('delta'), BDSYNC_PATCH, FETCHED_DIGESTS] as const

export const SCENARIOS = {
  start,
  identical,
  changed,
  first: firstCopy,
  different,
  sparse,
  latency,
  throughput,
  slow: slowLine,
  cold,
} as const

export type ScenarioName = keyof typeof SCENARIOS

/** Dense random data, so that nothing but reading and digesting can be saved. */
async function identical(bench: Bench): Promise<ScenarioResult> {
  const sizeBytes = bench.sizes.identical
  const place = placeIn(bench, sizeBytes)
  await makeRandomFile(place.source, sizeBytes, 'identical', bench.signal)
  await copyWhole(place)
  const tools = [OURS, XXHSUM, ...COMPARING_PEERS, blocksync({ native: 'off' })]
  const series = await inTurn(bench, turns('identical', tools, place, nothing))
  await removeFiles(place.source, place.destination)
  const title = `${sizeWords(sizeBytes)} of random data, identical on both ends`
  return { title, series, facts: { sizeBytes }, references: { identical: XXHSUM.name } }
}

/** Three sets in turn: the disk as it was, a little later, a day later; the destination is always as it was. */
async function changed(bench: Bench): Promise<ScenarioResult> {
  const disk = await bench.usedDisk()
  const place = placeIn(bench, disk.sizeBytes)
  await copyImage(disk.path, place.destination, disk.data)
  const age = async (): Promise<void> => {
    for (const { pieces } of Object.values(disk.aged)) await copyPieces(disk.path, place.destination, pieces)
  }
  const little = { ...place, source: disk.aged['0.1 %'].path }
  const day = { ...place, source: disk.aged['2 %'].path }
  const series = await inTurn(bench, [
    ...turns('same', [OURS, XXHSUM], { ...place, source: disk.path }, age),
    ...turns('0.1 % changed', [OURS, XXHSUM, ...COMPARING_PEERS], little, age),
    ...turns('2 % changed', [OURS, XXHSUM, ...COMPARING_PEERS, blocksync({ native: 'off' })], day, age),
  ])
  await removeFiles(place.destination)
  return {
    title: `a used disk of ${sizeWords(disk.sizeBytes)} (${disk.words}), 0.1 % and 2 % of its 4 KiB blocks changed`,
    series,
    facts: { changedBytes: disk.aged['2 %'].changedBytes, sizeBytes: disk.sizeBytes },
    references: { same: XXHSUM.name, '0.1 % changed': XXHSUM.name, '2 % changed': XXHSUM.name },
  }
}

async function firstCopy(bench: Bench): Promise<ScenarioResult> {
  const disk = await bench.usedDisk()
  const place = { ...placeIn(bench, disk.sizeBytes), source: disk.path }
  const tools = [blocksync({ destination: 'create' }), NBDCOPY, DD, CAT, rsync('whole')]
  const remove = (): Promise<void> => removeFiles(place.destination)
  const series = await inTurn(bench, turns('first copy', tools, place, remove))
  await remove()
  const share = Math.round((disk.allocatedBytes / disk.sizeBytes) * 100)
  return {
    title: `first copy of ${sizeWords(disk.sizeBytes)}, ${share} % allocated: ${disk.words}`,
    series,
    facts: { allocatedBytes: disk.allocatedBytes },
    references: { 'first copy': NBDCOPY.name },
  }
}

/** Everything must be sent, and something must be read and compared before: the worst case for who compares. */
async function different(bench: Bench): Promise<ScenarioResult> {
  const sizeBytes = bench.sizes.random
  const place = placeIn(bench, sizeBytes)
  const other = `${place.destination}.other`
  await makeRandomFile(place.source, sizeBytes, 'one', bench.signal)
  await makeRandomFile(other, sizeBytes, 'other', bench.signal)
  await makeSparseFile(place.destination, sizeBytes, [], '')
  const reset = (): Promise<void> => copyPieces(other, place.destination, place.data)
  const lanes = bench.has.streams ? [blocksync({ words: ['--streams=4'] })] : []
  const tools = [OURS, ...lanes, CAT, NBDCOPY, DD]
  const series = await inTurn(bench, turns('all different', tools, place, reset))
  await removeFiles(place.source, place.destination, other)
  const title = `${sizeWords(sizeBytes)} of random data over other random data`
  return { title, series, facts: { sizeBytes }, references: { 'all different': CAT.name } }
}

/** Who reads holes is not asked: rsync and dd take half an hour, and so do we without the core, since Node.js cannot ask for holes. */
async function sparse(bench: Bench): Promise<ScenarioResult> {
  const dataBytes = bench.sizes.sparseData
  const pieces = scatter(SPARSE_BYTES, SPARSE_PIECES, dataBytes / SPARSE_PIECES, 'sparse')
  const place = placeIn(bench, SPARSE_BYTES, pieces)
  await makeSparseFile(place.source, SPARSE_BYTES, pieces, 'sparse', bench.signal)
  const remove = (): Promise<void> => removeFiles(place.destination)
  const copied = await inTurn(
    bench,
    turns('1 TiB sparse, first copy', [blocksync({ destination: 'create' })], place, remove),
  )
  // Once is enough to see it: it takes ten times as long, and would take most of the benchmark's time.
  const peer = await inTurn(bench, turns('1 TiB sparse, first copy', [NBDCOPY], place, remove), 1)
  await remove()
  await copyImage(place.source, place.destination, pieces)
  const same = await inTurn(bench, turns('1 TiB sparse, identical', [OURS], place, nothing))
  await removeFiles(place.source, place.destination)
  return {
    title: `1 TiB with ${sizeWords(dataBytes)} of data in ${SPARSE_PIECES} places`,
    series: [...copied, ...peer, ...same],
    facts: {},
    references: { '1 TiB sparse, first copy': NBDCOPY.name },
  }
}

/** Both files are on the disk and not in memory. What is between (a host's cache under a virtual disk) we cannot see. */
async function cold(bench: Bench): Promise<ScenarioResult> {
  const disk = await bench.usedDisk()
  const place = placeIn(bench, disk.sizeBytes)
  const { path: later, pieces } = disk.aged['2 %']
  await copyImage(disk.path, place.destination, disk.data)
  const age = (): Promise<void> => copyPieces(disk.path, place.destination, pieces)
  const same = { ...place, source: disk.path }
  const series = await inTurn(bench, [
    ...turns('cold, identical', [OURS, XXHSUM, rsync('delta')], same, age, 'cold'),
    ...turns('cold, 2 % changed', [OURS, XXHSUM, rsync('delta')], { ...place, source: later }, age, 'cold'),
  ])
  await removeFiles(place.destination)
  return {
    title: `a used disk of ${sizeWords(disk.sizeBytes)}, not in the page cache`,
    series,
    facts: {},
    references: { 'cold, identical': XXHSUM.name, 'cold, 2 % changed': XXHSUM.name },
  }
}

async function start(bench: Bench): Promise<ScenarioResult> {
  const place = placeIn(bench, START_BYTES)
  await makeRandomFile(place.source, START_BYTES, 'start', bench.signal)
  await copyWhole(place)
  const series = await inTurn(bench, turns('start', [OURS, SSH_TRUE], place, nothing))
  await removeFiles(place.source, place.destination)
  return {
    title: `${sizeWords(START_BYTES)}, identical: what starting and connecting take`,
    series,
    facts: {},
    references: {},
  }
}

async function copyWhole({ source, destination }: Place): Promise<void> {
  await cp(source, destination)
  await syncFile(destination)
}
