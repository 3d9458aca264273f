// How a stream shows that it belongs to a session: both ends prove, over a number made for this stream, that they know the
// secret that only crossed the session itself. Refuses whoever does not prove it, or not in time.

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { Socket } from 'node:net'

/** 128 bits each: the name is not met by accident, the secret guessed by nobody. In hex, as they cross the wire. */
const RANDOM_BYTES = 16
/** What the server says first: a number of its own, and the proof over it. */
const GREETING_BYTES = RANDOM_BYTES + 32
const PROOF_BYTES = 32

/** What both ends of a bond know: where its socket is, and the secret of who belongs to it. */
export type BondTicket = Readonly<{ name: string; secret: string }>

/** A name for a socket, or a secret. */
export function newBondWord(): string {
  return randomBytes(RANDOM_BYTES).toString('hex')
}

/**
 * The server's half: greets, then waits for the client's proof. What comes behind that stays in the socket, which is paused.
 * Resolves with false, the socket destroyed, where it did not come within `timeoutMs` or was none.
 */
export async function admitMember(socket: Socket, secret: string, timeoutMs: number): Promise<boolean> {
  const nonce = randomBytes(RANDOM_BYTES)
  const answer = readBytes(socket, PROOF_BYTES, timeoutMs)
  socket.write(Buffer.concat([nonce, proofOf('server', secret, nonce)]))
  const proof = await answer
  if (proof !== null && timingSafeEqual(proof, proofOf('client', secret, nonce))) return true
  socket.destroy()
  return false
}

/**
 * The client's half: waits for the greeting. Resolves with the proof that answers it, which is still to be sent, or with
 * null, the socket destroyed, where none came within `timeoutMs` (what forwards it refused, or nobody listens there) or it
 * proves nothing.
 */
export async function hearGreeting(
  socket: Socket,
  secret: string,
  timeoutMs: number,
): Promise<Buffer | null> {
  const greeting = await readBytes(socket, GREETING_BYTES, timeoutMs)
  const nonce = greeting?.subarray(0, RANDOM_BYTES)
  if (greeting !== null && nonce !== undefined) {
    if (timingSafeEqual(greeting.subarray(RANDOM_BYTES), proofOf('server', secret, nonce)))
      return proofOf('client', secret, nonce)
  }
  socket.destroy()
  return null
}

/** HMAC-SHA-256, keyed by the secret, over who proves and the number: neither side can send back what it got. */
function proofOf(side: 'client' | 'server', secret: string, nonce: Buffer): Buffer {
  return createHmac('sha256', Buffer.from(secret, 'hex'))
    .update(`blocksync bond 1 ${side} `)
    .update(nonce)
    .digest()
}

/** The next `count` bytes, or null where they do not come. The socket is paused then, the rest is still in it. */
async function readBytes(socket: Socket, count: number, timeoutMs: number): Promise<Buffer | null> {
  let received = Buffer.alloc(0)
  return await new Promise((resolve) => {
    const settle = (bytes: Buffer | null): void => {
      clearTimeout(timer)
      socket.off('data', onData).off('end', onGone).off('close', onGone)
      socket.pause()
      resolve(bytes)
    }
    const onGone = (): void => settle(null)
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk])
      if (received.length < count) return
      settle(received.subarray(0, count))
      if (received.length > count) socket.unshift(received.subarray(count))
    }
    const timer = setTimeout(onGone, timeoutMs)
    socket.on('data', onData).on('end', onGone).on('close', onGone)
    if (socket.destroyed || socket.readableEnded) onGone()
    else socket.resume()
  })
}
