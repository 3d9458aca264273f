// A TCP line with a delay, on loopback: what comes in on one side goes out on the other after `delayMs`, in order, each
// way. Bandwidth is not limited; a round trip takes twice the delay.

import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

export type SlowLine = Readonly<{ port: number; close: () => Promise<void> }>

/** Listens on a loopback port (a free one, or `onPort`) and forwards to `toPort`. Who opens it closes it. */
export async function openSlowLine(toPort: number, delayMs: number, onPort = 0): Promise<SlowLine> {
  const sockets = new Set<Socket>()
  const timers = new Set<NodeJS.Timeout>()
  const later = (act: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer)
      act()
    }, delayMs)
    timers.add(timer)
  }
  const forward = (from: Socket, to: Socket): void => {
    from.setNoDelay(true)
    sockets.add(from)
    from.on('data', (chunk: Buffer) => later(() => to.write(chunk)))
    from.on('end', () => later(() => to.end()))
    from.on('error', () => to.destroy())
    from.once('close', () => sockets.delete(from))
  }
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port: toPort, host: '127.0.0.1', allowHalfOpen: true })
    forward(near, far)
    forward(far, near)
  }).listen(onPort, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      for (const timer of timers) clearTimeout(timer)
      await closed
    },
  }
}
