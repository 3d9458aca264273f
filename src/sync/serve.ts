// The far end of a session: the client's frames come in over stdin, disks are opened and passes run as it asks. One
// client, one session; it ends with its input. Refuses passes over disks it did not open for them.

import type { Readable, Writable } from 'node:stream'

import { availableCodecs } from '../codec/open.js'
import { availableAlgorithms, createDigester } from '../digest/open.js'
import type { Digester, Range } from '../digest/digester.js'
import { SECTION_BYTES } from '../digest/root.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { openEndpoint } from '../endpoint/open.js'
import { EXIT, SyncError, toSyncError } from '../errors.js'
import type { Gate } from '../guard/gate.js'
import type { Membership } from '../guard/membership.js'
import { loadNative, type NativeCore } from '../native.js'
import { type NativeMode, syncOptions } from '../options.js'
import { decodeMark, decodeRate, encodeMark } from '../wire/bodies.js'
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
import { openCompressor } from './compression.js'
import { beginSource, type SourceHandle } from './source.js'
import { Throttle } from '../rate/throttle.js'

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
  output.write(encodeBanner(ownBanner('server', core !== null, availableAlgorithms(core), availableCodecs())))
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
  /** The passes of disks that are sources here, also those that have ended: `limit` may cross their end. */
  readonly #sources = new Map<number, SourceHandle>()
  /** A limit that came while the pass was being begun. */
  readonly #early = new Map<number, number>()
  /** One bucket for all passes of the session. */
  readonly #throttle = new Throttle(null)
  /** In the first lane of a run: where further ones come in. */
  #gate: Promise<Gate> | null = null
  /** In a further lane: that it may write to what the first one claimed. */
  #membership: Membership | null = null

  constructor(channel: Channel, native: NativeCore | null) {
    this.#channel = channel
    this.#native = native
    channel.onAside = (frame) => this.#aside(frame)
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

  async close(): Promise<void> {
    // Lanes stop before the claim is given up, and the first lane waits for them.
    const gate = this.#gate
    await Promise.allSettled([gate?.then((open) => open[Symbol.asyncDispose]())])
    const closing = Array.from(this.#disks.values(), async (disk) => {
      if (!disk.isBegun) await disk.endpoint.takeBack()
      await disk.endpoint.close()
    })
    const failed = (await Promise.allSettled(closing)).find(({ status }) => status === 'rejected')
    await this.#membership?.leave()
    if (failed?.status === 'rejected') throw failed.reason
  }

  /** Frames that come at any time, also while a pass runs. */
  #aside({ type, disk, body }: Frame): void {
    if (type === FRAME.rate) this.#throttle.setRate(decodeRate(body))
    else if (type === FRAME.limit) {
      if (this.#disks.get(disk)?.request.role !== 'source' || this.#early.has(disk))
        throw protocolError(`limit of disk ${disk} out of turn`)
      this.#early.set(disk, decodeMark(body))
      this.#limit(disk)
    } else if (type === FRAME.invite) {
      if (this.#gate !== null) throw protocolError('a second invite')
      this.#gate = this.#invite()
      this.#gate.catch((error: unknown) => this.#channel.fail(toSyncError(error)))
    } else throw protocolError(`${frameName(type)} frame from a client`)
  }

  #limit(disk: number): void {
    const source = this.#sources.get(disk)
    const block = this.#early.get(disk)
    if (source === undefined || block === undefined) return
    this.#early.delete(disk)
    this.#channel.post(FRAME.limited, disk, encodeMark(source.limitTo(block)))
  }

  async #invite(): Promise<Gate> {
    const { openGate } = await import('../guard/gate.js')
    const gate = await openGate()
    for (const { request, endpoint } of this.#disks.values()) admit(gate, request, endpoint)
    this.#channel.post(FRAME.invited, 0, encodeControl({ lane: gate.token }))
    return gate
  }

  async #open(frame: Frame): Promise<void> {
    if (this.#disks.has(frame.disk)) throw protocolError(`disk ${frame.disk} opened twice`)
    const request = decodeOpen(frame.body)
    const endpoint = await this.#openAs(request)
    this.#disks.set(frame.disk, { request, endpoint, isBegun: false })
    if (this.#gate !== null) admit(await this.#gate, request, endpoint)
    this.#channel.post(FRAME.opened, frame.disk, encodeControl(endpoint.info))
  }

  /** A further lane shares what the first one claimed: it must know the run's secret, and have opened the same disk. */
  async #openAs({ lane, ...request }: OpenMessage): Promise<Endpoint> {
    if (lane === null) return await openEndpoint({ ...request, claim: 'exclusive' }, this.#native)
    const { joinRun, checkAdmitted } = await import('../guard/membership.js')
    if (this.#membership === null) {
      this.#membership = await joinRun(lane)
      // The claim is gone: what is under way is ended before anything more is written.
      this.#membership.lost.then((error) => this.#channel.fail(error)).catch(() => undefined)
    }
    const facts = await this.#membership.disk(request.path)
    const endpoint = await openEndpoint({ ...request, claim: 'shared' }, this.#native)
    try {
      checkAdmitted(request.path, facts, endpoint.info.identity)
      return endpoint
    } catch (error) {
      await endpoint.close()
      throw error
    }
  }

  async #start(frame: Frame): Promise<void> {
    const disk = this.#disks.get(frame.disk)
    if (disk === undefined) throw protocolError(`start of disk ${frame.disk}, which is not open`)
    const start = decodeStart(frame.body)
    const digester = await sessionDigester(start, this.#native)
    disk.isBegun = true
    this.#sources.delete(frame.disk)
    const { endpoint, request } = disk
    const { mode } = start
    if (mode === 'write' && request.role === 'destination' && request.access !== 'write') {
      throw protocolError(`disk ${frame.disk} is open for reading only`)
    }
    const range = startRange(start)
    const pass = { channel: this.#channel, disk: frame.disk, endpoint, digester, mode, range }
    if (request.role === 'destination') {
      await prepareDestination(endpoint, start)
      await runDestination({ ...pass, operand: request.path })
    } else {
      if (start.bytesPerSecond !== null) this.#throttle.setRate(start.bytesPerSecond)
      const compressor = await openCompressor(start.compression, this.#throttle)
      const source = beginSource({ ...pass, throttle: this.#throttle, compressor, scan: null })
      this.#sources.set(frame.disk, source)
      this.#limit(frame.disk)
      await source.done
    }
  }
}

/** Lets further lanes share a disk that is open here for writing. */
function admit(gate: Gate, { path, role, access }: OpenMessage, { info }: Endpoint): void {
  if (role === 'destination' && access === 'write') gate.admit(path, info.identity)
}

/** The range of a start message. Throws session/protocol where it does not begin a section. */
function startRange({ offsetBytes: offset, lengthBytes: length }: StartMessage): Range {
  if (offset % SECTION_BYTES !== 0 || !Number.isSafeInteger(offset + length))
    throw protocolError(`start frame for ${offset}+${length}, not from a section on`)
  return { offset, length }
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
  const { mode, destinationBytes, offsetBytes, lengthBytes } = start
  if (mode === 'write' && destinationBytes > sizeBytes) await endpoint.grow(destinationBytes)
  const endBytes = offsetBytes + lengthBytes
  if (endBytes > (mode === 'write' ? destinationBytes : sizeBytes)) {
    throw new SyncError(
      'guard/size',
      `${path} has ${sizeBytes} bytes, ${endBytes} were to be written; nothing was written`,
      {
        operand: path,
      },
    )
  }
}
