// How the lab runs programs: argument lists with a deadline, the answer kept whole. Refuses shell strings: there is no
// way to pass one.

import { execFile } from 'node:child_process'

import { findProgram } from '../support/needs.js'

/** How a program ended; `status` is null when it was ended by a signal (or its deadline). */
export type Answer = Readonly<{
  status: number | null
  signal: string | null
  stdout: string
  stderr: string
}>

export type AskOptions = Readonly<{ timeoutMs?: number; input?: string; cwd?: string }>

/** virsh and ip answer in a fraction of this even on a busy machine. */
const DEFAULT_TIMEOUT_MS = 30_000
const MAX_OUTPUT_BYTES = 16 << 20

/** Runs a program to its end, with any exit status. Rejects only when it could not be started. */
export function ask(argv: readonly string[], options: AskOptions = {}): Promise<Answer> {
  const [name = '', ...words] = argv
  const program = name.includes('/') ? name : findProgram(name)
  if (program === null) return Promise.reject(new Error(`no such program: ${name}`))
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      words,
      {
        timeout: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
        killSignal: 'SIGKILL',
        maxBuffer: MAX_OUTPUT_BYTES,
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      },
      (error, stdout, stderr) => {
        if (error === null) return resolve({ status: 0, signal: null, stdout, stderr })
        // a word, not a number: it could not be started, or it printed too much
        if (typeof error.code === 'string') return reject(new Error(`${name}: ${error.message}`))
        resolve({ status: error.code ?? null, signal: error.signal ?? null, stdout, stderr })
      },
    )
    child.stdin?.on('error', () => undefined) // it may end without reading all of its input
    child.stdin?.end(options.input ?? '')
  })
}

/** The same for a program that has to end with 0; resolves with its stdout, rejects with what it said. */
export async function must(argv: readonly string[], options: AskOptions = {}): Promise<string> {
  const answer = await ask(argv, options)
  if (answer.status === 0) return answer.stdout
  throw new Error(
    `${argv.join(' ')}: ${answer.signal ?? `status ${answer.status}`}: ${answer.stderr}${answer.stdout}`,
  )
}
