// What the results are held against: one row for each bar, computed from medians of one run. Says `not measured` where
// a row it needs is missing; never guesses.

import type { Growth, GrowthKind, StraightLine } from './growth.js'
import { GIB, MIB } from './images.js'
import type { Sample } from './measure.js'
import { cpuSecondsOf, median, medianOf, peakOf, wireBytesOf } from './medians.js'
import type { ScenarioResult } from './rounds.js'
import type { ScenarioName } from './scenarios.js'
import type { StartName, StartSeries } from './starts.js'
import { CAT, CAT_FROM_THERE, DD, NBDCOPY, SSH_TRUE, XXHSUM } from './tools.js'

export type Results = Readonly<{
  scenarios: Partial<Record<ScenarioName, ScenarioResult>>
  growth: readonly Growth[]
  starts: readonly StartSeries[]
}>

export type Bar = Readonly<{
  what: string
  unit: 'ratio' | 'seconds' | 'MiB'
  measured: number | null
  held: 'at most' | 'at least'
  limit: number
}>

const OURS = 'blocksync'
/** A terminal's user takes this for "seconds". */
const SPARSE_SECONDS = 10
/** Of one process; and of all of one end, with 4 lanes. */
const PROCESS_MIB = 160
const END_MIB = 200
/** Half a second for everything, and 4 round trips of 50 ms. */
const LATENCY_SECONDS = 0.5 + 4 * 0.05
/** A straight line: what is left of the variance, and how far the worst point may lie. */
const STRAIGHT_R_SQUARED = 0.99
const STRAIGHT_DEVIATION = 0.1

export function barsOf({ scenarios, growth, starts }: Results): Bar[] {
  const of = (
    name: ScenarioName,
    scenario: string,
    tool: string,
    property: (sample: Sample) => number | null,
  ): number | null => {
    const series = scenarios[name]?.series.find((one) => one.scenario === scenario && one.tool === tool)
    return series === undefined ? null : medianOf(series.samples, property)
  }
  const wall = (name: ScenarioName, scenario: string, tool = OURS): number | null =>
    of(name, scenario, tool, ({ wallSeconds }) => wallSeconds)
  const wire = (name: ScenarioName, scenario: string): number | null => of(name, scenario, OURS, wireBytesOf)
  const cpu = (name: ScenarioName, scenario: string, tool: string): number | null =>
    of(name, scenario, tool, cpuSecondsOf)
  /** The fastest of all that are neither ours nor a limit. */
  const fastestPeer = (name: ScenarioName, scenario: string): number | null => {
    const peers = (scenarios[name]?.series ?? []).filter(
      (one) => one.scenario === scenario && !one.tool.startsWith('blocksync') && one.tool !== XXHSUM.name,
    )
    const walls = peers.map(({ samples }) => medianOf(samples, ({ wallSeconds }) => wallSeconds) ?? Infinity)
    return walls.length === 0 ? null : Math.min(...walls)
  }
  const identical = wall('identical', 'identical')
  const day = wall('changed', '2 % changed')
  const first = wall('first', 'first copy')
  const atStart = (name: StartName): number | null =>
    median(starts.find((one) => one.name === name)?.seconds ?? [])
  return [
    ratio('identical: time / limit', identical, wall('identical', 'identical', XXHSUM.name), 1.25),
    ratio(
      'identical: CPU of both ends / limit',
      cpu('identical', 'identical', OURS),
      cpu('identical', 'identical', XXHSUM.name),
      1.5,
    ),
    ratio('identical: time / fastest peer', identical, fastestPeer('identical', 'identical'), 0.5),
    ratio(
      '0.1 % changed: time / fastest peer',
      wall('changed', '0.1 % changed'),
      fastestPeer('changed', '0.1 % changed'),
      1,
    ),
    ratio('2 % changed: time / limit', day, wall('changed', '2 % changed', XXHSUM.name), 2),
    ratio('2 % changed: time / fastest peer', day, fastestPeer('changed', '2 % changed'), 1),
    ratio('2 % changed: time / the same disk identical', day, wall('changed', 'same'), 2),
    ratio(
      '2 % changed: (wire bytes - 1 MiB) / changed bytes',
      minus(wire('changed', '2 % changed'), MIB),
      scenarios.changed?.facts.changedBytes ?? null,
      1.2,
    ),
    ratio('first copy: time / nbdcopy', first, wall('first', 'first copy', NBDCOPY.name), 0.9),
    ratio('first copy: time / dd | ssh dd', first, wall('first', 'first copy', DD.name), 0.75),
    ratio(
      'first copy: wire bytes / allocated bytes',
      wire('first', 'first copy'),
      scenarios.first?.facts.allocatedBytes ?? null,
      1.01,
    ),
    ratio(
      'all different: time / cat | ssh cat',
      wall('different', 'all different'),
      wall('different', 'all different', CAT.name),
      1.05,
    ),
    secondsBar(
      '50 ms, identical: more than without the delay',
      minus(wall('latency', '50 ms, identical'), wall('latency', 'no delay, identical')),
      LATENCY_SECONDS,
    ),
    ratio(
      '50 ms, 2 % changed: time / without the delay',
      wall('latency', '50 ms, 2 % changed'),
      wall('latency', 'no delay, 2 % changed'),
      1.5,
    ),
    atLeast(
      '40 ms, push: speed / cat | ssh',
      wall('throughput', '40 ms, push', CAT.name),
      wall('throughput', '40 ms, push'),
      5,
    ),
    atLeast(
      '40 ms, pull: speed / ssh cat',
      wall('throughput', '40 ms, pull', CAT_FROM_THERE.name),
      wall('throughput', '40 ms, pull'),
      5,
    ),
    ratio(
      'slow line: time with -z / without',
      wall('slow', 'slow line', 'blocksync -z'),
      wall('slow', 'slow line'),
      1,
    ),
    secondsBar('1 TiB sparse, first copy: time', wall('sparse', '1 TiB sparse, first copy'), SPARSE_SECONDS),
    secondsBar('1 TiB sparse, identical: time', wall('sparse', '1 TiB sparse, identical'), SPARSE_SECONDS),
    secondsBar(
      '64 MiB, identical: more than ssh host true',
      minus(wall('start', 'start'), wall('start', 'start', SSH_TRUE.name)),
      0.3,
    ),
    ratio(
      'blocksync serve ready: time / node -e 0',
      atStart('blocksync serve, until its banner'),
      atStart('node -e 0'),
      1.5,
    ),
    ...memoryBars(scenarios),
    ...(['dense', 'sparse'] as const).flatMap((kind) => growthBars(growth, kind)),
  ]
}

/** The most of all rows of ours: of one process with one lane, and of an end as a whole. */
function memoryBars(scenarios: Results['scenarios']): Bar[] {
  const ours = Object.values(scenarios).flatMap(({ series }) =>
    series.filter(({ tool }) => tool.startsWith('blocksync') && !tool.startsWith('blocksync-fast')),
  )
  const most = (which: 'largestBytes' | 'summedBytes', isMine: (tool: string) => boolean): number | null => {
    const peaks = ours
      .filter(({ tool }) => isMine(tool))
      .map(({ samples }) => medianOf(samples, (sample) => peakOf(sample, which)))
      .filter((bytes) => bytes !== null)
    return peaks.length === 0 ? null : Math.max(...peaks) / MIB
  }
  const isWithLanes = (tool: string): boolean => tool.includes('--streams=4')
  return [
    mebibytesBar(
      'peak memory of one process, all rows of blocksync',
      most('largestBytes', () => true),
      PROCESS_MIB,
    ),
    mebibytesBar(
      'peak memory of an end, all its processes',
      most('summedBytes', (tool) => !isWithLanes(tool)),
      END_MIB,
    ),
    mebibytesBar('peak memory of an end with 4 lanes', most('summedBytes', isWithLanes), END_MIB),
  ]
}

function growthBars(growth: readonly Growth[], kind: GrowthKind): Bar[] {
  const mine = growth.find((one) => one.kind === kind)
  const points = mine?.points ?? []
  const range = points.length === 0 ? '' : `, ${gib(points.at(0))} to ${gib(points.at(-1))} GiB`
  const rows = (what: string, line: StraightLine | null): Bar[] => [
    {
      what: `growth, ${kind}${range}: ${what}, R² of the line`,
      unit: 'ratio',
      measured: line?.rSquared ?? null,
      held: 'at least',
      limit: STRAIGHT_R_SQUARED,
    },
    {
      what: `growth, ${kind}: ${what}, largest distance from the line / largest value`,
      unit: 'ratio',
      measured: line?.largestDeviation ?? null,
      held: 'at most',
      limit: STRAIGHT_DEVIATION,
    },
  ]
  return [...rows('time', mine?.wall ?? null), ...rows('CPU', mine?.cpu ?? null)]
}

function gib(point: { sizeBytes: number } | undefined): string {
  return String(Number(((point?.sizeBytes ?? 0) / GIB).toFixed(2)))
}

function ratio(what: string, measured: number | null, reference: number | null, limit: number): Bar {
  return { what, unit: 'ratio', measured: over(measured, reference), held: 'at most', limit }
}

function atLeast(what: string, measured: number | null, reference: number | null, limit: number): Bar {
  return { what, unit: 'ratio', measured: over(measured, reference), held: 'at least', limit }
}

function secondsBar(what: string, measured: number | null, limit: number): Bar {
  return { what, unit: 'seconds', measured, held: 'at most', limit }
}

function mebibytesBar(what: string, measured: number | null, limit: number): Bar {
  return { what, unit: 'MiB', measured, held: 'at most', limit }
}

function over(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a / b
}

function minus(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a - b
}
