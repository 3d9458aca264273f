// How the cost of an identical run grows with the disk: points, and the straight line that fits them best. A disk that is
// too large for the page cache is measured too where it was asked for, but its time is the disk's and is not in the line.

import { statfs } from 'node:fs/promises'
import { freemem } from 'node:os'
import { join } from 'node:path'

import { GIB, growSparseFile, makeSparseFile, MIB, type Piece, sizeWords } from './images.js'
import { cpuSecondsOf, medianOf, peakOf } from './medians.js'
import { type Bench, inTurn, nothing, placeIn, removeFiles, turns } from './rounds.js'
import { blocksync, type Place } from './tools.js'

export type GrowthKind = 'dense' | 'sparse'

/** Medians of one size. CPU seconds are of both ends; the peak is of one end, all its processes. */
export type GrowthPoint = Readonly<{
  sizeBytes: number
  wallSeconds: number
  cpuSeconds: number
  peakBytes: number | null
  /** Whether both files fitted into memory. */
  cached: boolean
}>

/**
 * `seconds = secondsPerGib * GiB + fixedSeconds`. `largestDeviation` is the largest distance of a point from the line, as
 * a part of the largest value.
 */
export type StraightLine = Readonly<{
  secondsPerGib: number
  fixedSeconds: number
  rSquared: number
  largestDeviation: number
}>

export type Growth = Readonly<{
  kind: GrowthKind
  title: string
  points: readonly GrowthPoint[]
  wall: StraightLine | null
  cpu: StraightLine | null
}>

/** More rounds make the points no better than this many do. */
const MAX_GROWTH_ROUNDS = 3
/** Data of a sparse disk for each GiB of it: as a disk that was just given to a guest. */
const SPARSE_DATA_PER_GIB = 8 * MIB
/** Of free memory and of room on the disk, what two files may take: others live here too. */
const MEMORY_SHARE = 0.75
const ROOM_SHARE = 0.5

/** Measures both kinds, each with a file here and a file there that grow from size to size. */
export async function measureGrowth(bench: Bench): Promise<Growth[]> {
  return [
    await growth(bench, 'dense', bench.sizes.dense, (from, to) => [{ offset: from, length: to - from }]),
    await growth(bench, 'sparse', bench.sizes.sparse, (from, to) => {
      const pieces: Piece[] = []
      for (let offset = from; offset < to; offset += GIB)
        pieces.push({ offset, length: Math.min(SPARSE_DATA_PER_GIB, to - offset) })
      return pieces
    }),
  ]
}

async function growth(
  bench: Bench,
  kind: GrowthKind,
  sizes: readonly number[],
  dataBetween: (from: number, to: number) => readonly Piece[],
): Promise<Growth> {
  const points: GrowthPoint[] = []
  const place = placeIn(bench, 0)
  const files = [join(bench.directory, 'source.img'), join(bench.directory, 'destination.img')]
  const memoryBytes = availableMemoryBytes()
  for (const file of files) await makeSparseFile(file, 0, [], '')
  let madeBytes = 0
  let data: readonly Piece[] = []
  for (const sizeBytes of sizes) {
    const more = dataBetween(madeBytes, sizeBytes)
    const moreBytes = 2 * lengthOf(more)
    if (moreBytes > (await roomBytes(bench.directory)) * ROOM_SHARE) {
      bench.say(`growth, ${kind}: nothing above ${sizeWords(madeBytes)}, the disk has no room for it`)
      break
    }
    for (const file of files)
      await growSparseFile(file, sizeBytes, more, `${kind} ${sizeBytes}`, bench.signal)
    madeBytes = sizeBytes
    data = [...data, ...more]
    const cached = 2 * lengthOf(data) <= memoryBytes * MEMORY_SHARE
    points.push(await pointOf(bench, kind, { ...place, sizeBytes, data }, cached))
  }
  await removeFiles(...files)
  const what =
    kind === 'dense' ? 'random data' : `${sizeWords(SPARSE_DATA_PER_GIB)} of random data in each GiB`
  return {
    kind,
    title: `${kind}: ${what}, identical on both ends`,
    points,
    wall: fitLine(
      points.filter(({ cached }) => cached).map((point) => [point.sizeBytes / GIB, point.wallSeconds]),
    ),
    cpu: fitLine(points.map((point) => [point.sizeBytes / GIB, point.cpuSeconds])),
  }
}

async function pointOf(bench: Bench, kind: GrowthKind, place: Place, cached: boolean): Promise<GrowthPoint> {
  const rounds = Math.min(bench.rounds, MAX_GROWTH_ROUNDS)
  const scenario = `growth, ${kind}, ${sizeWords(place.sizeBytes)}`
  const series = await inTurn(bench, turns(scenario, [blocksync()], place, nothing), rounds)
  const samples = series[0]?.samples ?? []
  return {
    sizeBytes: place.sizeBytes,
    wallSeconds: medianOf(samples, ({ wallSeconds }) => wallSeconds) ?? 0,
    cpuSeconds: medianOf(samples, cpuSecondsOf) ?? 0,
    peakBytes: medianOf(samples, (sample) => peakOf(sample, 'summedBytes')),
    cached,
  }
}

/** The line with the least sum of squared distances; null of fewer than three points, which are always near one. */
export function fitLine(points: readonly (readonly [gib: number, seconds: number])[]): StraightLine | null {
  if (points.length < 3) return null
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length
  const meanX = mean(points.map(([x]) => x))
  const meanY = mean(points.map(([, y]) => y))
  const squares = (values: readonly number[]): number => values.reduce((sum, value) => sum + value * value, 0)
  const slope =
    points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) /
    squares(points.map(([x]) => x - meanX))
  const fixed = meanY - slope * meanX
  const distances = points.map(([x, y]) => y - (slope * x + fixed))
  const spread = squares(points.map(([, y]) => y - meanY))
  return {
    secondsPerGib: slope,
    fixedSeconds: fixed,
    rSquared: spread === 0 ? 1 : 1 - squares(distances) / spread,
    largestDeviation:
      Math.max(...distances.map((distance) => Math.abs(distance))) / Math.max(...points.map(([, y]) => y)),
  }
}

/** Dense sizes from 1 GiB on whose two files fit into memory and into the room that is left; at least the first three. */
export async function denseSizes(
  directory: string,
  atMostBytes: number | null,
  largestBytes: number,
): Promise<number[]> {
  const fitting =
    Math.min(availableMemoryBytes() * MEMORY_SHARE, (await roomBytes(directory)) * ROOM_SHARE) / 2
  const limitBytes = atMostBytes ?? Math.min(fitting, largestBytes)
  const sizes: number[] = []
  for (let sizeBytes = Math.min(GIB, limitBytes / 4); sizeBytes <= limitBytes; sizeBytes *= 2)
    sizes.push(sizeBytes)
  return sizes
}

async function roomBytes(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory)
  return bavail * bsize
}

/** What can be used without swapping, cached files included (MemAvailable): libuv's idea of free memory on Linux. */
function availableMemoryBytes(): number {
  return freemem()
}

function lengthOf(pieces: readonly Piece[]): number {
  return pieces.reduce((sum, { length }) => sum + length, 0)
}
