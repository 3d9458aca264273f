// What the two far ends (serve, agent) do with their process alike: its streams, its signals, and a terminal, which they
// refuse. Everything that is said goes to stderr; stdin and stdout are the wire.

import type { Readable, Writable } from 'node:stream'

import { EXIT, SyncError } from '../errors.js'
import { openWireInput } from '../transport/streams.js'
import type { TextStream } from './output.js'

const STDIN_FD = 0

type FarSignal = 'SIGINT' | 'SIGHUP' | 'SIGTERM'

/** The part of `process` that a far end uses. */
export type FarProcess = {
  /** The wire's incoming half; opened once, and closed by the far end. */
  openInput(): Readable & { isTTY?: boolean }
  readonly stdout: Writable
  readonly stderr: TextStream
  on(signal: FarSignal, handler: () => void): unknown
  removeListener(signal: FarSignal, handler: () => void): unknown
}

/** `process.stdin` is not touched where its descriptor is read in another way: it would read there too. */
export function ownFarProcess(): FarProcess {
  return {
    openInput: () => openWireInput(STDIN_FD, () => process.stdin),
    stdout: process.stdout,
    stderr: process.stderr,
    on: (signal, handler) => process.on(signal, handler),
    removeListener: (signal, handler) => process.removeListener(signal, handler),
  }
}

/** A function that says a line on stderr; whoever reads that may be gone, which is no reason to stop. */
export function sayOn(stderr: TextStream): (text: string) => void {
  stderr.on('error', () => undefined)
  return (text) => {
    stderr.write(`${text}\n`)
  }
}

/** A far end that runs: SIGINT and SIGHUP are ignored, SIGTERM aborts `signal`, a second one ends the process at once. */
export class FarEnd implements Disposable {
  readonly #process: FarProcess
  readonly #abort = new AbortController()
  readonly #terminate: () => void
  #input: ReturnType<FarProcess['openInput']> | null = null

  /** `reason` is what SIGTERM aborts with. */
  constructor(process: FarProcess, exit: (status: number) => void, reason: () => unknown) {
    this.#process = process
    this.#terminate = () => {
      if (this.#abort.signal.aborted) exit(EXIT.sigterm)
      else this.#abort.abort(reason())
    }
  }

  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** The input, from when on signals are taken. Throws `usage` where it is a terminal. */
  open({ command, notDone, hint }: Readonly<{ command: string; notDone: string; hint: string }>): Readable {
    this.#input = this.#process.openInput()
    if (this.#input.isTTY === true)
      throw new SyncError('usage', `${command} talks to another blocksync, not to a terminal; ${notDone}`, {
        operand: command,
        hint,
      })
    this.#process.on('SIGINT', ignore)
    this.#process.on('SIGHUP', ignore)
    this.#process.on('SIGTERM', this.#terminate)
    return this.#input
  }

  [Symbol.dispose](): void {
    // an input that nobody reads to its end would keep the process alive
    this.#input?.destroy()
    this.#process.removeListener('SIGINT', ignore)
    this.#process.removeListener('SIGHUP', ignore)
    this.#process.removeListener('SIGTERM', this.#terminate)
  }
}

function ignore(): void {
  // the near side's terminal sends it to both; the near side ends things in order
}
