// `blocksync bwlimit` with runs made by hand: which run is meant, what is printed, and that nothing is changed where that
// is not clear.

import { describe, expect, it } from 'vitest'

import { parseBwlimit } from '../../src/cli/timetable.js'
import { SyncError } from '../../src/errors.js'
import type { FoundRun } from '../../src/rate/client.js'
import type { ControlRequest, RunStatus } from '../../src/rate/message.js'
import { constantRate } from '../../src/rate/schedule.js'
import { runWords } from './fixtures.js'
import type { Ran } from './fixtures.js'

const MIB = 1 << 20
const TIMETABLE = '08:00,20M 19:00,off'

function status(changes: Partial<RunStatus> = {}): RunStatus {
  const disks = [{ source: '/dev/vg/web', destination: 'host2:/dev/vg/web' }]
  return { pid: 4711, disks, diskCount: 1, schedule: null, bytesPerSecond: null, ...changes }
}

function found(changes: Partial<RunStatus> = {}): FoundRun {
  const shown = status(changes)
  return { path: `/run/blocksync/${shown.pid}.sock`, pid: shown.pid, status: shown }
}

const deaf: FoundRun = { path: '/run/blocksync/99.sock', pid: 99, status: null, why: 'it does not answer' }

type Asked = { pid: number; request: ControlRequest }

async function typed(words: readonly string[], runs: readonly FoundRun[]): Promise<Ran & { asked: Asked[] }> {
  const asked: Asked[] = []
  const ran = await runWords(['bwlimit', ...words], {
    runs: {
      find: () => Promise.resolve([...runs]),
      ask: ({ pid }, request) => {
        asked.push({ pid, request })
        if (pid === deaf.pid)
          return Promise.reject(new SyncError('connect/failed', 'it does not answer', { operand: '99' }))
        if (request.command !== 'bwlimit') throw new Error('only changes are asked for here')
        return Promise.resolve(status({ pid, schedule: request.schedule, bytesPerSecond: 20 * MIB }))
      },
    },
  })
  return { ...ran, asked }
}

describe('blocksync bwlimit', () => {
  it('lists the runs with pid, limit and disks', async () => {
    const schedule = parseBwlimit('--bwlimit', TIMETABLE)
    const runs = [
      found(),
      found({ pid: 5, diskCount: 3, schedule: constantRate(MIB), bytesPerSecond: MIB }),
      found({ pid: 1234567, schedule, bytesPerSecond: null }),
      deaf,
    ]
    const { status: exit, stdout, stderr, asked } = await typed([], runs)
    expect({ exit, stderr, asked }).toEqual({ exit: 0, stderr: '', asked: [] })
    expect(stdout.split('\n')).toEqual([
      'PID      LIMIT                           DISKS',
      '4711     no limit                        /dev/vg/web -> host2:/dev/vg/web',
      '5        1.00 MiB/s                      /dev/vg/web -> host2:/dev/vg/web and 2 more',
      `1234567  no limit (${TIMETABLE})  /dev/vg/web -> host2:/dev/vg/web`,
      '99       does not answer',
      '',
    ])
    expect((await typed([], [])).stdout).toBe('no run of yours goes on here\n')
  })

  it('changes the only run there is, or the one that is named', async () => {
    const only = await typed(['20M'], [found()])
    expect(only).toMatchObject({ status: 0, stderr: '', stdout: '4711: 20.0 MiB/s (was no limit)\n' })
    expect(only.asked).toEqual([
      { pid: 4711, request: { command: 'bwlimit', schedule: constantRate(20 * MIB) } },
    ])
    const named = await typed(['off', '5'], [found(), found({ pid: 5 })])
    expect(named.asked).toEqual([{ pid: 5, request: { command: 'bwlimit', schedule: null } }])
    const timetable = await typed([TIMETABLE], [found()])
    expect(timetable.stdout).toBe(`4711: 20.0 MiB/s (${TIMETABLE}) (was no limit)\n`)
  })

  it('reports a run that does not answer', async () => {
    const { status: exit, stderr } = await typed(['20M', '99'], [found(), deaf])
    expect(exit).toBe(4)
    expect(stderr).toMatch(/does not answer/)
  })

  it.each<[string, string[], FoundRun[], RegExp, RegExp]>([
    ['no run', ['20M'], [], /no run of yours/, /--bwlimit RATE/],
    ['two runs', ['20M'], [found(), found({ pid: 5 })], /2 runs/, /blocksync bwlimit '20M' 4711/],
    [
      'another pid',
      ['20M', '6'],
      [found()],
      /^blocksync: 6 is not the pid of a run/,
      /Type blocksync bwlimit/,
    ],
    ['no pid', ['20M', '6x'], [found()], /^blocksync: 6x is not the pid/, /Type blocksync bwlimit/],
    ['pid 0', ['20M', '0'], [found()], /^blocksync: 0 is not the pid/, /Type blocksync bwlimit/],
    ['a pid for a rate', ['4711'], [found()], /4711 is the pid of a run/, /bwlimit RATE 4711.*4711B 4711/],
    ['no rate', ['fast'], [found()], /'fast' is not a rate/, /blocksync bwlimit 80M/],
    ['no timetable', ['8,1'], [found()], /'8' where a time/, /blocksync bwlimit '08:00,20M/],
    ['a word too many', ['1M', '2', '3'], [found()], /too many arguments/, /--help/],
    ['an option', ['1M', '--dry-run'], [found()], /unknown option/, /--help/],
  ])('refuses %s', async (_name, words, runs, message, hint) => {
    const { status: exit, stdout, stderr, asked } = await typed(words, runs)
    expect({ exit, stdout, asked }).toEqual({ exit: 2, stdout: '', asked: [] })
    const lines = stderr.trimEnd().split('\n')
    expect(lines.at(-2)).toMatch(message)
    expect(lines.at(-2)).toMatch(/nothing was (changed|opened)$/)
    expect(lines.at(-1)).toMatch(hint)
  })

  it('shows the runs where it has to be told which one is meant', async () => {
    const { stderr } = await typed(['20M'], [found(), found({ pid: 5 })])
    expect(stderr).toMatch(/^PID +LIMIT +DISKS\n4711 .*\n5 /)
  })

  it('is not an operand', async () => {
    const { status: exit, stderr } = await runWords(['-v', 'bwlimit', '1M'])
    expect(exit).toBe(2)
    expect(stderr).toMatch(/the command bwlimit has to be the first word/)
  })
})
