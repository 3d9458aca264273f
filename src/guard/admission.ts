// What the two sides of a gate share: the token, the proofs, and lines of bounded length. Refuses a token of another
// shape, a proof that is not one, and a line that is longer than allowed before it is kept.
//
// The gate is an abstract Unix socket of Linux (unix(7); Node.js has them since 20.8): it is no file, so nothing has to
// be removed, however the process ends, and it works for a user without a home and on a full or read-only disk. Anybody
// on the host may connect to it and read its name in /proc/net/unix. So the name says nothing and decides nothing: both
// sides prove, without sending it, that they know the secret of the token, and neither tells anything before.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

import { SyncError } from '../errors.js'
import { isObject } from '../json.js'

/** Connections beside the first that one run may have: more than any link or disk was seen to use. */
export const MAX_LANES = 16
/** How long either side waits for the other's words. The other is on the same host; this is for one that hangs. */
export const ANSWER_TIMEOUT_MS = 10_000
/** The first line of a lane is 130 bytes; later versions may add to it. Nobody proved anything before it. */
export const MAX_HELLO_BYTES = 512
/** A path of PATH_MAX (4096) bytes, each written in six by JSON, and its facts. */
export const MAX_LINE_BYTES = 32_768

/** 128 bits each: the name is not guessed by accident, the secret by nobody. */
const RANDOM_BYTES = 16
const RANDOM_HEX = RANDOM_BYTES * 2
const TOKEN_SHAPE = new RegExp(`^lanes1\\.([0-9a-f]{${RANDOM_HEX}})\\.([0-9a-f]{${RANDOM_HEX}})$`)
const PROOF_SHAPE = /^[0-9a-f]{64}$/
/**
 * All of sun_path in unix(7), the leading zero byte included. Node.js 20 pads a shorter abstract name with zero bytes
 * and later ones do not, so only a name of full length is the same name to both.
 */
const SOCKET_NAME_LENGTH = 108

/**
 * Which disk the first far end claimed, as DiskIdentity has it: the kernel's boot id, and its names, its own first
 * ('file:DEV:INO', 'block:MAJ:MIN').
 */
export type DiskFacts = Readonly<{ machine: string; aliases: readonly string[] }>

/** Where the gate of a run is, and the secret of who may pass. */
export type Ticket = Readonly<{ name: string; secret: string }>

/** Who proves: it keeps a proof from being sent back to its maker as an answer. */
export type Prover = 'lane' | 'gate'

/** Why a gate turns somebody away: it knows no such secret, has MAX_LANES lanes, or was asked what it does not know. */
export type Refusal = 'secret' | 'full' | 'question'

export function newTicket(): Ticket {
  return {
    name: randomBytes(RANDOM_BYTES).toString('hex'),
    secret: randomBytes(RANDOM_BYTES).toString('hex'),
  }
}

/** A ticket as one word of 72 printable characters. It is a secret: for the wire, not for a command line or a log. */
export function encodeToken({ name, secret }: Ticket): string {
  return `lanes1.${name}.${secret}`
}

/** The ticket in a token. Throws session/protocol, without repeating it, where it has another shape. */
export function decodeToken(token: string): Ticket {
  const [, name, secret] = TOKEN_SHAPE.exec(token) ?? []
  if (name === undefined || secret === undefined) {
    throw new SyncError('session/protocol', 'the token of the run is malformed; nothing was opened', {
      hint: 'Is blocksync of the same version on both hosts? blocksync doctor HOST tells.',
    })
  }
  return { name, secret }
}

/** The abstract socket of a ticket, as node:net takes it. */
export function socketPath({ name }: Ticket): string {
  return `\0blocksync-lanes-${name}`.padEnd(SOCKET_NAME_LENGTH, '-')
}

export function newNonce(): string {
  return randomBytes(RANDOM_BYTES).toString('hex')
}

/** HMAC-SHA-256 over who proves and the lane's nonce, in hex. */
export function proofOf(prover: Prover, { name, secret }: Ticket, nonce: string): string {
  return hmac(prover, { name, secret }, nonce).toString('hex')
}

/** Takes the same time wherever the two differ. */
export function isProof(value: unknown, prover: Prover, ticket: Ticket, nonce: string): boolean {
  if (typeof value !== 'string' || !PROOF_SHAPE.test(value)) return false
  return timingSafeEqual(Buffer.from(value, 'hex'), hmac(prover, ticket, nonce))
}

function hmac(prover: Prover, { name, secret }: Ticket, nonce: string): Buffer {
  return createHmac('sha256', Buffer.from(secret, 'hex'))
    .update(`blocksync lanes 1 ${prover} ${name} ${nonce}`)
    .digest()
}

export type Fields = Readonly<Record<string, unknown>>

/** One message: a JSON object on a line of its own. */
export function encodeLine(message: Fields): string {
  return `${JSON.stringify(message)}\n`
}

/** The object on a line, or null where there is none. */
export function decodeLine(line: string): Fields | null {
  let parsed: unknown
  try {
    parsed = JSON.parse(line)
  } catch {
    // Not JSON: the caller refuses it as it refuses any other line that says nothing to it.
    return null
  }
  return isObject(parsed) ? parsed : null
}

/** Facts as they came in, or null where they are none. */
export function decodeFacts(value: unknown): DiskFacts | null {
  if (typeof value !== 'object' || value === null) return null
  const { machine, aliases } = value as Fields
  if (typeof machine !== 'string' || !Array.isArray(aliases) || aliases.length === 0) return null
  return aliases.every((alias) => typeof alias === 'string') ? { machine, aliases } : null
}

/** Bytes as they come in, lines as they are complete. */
export class LineReader {
  #rest: Buffer = Buffer.alloc(0)

  /** The lines that `chunk` completes, without their ends; null, and nothing is kept, where one is above `maxBytes`. */
  push(chunk: Buffer, maxBytes: number): string[] | null {
    const lines: string[] = []
    let start = 0
    for (let end = chunk.indexOf('\n'); end !== -1; end = chunk.indexOf('\n', start)) {
      const line = this.#take(chunk.subarray(start, end), maxBytes)
      if (line === null) return null
      lines.push(line.toString())
      this.#rest = Buffer.alloc(0)
      start = end + 1
    }
    const rest = this.#take(chunk.subarray(start), maxBytes)
    if (rest === null) return null
    this.#rest = rest
    return lines
  }

  #take(piece: Buffer, maxBytes: number): Buffer | null {
    if (this.#rest.length + piece.length <= maxBytes) return Buffer.concat([this.#rest, piece])
    this.#rest = Buffer.alloc(0)
    return null
  }
}
