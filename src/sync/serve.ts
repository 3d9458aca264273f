// The far end of a session: the client's frames come in over stdin, disks are opened and passes run as it asks. One
// client, one session; it ends with its input. Refuses passes over disks it did not open for them.

import type { Readable, Writable } from 'node:stream'

import { availableAlgorithms, createDigester } from '../digest/open.js'
import type { Digester } from '../digest/digester.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { openEndpoint } from '../endpoint/open.js'
import { EXIT, SyncError, toSyncError } from '../errors.js'
import { loadNative, type NativeCore } from '../native.js'
import { type NativeMode, syncOptions } from '../options.js'
import { Channel } from '../wire/channel.js'
import {
  decodeOpen,
  decodeStart,
  encodeControl,
  type OpenMessage,
  type StartMessage,
} from '../wire/control.js'
import type { Frame } from '../wire/frame.js'
import { FRAME, frameName, protocolError } from '../wire/frame.js'
import { agreeVersion, encodeBanner, ownBanner, readBanner } from '../wire/handshake.js'
import { runDestination } from './destination.js'
import { runSource } from './source.js'
import { Throttle } from './throttle.js'

export type ServeOptions = { native: NativeMode; signal: AbortSignal }

type OpenDisk = { request: OpenMessage; endpoint: Endpoint; isBegun: boolean }

/** Serves one session over the two streams. Resolves with the exit status; rejects only where there is nobody to tell. */
export async function serve(input: Readable, output: Writable, options: ServeOptions): Promise<number> {
  const core = loadNative(options.native)
  // A client that went away also ends our input, which is where it is noticed. Listened for from the start: the
  // standard output forgets that it has finished as soon as it has said so.
  const settled = new Promise<void>((resolve) => {
    output
      .once('finish', resolve)
      .once('close', resolve)
      .on('error', () => resolve())
  })
  output.write(encodeBanner(ownBanner('server', core !== null, availableAlgorithms(core))))
  const greeting = await readBanner(input, 'client', 'the client')
  if (greeting === null) return EXIT.lost
  agreeVersion(greeting.banner, 'the client')
  const channel = new Channel(input, output, greeting.rest)
  const session = new ServeSession(channel, core)
  const onAbort = (): void => channel.fail(toSyncError(options.signal.reason))
  options.signal.addEventListener('abort', onAbort, { once: true })
  if (options.signal.aborted) onAbort()
  try {
    await session.run()
    return EXIT.ok
  } catch (thrown) {
    const error = toSyncError(thrown)
    // The client's own error needs no telling.
    if (error !== channel.peerError) channel.postError(error)
    return error.exitStatus
  } finally {
    options.signal.removeEventListener('abort', onAbort)
    await session.close()
    channel.end()
    await settled
  }
}

class ServeSession {
  readonly #channel: Channel
  readonly #native: NativeCore | null
  readonly #disks = new Map<number, OpenDisk>()
  #throttle: Throttle | null = null

  constructor(channel: Channel, native: NativeCore | null) {
    this.#channel = channel
    this.#native = native
  }

  async run(): Promise<void> {
    for (;;) {
      const frame = await this.#channel.receive()
      if (frame.type === FRAME.bye) return
      if (frame.type === FRAME.open) await this.#open(frame)
      else if (frame.type === FRAME.start) await this.#start(frame)
      else throw protocolError(`${frameName(frame.type)} frame outside a pass`)
    }
  }

  /** One bucket for all passes of the session. */
  #throttleFor({ bytesPerSecond }: StartMessage): Throttle | null {
    if (bytesPerSecond === null) return null
    this.#throttle ??= new Throttle(bytesPerSecond)
    return this.#throttle
  }

  async close(): Promise<void> {
    const closing = Array.from(this.#disks.values(), async (disk) => {
      if (!disk.isBegun) await disk.endpoint.takeBack()
      await disk.endpoint.close()
    })
    const failed = (await Promise.allSettled(closing)).find(({ status }) => status === 'rejected')
    if (failed?.status === 'rejected') throw failed.reason
  }

  async #open(frame: Frame): Promise<void> {
    if (this.#disks.has(frame.disk)) throw protocolError(`disk ${frame.disk} opened twice`)
    const request = decodeOpen(frame.body)
    const endpoint = await openEndpoint(request, this.#native)
    this.#disks.set(frame.disk, { request, endpoint, isBegun: false })
    this.#channel.post(FRAME.opened, frame.disk, encodeControl(endpoint.info))
  }

  async #start(frame: Frame): Promise<void> {
    const disk = this.#disks.get(frame.disk)
    if (disk === undefined) throw protocolError(`start of disk ${frame.disk}, which is not open`)
    const start = decodeStart(frame.body)
    const digester = await sessionDigester(start, this.#native)
    disk.isBegun = true
    const { endpoint, request } = disk
    const { mode, lengthBytes } = start
    if (mode === 'write' && request.role === 'destination' && request.access !== 'write') {
      throw protocolError(`disk ${frame.disk} is open for reading only`)
    }
    const channel = this.#channel
    const pass = { channel, disk: frame.disk, endpoint, digester, mode, lengthBytes, operand: request.path }
    if (request.role === 'destination') {
      await prepareDestination(endpoint, start)
      await runDestination(pass)
    } else {
      await runSource({ ...pass, throttle: this.#throttleFor(start), scan: null })
    }
  }
}

/** The digester a start message asks for, its numbers checked. */
export async function sessionDigester(start: StartMessage, native: NativeCore | null): Promise<Digester> {
  const { algorithm, seed, blockBytes, leafBytes } = start
  try {
    syncOptions({ blockBytes, granularityBytes: leafBytes })
  } catch (thrown) {
    throw protocolError(`start frame: ${toSyncError(thrown).message}`)
  }
  return await createDigester({ algorithm, seed, geometry: { blockBytes, leafBytes } }, native)
}

/** Lengthens the destination where that was agreed, and refuses a pass over more than it has. */
export async function prepareDestination(endpoint: Endpoint, start: StartMessage): Promise<void> {
  const { sizeBytes, path } = endpoint.info
  const { mode, destinationBytes, lengthBytes } = start
  if (mode === 'write' && destinationBytes > sizeBytes) await endpoint.grow(destinationBytes)
  if (lengthBytes > (mode === 'write' ? destinationBytes : sizeBytes)) {
    throw new SyncError(
      'guard/size',
      `${path} has ${sizeBytes} bytes, ${lengthBytes} were to be written; nothing was written`,
      {
        operand: path,
      },
    )
  }
}
