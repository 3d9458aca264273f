// What a configuration of `replicate` says once it was read and checked: total and readonly. load.ts makes it of YAML files; who
// rests on it need not look at a value again.

import type { RateSchedule } from '../rate/schedule.js'
import type { SyncOptions } from '../options.js'
import type { Operand } from '../sync/report.js'
import type { Argv } from '../exec.js'

/** Where a value stands: for messages. Lines and columns count from 1. */
export type Place = Readonly<{ file: string; line: number; column: number }>

export type Config = Readonly<{
  /** Every file that it was read from, in the order of reading. */
  files: readonly string[]
  /** Null is the usual place (src/state/directory.ts). */
  stateDir: string | null
  /** Attempts that run at once in a daemon. */
  maxParallel: number
  /** One budget for all attempts that run at once, of payload bytes a second; null is unlimited. */
  bwlimit: RateSchedule | null
  metrics: MetricsConfig
  notify: readonly NotifyTarget[]
  /** In the order of the files; names are unique. */
  jobs: readonly Job[]
}>

export type MetricsConfig = Readonly<{
  /** Written whole or not at all, after each attempt and on each change. */
  textfile: string | null
  listen: ListenAddress | null
}>

export type ListenAddress =
  | Readonly<{ kind: 'tcp'; host: string; port: number }>
  | Readonly<{ kind: 'unix'; path: string }>

export type Job = Readonly<{
  /** Letters, digits, dot, dash, underscore; at most 64, and not a dot or dash in front. */
  name: string
  place: Place
  /** At least one. All sources are on one host, all destinations are on one host, and one of the two is this one. */
  disks: readonly JobDisk[]
  schedule: Schedule
  /** An attempt begins only in one of these; none is always. */
  windows: readonly TimeWindow[]
  snapshot: SnapshotChoice
  track: TrackChoice
  quiesce: QuiesceChoice | null
  keep: Retention
  lag: Readonly<{ warningMs: number | null; criticalMs: number | null }>
  /** How often the replica is read again and compared with the record (a drill); null is never by itself. */
  verifyEveryMs: number | null
  hooks: Readonly<Record<HookName, HookCommand | null>>
  /** Besides those of all jobs. */
  notify: readonly NotifyTarget[]
  /** How a drill starts a throw-away guest; null where that is not configured. */
  boot: BootChoice | null
  /** Completed by syncOptions(): transport, bwlimit, compress and the like, as `blocksync sync` takes them. */
  options: SyncOptions
}>

/** `typed` of both is as it stands in the file. */
export type JobDisk = Readonly<{ source: Operand; destination: Operand }>

export type Schedule =
  | Readonly<{ kind: 'every'; everyMs: number; jitterMs: number }>
  | Readonly<{ kind: 'cron'; expression: string; timeZone: string | null; jitterMs: number }>

/** Local time: days (0 is Sunday) and minutes of the day; `toMinute` at or below `fromMinute` is on the next day. */
export type TimeWindow = Readonly<{ days: readonly number[]; fromMinute: number; toMinute: number }>

export type SnapshotChoice =
  /** Of thick volumes; `size` of each snapshot as lvcreate takes it: bytes, or a share of the volume in percent. */
  | Readonly<{ kind: 'lvm'; size: Readonly<{ bytes: number }> | Readonly<{ percent: number }> }>
  | Readonly<{ kind: 'lvm-thin' }>
  | Readonly<{ kind: 'reflink' }>
  | Readonly<{ kind: 'none' }>
  | Readonly<{ kind: 'command'; create: Argv; remove: Argv; timeoutMs: number }>

/** `auto`: where a daemon can tell what changed in the source since its last attempt, only that is read; `off`: all of it. */
export type TrackChoice = 'auto' | 'off'

export type QuiesceChoice =
  | Readonly<{ kind: 'libvirt'; domain: string; uri: string | null }>
  | Readonly<{ kind: 'command'; freeze: Argv; thaw: Argv }>

/** What is kept of older generations beside the newest: the `last` newest ones, and the newest of so many hours, days, weeks. */
export type Retention = Readonly<{ last: number; hourly: number; daily: number; weekly: number }>

export type HookName = 'pre' | 'post' | 'onError' | 'finally'
export type HookCommand = Readonly<{ command: Argv; timeoutMs: number }>

export type NotifyTarget =
  | Readonly<{ kind: 'command'; command: Argv; timeoutMs: number }>
  /** GET for what is well again, the same with /fail behind its path for what is not, as such services have it. */
  | Readonly<{ kind: 'http'; url: string; timeoutMs: number }>
  | Readonly<{ kind: 'mail'; to: string; sendmail: string; timeoutMs: number }>

/** What qemu takes a disk for. */
export type DiskFormat = 'raw' | 'qcow2'

export type BootChoice = Readonly<{
  memoryBytes: number
  /** The line of the console that proves it: any line that has this in it. */
  expect: string
  timeoutMs: number
  /** Of the disks that no definition of the guest tells of; null is raw, as long as it does not look like anything else. */
  format: DiskFormat | null
  /** Further words for qemu. */
  arguments: readonly string[]
}>
