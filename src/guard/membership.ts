// The other side of a gate, in a further far process of a run: the token of the run goes in, which disks the run claimed
// comes out, and the news that it gave them up. Refuses a disk that the run did not claim, and a gate without the secret.

import { connect } from 'node:net'
import type { Socket } from 'node:net'

import type { DiskIdentity } from '../endpoint/endpoint.js'
import { errnoOf, SyncError } from '../errors.js'
import {
  ANSWER_TIMEOUT_MS,
  decodeFacts,
  decodeLine,
  decodeToken,
  encodeLine,
  isProof,
  LineReader,
  MAX_LANES,
  MAX_LINE_BYTES,
  newNonce,
  proofOf,
  socketPath,
} from './admission.js'
import type { DiskFacts, Fields, Refusal, Ticket } from './admission.js'

/** That this process may write to what the run claimed, for as long as `lost` is pending. */
export interface Membership extends AsyncDisposable {
  /**
   * Resolves when the run gave up its claim before `leave`: its first process ended or closed the gate. Nothing more may
   * be written then; call `leave` when the last write ended, the gate waits for it. Pending for ever after `leave`.
   */
  readonly lost: Promise<SyncError>
  /** What the run claimed under this path. Rejects with guard/held where it claimed no such disk, or as `lost` says. */
  disk(diskKey: string): Promise<DiskFacts>
  /** Goes out; may be called twice. */
  leave(): Promise<void>
}

/**
 * Comes in through the gate that `token` names, within ANSWER_TIMEOUT_MS. Rejects with session/protocol where the token
 * is malformed, with guard/held where no run here admits its bearer, and with session/lost where nobody answers.
 */
export async function joinRun(token: string): Promise<Membership> {
  const ticket = decodeToken(token)
  // Half open: the gate closes its half to say that the run is over, this side when it has stopped writing.
  const run = new JoinedRun(connect({ path: socketPath(ticket), allowHalfOpen: true }))
  try {
    await run.enter(ticket)
    return run
  } catch (thrown) {
    await run.leave()
    throw thrown
  }
}

/**
 * Refuses a disk that was opened under a path that meanwhile leads to another one: `opened` must be what the run
 * claimed. Throws guard/held.
 */
export function checkAdmitted(diskKey: string, facts: DiskFacts, opened: DiskIdentity): void {
  const [ownName] = facts.aliases
  if (facts.machine === opened.machine && ownName !== undefined && ownName === opened.aliases[0]) return
  throw new SyncError(
    'guard/held',
    `${diskKey} is not the disk that the run claimed: the path leads to another one now; this connection wrote nothing`,
    { operand: diskKey, hint: 'Run again when nobody changes the path or its symbolic links.' },
  )
}

function notAdmitted(why: string, cause?: unknown): SyncError {
  return new SyncError(
    'guard/held',
    `no run on this host admits this connection: ${why}; nothing was opened`,
    {
      hint: 'Run again; where the host name leads to several machines, name one of them, or type --streams 1.',
      ...(cause === undefined ? {} : { cause }),
    },
  )
}

function refusedBecause(refusal: unknown): SyncError {
  switch (refusal) {
    case 'full' satisfies Refusal:
      return notAdmitted(`the run has ${MAX_LANES} further connections already`)
    case 'secret' satisfies Refusal:
      return notAdmitted('the secret in its token is not that of the run')
    default:
      return notAdmitted('what listens in the place of the run does not know its secret')
  }
}

function lostError(why: string, cause?: unknown): SyncError {
  return new SyncError(
    'session/lost',
    `the claim on the destination is gone: ${why}; this connection writes nothing more`,
    { hint: 'Run again: it continues from what is there.', ...(cause === undefined ? {} : { cause }) },
  )
}

function silentError(why: string, cause?: unknown): SyncError {
  return new SyncError(
    'session/lost',
    `the first far process of the run did not answer: ${why}; this connection writes nothing more`,
    {
      hint: 'Is it stopped, or the host overloaded? Run again: it continues from what is there.',
      ...(cause === undefined ? {} : { cause }),
    },
  )
}

type Question = { resolve: (answer: Fields) => void; reject: (error: SyncError) => void }

class JoinedRun implements Membership {
  readonly lost: Promise<SyncError>
  readonly #tellLost: (error: SyncError) => void
  readonly #socket: Socket
  readonly #reader = new LineReader()
  /** Answers come in the order of the questions. */
  readonly #questions: Question[] = []
  #isIn = false
  /** Why there are no more answers. */
  #end: SyncError | null = null

  constructor(socket: Socket) {
    let tellLost: (error: SyncError) => void = () => undefined
    this.lost = new Promise((resolve) => (tellLost = resolve))
    this.#tellLost = tellLost
    this.#socket = socket
    socket.on('data', (chunk) => this.#receive(chunk))
    socket.on('end', () => this.#fail(this.#over()))
    socket.on('error', (cause) => this.#fail(this.#over(cause)))
    socket.on('close', () => this.#fail(this.#over()))
  }

  /** Both sides prove that they know the secret. */
  async enter(ticket: Ticket): Promise<void> {
    const nonce = newNonce()
    const answer = await this.#ask({ nonce, proof: proofOf('lane', ticket, nonce) })
    if (!isProof(answer['proof'], 'gate', ticket, nonce)) throw refusedBecause(answer['refused'])
    this.#isIn = true
  }

  async disk(diskKey: string): Promise<DiskFacts> {
    const answer = await this.#ask({ disk: diskKey })
    const facts = decodeFacts(answer['facts'])
    if (facts !== null) return facts
    throw new SyncError(
      'guard/held',
      `no run admits others to ${diskKey}: the first connection of this run did not claim it; nothing was written`,
      { operand: diskKey, hint: 'Run again, or type --streams 1 to do with one connection.' },
    )
  }

  async leave(): Promise<void> {
    const error = lostError('it was given back')
    this.#end ??= error
    this.#rejectAll(error)
    if (this.#socket.closed) return
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()))
    this.#socket.destroy()
    await closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.leave()
  }

  async #ask(message: Fields): Promise<Fields> {
    if (this.#end !== null) throw this.#end
    // Only a question keeps the process alive, and for no longer than this.
    const deadline = setTimeout(
      () => this.#fail(silentError(`${ANSWER_TIMEOUT_MS / 1000} s passed`)),
      ANSWER_TIMEOUT_MS,
    )
    this.#socket.ref()
    try {
      return await new Promise((resolve, reject) => {
        this.#questions.push({ resolve, reject })
        this.#socket.write(encodeLine(message))
      })
    } finally {
      clearTimeout(deadline)
      if (this.#questions.length === 0) this.#socket.unref()
    }
  }

  #receive(chunk: Buffer): void {
    for (const line of this.#reader.push(chunk, MAX_LINE_BYTES) ?? ['']) {
      const answer = decodeLine(line)
      const question = answer === null ? undefined : this.#questions.shift()
      if (answer === null || question === undefined) {
        this.#fail(this.#isIn ? lostError('its first process answers nonsense') : refusedBecause(null))
        this.#socket.destroy()
        return
      }
      question.resolve(answer)
    }
  }

  #over(cause?: unknown): SyncError {
    if (this.#isIn) return lostError('the first far process of the run ended', cause)
    // More connections wait there than the kernel keeps: the run may well go on.
    if (errnoOf(cause) === 'EAGAIN') return silentError('too many connections wait for it', cause)
    return notAdmitted('the run is over, or is on another host', cause)
  }

  #fail(error: SyncError): void {
    if (this.#end !== null) return
    this.#end = error
    this.#rejectAll(error)
    this.#tellLost(error)
  }

  #rejectAll(error: SyncError): void {
    for (const { reject } of this.#questions.splice(0)) reject(error)
  }
}
