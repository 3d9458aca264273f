// What a daemon tells at its address: understood, or no answer; and the statuses of jobs made of files.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { askDaemon } from '../../src/cli/daemon-status.js'
import { jobStatuses } from '../../src/cli/job-statuses.js'
import type { ListenAddress } from '../../src/config/config.js'
import { changeJobState, newJobState, saveJobState } from '../../src/replicate/state-file.js'
import { attempt, config, job, jobStatus, NOW, statusDocument } from './replicate-fakes.js'

let directory: string
let server: Server | null = null

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-daemon-status-'))
})

afterEach(async () => {
  server?.closeAllConnections()
  await new Promise<void>((resolve) => (server === null ? resolve() : server.close(() => resolve())))
  server = null
  rmSync(directory, { recursive: true, force: true })
})

async function listening(answer: (response: ServerResponse) => void, path?: string): Promise<ListenAddress> {
  server = createServer((_, response) => answer(response))
  await new Promise<void>((resolve) =>
    path === undefined ? server?.listen(0, '127.0.0.1', resolve) : server?.listen(path, resolve),
  )
  if (path !== undefined) return { kind: 'unix', path }
  return { kind: 'tcp', host: '127.0.0.1', port: (server.address() as AddressInfo).port }
}

const progress = { doneBytes: 1, totalBytes: 2, sentBytes: 1 }
const document = {
  ...statusDocument([jobStatus('web01', { progress }), jobStatus('db')]),
  daemon: { pid: 42, startedAt: '2026-01-01T00:00:00.000Z' },
}

describe('askDaemon', () => {
  it.each(['tcp', 'unix'])('understands what is told over %s', async (kind) => {
    const answer = (response: ServerResponse): unknown => response.end(JSON.stringify(document))
    const listen = await listening(answer, kind === 'unix' ? join(directory, 's') : undefined)
    expect(await askDaemon(listen)).toEqual({
      daemon: document.daemon,
      progress: new Map([['web01', progress]]),
    })
  })

  it.each<[string, (response: ServerResponse) => unknown]>([
    ['another status', (response) => response.writeHead(403).end(JSON.stringify(document))],
    ['no JSON', (response) => response.end('<html>')],
    ['other JSON', (response) => response.end('{"jobs":[]}')],
    ['a daemon without pid', (response) => response.end('{"jobs":[],"daemon":{}}')],
    ['a cut answer', (response) => response.writeHead(200, { 'content-length': 9999 }).end('{"jobs"')],
    ['silence', () => undefined],
    [
      'an endless answer',
      (response) => {
        const more = (): void => {
          while (response.write(Buffer.alloc(1 << 20, 32)));
        }
        response.on('drain', more).on('error', () => undefined)
        more()
      },
    ],
  ])('%s is no answer', async (_, answer) => {
    expect(await askDaemon(await listening(answer))).toBeNull()
  })

  it('nobody is no answer', async () => {
    expect(await askDaemon({ kind: 'unix', path: join(directory, 'nobody') })).toBeNull()
  })
})

describe('jobStatuses', () => {
  it('are made of the state files, and say of one that is damaged that it is', async () => {
    const at = new Date(NOW - 60_000).toISOString()
    await saveJobState(directory, {
      ...newJobState('web01'),
      newest: { generation: 3, takenAt: at, completedAt: at },
      last: attempt(),
      scheduledAt: at,
    })
    await changeJobState(directory, 'paused', (state) => ({ ...state, paused: { since: at, reason: null } }))
    mkdirSync(join(directory, 'replicate', 'broken'))
    writeFileSync(join(directory, 'replicate', 'broken', 'state.json'), '{')
    const jobs = ['web01', 'paused', 'broken', 'new'].map((name) => job(name))
    const { jobs: statuses, daemon } = await jobStatuses(config(jobs), directory, NOW)
    expect(daemon).toBeNull()
    expect(statuses).toMatchObject([
      {
        name: 'web01',
        state: 'idle',
        generation: 3,
        lagSeconds: 60,
        nextRun: new Date(NOW + 840_000).toISOString(),
      },
      { name: 'paused', state: 'paused', nextRun: null },
      { name: 'broken', state: 'failed', lastError: { code: 'replicate/record' } },
      {
        name: 'new',
        state: 'idle',
        generation: null,
        lagLevel: 'unknown',
        nextRun: new Date(NOW).toISOString(),
      },
    ])
  })

  it('have the progress that a daemon tells of what runs', async () => {
    const listen = await listening((response) => response.end(JSON.stringify(document)))
    const all = config([job('web01')], { metrics: { textfile: null, listen } })
    const { jobs, daemon } = await jobStatuses(all, directory, NOW)
    expect(daemon).toEqual(document.daemon)
    // no attempt runs by the state: what is told is of the moment before
    expect(jobs).toMatchObject([{ progress: null }])
  })
})
