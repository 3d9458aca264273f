// When people are told, and by which ways: programs, requests and letters, each for real.

import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import type { NotifyTarget } from '../../src/config/config.js'
import { conditionOf, tellChange, type Told } from '../../src/daemon/notify.js'
import { letter, notifyBy, noticeEnvironment, pingUrl, type Notice } from '../../src/daemon/notify-ways.js'
import { Teller } from '../../src/daemon/tell.js'
import type { JobState } from '../../src/replicate/job-state.js'
import { farEnough, isRunning, until } from '../support/processes.js'
import { attempt, jobState, jobStatusOf } from './shown.js'
import { job } from './world.js'

const NOTICE: Notice = {
  job: 'web01',
  condition: 'failing',
  before: 'well',
  message: 'failing: session/lost: the connection broke; generation 17 is 68 s old',
  host: 'kvm1',
  lagSeconds: 68,
  generation: 17,
  errorCode: 'session/lost',
}

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-tell-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function script(text: string): string {
  const path = join(directory, 'script')
  writeFileSync(path, `#!/bin/sh\n${text}\n`)
  chmodSync(path, 0o755)
  return path
}

describe('what is told', () => {
  const error = { code: 'session/lost', message: 'the connection broke', operand: null, hint: null }
  const retrying = (failures: number): JobState =>
    jobState({ failures, retryAt: '2026-03-01T12:00:05.000Z', last: attempt({ outcome: 'failed', error }) })

  it('is a failure that needs somebody, or several that do not pass', () => {
    const status = jobStatusOf()
    expect(conditionOf(jobState(), status)).toBe('well')
    expect(conditionOf(jobState({ failures: 1, retryAt: null }), status)).toBe('failing')
    expect([1, 2, 3].map((count) => conditionOf(retrying(count), status))).toEqual([
      'well',
      'well',
      'failing',
    ])
  })

  it('is a lag over its limit, unless somebody paused the job', () => {
    const late = jobStatusOf({ lagLevel: 'critical', lagSeconds: 9999 })
    expect(conditionOf(jobState(), late)).toBe('late')
    expect(conditionOf(jobState({ paused: { since: '2026-03-01T12:00:00.000Z', reason: null } }), late)).toBe(
      'well',
    )
    expect(conditionOf(jobState(), jobStatusOf({ lagLevel: 'unknown', lagSeconds: null }))).toBe('well')
  })

  it('is told when it changes, to all targets, and again when one did not take it', async () => {
    const sent: string[] = []
    let works = false
    const targets: NotifyTarget[] = [
      { kind: 'mail', to: 'root', sendmail: '/x', timeoutMs: 1000 },
      { kind: 'http', url: 'https://ping.example/secret', timeoutMs: 1000 },
    ]
    const lines: string[] = []
    const tell = async (state: JobState): Promise<Told> =>
      await tellChange(
        job('web01', { notify: [{ kind: 'command', command: ['/own'], timeoutMs: 1000 }] }),
        state,
        jobStatusOf({ lastError: error }),
        targets,
        (level, name, message) => lines.push(`${level} ${name}: ${message}`),
        async ({ kind }, { condition, before }) => {
          sent.push(`${kind} ${before} ${condition}`)
          if (kind === 'http' && !works) throw new Error('no answer')
        },
      )
    expect(await tell(jobState())).toBe('well')
    expect(sent).toEqual([])
    expect(await tell(jobState({ failures: 1 }))).toBe('well')
    expect(sent).toEqual(['mail well failing', 'http well failing', 'command well failing'])
    expect(lines).toEqual([
      'warning web01: nobody was told by a request to ping.example that it is failing: no answer',
    ])
    works = true
    expect(await tell(jobState({ failures: 1 }))).toBe('failing')
    expect(await tell(jobState({ failures: 2, told: 'failing' }))).toBe('failing')
    expect(sent).toHaveLength(6)
    expect(await tell(jobState({ told: 'failing' }))).toBe('well')
    expect(sent.slice(6)).toEqual(['mail failing well', 'http failing well', 'command failing well'])
  })

  it('is tried again behind the next attempt, not every minute, and kept once it is told', async () => {
    const sent: Told[] = []
    const saved: string[] = []
    let works = false
    const teller = new Teller({
      targets: () => [{ kind: 'command', command: ['/x'], timeoutMs: 1000 }],
      statusOf: () => jobStatusOf(),
      saveTold: async (name, told) => {
        saved.push(`${name} ${told}`)
      },
      log: () => undefined,
      by: async (_, { condition }) => {
        sent.push(condition)
        if (!works) throw new Error('no')
      },
    })
    const state = jobState({ failures: 1 })
    for (const why of ['attempt', 'time', 'time', 'attempt'] as const) {
      teller.tell(job('web01'), state, why)
      teller.tell(job('web01'), state, why)
      await teller.idle()
    }
    expect([sent, saved]).toEqual([['failing', 'failing'], []])
    works = true
    teller.tell(job('web01'), state, 'attempt')
    await teller.idle()
    expect([sent.length, saved]).toEqual([3, ['web01 failing']])
  })
})

describe('a command', () => {
  it('gets what there is to know in its environment, each in one line', async () => {
    const path = script(`env | grep ^BLOCKSYNC_ | sort > ${directory}/seen`)
    const notice = { ...NOTICE, message: 'one\nBLOCKSYNC_STATE=well\u0000' }
    await notifyBy({ kind: 'command', command: [path], timeoutMs: 5000 }, notice)
    const seen = readFileSync(join(directory, 'seen'), 'utf8').split('\n')
    expect(seen).toContain('BLOCKSYNC_MESSAGE=one?BLOCKSYNC_STATE=well?')
    expect(seen).toContain('BLOCKSYNC_STATE=failing')
    expect(seen).toContain('BLOCKSYNC_JOB=web01')
    expect(Object.keys(noticeEnvironment(NOTICE))).toHaveLength(8)
  })

  it('is an error with its last words where it fails, or does not end', async () => {
    const failing: NotifyTarget = {
      kind: 'command',
      command: [script('echo no way >&2; exit 3')],
      timeoutMs: 5000,
    }
    await expect(notifyBy(failing, NOTICE)).rejects.toThrow('it ended with 3: no way')
    const missing: NotifyTarget = { kind: 'command', command: [join(directory, 'missing')], timeoutMs: 5000 }
    await expect(notifyBy(missing, NOTICE)).rejects.toThrow('ENOENT')
    const path = script(`echo $$ > ${directory}/pid; trap '' TERM; sleep 60 & wait; sleep 60`)
    const pid = await farEnough(join(directory, 'pid'), async (timeoutMs) => {
      const hanging: NotifyTarget = { kind: 'command', command: [path], timeoutMs }
      await expect(notifyBy(hanging, NOTICE)).rejects.toThrow(`did not end within ${timeoutMs / 1000} s`)
    })
    await until(() => !isRunning(pid), 'it is gone')
  })
})

describe('a request', () => {
  let server: Server
  let seen: string[]
  let answer: number | null

  beforeEach(async () => {
    seen = []
    answer = 200
    server = createServer((request, response) => {
      seen.push(`${request.method} ${request.url}`)
      if (answer !== null) response.writeHead(answer, { location: '/elsewhere' }).end('x'.repeat(100_000))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
  })

  afterEach(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })

  function target(timeoutMs = 5000): NotifyTarget {
    const { port } = server.address() as AddressInfo
    return { kind: 'http', url: `http://127.0.0.1:${port}/ping/uuid?rid=5`, timeoutMs }
  }

  it('goes to the URL for what is well, and to /fail for what is not', async () => {
    await notifyBy(target(), { ...NOTICE, condition: 'well' })
    await notifyBy(target(), NOTICE)
    await notifyBy(target(), { ...NOTICE, condition: 'late' })
    expect(seen).toEqual(['GET /ping/uuid?rid=5', 'GET /ping/uuid/fail?rid=5', 'GET /ping/uuid/fail?rid=5'])
    expect(pingUrl('https://h/', 'failing').href).toBe('https://h/fail')
  })

  it('is an error for any other answer, and for none; the path is not in it', async () => {
    for (const status of [302, 404, 500]) {
      answer = status
      await expect(notifyBy(target(), NOTICE)).rejects.toThrow(`it was answered with ${status}`)
    }
    answer = null
    const begun = performance.now()
    await expect(notifyBy(target(200), NOTICE)).rejects.toThrow('no answer within 0.2 s')
    expect(performance.now() - begun).toBeLessThan(3000)
    const refused: NotifyTarget = { kind: 'http', url: 'http://127.0.0.1:1/secret', timeoutMs: 5000 }
    await expect(notifyBy(refused, NOTICE)).rejects.toThrow(/ECONNREFUSED/)
    await expect(notifyBy(refused, NOTICE)).rejects.not.toThrow(/secret/)
  })
})

describe('mail', () => {
  it('is a letter that sendmail gets on its stdin', async () => {
    const sendmail = script(`echo "$@" > ${directory}/words; cat > ${directory}/letter`)
    await notifyBy({ kind: 'mail', to: 'root', sendmail, timeoutMs: 5000 }, NOTICE)
    expect(readFileSync(join(directory, 'words'), 'utf8')).toBe('-t -i\n')
    const text = readFileSync(join(directory, 'letter'), 'utf8')
    expect(text).toContain('To: root\nSubject: blocksync: web01 is failing (kvm1)\n')
    expect(text).toContain('\n\njob:        web01\n')
  })

  it('lets nothing become a header that is none', () => {
    const hostile = 'x\r\nBcc: all@example.org\n\n.\nFrom: me\u2028'
    const text = letter(`root\nBcc: a@b`, {
      ...NOTICE,
      job: hostile,
      host: hostile,
      message: `${hostile} ${'w'.repeat(5000)}`,
    })
    const [head = '', ...body] = text.split('\n\n')
    expect(head.split('\n').map((line) => line.split(':')[0])).toEqual([
      'To',
      'Subject',
      'Auto-Submitted',
      'MIME-Version',
      'Content-Type',
      'Content-Transfer-Encoding',
    ])
    expect(head).toMatch(/^[\x20-\x7e\n]*$/)
    expect(
      body
        .join('')
        .split('\n')
        .every((line) => line.length < 998 && line !== '.'),
    ).toBe(true)
  })

  it('is an error where sendmail fails', async () => {
    const sendmail = script('exit 75')
    await expect(notifyBy({ kind: 'mail', to: 'root', sendmail, timeoutMs: 5000 }, NOTICE)).rejects.toThrow(
      '75',
    )
  })
})
