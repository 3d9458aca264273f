// What the results are held against: one row for each bar, computed from medians of one run. Says `not measured` where
// a row it needs is missing; never guesses.

import { MIB } from './images.js'
import type { Sample } from './measure.js'
import type { ScenarioName, ScenarioResult } from './scenarios.js'

export type Results = Partial<Record<ScenarioName, ScenarioResult>>

export type Bar = Readonly<{
  what: string
  unit: 'ratio' | 'seconds' | 'MiB'
  measured: number | null
  atMost: number
}>

/** A terminal's user takes this for "seconds". */
const SPARSE_SECONDS = 10
const MEMORY_MIB = 160

/** The middle one of an odd number, the mean of the middle two of an even one; null of none. */
export function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)]
  const lower = sorted[Math.ceil(sorted.length / 2) - 1]
  return upper === undefined || lower === undefined ? null : (upper + lower) / 2
}

/** The median of one property over the samples that have it. */
export function medianOf(
  samples: readonly Sample[],
  property: (sample: Sample) => number | null,
): number | null {
  return median(samples.map(property).filter((value) => value !== null))
}

export function barsOf(results: Results): Bar[] {
  const wall = (name: ScenarioName, scenario: string, tool: string): number | null =>
    of(results[name], scenario, tool, ({ wallSeconds }) => wallSeconds)
  const wire = (name: ScenarioName, scenario: string): number | null =>
    of(results[name], scenario, 'blocksync', ({ wireBytes }) => wireBytes)
  const peak = (name: ScenarioName, scenario: string): number | null =>
    of(
      results[name],
      scenario,
      'blocksync',
      ({ nearPeakBytes, farPeakBytes }) => Math.max(nearPeakBytes ?? 0, farPeakBytes ?? 0) / MIB,
    )
  const identical = wall('identical', 'identical', 'blocksync')
  const changedBytes = results.changed?.facts.changedBytes ?? null
  const allocatedBytes = results.first?.facts.allocatedBytes ?? null
  const first = wall('first', 'first copy', 'blocksync')
  return [
    ratio(
      'identical: time / limit (two xxhsum at once)',
      identical,
      wall('identical', 'identical', 'limit'),
      1.6,
    ),
    ratio('identical: time / rsync', identical, wall('identical', 'identical', 'rsync'), 0.5),
    ratio(
      '1 % changed: (wire bytes - 1 MiB) / changed bytes',
      minus(wire('changed', 'changed'), MIB),
      changedBytes,
      1.2,
    ),
    ratio(
      '1 % changed: time / identical',
      wall('changed', 'changed', 'blocksync'),
      wall('changed', 'identical', 'blocksync'),
      2,
    ),
    ratio('first copy: time / dd | ssh dd', first, wall('first', 'first copy', 'dd'), 1.1),
    ratio('first copy: wire bytes / allocated bytes', wire('first', 'first copy'), allocatedBytes, 1.01),
    {
      what: '50 ms round trip: more than without',
      unit: 'seconds',
      measured: minus(wall('latency', 'delay', 'blocksync'), wall('latency', 'no delay', 'blocksync')),
      atMost: 1.5,
    },
    {
      what: '1 TiB sparse, first copy: time',
      unit: 'seconds',
      measured: wall('sparse', 'first copy', 'blocksync'),
      atMost: SPARSE_SECONDS,
    },
    {
      what: '1 TiB sparse, identical: time',
      unit: 'seconds',
      measured: wall('sparse', 'identical', 'blocksync'),
      atMost: SPARSE_SECONDS,
    },
    {
      what: 'peak memory, identical',
      unit: 'MiB',
      measured: peak('identical', 'identical'),
      atMost: MEMORY_MIB,
    },
    {
      what: 'peak memory, 1 % changed',
      unit: 'MiB',
      measured: peak('changed', 'changed'),
      atMost: MEMORY_MIB,
    },
    {
      what: 'peak memory, first copy',
      unit: 'MiB',
      measured: peak('first', 'first copy'),
      atMost: MEMORY_MIB,
    },
    {
      what: 'peak memory, 1 TiB sparse, first copy',
      unit: 'MiB',
      measured: peak('sparse', 'first copy'),
      atMost: MEMORY_MIB,
    },
    {
      what: 'peak memory, 1 TiB sparse, identical',
      unit: 'MiB',
      measured: peak('sparse', 'identical'),
      atMost: MEMORY_MIB,
    },
  ]
}

/** `tool` is the first word of a tool's name, or all of it. Ours is looked up whole: `--native off` is another. */
function of(
  result: ScenarioResult | undefined,
  scenario: string,
  tool: string,
  property: (sample: Sample) => number | null,
): number | null {
  const isTool = (name: string): boolean =>
    name === tool || (tool !== 'blocksync' && name.split(/[ :]/)[0] === tool)
  const series = result?.series.find((candidate) => candidate.scenario === scenario && isTool(candidate.tool))
  return series === undefined ? null : medianOf(series.samples, property)
}

function ratio(what: string, measured: number | null, reference: number | null, atMost: number): Bar {
  return {
    what,
    unit: 'ratio',
    measured: measured === null || reference === null ? null : measured / reference,
    atMost,
  }
}

function minus(a: number | null, b: number | null): number | null {
  return a === null || b === null ? null : a - b
}
