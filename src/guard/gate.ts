// The gate of a run, in the far process that claimed its destinations: further far processes of the same run, its
// lanes, come in here and are told which disks were claimed. Refuses everybody who does not know the secret of the run.

import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'

import { SyncError } from '../errors.js'
import {
  ANSWER_TIMEOUT_MS,
  decodeLine,
  encodeLine,
  encodeToken,
  isProof,
  LineReader,
  MAX_HELLO_BYTES,
  MAX_LANES,
  MAX_LINE_BYTES,
  newTicket,
  proofOf,
  socketPath,
} from './admission.js'
import type { DiskFacts, Fields, Refusal, Ticket } from './admission.js'

export type { DiskFacts } from './admission.js'

/**
 * Connections that proved nothing yet. The one that waits longest goes when another comes: ours prove themselves with
 * their first bytes, so somebody who only holds connections cannot keep them out.
 */
export const MAX_STRANGERS = 16
/** How long lanes have, once the gate closes, to finish the write they are in. A lane that hangs must not hold up the end. */
export const LEAVE_TIMEOUT_MS = 5000
/** As many disks as a session has at most (MAX_DISKS of the wire). */
const MAX_ADMITTED_DISKS = 4096

/** Who opens it closes it. It never keeps a process alive. */
export interface Gate extends AsyncDisposable {
  /** What a lane needs to come in: a secret of at most 200 printable characters, for the wire and nowhere else. */
  readonly token: string
  /** How many lanes are in. */
  readonly lanes: number
  /**
   * Lets lanes share a disk that this process claimed. `diskKey` is the path as it was opened. Admitting a key again
   * replaces its facts.
   */
  admit(diskKey: string, facts: DiskFacts): void
  /**
   * Lets nobody in any more and tells the lanes to stop; resolves when all have left, or after LEAVE_TIMEOUT_MS, when
   * the rest is cut off. Give up the claim after this, not before.
   */
  [Symbol.asyncDispose](): Promise<void>
}

/** Opens the gate of this process. Rejects with connect/capability where the host does not allow it. */
export async function openGate(): Promise<Gate> {
  const ticket = newTicket()
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(cannotOpen(cause)))
    server.listen({ path: socketPath(ticket) }, resolve)
  })
  return new OpenGate(server, ticket)
}

/** One line that says why, and the end. */
function turnAway(socket: Socket, refused: Refusal): void {
  socket.write(encodeLine({ refused }))
  socket.destroySoon()
}

function cannotOpen(cause: unknown): SyncError {
  return new SyncError(
    'connect/capability',
    'this host cannot let further connections of a run in (no local socket could be opened); no further connection was made',
    { hint: 'Type --streams 1 to do with one connection.', cause },
  )
}

class OpenGate implements Gate {
  readonly token: string
  readonly #server: Server
  readonly #ticket: Ticket
  readonly #disks = new Map<string, DiskFacts>()
  /** In the order they came. */
  readonly #strangers = new Set<Socket>()
  readonly #lanes = new Set<Socket>()
  #closing: Promise<void> | null = null

  constructor(server: Server, ticket: Ticket) {
    this.#server = server
    this.#ticket = ticket
    this.token = encodeToken(ticket)
    server.removeAllListeners('error')
    // A connection that could not be taken (no descriptor is free) is lost to who made it, and that side says so.
    server.on('error', () => undefined)
    server.on('connection', (socket) => this.#meet(socket))
    server.unref()
  }

  get lanes(): number {
    return this.#lanes.size
  }

  admit(diskKey: string, facts: DiskFacts): void {
    const { machine, aliases } = facts
    const lines = [encodeLine({ disk: diskKey }), encodeLine({ facts: { machine, aliases } })]
    if (lines.some((line) => Buffer.byteLength(line) > MAX_LINE_BYTES))
      throw new SyncError('internal', 'internal error: the name of a disk is too long for its lanes', {
        operand: diskKey,
      })
    if (this.#disks.size === MAX_ADMITTED_DISKS && !this.#disks.has(diskKey))
      throw new SyncError('internal', 'internal error: too many disks for one gate', { operand: diskKey })
    this.#disks.set(diskKey, { machine, aliases: [...aliases] })
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** Somebody connected. Nothing is said to it before it proved itself. */
  #meet(socket: Socket): void {
    socket.unref()
    const [oldest] = this.#strangers
    if (oldest !== undefined && this.#strangers.size === MAX_STRANGERS) {
      this.#strangers.delete(oldest)
      oldest.destroy()
    }
    this.#strangers.add(socket)
    const deadline = setTimeout(() => socket.destroy(), ANSWER_TIMEOUT_MS).unref()
    const reader = new LineReader()
    socket.on('data', (chunk) => {
      const isLane = this.#lanes.has(socket)
      const lines = reader.push(chunk, isLane ? MAX_LINE_BYTES : MAX_HELLO_BYTES)
      if (lines === null) socket.destroy()
      for (const line of lines ?? []) {
        // What still comes from somebody who was turned away, or after the end of the run, is not read.
        if (socket.writableEnded || socket.destroyed) return
        if (this.#lanes.has(socket)) this.#answer(socket, decodeLine(line))
        else if (this.#welcome(socket, decodeLine(line))) clearTimeout(deadline)
      }
    })
    // Its end is all there is to know about a broken connection; 'close' follows.
    socket.on('error', () => socket.destroy())
    socket.once('close', () => {
      clearTimeout(deadline)
      this.#strangers.delete(socket)
      this.#lanes.delete(socket)
    })
  }

  /** The first line of a stranger: true where it is a lane from now on. */
  #welcome(socket: Socket, hello: Fields | null): boolean {
    const nonce = hello?.['nonce']
    if (typeof nonce !== 'string' || !isProof(hello?.['proof'], 'lane', this.#ticket, nonce)) {
      turnAway(socket, 'secret')
      return false
    }
    if (this.#lanes.size === MAX_LANES) {
      turnAway(socket, 'full')
      return false
    }
    this.#strangers.delete(socket)
    this.#lanes.add(socket)
    socket.write(encodeLine({ proof: proofOf('gate', this.#ticket, nonce) }))
    return true
  }

  #answer(socket: Socket, question: Fields | null): void {
    const diskKey = question?.['disk']
    if (typeof diskKey !== 'string') {
      turnAway(socket, 'question')
      return
    }
    const isTaken = socket.write(encodeLine({ facts: this.#disks.get(diskKey) ?? null }))
    // A lane that asks and does not read is not read either.
    if (isTaken || socket.isPaused()) return
    socket.pause()
    socket.once('drain', () => socket.resume())
  }

  async #close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const stranger of this.#strangers) stranger.destroy()
    // Our half only: a lane closes the other when it has stopped writing.
    for (const lane of this.#lanes) lane.end()
    const deadline = setTimeout(() => {
      for (const lane of this.#lanes) lane.destroy()
    }, LEAVE_TIMEOUT_MS)
    await closed
    clearTimeout(deadline)
    // Their connections are closed; the events that say so may come after that of the server.
    this.#lanes.clear()
  }
}
