// The forms that single values of a configuration may have, as zod has them: a hook, a snapshot, an option of sync. Each
// refuses what its parser refuses, with the same words.

import * as z from 'zod'

import { SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import { absolutePath, mailOf, urlOf } from './addresses.js'
import type { BootChoice, HookCommand, NotifyTarget, QuiesceChoice } from './config.js'
import type { ConfigParsers, JobOption } from './parsers.js'
import { keyText, wrong } from './problems.js'
import { durationFrom, durationOf } from './times.js'

/** More in one place is a mistake. */
export const MAX_WORDS = 256
const MAX_TEXT = 4096

/** Long enough for a load balancer or a database to do what it is asked; a hook that hangs keeps the next attempt waiting. */
const HOOK_TIMEOUT_MS = 300_000
const NOTIFY_TIMEOUT_MS = 30_000
const SNAPSHOT_TIMEOUT_MS = 60_000
const BOOT_TIMEOUT_MS = 180_000
const MAX_COMMAND_MS = 86_400_000
const BOOT_MEMORY_BYTES = 512 << 20
/** qemu starts nothing with less. */
const MIN_BOOT_MEMORY_BYTES = 16 << 20

export type SnapshotForm =
  | 'lvm'
  | 'lvm-thin'
  | 'reflink'
  | 'none'
  | Readonly<{ kind: 'command'; create: Argv; remove: Argv; timeoutMs: number }>

/** Values of an option as its parser takes them: one for each time it is given. */
export type OptionValues = readonly string[]

/** Carries the keys that are known to who words the problem (issues.ts): an issue of zod names only those that are not. */
export function strict<Shape extends z.core.$ZodLooseShape>(
  shape: Shape,
): z.ZodObject<Shape, z.core.$strict> {
  return z.strictObject(shape, {
    error: ({ code }) => (code === 'unrecognized_keys' ? Object.keys(shape).join(' ') : undefined),
  })
}

/** `text` says what the forms are, where none of them is near. */
export function either<Forms extends readonly [z.ZodType, ...z.ZodType[]]>(
  text: string,
  forms: Forms,
): z.ZodUnion<Forms> {
  return z.union(forms, { error: text })
}

/** The value as `convert` understands it; `key` is what its errors call it. */
export function converted<In, Out>(
  from: z.ZodType<In>,
  key: string,
  convert: (value: In) => Out,
): z.ZodType<Out> {
  return from.transform((value, context) => {
    try {
      return convert(value)
    } catch (thrown) {
      if (!(thrown instanceof SyncError)) throw thrown
      context.addIssue({ code: 'custom', message: keyText(thrown, key) })
      return z.NEVER
    }
  })
}

export const PLAIN = z.string().min(1).max(MAX_TEXT)
const WORD: z.ZodType<string> = either('a text', [PLAIN, z.int()]).transform(String)
const TRUTH = z.boolean()

/** What a shape needs of the parsers, made once. */
export function forms(parsers: ConfigParsers) {
  const parsed = <Out>(key: string, convert: (text: string) => Out): z.ZodType<Out> =>
    converted(WORD, key, convert)
  const duration = (least: number, most = Infinity): z.ZodType<number> =>
    parsed('', (text) => {
      const ms = least === 0 ? durationOf(text, parsers) : durationFrom(least, text, parsers)
      if (ms > most) throw wrong(`'${text}' is too long; the most is ${most / 3_600_000}h`)
      return ms
    })
  const size = (key: string, least = 1): z.ZodType<number> =>
    parsed(key, (text) => {
      const bytes = parsers.sizeBytes(`${key}:`, text)
      if (bytes < least) throw wrong(`${text} is too little; the least is ${least} bytes`)
      return bytes
    })
  const command: z.ZodType<Argv> = converted(
    either('a command: a text, or a list of words', [PLAIN, z.array(WORD).min(1).max(MAX_WORDS)]),
    'command',
    (value) => program(typeof value === 'string' ? parsers.words('command:', value) : value),
  )
  return { parsed, duration, size, command, timeout: duration(1, MAX_COMMAND_MS).optional() }
}

/** Found on PATH or by its whole path: a daemon's working directory is nobody's business. */
function program(words: readonly string[]): Argv {
  const [first = '', ...rest] = words
  if (first === '' || [first, ...rest].some((word) => word.includes('\0'))) throw wrong('names no program')
  if (first.includes('/') && !first.startsWith('/'))
    throw wrong(`${first} is neither a name nor an absolute path`)
  return [first, ...rest]
}

type Forms = ReturnType<typeof forms>

export function notifyTarget({ parsed, command, timeout }: Forms): z.ZodType<NotifyTarget> {
  const timeoutOf = (timeoutMs: number | undefined): number => timeoutMs ?? NOTIFY_TIMEOUT_MS
  return either('a mapping with command, http or mail', [
    strict({ command, timeout }).transform((value): NotifyTarget => ({
      kind: 'command',
      command: value.command,
      timeoutMs: timeoutOf(value.timeout),
    })),
    strict({ http: parsed('http', urlOf), timeout }).transform((value): NotifyTarget => ({
      kind: 'http',
      url: value.http,
      timeoutMs: timeoutOf(value.timeout),
    })),
    strict({
      mail: parsed('mail', mailOf),
      sendmail: parsed('sendmail', absolutePath).optional(),
      timeout,
    }).transform((value): NotifyTarget => ({
      kind: 'mail',
      to: value.mail,
      sendmail: value.sendmail ?? '/usr/sbin/sendmail',
      timeoutMs: timeoutOf(value.timeout),
    })),
  ])
}

export function hook({ command, timeout }: Forms): z.ZodType<HookCommand> {
  return either('a command, or a mapping with command and timeout', [
    command.transform((argv): HookCommand => ({ command: argv, timeoutMs: HOOK_TIMEOUT_MS })),
    strict({ command, timeout }).transform((value): HookCommand => ({
      command: value.command,
      timeoutMs: value.timeout ?? HOOK_TIMEOUT_MS,
    })),
  ])
}

export function snapshot({ command, timeout }: Forms): z.ZodType<SnapshotForm> {
  return either('none, lvm, lvm-thin, reflink, or a mapping with command', [
    z.enum(['none', 'lvm', 'lvm-thin', 'reflink']),
    strict({ command: strict({ create: command, remove: command, timeout }) }).transform(
      ({ command: { create, remove, timeout: timeoutMs } }): SnapshotForm => ({
        kind: 'command',
        create,
        remove,
        timeoutMs: timeoutMs ?? SNAPSHOT_TIMEOUT_MS,
      }),
    ),
  ])
}

export function quiesce({ command }: Forms): z.ZodType<QuiesceChoice | 'none'> {
  const name = PLAIN.regex(/^[^-\s/][^\n\0/]*$/, 'is not the name of a guest')
  return either('none, or a mapping with libvirt or command', [
    z.literal('none'),
    strict({
      libvirt: name,
      uri: PLAIN.regex(
        /^[a-z][a-z0-9+]*:\/\//,
        'is not a URI of libvirt; write for example qemu:///system',
      ).optional(),
    }).transform((value): QuiesceChoice => ({
      kind: 'libvirt',
      domain: value.libvirt,
      uri: value.uri ?? null,
    })),
    strict({ command: strict({ freeze: command, thaw: command }) }).transform((value): QuiesceChoice => ({
      kind: 'command',
      ...value.command,
    })),
  ])
}

export function boot({ duration, size }: Forms): z.ZodType<BootChoice | 'none'> {
  return either('none, or a mapping with expect', [
    z.literal('none'),
    strict({
      memory: size('memory', MIN_BOOT_MEMORY_BYTES).optional(),
      expect: PLAIN.regex(/^[^\n\r]*$/, 'has to be one line'),
      timeout: duration(1000, MAX_COMMAND_MS).optional(),
      format: z.enum(['raw', 'qcow2']).optional(),
      arguments: z.array(WORD).max(MAX_WORDS).optional(),
    }).transform((value): BootChoice => ({
      memoryBytes: value.memory ?? BOOT_MEMORY_BYTES,
      expect: value.expect,
      timeoutMs: value.timeout ?? BOOT_TIMEOUT_MS,
      format: value.format ?? null,
      arguments: value.arguments ?? [],
    })),
  ])
}

export function optionForm(option: JobOption, parsers: ConfigParsers): z.ZodType<OptionValues> {
  const { name, kind, choices, bare, help } = option
  const checked = (from: z.ZodType<OptionValues>): z.ZodType<OptionValues> =>
    converted(from, name, (values) => {
      parsers.checkOption(name, values)
      return values
    }).meta({ description: help })
  if (kind === 'switch') return checked(TRUTH.transform((on): OptionValues => (on ? [''] : [])))
  const value = choices === null ? WORD : z.enum(choices as [string, ...string[]])
  if (bare !== null)
    return checked(
      either(`true, false or ${(choices ?? ['a text']).join(', ')}`, [TRUTH, value]).transform(
        (given): OptionValues => [typeof given === 'boolean' ? (given ? bare.on : bare.off) : given],
      ),
    )
  if (kind === 'list')
    return checked(
      either('a text, or a list of texts', [WORD, z.array(WORD).max(MAX_WORDS)]).transform(
        (given): OptionValues => (typeof given === 'string' ? [given] : given),
      ),
    )
  return checked(value.transform((given): OptionValues => [given]))
}

/** A size, or a share of the volume in percent. */
export type SnapshotSize = Readonly<{ bytes: number }> | Readonly<{ percent: number }>

export function snapshotSize(text: string, sizeBytes: (text: string) => number): SnapshotSize {
  const share = /^([0-9]{1,3}) ?%$/.exec(text)
  if (share === null) return { bytes: sizeBytes(text) }
  const percent = Number(share[1])
  if (percent < 1 || percent > 100) throw wrong(`${percent}% is not a share from 1% to 100%`)
  return { percent }
}
