// `blocksync replicate check-config`, `run`, `status`, `history`, `pause` and `resume`: what words are refused, what is printed, and the
// statuses. The engine is the test's own.

import type { EventEmitter } from 'node:events'

import { describe, expect, it } from 'vitest'

import type { AttemptRequest, ReplicateEngine } from '../../src/cli/replicate.js'
import { EXIT, SyncError } from '../../src/errors.js'
import type { HeldReplica } from '../../src/replicate/replicas.js'
import type { AttemptRecord } from '../../src/replicate/job-state.js'
import { jsonLines, runWords, type Ran, type Setup } from './fixtures.js'
import { attempt, config, engine, job, jobStatus, MIB, statusDocument } from './replicate-fakes.js'

async function replicate(
  words: readonly string[],
  parts: Parameters<typeof engine>[0] = {},
  setup: Setup = {},
): Promise<Ran> {
  return await runWords(['replicate', ...words], { replicate: engine(parts), ...setup })
}

const held: HeldReplica = {
  id: 'web01.0a1b2c3d',
  job: 'web01',
  state: 'good',
  generation: 812,
  takenAt: '2026-01-02T03:00:00.000Z',
  ageSeconds: 245,
  generations: 4,
  paths: ['/dev/vg0/web01'],
  from: 'kvm1',
  problem: null,
}

describe('words that are refused', () => {
  it.each([
    [[], 'replicate needs a command'],
    [['rum'], 'rum is no command of replicate'],
    [['run'], "missing required argument 'job'"],
    [['run', 'a', 'b'], 'too many arguments'],
    [['run', 'a', '-q', '-v'], "option '-q, --quiet' cannot be used with"],
    [['status', '--watch', '--json'], "'--watch' cannot be used with"],
    [['history', 'a', '--count', '0'], '--count is a number from 1 on'],
    [['restore', 'a', '--generation', '3'], '--to says where it is written to'],
    [['restore', 'a', '--to', 'x.img'], '--to is a path on the host of the replica'],
    [['restore', 'a', '--in-place'], '--in-place leads the replica back'],
    [['restore', 'a', '--to', '/x', '--in-place'], "option '--to <path>' cannot be used with"],
    [['promote', 'a', '--take-back', '--force-source-alive'], '--take-back promotes nothing'],
    [['promote', 'a', '--discard'], '--discard gives up what was written'],
    [['pause', 'a', '--reason', 'x'.repeat(201)], '--reason has more than 200 characters'],
    [['check-config', '--jsn'], "unknown option '--jsn'"],
  ])('%j: %s', async (words, said) => {
    const { status, stderr } = await replicate(words, { jobs: [job('a')] })
    expect([status, stderr]).toEqual([EXIT.usage, expect.stringContaining(said)])
  })
})

describe('help', () => {
  it.each([[['replicate', '--help']], [['help', 'replicate']]])(
    '%j is short, with examples',
    async (words) => {
      const { status, stdout } = await runWords(words)
      expect(status).toBe(EXIT.ok)
      expect(stdout).toMatch(/^Usage: blocksync replicate check-config/)
      expect(stdout).toContain('Examples:\n')
      expect(stdout.split('\n').length).toBeLessThan(35)
      for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(120)
    },
  )

  it.each([
    'check-config',
    'run',
    'daemon',
    'status',
    'history',
    'pause',
    'resume',
    'promote',
    'reverse',
    'restore',
    'drill',
  ])('of %s names --config and --state-dir, and hides what is not for people', async (command) => {
    const { stdout, status } = await runWords(['replicate', command, '--help'])
    expect(status).toBe(EXIT.ok)
    expect(stdout).toContain(`Usage: blocksync replicate ${command} `)
    expect(stdout).toContain('--config')
    expect(stdout).toContain('--state-dir')
    expect(stdout).not.toContain('--from-daemon')
  })
})

describe('check-config', () => {
  it('says what each job does', async () => {
    const files = job('files', {
      snapshot: { kind: 'reflink' },
      schedule: { kind: 'cron', expression: '0 3 * * *', timeZone: 'Europe/Berlin', jitterMs: 0 },
      windows: [{ days: [1], fromMinute: 0, toMinute: 60 }],
      keep: { last: 1, hourly: 0, daily: 0, weekly: 0 },
      quiesce: { kind: 'libvirt', domain: 'files', uri: null },
      verifyEveryMs: 86_400_000,
    })
    const image = job('image', { snapshot: { kind: 'reflink' }, track: 'off' })
    const { status, stdout } = await replicate(['check-config'], { jobs: [job('web01'), files, image] })
    expect([status, stdout.trimEnd().split('\n')]).toEqual([
      EXIT.ok,
      [
        '3 jobs in /etc/blocksync/config.yaml',
        'web01: every 15 min (next: 10 min 55 s); snapshot lvm (20% each); keeps the last 4, 7 daily',
        '  /dev/vg0/web01 -> root@kvm2:/dev/vg0/web01',
        'files: cron 0 3 * * * Europe/Berlin in 1 window (next: 10 min 55 s); snapshot reflink, quiesced by libvirt; keeps the newest; proved every 1 d',
        '  /dev/vg0/files -> root@kvm2:/dev/vg0/files',
        'image: every 15 min (next: 10 min 55 s); snapshot reflink; reads all of the source each time; keeps the last 4, 7 daily',
        '  /dev/vg0/image -> root@kvm2:/dev/vg0/image',
      ],
    ])
  })

  it('lists everything that is wrong, with status 2', async () => {
    const message = '2 problems\n/a.yaml:3:5: jobs.a.bwlimt: unknown key\n/a.yaml:9:1: jobs.b: no disk'
    const loadConfig = (): Promise<never> => Promise.reject(new SyncError('config/invalid', message))
    const { status, stderr, stdout } = await replicate(['check-config', '--json'], { loadConfig })
    expect(status).toBe(EXIT.usage)
    expect(stderr.split('\n').slice(0, 3)).toEqual([
      'blocksync: 2 problems',
      '/a.yaml:3:5: jobs.a.bwlimt: unknown key',
      '/a.yaml:9:1: jobs.b: no disk',
    ])
    expect(jsonLines(stdout)).toMatchObject([{ ok: false, error: { code: 'config/invalid', message } }])
  })

  it('reads the files that are named, and says which is not there', async () => {
    const asked: unknown[] = []
    const loadConfig: ReplicateEngine['loadConfig'] = (files) => {
      asked.push(files)
      return Promise.resolve(config([]))
    }
    const { stdout } = await replicate(['check-config', '--config', '/a', '--config', '/b'], { loadConfig })
    expect([asked, stdout]).toEqual([[['/a', '/b']], 'no job is configured in /etc/blocksync/config.yaml\n'])
    const { status, stderr } = await replicate(['check-config'])
    expect([status, stderr]).toEqual([EXIT.usage, expect.stringContaining('there is no /etc/blocksync')])
  })

  it('with --json is one object, with -q nothing', async () => {
    const { stdout } = await replicate(['check-config', '--json'], { jobs: [job('web01')] })
    expect(jsonLines(stdout)).toMatchObject([
      {
        event: 'config',
        ok: true,
        jobs: [{ name: 'web01', nextRun: '2026-01-02T03:15:00.000Z', track: 'auto' }],
      },
    ])
    expect((await replicate(['check-config', '-q'], { jobs: [job('web01')] })).stdout).toBe('')
  })
})

describe('run', () => {
  type During = (request: AttemptRequest) => AttemptRecord | Promise<AttemptRecord>

  async function run(
    words: readonly string[],
    during: During = () => attempt(),
    parts: Parameters<typeof engine>[0] = {},
    setup: Setup = {},
  ): Promise<Ran & { requests: AttemptRequest[] }> {
    const requests: AttemptRequest[] = []
    const ran = await replicate(
      ['run', 'web01', ...words],
      {
        jobs: [job('web01')],
        run: async (_, request) => {
          requests.push(request)
          return await during(request)
        },
        ...parts,
      },
      setup,
    )
    return { ...ran, requests }
  }

  const events: During = ({ onEvent, syncHooks }) => {
    onEvent({ event: 'phase', job: 'web01', attempt: 'a', phase: 'snapshot' })
    onEvent({ event: 'progress', job: 'web01', doneBytes: 1, totalBytes: 2, sentBytes: 1 })
    onEvent({ event: 'warning', job: 'web01', message: 'look out' })
    onEvent({ event: 'tracked', job: 'web01', attempt: 'a', disks: [{ clone: '/c', leaves: null }] })
    syncHooks.onStderrLine?.('said there')
    return attempt()
  }

  it('says which generation was made', async () => {
    const { status, stdout, stderr, requests } = await run([])
    expect([status, stdout, stderr]).toEqual([
      EXIT.ok,
      'web01: generation 812, taken 2026-01-02 03:00:00 UTC; 3.00 MiB sent in 2.50 s\n',
      '',
    ])
    expect(requests).toMatchObject([{ trigger: 'regular', force: [], stateDir: '/var/lib/blocksync' }])
    expect(requests[0]?.bwlimit).toBeUndefined()
  })

  it('-q prints nothing when all is well, and the error when it is not', async () => {
    const { status, stdout, stderr } = await run(['-q'], events)
    expect([status, stdout, stderr]).toEqual([EXIT.ok, '', ''])
    const error = { code: 'connect/failed', message: 'no way', operand: 'kvm2', hint: 'Try ssh.' }
    const failed = await run(['-q'], () => attempt({ outcome: 'failed', generation: null, error }))
    expect([failed.status, failed.stderr]).toEqual([EXIT.unreachable, 'blocksync: kvm2: no way\nTry ssh.\n'])
  })

  it('-v says what it is at', async () => {
    const { stderr } = await run(['-v', '--no-progress'], events)
    expect(stderr).toBe(
      'blocksync: web01: cutting the source\nblocksync: warning: web01: look out\nremote: said there\n',
    )
  })

  it('--json prints the events, and one result last', async () => {
    const { stdout } = await run(['--json'], async (request) => {
      await events(request)
      // said by the attempt too: it is printed once
      request.onEvent({ event: 'result', ok: true, job: 'web01', ...attempt() })
      return attempt()
    })
    const lines = jsonLines(stdout)
    expect(lines.map(({ event }) => event)).toEqual(['phase', 'progress', 'warning', 'tracked', 'result'])
    expect(lines.at(-1)).toEqual({ event: 'result', ok: true, job: 'web01', ...attempt() })
  })

  it('that failed ends with the status of its error, and has it in the result', async () => {
    const error = { code: 'replicate/snapshot', message: 'no room', operand: null, hint: null }
    const { status, stdout } = await run(['--json'], () => attempt({ outcome: 'failed', error }))
    expect(status).toBe(EXIT.source)
    expect(jsonLines(stdout)).toMatchObject([{ event: 'result', ok: false, job: 'web01', error }])
  })

  it('an error without a known code is a defect', async () => {
    const error = { code: 'of/tomorrow', message: 'what', operand: null, hint: null }
    expect((await run([], () => attempt({ outcome: 'failed', error }))).status).toBe(EXIT.internal)
  })

  it.each([
    ['replicate/paused', 'web01 is paused', 'Resume it first: blocksync replicate resume web01'],
    ['replicate/busy', 'an attempt of web01 runs already', 'Wait.'],
  ] as const)('that was not begun is %s', async (code, message, hint) => {
    const refused = (): Promise<never> =>
      Promise.reject(new SyncError(code, message, { operand: 'web01', hint }))
    const { status, stdout, stderr } = await run(['--json', '--now'], refused)
    expect([status, stderr]).toEqual([EXIT.guard, `blocksync: ${message}\n${hint}\n`])
    expect(jsonLines(stdout)).toMatchObject([
      { event: 'result', ok: false, outcome: 'refused', error: { code } },
    ])
  })

  it('outside of its windows is refused, but not with --now or by a daemon', async () => {
    const closed = { whyNotNow: () => 'its windows open at 22:00' }
    const { status, stderr, requests } = await run([], undefined, closed)
    expect([status, requests]).toEqual([EXIT.guard, []])
    expect(stderr).toContain('web01 is not run now: its windows open at 22:00; nothing was done\n')
    expect(stderr).toContain('blocksync replicate run web01 --now')
    const now = await run(['--now'], undefined, closed)
    expect([now.status, now.requests[0]?.trigger]).toEqual([EXIT.ok, 'now'])
    const daemons = await run(['--from-daemon'], undefined, closed)
    expect([daemons.status, daemons.requests[0]?.trigger]).toEqual([EXIT.ok, 'regular'])
  })

  it('begins with what a daemon holds, and by hand with nothing', async () => {
    const setup = { environment: { BLOCKSYNC_BASE: '{"disks":[]}' } }
    const daemons = await run(['--from-daemon'], undefined, {}, setup)
    expect(daemons.requests[0]?.base).toBe('{"disks":[]}')
    expect((await run([], undefined, {}, setup)).requests[0]?.base).toBeUndefined()
  })

  it('overrides the guards that are named, and asks at a terminal', async () => {
    const { requests } = await run(['--yes', '--force-same-id'])
    expect(requests[0]?.force.toSorted()).toEqual(['content', 'same-id'])
    expect(requests[0]?.syncHooks.confirm).toBeUndefined()
    const questions: string[] = []
    const ask = (question: string): Promise<boolean> => {
      questions.push(question)
      return Promise.resolve(true)
    }
    const asks: During = async ({ syncHooks }) => {
      expect(await syncHooks.confirm?.('Overwrite? ')).toBe(true)
      return attempt()
    }
    await run([], asks, {}, { ask })
    expect(questions).toEqual(['Overwrite? '])
  })

  it('takes a limit of its own, also none', async () => {
    const { requests } = await run(['--bwlimit', '10M'])
    expect(requests[0]?.bwlimit).not.toBeUndefined()
    expect((await run(['--bwlimit', 'off'])).requests[0]?.bwlimit).toBeNull()
  })

  it.each([
    ['SIGTERM', ['-q'], 'interrupt/sigterm'],
    ['SIGINT', [], 'interrupt/sigint'],
    ['input end', ['--from-daemon'], 'interrupt/sigterm'],
  ])('%s ends it in order', async (name, words, code) => {
    const world: { signals?: EventEmitter } = {}
    const { status, requests } = await run(
      words,
      async ({ signal }) => {
        const aborted = new Promise<void>((resolve) =>
          signal.addEventListener('abort', () => resolve(), { once: true }),
        )
        world.signals?.emit(name)
        await aborted
        const { code: why, message } = signal.reason as SyncError
        return attempt({ outcome: 'interrupted', error: { code: why, message, operand: null, hint: null } })
      },
      {},
      { prepare: ({ signals }) => (world.signals = signals) },
    )
    expect([status, requests.length]).toEqual([code === 'interrupt/sigint' ? EXIT.sigint : EXIT.sigterm, 1])
    expect(world.signals?.eventNames()).toEqual([])
  })

  it('of a job that is not there names those that are', async () => {
    const { status, stderr } = await replicate(['run', 'web2'], { jobs: [job('web01'), job('db')] })
    expect([status, stderr]).toEqual([
      EXIT.usage,
      'blocksync: there is no job web2; nothing was done\nThere is web01, db.\n',
    ])
  })
})

describe('status', () => {
  const jobs = [job('fine'), job('late'), job('never'), job('broken')]
  const status: ReplicateEngine['status'] = () =>
    Promise.resolve(
      statusDocument([
        jobStatus('fine'),
        jobStatus('late', {
          state: 'running',
          lagSeconds: 9000,
          lagLevel: 'critical',
          progress: { doneBytes: 5 * MIB, totalBytes: 10 * MIB, sentBytes: 2 * MIB },
          atRiskBytes: 312 * MIB,
        }),
        jobStatus('never', {
          state: 'paused',
          paused: { since: '2026-01-01T00:00:00.000Z', reason: 'new disks' },
          generation: null,
          lagSeconds: null,
          lagLevel: 'unknown',
          nextRun: null,
          sentBytes: null,
          durationMs: null,
        }),
        jobStatus('broken', {
          state: 'failed',
          lagLevel: 'warning',
          lagSeconds: 2000,
          direction: 'reversed',
          lastError: { code: 'guard/size', message: 'too small' },
        }),
      ]),
    )

  it('is a table, worst first, that fits 80 columns', async () => {
    const { status: code, stdout } = await replicate(['status'], { jobs, status })
    expect([code, stdout.trimEnd().split('\n')]).toEqual([
      EXIT.ok,
      [
        'job state lag gen last next in',
        'late running 2 h 30 min critical 812 3.00 MiB 2.50 s 10 min 55 s',
        '5.00 MiB of 10.0 MiB, 2.00 MiB sent',
        'at least 312 MiB would be lost',
        'broken failed 33 min 20 s warning 812 3.00 MiB 2.50 s 10 min 55 s',
        'reversed: from the configured destination to the configured source',
        'guard/size: too small',
        'never paused never - - -',
        'paused since 2026-01-01 00:00:00 UTC: new disks',
        'fine idle 4 min 5 s ok 812 3.00 MiB 2.50 s 10 min 55 s',
      ].map((line) => expect.stringMatching(blanksAsOne(line)) as string),
    ])
  })

  it.each([40, 80, 100, 320])('is not wider than a terminal of %d columns', async (columns) => {
    const name = 'a-very-long-name-of-a-job-that-somebody-thought-to-be-a-good-idea'.slice(0, 64)
    const long = jobStatus(name, {
      lastError: { code: 'connect/failed', message: 'x'.repeat(200) },
      state: 'retrying',
    })
    const { stdout } = await replicate(
      ['status'],
      { jobs, status: () => Promise.resolve(statusDocument([long])) },
      {
        prepare: (stage) => {
          stage.stdout.isTTY = true
          stage.stdout.columns = columns
        },
      },
    )
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(columns)
    expect(stdout.includes('root@kvm2:')).toBe(columns === 320)
  })

  it('--json is the document of the contract', async () => {
    const { stdout } = await replicate(['status', '--json'], { jobs, status })
    const [document] = jsonLines(stdout)
    const [first] = (document?.['jobs'] ?? []) as Record<string, unknown>[]
    for (const field of [
      'name',
      'state',
      'generation',
      'lastSuccess',
      'lagSeconds',
      'nextRun',
      'lastError',
      'sentBytes',
      'durationMs',
    ])
      expect(first).toHaveProperty(field)
    expect(document).toMatchObject({ version: 1, host: 'kvm1', replicas: [] })
  })

  it('says where there is no job, and shows replicas also without any configuration', async () => {
    const { status: code, stdout } = await replicate(['status'])
    expect([code, stdout]).toEqual([EXIT.ok, 'no job is configured, and no replica is held here\n'])
    const broken = { ...held, id: 'db.0a1b2c3d', problem: 'its record cannot be read' }
    const replicas = (): Promise<HeldReplica[]> => Promise.resolve([held, broken])
    const { stdout: shown } = await replicate(['status'], { replicas })
    expect(shown.split('\n')).toEqual([
      'replica         state  generation    age        from',
      'web01.0a1b2c3d  good   812 (4 kept)  4 min 5 s  kvm1',
      '  /dev/vg0/web01',
      'db.0a1b2c3d     good   812 (4 kept)  4 min 5 s  kvm1',
      '  its record cannot be read',
      '',
    ])
    const { stdout: json } = await replicate(['status', '--json'], { replicas })
    expect(jsonLines(json)).toEqual([{ jobs: [], replicas: [held, broken] }])
  })

  it('a configuration that is named has to be there, and one that is wrong is said', async () => {
    expect((await replicate(['status', '--config', '/x'])).status).toBe(EXIT.usage)
    const loadConfig = (): Promise<never> => Promise.reject(new SyncError('config/invalid', 'bad'))
    expect((await replicate(['status'], { loadConfig })).status).toBe(EXIT.usage)
  })

  describe('--watch', () => {
    it('wants a terminal', async () => {
      const { status: code, stderr } = await replicate(['status', '--watch'], { jobs, status })
      expect([code, stderr]).toEqual([EXIT.usage, expect.stringContaining('--watch wants a terminal')])
    })

    it.each([
      ['key', 'q'],
      ['key', '\u0003'],
      ['SIGINT', undefined],
      ['SIGTERM', undefined],
    ])('draws until %s %j, and gives the terminal back', async (event, key) => {
      const world: { signals?: EventEmitter } = {}
      const { status: code, stdout } = await replicate(
        ['status', '--watch'],
        {
          jobs,
          status: async (...given) => {
            setImmediate(() => world.signals?.emit(event, key))
            return await status(...given)
          },
        },
        {
          prepare: (stage) => {
            stage.stdout.isTTY = true
            world.signals = stage.signals
          },
        },
      )
      expect(code).toBe(EXIT.ok)
      expect(stdout.startsWith('\u001b[?1049h')).toBe(true)
      expect(stdout.endsWith('\u001b[?1049l')).toBe(true)
      expect(stdout).toContain('late')
      expect(world.signals?.eventNames()).toEqual([])
    })
  })
})

/** Columns may grow with their content. */
function blanksAsOne(line: string): RegExp {
  const escaped = line.trim().replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`)
  return new RegExp(`^ *${escaped.replaceAll(/ +/g, ' +')}$`)
}

describe('history', () => {
  const failed = attempt({
    outcome: 'failed',
    generation: null,
    sentBytes: 0,
    error: { code: 'session/lost', message: 'it broke', operand: null, hint: null },
  })

  it('lists attempts, and asks for as many as wanted', async () => {
    const counts: number[] = []
    const history: ReplicateEngine['history'] = (_, __, count) => {
      counts.push(count)
      return Promise.resolve([attempt(), failed])
    }
    // it may have been taken out of the configuration
    const knows = (): Promise<boolean> => Promise.resolve(true)
    const { stdout } = await replicate(['history', 'web01', '--count', '7'], { history, knows })
    expect(stdout.split('\n')).toEqual([
      '2026-01-02 03:00:00 UTC  done    generation 812  3.00 MiB  2.50 s',
      '2026-01-02 03:00:00 UTC  failed  -               0 B       2.50 s  session/lost: it broke',
      '',
    ])
    const { stdout: json } = await replicate(['history', 'web01', '--json'], { history, knows })
    expect(jsonLines(json)).toEqual([{ event: 'history', job: 'web01', attempts: [attempt(), failed] }])
    expect(counts).toEqual([7, 20])
  })

  it('of a job without attempts says so, and of none at all is refused', async () => {
    const { stdout } = await replicate(['history', 'web01'], { jobs: [job('web01')] })
    expect(stdout).toBe('web01: no attempt yet\n')
    expect((await replicate(['history', 'web2'], { jobs: [job('web01')] })).status).toBe(EXIT.usage)
    const { status, stderr } = await replicate(['history', 'web2'])
    expect([status, stderr]).toEqual([EXIT.usage, expect.stringContaining('and no configuration')])
  })
})

describe('pause and resume', () => {
  it('tell what was before, and pass the reason on', async () => {
    const asked: unknown[] = []
    let before: 'paused' | 'running' = 'running'
    const setPaused: ReplicateEngine['setPaused'] = (stateDir, name, paused) => {
      asked.push([stateDir, name, paused])
      const was = before
      before = paused === null ? 'running' : 'paused'
      return Promise.resolve(was)
    }
    const parts = { jobs: [job('web01')], setPaused }
    const said: string[] = []
    for (const words of [
      ['pause', 'web01', '--reason', 'new disks'],
      ['pause', 'web01', '--state-dir', '/s'],
      ['resume', 'web01'],
      ['resume', 'web01'],
      ['resume', 'web01', '-q'],
    ])
      said.push((await replicate(words, parts)).stdout)
    expect(said).toEqual([
      'web01 is paused\n',
      'web01 was paused already\n',
      'web01 runs again\n',
      'web01 was not paused\n',
      '',
    ])
    expect(asked.slice(0, 3)).toEqual([
      ['/var/lib/blocksync', 'web01', { reason: 'new disks' }],
      ['/s', 'web01', { reason: null }],
      ['/var/lib/blocksync', 'web01', null],
    ])
  })

  it('of a job that nobody knows change nothing', async () => {
    const { status } = await replicate(['pause', 'web2'], { jobs: [job('web01')] })
    expect(status).toBe(EXIT.usage)
  })
})

describe('daemon', () => {
  it('is given the files, and its status is that of the command', async () => {
    const requests: unknown[] = []
    const daemon: ReplicateEngine['daemon'] = (request) => {
      requests.push(request)
      return Promise.resolve(EXIT.ok)
    }
    const words = ['daemon', '--config', '/a.yaml', '--state-dir', '/s', '--log', 'json']
    expect((await replicate(words, { daemon })).status).toBe(EXIT.ok)
    expect(requests).toEqual([{ files: ['/a.yaml'], stateDir: '/s', log: 'json', environment: {} }])
  })
})
