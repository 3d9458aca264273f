// What a job looks like from outside, and the line for monitors.

import { describe, expect, it } from 'vitest'

import type { Job } from '../../src/config/config.js'
import { checkLine, checkUnknown } from '../../src/replicate/check-line.js'
import { INTERRUPTED, jobStatus, lagLevel, lagText, statusDocument } from '../../src/replicate/lag.js'
import type { StatusExtras } from '../../src/replicate/lag.js'
import type { JobState } from '../../src/replicate/job-state.js'
import type { JobStatus } from '../../src/replicate/status.js'
import { ago, attempt, jobState, jobStatusOf, NOW_MS } from '../daemon/shown.js'

const JOB = {
  name: 'web01',
  lag: { warningMs: 1_800_000, criticalMs: 3_600_000 },
  disks: [
    { source: { typed: '/dev/vg0/web01' }, destination: { typed: 'kvm2:/dev/vg0/web01' } },
    { source: { typed: '/dev/vg0/log' }, destination: { typed: 'kvm2:/dev/vg0/log' } },
  ],
} as unknown as Job

const EXTRAS: StatusExtras = {
  runningAlive: false,
  progress: null,
  nextRunMs: NOW_MS + 1000,
}
const RUNNING = { attempt: 'a2', process: 'boot 1 1', startedAt: ago(5) }
const FAILED = attempt({
  outcome: 'failed',
  generation: null,
  error: { code: 'session/lost', message: 'the link is gone', operand: null, hint: null },
})

function statusOf(state: JobState | null, extras: Partial<StatusExtras> = {}): JobStatus {
  return jobStatus(JOB, state, NOW_MS, { ...EXTRAS, ...extras })
}

describe('the status of a job', () => {
  it('is that of its newest complete generation', () => {
    expect(statusOf(jobState())).toEqual(
      jobStatusOf({
        nextRun: ago(-1),
        source: '/dev/vg0/web01 /dev/vg0/log',
        destination: 'kvm2:/dev/vg0/web01 kvm2:/dev/vg0/log',
      }),
    )
  })

  it('tells what would be lost where an attempt found out, and did not come to its end', () => {
    const progress = { doneBytes: 9, totalBytes: 10, sentBytes: 5 }
    const failed = jobState({ failures: 1, last: { ...FAILED, sentBytes: 77 } })
    expect(statusOf(failed).atRiskBytes).toBe(77)
    expect(statusOf(jobState({ failures: 1, last: { ...FAILED, sentBytes: 0 } })).atRiskBytes).toBeNull()
    const running = jobState({ running: RUNNING, last: attempt({ sentBytes: 3 }) })
    expect(statusOf(running, { runningAlive: true, progress }).atRiskBytes).toBe(5)
    expect(statusOf(jobState({ last: attempt({ sentBytes: 3 }) })).atRiskBytes).toBeNull()
  })

  it('has nothing but its plan before the first attempt', () => {
    expect(statusOf(null)).toMatchObject({
      state: 'idle',
      generation: null,
      lagSeconds: null,
      lagLevel: 'unknown',
      nextRun: ago(-1),
      totals: { attempts: 0 },
    })
  })

  it.each([
    ['idle', jobState(), false],
    ['running', jobState({ running: RUNNING, failures: 3, paused: { since: ago(9), reason: null } }), true],
    ['retrying', jobState({ failures: 1, last: FAILED, retryAt: ago(-30) }), false],
    ['failed', jobState({ failures: 1, last: FAILED }), false],
    ['paused', jobState({ failures: 1, last: FAILED, paused: { since: ago(9), reason: 'rack' } }), false],
    ['retrying', jobState({ running: RUNNING }), false],
  ] as const)('is %s', (word, state, runningAlive) => {
    expect(statusOf(state, { runningAlive }).state).toBe(word)
  })

  it('tells of the failure that is last, and of an attempt that was killed', () => {
    expect(statusOf(jobState({ failures: 2, last: FAILED })).lastError).toEqual({
      code: 'session/lost',
      message: 'the link is gone',
    })
    expect(statusOf(jobState({ failures: 0 })).lastError).toBeNull()
    const killed = statusOf(jobState({ running: RUNNING }))
    expect(killed.lastError).toMatchObject({
      code: INTERRUPTED,
      message: expect.stringContaining(ago(5)) as string,
    })
    const ended = attempt({ outcome: 'interrupted', generation: null })
    expect(statusOf(jobState({ failures: 1, last: ended })).lastError?.code).toBe(INTERRUPTED)
    expect(statusOf(jobState({ failures: 1, last: FAILED })).sentBytes).toBeNull()
  })

  it('has progress only while it runs, no next run while it is paused, and ends that follow its direction', () => {
    const progress = { doneBytes: 1, totalBytes: 2, sentBytes: 1 }
    expect(statusOf(jobState(), { progress }).progress).toBeNull()
    expect(statusOf(jobState({ running: RUNNING }), { progress, runningAlive: true }).progress).toEqual(
      progress,
    )
    expect(statusOf(jobState({ paused: { since: ago(9), reason: null } })).nextRun).toBeNull()
    expect(statusOf(jobState({ direction: 'reversed' }))).toMatchObject({
      source: 'kvm2:/dev/vg0/web01 kvm2:/dev/vg0/log',
      destination: '/dev/vg0/web01 /dev/vg0/log',
    })
  })

  it('has no lag below zero when the clock was set back, and none of a time that is none', () => {
    const newest = { generation: 1, completedAt: ago(0) }
    expect(statusOf(jobState({ newest: { ...newest, takenAt: ago(-500) } })).lagSeconds).toBe(0)
    expect(statusOf(jobState({ newest: { ...newest, takenAt: 'soon' } })).lagSeconds).toBeNull()
  })

  it('makes the document', () => {
    const daemon = { pid: 1, startedAt: ago(60) }
    expect(statusDocument([], { nowMs: NOW_MS, host: 'kvm1', daemon })).toEqual({
      version: 1,
      at: '2026-03-01T12:00:00.000Z',
      host: 'kvm1',
      daemon,
      jobs: [],
    })
  })
})

it.each([
  [null, 1, 2, 'unknown'],
  [1, 1, 2, 'ok'],
  [2, 1, 2, 'warning'],
  [3, 1, 2, 'critical'],
  [3, null, 2, 'critical'],
  [9, null, null, 'ok'],
] as const)('a lag of %s with limits %s and %s is %s', (lag, warning, critical, level) => {
  expect(lagLevel(lag, warning, critical)).toBe(level)
})

it.each([
  [0, '0 s'],
  [0.9, '0 s'],
  [12, '12 s'],
  [60, '1 min'],
  [303, '5 min 3 s'],
  [7500, '2 h 5 min'],
  [7205, '2 h'],
  [273_600, '3 d 4 h'],
])('%s s is written as %s', (seconds, text) => {
  expect(lagText(seconds)).toBe(text)
})

describe('the line for monitors', () => {
  const OWN = { maxLagMs: null, warnLagMs: null, nowMs: NOW_MS }
  const check = (...jobs: JobStatus[]): ReturnType<typeof checkLine> => checkLine(jobs, OWN)
  const never = { generation: null, lagSeconds: null, lagLevel: 'unknown', last: null } as const

  it('is fine, with the greatest lag and a number for each job', () => {
    expect(
      check(
        jobStatusOf({ lagSeconds: 12 }),
        jobStatusOf({ name: 'db', lagSeconds: 8, warningSeconds: null }),
      ),
    ).toEqual({
      status: 0,
      line: 'BLOCKSYNC OK - 2 jobs, greatest lag 12 s (web01) | web01_lag=12s;1800;3600;0 db_lag=8s;;3600;0',
    })
  })

  it.each([
    [2, 'lag 2 h, limit 1 h', jobStatusOf({ lagSeconds: 7200 })],
    [2, 'lag 2 h, limit 1 h', jobStatusOf({ lagSeconds: 7200, state: 'paused' })],
    [1, 'lag 33 min 20 s, limit 30 min', jobStatusOf({ lagSeconds: 2000 })],
    [
      2,
      'guard/mounted: it is',
      jobStatusOf({ state: 'failed', lastError: { code: 'guard/mounted', message: 'it is' } }),
    ],
    [
      1,
      'tried again after session/lost: gone',
      jobStatusOf({ state: 'retrying', lastError: { code: 'session/lost', message: 'gone' } }),
    ],
    [1, 'paused', jobStatusOf({ state: 'paused', nextRun: null })],
    [1, 'no generation yet', jobStatusOf(never)],
    [2, 'no generation yet', jobStatusOf({ ...never, nextRun: ago(120) })],
    [2, 'no generation yet', jobStatusOf({ ...never, nextRun: null, state: 'retrying' })],
    [1, 'the first generation is being made', jobStatusOf({ ...never, state: 'running', nextRun: ago(120) })],
    [1, 'paused before its first generation', jobStatusOf({ ...never, state: 'paused', nextRun: null })],
  ])('is status %i for: %s', (status, why, job) => {
    const result = check(job, jobStatusOf({ name: 'other' }))
    expect(result.status).toBe(status)
    const word = ['OK', 'WARNING', 'CRITICAL'][status] ?? ''
    expect(result.line).toContain(`BLOCKSYNC ${word} - web01: ${why}; 1 of 2 jobs fine |`)
  })

  it('takes limits for all jobs in place of their own', () => {
    const job = jobStatusOf({ lagSeconds: 500 })
    expect(checkLine([job], { ...OWN, maxLagMs: 499_000 })).toMatchObject({
      status: 2,
      line: expect.stringContaining('web01_lag=500s;;499;0') as string,
    })
    expect(checkLine([job], { ...OWN, maxLagMs: 900_000, warnLagMs: 400_000 })).toMatchObject({
      status: 1,
      line: expect.stringContaining('web01_lag=500s;400;900;0') as string,
    })
  })

  it('names the worst few, and has the worst numbers first', () => {
    const jobs = Array.from({ length: 400 }, (_, index) =>
      jobStatusOf({ name: `vm${index}`, lagSeconds: 4000 + index }),
    )
    const { line } = check(...jobs)
    expect(line).toMatch(
      /- vm399: lag [^;]*; vm398: [^;]*; [^|]*; and 395 more; 0 of 400 jobs fine \| vm399_lag=/,
    )
    expect(line.length).toBeLessThanOrEqual(8000)
  })

  it('stays one line that a name or a message cannot end', () => {
    const lastError = { code: 'host/program', message: 'a | b=1\nOK - \u001b[2J fine' }
    const { line } = check(jobStatusOf({ name: "it's = a|b", state: 'failed', lastError }))
    expect(line.split('|')).toHaveLength(2)
    expect(line).not.toContain('\n')
    expect(line).not.toContain('\u001b')
    expect(line.split('|')[1]).toBe(" 'it''s : a/b_lag'=68s;1800;3600;0")
  })

  it('is unknown where there is nothing to judge', () => {
    expect(check()).toEqual({ status: 3, line: 'BLOCKSYNC UNKNOWN - no job is configured' })
    expect(checkUnknown('x.yaml:3:1: no\nsuch key')).toEqual({
      status: 3,
      line: 'BLOCKSYNC UNKNOWN - x.yaml:3:1: no such key',
    })
  })
})
