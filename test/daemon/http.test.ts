// The daemon's server as clients meet it: what it answers, what it refuses, and who cannot hold it up.

import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { isOurs, SECURITY_HEADERS } from '../../src/daemon/answer.js'
import { openFront } from '../../src/daemon/front.js'
import { addressText, openHttp } from '../../src/daemon/http.js'
import type { HttpServer } from '../../src/daemon/http.js'
import { errnoOf } from '../../src/errors.js'
import { attempt, jobStatusOf, logTo, shown } from './shown.js'
import type { LogLine, Shown } from './shown.js'

type Reply = Readonly<{ status: number; headers: IncomingHttpHeaders; body: string }>
type Asked = Readonly<{ method?: string; headers?: Record<string, string>; body?: string }>

async function ask(
  to: number | string,
  path: string,
  { method = 'GET', headers = {}, body }: Asked = {},
): Promise<Reply> {
  const where = typeof to === 'number' ? { host: '127.0.0.1', port: to } : { socketPath: to }
  const sent = request({ ...where, path, method, headers, agent: false })
  sent.end(body)
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  let text = ''
  for await (const chunk of response.setEncoding('utf8')) text += String(chunk)
  return { status: response.statusCode ?? 0, headers: response.headers, body: text }
}

/** What a raw client gets until the other side closes. */
async function say(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  socket.write(text)
  let got = ''
  for await (const chunk of socket.setEncoding('utf8')) got += String(chunk)
  return got
}

let view: Shown
let lines: LogLine[]
let directory: string
beforeEach(() => {
  view = shown(jobStatusOf())
  lines = []
  directory = mkdtempSync(join(tmpdir(), 'blocksync-http-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

describe('on a port of loopback', () => {
  let server: HttpServer
  let port: number
  beforeEach(async () => {
    server = await openHttp({ kind: 'tcp', host: '127.0.0.1', port: 0 }, view, logTo(lines))
    port = server.port ?? 0
  })
  afterEach(() => server[Symbol.asyncDispose]())

  it('answers the status, the metrics, the history and the page', async () => {
    const status = await ask(port, '/status.json')
    expect(JSON.parse(status.body)).toEqual(await view.statuses())
    expect(status.headers['content-type']).toBe('application/json; charset=utf-8')
    const metrics = await ask(port, '/metrics')
    expect(metrics.body).toContain('blocksync_replicate_lag_seconds{job="web01"} 68\n')
    expect(metrics.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    const page = await ask(port, '/')
    expect(page.headers['content-type']).toBe('text/html; charset=utf-8')
    for (const [, link = ''] of page.body.matchAll(/(?:href|src)="([^"]+)"/g)) {
      if (!link.startsWith('data:')) expect([link, (await ask(port, `/${link}`)).status]).toEqual([link, 200])
    }
    const all = page.body + (await ask(port, '/page.js')).body + (await ask(port, '/page.css')).body
    expect(all.match(/https?:\/\/[^'"\s]+/g)?.filter((url) => !url.startsWith('http://www.w3.org/'))).toEqual(
      [],
    )
  })

  it('answers the history of one job, bounded', async () => {
    const attempts = Array.from({ length: 900 }, (_, index) => attempt({ attempt: `a${index}` }))
    view.histories.set('web01', [
      ...attempts,
      attempt({ attempt: 'bad', outcome: 'failed', generation: null }),
    ])
    const history = JSON.parse((await ask(port, '/history.json?job=web01')).body) as Record<string, unknown[]>
    expect(history['points']).toHaveLength(720)
    expect(history['points']?.at(-1)).toEqual([expect.any(Number), expect.any(Number), null])
    expect(history['attempts']).toHaveLength(20)
    expect(history['attempts']?.at(-1)).toMatchObject({ attempt: 'bad' })
    expect((await ask(port, '/history.json?job=other')).status).toBe(404)
    expect((await ask(port, '/history.json')).status).toBe(400)
  })

  it('is healthy while the daemon is, whatever its jobs are', async () => {
    view.jobs = [jobStatusOf({ state: 'failed', lagLevel: 'critical' })]
    expect(await ask(port, '/healthz')).toMatchObject({ status: 200, body: 'ok\n' })
    view.unhealthy = 'the scheduler has not come round for 90 s'
    expect(await ask(port, '/healthz')).toMatchObject({
      status: 503,
      body: 'the scheduler has not come round for 90 s\n',
    })
  })

  it('answers HEAD without a body, with the length that it would have', async () => {
    const whole = await ask(port, '/metrics')
    const head = await ask(port, '/metrics', { method: 'HEAD' })
    expect(head).toMatchObject({ status: 200, body: '' })
    expect(head.headers['content-length']).toBe(whole.headers['content-length'])
  })

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE'])('refuses %s', async (method) => {
    const reply = await ask(port, '/status.json', { method })
    expect(reply.status).toBe(405)
    expect(reply.headers['allow']).toBe('GET, HEAD')
  })

  it.each(['/nothing', '//', '/../etc/passwd', '/status.json/', '/%2e', '/%', '*', '/page.js/x'])(
    'has nothing at %s',
    async (path) => {
      expect((await ask(port, path)).status).toBe(404)
    },
  )

  it('says the same rules to browsers with every answer', async () => {
    for (const path of ['/', '/status.json', '/nothing', '/page.js', '/metrics', '/healthz'])
      expect((await ask(port, path)).headers).toMatchObject(SECURITY_HEADERS)
    expect((await ask(port, '/')).headers['content-security-policy']).toMatch(
      /^default-src 'none'; script-src 'self'/,
    )
  })

  it('answers no name that somebody else could have made up (DNS rebinding)', async () => {
    const reply = await ask(port, '/status.json', { headers: { host: `evil.example:${port}` } })
    expect(reply.status).toBe(421)
    expect(reply.body).not.toContain('web01')
    for (const host of ['localhost', `localhost:${port}`, '127.0.0.1', '[::1]:80', 'LOCALHOST:8080'])
      expect([host, (await ask(port, '/healthz', { headers: { host } })).status]).toEqual([host, 200])
  })

  it('takes no body, and no headers without end', async () => {
    expect((await ask(port, '/status.json', { body: 'x', headers: { 'content-length': '1' } })).status).toBe(
      400,
    )
    const long = `GET / HTTP/1.1\r\nhost: localhost\r\nx: ${'y'.repeat(9000)}\r\n\r\n`
    expect(await say(port, long)).toMatch(/^HTTP\/1\.1 431 /)
    expect(await say(port, 'not HTTP\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /)
  })

  it('lets go of who begins and does not go on, and answers others meanwhile', async () => {
    const slow = Array.from({ length: 20 }, () => say(port, 'GET / HTTP/1.1\r\nhost: local'))
    expect((await ask(port, '/healthz')).status).toBe(200)
    for (const got of await Promise.all(slow)) expect(got).toMatch(/^HTTP\/1\.1 408 /)
  })

  it('has room for so many at once, and turns the next one away', async () => {
    const last = connect(port, '127.0.0.1')
    const sockets = [last, ...Array.from({ length: 63 }, () => connect(port, '127.0.0.1'))]
    try {
      await Promise.all(sockets.map((socket) => once(socket, 'connect')))
      const answered = once(last, 'data')
      last.write('GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n')
      expect(String((await answered)[0])).toMatch(/^HTTP\/1\.1 200 /)
      expect(await say(port, 'GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n').catch(errnoOf)).toMatch(
        /^$|^ECONNRESET$|^EPIPE$/,
      )
    } finally {
      for (const socket of sockets) socket.destroy()
    }
  })

  it('says in the log, not to the client, what went wrong here', async () => {
    view.statuses = () => Promise.reject(new Error('secret detail'))
    const reply = await ask(port, '/status.json')
    expect(reply).toMatchObject({ status: 500, body: 'not answered; see the log\n' })
    expect(lines).toEqual([
      { level: 'error', job: null, message: expect.stringContaining('secret detail') as string },
    ])
  })

  it('says that the port is taken, and by what it can be found', async () => {
    const again = openHttp({ kind: 'tcp', host: '127.0.0.1', port }, view, logTo(lines))
    await expect(again).rejects.toMatchObject({
      code: 'config/invalid',
      operand: `127.0.0.1:${port}`,
      message: `127.0.0.1:${port} of metrics.listen is in use already; status and metrics are not served`,
    })
  })
})

describe('on a unix socket', () => {
  it('answers any Host, to owner and group, and is gone at the end', async () => {
    const path = join(directory, 'socket')
    {
      await using server = await openHttp({ kind: 'unix', path }, view, logTo(lines))
      expect(server.port).toBeNull()
      expect(statSync(path).mode & 0o777).toBe(0o660)
      expect((await ask(path, '/healthz', { headers: { host: 'proxy.example' } })).status).toBe(200)
    }
    expect(existsSync(path)).toBe(false)
  })

  it('takes the place of a socket that a killed daemon left', async () => {
    const path = join(directory, 'socket')
    const program = 'import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()'
    expect(spawnSync('python3', ['-c', program, path], { timeout: 10_000 }).status).toBe(0)
    expect(statSync(path).isSocket()).toBe(true)
    await using server = await openHttp({ kind: 'unix', path }, view, logTo(lines))
    expect(server.port).toBeNull()
    expect((await ask(path, '/healthz')).status).toBe(200)
  })

  it('leaves a socket that somebody answers, and a file', async () => {
    const path = join(directory, 'socket')
    const other = createServer().listen(path)
    await once(other, 'listening')
    await expect(openHttp({ kind: 'unix', path }, view, logTo(lines))).rejects.toMatchObject({
      code: 'config/invalid',
      operand: path,
    })
    expect(statSync(path).isSocket()).toBe(true)
    other.close()
    await once(other, 'close')
    writeFileSync(path, 'mine')
    await expect(openHttp({ kind: 'unix', path }, view, logTo(lines))).rejects.toThrow(/in use already/)
    expect(readFileSync(path, 'utf8')).toBe('mine')
  })
})

it.each([
  ['evil.example', false],
  ['evil.example:9876', false],
  ['127.0.0.1.evil.example', false],
  ['localhost.evil.example', false],
  ['', false],
  [undefined, false],
  ['[::1', false],
  ['localhost:80:80', false],
  ['kvm1', true],
  ['KVM1:9876', true],
  ['192.0.2.7:9876', true],
  ['[2001:db8::1]:9876', true],
])('Host %s is ours: %s', (host, is) => {
  expect(isOurs(host, ['kvm1'])).toBe(is)
})

it('writes an address as the configuration does', () => {
  expect(addressText({ kind: 'tcp', host: '127.0.0.1', port: 1 })).toBe('127.0.0.1:1')
  expect(addressText({ kind: 'tcp', host: '::1', port: 1 })).toBe('[::1]:1')
  expect(addressText({ kind: 'unix', path: '/run/x' })).toBe('/run/x')
})

describe('both together', () => {
  it('opens what is configured, and ends all of it', async () => {
    const textfile = join(directory, 'blocksync.prom')
    {
      await using front = await openFront(
        { listen: { kind: 'tcp', host: '127.0.0.1', port: 0 }, textfile },
        view,
        logTo(lines),
      )
      expect(front).toBeDefined()
      expect(lines.map(({ level }) => level)).toEqual(['info'])
    }
    expect(existsSync(textfile)).toBe(true)
    expect(view.listeners.size).toBe(0)
    await using nothing = await openFront({ listen: null, textfile: null }, view, logTo(lines))
    expect(nothing).toBeDefined()
    expect(lines).toHaveLength(1)
  })
})
