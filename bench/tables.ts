// Results as text: aligned columns that are also Markdown tables, for the terminal and for docs/benchmarks.md. Prints
// nothing itself; every number in it was measured.

import type { Bar } from './bars.js'
import { median, medianOf } from './bars.js'
import { GIB, MIB } from './images.js'
import type { LayerSeries } from './layers.js'
import type { ScenarioResult } from './scenarios.js'

type Row = readonly string[]

/** A cell with a number, or with why there is none. */
const NUMERIC = /^([\d.-]+( s| MiB)?|n\/a|not measured)$/

export function barTable(bars: readonly Bar[]): string {
  const rows = bars.map(({ what, unit, measured, atMost }) => {
    const suffix = unit === 'ratio' ? '' : unit === 'seconds' ? ' s' : ' MiB'
    const shown = measured === null ? 'not measured' : `${measured.toFixed(unit === 'MiB' ? 0 : 2)}${suffix}`
    return [what, shown, `${atMost}${suffix}`, measured === null ? '' : measured <= atMost ? 'yes' : 'NO']
  })
  return table(['bar', 'measured', 'at most', 'held'], rows)
}

export function scenarioTable({ series }: ScenarioResult): string {
  const rows = series.map(({ scenario, tool, samples }) => {
    const walls = samples.map(({ wallSeconds }) => wallSeconds)
    return [
      scenario,
      tool,
      seconds(median(walls)),
      `${seconds(Math.min(...walls))}-${seconds(Math.max(...walls))}`,
      seconds(medianOf(samples, ({ nearCpuSeconds }) => nearCpuSeconds)),
      seconds(medianOf(samples, ({ farCpuSeconds }) => farCpuSeconds)),
      mebibytes(
        medianOf(samples, ({ nearPeakBytes }) => nearPeakBytes),
        0,
      ),
      mebibytes(
        medianOf(samples, ({ farPeakBytes }) => farPeakBytes),
        0,
      ),
      mebibytes(
        medianOf(samples, ({ wireBytes }) => wireBytes),
        2,
      ),
    ]
  })
  return table(
    [
      'case',
      'tool',
      'wall s',
      'from-to',
      'CPU near s',
      'CPU far s',
      'peak near MiB',
      'peak far MiB',
      'wire MiB',
    ],
    rows,
  )
}

export function layerTable(layers: readonly LayerSeries[]): string {
  const rows = layers.map(({ name, bytesPerSecond }) => [
    name,
    ((median(bytesPerSecond) ?? 0) / GIB).toFixed(2),
    `${(Math.min(...bytesPerSecond) / GIB).toFixed(2)}-${(Math.max(...bytesPerSecond) / GIB).toFixed(2)}`,
  ])
  return table(['layer', 'GiB/s', 'from-to'], rows)
}

/** Numbers to the right, words to the left. A bar in a cell is written so that Markdown does not take it for an edge. */
function table(heads: Row, given: readonly Row[]): string {
  const rows = given.map((row) => row.map((cell) => cell.replaceAll('|', '\\|')))
  const columns = heads.map((head, index) => {
    const cells = rows.map((row) => row[index] ?? '')
    const width = Math.max(head.length, ...cells.map((cell) => cell.length))
    return { head, width, isNumeric: cells.every((cell) => NUMERIC.test(cell)) }
  })
  const line = (row: Row): string =>
    `| ${columns.map(({ width, isNumeric }, index) => (isNumeric ? (row[index] ?? '').padStart(width) : (row[index] ?? '').padEnd(width))).join(' | ')} |`
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
