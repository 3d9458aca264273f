// The bytes that arrive for the wire, from a descriptor into memory that is used again for every read: a chunk may be looked
// at only while its 'data' event lasts. Refuses to be piped, which would keep chunks for longer.

import { fstatSync } from 'node:fs'
import { Socket, type ConnectOpts, type SocketConstructorOpts } from 'node:net'
import type { Readable } from 'node:stream'

/** More than a pipe holds by default; what a native pipe of 1 MiB has more is taken by the next read, out of a warm cache. */
const READ_BYTES = 256 << 10

/**
 * What arrives at `fd`, read into one buffer: without it Node.js takes new memory for every read, a quarter of the cost of
 * receiving. Pauses, ends and fails as net.Socket does, and owns the descriptor. `'data'` lends a view of that buffer,
 * valid during the event; reading in any other way (iteration, `read`) gives copies. `otherwise` is asked where `fd` is
 * neither a pipe nor a stream socket: a terminal, a file, a device.
 */
export function openWireInput(fd: number, otherwise: () => Readable): Readable {
  return isPipeOrSocket(fd) ? lendingSocket(fd) : otherwise()
}

function isPipeOrSocket(fd: number): boolean {
  const stats = fstatSync(fd)
  return stats.isFIFO() || stats.isSocket()
}

function lendingSocket(fd: number): Socket {
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  // The constructor takes both further options in every Node.js we run on; its types do not say so.
  const options: SocketConstructorOpts & ConnectOpts & { manualStart: true } = {
    fd,
    // As process.stdin: nothing is read, not even the end, before somebody listens for it.
    manualStart: true,
    readable: true,
    writable: false,
    onread: {
      buffer,
      // False stops the reading until somebody asks again.
      callback: (receivedBytes) => {
        const view = buffer.subarray(0, receivedBytes)
        if (input.readableFlowing !== true || input.readableLength > 0) return input.push(Buffer.from(view))
        input.emit('data', view)
        return true
      },
    },
  }
  const input = new Socket(options)
  input.pipe = (): never => {
    throw new TypeError('the chunks of this stream are lent: copy them instead of piping them')
  }
  return input
}
