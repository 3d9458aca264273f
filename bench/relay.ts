// A TCP relay on loopback that holds every byte back for a fixed time in each direction, and lets them through no faster
// than the line is: a long or a slow line without loss. It looks at nothing and refuses nothing; one process, so that its
// clock is ours.

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export type Relay = AsyncDisposable & Readonly<{ port: number }>

/** `bytesPerSecond` is for each direction, all connections together; null is no limit. */
export type Line = Readonly<{ oneWayMs: number; bytesPerSecond: number | null }>

/** Held back in one direction before the sender is made to wait: more than any window of ours or of ssh. */
const MAX_HELD_BYTES = 64 << 20
/** The same on a slow line, where it is the router's queue: what waits in it is not sent yet. */
const MAX_QUEUED_BYTES = 256 << 10

type Lane = { freeAtMs: number }

/** Listens on a port of its own and passes on to `targetPort`. Who opens it closes it. */
export async function openRelay(targetPort: number, line: Line): Promise<Relay> {
  const sockets = new Set<Socket>()
  const lanes = { up: { freeAtMs: 0 }, down: { freeAtMs: 0 } }
  const server = createServer({ noDelay: true }, (near) => {
    const far = connect({ port: targetPort, host: '127.0.0.1', noDelay: true })
    for (const socket of [near, far]) {
      sockets.add(socket)
      // One side gone takes the other with it; the programs at the ends say what went wrong.
      socket.on('error', () => socket.destroy())
      socket.on('close', () => sockets.delete(socket))
    }
    hold(near, far, line, lanes.up)
    hold(far, near, line, lanes.down)
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

function hold(from: Socket, to: Socket, { oneWayMs, bytesPerSecond }: Line, lane: Lane): void {
  const mostBytes = bytesPerSecond === null ? MAX_HELD_BYTES : MAX_QUEUED_BYTES
  const waiting: { dueMs: number; byteLength: number; deliver: () => void }[] = []
  let heldBytes = 0
  /** One timer for the first that waits: timers of their own would be rounded, and overtake each other. */
  const deliverDue = (): void => {
    for (let first = waiting[0]; first !== undefined; first = waiting[0]) {
      const leftMs = first.dueMs - performance.now()
      if (leftMs > 0) {
        setTimeout(deliverDue, leftMs)
        return
      }
      waiting.shift()
      heldBytes -= first.byteLength
      if (from.isPaused() && heldBytes <= mostBytes / 2) from.resume()
      first.deliver()
    }
  }
  const pass = (byteLength: number, deliver: () => void): void => {
    const nowMs = performance.now()
    if (bytesPerSecond !== null)
      lane.freeAtMs = Math.max(lane.freeAtMs, nowMs) + (byteLength * 1000) / bytesPerSecond
    waiting.push({ dueMs: Math.max(lane.freeAtMs, nowMs) + oneWayMs, byteLength, deliver })
    if (waiting.length === 1) setTimeout(deliverDue, oneWayMs)
  }
  from.on('data', (chunk: Buffer) => {
    heldBytes += chunk.length
    if (heldBytes > mostBytes) from.pause()
    pass(chunk.length, () => {
      if (!to.destroyed) to.write(chunk)
    })
  })
  from.on('end', () => pass(0, () => to.end()))
  from.on('close', () => pass(0, () => to.destroySoon()))
}
