// Runs an external program to its end: an argv array goes in, its output and exit status come out. Refuses to wait
// longer than the deadline and to hold more output than the limit; there is no shell in between.

import { spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { delimiter, join } from 'node:path'

import { errnoOf, SyncError, type ErrorCode } from './errors.js'

export type Argv = readonly [program: string, ...words: string[]]

export type RunRequest = Readonly<{
  argv: Argv
  /** The program is killed when it runs longer than this. */
  timeoutMs: number
  /** What a failure is called, and which operand it is about. */
  errorCode: ErrorCode
  operand: string
  /** Aborting it kills the program; the rejection then carries `signal.reason` as its cause. */
  signal?: AbortSignal
  /** More than this on stdout is a failure. */
  maxOutputBytes?: number
}>

export type RunResult = Readonly<{ exitStatus: number; stdout: string; stderrTail: string }>

/** Enough for what the programs we ask print; more means that it is not the program we took it for. */
const DEFAULT_MAX_OUTPUT_BYTES = 4 << 20
/** The last words of a program say why it failed; this much of them is kept. */
const MAX_STDERR_TAIL_BYTES = 4096

/**
 * Runs `argv` to its end, without a shell, with an empty stdin. Resolves with any exit status, also a failed one.
 * Rejects with a SyncError of `errorCode` when the program cannot be started, dies of a signal, prints too much, is
 * aborted or does not end within `timeoutMs`.
 */
export async function run(request: RunRequest): Promise<RunResult> {
  const [program, ...words] = request.argv
  const maxOutputBytes = request.maxOutputBytes ?? DEFAULT_MAX_OUTPUT_BYTES
  const failed = (what: string, cause?: unknown): SyncError =>
    new SyncError(request.errorCode, `${program} ${what}`, {
      operand: request.operand,
      hint: `Try the same by hand: ${request.argv.join(' ')}`,
      cause,
    })

  return await new Promise<RunResult>((resolve, reject) => {
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] })
    const output: Buffer[] = []
    let outputBytes = 0
    let stderrTail: Buffer = Buffer.alloc(0)
    let stopped: SyncError | null = null
    const stop = (error: SyncError): void => {
      stopped ??= error
      child.kill('SIGKILL')
      // Children of the program may hold its pipes open; nothing more is wanted from them.
      child.stdout.destroy()
      child.stderr.destroy()
    }
    const onAbort = (): void => stop(failed('was stopped', request.signal?.reason))
    const deadline = setTimeout(
      () => stop(failed(`did not end within ${request.timeoutMs / 1000} s and was stopped`)),
      request.timeoutMs,
    )
    child.stdout.on('data', (chunk: Buffer) => {
      outputBytes += chunk.length
      if (outputBytes > maxOutputBytes)
        stop(failed(`printed more than ${maxOutputBytes} bytes and was stopped`))
      else output.push(chunk)
    })
    child.stderr.on('data', (chunk: Buffer) => {
      stderrTail = Buffer.concat([stderrTail, chunk]).subarray(-MAX_STDERR_TAIL_BYTES)
    })
    child.once('error', (error) => {
      clearTimeout(deadline)
      request.signal?.removeEventListener('abort', onAbort)
      reject(
        failed(
          errnoOf(error) === 'ENOENT' ? 'was not found' : `could not be started: ${error.message}`,
          error,
        ),
      )
    })
    child.once('close', (exitStatus, signal) => {
      clearTimeout(deadline)
      request.signal?.removeEventListener('abort', onAbort)
      if (stopped !== null) reject(stopped)
      else if (exitStatus === null) reject(failed(`was killed by ${signal ?? 'a signal'}`))
      else
        resolve({
          exitStatus,
          stdout: Buffer.concat(output).toString(),
          stderrTail: stderrTail.toString().trim(),
        })
    })
    request.signal?.addEventListener('abort', onAbort, { once: true })
    if (request.signal?.aborted === true) onAbort()
  })
}

/** The path of an executable file named `program` on PATH (or itself, if it contains a slash); null where there is none. */
export async function findProgram(program: string): Promise<string | null> {
  const candidates = program.includes('/')
    ? [program]
    : (process.env['PATH'] ?? '')
        .split(delimiter)
        .map((directory) => join(directory === '' ? '.' : directory, program))
  for (const candidate of candidates) {
    if (await isExecutableFile(candidate)) return candidate
  }
  return null
}

async function isExecutableFile(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK)
    return (await stat(path)).isFile()
  } catch {
    // Missing and forbidden are one answer here: it cannot be run.
    return false
  }
}
