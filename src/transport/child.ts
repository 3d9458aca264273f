// A Connection over a child process: bytes go through its stdin and stdout, text comes from its stderr.
// Used by local.ts and openssh.ts. Refuses nothing; when it is disposed no process of ours is left.

import { spawn, type ChildProcessByStdio } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'

import { errnoOf, SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import { explainExit, type ExitContext } from './explain.js'
import { StderrTail } from './stderr-tail.js'
import type { Connection, FarExit, StderrLine } from './transport.js'

type PipedChild = ChildProcessByStdio<Writable, Readable, Readable>

export type ChildRequest = Readonly<{
  argv: Argv
  context: ExitContext & { kind: 'local' | 'openssh' }
  onStderrLine: StderrLine
  /** What to do when the program itself is missing. */
  missingProgramHint: string
}>

/** A process that ignores SIGTERM for this long gets SIGKILL. serve and ssh end within milliseconds. */
const KILL_GRACE_MS = 2000
/** Something the child left behind (an ssh control master) may hold stderr open; its text is not waited for longer. */
const STDERR_GRACE_MS = 500

/** Starts the program; resolves when it runs, rejects with connect/failed when it cannot be started. */
export async function connectChild(request: ChildRequest): Promise<Connection> {
  const [program, ...words] = request.argv
  const child: PipedChild = spawn(program, words, { stdio: ['pipe', 'pipe', 'pipe'] })
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', (error) => {
      const what = errnoOf(error) === 'ENOENT' ? 'was not found' : `could not be started: ${error.message}`
      reject(
        new SyncError(
          'connect/failed',
          `${request.context.peerName}: ${program} ${what}; nothing was written`,
          {
            operand: request.context.peerName,
            hint: request.missingProgramHint,
            cause: error,
          },
        ),
      )
    })
  })
  return new ChildConnection(child, request)
}

class ChildConnection implements Connection {
  readonly kind: 'local' | 'openssh'
  readonly peerName: string
  readonly cipher = null
  readonly input: Readable
  readonly output: Writable
  readonly exit: Promise<FarExit>
  readonly #child: PipedChild
  readonly #context: ExitContext
  #killTimer: NodeJS.Timeout | null = null

  constructor(child: PipedChild, request: ChildRequest) {
    this.#child = child
    this.#context = request.context
    this.kind = request.context.kind
    this.peerName = request.context.peerName
    this.input = child.stdout
    this.output = child.stdin
    const stderrTail = new StderrTail(request.onStderrLine)
    child.stderr.on('data', (chunk: Buffer) => stderrTail.push(chunk))
    // EPIPE and the like: the reason is in `exit`, which settles in every case.
    for (const stream of [child, child.stdin, child.stdout, child.stderr]) stream.on('error', () => {})
    this.exit = this.#watch(stderrTail)
  }

  end(): void {
    this.#child.stdin.end()
  }

  kill(): void {
    if (this.#child.exitCode === null && this.#child.signalCode === null && this.#killTimer === null) {
      this.#child.kill('SIGTERM')
      this.#killTimer = setTimeout(() => this.#child.kill('SIGKILL'), KILL_GRACE_MS)
    }
    this.#child.stdin.destroy()
    this.#child.stdout.destroy()
  }

  explain(exit: FarExit, phase: 'before-banner' | 'banner-seen'): SyncError {
    return explainExit(this.#context, exit, phase)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill()
    await this.exit
  }

  #watch(stderrTail: StderrTail): Promise<FarExit> {
    const child = this.#child
    return new Promise((resolve) => {
      let exitStatus: number | null = null
      let signal: NodeJS.Signals | null = null
      let stderrTimer: NodeJS.Timeout | null = null
      let processEnded = false
      let outputRead = false
      const dropStderrSoon = (): void => {
        if (processEnded && outputRead)
          stderrTimer ??= setTimeout(() => child.stderr.destroy(), STDERR_GRACE_MS)
      }
      child.once('exit', (code, name) => {
        exitStatus = code
        signal = name
        processEnded = true
        if (this.#killTimer !== null) clearTimeout(this.#killTimer)
        // Nobody reads it any more; a writer that waits for it must learn that.
        child.stdin.destroy()
        dropStderrSoon()
      })
      child.stdout.once('close', () => {
        outputRead = true
        dropStderrSoon()
      })
      // 'close' comes when the process has ended and all three pipes are done with.
      child.once('close', () => {
        if (stderrTimer !== null) clearTimeout(stderrTimer)
        stderrTail.end()
        resolve({ exitStatus, signal, stderrTail: stderrTail.text() })
      })
    })
  }
}
