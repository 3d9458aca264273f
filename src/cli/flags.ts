// The options of the command line as commander parses them: words in, flags out (settings.ts is what becomes of those).
// Refuses values out of their set, empty ones, and options that are given too often.

import { Option } from 'commander'
import type { Command } from 'commander'

import type { AlgorithmName } from '../digest/digester.js'
import { SyncError } from '../errors.js'
import { MAX_STREAMS } from '../options.js'
import type { CompressChoice, NativeMode, SizePolicy, VerifyChoice } from '../options.js'
import type { RateSchedule } from '../rate/schedule.js'
import type { TransportOptions } from '../transport/transport.js'
import { addForceFlags, type ForceFlags } from './force-flags.js'
import { parseBwlimit } from './timetable.js'
import { parsePort, parseSize } from './units.js'
import { addPatienceFlags, type PatienceFlags } from './patience-flags.js'
import { addStateFlag, addYesFlag, type StateFlags } from './state-flags.js'
import { addResumeFlags, type ResumeFlags } from './resume-flags.js'
import { addUndoRunFlags, type UndoRunFlags } from './undo-flags.js'
import { addVerifyFlags } from './verify-flags.js'
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

export type SyncFlags = ConnectionFlags &
  ForceFlags &
  StateFlags &
  PatienceFlags &
  UndoRunFlags &
  ResumeFlags & {
    dryRun?: true
    create?: true
    size?: SizePolicy
    disk?: string[]
    bwlimit?: RateFlag
    compress?: CompressChoice
    streams?: number | 'auto'
    verify?: VerifyChoice
    receipt?: string
    rescue?: string
    blockSize?: number
    granularity?: number
    digest?: AlgorithmName | 'auto'
    verbose?: true
    quiet?: true
    progress?: boolean
    json?: true
    stats?: true
  }

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
    addYesFlag(command)
  }
  command.addOption(
    new Option(
      '--size <policy>',
      'where sizes differ: strict refuses (default), grow enlarges the file, min takes the common part',
    ).choices(SIZES),
  )
  addVerifyFlags(command, kind)
  command.addOption(
    new Option(
      '--rescue <mapfile>',
      'go on where the source cannot be read, leave the destination alone there, and list it (as ddrescue does)',
    ).argParser(plainText('--rescue')),
  )
  command.addOption(
    new Option('--disk <SRC=DST>', 'one pair of disks; repeat it for several in one run').argParser(
      repeated('--disk'),
    ),
  )

  if (kind === 'sync') {
    addResumeFlags(command)
    addUndoRunFlags(command)
    addForceFlags(command)
  }
  addStateFlag(command)
  addPatienceFlags(command)

  command.optionsGroup('Speed and digests:')
  if (kind === 'sync') {
    addBwlimitFlag(command)
    addCompressFlag(command)
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

export function addBwlimitFlag(command: Command): Command {
  return command.addOption(
    new Option(
      '--bwlimit <rate>',
      "most payload bytes a second, all disks together; 0 or off is no limit; by local time: '08:00,20M 19:00,off'",
    ).argParser((text: string): RateFlag => ({ schedule: parseBwlimit('--bwlimit', text) })),
  )
}

/** The value in brackets is one word with the option (bareCompress), so that what follows -z stays an operand. */
export function addCompressFlag(command: Command): Command {
  return command
    .combineFlagAndOptionalValue(false)
    .addOption(
      new Option(
        '-z, --compress [=algo]',
        'compress what is sent: best (the default of -z) takes zstd or brotli; auto only where it is faster',
      ).choices(COMPRESS_CHOICES),
    )
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

function repeated(option: string): (text: string, before: string[] | undefined) => string[] {
  const check = plainText(option)
  return (text, before = []) => {
    if (before.length >= MAX_REPEATS)
      throw contradiction(option, `was given more than ${MAX_REPEATS} times`, 'Give it less often.')
    return [...before, check(text)]
  }
}

export function plainText(option: string): (text: string) => string {
  return (text) => {
    if (text.trim() === '') throw contradiction(option, 'is empty', 'Was a shell variable empty?')
    if (hasControlCharacter(text))
      throw contradiction(option, 'contains a control character', 'Write it without.')
    return text
  }
}

/** An option that cannot mean anything as it is given; nothing was opened yet. */
export function contradiction(option: string, problem: string, hint: string): SyncError {
  return new SyncError('usage', `${option} ${problem}; nothing was opened`, { operand: option, hint })
}
