// What is answered to one request of HTTP: the page and its parts, /status.json, /history.json, /metrics and /healthz. Refuses every
// method but GET and HEAD, every other path, a body, and a Host that a page of somebody else's could have made up.

import { createHash } from 'node:crypto'
import { isIP } from 'node:net'

import { METRICS_TYPE, metricsText } from './metrics.js'
import { PAGE_DETAIL } from './page-detail.js'
import { PAGE_HTML } from './page-html.js'
import { PAGE_PICTURE } from './page-picture.js'
import { PAGE_SCRIPT } from './page-script.js'
import { PAGE_STYLE } from './page-style.js'
import type { AttemptRecord } from '../replicate/job-state.js'
import type { DaemonView } from './view.js'

/** What of a request decides. `url` is the path with its query, as it came. */
export type Request = Readonly<{
  method: string
  url: string
  host: string | undefined
  hasBody: boolean
}>

/** `names`: what Host may say besides addresses and localhost; null where no browser gets in (a unix socket). */
export type Names = readonly string[] | null

export type Answer = Readonly<{
  status: number
  type: string
  body: string
  headers: Readonly<Record<string, string>>
}>

/** /history.json: attempts of one job, oldest first. Times are ms since 1970. */
export type HistoryDocument = Readonly<{
  version: 1
  job: string
  /** Every attempt that is known: begun, ended, when its generation was taken (null: it made none). */
  points: readonly (readonly [startedMs: number, endedMs: number, takenMs: number | null])[]
  /** The newest ones, as they stand in the history. */
  attempts: readonly AttemptRecord[]
}>

/** More teeth than a picture has room for. */
export const MAX_POINTS = 720
const MAX_ATTEMPTS = 20

const TEXT = 'text/plain; charset=utf-8'
const JSON_TYPE = 'application/json; charset=utf-8'

/** Nothing but the page's own two files is loaded or run, and nothing may put the page into a frame. */
export const SECURITY_HEADERS = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-store',
} as const

/** In one file, in the order of use. */
const SCRIPT = `'use strict';\n${PAGE_PICTURE}\n${PAGE_DETAIL}\n${PAGE_SCRIPT}`

/** So that a page of another version than the script's is noticed by who looks at it. */
const MARK = createHash('sha256')
  .update(PAGE_HTML)
  .update(SCRIPT)
  .update(PAGE_STYLE)
  .digest('hex')
  .slice(0, 12)
const HTML = PAGE_HTML.replaceAll('{mark}', MARK)

/** Never rejects for what a request says; rejects where the daemon cannot tell its state. */
export async function answer(request: Request, names: Names, view: DaemonView): Promise<Answer> {
  if (!isOurs(request.host, names))
    return text(421, 'this name is not one of this server; ask for it by its address or as localhost\n')
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return text(405, 'only GET and HEAD: nothing can be changed here\n', { allow: 'GET, HEAD' })
  if (request.hasBody)
    return text(400, 'a request with a body is not answered here\n', { connection: 'close' })
  const [path = '', query = ''] = request.url.split('?', 2)
  switch (path) {
    case '/':
      return { status: 200, type: 'text/html; charset=utf-8', body: HTML, headers: {} }
    case '/page.css':
      return { status: 200, type: 'text/css; charset=utf-8', body: PAGE_STYLE, headers: {} }
    case '/page.js':
      return { status: 200, type: 'text/javascript; charset=utf-8', body: SCRIPT, headers: {} }
    case '/status.json':
      return json(await view.statuses())
    case '/history.json':
      return await history(new URLSearchParams(query).get('job'), view)
    case '/metrics':
      return { status: 200, type: METRICS_TYPE, body: metricsText(await view.metrics()), headers: {} }
    case '/healthz': {
      const why = view.whyUnhealthy()
      return why === null ? text(200, 'ok\n') : text(503, `${why}\n`)
    }
    default:
      return text(404, 'there is /, /status.json, /history.json?job=NAME, /metrics and /healthz\n')
  }
}

/**
 * Whether a browser that sends this Host means this server. A page elsewhere can have its own name lead here (DNS rebinding) and
 * then read the answers as its own; it cannot do that with an address, nor with localhost or a name that we were given.
 */
export function isOurs(host: string | undefined, names: Names): boolean {
  if (names === null) return true
  const name = /^(\[[0-9a-f:.]+\]|[^:]+)(?::[0-9]{1,5})?$/i.exec(host ?? '')?.[1]?.toLowerCase()
  if (name === undefined) return false
  if (isIP(name.replace(/^\[(.*)\]$/, '$1')) !== 0) return true
  return name === 'localhost' || names.includes(name)
}

async function history(job: string | null, view: DaemonView): Promise<Answer> {
  if (job === null || job === '') return text(400, 'say which job: /history.json?job=NAME\n')
  const { jobs } = await view.statuses()
  if (!jobs.some(({ name }) => name === job)) return text(404, 'there is no such job\n')
  const attempts = (await view.history(job, MAX_POINTS)).slice(-MAX_POINTS)
  const document: HistoryDocument = {
    version: 1,
    job,
    points: attempts.map(({ startedAt, endedAt, takenAt, generation }) => [
      Date.parse(startedAt),
      Date.parse(endedAt),
      generation === null || takenAt === null ? null : Date.parse(takenAt),
    ]),
    attempts: attempts.slice(-MAX_ATTEMPTS),
  }
  return json(document)
}

function json(document: unknown): Answer {
  return { status: 200, type: JSON_TYPE, body: `${JSON.stringify(document)}\n`, headers: {} }
}

function text(status: number, body: string, headers: Readonly<Record<string, string>> = {}): Answer {
  return { status, type: TEXT, body, headers }
}
