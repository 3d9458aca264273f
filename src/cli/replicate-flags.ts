// The options of `blocksync replicate` and `blocksync check` as commander parses them: words in, flags out. Refuses values out
// of their set. Loaded for these commands only.

import { Option } from 'commander'
import type { Command, HelpConfiguration } from 'commander'

import type { CheckFlags } from './check.js'
import type { CommandContext } from './context.js'
import { addBwlimitFlag, addNativeFlag, contradiction, plainText, type RateFlag } from './flags.js'
import { addForceFlags, type ForceFlags } from './force-flags.js'
import { addStateFlag } from './state-flags.js'
import { parseDuration } from './units.js'
import type { NativeMode } from '../options.js'

/** Every command of replicate has these. */
export type PlaceFlags = { config?: string[]; stateDir?: string }

export type ReplicateFlags = PlaceFlags & {
  json?: true
  quiet?: true
  verbose?: true
  progress?: boolean
  yes?: true
}

export type RunFlags = ReplicateFlags & ForceFlags & { now?: true; fromDaemon?: true; bwlimit?: RateFlag }
export type DaemonFlags = ReplicateFlags & { log?: 'text' | 'journald' | 'json' }
export type StatusWatchFlags = ReplicateFlags & { watch?: true }
export type HistoryFlags = ReplicateFlags & { count?: number }
export type PauseFlags = ReplicateFlags & { reason?: string }
export type PromoteFlags = ReplicateFlags & { forceSourceAlive?: true; takeBack?: true; discard?: true }
export type ReverseFlags = ReplicateFlags & { forceNotPromoted?: true }
export type RestoreFlags = ReplicateFlags & { generation?: number; to?: string; inPlace?: true }
export type DrillFlags = ReplicateFlags & { boot?: true; native?: NativeMode; fromDaemon?: true }

/** Of `history`; more than are kept (MAX_HISTORY_LINES of replicate/state-file.ts). */
const MAX_HISTORY = 2000
export const DEFAULT_HISTORY = 20
/** Of the reason of a pause: it is shown in one line. */
const MAX_REASON = 200
const MAX_CONFIG_FILES = 64
const LOG_FORMS = ['text', 'journald', 'json'] satisfies NonNullable<DaemonFlags['log']>[]

export const REPLICATE_USAGE = `blocksync replicate check-config               is the configuration right, and what does it ask for
       blocksync replicate run JOB [--now]            one attempt, here and now; for cron and timers
       blocksync replicate daemon                     all jobs, for ever
       blocksync replicate status [--watch]           lag of each job, worst first; without jobs: replicas held here
       blocksync replicate history JOB                the last attempts
       blocksync replicate pause JOB | resume JOB
       blocksync replicate promote JOB                make the replica usable; typed where it is, or where the job is
       blocksync replicate reverse JOB                after that: the other way round
       blocksync replicate restore JOB --generation N --to PATH | --in-place
       blocksync replicate drill JOB [--boot]         prove the replica
       blocksync check --max-lag TIME [JOB...]        one line for monitors`

export const REPLICATE_DESCRIPTION = `Makes a replica of disks on another host again and again, as /etc/blocksync/config.yaml says, and keeps older
generations of it. blocksync replicate COMMAND --help has the options of each.`

export const REPLICATE_EXAMPLES = `Examples:
  blocksync replicate check-config --config ./new.yaml
  blocksync replicate run web01 -q                            in a crontab: prints nothing when all is well
  blocksync replicate promote web01                           on the host of the replica, when the source is gone
  blocksync replicate restore web01 --generation 812 --to /srv/restored/web01.img
  blocksync check --max-lag 1h --warn-lag 30m`

type Names = readonly (readonly [flags: string, text: string])[]

const QUIET: Names = [['-q, --quiet', 'nothing but errors']]
const JSON_RESULT: Names = [['--json', 'one JSON object on stdout']]
const YES: Names = [['-y, --yes', 'do it unasked']]

/** Adds `replicate` with its commands, and `check`; `done` is told the exit status. */
export function addReplicate(
  program: Command,
  helpForm: HelpConfiguration,
  done: (status: number) => void,
  context: CommandContext,
): void {
  const replicate = program.command('replicate').helpCommand(false)
  const add = <F>(
    words: string,
    description: string,
    usage: string,
    act: (job: string, flags: F) => Promise<number>,
  ): Command => {
    const command = replicate.command(words).description(description).usage(usage)
    const takesJob = words.includes('<job>')
    command.action(async (first: unknown, second: unknown) => {
      const [job, flags] = takesJob ? [String(first), second] : ['', first]
      done(await act(job, flags as F))
    })
    return command
  }

  const checkConfig = add<ReplicateFlags>(
    'check-config',
    'Reads the configuration, lists everything that is wrong with it, and says what each job does. Nothing is opened.',
    '[options]',
    async (_, flags) => (await import('./replicate.js')).checkConfigCommand(flags, context),
  )
  options(checkConfig, [...QUIET, ...JSON_RESULT])

  const run = add<RunFlags>(
    'run <job>',
    'Makes one attempt of a job, in this process. Without --now it keeps to the windows of the job.',
    'JOB [options]',
    async (job, flags) => (await import('./replicate-run.js')).runCommand(job, flags, context),
  )
  options(run, [
    ['--now', 'outside of the windows of the job, too'],
    ['-y, --yes', 'first run: overwrite content of the destination that the source has not'],
  ])
  addBwlimitFlag(run)
  run.addOption(fromDaemon())
  addForceFlags(run)
  run.optionsGroup('What is printed:')
  run.addOption(new Option('-q, --quiet', 'nothing but errors').conflicts(['verbose', 'progress']))
  options(run, [
    ['-v, --verbose', 'what it is at'],
    ['--progress', 'show progress (the default on a terminal)'],
    ['--no-progress', 'show no progress'],
    ['--json', 'JSON lines on stdout: events, then one result'],
  ])

  const daemon = add<DaemonFlags>(
    'daemon',
    'Runs all jobs when they are due, until SIGTERM. SIGHUP reads the configuration again.',
    '[options]',
    async (_, flags) => (await import('./replicate-run.js')).daemonCommand(flags, context),
  )
  daemon.addOption(
    new Option('--log <form>', 'text, journald or json; default: journald where it is the reader').choices(
      LOG_FORMS,
    ),
  )

  const status = add<StatusWatchFlags>(
    'status',
    'Shows all jobs, worst first, and the replicas that this host holds for others.',
    '[options]',
    async (_, flags) => (await import('./replicate.js')).statusCommand(flags, context),
  )
  status.addOption(new Option('--watch', 'show it until q is pressed').conflicts('json'))
  options(status, JSON_RESULT)

  const history = add<HistoryFlags>(
    'history <job>',
    'Lists the last attempts of a job, newest last.',
    'JOB [options]',
    async (job, flags) => (await import('./replicate.js')).historyCommand(job, flags, context),
  )
  history.addOption(
    new Option('--count <n>', `how many (default ${DEFAULT_HISTORY})`).argParser((text: string) =>
      parseCount('--count', text, MAX_HISTORY),
    ),
  )
  options(history, JSON_RESULT)

  const pause = add<PauseFlags>(
    'pause <job>',
    'Nothing begins an attempt of the job until it is resumed; one that runs goes on.',
    'JOB [options]',
    async (job, flags) => (await import('./replicate.js')).pauseCommand(job, flags, context),
  )
  pause.addOption(new Option('--reason <text>', 'why, for those who look at it').argParser(parseReason))
  options(pause, QUIET)
  const resume = add<ReplicateFlags>(
    'resume <job>',
    'Lets a paused job run again.',
    'JOB [options]',
    async (job, flags) => (await import('./replicate.js')).resumeCommand(job, flags, context),
  )
  options(resume, QUIET)

  const promote = add<PromoteFlags>(
    'promote <job>',
    'Makes the replica usable: leads a half attempt back, takes the read-only mark off, and says how to start the guest. ' +
      'On the host of the replica it needs no configuration.',
    'JOB|ID [options]',
    async (job, flags) => (await import('./replicate-use.js')).promoteCommand(job, flags, context),
  )
  options(promote, [
    ['--force-source-alive', 'also where the source still answers'],
    ['--take-back', 'make it a replica again, where nothing was written to it since'],
    ['--discard', 'with --take-back: also where something was, which is given up'],
    ...YES,
    ...JSON_RESULT,
  ])

  const reverse = add<ReverseFlags>(
    'reverse <job>',
    'Turns the job round, when its replica was promoted: the next attempt sends from there to where the source was.',
    'JOB [options]',
    async (job, flags) => (await import('./replicate-use.js')).reverseCommand(job, flags, context),
  )
  options(reverse, [
    ['--force-not-promoted', 'also where the replica was not promoted'],
    ...YES,
    ...JSON_RESULT,
  ])

  const restore = add<RestoreFlags>(
    'restore <job>',
    'Writes a generation out beside the replica, on its host; or leads the replica itself back to it.',
    'JOB|ID --generation N --to PATH | --in-place [options]',
    async (job, flags) => (await import('./replicate-use.js')).restoreCommand(job, flags, context),
  )
  restore.addOption(
    new Option('--generation <n>', 'which (default: the newest)').argParser((text: string) =>
      parseCount('--generation', text, Number.MAX_SAFE_INTEGER),
    ),
  )
  restore.addOption(
    new Option('--to <path>', 'a file that is not there yet, a device, or for several disks a directory')
      .argParser(plainText('--to'))
      .conflicts('inPlace'),
  )
  options(restore, [
    ['--in-place', 'the replica itself; newer generations are gone then'],
    ...YES,
    ...JSON_RESULT,
  ])

  const drill = add<DrillFlags>(
    'drill <job>',
    'Reads the replica again and compares it with what the source was; with --boot a throw-away guest is started on it.',
    'JOB|ID [options]',
    async (job, flags) => (await import('./replicate-use.js')).drillCommand(job, flags, context),
  )
  options(drill, [['--boot', 'start a guest on a copy-on-write overlay, as `boot` of the job says']])
  drill.addOption(fromDaemon())
  options(drill, [...QUIET, ...JSON_RESULT])

  for (const command of [promote, restore, drill]) addNativeFlag(command)

  const check = program
    .command('check')
    .description(
      'One line for monitors, and their exit statuses: 0 fine, 1 warning, 2 critical, 3 unknown (also for a usage error).',
    )
    .argument('[jobs...]')
    .usage('--max-lag TIME [--warn-lag TIME] [JOB...] [options]')
    .action(async (jobs: string[], flags: CheckFlags) => {
      done(await (await import('./check.js')).checkCommand(jobs, flags, context))
    })
  for (const name of ['--max-lag', '--warn-lag'] as const) {
    const text =
      name === '--max-lag' ? 'critical above it (default: as configured)' : 'a warning above it (the same)'
    check.addOption(
      new Option(`${name} <time>`, text).argParser((value: string) => parseDuration(name, value)),
    )
  }

  const all = [...replicate.commands, check]
  for (const command of all) {
    command.addOption(
      new Option('--config <file>', 'may be repeated (default /etc/blocksync)').argParser(parseConfig),
    )
    addStateFlag(command)
    command.addHelpOption(new Option('-h, --help', 'this text').helpGroup('Other:'))
    command.configureHelp(helpForm)
  }
  replicate.configureHelp({ ...helpForm, commandUsage: () => REPLICATE_USAGE, visibleCommands: () => [] })
  replicate.addHelpOption(new Option('-h, --help', 'this text').helpGroup('Other:'))
  const own = replicate.helpInformation.bind(replicate)
  replicate.helpInformation = () => {
    const [usage = '', ...rest] = own().trimEnd().split('\n\n')
    return [usage, REPLICATE_DESCRIPTION, ...rest, REPLICATE_EXAMPLES, ''].join('\n\n')
  }
  replicate.argument('[command]').action((word?: string) => {
    throw contradiction(
      word ?? 'replicate',
      word === undefined ? 'needs a command' : 'is no command of replicate',
      'Try blocksync replicate --help.',
    )
  })
}

function fromDaemon(): Option {
  return new Option('--from-daemon', 'ends when its stdin ends').hideHelp()
}

function options(command: Command, names: Names): void {
  for (const [flags, text] of names) command.option(flags, text)
}

function parseConfig(text: string, before: string[] | undefined): string[] {
  const files = [...(before ?? []), plainText('--config')(text)]
  if (files.length > MAX_CONFIG_FILES)
    throw contradiction('--config', `was given more than ${MAX_CONFIG_FILES} times`, 'Give it less often.')
  return files
}

function parseCount(option: string, text: string, most: number): number {
  const count = /^\d{1,16}$/.test(text) ? Number(text) : 0
  if (count >= 1 && count <= most) return count
  throw contradiction(option, `is a number from 1 on, not '${text}'`, `Write for example ${option} 5.`)
}

function parseReason(text: string): string {
  const reason = plainText('--reason')(text)
  if (reason.length <= MAX_REASON) return reason
  throw contradiction('--reason', `has more than ${MAX_REASON} characters`, 'Make it shorter.')
}
