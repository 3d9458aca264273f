// The picture of a job's lag over time, drawn by the status page's script as SVG: the lag grows by a second a second and falls when a
// generation is complete, so the attempts alone give the whole line. Text goes in as text only.

/** Functions of the page's script; it is JavaScript for browsers, without anything that is not in all of them. */
export const PAGE_PICTURE = `
const UNITS = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]]
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2419200]
const EDGE = { left: 58, right: 10, top: 12, bottom: 22 }
const MAX_TEETH = 720

function lagText(seconds) {
  let left = Math.max(0, Math.floor(seconds))
  const first = UNITS.findIndex(function (unit) { return left >= unit[1] })
  const parts = []
  for (const unit of UNITS.slice(first < 0 ? 3 : first).slice(0, 2)) {
    const count = Math.floor(left / unit[1])
    left -= count * unit[1]
    if (count > 0 || parts.length === 0) parts.push(count + ' ' + unit[0])
  }
  return parts.join(' ')
}

function svg(name, attributes, text) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name)
  for (const key of Object.keys(attributes)) element.setAttribute(key, String(attributes[key]))
  if (text !== undefined) element.textContent = text
  return element
}

/* Corners of the line within [from, now], as [ms, seconds of lag]; and the attempts that made no generation. */
function saw(points, from, now) {
  const corners = []
  const failed = []
  let taken = null
  function corner(at, since) { corners.push([at, Math.max(0, (at - since) / 1000)]) }
  for (const point of points.slice(-MAX_TEETH)) {
    const ended = point[1]
    if (point[2] === null) { if (ended >= from && ended <= now) failed.push(ended); continue }
    if (ended > now) continue
    if (ended >= from) {
      if (taken !== null) {
        if (corners.length === 0) corner(from, taken)
        corner(ended, taken)
      }
      corner(ended, point[2])
    }
    taken = point[2]
  }
  if (taken !== null) {
    if (corners.length === 0) corner(from, taken)
    corner(now, taken)
  }
  return { corners: corners, failed: failed }
}

function stepFor(range, most) {
  const found = STEPS.find(function (step) { return range / step <= most })
  return found === undefined ? range / most : found
}

/* Whole hours and days of this browser's own time zone. */
function timeTicks(from, now, most) {
  const step = stepFor((now - from) / 1000, most) * 1000
  const shift = new Date(now).getTimezoneOffset() * 60000
  const ticks = []
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= now; at += step) ticks.push(at)
  return { step: step, ticks: ticks }
}

function tickText(at, step) {
  const date = new Date(at)
  if (step >= 86400000) return date.toLocaleDateString(undefined, { month: 'short', day: 'numeric' })
  const clock = { hour: '2-digit', minute: '2-digit', hour12: false }
  if (step < 60000) clock.second = '2-digit'
  const time = date.toLocaleTimeString(undefined, clock)
  return step >= 10800000 ? date.toLocaleDateString(undefined, { weekday: 'short' }) + ' ' + time : time
}

/* view: { name, points, from, now, width, warning, critical }; seconds, ms for instants, pixels for the width. */
function picture(view) {
  const height = 190
  const line = saw(view.points, view.from, view.now)
  const peak = line.corners.reduce(function (most, corner) { return Math.max(most, corner[1]) }, 1)
  const limits = [[view.warning, 'late', 'warning'], [view.critical, 'bad', 'critical']].filter(function (limit, index) {
    return limit[0] !== null && limit[0] <= peak * (index === 0 ? 4 : 2)
  })
  const top = limits.reduce(function (most, limit) { return Math.max(most, limit[0]) }, peak) * 1.08
  const right = view.width - EDGE.right
  const bottom = height - EDGE.bottom
  function x(at) { return +(EDGE.left + (at - view.from) / (view.now - view.from) * (right - EDGE.left)).toFixed(1) }
  function y(lag) { return +(bottom - lag / top * (bottom - EDGE.top)).toFixed(1) }

  const now = line.corners.length === 0 ? null : line.corners[line.corners.length - 1][1]
  const said = now === null ? 'no generation yet' : 'now ' + lagText(now) + ', at most ' + lagText(peak)
  const drawn = svg('svg', {
    role: 'img', viewBox: '0 0 ' + view.width + ' ' + height, preserveAspectRatio: 'none',
    'aria-label': 'Lag of ' + view.name + ' over the last ' + lagText((view.now - view.from) / 1000) + ': ' + said +
      ', ' + line.failed.length + ' attempts without a generation',
  })
  const rise = stepFor(top, 4)
  for (let lag = 0; lag <= (now === null ? 0 : top); lag += rise) {
    drawn.append(svg('line', { class: lag === 0 ? 'base' : 'grid', x1: EDGE.left, x2: right, y1: y(lag), y2: y(lag) }))
    drawn.append(svg('text', { x: EDGE.left - 8, y: y(lag) + 4, 'text-anchor': 'end' }, lag === 0 ? '0' : lagText(lag)))
  }
  const times = timeTicks(view.from, view.now, Math.max(2, Math.floor(view.width / 110)))
  for (const at of times.ticks) {
    const place = x(at)
    drawn.append(svg('line', { class: 'base', x1: place, x2: place, y1: bottom, y2: bottom + 4 }))
    if (place < right - 18) drawn.append(svg('text', { x: place, y: height - 5, 'text-anchor': 'middle' }, tickText(at, times.step)))
  }
  if (line.corners.length > 0) {
    const path = line.corners.map(function (corner, index) { return (index === 0 ? 'M' : 'L') + x(corner[0]) + ' ' + y(corner[1]) }).join('')
    const first = x(line.corners[0][0])
    drawn.append(svg('path', { class: 'area', d: path + 'L' + x(view.now) + ' ' + bottom + 'L' + first + ' ' + bottom + 'Z' }))
    drawn.append(svg('path', { class: 'lag', d: path }))
  }
  /* A word needs its place; a line says nothing where it cannot be told from the base. */
  let wordsFrom = bottom
  for (const limit of now === null ? [] : limits) {
    const place = y(limit[0])
    if (bottom - place < 6) continue
    drawn.append(svg('line', { class: 'limit ' + limit[1], x1: EDGE.left, x2: right, y1: place, y2: place }))
    if (wordsFrom - place < 15) continue
    drawn.append(svg('text', { class: limit[1], x: right, y: place - 4, 'text-anchor': 'end' }, limit[2] + ' ' + lagText(limit[0])))
    wordsFrom = place
  }
  let markedTo = -Infinity
  for (const at of line.failed) {
    const place = x(at)
    if (place - markedTo < 8) continue
    markedTo = place
    drawn.append(svg('path', { class: 'fail', d: 'M' + (place - 3.5) + ' ' + (bottom - 3.5) + 'l7 7m0 -7l-7 7' }))
  }
  return { drawn: drawn, failed: line.failed.length, isEmpty: now === null, peak: peak }
}
`
