// The far end's side of a bond: the socket that forwarded streams come to, open while a client is expected and no longer.
// Refuses streams that do not prove that they belong to the session, and more of them than a bond has.

import { lchownSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'

import { toSyncError } from '../errors.js'
import { bondSocketPath } from '../transport/transport.js'
import { admitMember, type BondTicket } from './member.js'
import { MAX_MEMBERS } from './piece.js'

/** How long a stream may take to prove itself: the client answers at once, one round trip away. */
export const PROOF_TIMEOUT_MS = 10_000
/** Connections that proved nothing yet: those of the bond, and as many that are none of it. */
const MAX_CONNECTIONS = 2 * MAX_MEMBERS

/** Only the user that the session runs as may connect. */
const SOCKET_UMASK = 0o177

export class BondListener {
  readonly #path: string
  readonly #secret: string
  readonly #onMember: (socket: Socket) => void
  readonly #unproven = new Set<Socket>()
  #server: Server | null = null

  /** `onMember` gets each stream that proved itself, paused. */
  constructor({ name, secret }: BondTicket, onMember: (socket: Socket) => void) {
    this.#path = bondSocketPath(name)
    this.#secret = secret
    this.#onMember = onMember
  }

  /** Resolves with whether it listens; false where a socket cannot be made there. */
  async listen(): Promise<boolean> {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.on('error', () => socket.destroy())
      this.#admit(socket).catch((error: unknown) => socket.destroy(toSyncError(error)))
    })
    server.maxConnections = MAX_CONNECTIONS
    this.#server = server
    return await new Promise((resolve) => {
      server.once('error', () => {
        this.close()
        resolve(false)
      })
      const umask = process.umask(SOCKET_UMASK)
      try {
        // It binds before it returns.
        server.listen(this.#path, () => resolve(true))
      } finally {
        process.umask(umask)
      }
      if (server.listening) giveToLoginUser(this.#path)
    })
  }

  /** Nobody comes in any more; the name is gone. Streams that proved themselves stay. */
  close(): void {
    const server = this.#server
    if (server === null) return
    this.#server = null
    for (const socket of this.#unproven) socket.destroy()
    if (!server.listening) return
    server.close()
    // Node.js removes it as well, when it has closed.
    rmSync(this.#path, { force: true })
  }

  async #admit(socket: Socket): Promise<void> {
    this.#unproven.add(socket)
    const isMember = await admitMember(socket, this.#secret, PROOF_TIMEOUT_MS)
    this.#unproven.delete(socket)
    if (isMember && this.#server !== null) this.#onMember(socket)
    else socket.destroy()
  }
}

/** Under sudo it is not us whom sshd connects as, but the user who logged in. */
function giveToLoginUser(path: string): void {
  const uid = Number(process.env['SUDO_UID'])
  if (process.getuid?.() !== 0 || !Number.isSafeInteger(uid) || uid <= 0) return
  lchownSync(path, uid, -1)
}
