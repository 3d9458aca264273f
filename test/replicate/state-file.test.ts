// The files of a job: read as they were written, bounded, and never written by two at once.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, expect, it } from 'vitest'

import type { AttemptRecord } from '../../src/replicate/job-state.js'
import {
  appendHistory,
  changeJobState,
  jobDirectory,
  lockJob,
  MAX_HISTORY_LINES,
  newJobState,
  openJobState,
  readHistory,
} from '../../src/replicate/state-file.js'

let stateDir = ''

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'blocksync-job-state-'))
})
afterEach(async () => {
  await rm(stateDir, { recursive: true, force: true })
})

function attempt(number: number): AttemptRecord {
  return {
    attempt: `a${number}`,
    startedAt: '2026-03-01T00:00:00.000Z',
    endedAt: '2026-03-01T00:00:01.000Z',
    outcome: 'failed',
    generation: null,
    takenAt: null,
    sentBytes: number,
    wireBytes: 0,
    durationMs: 1000,
    error: { code: 'session/lost', message: 'the line is gone', operand: null, hint: 'mend it' },
    warnings: ['one'],
  }
}

it('has a state before the first run, and makes nothing to say so', async () => {
  expect(await openJobState(join(stateDir, 'none'), 'web')).toEqual(newJobState('web'))
})

it('reads what was written', async () => {
  const state = await changeJobState(stateDir, 'web', (before) => ({
    ...before,
    direction: 'reversed',
    paused: { since: '2026-03-01T00:00:00.000Z', reason: null },
    running: { attempt: 'a1', process: 'p', startedAt: '2026-03-01T00:00:00.000Z' },
    newest: { generation: 3, takenAt: '2026-03-01T00:00:00.000Z', completedAt: '2026-03-01T00:00:00.000Z' },
    last: attempt(1),
    drill: { at: '2026-03-01T00:00:00.000Z', outcome: 'proved', generation: 2 },
  }))
  expect(await openJobState(stateDir, 'web')).toEqual(state)
})

it.each([
  ['no JSON', '{'],
  ['another version', JSON.stringify({ ...newJobState('web'), version: 2 })],
  ['another job', JSON.stringify(newJobState('db'))],
  ['a field of another kind', JSON.stringify({ ...newJobState('web'), failures: -1 })],
])('refuses %s', async (_, text) => {
  await changeJobState(stateDir, 'web', (state) => ({ ...state, failures: 1 }))
  const path = join(jobDirectory(stateDir, 'web'), 'state.json')
  await writeFile(path, text)
  await expect(openJobState(stateDir, 'web')).rejects.toMatchObject({
    code: 'replicate/record',
    operand: 'web',
  })
})

it('loses no change of several at once', async () => {
  await Promise.all(
    Array.from({ length: 20 }, async () =>
      changeJobState(stateDir, 'web', (state) => ({ ...state, failures: state.failures + 1 })),
    ),
  )
  expect(await openJobState(stateDir, 'web')).toMatchObject({ failures: 20 })
})

it('keeps a history that does not grow for ever, and reads over what is cut off', async () => {
  await appendHistory(stateDir, 'web', attempt(0))
  const path = join(jobDirectory(stateDir, 'web'), 'history.jsonl')
  const lines = Array.from({ length: 2 * MAX_HISTORY_LINES - 1 }, (_, index) =>
    JSON.stringify(attempt(index + 1)),
  )
  await appendFile(path, `${lines.join('\n')}\n{"attempt":"cut o`)
  await appendHistory(stateDir, 'web', attempt(9999))
  expect((await readFile(path, 'utf8')).trimEnd().split('\n')).toHaveLength(MAX_HISTORY_LINES)
  await appendFile(path, '{"attempt":"cut o')
  await appendHistory(stateDir, 'web', attempt(10_000))
  const last = await readHistory(stateDir, 'web', 3)
  expect(last.map(({ sentBytes }) => sentBytes)).toEqual([2 * MAX_HISTORY_LINES - 1, 9999, 10_000])
  expect(await readHistory(stateDir, 'other', 3)).toEqual([])
})

it('lets one attempt run, and says which', async () => {
  {
    await using _lock = await lockJob(stateDir, 'web')
    await expect(lockJob(stateDir, 'web')).rejects.toMatchObject({
      code: 'replicate/busy',
      message: expect.stringContaining(`process ${process.pid}`) as unknown,
    })
    await using _other = await lockJob(stateDir, 'db')
  }
  await using _again = await lockJob(stateDir, 'web')
})

it('is free again when its process was killed', async () => {
  await (await lockJob(stateDir, 'web'))[Symbol.asyncDispose]()
  const path = join(jobDirectory(stateDir, 'web'), 'lock')
  const child = spawn('flock', ['-x', '-F', path, 'sh', '-c', 'echo held; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    await once(child.stdout, 'data')
    await expect(lockJob(stateDir, 'web')).rejects.toMatchObject({ code: 'replicate/busy' })
  } finally {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await using _lock = await lockJob(stateDir, 'web')
})
