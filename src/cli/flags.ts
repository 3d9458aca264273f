// The options of the command line: what commander parses, and how it becomes SyncOptions and what is printed.
// Refuses values out of their set, options that contradict each other, and options that could have no effect.

import { Option } from 'commander'
import type { Command } from 'commander'

import type { AlgorithmName } from '../digest/digester.js'
import { SyncError } from '../errors.js'
import { MAX_STREAMS, SYNC_DEFAULTS, syncOptions } from '../options.js'
import type { CompressChoice, NativeMode, RunMode, SizePolicy, SyncOptions } from '../options.js'
import type { RateSchedule } from '../rate/schedule.js'
import type { TransportOptions, RemoteSide } from '../transport/transport.js'
import type { ProgressStyle } from './progress.js'
import { parseBwlimit } from './timetable.js'
import { parsePort, parseSize } from './units.js'
import { hasControlCharacter, splitWords } from './words.js'

export type ConnectionFlags = {
  rsh?: string[]
  ssh?: TransportOptions['ssh']
  port?: number
  identity?: string[]
  sshConfig?: string
  sudo?: true
  remoteCommand?: string
  native?: NativeMode
}

/** Null is no limit; wrapped, since commander takes a bare null for a missing value. */
export type RateFlag = { schedule: RateSchedule | null }

export type SyncFlags = ConnectionFlags & {
  dryRun?: true
  create?: true
  size?: SizePolicy
  disk?: string[]
  bwlimit?: RateFlag
  compress?: CompressChoice
  streams?: number | 'auto'
  blockSize?: number
  granularity?: number
  digest?: AlgorithmName | 'auto'
  verbose?: true
  quiet?: true
  progress?: boolean
  json?: true
  stats?: true
}

/** What a run prints. `quiet`: nothing but errors (and the JSON result, where JSON is asked for). */
export type Printing = Readonly<{
  format: 'text' | 'json'
  verbosity: 'quiet' | 'normal' | 'verbose'
  progress: ProgressStyle
  stats: 'shown' | 'hidden'
}>

const DIGESTS = ['auto', 'xxh3-128', 'xxh64x2', 'sha256'] satisfies (AlgorithmName | 'auto')[]
const COMPRESS_CHOICES = ['auto', 'best', 'zstd', 'brotli', 'none'] satisfies CompressChoice[]
const SIZES = ['strict', 'grow', 'min'] satisfies SizePolicy[]
const NATIVE_MODES = ['auto', 'require', 'off'] satisfies NativeMode[]
const SSH_KINDS = ['openssh', 'ssh2', 'auto'] satisfies TransportOptions['ssh'][]

/** The most that one option may name: more is a mistake. */
const MAX_REPEATS = 256

/** Options that sync and verify share, and those of sync alone. */
export function addSyncFlags(command: Command, kind: 'sync' | 'verify'): Command {
  command.optionsGroup('What to do:')
  if (kind === 'sync') {
    command.option(
      '-n, --dry-run',
      'write nothing and say what would be sent; exit status 1 where they differ',
    )
    command.option('--create', 'make the destination where it is missing: a sparse image file')
  }
  command.addOption(
    new Option(
      '--size <policy>',
      'where sizes differ: strict refuses (default), grow enlarges the file, min takes the common part',
    ).choices(SIZES),
  )
  command.addOption(
    new Option('--disk <SRC=DST>', 'one pair of disks; repeat it for several in one run').argParser(
      repeated('--disk'),
    ),
  )

  command.optionsGroup('Speed and digests:')
  if (kind === 'sync') {
    command.addOption(
      new Option(
        '--bwlimit <rate>',
        "most payload bytes a second, all disks together; 0 or off is no limit; by local time: '08:00,20M 19:00,off'",
      ).argParser((text: string): RateFlag => ({ schedule: parseBwlimit('--bwlimit', text) })),
    )
  }
  if (kind === 'sync') {
    // the value in brackets is one word with the option (bareCompress), so that what follows -z stays an operand
    command
      .combineFlagAndOptionalValue(false)
      .addOption(
        new Option(
          '-z, --compress [=algo]',
          'compress what is sent: best (the default of -z) takes zstd or brotli; auto only where it is faster',
        ).choices(COMPRESS_CHOICES),
      )
    command.addOption(
      new Option(
        '--streams <n>',
        `connections at once, 1 to ${MAX_STREAMS}; auto (default) opens more on a long link`,
      ).argParser(parseStreams),
    )
  }
  command.addOption(
    new Option('--block-size <size>', 'unit of comparison (default 1M)').argParser((text: string) =>
      parseSize('--block-size', text),
    ),
  )
  command.addOption(
    new Option('--granularity <size>', 'unit of what is sent (default 4K)').argParser((text: string) =>
      parseSize('--granularity', text),
    ),
  )
  command.addOption(
    new Option(
      '--digest <name>',
      'auto (default), xxh3-128, xxh64x2, or sha256 where a hostile guest writes the disk',
    ).choices(DIGESTS),
  )
  addNativeFlag(command)

  command.optionsGroup('What is printed:')
  command.addOption(
    new Option('-v, --verbose', 'one line a disk, and progress lines where there is no terminal'),
  )
  command.addOption(
    new Option('-q, --quiet', 'nothing but errors').conflicts(['verbose', 'progress', 'stats']),
  )
  command.option(
    '--progress',
    'show progress (the default on a terminal; elsewhere one line every 30 seconds)',
  )
  command.option('--no-progress', 'show no progress')
  command.option('--json', 'JSON lines on stdout: progress events, then one result')
  command.option('--stats', 'what was read, sent and zeroed, rates, digest, transport')

  return addConnectionFlags(command)
}

/** Options about the far side. */
export function addConnectionFlags(command: Command): Command {
  command.optionsGroup('Connection:')
  command.addOption(
    new Option('-e, --rsh <command>', 'remote shell command line, as rsync: -e "ssh -J gate"').argParser(
      (text: string) => splitWords('--rsh', text),
    ),
  )
  command.addOption(
    new Option(
      '--ssh <kind>',
      'openssh is the system ssh, ssh2 the built-in client; auto (default) takes what is there',
    ).choices(SSH_KINDS),
  )
  command.addOption(
    new Option('-p, --port <port>', 'port of the ssh server').argParser((text: string) =>
      parsePort('--port', text),
    ),
  )
  command.addOption(
    new Option('-i, --identity <file>', 'private key; may be repeated').argParser(repeated('--identity')),
  )
  command.addOption(
    new Option('-F, --ssh-config <file>', 'ssh configuration to read instead of your own').argParser(
      plainText('--ssh-config'),
    ),
  )
  command.option('--sudo', 'run the far side through sudo')
  command.addOption(
    new Option(
      '--remote-command <command>',
      'how to start blocksync on the far side (default blocksync)',
    ).argParser(plainText('--remote-command')),
  )
  return command
}

export function addNativeFlag(command: Command): Command {
  return command.addOption(
    new Option(
      '--native <mode>',
      'the native core: auto (default) uses it where it works, require fails without it, off does without',
    ).choices(NATIVE_MODES),
  )
}

/** The flags over the defaults, checked by the one validator. `remote` is null where both sides are here. Rejects with `usage`. */
export function optionsOf(flags: SyncFlags, kind: 'sync' | 'verify', remote: RemoteSide | null): SyncOptions {
  const mode: RunMode = kind === 'verify' ? 'verify' : flags.dryRun === true ? 'dry-run' : 'write'
  return syncOptions({
    mode,
    create: flags.create === true ? 'if-missing' : 'never',
    bwlimit: flags.bwlimit?.schedule ?? null,
    ...(flags.compress === undefined ? {} : { compress: flags.compress }),
    ...(flags.streams === undefined ? {} : { streams: flags.streams }),
    ...(flags.size === undefined ? {} : { size: flags.size }),
    ...(flags.blockSize === undefined ? {} : { blockBytes: flags.blockSize }),
    ...(flags.granularity === undefined ? {} : { granularityBytes: flags.granularity }),
    ...(flags.digest === undefined ? {} : { digest: flags.digest }),
    ...connectionOf(flags, remote),
  })
}

/** The part of the options that is about the far side. */
export function connectionOf(
  flags: ConnectionFlags,
  remote: RemoteSide | null,
): Pick<SyncOptions, 'native' | 'transport'> {
  if (remote === null) refuseWithoutRemote(flags)
  if (flags.rsh !== undefined && flags.ssh === 'ssh2') {
    throw contradiction(
      '--rsh',
      'is for the system ssh, and --ssh ssh2 is the built-in client',
      'Leave one of the two away.',
    )
  }
  // a port in the URL and another one in -p: neither is obviously the one that was meant
  if (remote !== null && remote.port !== null && flags.port !== undefined && remote.port !== flags.port) {
    throw contradiction(
      '--port',
      `says ${flags.port}, and ${remote.typed} says ${remote.port}`,
      'Leave one of the two away.',
    )
  }
  const native = flags.native ?? SYNC_DEFAULTS.native
  return {
    native,
    transport: {
      ssh: flags.rsh !== undefined ? 'openssh' : (flags.ssh ?? SYNC_DEFAULTS.transport.ssh),
      rsh: flags.rsh ?? null,
      port: flags.port ?? null,
      identities: flags.identity ?? [],
      configFile: flags.sshConfig ?? null,
      sudo: flags.sudo === true ? 'always' : 'never',
      remoteCommand: flags.remoteCommand ?? SYNC_DEFAULTS.transport.remoteCommand,
      // the far side is told only what is not its default, so that plain runs look plain in its process list
      serveArguments: native === 'auto' ? [] : [`--native=${native}`],
      lane: 'first',
    },
  }
}

function parseStreams(text: string): number | 'auto' {
  if (text === 'auto') return text
  const streams = /^\d{1,3}$/.test(text) ? Number(text) : 0
  if (streams >= 1 && streams <= MAX_STREAMS) return streams
  throw new SyncError(
    'usage',
    `--streams is auto or a number from 1 to ${MAX_STREAMS}, not '${text}'; nothing was opened`,
    {
      operand: '--streams',
      hint: 'Write for example --streams 4.',
    },
  )
}

/** Short options without a value; `-z` may stand among them. */
const SHORT_FLAGS = /^-[nvqz]*z[nvqz]*$/

/**
 * A bare `-z` or `--compress` becomes `--compress=best`: its value is only ever in the same word, as in rsync, but the
 * parser would take the operand behind it. Words behind `--` stay. Rejects with `usage` where the next word is a value.
 */
export function bareCompress(words: readonly string[]): string[] {
  const end = words.includes('--') ? words.indexOf('--') : words.length
  return words.flatMap((word, index) => {
    if (index >= end || (word !== '--compress' && !SHORT_FLAGS.test(word))) return [word]
    const next = words[index + 1] ?? ''
    if ((COMPRESS_CHOICES as readonly string[]).includes(next) && index + 1 < end)
      throw contradiction(
        '--compress',
        `takes its value in the same word, and ${next} is the next one`,
        `Write --compress=${next}, or ${next}: for a host of that name.`,
      )
    const others = word.startsWith('--') ? '' : word.slice(1).replaceAll('z', '')
    return others === '' ? ['--compress=best'] : [`-${others}`, '--compress=best']
  })
}

/** What is printed. `redraw`: whether stderr is a terminal that can draw a line again. */
export function printingOf(flags: SyncFlags, redraw: 'possible' | 'impossible'): Printing {
  const format = flags.json === true ? 'json' : 'text'
  const verbosity = flags.quiet === true ? 'quiet' : flags.verbose === true ? 'verbose' : 'normal'
  return {
    format,
    verbosity,
    progress: progressStyle(flags, redraw),
    stats: flags.stats === true ? 'shown' : 'hidden',
  }
}

function progressStyle(flags: SyncFlags, redraw: 'possible' | 'impossible'): ProgressStyle {
  if (flags.progress === false || flags.quiet === true) return 'none'
  if (flags.json === true) return 'json'
  if (redraw === 'possible') return 'redraw'
  return flags.progress === true || flags.verbose === true ? 'lines' : 'none'
}

function refuseWithoutRemote(flags: ConnectionFlags): void {
  const given: [string, unknown][] = [
    ['--rsh', flags.rsh],
    ['--ssh', flags.ssh],
    ['--port', flags.port],
    ['--identity', flags.identity],
    ['--ssh-config', flags.sshConfig],
    ['--sudo', flags.sudo],
    ['--remote-command', flags.remoteCommand],
  ]
  for (const [option, value] of given) {
    if (value !== undefined)
      throw contradiction(
        option,
        'is about the far side, and both sides are here',
        'Write host:/path for a disk on another host.',
      )
  }
}

function repeated(option: string): (text: string, before: string[] | undefined) => string[] {
  const check = plainText(option)
  return (text, before = []) => {
    if (before.length >= MAX_REPEATS)
      throw contradiction(option, `was given more than ${MAX_REPEATS} times`, 'Give it less often.')
    return [...before, check(text)]
  }
}

function plainText(option: string): (text: string) => string {
  return (text) => {
    if (text.trim() === '') throw contradiction(option, 'is empty', 'Was a shell variable empty?')
    if (hasControlCharacter(text))
      throw contradiction(option, 'contains a control character', 'Write it without.')
    return text
  }
}

function contradiction(option: string, problem: string, hint: string): SyncError {
  return new SyncError('usage', `${option} ${problem}; nothing was opened`, { operand: option, hint })
}
