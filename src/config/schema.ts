// The shape of a configuration, as zod has it: plain values of a YAML file in, each value understood out. Refuses keys that
// are not known, values of another form and, by the parsers that it is given, values without meaning.

import * as z from 'zod'

import { absolutePath, listenOf, textfileOf } from './addresses.js'
import {
  boot,
  either,
  forms,
  hook,
  MAX_WORDS,
  notifyTarget,
  optionForm,
  PLAIN,
  quiesce,
  snapshot,
  snapshotSize,
  strict,
} from './forms.js'
import type { ConfigParsers } from './parsers.js'
import { cronOf, jitterOf, MIN_EVERY_MS, timeZoneOf, windowOf } from './times.js'

/** Limits: more of it in one job is a mistake. */
const MAX_DISKS = 256
const MAX_KEPT = 10_000
/** More would only wait for the same disks. */
const MAX_PARALLEL = 64
/** A replica that is read again more often is read all the time. */
const MIN_VERIFY_EVERY_MS = 60_000

export const JOB_NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$/

/** The shapes of a configuration, and of its parts as they are read one by one. Made once for all files. */
export function schemasOf(parsers: ConfigParsers) {
  const form = forms(parsers)
  const { parsed, duration } = form
  const kept = z.int().min(0).max(MAX_KEPT).optional()
  const disk = strict({ source: PLAIN, destination: PLAIN })
  const notify = z.array(notifyTarget(form)).max(MAX_WORDS).optional()
  const hookForm = hook(form).optional()
  const options = Object.fromEntries(
    parsers.jobOptions.map((option) => [option.name, optionForm(option, parsers).optional()]),
  )
  const shared = {
    every: duration(MIN_EVERY_MS)
      .optional()
      .meta({ description: 'An attempt every so often: 10s, 15m, 1h30m' }),
    cron: parsed('cron', cronOf).optional().meta({ description: "An attempt at these times: '30 2 * * *'" }),
    timezone: parsed('timezone', timeZoneOf).optional().meta({ description: 'Of cron; else local time' }),
    jitter: parsed('jitter', (text) => jitterOf(text, parsers))
      .optional()
      .meta({
        description: 'Up to how much later an attempt begins: a time, or a share of every such as 10%',
      }),
    windows: either('a window, or a list of windows', [
      parsed('windows', windowOf).transform((window) => [window]),
      z.array(parsed('windows', windowOf)).max(MAX_WORDS),
    ])
      .optional()
      .meta({ description: "An attempt begins only in these: 'mon-fri 22:00-06:00'" }),
    snapshot: snapshot(form)
      .optional()
      .meta({ description: 'How the disks of the source are cut at one instant' }),
    snapshot_size: parsed('snapshot_size', (text) =>
      snapshotSize(text, (value) => parsers.sizeBytes('snapshot_size:', value)),
    )
      .optional()
      .meta({ description: 'Of each snapshot of lvm: a size, or a share of the volume such as 20%' }),
    track: z.enum(['auto', 'off']).optional().meta({
      description: 'Whether the daemon reads only what changed in the source since its last attempt (auto)',
    }),
    quiesce: quiesce(form)
      .optional()
      .meta({ description: 'What is told to be quiet while the snapshot is made' }),
    keep: strict({ last: z.int().min(1).max(MAX_KEPT).optional(), hourly: kept, daily: kept, weekly: kept })
      .optional()
      .meta({ description: 'Which generations are kept' }),
    lag: strict({ warning: duration(1).optional(), critical: duration(1).optional() })
      .optional()
      .meta({ description: 'From which age of the newest generation on somebody is to look' }),
    verify_every: either('never, or a time', [z.literal('never'), duration(MIN_VERIFY_EVERY_MS)])
      .optional()
      .meta({ description: 'How often the replica is read again and compared' }),
    hooks: strict({ pre: hookForm, post: hookForm, on_error: hookForm, finally: hookForm })
      .optional()
      .meta({ description: 'Programs that are run before, after, after a failure, and in any case' }),
    notify: notify.meta({ description: 'Who is told when the state of a job changes' }),
    boot: boot(form).optional().meta({ description: 'How a drill starts a throw-away guest' }),
  }
  // the names of the options come from outside: what is known of their type is in OptionValues
  const defaults = strict({ ...shared, ...options })
  const own = {
    disks: z.array(disk).min(1).max(MAX_DISKS).optional().meta({ description: 'Disks that are one job' }),
    source: PLAIN.optional().meta({ description: 'The disk that is read, where there is one' }),
    destination: PLAIN.optional().meta({ description: 'The disk that is made equal' }),
  }
  const job = strict({ ...own, ...shared, ...options })
  const settings = {
    state_dir: parsed('state_dir', (text) => absolutePath(text.replace(/(?<=.)\/+$/, '')))
      .optional()
      .meta({ description: 'Where state is kept' }),
    max_parallel: z.int().min(1).max(MAX_PARALLEL).optional().meta({ description: 'Attempts at once (2)' }),
    bwlimit: parsed('bwlimit', (text) => ({ schedule: parsers.rate('bwlimit:', text) }))
      .optional()
      .meta({ description: 'One budget for all attempts: 100M, or a timetable' }),
    metrics: strict({
      textfile: parsed('textfile', textfileOf).optional(),
      listen: parsed('listen', listenOf).optional(),
    })
      .optional()
      .meta({ description: 'For Prometheus, and the status page' }),
    notify,
  }
  return {
    job,
    defaults,
    /** Of a file; what is in `defaults` and each job is read by itself. */
    main: strict({
      ...settings,
      defaults: z.record(z.string(), z.unknown()).optional(),
      jobs: z.record(z.string(), z.unknown()).optional(),
    }),
    /** For an editor: all of it. */
    whole: strict({
      ...settings,
      defaults: defaults
        .optional()
        .meta({ description: 'Of all jobs; a job that has the same key has its own' }),
      jobs: z.record(z.string().regex(JOB_NAME), job).optional(),
    }),
  }
}

export type Schemas = ReturnType<typeof schemasOf>
export type DefaultsForm = z.output<Schemas['defaults']>
export type JobForm = z.output<Schemas['job']>
export type MainForm = z.output<Schemas['main']>
