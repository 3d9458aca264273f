// A Connection over one exec channel of the ssh2 library. Both directions are bounded by an SSH window (ours in
// ssh2-window.ts, the server's is 2 MiB) and the buffers named here: a slow reader stops the far end, and a slow far end
// stops the writer.

import { Readable, Writable, type Duplex } from 'node:stream'

import type { ClientChannel } from 'ssh2'

import type { SyncError } from '../errors.js'
import { explainExit, type ExitContext } from './explain.js'
import { RECEIVE_WINDOW_BYTES, widenWindow } from './ssh2-window.js'
import type { StderrTail } from './stderr-tail.js'
import type { Connection, FarExit } from './transport.js'

/** What the channel rides on: every SSH client and socket of the route, ended together. */
export type Route = Readonly<{
  cipher: string | null
  /** What the SSH connection of the last hop reads from. */
  stream: Duplex
  /** Ends the connection; resolves when all of its sockets are closed. May be called more than once. */
  close: () => Promise<void>
}>

/** One SSH packet is 32 KiB; a few of them waiting keep both sides busy. */
const BUFFER_BYTES = 256 << 10
/** The window and what the library adds for stderr while nobody reads; above this a far end got around it. */
const MAX_UNREAD_BYTES = RECEIVE_WINDOW_BYTES + (4 << 20)

export class Ssh2Connection implements Connection {
  readonly kind = 'ssh2'
  readonly forward = null
  readonly peerName: string
  readonly cipher: string | null
  readonly input: Readable
  readonly output: Writable
  readonly exit: Promise<FarExit>
  readonly #channel: ClientChannel
  readonly #context: ExitContext
  readonly #route: Route

  /** `stderrTail` also receives what the route reports when it breaks. */
  constructor(channel: ClientChannel, route: Route, context: ExitContext, stderrTail: StderrTail) {
    this.#channel = channel
    this.#context = context
    this.#route = route
    this.peerName = context.peerName
    this.cipher = route.cipher
    this.input = readableOf(channel)
    boundUnread(channel, route.stream)
    this.output = writableOf(channel)
    // The reason of a failure is in `exit`, which settles in every case.
    for (const stream of [channel, this.input, this.output]) stream.on('error', () => {})
    channel.stderr.on('error', () => {})
    channel.stderr.on('data', (chunk: Buffer) => stderrTail.push(chunk))
    this.exit = this.#watch(stderrTail)
  }

  end(): void {
    this.output.end()
  }

  kill(): void {
    // sshd passes the signal on; what does not hear it sees its pipes close.
    this.#channel.signal('TERM')
    this.#channel.close()
    this.input.destroy()
    this.output.destroy()
    // The channel only closes when what had arrived is read; it goes nowhere now.
    this.#channel.resume()
    // Whoever disposes of us waits for the same promise and hears of a failure.
    this.#route.close().catch(() => {})
  }

  explain(exit: FarExit, phase: 'before-banner' | 'banner-seen'): SyncError {
    return explainExit(this.#context, exit, phase)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill()
    await this.exit
    await this.#route.close()
  }

  #watch(stderrTail: StderrTail): Promise<FarExit> {
    return new Promise((resolve) => {
      let exitStatus: number | null = null
      let signal: string | null = null
      this.#channel.once('exit', (code: number | null, name?: string) => {
        exitStatus = code
        signal = name ?? null
      })
      // Comes after the end of stdout and stderr, also when the socket breaks.
      this.#channel.once('close', () => {
        this.output.destroy()
        stderrTail.end()
        this.#route.close().catch(() => {})
        resolve({ exitStatus, signal, stderrTail: stderrTail.text() })
      })
    })
  }
}

function readableOf(channel: ClientChannel): Readable {
  const input = new Readable({
    highWaterMark: BUFFER_BYTES,
    read: () => {
      channel.resume()
    },
  })
  const window = widenWindow(channel, input)
  channel.on('data', (chunk: Buffer) => {
    if (!input.destroyed && !input.push(chunk)) channel.pause()
    window?.giveBack()
  })
  channel.once('end', () => input.push(null))
  channel.pause()
  return input
}

/**
 * The library opens the window again for each piece of stderr, also while nobody reads stdout, and it takes what a server
 * sends without a window. Then the socket is not read until the reader has caught up.
 */
function boundUnread(channel: ClientChannel, stream: Duplex): void {
  let waiting = false
  stream.on('data', () => {
    if (waiting || channel.readableLength <= MAX_UNREAD_BYTES) return
    waiting = true
    stream.pause()
  })
  channel.on('data', () => {
    if (!waiting || channel.readableLength > MAX_UNREAD_BYTES / 2) return
    waiting = false
    stream.resume()
  })
}

/** The library forgets the callback of a write when the channel closes; a writer must hear of it all the same. */
function writableOf(channel: ClientChannel): Writable {
  let pending: ((error?: Error | null) => void) | null = null
  const settle = (error?: Error | null): void => {
    const callback = pending
    pending = null
    callback?.(error)
  }
  const output = new Writable({
    highWaterMark: BUFFER_BYTES,
    write(chunk: Buffer, _encoding, callback) {
      if (!channel.writable) {
        callback(new Error('the channel is closed'))
        return
      }
      pending = callback
      channel.write(chunk, settle)
    },
    final(callback) {
      channel.end()
      callback()
    },
    destroy(error, callback) {
      settle(error ?? new Error('the channel is closed'))
      callback(error)
    },
  })
  return output
}
