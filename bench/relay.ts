// A TCP relay on loopback that holds every byte back for a fixed time in each direction: a long line without loss and
// with plenty of bandwidth. It looks at nothing and refuses nothing; one process, so that its clock is ours.

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export type Relay = AsyncDisposable & Readonly<{ port: number }>

/** Held back in one direction before the sender is made to wait: more than any window of ours or of ssh. */
const MAX_HELD_BYTES = 64 << 20

/** Listens on a port of its own and passes on to `targetPort`. Who opens it closes it. */
export async function openRelay(targetPort: number, oneWayMs: number): Promise<Relay> {
  const sockets = new Set<Socket>()
  const server = createServer({ noDelay: true }, (near) => {
    const far = connect({ port: targetPort, host: '127.0.0.1', noDelay: true })
    for (const socket of [near, far]) {
      sockets.add(socket)
      // One side gone takes the other with it; the programs at the ends say what went wrong.
      socket.on('error', () => socket.destroy())
      socket.on('close', () => sockets.delete(socket))
    }
    hold(near, far, oneWayMs)
    hold(far, near, oneWayMs)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the relay has no port')
  return {
    port: address.port,
    [Symbol.asyncDispose]: async () => {
      server.close()
      for (const socket of sockets) socket.destroy()
      await once(server, 'close')
    },
  }
}

function hold(from: Socket, to: Socket, oneWayMs: number): void {
  let heldBytes = 0
  from.on('data', (chunk: Buffer) => {
    heldBytes += chunk.length
    if (heldBytes > MAX_HELD_BYTES) from.pause()
    setTimeout(() => {
      heldBytes -= chunk.length
      if (from.isPaused() && heldBytes <= MAX_HELD_BYTES / 2) from.resume()
      if (!to.destroyed) to.write(chunk)
    }, oneWayMs)
  })
  from.on('end', () => setTimeout(() => to.end(), oneWayMs))
  from.on('close', () => setTimeout(() => to.destroySoon(), oneWayMs))
}
