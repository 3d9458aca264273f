// `blocksync status` as text and as JSON, its filters and its exit status; --yes, --state-dir and the question.

import { PassThrough } from 'node:stream'

import { describe, expect, it } from 'vitest'

import { askYesOrNo } from '../../src/cli/ask.js'
import type { StatusEngine } from '../../src/cli/status.js'
import { SyncError } from '../../src/errors.js'
import type { PairRecord } from '../../src/state/record.js'
import { BY, end, finishedRun, OTHER_PAIR_ID, pairRecord, stable } from '../state/fixtures.js'
import { runWords } from './fixtures.js'

const RUNNING = { runId: OTHER_PAIR_ID, since: '2026-11-21T02:00:01.000Z', by: BY, process: 'alive' }

function engine(records: PairRecord[], problems: string[] = []): StatusEngine {
  return {
    records: (stateDir) => Promise.resolve({ path: stateDir ?? '/var/lib/blocksync', records, problems }),
    identify: (path) => Promise.resolve(stable('host1', path === '/dev/dm-0' ? 'dm:LVM-1' : `path:${path}`)),
    isRunning: (name) => Promise.resolve(name === 'alive'),
  }
}

const web = pairRecord()
const db = pairRecord({
  pairId: OTHER_PAIR_ID,
  role: 'destination',
  disk: end('host1', '/srv/db.img'),
  peer: end('host3.example', '/srv/db.img'),
  generation: 0,
  finished: null,
  running: { ...RUNNING, process: 'dead' },
})

describe('blocksync status', () => {
  it('tells which way, when, by whom, and what did not finish', async () => {
    const { status, stdout, stderr } = await runWords(['status'], { status: engine([web, db]) })
    expect([status, stderr]).toEqual([0, ''])
    expect(stdout.trimEnd().split('\n')).toEqual([
      '/dev/vg/web -> host2:/dev/vg/web',
      '  generation 3, 2026-11-20 12:00:00 UTC, 1.00 GiB, by anna@host1 (0.1.0)',
      `  root ${'ab'.repeat(32)} (xxh3-128)`,
      'host3.example:/srv/db.img -> /srv/db.img',
      '  interrupted: a run did not finish that began 2026-11-21 02:00:01 UTC, by anna@host1 (0.1.0)',
    ])
  })

  it('tells a run that goes on', async () => {
    const { stdout } = await runWords(['status'], { status: engine([{ ...db, running: RUNNING }]) })
    expect(stdout).toContain('  running since 2026-11-21 02:00:01 UTC, by anna@host1 (0.1.0)')
  })

  it('shows a pair of two disks of this host once', async () => {
    const [a, b] = [end('host1', '/a'), end('host1', '/b')]
    const both = [pairRecord({ disk: a, peer: b }), pairRecord({ role: 'destination', disk: b, peer: a })]
    const { stdout } = await runWords(['status'], { status: engine(both) })
    expect(stdout.match(/->/g)).toHaveLength(1)
    expect(stdout).toContain('/a -> /b')
  })

  it.each([
    ['/dev/vg/web', '/dev/vg/web'],
    ['/dev/dm-0', '/dev/vg/web'],
    ['host2:/dev/vg/web', '/dev/vg/web'],
    ['root@host3:/srv/db.img', '/srv/db.img'],
    ['/srv/db.img', '/srv/db.img'],
  ])('of %s', async (disk, shown) => {
    const { status, stdout } = await runWords(['status', disk], { status: engine([web, db]) })
    expect(status).toBe(0)
    expect(stdout.match(/->/g)).toHaveLength(1)
    expect(stdout).toContain(shown)
  })

  it.each(['/dev/vg/other', 'host9:/dev/vg/web', 'host2:/srv/db.img'])(
    'of %s: nothing is known, status 1',
    async (disk) => {
      const ran = await runWords(['status', disk], { status: engine([web, db]) })
      expect(ran).toMatchObject({
        status: 1,
        stdout: '',
        stderr: `blocksync: no record of ${disk} in /var/lib/blocksync\n`,
      })
      const one = await runWords(['status', disk, '/dev/vg/web'], { status: engine([web, db]) })
      expect([one.status, one.stdout.match(/->/g)?.length]).toEqual([1, 1])
    },
  )

  it('says that there is none, what was not used, and which directory was looked at', async () => {
    const { status, stdout, stderr } = await runWords(['status', '--state-dir', '/srv/state'], {
      status: engine([], ['a record is broken']),
    })
    expect({ status, stdout, stderr }).toEqual({
      status: 0,
      stdout: 'no pair of disks is recorded in /srv/state\n',
      stderr: 'blocksync: warning: a record is broken\n',
    })
  })

  it('prints JSON', async () => {
    const { stdout } = await runWords(['status', '--json'], { status: engine([web, db]) })
    const { process: _, ...running } = RUNNING
    expect(JSON.parse(stdout)).toMatchObject({
      event: 'status',
      stateDir: '/var/lib/blocksync',
      pairs: [
        {
          source: '/dev/vg/web',
          destination: 'host2:/dev/vg/web',
          state: 'finished',
          finished: finishedRun(),
          running: null,
        },
        { pairId: OTHER_PAIR_ID, role: 'destination', state: 'interrupted', finished: null, running },
      ],
    })
    expect(stdout).not.toContain('dead')
  })

  it('refuses a host without a path, and an unusable directory', async () => {
    expect(await runWords(['status', 'host2'], { status: engine([]) })).toMatchObject({ status: 2 })
    const broken = {
      ...engine([]),
      records: () => Promise.reject(new SyncError('state/unusable', 'it is a link')),
    }
    expect(await runWords(['status'], { status: broken })).toMatchObject({ status: 3 })
  })
})

describe('options of a run', () => {
  it('--yes answers the question of content and no other', async () => {
    for (const option of ['-y', '--yes', '--force-content']) {
      const { calls } = await runWords(['/a', 'host2:/a', option])
      expect(calls[0]?.options.force).toEqual(['content'])
    }
    const { calls } = await runWords(['/a', 'host2:/a', '--force-direction'])
    expect(calls[0]?.options.force).toEqual(['direction'])
    expect((await runWords(['verify', '/a', 'host2:/a', '--yes'])).status).toBe(2)
  })

  it('--state-dir is for both ends, and absolute', async () => {
    const { calls } = await runWords(['/a', 'host2:/a', '--state-dir', '/srv/state'])
    expect(calls[0]?.options).toMatchObject({
      stateDir: '/srv/state',
      transport: { serveArguments: ['--state-dir=/srv/state'] },
    })
    const plain = await runWords(['/a', 'host2:/a'])
    expect(plain.calls[0]?.options).toMatchObject({ stateDir: null, transport: { serveArguments: [] } })
    for (const wrong of ['', 'a\u0001b', '/srv/a b'])
      expect((await runWords(['/a', 'host2:/a', '--state-dir', wrong])).status).toBe(2)
    expect((await runWords(['/a', '/b', '--state-dir', '/srv/a b'])).calls[0]?.options.stateDir).toBe(
      '/srv/a b',
    )
  })

  it('a person is asked only at a terminal, and not by a program', async () => {
    const ask = () => Promise.resolve(true)
    const confirm = async (words: string[], on: typeof ask | null) =>
      (await runWords(['/a', 'host2:/a', ...words], { ask: on })).calls[0]?.hooks.confirm
    expect(await confirm([], null)).toBeUndefined()
    expect(await confirm(['--json'], ask)).toBeUndefined()
    expect(await (await confirm([], ask))?.('Overwrite? ')).toBe(true)
  })
})

describe('askYesOrNo', () => {
  async function answered(text: string | null, abort?: 'abort'): Promise<[boolean, string]> {
    const input = new PassThrough()
    const output = new PassThrough()
    const stop = new AbortController()
    const asking = askYesOrNo('Really?\u001b[2J [y/N] ', { input, output }, stop.signal)
    if (abort === 'abort') stop.abort()
    else if (text === null) input.end()
    else input.write(text)
    return [await asking, String(output.read())]
  }

  it.each(['y\n', 'Y\n', 'yes\n', ' YES \n'])('%j is yes', async (text) => {
    expect(await answered(text)).toEqual([true, 'Really??[2J [y/N] '])
  })
  it.each(['\n', 'n\n', 'no\n', 'yep\n', 'yy\n', 'ye s\n'])('%j is no', async (text) => {
    expect((await answered(text))[0]).toBe(false)
  })
  it('the end of the input and an interruption are no', async () => {
    expect(await answered(null)).toEqual([false, expect.stringMatching(/^Really\?\?\[2J \[y\/N\] [\r\n]+$/)])
    expect((await answered(null, 'abort'))[0]).toBe(false)
  })
})
