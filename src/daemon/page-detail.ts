// What the status page shows below a job that is opened: its facts, the picture of its lag, its last attempts. Asks /history.json only
// for jobs that are open, and again only when an attempt has ended. Text goes in as text only.

/** JavaScript for browsers, behind that of page-picture.ts. */
export const PAGE_DETAIL = `
const SPANS = [['15 min', 900], ['1 h', 3600], ['6 h', 21600], ['24 h', 86400], ['7 d', 604800]]
/* A tooth of the line that is narrower is not seen as one. */
const TOOTH_PIXELS = 14
const SHOWN_ATTEMPTS = 10
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

function make(name, className, text, role) {
  const element = document.createElement(name)
  if (className) element.className = className
  if (text !== undefined && text !== null) element.textContent = text
  if (role !== undefined) element.setAttribute('role', role)
  return element
}

function bytesText(bytes) {
  let unit = 0
  while (bytes >= (unit === 0 ? 1024 : 1023.5) && unit < BYTE_UNITS.length - 1) { bytes /= 1024; unit++ }
  return (unit === 0 ? bytes : bytes < 9.995 ? bytes.toFixed(2) : bytes < 99.95 ? bytes.toFixed(1) : bytes.toFixed(0)) + ' ' + BYTE_UNITS[unit]
}

function tookText(ms) { return ms < 59995 ? (ms / 1000).toFixed(ms < 9995 ? 2 : 1) + ' s' : lagText(ms / 1000) }

/* The time of day; with the date where that is another one. */
function moment(at, now) {
  const date = new Date(at)
  const time = date.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false })
  if (date.toDateString() === new Date(now).toDateString()) return time
  return date.toLocaleDateString(undefined, { month: 'short', day: 'numeric' }) + ' ' + time.slice(0, 5)
}

/* The span that has about as many generations as can be told apart. */
function usualSpan(points, width) {
  const teeth = width / TOOTH_PIXELS
  const ends = points.filter(function (point) { return point[2] !== null }).slice(-teeth)
  if (ends.length < 3) return 3600
  const tooth = (ends[ends.length - 1][1] - ends[0][1]) / (ends.length - 1) / 1000
  const fits = SPANS.find(function (span) { return span[1] >= tooth * teeth * 0.75 })
  return fits === undefined ? 604800 : fits[1]
}

function factsOf(job) {
  const facts = [['From', job.source], ['To', job.destination]]
  if (job.direction === 'reversed') facts.push(['Direction', 'reversed: back to where the configuration has the source'])
  if (job.paused !== null) facts.push(['Paused', 'since ' + job.paused.since + (job.paused.reason === null ? '' : ': ' + job.paused.reason)])
  if (job.atRiskBytes !== null) facts.push(['At risk', 'at least ' + bytesText(job.atRiskBytes) + ' would be lost if the source were lost now'])
  const totals = job.totals
  facts.push(['So far', totals.attempts + ' attempts, ' + totals.failures + ' failed, ' + totals.skipped + ' skipped, ' + bytesText(totals.sentBytes) + ' sent'])
  return facts
}

function saidBy(attempt) {
  return attempt.error === null ? attempt.warnings.join('; ') : attempt.error.code + ': ' + attempt.error.message
}

function fillAttempts(body, attempts, now) {
  let above = ''
  body.replaceChildren(...attempts.slice(-SHOWN_ATTEMPTS).reverse().map(function (attempt) {
    const row = make('tr', '', null, 'row')
    const begun = row.appendChild(make('td', '', moment(Date.parse(attempt.startedAt), now), 'cell'))
    begun.title = attempt.startedAt
    const kind = attempt.outcome === 'done' ? 'good' : attempt.outcome === 'failed' ? 'bad' : 'late'
    row.appendChild(make('td', '', null, 'cell')).append(make('span', 'mark ' + kind, attempt.outcome))
    row.append(make('td', 'number', attempt.generation === null ? '\\u2013' : String(attempt.generation), 'cell'))
    row.append(make('td', 'number wide', bytesText(attempt.sentBytes), 'cell'))
    row.append(make('td', 'number wide', tookText(attempt.durationMs), 'cell'))
    const said = saidBy(attempt)
    const isSame = said !== '' && said === above
    row.append(make('td', isSame ? 'message same' : 'message', isSame ? 'the same' : said, 'cell'))
    above = said
    return row
  }))
}

function attemptsTable() {
  const table = make('table', 'attempts', null, 'table')
  table.append(make('caption', '', 'Last attempts'))
  const head = table.appendChild(make('thead', '')).appendChild(make('tr', '', null, 'row'))
  for (const column of [['Begun', ''], ['Outcome', ''], ['Generation', 'number'], ['Sent', 'number wide'], ['Took', 'number wide'], ['Said', '']]) {
    head.appendChild(make('th', column[1], column[0], 'columnheader')).scope = 'col'
  }
  table.append(make('tbody', ''))
  return table
}

/* The row below a job: show(job, now) brings it up to date, remove() takes it away. */
function addDetail(entry) {
  const row = entry.body.appendChild(make('tr', 'detail', null, 'row'))
  const cell = row.appendChild(make('td', '', null, 'cell'))
  cell.colSpan = 8
  row.id = 'detail-' + entry.number
  entry.button.setAttribute('aria-controls', row.id)
  const facts = cell.appendChild(make('dl', 'facts'))
  const figure = cell.appendChild(make('figure', ''))
  const caption = figure.appendChild(make('figcaption', ''))
  caption.append(make('strong', '', 'Lag over time'))
  const said = caption.appendChild(make('span', ''))
  const spans = caption.appendChild(make('span', 'spans', null, 'group'))
  spans.setAttribute('aria-label', 'Time shown')
  const place = figure.appendChild(make('div', ''))
  const table = cell.appendChild(attemptsTable())
  let known = null
  let asked = null
  let span = null
  let drawnAt = 0
  let job = entry.job
  let isThere = true

  for (const choice of SPANS) {
    const button = spans.appendChild(make('button', '', choice[0]))
    button.type = 'button'
    button.addEventListener('click', function () { span = choice[1]; draw(Date.now() + skew) })
  }
  /* The daemon's clock against this one's: the picture ends at the daemon's now. */
  let skew = 0

  function draw(now) {
    if (known === null) return
    const width = widthOf()
    const seconds = spanOf(width)
    const made = picture({
      name: job.name, points: known.points, from: now - seconds * 1000, now: now, width: width,
      warning: job.warningSeconds, critical: job.criticalSeconds,
    })
    place.replaceChildren(made.drawn)
    put(said, (made.isEmpty ? 'no generation yet' : 'at most ' + lagText(made.peak)) +
      (made.failed > 0 ? '; ' + made.failed + ' without a generation, marked \\u00d7' : ''))
    for (const button of spans.children) button.setAttribute('aria-pressed', String(button.textContent === nameOf(seconds)))
    drawnAt = now
  }

  function widthOf() { return Math.max(280, place.clientWidth) }
  function spanOf(width) { return span === null ? usualSpan(known.points, width) : span }
  function nameOf(seconds) { return SPANS.find(function (choice) { return choice[1] === seconds })[0] }

  async function ask(mark, now) {
    try {
      const response = await fetch('history.json?job=' + encodeURIComponent(job.name), { cache: 'no-store', signal: AbortSignal.timeout(5000) })
      if (!response.ok) throw new Error('status ' + response.status)
      const document = await response.json()
      if (!isThere) return
      known = document
      fillAttempts(table.tBodies[0], known.attempts, now)
      table.hidden = known.attempts.length === 0
      draw(now)
    } catch (error) {
      /* asked again with the next answer of the daemon; that there is none is said on top of the page */
      if (asked === mark) asked = null
    }
  }

  const observer = new ResizeObserver(function () { if (known !== null) draw(drawnAt) })
  observer.observe(place)
  table.hidden = true
  return {
    show: function (next, now) {
      job = next
      skew = now - Date.now()
      const list = factsOf(job)
      const text = JSON.stringify(list)
      if (facts.dataset.shown !== text) {
        facts.dataset.shown = text
        facts.replaceChildren(...list.flatMap(function (fact) { return [make('dt', '', fact[0]), make('dd', '', fact[1])] }))
      }
      const mark = job.last === null ? '' : job.last.attempt
      if (asked !== mark) { asked = mark; ask(mark, now) }
      else if (known !== null && now - drawnAt > (spanOf(widthOf()) * 1000) / widthOf()) draw(now)
    },
    remove: function () { isThere = false; observer.disconnect(); row.remove() },
  }
}
`
