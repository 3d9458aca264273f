// Another host, through the agent that was started there: each operation is a request and an answer over one connection.
// It decides nothing. When the connection is lost every operation rejects with host/lost: whether it was done is not known.

import pLimit from 'p-limit'

import { SyncError } from '../errors.js'
import type { Connection } from '../transport/transport.js'
import { within } from '../within.js'
import {
  MAX_ANSWER_BYTES,
  MAX_REQUEST_BYTES,
  MAX_UNDER_WAY,
  takeAnswer,
  takeValue,
  type OperationArguments,
  type OperationName,
  type OperationResult,
} from './agent-protocol.js'
import type {
  DigestRequest,
  FileFacts,
  Host,
  HostFacts,
  JournalLine,
  JournalName,
  ProgramRequest,
  ProgramResult,
  Protection,
  SpaceFacts,
  UndoneSteps,
  UndoStep,
  WriteOutRequest,
} from './host.js'
import { encodeAgentBanner, Link, readAgentBanner } from './link.js'

/** From the start of the transport to the far end's banner; a person may type a passphrase in between. */
const BANNER_TIMEOUT_MS = 120_000
/** How long the agent may take to go; it stays while a program of ours runs. */
const GOODBYE_MS = 2000
/** Why a connection ended is known when what carried it has ended; that is waited for so long. */
const REASON_MS = 2000
/** An operation that needs longer than it may itself, by this: the file system there hangs. */
const ANSWER_GRACE_MS = 120_000
/** The longest timer there is (2^31 - 1 ms). */
const MAX_TIMER_MS = 2_147_483_647
/** Whole disks are read and written: that the host still lives is seen by the link. */
const AS_LONG_AS_IT_TAKES_MS = MAX_TIMER_MS

type Waiting = Readonly<{
  resolve: (value: unknown) => void
  reject: (error: SyncError) => void
  timer: NodeJS.Timeout
}>

/**
 * The host at the other end of a connection to a `blocksync agent`. `name` is the host as typed; `timeoutMs` is how long
 * nothing may be heard of it (0 is for ever). Rejects with connect/*; the connection has ended then.
 */
export async function openRemoteHost(
  connection: Connection,
  name: string,
  timeoutMs: number,
  signal: AbortSignal | null,
): Promise<Host> {
  const onAbort = (): void => connection.kill()
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    if (signal?.aborted === true) onAbort()
    connection.output.on('error', () => undefined) // shows as the end of the input, which is explained
    const greeting = await readAgentBanner(connection.input, 'agent', name, BANNER_TIMEOUT_MS)
    signal?.throwIfAborted()
    if (greeting === null) {
      if ((await within(connection.exit, REASON_MS)) === null) connection.kill()
      throw connection.explain(await connection.exit, 'before-banner')
    }
    connection.output.write(encodeAgentBanner('controller', timeoutMs))
    return new RemoteHost(connection, name, timeoutMs, greeting.rest)
  } catch (error) {
    await connection[Symbol.asyncDispose]()
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

class RemoteHost implements Host {
  readonly name: string
  readonly kind = 'remote'
  readonly lost: AbortSignal
  readonly #connection: Connection
  readonly #link: Link
  readonly #losing = new AbortController()
  readonly #waiting = new Map<number, Waiting>()
  readonly #limit = pLimit(MAX_UNDER_WAY)
  #lastId = 0
  #failure: SyncError | null = null
  #closing: Promise<void> | null = null

  constructor(connection: Connection, name: string, timeoutMs: number, rest: Buffer) {
    this.name = name
    this.lost = this.#losing.signal
    this.#connection = connection
    this.#link = new Link(connection.input, connection.output, {
      maxLineBytes: MAX_ANSWER_BYTES,
      timeoutMs,
      peerName: name,
      rest,
      onMessage: (message) => this.#take(message),
      onEnd: (error) => {
        this.#lose(error).catch((thrown: unknown) => this.#fail(String(thrown)))
      },
    })
    this.#link.start()
  }

  async facts(): Promise<HostFacts> {
    return await this.#ask('facts', [])
  }

  async run(request: ProgramRequest): Promise<ProgramResult> {
    return await this.#ask('run', [request], request.timeoutMs)
  }

  async look(path: string): Promise<FileFacts | null> {
    return await this.#ask('look', [path])
  }

  async space(path: string): Promise<SpaceFacts> {
    return await this.#ask('space', [path])
  }

  async readText(path: string, maxBytes: number): Promise<string | null> {
    return await this.#ask('readText', [path, maxBytes])
  }

  async writeText(
    path: string,
    text: string,
    options: Readonly<{ mode: number; existing: 'replace' | 'refuse' }>,
  ): Promise<void> {
    await this.#ask('writeText', [path, text, options])
  }

  async makeDirectories(path: string): Promise<readonly string[]> {
    return await this.#ask('makeDirectories', [path])
  }

  async makeFile(path: string, sizeBytes: number, mode: number): Promise<void> {
    await this.#ask('makeFile', [path, sizeBytes, mode])
  }

  async remove(path: string): Promise<void> {
    await this.#ask('remove', [path])
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#ask('rename', [from, to])
  }

  async protect(path: string, tag: string): Promise<Protection> {
    return await this.#ask('protect', [path, tag])
  }

  async unprotect(protection: Protection): Promise<void> {
    await this.#ask('unprotect', [protection])
  }

  async openJournal(
    name: JournalName,
    mode: 'create' | 'continue',
    waitMs: number,
  ): Promise<readonly JournalLine[]> {
    return await this.#ask('openJournal', [name, mode, waitMs], waitMs)
  }

  async appendJournal(name: JournalName, line: JournalLine): Promise<void> {
    await this.#ask('appendJournal', [name, line])
  }

  async readJournal(name: JournalName): Promise<readonly JournalLine[] | null> {
    return await this.#ask('readJournal', [name])
  }

  async listJournals(): Promise<readonly JournalName[]> {
    return await this.#ask('listJournals', [])
  }

  async removeJournal(name: JournalName): Promise<void> {
    await this.#ask('removeJournal', [name])
  }

  async workDirectory(name: JournalName): Promise<string> {
    return await this.#ask('workDirectory', [name])
  }

  async takeLock(name: string, waitMs: number): Promise<void> {
    await this.#ask('takeLock', [name, waitMs], waitMs)
  }

  async undoSteps(path: string): Promise<readonly UndoStep[]> {
    return await this.#ask('undoSteps', [path])
  }

  async undoBack(path: string, through: string | null): Promise<UndoneSteps> {
    return await this.#ask('undoBack', [path, through], AS_LONG_AS_IT_TAKES_MS)
  }

  async dropUndo(path: string, through: string): Promise<void> {
    await this.#ask('dropUndo', [path, through], AS_LONG_AS_IT_TAKES_MS)
  }

  async digest(request: DigestRequest): Promise<string> {
    return await this.#ask('digest', [request], AS_LONG_AS_IT_TAKES_MS)
  }

  async writeOut(request: WriteOutRequest): Promise<Readonly<{ bytes: number }>> {
    return await this.#ask('writeOut', [request], AS_LONG_AS_IT_TAKES_MS)
  }

  async close(): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#fail(`the connection to ${this.name} was closed`)
    this.#link.finish()
    await within(this.#connection.exit, GOODBYE_MS)
    await this.#connection[Symbol.asyncDispose]()
  }

  async #ask<K extends OperationName>(
    op: K,
    args: OperationArguments<K>,
    ownTimeMs = 0,
  ): Promise<OperationResult<K>> {
    return await this.#limit(async () => {
      const value = await this.#request(op, args, ownTimeMs + ANSWER_GRACE_MS)
      try {
        return takeValue(op, value)
      } catch (error) {
        if (error instanceof SyncError) this.#link.fail(error)
        throw this.#failed(`${this.name} answered ${op} with something else`)
      }
    })
  }

  async #request(op: string, args: unknown, timeoutMs: number): Promise<unknown> {
    if (this.#failure !== null) throw this.#failure
    this.#lastId += 1
    const message = { id: this.#lastId, op, args }
    if (Buffer.byteLength(JSON.stringify(message)) > MAX_REQUEST_BYTES)
      throw new SyncError('host/file', `${op}: more than ${MAX_REQUEST_BYTES} bytes; nothing was done`)
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.#link.fail(new SyncError('session/lost', `${this.name} did not answer ${op}`)),
        Math.min(timeoutMs, MAX_TIMER_MS),
      )
      this.#waiting.set(message.id, { resolve, reject, timer })
      this.#link.send(message)
    })
  }

  #take(message: Readonly<Record<string, unknown>>): void {
    const answer = takeAnswer(message)
    const waiting = this.#waiting.get(answer.id)
    if (waiting === undefined)
      throw new SyncError('session/protocol', `${this.name} answered what it was not asked (id ${answer.id})`)
    this.#waiting.delete(answer.id)
    clearTimeout(waiting.timer)
    if ('value' in answer) waiting.resolve(answer.value)
    else waiting.reject(this.#named(answer.error))
  }

  /** On which host it was: paths are the same on many. */
  #named({ code, message, operand, hint }: SyncError): SyncError {
    return new SyncError(code, `${this.name}: ${message}`, {
      operand: operand ?? this.name,
      ...(hint === null ? {} : { hint }),
    })
  }

  async #lose(error: SyncError | null): Promise<void> {
    if (error !== null) {
      this.#fail(`${error.message}; the connection to ${this.name} was given up`)
      this.#connection.kill()
      return
    }
    const exit = await within(this.#connection.exit, REASON_MS)
    if (exit === null) this.#connection.kill()
    this.#fail(
      exit === null
        ? `the connection to ${this.name} ended`
        : this.#connection.explain(exit, 'banner-seen').message,
    )
  }

  #fail(message: string): void {
    if (this.#failure !== null) return
    const error = this.#failed(message)
    this.#failure = error
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer)
      reject(error)
    }
    this.#waiting.clear()
    this.#losing.abort(error)
  }

  #failed(message: string): SyncError {
    return new SyncError('host/lost', message, {
      operand: this.name,
      hint: `Whether what was asked of ${this.name} last was done is not known. Does ssh to it work?`,
    })
  }
}
