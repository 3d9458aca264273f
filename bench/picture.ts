// The results as a picture: bars for each situation, as multiples of a reference's time, and how the cost grows with the
// disk. SVG written by hand; readable on light and dark pages. Draws what was measured, and nothing where nothing was.

import type { Results } from './bars.js'
import type { Growth, StraightLine } from './growth.js'
import { GIB } from './images.js'
import { medianOf } from './medians.js'
import type { ScenarioResult } from './rounds.js'

const WIDTH = 920
const LABEL_WIDTH = 310
const VALUE_WIDTH = 150
const BAR_HEIGHT = 18
const BAR_STEP = 24
const TEXT_SIZE = 14
/** A bar beyond this many times the reference is cut, and its end shows it. */
const MOST_TIMES = 6
const CHART_HEIGHT = 300

const STYLE = `
  text { font: ${TEXT_SIZE}px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
  .page { fill: #ffffff } .head { font-size: 19px; font-weight: 600 } .group { font-weight: 600 } .soft { fill: #59636e }
  .ours { fill: #1a7f37 } .peer { fill: #8c959f } .reference { fill: #57606a }
  .axis { stroke: #59636e; stroke-width: 1; fill: none } .one { stroke: #57606a; stroke-width: 1; stroke-dasharray: 4 3 }
  .wall { stroke: #1a7f37; fill: #1a7f37 } .cpu { stroke: #0969da; fill: #0969da } .fit { stroke-width: 2 } .cut { stroke: #ffffff; stroke-width: 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .page { fill: #0d1117 } .soft { fill: #9198a1 }
    .ours { fill: #3fb950 } .peer { fill: #6e7681 } .reference { fill: #9198a1 }
    .axis { stroke: #9198a1 } .one { stroke: #9198a1 }
    .wall { stroke: #3fb950; fill: #3fb950 } .cpu { stroke: #4493f8; fill: #4493f8 } .cut { stroke: #0d1117 }
  }`

type Drawn = Readonly<{ svg: string; height: number }>

/** The whole picture, or null where there is nothing to draw. `captions` say by what it was made, a line each. */
export function pictureOf({ scenarios, growth }: Results, captions: readonly string[]): string | null {
  const parts: string[] = []
  let y = 34
  const add = (make: (y: number) => Drawn): void => {
    const { svg, height } = make(y)
    parts.push(svg)
    y += height
  }
  const groups = Object.values(scenarios).flatMap(groupsOf)
  const charts = growth.filter(({ points }) => points.length > 1)
  if (groups.length === 0 && charts.length === 0) return null
  if (groups.length > 0) {
    add((at) => ({
      svg: text(20, at, 'Time, as a multiple of the row marked 1.00 (shorter is better)', 'head'),
      height: 34,
    }))
    for (const group of groups) add((at) => drawGroup(group, at))
    y += 14
  }
  if (charts.length > 0) {
    add((at) => ({
      svg: text(20, at, 'How the cost of an identical run grows with the disk', 'head'),
      height: 20,
    }))
    const width = (WIDTH - 40) / 2
    for (const [index, chart] of charts.entries())
      parts.push(drawGrowth(chart, 20 + index * width, y, width - 20))
    y += CHART_HEIGHT + 20
  }
  for (const caption of captions) add((at) => ({ svg: text(20, at, caption, 'soft'), height: 20 }))
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" role="img" aria-label="blocksync benchmarks">`,
    `<style>${STYLE}\n</style>`,
    `<rect class="page" width="${WIDTH}" height="${y}"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n')
}

type Group = Readonly<{
  title: string
  rows: readonly { tool: string; seconds: number; times: number; kind: 'ours' | 'peer' | 'reference' }[]
}>

/** Situations whose reference was measured, with all tools in them. */
function groupsOf({ series, references }: ScenarioResult): Group[] {
  return Object.entries(references).flatMap(([title, reference]) => {
    const mine = series
      .filter(({ scenario }) => scenario === title)
      .map(({ tool, samples }) => ({
        tool,
        seconds: medianOf(samples, ({ wallSeconds }) => wallSeconds) ?? 0,
      }))
    const one = mine.find(({ tool }) => tool === reference)
    if (one === undefined || one.seconds === 0) return []
    const rows = mine.map(({ tool, seconds }) => {
      const kind = tool === reference ? 'reference' : isOurs(tool) ? 'ours' : 'peer'
      return { tool, seconds, times: seconds / one.seconds, kind } as const
    })
    return [{ title, rows }]
  })
}

function isOurs(tool: string): boolean {
  return tool === 'blocksync' || tool.startsWith('blocksync ')
}

function drawGroup({ title, rows }: Group, top: number): Drawn {
  const span = WIDTH - LABEL_WIDTH - VALUE_WIDTH - 20
  // Lengths are comparable within a group: one that is over soon would otherwise be a row of stumps.
  const mostTimes = Math.min(MOST_TIMES, Math.max(1.1, ...rows.map(({ times }) => times)))
  const lines = [text(20, top, title, 'group')]
  const first = top + 10
  const oneX = LABEL_WIDTH + span / mostTimes
  for (const [index, { tool, seconds, times, kind }] of rows.entries()) {
    const y = first + index * BAR_STEP
    const width = (Math.min(times, mostTimes) / mostTimes) * span
    const end = LABEL_WIDTH + width
    lines.push(
      `<text x="${LABEL_WIDTH - 8}" y="${y + 14}" text-anchor="end">${escaped(tool)}</text>`,
      `<rect class="${kind}" x="${LABEL_WIDTH}" y="${y}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}" rx="2"/>`,
      ...(times > mostTimes
        ? [`<path class="cut" d="M${(end - 18).toFixed(1)} ${y + BAR_HEIGHT + 2} l8 -22"/>`]
        : []),
      text(end + 8, y + 14, `${times.toFixed(2)} (${seconds.toFixed(2)} s)`),
    )
  }
  const bottom = first + rows.length * BAR_STEP
  lines.push(
    `<line class="one" x1="${oneX.toFixed(1)}" y1="${first - 3}" x2="${oneX.toFixed(1)}" y2="${bottom - 3}"/>`,
  )
  return { svg: lines.join('\n'), height: bottom - top + 24 }
}

function drawGrowth({ kind, points, wall, cpu }: Growth, left: number, top: number, width: number): string {
  const plot = { left: left + 46, right: left + width - 12, top: top + 34, bottom: top + CHART_HEIGHT - 44 }
  const mostGib = Math.max(...points.map(({ sizeBytes }) => sizeBytes)) / GIB
  const mostSeconds = 1.1 * Math.max(...points.flatMap((point) => [point.wallSeconds, point.cpuSeconds]))
  const x = (gib: number): string => (plot.left + (gib / mostGib) * (plot.right - plot.left)).toFixed(1)
  const y = (value: number): string =>
    (plot.bottom - (value / mostSeconds) * (plot.bottom - plot.top)).toFixed(1)
  const line = (kindOfCost: string, fitted: StraightLine | null): string =>
    fitted === null
      ? ''
      : `<line class="${kindOfCost} fit" x1="${x(0)}" y1="${y(Math.max(0, fitted.fixedSeconds))}" x2="${x(mostGib)}" y2="${y(fitted.fixedSeconds + fitted.secondsPerGib * mostGib)}"/>`
  const words = (what: string, fitted: StraightLine | null): string =>
    fitted === null ? what : `${what}: R² ${fitted.rSquared.toFixed(4)}`
  const ticks = [0, 0.5, 1].flatMap((share) => [
    `<text class="soft" x="${x(share * mostGib)}" y="${plot.bottom + 18}" text-anchor="middle">${Number((share * mostGib).toFixed(2))}</text>`,
    `<text class="soft" x="${plot.left - 6}" y="${Number(y(share * mostSeconds)) + 5}" text-anchor="end">${(share * mostSeconds).toFixed(1)}</text>`,
  ])
  return [
    text(left, top + 18, `${kind}: seconds by GiB`, 'group'),
    `<path class="axis" d="M${plot.left} ${plot.top} V${plot.bottom} H${plot.right}"/>`,
    ...ticks,
    line('wall', wall),
    line('cpu', cpu),
    ...points.flatMap(({ sizeBytes, wallSeconds, cpuSeconds, cached }) => [
      `<circle class="wall" cx="${x(sizeBytes / GIB)}" cy="${y(wallSeconds)}" r="4"${cached ? '' : ' fill-opacity="0"'}/>`,
      `<circle class="cpu" cx="${x(sizeBytes / GIB)}" cy="${y(cpuSeconds)}" r="4"/>`,
    ]),
    `<circle class="wall" cx="${plot.left + 6}" cy="${top + CHART_HEIGHT - 9}" r="5"/>`,
    text(plot.left + 16, top + CHART_HEIGHT - 4, words('time', wall)),
    `<circle class="cpu" cx="${plot.left + 176}" cy="${top + CHART_HEIGHT - 9}" r="5"/>`,
    text(plot.left + 186, top + CHART_HEIGHT - 4, words('CPU of both ends', cpu)),
  ].join('\n')
}

function text(x: number, y: number, words: string, kind?: string): string {
  const of = kind === undefined ? '' : ` class="${kind}"`
  return `<text${of} x="${x.toFixed(1)}" y="${y}">${escaped(words)}</text>`
}

function escaped(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
