// Whole command lines with an engine made by hand: exit statuses, what goes to which stream, signals, doctor.

import type { EventEmitter } from 'node:events'

import { describe, expect, it } from 'vitest'

import type { DoctorEngine } from '../../src/cli/doctor.js'
import type { ProbeResult } from '../../src/sync/probe.js'
import type { ErrorCode } from '../../src/errors.js'
import { SyncError, toSyncError } from '../../src/errors.js'
import type { RunReport } from '../../src/sync/report.js'
import { diskReport, jsonLines, MIB, progress, runWords } from './fixtures.js'
import type { MemoryStream } from './fixtures.js'

/** The documented status of each code, written down a second time: a changed table must be noticed. */
const STATUS_OF: Record<ErrorCode, number> = {
  usage: 2,
  'native/required': 2,
  'guard/mounted': 3,
  'guard/swap': 3,
  'guard/guest': 3,
  'guard/open': 3,
  'guard/attached': 3,
  'guard/held': 3,
  'guard/same-id': 3,
  'guard/content': 3,
  'guard/direction': 3,
  'guard/same-disk': 3,
  'guard/size': 3,
  'guard/kind': 3,
  'guard/missing': 3,
  'guard/locked': 3,
  'guard/restricted': 3,
  'state/unusable': 3,
  'connect/host': 4,
  'connect/refused': 4,
  'connect/host-key': 4,
  'connect/auth': 4,
  'connect/no-program': 4,
  'connect/version': 4,
  'connect/capability': 4,
  'connect/garbage': 4,
  'connect/failed': 4,
  'source/missing': 5,
  'source/open': 5,
  'source/read': 5,
  'source/shrank': 5,
  'source/track': 5,
  'destination/track': 6,
  'source/unreadable': 11,
  'rescue/write': 6,
  'receipt/write': 6,
  'destination/open': 6,
  'destination/read': 6,
  'destination/write': 6,
  'destination/no-space': 6,
  'destination/flush': 6,
  'destination/undo': 6,
  'destination/undo-space': 6,
  'verify/mismatch': 7,
  'undo/missing': 3,
  'undo/mismatch': 3,
  'undo/broken': 7,
  'migrate/guest': 2,
  'migrate/unknown': 2,
  'migrate/refused': 3,
  'migrate/busy': 3,
  'migrate/ended': 3,
  'migrate/daemon': 4,
  'migrate/hypervisor': 9,
  'migrate/shutdown': 9,
  'migrate/stopped': 9,
  'migrate/stuck': 10,
  'config/invalid': 2,
  'config/missing': 2,
  'replicate/unknown': 2,
  'replicate/busy': 3,
  'replicate/paused': 3,
  'replicate/promoted': 3,
  'replicate/refused': 3,
  'replicate/record': 3,
  'replicate/snapshot': 5,
  'replicate/quiesce': 5,
  'replicate/hook': 9,
  'replicate/drill': 7,
  'host/program': 9,
  'host/file': 9,
  'host/lost': 8,
  'session/lost': 8,
  'session/protocol': 8,
  'interrupt/sigint': 130,
  'interrupt/sigterm': 143,
  internal: 70,
}

const codes = Object.entries(STATUS_OF) as [ErrorCode, number][]

describe('exit status', () => {
  it.each(codes)('of %s is %d, reported or thrown', async (code, status) => {
    const error = new SyncError(code, 'it failed', { operand: 'host2:/dev/a', hint: 'Do this.' })
    const partial = diskReport({
      state: 'partial',
      sameBlocks: 0,
      zeroBlocks: 0,
      skippedBlocks: 0,
      differentBlocks: 3,
    })
    const reported = await runWords(['/dev/a', 'host2'], { engine: () => ({ disks: [partial], error }) })
    expect(reported.status).toBe(status)
    expect(reported.stdout).toBe('same: 0, diff: 3, 3/1024\n')
    expect(reported.stderr).toBe(
      'blocksync: host2:/dev/a: it failed\nDo this.\nstopped at /dev/vg/web -> host2:/dev/vg/web; 3 of 1024 blocks done; ' +
        'run the same command again to continue\n',
    )
    const thrown = await runWords(['/dev/a', 'host2', '--json'], { engine: () => Promise.reject(error) })
    expect(thrown.status).toBe(status)
    expect(thrown.stderr).toBe('blocksync: host2:/dev/a: it failed\nDo this.\n')
    expect(jsonLines(thrown.stdout)).toMatchObject([
      {
        event: 'result',
        ok: false,
        source: '/dev/a',
        destination: 'host2:/dev/a',
        error: { code, operand: 'host2:/dev/a' },
      },
    ])
  })

  it.each<[string[], boolean, number]>([
    [['/a', 'h'], true, 0],
    [['/a', 'h'], false, 0],
    [['-n', '/a', 'h'], true, 1],
    [['-n', '/a', 'h'], false, 0],
    [['verify', '/a', 'h'], true, 1],
    [['verify', '/a', 'h'], false, 0],
    [['verify', '-q', '/a', 'h'], true, 1],
  ])('%j, different: %s, is %d', async (words, different, status) => {
    const ran = await runWords(words, { engine: () => ({ disks: [diskReport({ different })], error: null }) })
    expect(ran.status).toBe(status)
  })

  it('is 1 where only one of several disks differs', async () => {
    const disks = [diskReport({ different: false }), diskReport()]
    expect(
      (await runWords(['verify', '/a', '/b', 'h'], { engine: () => ({ disks, error: null }) })).status,
    ).toBe(1)
  })

  it('is 70 for a defect, which is said to be one', async () => {
    const ran = await runWords(['/a', 'h'], { engine: () => Promise.reject(new TypeError('x is undefined')) })
    expect(ran.status).toBe(70)
    expect(ran.stderr).toMatch(/internal error: x is undefined\n.*report/)
  })
})

describe('what goes where', () => {
  const chatty = ({
    hooks,
  }: {
    hooks: { onWarning?: (text: string) => void; onStderrLine?: (line: string) => void }
  }): RunReport => {
    hooks.onWarning?.('slow disk')
    hooks.onStderrLine?.('motd \u001b[31mred')
    return { disks: [diskReport()], error: null }
  }

  it('prints the result on stdout and the rest on stderr, without control characters', async () => {
    const { stdout, stderr } = await runWords(['/a', 'h'], { engine: chatty })
    expect(stdout).toBe('same: 942, diff: 82, 1024/1024\n')
    expect(stderr).toBe('blocksync: warning: slow disk\nremote: motd ?[31mred\n')
  })

  it('prints nothing but errors with -q', async () => {
    const { stdout, stderr } = await runWords(['-q', '/a', 'h'], { engine: chatty })
    expect(stdout + stderr).toBe('')
    const error = new SyncError('source/read', 'EIO', { operand: '/a' })
    const failed = await runWords(['-q', '/a', 'h'], {
      engine: () => ({ disks: [diskReport({ state: 'partial' })], error }),
    })
    expect(failed.stdout).toBe('')
    expect(failed.stderr).toMatch(/^blocksync: \/a: EIO\nstopped at /)
  })

  it('prints only JSON on stdout with --json, the result last', async () => {
    const { stdout } = await runWords(['--json', '--stats', '-v', '/a', 'h'], {
      engine: (call) => {
        call.hooks.onProgress?.(progress({ doneBytes: 5 * MIB }))
        return chatty(call)
      },
    })
    expect(jsonLines(stdout).map(({ event }) => event)).toEqual(['progress', 'result'])
    const silent = await runWords(['--json', '--no-progress', '/a', 'h'], {
      engine: (call) => {
        call.hooks.onProgress?.(progress())
        return { disks: [diskReport()], error: null }
      },
    })
    expect(jsonLines(silent.stdout).map(({ event }) => event)).toEqual(['result'])
  })

  const redrawn = '\r\u001b[K'
  it.each<[string, string[], boolean, NodeJS.ProcessEnv, boolean]>([
    ['a terminal', [], true, {}, true],
    ['a terminal, -v', ['-v'], true, {}, true],
    ['a terminal, NO_COLOR', [], true, { NO_COLOR: '1' }, true],
    ['a terminal, --no-progress', ['--no-progress'], true, {}, false],
    ['a terminal, -q', ['-q'], true, {}, false],
    ['a dumb terminal', [], true, { TERM: 'dumb' }, false],
    ['no terminal', [], false, {}, false],
    ['no terminal, -v', ['-v'], false, {}, false],
  ])('draws progress on %s', async (_name, words, isTTY, environment, drawn) => {
    const ran = await runWords([...words, '/a', 'h'], {
      environment,
      prepare: ({ stderr }) => (stderr.isTTY = isTTY),
      engine: ({ hooks }) => {
        hooks.onProgress?.(progress({ doneBytes: 5 * MIB }))
        return { disks: [diskReport()], error: null }
      },
    })
    expect(ran.stderr.includes(redrawn)).toBe(drawn)
    if (drawn) expect(ran.stderr).toBe(`${redrawn}vm-root  0.4%  5.00 MiB/1.00 GiB  sent 0 B${redrawn}`)
    // colours are \u001b[...m; there are none, with NO_COLOR or without
    expect(ran.stderr.replaceAll(redrawn, '')).not.toContain('\u001b')
  })

  it.each<[string[], number]>([
    [['-v'], 1],
    [['--progress'], 1],
    [[], 0],
  ])('prints lines where there is no terminal: %j', async (words, count) => {
    let nowMs = 0
    const ran = await runWords([...words, '/a', 'h'], {
      nowMs: () => nowMs,
      engine: ({ hooks }) => {
        for (; nowMs <= 31_000; nowMs += 1000) hooks.onProgress?.(progress({ doneBytes: nowMs * 1000 }))
        return { disks: [diskReport()], error: null }
      },
    })
    expect(ran.stderr.split('\n').filter((line) => line.startsWith('vm-root'))).toHaveLength(count)
  })
})

describe('a reader that went away', () => {
  it.each(['stdout', 'stderr'] as const)('%s loses text, the status stays', async (name) => {
    const ran = await runWords(['--stats', 'verify:', '/a'], {
      prepare: (stage) => {
        stage[name]._write = (_chunk, _encoding, done) =>
          done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }))
      },
    })
    expect(ran.status).toBe(0)
    expect(ran.stderr).toBe('')
  })

  it('says so where it is not simply gone', async () => {
    const ran = await runWords(['/a', 'h'], {
      prepare: ({ stdout }) => {
        stdout._write = (_chunk, _encoding, done) =>
          done(Object.assign(new Error('no space'), { code: 'ENOSPC' }))
      },
    })
    expect(ran.status).toBe(0)
    expect(ran.stderr).toBe('blocksync: warning: nothing more can be printed on stdout: no space\n')
  })
})

describe('signals', () => {
  it.each<['SIGINT' | 'SIGTERM', number]>([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ])('%s once ends the run in order, twice at once', async (name, status) => {
    const stage: { signals?: EventEmitter; exits?: number[]; stderr?: MemoryStream } = {}
    const ran = await runWords(['/a', 'h'], {
      prepare: (given) => Object.assign(stage, given),
      engine: ({ hooks }) =>
        new Promise((resolve) => {
          hooks.signal?.addEventListener('abort', () => {
            stage.signals?.emit('SIGINT')
            stage.signals?.emit('SIGTERM')
            resolve({ disks: [diskReport({ state: 'partial' })], error: toSyncError(hooks.signal?.reason) })
          })
          stage.signals?.emit(name)
        }),
    })
    expect(ran.status).toBe(status)
    expect(stage.exits).toEqual([130, 143])
    expect(ran.stderr).toMatch(
      /^blocksync: stopping; press again to stop at once\nblocksync: interrupted by SIG.*on disk\nstopped at/,
    )
    expect(stage.signals?.listenerCount('SIGINT')).toBe(0)
    expect(stage.signals?.listenerCount('SIGTERM')).toBe(0)
  })

  it('reports the interruption where a wait fails because of it', async () => {
    const stage: { signals?: EventEmitter } = {}
    const ran = await runWords(['/a', 'h', '--json'], {
      prepare: (given) => Object.assign(stage, given),
      engine: () => {
        stage.signals?.emit('SIGINT')
        return Promise.reject(new Error('AbortError'))
      },
    })
    expect(ran.status).toBe(130)
    expect(jsonLines(ran.stdout)).toMatchObject([{ error: { code: 'interrupt/sigint' } }])
  })
})

describe('doctor', () => {
  const probe: ProbeResult = {
    version: '0.1.0',
    node: 'v22.1.0',
    native: true,
    algorithms: ['xxh3-128', 'xxh64x2', 'sha256'],
    roundTripMs: 12.34,
    protocol: 1,
  }

  function engine(changes: Partial<DoctorEngine> = {}): DoctorEngine {
    return {
      probe: () => Promise.resolve(probe),
      nativeStatus: () => ({ loaded: true, path: '/n', reason: null, simd: 'avx2' }),
      algorithms: (native) =>
        native === 'loaded' ? ['xxh3-128', 'xxh64x2', 'sha256'] : ['xxh64x2', 'sha256'],
      protocol: { least: 1, most: 1 },
      movedAway: () => Promise.resolve([]),
      run: () => Promise.resolve({ exitStatus: 0, stdout: '', stderrTail: 'OpenSSH_9.9p1, OpenSSL 3' }),
      ...changes,
    }
  }

  it('tells what is here', async () => {
    const { status, stdout, stderr } = await runWords(['doctor'], { doctor: engine() })
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/^ +here$/m)
    expect(stdout).toMatch(/^blocksync +\d+\.\d+\.\d+$/m)
    expect(stdout).toMatch(/^native core +yes \(avx2\)$/m)
    expect(stdout).toMatch(/^digests +xxh3-128 xxh64x2 sha256$/m)
    expect(stdout).toMatch(/^ssh client +OpenSSH_9\.9p1, OpenSSL 3$/m)
    expect(stdout).toMatch(/^ssh agent +none$/m)
  })

  it('tells what is there, and what a sync would use', async () => {
    const { status, stdout } = await runWords(['doctor', 'root@host2', '--native=off', '-p', '2222'], {
      doctor: engine({
        probe: (far, options) => {
          expect(far).toMatchObject({ host: 'host2', user: 'root' })
          expect(options).toMatchObject({ native: 'off', transport: { port: 2222 } })
          return Promise.resolve(probe)
        },
      }),
    })
    expect(status).toBe(0)
    expect(stdout).toMatch(/^ +here +root@host2$/m)
    expect(stdout).toMatch(/^native core +no \(switched off by --native off\) +yes$/m)
    expect(stdout).toMatch(/^round trip +12\.3 ms$/m)
    expect(stdout).toMatch(/^a sync uses +xxh64x2$/m)
  })

  it('tells which guests moved away from here', async () => {
    const movedAway = (): Promise<{ id: string; guest: string; to: string }[]> =>
      Promise.resolve([{ id: 'M1', guest: 'web', to: 'host2' }])
    const { stdout } = await runWords(['doctor'], { doctor: engine({ movedAway }) })
    expect(stdout).toMatch(/^moved away: web, to host2 \(blocksync migrate --status M1\)$/m)
  })

  it('ends with 4 and the reason where the host cannot be used', async () => {
    const error = new SyncError('session/lost', 'it went away', { operand: 'host2', hint: 'Look at sshd.' })
    const doctor = engine({ probe: () => Promise.reject(error) })
    const text = await runWords(['doctor', 'host2'], { doctor })
    expect(text.status).toBe(4)
    expect(text.stderr).toBe('blocksync: host2: it went away\nLook at sshd.\n')
    expect(text.stdout).toMatch(/^native core/m)
    const json = await runWords(['doctor', 'host2', '--json'], { doctor })
    expect(json.status).toBe(4)
    expect(jsonLines(json.stdout)).toMatchObject([
      { event: 'result', ok: false, there: null, error: { code: 'session/lost' } },
    ])
  })

  it('gives JSON', async () => {
    const { status, stdout } = await runWords(['doctor', 'host2', '--json'], { doctor: engine() })
    expect(status).toBe(0)
    expect(jsonLines(stdout)).toMatchObject([
      {
        event: 'result',
        ok: true,
        host: 'host2',
        here: { native: { loaded: true } },
        there: probe,
        digest: 'xxh3-128',
      },
    ])
  })

  it('does without ssh and says so, and takes note of an agent that is gone', async () => {
    const { status, stdout } = await runWords(['doctor'], {
      environment: { SSH_AUTH_SOCK: '/nowhere/agent' },
      doctor: engine({ run: () => Promise.reject(new SyncError('connect/no-program', 'ssh was not found')) }),
    })
    expect(status).toBe(0)
    expect(stdout).toMatch(/^ssh client +none/m)
    expect(stdout).toMatch(/^ssh agent +SSH_AUTH_SOCK is set, but/m)
  })

  it('ends with 2 where the native core is required and absent', async () => {
    const nativeStatus = () => ({ loaded: false, path: '/n', reason: 'there is no /n', simd: null })
    const { status, stderr, stdout } = await runWords(['doctor', '--native=require'], {
      doctor: engine({ nativeStatus }),
    })
    expect(status).toBe(2)
    expect(stdout).toMatch(/^native core +no \(there is no \/n\)$/m)
    expect(stderr).toMatch(/required.*there is no \/n/)
  })
})
