// `blocksync check`: one line on stdout whatever happens, and the exit statuses of monitors.

import { describe, expect, it } from 'vitest'

import type { ReplicateEngine } from '../../src/cli/replicate.js'
import { SyncError } from '../../src/errors.js'
import { runWords, type Ran } from './fixtures.js'
import { engine, job, jobStatus, statusDocument } from './replicate-fakes.js'

const JOBS = [job('web01'), job('db')]

async function check(words: readonly string[], parts: Parameters<typeof engine>[0] = {}): Promise<Ran> {
  const status: ReplicateEngine['status'] = () =>
    Promise.resolve(statusDocument([jobStatus('web01'), jobStatus('db', { lagSeconds: 5000 })]))
  return await runWords(['check', ...words], { replicate: engine({ jobs: JOBS, status, ...parts }) })
}

describe('check', () => {
  it.each([
    [['--max-lag', '2h', '--warn-lag', '90m'], 0, 'OK'],
    [['--max-lag', '2h', '--warn-lag', '1h'], 1, 'WARNING'],
    [['--max-lag', '1h'], 2, 'CRITICAL'],
    [['--max-lag', '1h', '--warn-lag', '10m', 'web01'], 0, 'OK'],
    [['--max-lag', '4m', 'web01'], 2, 'CRITICAL'],
    [[], 2, 'CRITICAL'],
  ] as const)('%j ends with %d', async (words, expected, word) => {
    const { status, stdout, stderr } = await check(words)
    expect([status, stderr]).toEqual([expected, ''])
    expect(stdout).toMatch(new RegExp(`^BLOCKSYNC ${word} - [^\n]*\n$`))
  })

  it('of jobs that are named tells of those alone', async () => {
    const { stdout } = await check(['--max-lag', '2h', '--warn-lag', '90m', 'db'])
    expect(stdout).toContain('db_lag=5000s;5400;7200;0')
    expect(stdout).not.toContain('web01')
  })

  it.each([
    [['--max-lag', 'soon'], "'soon' is not a time"],
    [['--max-lag', '1m', '--warn-lag', '1h'], '--warn-lag is more than --max-lag'],
    [['--mx-lag', '1h'], "unknown option '--mx-lag'"],
    [['nobody'], 'there is no job nobody'],
    [['--json'], "unknown option '--json'"],
  ])('%j is unknown: a line on stdout, the error on stderr too', async (words, said) => {
    const { status, stdout, stderr } = await check(words)
    expect(status).toBe(3)
    expect(stdout).toMatch(/^BLOCKSYNC UNKNOWN - [^\n]*\n$/)
    expect(stdout).toContain(said)
    expect(stderr).toContain(said)
  })

  it('without a configuration, or without jobs, is unknown', async () => {
    const loadConfig = (): Promise<never> => Promise.reject(new SyncError('config/missing', 'there is none'))
    const { status, stdout } = await check([], { loadConfig })
    expect([status, stdout]).toEqual([3, 'BLOCKSYNC UNKNOWN - there is none\n'])
    const none = await check([], { jobs: [], status: () => Promise.resolve(statusDocument([])) })
    expect([none.status, none.stdout]).toEqual([3, 'BLOCKSYNC UNKNOWN - no job is configured\n'])
  })

  it('has its help', async () => {
    const { status, stdout } = await check(['--help'])
    expect([status, stdout]).toEqual([0, expect.stringContaining('Usage: blocksync check --max-lag TIME')])
  })
})
