// What a configuration is once it was read: defaults, jobs over them, times, and options that mean what they mean to sync.

import { Command } from 'commander'
import { describe, expect, it } from 'vitest'

import { addSyncFlags, bareCompress } from '../../src/cli/flags.js'
import type { SyncFlags } from '../../src/cli/flags.js'
import { parsePairs, remoteOf } from '../../src/cli/pairs.js'
import { optionsOf } from '../../src/cli/settings.js'
import { bareVerify } from '../../src/cli/verify-flags.js'
import type { SyncOptions } from '../../src/options.js'
import { configOf, jobOf, PARSERS, wrongs } from './support.js'

const HOUR_MS = 3_600_000

/** What `blocksync WORDS` would be told. */
function typed(words: readonly string[]): SyncOptions {
  const command = addSyncFlags(new Command().argument('[operands...]'), 'sync')
  command.parse(bareVerify(bareCompress(words)), { from: 'user' })
  const pairs = parsePairs(command.args, [], { cwd: '/', isFile: () => false })
  return optionsOf(command.opts<SyncFlags>(), 'sync', remoteOf(pairs))
}

describe('a job', () => {
  it('is complete where it says nothing but its disks', () => {
    const { options, ...job } = jobOf('')
    expect(job).toEqual({
      name: 'j',
      place: { file: 'a.yaml', line: 3, column: 3 },
      disks: [
        {
          source: { at: { kind: 'local' }, path: '/dev/a', typed: '/dev/a' },
          destination: {
            at: { kind: 'remote', host: 'kvm2', user: null, port: null, typed: 'kvm2' },
            path: '/dev/b',
            typed: 'kvm2:/dev/b',
          },
        },
      ],
      schedule: { kind: 'every', everyMs: 900_000, jitterMs: 0 },
      windows: [],
      snapshot: { kind: 'none' },
      track: 'auto',
      quiesce: null,
      keep: { last: 1, hourly: 0, daily: 0, weekly: 0 },
      lag: { warningMs: 1_800_000, criticalMs: HOUR_MS },
      verifyEveryMs: null,
      hooks: { pre: null, post: null, onError: null, finally: null },
      notify: [],
      boot: null,
    })
    expect(options).toEqual(typed(['/dev/a', 'kvm2:/dev/b']))
  })

  it('has the keys of the defaults, and its own as a whole in their place', () => {
    const before =
      'defaults: { every: 1h, keep: { last: 4, daily: 7 }, compress: true, hooks: { pre: /x }, lag: { warning: 3h } }'
    expect(jobOf('', before)).toMatchObject({
      schedule: { everyMs: HOUR_MS },
      keep: { last: 4, hourly: 0, daily: 7, weekly: 0 },
      hooks: { pre: { command: ['/x'], timeoutMs: 300_000 }, post: null },
      lag: { warningMs: 3 * HOUR_MS, criticalMs: 4 * HOUR_MS },
      options: { compress: 'best' },
    })
    expect(jobOf('keep: { hourly: 2 }, compress: false, hooks: { post: /y }, lag: {}', before)).toMatchObject(
      {
        keep: { last: 1, hourly: 2, daily: 0 },
        hooks: { pre: null, post: { command: ['/y'] } },
        lag: { warningMs: 2 * HOUR_MS },
        options: { compress: 'none' },
      },
    )
  })

  it('has its own schedule in place of either of the defaults', () => {
    expect(jobOf('cron: "30  2 * * *"', 'defaults: { every: 1h, jitter: 10% }').schedule).toEqual({
      kind: 'cron',
      expression: '30 2 * * *',
      timeZone: null,
      jitterMs: 0,
    })
    expect(
      jobOf('every: 10s', 'defaults: { cron: "@daily", timezone: Europe/Berlin, jitter: 1s }').schedule,
    ).toEqual({
      kind: 'every',
      everyMs: 10_000,
      jitterMs: 1000,
    })
    expect(
      jobOf('', 'defaults: { cron: "0 30 2 * * mon", timezone: Europe/Berlin, jitter: 5m }'),
    ).toMatchObject({
      schedule: { kind: 'cron', expression: '0 30 2 * * mon', timeZone: 'Europe/Berlin', jitterMs: 300_000 },
      lag: { warningMs: null, criticalMs: null },
    })
  })

  it('turns off what the defaults have', () => {
    const before =
      'defaults: { snapshot: lvm, quiesce: { libvirt: x }, verify_every: 7d, boot: { expect: login }, windows: sat, bwlimit: 1M }'
    expect(jobOf('', before)).toMatchObject({
      snapshot: { kind: 'lvm', size: { percent: 20 } },
      quiesce: { kind: 'libvirt', domain: 'x', uri: null },
      verifyEveryMs: 168 * HOUR_MS,
      boot: { memoryBytes: 512 << 20, expect: 'login', timeoutMs: 180_000, format: null, arguments: [] },
      windows: [{ days: [6], fromMinute: 0, toMinute: 0 }],
    })
    expect(jobOf('', 'defaults: { snapshot: reflink, track: off }').track).toBe('off')
    expect(jobOf('track: auto', 'defaults: { snapshot: reflink, track: off }').track).toBe('auto')
    expect(jobOf('boot: { expect: login, format: qcow2 }', before).boot).toMatchObject({ format: 'qcow2' })
    expect(
      jobOf('quiesce: none, verify_every: never, boot: none, windows: [], bwlimit: off', before),
    ).toMatchObject({
      quiesce: null,
      verifyEveryMs: null,
      boot: null,
      windows: [],
      options: { bwlimit: null },
    })
  })

  it.each([
    ['10s', 10_000],
    ['1h30m', 5_400_000],
    ['1h 30m', 5_400_000],
    ['1.5h', 5_400_000],
    ['2d', 172_800_000],
    ['1d1h1m1s', 90_061_000],
  ])('has an attempt every %s', (text, everyMs) => {
    expect(jobOf(`every: ${text}`).schedule).toMatchObject({ everyMs })
  })

  it.each([
    ['22:00-06:00', [0, 1, 2, 3, 4, 5, 6], 1320, 360],
    ['mon-fri 22:00-06:00', [1, 2, 3, 4, 5], 1320, 360],
    ['Fri-Mon 00:00-24:00', [0, 1, 5, 6], 0, 0],
    ['sunday,wed 9:05-17:30', [0, 3], 545, 1050],
    ['sat,sun', [0, 6], 0, 0],
  ])('has the window %s', (text, days, fromMinute, toMinute) => {
    expect(jobOf(`windows: "${text}"`).windows).toEqual([{ days, fromMinute, toMinute }])
  })

  it('has commands as words, and never a shell', () => {
    expect(
      jobOf(`hooks: { pre: "a 'b c' $X", post: [d, "e f", 1], on_error: { command: g, timeout: 5s } }`).hooks,
    ).toEqual({
      pre: { command: ['a', 'b c', '$X'], timeoutMs: 300_000 },
      post: { command: ['d', 'e f', '1'], timeoutMs: 300_000 },
      onError: { command: ['g'], timeoutMs: 5000 },
      finally: null,
    })
  })

  it('has the same path on the other host where none is named, as in sync', () => {
    const { jobs } = configOf('jobs: { a: { source: /dev/vg0/a, destination: "root@kvm2:" } }')
    expect(jobs[0]?.disks[0]?.destination).toMatchObject({
      path: '/dev/vg0/a',
      typed: 'root@kvm2:/dev/vg0/a',
    })
  })

  it('may be called as things of JavaScript are', () => {
    const names = ['constructor', 'toString', 'hasOwnProperty', '1']
    const text = names
      .map((name, index) => `  ${name}: { source: /s${index}, destination: "b:/d${index}" }`)
      .join('\n')
    expect(
      configOf(`jobs:\n${text}\n`)
        .jobs.map(({ name }) => name)
        .toSorted(),
    ).toEqual(names.toSorted())
  })
})

describe('options of a job', () => {
  it.each([
    ['rsh: ssh -p 2222', ['-e', 'ssh -p 2222']],
    ['ssh: openssh', ['--ssh', 'openssh']],
    ['port: 2222', ['-p', '2222']],
    ['identity: /k', ['-i', '/k']],
    ['identity: [/k, /l]', ['-i', '/k', '-i', '/l']],
    ['ssh-config: /c', ['-F', '/c']],
    ['sudo: true', ['--sudo']],
    ['sudo: false', []],
    ['remote-command: /opt/blocksync x', ['--remote-command', '/opt/blocksync x']],
    ['native: off', ['--native', 'off']],
    ['compress: true', ['-z']],
    ['compress: zstd', ['--compress=zstd']],
    ['compress: false', ['--compress=none']],
    ['streams: 4', ['--streams', '4']],
    ['streams: auto', ['--streams', 'auto']],
    ['bwlimit: 100M', ['--bwlimit', '100M']],
    ['bwlimit: 0', ['--bwlimit', '0']],
    ['bwlimit: "08:00,20M 19:00,off"', ['--bwlimit', '08:00,20M 19:00,off']],
    ['block-size: 64K', ['--block-size', '64K']],
    ['block-size: 65536', ['--block-size', '65536']],
    ['granularity: 512', ['--granularity', '512']],
    ['digest: sha256', ['--digest', 'sha256']],
    ['verify: true', ['--verify']],
    ['verify: all', ['--verify=all']],
    ['timeout: 90', ['--timeout', '90']],
    ['timeout: 1.5m', ['--timeout', '1.5m']],
    ['lock-wait: 10m', ['--lock-wait', '10m']],
  ])('%s is %j', (key, words) => {
    const expected = typed(['/dev/a', 'kvm2:/dev/b', ...words])
    expect(jobOf(key).options).toEqual(expected)
    expect(jobOf('', `defaults: { ${key} }`).options).toEqual(expected)
  })

  it('are those that a job has a use for: who adds one to sync decides here', () => {
    expect(PARSERS.jobOptions.map(({ name }) => name).toSorted()).toEqual(
      (
        'bwlimit compress streams block-size granularity digest native verify timeout lock-wait ' +
        'rsh ssh port identity ssh-config sudo remote-command'
      )
        .split(' ')
        .toSorted(),
    )
  })

  it('refuses no name that is none of sync', () => {
    const names = addSyncFlags(new Command(), 'sync').options.map(({ long }) => long?.slice(2))
    expect([...PARSERS.refusedOptions.keys()].filter((name) => !names.includes(name))).toEqual([])
  })

  it('about the far side stay away from a job without one, where they are of the defaults', () => {
    const { jobs } = configOf(
      'defaults: { rsh: ssh -p 22, timeout: 5m }\njobs: { a: { source: /a, destination: /b } }',
    )
    expect(jobs[0]?.options).toEqual(typed(['/a', '/b', '--timeout', '5m']))
  })

  it('have the state directory of all', () => {
    const { stateDir, jobs } = configOf(
      'state_dir: /srv/state/\njobs: { a: { source: /a, destination: "b:/b" } }',
    )
    expect(stateDir).toBe('/srv/state')
    expect(jobs[0]?.options).toEqual(typed(['/a', 'b:/b', '--state-dir', '/srv/state']))
    expect(
      wrongs(() => configOf('state_dir: /a b\njobs: { a: { source: /a, destination: "b:/b" } }')),
    ).toEqual([
      'state_dir: is also the directory on b, and /a b is no plain word there; use letters, digits and _@%+=:,./- only',
    ])
  })
})

describe('the main file', () => {
  it('has what holds for all', () => {
    const config = configOf(
      'max_parallel: 5\nbwlimit: 10M\nmetrics: { listen: "[::1]:80", textfile: /x/y.prom }\n' +
        'notify: [{ mail: root }, { http: "http://hc/1", timeout: 1s }, { command: a b }]\njobs: {}\n',
    )
    expect(config).toEqual({
      files: ['a.yaml'],
      stateDir: null,
      maxParallel: 5,
      bwlimit: [{ minuteOfWeek: 0, bytesPerSecond: 10 << 20 }],
      metrics: { textfile: '/x/y.prom', listen: { kind: 'tcp', host: '::1', port: 80 } },
      notify: [
        { kind: 'mail', to: 'root', sendmail: '/usr/sbin/sendmail', timeoutMs: 30_000 },
        { kind: 'http', url: 'http://hc/1', timeoutMs: 1000 },
        { kind: 'command', command: ['a', 'b'], timeoutMs: 30_000 },
      ],
      jobs: [],
    })
  })

  it('has defaults for jobs of all files', () => {
    const { files, jobs } = configOf(
      'defaults: { every: 1h }\njobs: { a: { source: /a, destination: "k:/a" } }',
      '# nothing in it\n',
      'jobs: { b: { source: /b, destination: "k:/b" } }',
    )
    expect(files).toEqual(['a.yaml', 'b.yaml', 'c.yaml'])
    expect(jobs.map(({ name, schedule, place }) => [name, schedule, place.file])).toEqual([
      ['a', { kind: 'every', everyMs: HOUR_MS, jitterMs: 0 }, 'a.yaml'],
      ['b', { kind: 'every', everyMs: HOUR_MS, jitterMs: 0 }, 'c.yaml'],
    ])
  })

  it('is the only one with keys besides jobs, and a name is there once', () => {
    const job = 'jobs: { a: { source: /a, destination: "k:/a" } }'
    expect(wrongs(() => configOf(job, `max_parallel: 3\n${job}`))).toEqual([
      'max_parallel: belongs into a.yaml; other files have jobs alone',
      'jobs.a: there is already a job of this name at a.yaml:1:9',
      'jobs.a: k:/a is also a destination of jobs.a (a.yaml:1:9)',
    ])
  })

  it('repeats with aliases what jobs share', () => {
    const { jobs } = configOf(
      'jobs:\n  a: { source: /a, destination: "k:/a", keep: &keep { last: 9 } }\n  b: { source: /b, destination: "k:/b", keep: *keep }',
    )
    expect(jobs.map(({ keep }) => keep.last)).toEqual([9, 9])
  })
})

describe('500 jobs', () => {
  it('take less than a second of a processor', () => {
    const jobs = Array.from(
      { length: 500 },
      (_, index) =>
        `  vm${index}:\n    source: /dev/vg0/vm${index}\n    destination: root@kvm2:/dev/vg0/vm${index}\n    snapshot: lvm\n` +
        `    quiesce: { libvirt: vm${index} }\n    keep: { last: 4, daily: 7 }\n`,
    )
    const text = `defaults: { every: 15m, jitter: 10%, bwlimit: 100M, compress: auto }\njobs:\n${jobs.join('')}`
    const before = process.cpuUsage()
    expect(configOf(text).jobs).toHaveLength(500)
    const { user, system } = process.cpuUsage(before)
    expect((user + system) / 1000).toBeLessThan(1000)
  })
})
