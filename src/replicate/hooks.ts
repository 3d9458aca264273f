// The hooks of a job: programs of the administrator, run on the controller around an attempt with its facts in their environment.
// One that is not configured is no error; one that cannot be run, fails or does not end in time is (replicate/hook).

import { spawn } from 'node:child_process'

import type { HookName, Job } from '../config/config.js'
import { errnoOf, SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import { printable } from '../printable.js'
import type { AttemptFacts } from './context.js'

/** The last words of a program say why it failed; this much of them is kept. */
const MAX_TAIL_BYTES = 4096
/** A daemon that a hook leaves behind may hold its stderr open; behind the hook's end nothing is waited for longer than this. */
const STDERR_GRACE_MS = 200

/** As they are named in a configuration. */
const TYPED: Readonly<Record<HookName, string>> = {
  pre: 'pre',
  post: 'post',
  onError: 'on_error',
  finally: 'finally',
}

/**
 * Runs the hook of that name, where the job has one, and resolves when it ended with status 0. `signal` ends only `pre`, which
 * is before anything was done: the others tell what became of the attempt, and their deadlines bound them.
 * Rejects with replicate/hook, or with the reason of `signal` (a SyncError).
 */
export async function runHook(
  job: Job,
  name: HookName,
  facts: AttemptFacts,
  signal: AbortSignal,
): Promise<void> {
  const hook = job.hooks[name]
  if (hook === null) return
  if (name === 'pre') signal.throwIfAborted()
  const failure = await runHookProgram(
    hook.command,
    hook.timeoutMs,
    hookEnvironment(job, name, facts),
    name === 'pre' ? signal : null,
  )
  if (name === 'pre') signal.throwIfAborted()
  if (failure === null) return
  const [program] = hook.command
  const notDone = name === 'pre' ? '; the attempt was not begun' : ''
  throw new SyncError(
    'replicate/hook',
    `the ${TYPED[name]} hook of ${job.name} (${printable(program)}) ${failure}${notDone}`,
    {
      operand: job.name,
      hint: `Its environment has the facts of the attempt (BLOCKSYNC_*). Try it by hand: ${printable(hook.command.join(' '))}`,
    },
  )
}

/** What a hook is told: always all of these names, and an empty text where there is nothing to say. */
export function hookEnvironment(job: Job, name: HookName, facts: AttemptFacts): Record<string, string> {
  const { error } = facts
  return {
    BLOCKSYNC_HOOK: TYPED[name],
    BLOCKSYNC_JOB: job.name,
    BLOCKSYNC_ATTEMPT: facts.attempt,
    BLOCKSYNC_PHASE: facts.phase ?? '',
    BLOCKSYNC_GENERATION: facts.generation === null ? '' : String(facts.generation),
    BLOCKSYNC_TAKEN_AT: facts.takenAt ?? '',
    BLOCKSYNC_SENT_BYTES: String(facts.sentBytes),
    BLOCKSYNC_ERROR_CODE: error?.code ?? '',
    // one line, as programs want it
    BLOCKSYNC_ERROR_MESSAGE: printable(error?.message ?? ''),
    BLOCKSYNC_SOURCES: job.disks.map(({ source }) => source.typed).join('\n'),
    BLOCKSYNC_DESTINATIONS: job.disks.map(({ destination }) => destination.typed).join('\n'),
  }
}

/**
 * Null where it ended with status 0, else a phrase that says how it did not. It leads a process group of its own: at the
 * deadline, or when `signal` is aborted, all that it started and did not take elsewhere is killed with it.
 */
async function runHookProgram(
  [program, ...words]: Argv,
  timeoutMs: number,
  facts: Readonly<Record<string, string>>,
  signal: AbortSignal | null,
): Promise<string | null> {
  return await new Promise((resolve) => {
    const child = spawn(program, words, {
      cwd: '/',
      detached: true,
      env: { ...process.env, ...facts },
      // what it prints is no output of ours, which programs may read
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let tail: Buffer = Buffer.alloc(0)
    let stopped: string | null = null
    let grace: NodeJS.Timeout | null = null
    const stop = (why: string): void => {
      stopped ??= why
      killGroup(child.pid)
    }
    const onAbort = (): void => stop('was stopped')
    const deadline = setTimeout(
      () => stop(`did not end within ${timeoutMs / 1000} s and was killed`),
      timeoutMs,
    )
    const settle = (failure: string | null): void => {
      clearTimeout(deadline)
      if (grace !== null) clearTimeout(grace)
      signal?.removeEventListener('abort', onAbort)
      resolve(failure)
    }
    child.stderr.on('data', (chunk: Buffer) => {
      tail = Buffer.concat([tail, chunk]).subarray(-MAX_TAIL_BYTES)
    })
    child.once('error', (error) =>
      settle(errnoOf(error) === 'ENOENT' ? 'was not found' : `could not be started: ${error.message}`),
    )
    child.once('exit', () => {
      grace = setTimeout(() => child.stderr.destroy(), STDERR_GRACE_MS)
    })
    child.once('close', (status, killedBy) => {
      const last = tail.toString().trim().split('\n').at(-1) ?? ''
      const said = last === '' ? '' : `: ${printable(last)}`
      if (stopped !== null) settle(`${stopped}${said}`)
      else if (status === null) settle(`was killed by ${killedBy ?? 'a signal'}${said}`)
      else settle(status === 0 ? null : `ended with status ${status}${said}`)
    })
    signal?.addEventListener('abort', onAbort, { once: true })
    if (signal?.aborted === true) onAbort()
  })
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch (error) {
    // it has ended by itself
    if (errnoOf(error) !== 'ESRCH') throw error
  }
}
