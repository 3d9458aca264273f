// The status page's script: asks /status.json every two seconds and brings the page to what it says. Text of jobs, hosts and errors
// goes in as text only; where no answer comes, that is what the page says.

/** JavaScript for browsers, behind that of page-picture.ts and page-detail.ts. */
export const PAGE_SCRIPT = `
const EVERY_MS = 2000
const GIVE_UP_MS = 5000
/* So few jobs are all shown with their details. */
const OPEN_AT_FIRST = 2

const STATES = { idle: 'good', running: 'busy', retrying: 'late', paused: 'idle', failed: 'bad' }
const LEVELS = { ok: 'good', warning: 'late', critical: 'bad', unknown: 'none' }
const rows = new Map()
let answeredAt = null
let numbers = 0
let statusAt = 0
let timer = null
let asking = null

function byId(id) { return document.getElementById(id) }

function severity(job) {
  if (job.state === 'failed' || job.lagLevel === 'critical') return 2
  return job.state === 'retrying' || job.state === 'paused' || job.lagLevel === 'warning' || job.lagSeconds === null ? 1 : 0
}

/* Only what changed is touched: a selection, the focus and a screen reader's place stay. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text
}

function when(element, iso, now, isAhead) {
  const at = Date.parse(iso)
  if (Number.isNaN(at)) { put(element, '\\u2013'); element.removeAttribute('title'); return }
  element.title = iso
  const seconds = (at - now) / 1000
  if (isAhead) put(element, seconds <= 0 ? 'due' : 'in ' + lagText(seconds))
  else put(element, moment(at, now))
}

function addRow(job) {
  const body = make('tbody')
  const row = body.appendChild(make('tr', 'row', null, 'row'))
  const head = row.appendChild(make('th', 'job', null, 'rowheader'))
  head.scope = 'row'
  const button = head.appendChild(make('button', ''))
  button.type = 'button'
  button.append(make('span', '', job.name))
  button.setAttribute('aria-expanded', 'false')
  const cells = {}
  for (const column of [['state', 'State'], ['lag', 'Lag'], ['generation', 'Generation'], ['success', 'Last success'], ['next', 'Next run'],
    ['sent', 'Last sent'], ['took', 'Took']]) {
    const isNumber = column[0] === 'generation' || column[0] === 'sent' || column[0] === 'took'
    const cell = row.appendChild(make('td', column[0] + (isNumber ? ' number' : ''), null, 'cell'))
    cell.dataset.name = column[1]
    cells[column[0]] = cell.appendChild(make('span', ''))
  }
  const meter = cells.lag.parentNode.appendChild(make('span', 'meter'))
  meter.setAttribute('aria-hidden', 'true')
  meter.append(make('i', ''))
  const level = cells.lag.parentNode.appendChild(make('span', 'under'))

  const running = body.appendChild(make('tr', 'running', null, 'row'))
  const place = running.appendChild(make('td', '', null, 'cell'))
  place.colSpan = 8
  const bar = place.appendChild(make('div', 'meter busy'))
  bar.setAttribute('role', 'progressbar')
  bar.setAttribute('aria-valuemin', '0')
  bar.setAttribute('aria-valuemax', '100')
  bar.setAttribute('aria-label', 'Progress of ' + job.name)
  bar.append(make('i', ''))
  const done = place.appendChild(make('span', 'under'))

  const error = body.appendChild(make('tr', 'error', null, 'row'))
  const why = error.appendChild(make('td', '', null, 'cell'))
  why.colSpan = 8
  const message = why.appendChild(make('p', 'why'))
  const code = message.appendChild(make('code', ''))
  const words = message.appendChild(make('span', ''))

  const entry = {
    body: body, button: button, cells: cells, meter: meter, level: level, running: running, bar: bar, done: done, error: error,
    message: message, code: code, words: words, detail: null, job: job, number: numbers++,
  }
  button.addEventListener('click', function () { setOpen(entry, entry.detail === null) })
  return entry
}

function setOpen(entry, isOpen) {
  entry.button.setAttribute('aria-expanded', String(isOpen))
  if (entry.detail !== null) { entry.detail.remove(); entry.detail = null }
  if (isOpen) { entry.detail = addDetail(entry); entry.detail.show(entry.job, statusAt) }
}

function showJob(entry, job, now) {
  entry.job = job
  const cells = entry.cells
  cells.state.className = 'mark ' + STATES[job.state]
  put(cells.state, job.state)
  cells.lag.className = 'mark ' + LEVELS[job.lagLevel]
  put(cells.lag, job.lagSeconds === null ? 'none yet' : lagText(job.lagSeconds))
  put(entry.level, job.lagLevel === 'warning' || job.lagLevel === 'critical' ? job.lagLevel : '')
  const full = job.criticalSeconds === null ? job.warningSeconds : job.criticalSeconds
  entry.meter.hidden = job.lagSeconds === null || full === null
  entry.meter.className = 'meter ' + LEVELS[job.lagLevel]
  if (!entry.meter.hidden) entry.meter.firstChild.style.width = Math.min(100, (job.lagSeconds / full) * 100).toFixed(1) + '%'
  put(cells.generation, job.generation === null ? '\\u2013' : String(job.generation))
  when(cells.success, job.lastSuccess, now, false)
  when(cells.next, job.nextRun, now, true)
  put(cells.sent, job.sentBytes === null ? '\\u2013' : bytesText(job.sentBytes))
  put(cells.took, job.durationMs === null ? '\\u2013' : tookText(job.durationMs))
  showProgress(entry, job)
  entry.error.hidden = job.lastError === null
  if (job.lastError !== null) {
    entry.message.className = job.state === 'failed' ? 'why' : 'why late'
    put(entry.code, job.lastError.code)
    put(entry.words, ': ' + job.lastError.message)
  }
  if (entry.detail !== null) entry.detail.show(job, now)
}

function showProgress(entry, job) {
  const progress = job.progress
  entry.running.hidden = progress === null
  if (progress === null) return
  const share = progress.totalBytes > 0 ? Math.min(100, (progress.doneBytes / progress.totalBytes) * 100) : 0
  entry.bar.setAttribute('aria-valuenow', share.toFixed(0))
  entry.bar.firstChild.style.width = share.toFixed(1) + '%'
  put(entry.done, share.toFixed(0) + ' %: ' + bytesText(progress.doneBytes) + ' of ' + bytesText(progress.totalBytes) + ', ' +
    bytesText(progress.sentBytes) + ' sent')
}

function showSummary(jobs) {
  function count(test) { return jobs.filter(test).length }
  const parts = [
    ['bad', count(function (job) { return severity(job) === 2 }), 'critical'],
    ['late', count(function (job) { return severity(job) === 1 }), 'to be looked at'],
    ['good', count(function (job) { return severity(job) === 0 }), 'fine'],
    ['busy', count(function (job) { return job.state === 'running' }), 'running'],
  ]
  const shown = parts.filter(function (part) { return part[1] > 0 })
  const text = JSON.stringify(shown)
  const list = byId('summary')
  if (list.dataset.shown === text) return
  list.dataset.shown = text
  list.replaceChildren(...shown.map(function (part) {
    const item = make('li', '')
    item.append(make('span', 'mark ' + part[0], part[1] + ' ' + part[2]))
    return item
  }))
}

function show(status) {
  const now = Date.parse(status.at)
  statusAt = now
  const jobs = status.jobs
  put(byId('host'), status.host)
  put(byId('daemon'), status.daemon === null ? '' : 'Daemon ' + status.daemon.pid + ', since ' + moment(Date.parse(status.daemon.startedAt), now) + '.')
  byId('jobs').hidden = jobs.length === 0
  byId('none').hidden = jobs.length > 0
  const isFirst = rows.size === 0
  const names = new Set(jobs.map(function (job) { return job.name }))
  for (const [name, entry] of rows) {
    if (!names.has(name)) { setOpen(entry, false); entry.body.remove(); rows.delete(name) }
  }
  for (const job of jobs) {
    if (!rows.has(job.name)) rows.set(job.name, addRow(job))
    showJob(rows.get(job.name), job, now)
  }
  order(jobs)
  if (isFirst && jobs.length <= OPEN_AT_FIRST) for (const entry of rows.values()) setOpen(entry, true)
  showSummary(jobs)
  const bad = jobs.filter(function (job) { return severity(job) === 2 }).length
  document.title = (bad > 0 ? '(' + bad + ' critical) ' : '') + status.host + ' \\u2013 blocksync replicate'
}

/* Those that need somebody first, else as in the configuration. Nothing is moved while nothing changes its place. */
function order(jobs) {
  const table = byId('jobs')
  const wanted = jobs.map(function (job) { return [severity(job), rows.get(job.name).body] })
    .sort(function (left, right) { return right[0] - left[0] }).map(function (pair) { return pair[1] })
  if (wanted.every(function (body, index) { return table.tBodies[index] === body })) return
  const focused = document.activeElement
  table.append(...wanted)
  if (focused !== null && table.contains(focused)) focused.focus({ preventScroll: true })
}

function gone(why) {
  const text = 'No answer from the daemon since ' + (answeredAt === null ? 'this page was opened' : moment(answeredAt, Date.now())) +
    ' (' + why + '). ' + (answeredAt === null ? 'It is asked again every two seconds.' : 'What is shown is as it was then.')
  put(byId('gone'), text)
  byId('gone').hidden = false
  document.body.classList.add('stale')
  put(byId('answer'), 'no answer')
}

async function ask() {
  const control = new AbortController()
  asking = control
  const limit = setTimeout(function () { control.abort() }, GIVE_UP_MS)
  try {
    const response = await fetch('status.json', { signal: control.signal, cache: 'no-store' })
    if (!response.ok) throw new Error('status ' + response.status)
    show(await response.json())
    answeredAt = Date.now()
    byId('gone').hidden = true
    document.body.classList.remove('stale')
    put(byId('answer'), 'as of ' + moment(answeredAt, answeredAt))
  } catch (error) {
    gone(control.signal.aborted ? 'it took too long' : error instanceof TypeError ? 'not reached' : error.message)
  } finally {
    clearTimeout(limit)
    asking = null
    timer = document.hidden ? null : setTimeout(ask, EVERY_MS)
  }
}

/* A page that nobody sees does not ask. */
document.addEventListener('visibilitychange', function () {
  if (document.hidden || asking !== null) return
  clearTimeout(timer)
  ask()
})
ask()
`
