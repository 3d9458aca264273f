// Results as text: aligned columns that are also Markdown tables, for the terminal and for docs/benchmarks.md. Prints
// nothing itself; every number in it was measured.

import type { Bar } from './bars.js'
import type { Growth, StraightLine } from './growth.js'
import { GIB, MIB, sizeWords } from './images.js'
import type { LayerSeries } from './layer.js'
import { median, medianOf } from './medians.js'
import type { ScenarioResult } from './rounds.js'
import type { StartSeries } from './starts.js'

type Row = readonly string[]

/** A cell with a number, or with why there is none. */
const NUMERIC = /^([\d.-]+( s| MiB| GiB| TiB)?|[\d.-]+ \/ [\d.-]+|n\/a|not measured)$/

export function barTable(bars: readonly Bar[]): string {
  const rows = bars.map(({ what, unit, measured, held, limit }) => {
    const suffix = unit === 'ratio' ? '' : unit === 'seconds' ? ' s' : ' MiB'
    const digits = unit === 'MiB' ? 0 : limit === 0.99 ? 4 : 2
    const shown = measured === null ? 'not measured' : `${measured.toFixed(digits)}${suffix}`
    const isHeld = measured !== null && (held === 'at most' ? measured <= limit : measured >= limit)
    return [what, shown, `${held} ${limit}${suffix}`, measured === null ? '' : isHeld ? 'yes' : 'NO']
  })
  return table(['bar', 'measured', 'asked for', 'held'], rows)
}

export function scenarioTable({ series }: ScenarioResult): string {
  const rows = series.map(({ scenario, tool, samples }) => {
    const walls = samples.map(({ wallSeconds }) => wallSeconds)
    const mib = (property: Parameters<typeof medianOf>[1], digits: number): string =>
      mebibytes(medianOf(samples, property), digits)
    return [
      scenario,
      tool,
      seconds(median(walls)),
      `${seconds(Math.min(...walls))}-${seconds(Math.max(...walls))}`,
      seconds(medianOf(samples, ({ nearCpuSeconds }) => nearCpuSeconds)),
      seconds(medianOf(samples, ({ farCpuSeconds }) => farCpuSeconds)),
      `${mib(({ near }) => near?.largestBytes ?? null, 0)} / ${mib(({ near }) => near?.summedBytes ?? null, 0)}`,
      `${mib(({ far }) => far?.largestBytes ?? null, 0)} / ${mib(({ far }) => far?.summedBytes ?? null, 0)}`,
      mib(({ sentBytes }) => sentBytes, 2),
      mib(({ receivedBytes }) => receivedBytes, 2),
    ]
  })
  const heads = [
    'case',
    'tool',
    'wall s',
    'from-to',
    'CPU near s',
    'CPU far s',
    'peak near MiB',
    'peak far MiB',
    'sent MiB',
    'received MiB',
  ]
  return table(heads, rows)
}

export function layerTable(layers: readonly LayerSeries[]): string {
  const rows = layers.map(({ name, bytesPerSecond }) => [
    name,
    ((median(bytesPerSecond) ?? 0) / GIB).toFixed(2),
    `${(Math.min(...bytesPerSecond) / GIB).toFixed(2)}-${(Math.max(...bytesPerSecond) / GIB).toFixed(2)}`,
  ])
  return table(['layer', 'GiB/s', 'from-to'], rows)
}

export function startTable(starts: readonly StartSeries[]): string {
  const rows = starts.map(({ name, seconds: all }) => [
    name,
    ((median(all) ?? 0) * 1000).toFixed(0),
    `${(Math.min(...all) * 1000).toFixed(0)}-${(Math.max(...all) * 1000).toFixed(0)}`,
  ])
  return table(['program', 'ms', 'from-to'], rows)
}

export function growthTable({ points, wall, cpu }: Growth): string {
  const rows = points.map((point) => [
    sizeWords(point.sizeBytes),
    seconds(point.wallSeconds),
    point.cached ? predicted(wall, point.sizeBytes) : 'read from the disk',
    seconds(point.cpuSeconds),
    predicted(cpu, point.sizeBytes),
    mebibytes(point.peakBytes, 0),
  ])
  const heads = ['size', 'wall s', 'line', 'CPU s, both ends', 'line', 'peak of an end MiB']
  return [table(heads, rows), '', lineWords('Time', wall), lineWords('CPU', cpu)].join('\n')
}

function predicted(line: StraightLine | null, sizeBytes: number): string {
  return line === null ? 'n/a' : seconds(line.fixedSeconds + (line.secondsPerGib * sizeBytes) / GIB)
}

function lineWords(what: string, line: StraightLine | null): string {
  if (line === null) return `${what}: too few points for a line.\n`
  const { secondsPerGib, fixedSeconds, rSquared, largestDeviation } = line
  return `${what}: ${fixedSeconds.toFixed(2)} s + ${secondsPerGib.toFixed(4)} s for each GiB; R² ${rSquared.toFixed(4)}, the farthest point is ${(largestDeviation * 100).toFixed(1)} % of the largest value off.\n`
}

/** Numbers to the right, words to the left. A bar in a cell is written so that Markdown does not take it for an edge. */
function table(heads: Row, given: readonly Row[]): string {
  const rows = given.map((row) => row.map((cell) => cell.replaceAll('|', '\\|')))
  const columns = heads.map((head, index) => {
    const cells = rows.map((row) => row[index] ?? '')
    const width = Math.max(head.length, ...cells.map((cell) => cell.length))
    return { width, isNumeric: cells.every((cell) => NUMERIC.test(cell)) }
  })
  const padded = (cell: string, index: number): string => {
    const { width = 0, isNumeric = false } = columns[index] ?? {}
    return isNumeric ? cell.padStart(width) : cell.padEnd(width)
  }
  const line = (row: Row): string =>
    `| ${columns.map((_, index) => padded(row[index] ?? '', index)).join(' | ')} |`
  const rule = columns.map(({ width, isNumeric }) =>
    isNumeric ? `${'-'.repeat(width + 1)}:` : '-'.repeat(width + 2),
  )
  return [line(heads), `|${rule.join('|')}|`, ...rows.map(line)].join('\n')
}

function seconds(value: number | null): string {
  return value === null ? 'n/a' : value.toFixed(2)
}

function mebibytes(bytes: number | null, digits: number): string {
  return bytes === null ? 'n/a' : (bytes / MIB).toFixed(digits)
}
