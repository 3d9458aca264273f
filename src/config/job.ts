// One job: what it says itself over the defaults, completed and checked as a whole. Refuses disks that are not all between the
// same two hosts, and keys that could have no effect together.

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { SyncOptions } from '../options.js'
import type { DiskPair, Operand } from '../sync/report.js'
import type { Job, JobDisk, Place, QuiesceChoice, Schedule, SnapshotChoice } from './config.js'
import type { ConfigParsers, JobOption } from './parsers.js'
import { keyText } from './problems.js'
import type { DefaultsForm, JobForm } from './schema.js'
import type { Path } from './yaml-file.js'

const DEFAULT_EVERY_MS = 900_000
/** Room for a fifth of the volume to change while it is copied. */
const DEFAULT_SNAPSHOT_PERCENT = 20
/** Of an interval: one attempt may fail before anybody is told, three before somebody is woken. */
const WARNING_INTERVALS = 2
const CRITICAL_INTERVALS = 4
/** A cron expression has no interval that a jitter could be measured by. */
const MAX_CRON_JITTER_MS = 86_400_000

export type JobRequest = Readonly<{
  name: string
  place: Place
  own: JobForm
  defaults: DefaultsForm
  stateDir: string | null
  parsers: ConfigParsers
  /** `path` is within the job. */
  say: (path: Path, text: string) => void
  /** About the directory of the main file. */
  sayStateDir: (text: string) => void
}>

/** The job, or null where something was said. */
export function jobOf(request: JobRequest): Job | null {
  let isWrong = false
  const say: JobRequest['say'] = (path, text) => {
    isWrong = true
    request.say(path, text)
  }
  const asked = { ...request, say }
  const disks = disksOf(asked)
  const schedule = scheduleOf(asked)
  const own = request.own
  const both = { ...request.defaults, ...own }
  const snapshot = snapshotOf(asked)
  const quiesce = quiesceOf(asked, snapshot)
  const lag = lagOf(asked, schedule)
  const [first] = disks ?? []
  const options = first === undefined ? null : optionsOf(asked, first)
  if (isWrong || disks === null || options === null || schedule === null) return null
  return {
    name: request.name,
    place: request.place,
    disks,
    schedule,
    windows: both.windows ?? [],
    snapshot,
    track: both.track ?? 'auto',
    quiesce,
    keep: {
      last: both.keep?.last ?? 1,
      hourly: both.keep?.hourly ?? 0,
      daily: both.keep?.daily ?? 0,
      weekly: both.keep?.weekly ?? 0,
    },
    lag,
    verifyEveryMs:
      both.verify_every === undefined || both.verify_every === 'never' ? null : both.verify_every,
    hooks: {
      pre: both.hooks?.pre ?? null,
      post: both.hooks?.post ?? null,
      onError: both.hooks?.on_error ?? null,
      finally: both.hooks?.finally ?? null,
    },
    notify: both.notify ?? [],
    boot: both.boot === undefined || both.boot === 'none' ? null : both.boot,
    options,
  }
}

/** Where a disk is, as far as its name tells: two that are equal are one disk. Users of one host see the same disks. */
export function diskKey({ at, path }: Operand, port: number | null): string {
  const normal = posix.normalize(path)
  if (at.kind === 'local') return `here ${normal}`
  return `${at.host.toLowerCase()} ${at.port ?? port ?? ''} ${normal}`
}

function disksOf({ own, parsers, say }: JobRequest): readonly JobDisk[] | null {
  const { disks, source, destination } = own
  const alone = source !== undefined || destination !== undefined
  if (disks !== undefined && alone) {
    say([source === undefined ? 'destination' : 'source'], 'disks is there too; write every pair into it')
    return null
  }
  if (disks !== undefined) {
    const pairs = disks.map((disk, index) =>
      pairOf(disk.source, disk.destination, ['disks', index], { parsers, say }),
    )
    return checkTogether(pairs, (index) => ['disks', index], say)
  }
  if (source === undefined || destination === undefined) {
    const missing = source === undefined ? 'source' : 'destination'
    say([], alone ? `${missing} is missing` : 'there are no disks; write source and destination, or disks')
    return null
  }
  return checkTogether([pairOf(source, destination, [], { parsers, say })], () => [], say)
}

function pairOf(
  source: string,
  destination: string,
  path: Path,
  { parsers, say }: Pick<JobRequest, 'parsers' | 'say'>,
): DiskPair | null {
  try {
    const pair = parsers.pair(source, destination)
    const relative = (['source', 'destination'] as const).filter((side) => !pair[side].path.startsWith('/'))
    for (const side of relative)
      say([...path, side], `${pair[side].typed} is not an absolute path, and a job runs in no directory`)
    return relative.length === 0 ? pair : null
  } catch (thrown) {
    if (!(thrown instanceof SyncError)) throw thrown
    const side = thrown.operand === destination ? 'destination' : 'source'
    // a run that one types has other ways out than a job
    if (thrown.message.startsWith('both sides are remote'))
      say(
        [...path, side],
        'the other side is remote too; one of the two has to be on the host of this configuration',
      )
    else say([...path, side], `${thrown.operand ?? source}: ${keyText(thrown, side)}`)
    return null
  }
}

/** All between the same two hosts, and no disk twice. Null where one is missing, or this is not so. */
function checkTogether(
  pairs: readonly (DiskPair | null)[],
  pathOf: (index: number) => Path,
  say: JobRequest['say'],
): readonly JobDisk[] | null {
  const good = pairs.filter((pair) => pair !== null)
  const [first] = good
  if (first === undefined) return null
  const written = new Set<string>()
  const read = new Set(good.map(({ source }) => diskKey(source, null)))
  let isRight = good.length === pairs.length
  pairs.forEach((pair, index) => {
    if (pair === null) return
    const wrong = (side: 'source' | 'destination', text: string): void => {
      isRight = false
      say([...pathOf(index), side], `${pair[side].typed} ${text}`)
    }
    for (const side of ['source', 'destination'] as const) {
      if (hostKey(pair[side]) !== hostKey(first[side]))
        wrong(side, `is on another host than ${first[side].typed}: all ${side}s of a job are on one host`)
    }
    const key = diskKey(pair.destination, null)
    if (written.has(key)) wrong('destination', 'is the destination of two disks of this job')
    else if (read.has(key)) wrong('destination', 'is also a source of this job')
    written.add(key)
  })
  return isRight ? good : null
}

function hostKey({ at }: Operand): string {
  return at.kind === 'local' ? 'here' : JSON.stringify([at.user, at.host.toLowerCase(), at.port])
}

function scheduleOf({ own, defaults, say }: JobRequest): Schedule | null {
  if (own.every !== undefined && own.cron !== undefined) {
    say(['cron'], 'every is there too, and a job has one schedule; leave one of the two away')
    return null
  }
  // a job that has one of the two has it instead of either of the defaults
  const { every, cron } = own.every === undefined && own.cron === undefined ? defaults : own
  const jitter = own.jitter ?? defaults.jitter ?? { ms: 0 }
  if (cron !== undefined) {
    if ('percent' in jitter && own.jitter !== undefined)
      say(['jitter'], 'is a share of an interval, and cron has none; write a time such as 5m')
    const jitterMs = 'ms' in jitter ? jitter.ms : 0
    if (jitterMs > MAX_CRON_JITTER_MS) say(['jitter'], 'is more than a day')
    return { kind: 'cron', expression: cron, timeZone: own.timezone ?? defaults.timezone ?? null, jitterMs }
  }
  if (own.timezone !== undefined) say(['timezone'], 'is for cron, and this job has none')
  const everyMs = every ?? DEFAULT_EVERY_MS
  const jitterMs = 'ms' in jitter ? jitter.ms : Math.floor((everyMs * jitter.percent) / 100)
  if (jitterMs > everyMs) say(['jitter'], 'is longer than every: attempts would be left out')
  return { kind: 'every', everyMs, jitterMs }
}

function snapshotOf({ own, defaults, say }: JobRequest): SnapshotChoice {
  const form = own.snapshot ?? defaults.snapshot ?? 'none'
  if (form !== 'lvm' && own.snapshot_size !== undefined) say(['snapshot_size'], 'is for snapshot: lvm alone')
  if (typeof form !== 'string') return form
  if (form !== 'lvm') return { kind: form }
  return {
    kind: form,
    size: own.snapshot_size ?? defaults.snapshot_size ?? { percent: DEFAULT_SNAPSHOT_PERCENT },
  }
}

function quiesceOf({ own, defaults, say }: JobRequest, { kind }: SnapshotChoice): QuiesceChoice | null {
  const quiesce = own.quiesce ?? defaults.quiesce ?? 'none'
  if (quiesce === 'none') return null
  if (kind === 'none')
    say(['quiesce'], 'is for the moment of a snapshot, and there is none; write snapshot, or quiesce: none')
  return quiesce
}

function lagOf({ own, defaults, say }: JobRequest, schedule: Schedule | null): Job['lag'] {
  const lag = own.lag ?? defaults.lag ?? {}
  const intervalMs = schedule?.kind === 'every' ? schedule.everyMs : null
  const { warning, critical } = lag
  if (warning !== undefined && critical !== undefined && warning > critical)
    say(['lag'], 'has a warning that comes after its critical')
  const least = warning ?? critical
  if (intervalMs !== null && least !== undefined && least <= intervalMs)
    say(['lag'], 'is not longer than every, so that it would always be told')
  const [warningMs, criticalMs] =
    intervalMs === null ? [null, null] : [WARNING_INTERVALS * intervalMs, CRITICAL_INTERVALS * intervalMs]
  return {
    warningMs: warning ?? (warningMs === null ? null : Math.min(warningMs, critical ?? warningMs)),
    criticalMs: critical ?? (criticalMs === null ? null : Math.max(criticalMs, warning ?? criticalMs)),
  }
}

function optionsOf(
  { own, defaults, parsers, stateDir, say, sayStateDir }: JobRequest,
  pair: DiskPair,
): SyncOptions | null {
  const isLocal = pair.source.at.kind === 'local' && pair.destination.at.kind === 'local'
  const given = new Map<string, readonly string[]>()
  for (const option of parsers.jobOptions) {
    const mine = valuesOf(own, option)
    // jobs with and without a far side may share defaults
    const values = mine ?? (isLocal && option.about === 'far-side' ? null : valuesOf(defaults, option))
    if (values !== null && values.length > 0) given.set(option.name, values)
  }
  try {
    return parsers.syncOptions(given, stateDir, pair)
  } catch (thrown) {
    if (!(thrown instanceof SyncError)) throw thrown
    const key = thrown.operand?.replace(/^--/, '') ?? ''
    if (key === 'state-dir') sayStateDir(keyText(thrown, key))
    else say(given.has(key) ? [key] : [], keyText(thrown, key))
    return null
  }
}

/** Null where it is not given. What is there under that name is what schema.ts made of it. */
function valuesOf(form: JobForm | DefaultsForm, { name }: JobOption): readonly string[] | null {
  const values = (form as Readonly<Record<string, unknown>>)[name]
  return values === undefined ? null : (values as readonly string[])
}
