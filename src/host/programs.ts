// Programs of this host, run to their end: words in, exit status and output out. They inherit the descriptors that they are
// given, and with those the locks on them. Refuses to wait longer than the deadline, and more output than the limit.

import { spawn, type ChildProcess } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'

import { errnoOf, SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { MAX_INPUT_BYTES, MAX_OUTPUT_BYTES, type ProgramRequest, type ProgramResult } from './host.js'

/** The last words of a program say why it failed; this much of them is kept. */
const MAX_STDERR_TAIL_BYTES = 4096
/** What a program left running may hold its pipes open; behind its end nothing is waited for longer than this. */
const OUTPUT_GRACE_MS = 500
/** What a shell answers for a program that is not there, and for one that may not be run (POSIX.1-2024, 2.9.1.6). */
const NOT_FOUND = 127
const NOT_EXECUTABLE = 126
/** The first descriptor behind the three that every program has. */
const FIRST_INHERITED_FD = 3
/** A shell knows descriptors of one digit only (3 to 9 here): more journals and locks no session may have. */
export const MAX_JOURNALS = 4
export const MAX_LOCKS = 3
/** Where programs of administrators are; sshd gives a login a PATH that may lack them. */
const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin'] as const

/** Host.run. `inherited` are descriptors of ours that the program gets too. */
export async function runProgram(
  request: ProgramRequest,
  inherited: readonly number[],
): Promise<ProgramResult> {
  const [program] = request.argv
  const input = request.input ?? ''
  if (Buffer.byteLength(input) > MAX_INPUT_BYTES)
    throw failed(request, `was not started: its input has more than ${MAX_INPUT_BYTES} bytes`)
  let child: ChildProcess
  try {
    child = start(request, inherited)
  } catch (error) {
    // a NUL in a word, or an argument list that is too long
    throw failed(
      request,
      `could not be started: ${error instanceof Error ? error.message : String(error)}`,
      error,
    )
  }
  const { stdin, stdout, stderr } = child
  if (stdin === null || stdout === null || stderr === null) throw new TypeError('a program has three pipes')
  feed(stdin, input)
  return await ended(child, stdout, stderr, request, program)
}

/**
 * In a session of its own: an interruption from a terminal is for us, who end things in order, and what is stopped is
 * stopped with all that it started.
 */
function start(request: ProgramRequest, inherited: readonly number[]): ChildProcess {
  const [program, ...words] = wrapped(request, inherited.length)
  return spawn(program, words, {
    cwd: '/',
    detached: true,
    env: environmentFor(request.environment ?? {}),
    stdio: ['pipe', 'pipe', 'pipe', ...inherited],
  })
}

/** With `leavesBehind` a shell keeps the descriptors while the program runs, which starts without them. */
function wrapped({ argv, leavesBehind }: ProgramRequest, count: number): readonly [string, ...string[]] {
  if (leavesBehind !== true || count === 0) return argv
  const closed = Array.from({ length: count }, (_, index) => `${FIRST_INHERITED_FD + index}>&-`).join(' ')
  // the words are parameters, never text of the script; without the last command a shell would become the program
  return ['/bin/sh', '-c', `"$@" ${closed}; exit $?`, 'sh', ...argv]
}

function environmentFor(more: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const path = (process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin').split(':')
  const missing = SBIN.filter((directory) => !path.includes(directory))
  // what programs say is read by us, not by the person who logged in
  const { LANGUAGE: _, ...own } = process.env
  return { ...own, ...more, LC_ALL: 'C.UTF-8', PATH: [...path, ...missing].join(':') }
}

function feed(stdin: Writable, input: string): void {
  // a program that does not read its input to the end has its reasons
  stdin.on('error', () => undefined)
  stdin.end(input)
}

async function ended(
  child: ChildProcess,
  stdout: Readable,
  stderr: Readable,
  request: ProgramRequest,
  program: string,
): Promise<ProgramResult> {
  const maxOutputBytes = Math.min(request.maxOutputBytes ?? MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES)
  return await new Promise((resolve, reject) => {
    const output: Buffer[] = []
    let outputBytes = 0
    let stderrTail: Buffer = Buffer.alloc(0)
    let stopped: SyncError | null = null
    let exit: Readonly<{ status: number | null; signal: string | null }> | null = null
    let graceTimer: NodeJS.Timeout | null = null
    const stop = (what: string): void => {
      stopped ??= failed(request, what)
      if (exit === null) killAll(child)
      letGo()
    }
    const letGo = (): void => {
      stdout.destroy()
      stderr.destroy()
    }
    const deadline = setTimeout(
      () => stop(`did not end within ${request.timeoutMs / 1000} s and was stopped`),
      request.timeoutMs,
    )
    const waitForTheRest = (): void => {
      if (exit === null) return
      if (graceTimer !== null) clearTimeout(graceTimer)
      graceTimer = setTimeout(letGo, OUTPUT_GRACE_MS)
    }
    const settle = (act: () => void): void => {
      clearTimeout(deadline)
      if (graceTimer !== null) clearTimeout(graceTimer)
      act()
    }
    stdout.on('data', (chunk: Buffer) => {
      outputBytes += chunk.length
      if (outputBytes > maxOutputBytes) stop(`printed more than ${maxOutputBytes} bytes and was stopped`)
      else output.push(chunk)
      waitForTheRest()
    })
    stderr.on('data', (chunk: Buffer) => {
      stderrTail = Buffer.concat([stderrTail, chunk]).subarray(-MAX_STDERR_TAIL_BYTES)
      waitForTheRest()
    })
    child.once('error', (error) => {
      const errno = errnoOf(error)
      const exitStatus = errno === 'ENOENT' ? NOT_FOUND : errno === 'EACCES' ? NOT_EXECUTABLE : null
      settle(() => {
        if (exitStatus === null) reject(failed(request, `could not be started: ${error.message}`, error))
        else resolve({ exitStatus, stdout: '', stderrTail: `${program}: ${notStarted(exitStatus)}` })
      })
    })
    child.once('exit', (status, signal) => {
      exit = { status, signal }
      waitForTheRest()
    })
    // when it has ended, and its output has been read or let go of
    child.once('close', (status, signal) => {
      settle(() => {
        if (stopped !== null) reject(stopped)
        else if (status === null) reject(failed(request, `was killed by ${signal ?? 'a signal'}`))
        else
          resolve({
            exitStatus: status,
            stdout: Buffer.concat(output).toString(),
            stderrTail: harmless(stderrTail),
          })
      })
    })
  })
}

function notStarted(exitStatus: number): string {
  return exitStatus === NOT_FOUND ? 'not found' : 'may not be run'
}

/** The program and, since it leads a session of its own, what it started and did not take elsewhere. */
function killAll(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    // it has ended by itself
    if (errnoOf(error) !== 'ESRCH') throw error
  }
}

function harmless(text: Buffer): string {
  return text
    .toString()
    .split('\n')
    .map((line) => printable(line))
    .join('\n')
    .trim()
}

function failed(request: ProgramRequest, what: string, cause?: unknown): SyncError {
  const [program] = request.argv
  return new SyncError('host/program', printable(`${program} ${what}`), {
    operand: printable(program),
    hint: printable(`Try the same by hand on that host: ${request.argv.join(' ')}`),
    cause,
  })
}
