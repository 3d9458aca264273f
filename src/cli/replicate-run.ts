// `blocksync replicate run` and `daemon`: one attempt in this process with all it tells, and the daemon. Refuses a paused job, and
// without --now one that is outside of its windows.

import { EXIT, isErrorCode, SyncError, toSyncError } from '../errors.js'
import type { AttemptEvent, Phase } from '../replicate/events.js'
import type { AttemptRecord } from '../replicate/job-state.js'
import { BASE_VARIABLE } from '../replicate/given-base.js'
import type { CommandContext } from './context.js'
import { EventProgress } from './event-progress.js'
import { forcedGuards } from './force-flags.js'
import type { Output } from './output.js'
import { printingOf, type Printing } from './printing.js'
import { childSignal, configuredSetting, jobOf, type AttemptRequest } from './replicate.js'
import { retryText } from './report.js'
import type { DaemonFlags, RunFlags } from './replicate-flags.js'
import { attemptLine } from './replicate-text.js'
import { errorOf } from './result.js'

/** Resolves with the exit status; failures are printed, with --json as the result too. */
export async function runCommand(name: string, flags: RunFlags, context: CommandContext): Promise<number> {
  const { output } = context
  try {
    const record = await attempt(name, flags, context)
    return printResult(name, record, flags, output)
  } catch (thrown) {
    // nothing was begun
    const error = toSyncError(thrown)
    output.error(error)
    if (flags.json === true)
      output.json({ event: 'result', ok: false, job: name, outcome: 'refused', error: errorOf(error) })
    return error.exitStatus
  }
}

async function attempt(name: string, flags: RunFlags, context: CommandContext): Promise<AttemptRecord> {
  const { output, environment, nowMs } = context
  const engine = await context.loadReplicate()
  const { config, stateDir } = await configuredSetting(flags, engine)
  const job = jobOf(config, name)
  // a daemon knows what is due, and by its own clock
  const isAsked = flags.now === true || flags.fromDaemon === true
  const closed = isAsked ? null : engine.whyNotNow(job, Date.now())
  if (closed !== null)
    throw new SyncError('replicate/refused', `${name} is not run now: ${closed}; nothing was done`, {
      operand: name,
      hint: `Type blocksync replicate run ${name} --now to run it all the same.`,
    })
  const printing = printingOf(flags, output.canRedraw(environment) ? 'possible' : 'impossible')
  const view = new AttemptView(printing, output, nowMs)
  using interruption = childSignal(flags, context)
  try {
    return await engine.run(job, {
      stateDir,
      trigger: flags.now === true ? 'now' : 'regular',
      force: forcedGuards(flags.yes === true ? { ...flags, forceContent: true } : flags),
      bwlimit: flags.bwlimit === undefined ? undefined : flags.bwlimit.schedule,
      signal: interruption.signal,
      onEvent: (event) => view.show(event),
      base: flags.fromDaemon === true ? environment[BASE_VARIABLE] : undefined,
      notify: { by: flags.fromDaemon === true ? 'daemon' : 'this', targets: config.notify },
      syncHooks: syncHooksOf(flags, interruption.signal, context),
    })
  } finally {
    view.end()
  }
}

/** What the engine says besides its progress, and whom a first run may ask. */
function syncHooksOf(
  { json, quiet, verbose, fromDaemon }: RunFlags,
  signal: AbortSignal,
  { output, ask }: CommandContext,
): AttemptRequest['syncHooks'] {
  const note = (text: string): void => {
    if (quiet !== true) output.note(`blocksync: ${text}`)
  }
  return {
    onDetail: (text) => {
      if (verbose === true) note(text)
    },
    onNote: note,
    onWaiting: note,
    onRetry: (retry) => note(retryText(retry)),
    onStderrLine: (line) => {
      if (quiet !== true) output.note(`remote: ${line}`)
    },
    ...(ask === null || json === true || fromDaemon === true
      ? {}
      : {
          confirm: (question) => {
            output.clearStatus()
            return ask(question, signal)
          },
        }),
  }
}

function printResult(name: string, record: AttemptRecord, flags: RunFlags, output: Output): number {
  const { outcome, error } = record
  const failure = error === null ? null : failureOf(error)
  if (failure !== null) output.error(failure)
  const isDone = outcome === 'done' && failure === null
  if (flags.json === true) output.json({ event: 'result', ok: isDone, job: name, ...record })
  else if (isDone && flags.quiet !== true) output.line(attemptLine(name, record))
  if (failure !== null) return failure.exitStatus
  return isDone ? EXIT.ok : EXIT.internal
}

/** The error of a record, which went through a file or a process, as an error again. */
function failureOf({ code, message, operand, hint }: NonNullable<AttemptRecord['error']>): SyncError {
  return new SyncError(isErrorCode(code) ? code : 'internal', message, {
    ...(operand === null ? {} : { operand }),
    ...(hint === null ? {} : { hint }),
  })
}

const PHASE_TEXT: Readonly<Record<Phase, string>> = {
  connect: 'connecting',
  recover: 'looking at the replica',
  snapshot: 'cutting the source',
  copy: 'copying',
  commit: 'completing the generation',
  keep: 'keeping what is to be kept',
  clean: 'tidying up',
}

/** Draws what an attempt tells. The result is not its business. */
class AttemptView {
  readonly #printing: Printing
  readonly #output: Output
  readonly #progress: EventProgress

  constructor(printing: Printing, output: Output, nowMs: () => number) {
    this.#printing = printing
    this.#output = output
    this.#progress = new EventProgress(printing.progress, output, nowMs)
  }

  show(event: AttemptEvent): void {
    const { format, verbosity } = this.#printing
    switch (event.event) {
      case 'phase':
        if (format === 'json') this.#output.json(event)
        else if (verbosity === 'verbose')
          this.#output.note(`blocksync: ${event.job}: ${PHASE_TEXT[event.phase]}`)
        return
      case 'warning':
        if (format === 'json') this.#output.json(event)
        if (verbosity !== 'quiet') this.#output.note(`blocksync: warning: ${event.job}: ${event.message}`)
        return
      case 'tracked':
        // for the daemon that asked for it
        if (format === 'json') this.#output.json(event)
        return
      case 'progress':
        this.#progress.show(event.job, event)
        return
      case 'result':
        // printed once, when the attempt has come back
        return
      default:
        event satisfies never
    }
  }

  /** Takes the line off the terminal. */
  end(): void {
    this.#progress.end()
  }
}

/** Rejects with config/*, replicate/busy. */
export async function daemonCommand(flags: DaemonFlags, context: CommandContext): Promise<number> {
  const engine = await context.loadReplicate()
  return await engine.daemon({
    files: flags.config ?? null,
    stateDir: flags.stateDir ?? null,
    log: flags.log,
    environment: context.environment,
  })
}
