// A Connection over a child process: bytes go through its stdin and stdout, text comes from its stderr.
// Used by local.ts and openssh.ts. Refuses nothing; when it is disposed no process of ours is left.

import { spawn, type ChildProcessByStdio } from 'node:child_process'
import { closeSync } from 'node:fs'
import type { Readable, Writable } from 'node:stream'

import { errnoOf, SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import type { NativeCore } from '../native.js'
import { explainExit, type ExitContext } from './explain.js'
import { isAboutForward } from './forward.js'
import { StderrTail } from './stderr-tail.js'
import { openWireInput } from './streams.js'
import type { Connection, FarExit, Forward, StderrLine } from './transport.js'

/** Its stdout is null where it is a pipe of ours. */
type PipedChild = ChildProcessByStdio<Writable, Readable | null, Readable>

/** `input` is what it prints on stdout. */
type StartedChild = Readonly<{ child: PipedChild; input: Readable }>

export type ChildRequest = Readonly<{
  argv: Argv
  context: ExitContext & { kind: 'local' | 'openssh' }
  onStderrLine: StderrLine
  /** What it forwards to its far end, or null. */
  forward: Forward | null
  /** Where there is one, the child's stdout is a pipe of its making, read into memory that is used again. */
  native: NativeCore | null
  /** What to do when the program itself is missing. */
  missingProgramHint: string
}>

/** A process that ignores SIGTERM for this long gets SIGKILL. serve and ssh end within milliseconds. */
const KILL_GRACE_MS = 2000
/** Something the child left behind (an ssh control master) may hold stderr open; its text is not waited for longer. */
const STDERR_GRACE_MS = 500

/** Starts the program; resolves when it runs, rejects with connect/failed when it cannot be started. */
export async function connectChild(request: ChildRequest): Promise<Connection> {
  let started: StartedChild
  try {
    started = start(request)
  } catch (error) {
    throw notStarted(request, error)
  }
  const { child, input } = started
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', (error) => {
      input.destroy()
      reject(notStarted(request, error))
    })
  })
  return new ChildConnection(started, request)
}

/**
 * Node.js makes stdio of socket pairs and takes new memory for each read. Sending through those is as cheap as through a
 * pipe; receiving is not (docs/decisions/0013-transport-speed.md).
 */
function start({ argv: [program, ...words], native }: ChildRequest): StartedChild {
  if (native === null) {
    const child = spawn(program, words, { stdio: ['pipe', 'pipe', 'pipe'] })
    return { child, input: child.stdout }
  }
  const { readFd, writeFd } = native.openPipe()
  const input = openWireInput(readFd, notAPipe)
  try {
    // The types of Node.js know no descriptor in a list of three.
    const child = spawn(program, words, { stdio: ['pipe', writeFd, 'pipe'] }) as PipedChild
    return { child, input }
  } catch (error) {
    input.destroy()
    throw error
  } finally {
    // The child has its own; while ours is open the end of its output would not show.
    closeSync(writeFd)
  }
}

class ChildConnection implements Connection {
  readonly kind: 'local' | 'openssh'
  readonly peerName: string
  readonly cipher = null
  readonly input: Readable
  readonly output: Writable
  readonly forward: Forward | null
  readonly exit: Promise<FarExit>
  readonly #child: PipedChild
  readonly #context: ExitContext
  #killTimer: NodeJS.Timeout | null = null

  constructor({ child, input }: StartedChild, request: ChildRequest) {
    this.#child = child
    this.#context = request.context
    this.kind = request.context.kind
    this.peerName = request.context.peerName
    this.input = input
    this.output = child.stdin
    this.forward = request.forward
    const stderrTail = new StderrTail(request.onStderrLine)
    child.stderr.on('data', (chunk: Buffer) => stderrTail.push(chunk))
    // EPIPE and the like: the reason is in `exit`, which settles in every case.
    for (const stream of [child, child.stdin, input, child.stderr]) stream.on('error', () => {})
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
    this.input.destroy()
  }

  explain(exit: FarExit, phase: 'before-banner' | 'banner-seen'): SyncError {
    return explainExit(this.#context, exit, phase)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill()
    await this.exit
  }

  /** What was said, but for what is no reason of anything. */
  #told(text: string): string {
    if (this.forward === null) return text
    const lines = text.split('\n')
    return lines.filter((line) => !isAboutForward(line)).join('\n')
  }

  #watch(stderrTail: StderrTail): Promise<FarExit> {
    const child = this.#child
    return new Promise((resolve) => {
      let exitStatus: number | null = null
      let signal: NodeJS.Signals | null = null
      let stderrTimer: NodeJS.Timeout | null = null
      let processEnded = false
      let outputRead = false
      let childClosed = false
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
      const settle = (): void => {
        if (!childClosed || !outputRead) return
        if (stderrTimer !== null) clearTimeout(stderrTimer)
        stderrTail.end()
        resolve({ exitStatus, signal, stderrTail: this.#told(stderrTail.text()) })
      }
      this.input.once('close', () => {
        outputRead = true
        dropStderrSoon()
        settle()
      })
      // Comes when the process has ended and those of its pipes that Node.js made are done with.
      child.once('close', () => {
        childClosed = true
        settle()
      })
    })
  }
}

function notStarted({ context, argv, missingProgramHint }: ChildRequest, error: unknown): SyncError {
  const reason = error instanceof Error ? error.message : String(error)
  const what = errnoOf(error) === 'ENOENT' ? 'was not found' : `could not be started: ${reason}`
  return new SyncError('connect/failed', `${context.peerName}: ${argv[0]} ${what}; nothing was written`, {
    operand: context.peerName,
    hint: missingProgramHint,
    cause: error,
  })
}

function notAPipe(): never {
  throw new SyncError('internal', 'the native core opened something else than a pipe')
}
