// Options as a table: from the words of a command line to the SyncOptions that the engine gets, and every refusal.

import { describe, expect, it } from 'vitest'

import { SYNC_DEFAULTS } from '../../src/options.js'
import type { SyncOptions } from '../../src/options.js'
import { constantRate } from '../../src/rate/schedule.js'
import { jsonLines, runWords } from './fixtures.js'

const { transport } = SYNC_DEFAULTS

const limit = (bytesPerSecond: number): Partial<SyncOptions> => ({ bwlimit: constantRate(bytesPerSecond) })

describe('options that the engine gets', () => {
  it.each<[string[], Partial<SyncOptions>]>([
    [['/a', 'h'], {}],
    [['sync', '/a', 'h'], {}],
    [['verify', '/a', 'h'], { mode: 'verify' }],
    [['-n', '/a', 'h'], { mode: 'dry-run' }],
    [['/a', 'h', '--dry-run'], { mode: 'dry-run' }],
    [['/a', 'h', '--create'], { create: 'if-missing' }],
    [['/a', 'h', '--size', 'grow'], { size: 'grow' }],
    [['/a', 'h', '--size=min'], { size: 'min' }],
    [['verify', '/a', 'h', '--size=min'], { mode: 'verify', size: 'min' }],
    [['/a', 'h', '--bwlimit', '80M'], limit(80 << 20)],
    [['/a', 'h', '--bwlimit', '10MB/s'], limit(10_000_000)],
    [['/a', 'h', '--bwlimit', 'off'], { bwlimit: null }],
    [['/a', 'h', '--bwlimit=0'], { bwlimit: null }],
    [['/a', 'h', '-z'], { compress: 'best' }],
    [['-z', '/a', 'h'], { compress: 'best' }],
    [['/a', '-z', 'h'], { compress: 'best' }],
    [['--compress', '/a', 'h'], { compress: 'best' }],
    [['sync', '-z', '--', '/a', 'h'], { compress: 'best' }],
    [['-nz', '/a', 'h'], { mode: 'dry-run', compress: 'best' }],
    [['-zn', '/a', 'h'], { mode: 'dry-run', compress: 'best' }],
    [['/a', 'h', '--compress=best'], { compress: 'best' }],
    [['/a', 'h', '--compress=auto'], { compress: 'auto' }],
    [['/a', 'h', '--compress=zstd'], { compress: 'zstd' }],
    [['/a', 'h', '--compress=brotli'], { compress: 'brotli' }],
    [['/a', 'h', '--compress=none'], { compress: 'none' }],
    [['/a', 'h', '--block-size', '4M'], { blockBytes: 4 << 20 }],
    [['/a', 'h', '--granularity', '64K'], { granularityBytes: 65536 }],
    [['/a', 'h', '--digest', 'sha256'], { digest: 'sha256' }],
    [['/a', 'h', '--digest', 'xxh64x2'], { digest: 'xxh64x2' }],
    [
      ['/a', 'h', '--native', 'off'],
      { native: 'off', transport: { ...transport, serveArguments: ['--native=off'] } },
    ],
    [
      ['/a', 'h', '--native=require'],
      { native: 'require', transport: { ...transport, serveArguments: ['--native=require'] } },
    ],
    [['/a', '/b', '--native=auto'], {}],
    [
      ['/a', 'h', '-e', 'ssh -J "my gate"'],
      { transport: { ...transport, ssh: 'openssh', rsh: ['ssh', '-J', 'my gate'] } },
    ],
    [
      ['/a', 'h', '--rsh=ssh', '--ssh', 'auto'],
      { transport: { ...transport, ssh: 'openssh', rsh: ['ssh'] } },
    ],
    [['/a', 'h', '--ssh', 'ssh2'], { transport: { ...transport, ssh: 'ssh2' } }],
    [['/a', 'h', '-p', '2222'], { transport: { ...transport, port: 2222 } }],
    [['/a', 'ssh://h:2222', '-p', '2222'], { transport: { ...transport, port: 2222 } }],
    [['-i', '/k1', '-i', '/k2', '/a', 'h'], { transport: { ...transport, identities: ['/k1', '/k2'] } }],
    [['-F', '/c', '/a', 'h'], { transport: { ...transport, configFile: '/c' } }],
    [['--sudo', '/a', 'h'], { transport: { ...transport, sudo: 'always' } }],
    [
      ['--remote-command', '/opt/b --x', '/a', 'h'],
      { transport: { ...transport, remoteCommand: '/opt/b --x' } },
    ],
  ])('%j', async (words, changes) => {
    const { status, calls, stderr } = await runWords(words, { engine: () => ({ disks: [], error: null }) })
    expect(stderr).toBe('')
    expect(status).toBe(0)
    expect(calls).toHaveLength(1)
    expect(calls[0]?.options).toEqual({ ...SYNC_DEFAULTS, ...changes })
  })

  it('takes several disks and operands behind --', async () => {
    const { calls } = await runWords(['--disk', '/a=h:/x', '--disk=/b=h:/y'])
    expect(calls[0]?.pairs.map(({ destination }) => destination.typed)).toEqual(['h:/x', 'h:/y'])
    const dashes = await runWords(['-n', '--', '/a', 'h:--json'])
    expect(dashes.calls[0]?.pairs[0]?.destination.path).toBe('--json')
    const compress = await runWords(['/a', '--', 'h:-z'])
    expect(compress.calls[0]?.pairs[0]?.destination.path).toBe('-z')
    const behind = await runWords(['-z', '/a', '--', 'zstd'])
    expect(behind.calls[0]?.pairs[0]?.destination.typed).toBe('zstd:/a')
  })
})

describe('refusals', () => {
  it.each<[string, string[], string | null, RegExp, RegExp]>([
    ['an unknown option', ['/a', 'h', '--quite'], '--quite', /unknown option '--quite'/, /--quiet/],
    ['an option with no likeness', ['/a', 'h', '--zzz'], '--zzz', /unknown option/, /--help/],
    [
      'a bound of a journal that nobody keeps',
      ['/a', 'h', '--undo-max', '1G'],
      '--undo-max',
      /what --undo keeps/,
      /Write --undo too/,
    ],
    [
      'a place of one',
      ['/a', 'h', '--undo-dir', '/x'],
      '--undo-dir',
      /what --undo keeps/,
      /Write --undo too/,
    ],
    ['a journal of a dry run', ['-n', '/a', 'h', '--undo'], '--undo', /nothing is written/, /./],
    ['no connections', ['/a', 'h', '--streams', '0'], '--streams', /1 to 16, not '0'/, /--streams 4/],
    ['too many connections', ['/a', 'h', '--streams', '17'], '--streams', /1 to 16, not '17'/, /--streams 4/],
    [
      'a part of a connection',
      ['/a', 'h', '--streams', '1.5'],
      '--streams',
      /1 to 16, not '1.5'/,
      /--streams 4/,
    ],
    [
      'connections for verify',
      ['verify', '/a', 'h', '--streams', '2'],
      '--streams',
      /unknown option/,
      /for a run that writes; leave it/,
    ],
    [
      'a rate for verify',
      ['verify', '/a', 'h', '--bwlimit', '2M'],
      '--bwlimit',
      /unknown option/,
      /for a run that writes; leave it/,
    ],
    [
      'connections for a dry run',
      ['-n', '/a', 'h', '--streams', '2'],
      '--streams',
      /2 is for a run that writes, and a dry run has one connection/,
      /Leave --streams away, or -n/,
    ],
    ['a missing value', ['/a', 'h', '--bwlimit'], '--bwlimit', /argument missing/, /--help/],
    ['a value too many', ['/a', 'h', '--sudo=x'], null, /./, /./],
    ['a bad rate', ['/a', 'h', '--bwlimit', '10Mbit'], '--bwlimit', /10Mbit/, /--bwlimit 80M/],
    [
      'a bad timetable',
      ['/a', 'h', '--bwlimit', '08:00,20M 25:00,off'],
      '--bwlimit',
      /'25:00,off'.*'25:00'/,
      /--bwlimit '08:00,20M 19:00,off/,
    ],
    ['a bad size', ['/a', 'h', '--block-size', 'big'], '--block-size', /big/, /--block-size 1M/],
    [
      'a block size that is no power of two',
      ['/a', 'h', '--block-size', '3M'],
      '--block-size',
      /power of two/,
      /./,
    ],
    ['a block too large', ['/a', 'h', '--block-size', '32M'], '--block-size', /power of two/, /./],
    [
      'a granularity above the block',
      ['/a', 'h', '--granularity', '2M'],
      '--granularity',
      /power of two/,
      /./,
    ],
    [
      'too fine a granularity',
      ['/a', 'h', '--block-size=16M', '--granularity=512'],
      '--granularity',
      /too fine/,
      /./,
    ],
    ['an unknown digest', ['/a', 'h', '--digest', 'md5'], '--digest', /xxh3-128/, /./],
    ['an unknown policy', ['/a', 'h', '--size', 'shrink'], '--size', /strict/, /./],
    ['an unknown native mode', ['/a', 'h', '--native', 'on'], '--native', /require/, /./],
    ['an unknown ssh', ['/a', 'h', '--ssh', 'putty'], '--ssh', /openssh/, /./],
    ['a bad port', ['/a', 'h', '-p', '0'], '--port', /port/, /--port 22/],
    ['two ports', ['/a', 'ssh://h:22', '-p', '23'], '--port', /23.*22/, /one of the two/],
    ['-e and ssh2', ['/a', 'h', '-e', 'ssh', '--ssh', 'ssh2'], '--rsh', /built-in/, /one of the two/],
    ['an open quote', ['/a', 'h', '-e', 'ssh "x'], '--rsh', /never closed/, /--rsh/],
    ['an empty identity', ['/a', 'h', '-i', ''], '--identity', /empty/, /variable/],
    ['an empty configuration', ['/a', 'h', '-F', ' '], '--ssh-config', /empty/, /./],
    ['an empty remote command', ['/a', 'h', '--remote-command='], '--remote-command', /./, /./],
    [
      'a newline in the remote command',
      ['/a', 'h', '--remote-command', 'x\ny'],
      '--remote-command',
      /control/,
      /./,
    ],
    ['-q and -v', ['/a', 'h', '-q', '-v'], '--quiet', /cannot be used with/, /./],
    ['-q and --stats', ['/a', 'h', '-q', '--stats'], '--quiet', /cannot be used with/, /./],
    ['-q and --progress', ['/a', 'h', '-q', '--progress'], '--quiet', /cannot be used with/, /./],
    ['verify --dry-run', ['verify', '/a', 'h', '--dry-run'], '--dry-run', /unknown option/, /./],
    ['verify --create', ['verify', '/a', 'h', '--create'], '--create', /unknown option/, /./],
    ['verify --bwlimit', ['verify', '/a', 'h', '--bwlimit=1M'], '--bwlimit', /unknown option/, /./],
    ['verify -z', ['verify', '-z', '/a', 'h'], '--compress', /unknown option/, /./],
    ['doctor --compress', ['doctor', '--compress=auto', 'h'], '--compress', /unknown option/, /./],
    ['an unknown codec', ['/a', 'h', '--compress=lz4'], '--compress', /auto, best, zstd, brotli/, /./],
    ['no codec', ['/a', 'h', '--compress='], '--compress', /auto, best, zstd, brotli/, /./],
    [
      'a codec in a word of its own',
      ['-z', 'zstd', '/a', 'h'],
      '--compress',
      /same word/,
      /--compress=zstd.*zstd:/,
    ],
    ['the same behind', ['/a', 'h', '--compress', 'none'], '--compress', /same word/, /--compress=none/],
    ['doctor with two hosts', ['doctor', 'a', 'b'], null, /too many arguments/, /--help/],
    ['doctor with a path', ['doctor', '/dev/a'], '/dev/a', /not a host/, /user@host/],
    [
      'a command that is not the first word',
      ['-v', 'verify', '/a', 'h'],
      'verify',
      /first word/,
      /blocksync verify.*verify:/,
    ],
    ['one operand', ['/a'], '/a', /DESTINATION is missing/, /blocksync \/a/],
    ['a local file that could be a host', ['disk.img', 'h'], 'disk.img', /could be/, /\.\/disk\.img/],
    ...['-e=ssh', '--ssh=auto', '-p22', '-i/k', '-F/c', '--sudo', '--remote-command=b'].map(
      (word): [string, string[], null, RegExp, RegExp] => [
        `${word} without a host`,
        ['/a', '/b', word],
        null,
        /far side/,
        /host:\/path/,
      ],
    ),
  ])('%s', async (_name, words, operand, message, hint) => {
    const { status, calls, stdout, stderr } = await runWords(words)
    expect(status).toBe(2)
    expect(calls).toEqual([])
    expect(stdout).toBe('')
    const [first = '', second = '', ...rest] = stderr.trimEnd().split('\n')
    expect(first).toMatch(/^blocksync: /)
    expect(first).toMatch(message)
    expect(first).toMatch(/nothing was opened/)
    expect(second).toMatch(hint)
    expect(rest).toEqual([])

    const json = await runWords([...words, '--json'])
    expect(json.status).toBe(2)
    const [result, ...more] = jsonLines(json.stdout)
    expect(more).toEqual([])
    expect(result).toMatchObject({ event: 'result', ok: false, error: { code: 'usage' } })
    if (operand !== null) expect(result).toMatchObject({ error: { operand } })
  })
})

describe('text that is asked for', () => {
  it('gives the whole page for --help, in groups, with the exit statuses last', async () => {
    const { status, stdout, stderr } = await runWords(['--help'])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const at = [
      'Usage:',
      'What to do:',
      'Speed and digests:',
      'What is printed:',
      'Connection:',
      'Other:',
      'Examples:',
      'Exit status:',
    ].map((heading) => stdout.indexOf(heading))
    expect(at).toEqual([...at].sort((a, b) => a - b))
    expect(at[0]).toBe(0)
    for (const option of [
      '--dry-run',
      '--create',
      '--size',
      '--disk',
      '--bwlimit',
      '--block-size',
      '--granularity',
      '--digest',
      '--native',
    ]) {
      expect(stdout).toContain(option)
    }
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/^ {2}130 /)
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(115)
    for (const same of [['-h'], ['sync', '--help'], ['/a', '--help']])
      expect((await runWords(same)).stdout).toBe(stdout)
  })

  it('has a page for each command', async () => {
    expect((await runWords(['verify', '--help'])).stdout).toMatch(/^Usage: blocksync verify SOURCE/)
    expect((await runWords(['verify', '--help'])).stdout).not.toContain('--create')
    expect((await runWords(['doctor', '-h'])).stdout).toMatch(/^Usage: blocksync doctor \[HOST\]/)
    expect((await runWords(['bwlimit', '-h'])).stdout).toMatch(/^Usage: blocksync bwlimit \[RATE \[PID\]\]/)
  })

  it('prints help on stderr and ends with 2 when called without words', async () => {
    const { status, stdout, stderr } = await runWords([])
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(/^Usage: blocksync/)
  })

  it.each([[['-V']], [['--version']], [['sync', '-V']], [['verify', '--version']], [['/a', 'h', '-V']]])(
    '%j tells the versions',
    async (words) => {
      const { status, stdout, calls } = await runWords(words)
      expect(status).toBe(0)
      expect(calls).toEqual([])
      expect(stdout).toMatch(/^blocksync \d+\.\d+\.\d+\nNode v\d+.*\nnative core: yes \(avx2\)\n$/)
    },
  )
})
