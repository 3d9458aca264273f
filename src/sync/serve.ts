// The far end of a session: the client's frames come in over stdin, disks are opened and passes run as it asks. One
// client, one session; it ends with its input. Refuses passes over disks it did not open for them.

import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'

import { availableCodecs } from '../codec/open.js'
import { availableAlgorithms } from '../digest/open.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { EXIT, toSyncError } from '../errors.js'
import type { Gate } from '../guard/gate.js'
import { ownProcessName } from '../guard/holders.js'
import type { Membership } from '../guard/membership.js'
import type { Restriction } from '../guard/restrict.js'
import { Survey } from '../guard/survey.js'
import { loadNative, type NativeCore } from '../native.js'
import type { NativeMode } from '../options.js'
import { ownStatePath } from '../state/directory.js'
import { HostState } from '../state/state.js'
import { decodeMark, decodeRate, encodeMark } from '../wire/bodies.js'
import { Channel } from '../wire/channel.js'
import {
  decodeOpen,
  decodeStart,
  encodeControl,
  encodeOpened,
  type OpenMessage,
  type StartMessage,
} from '../wire/control.js'
import type { Frame } from '../wire/frame.js'
import { FRAME, frameName, protocolError } from '../wire/frame.js'
import { decodeRecord } from '../wire/known.js'
import { SILENCE_TIMEOUT_MS } from '../wire/keepalive.js'
import { agreeVersion, encodeBanner, ownBanner, readBanner } from '../wire/handshake.js'
import { FarBond } from './bond-far.js'
import { openCompressor } from './compression.js'
import type { UndoLimits } from './keep-undo.js'
import { closeDisks, type OpenDisk, openDisk } from './open-disk.js'
import { sessionDigester, startRange } from './prepare.js'
import { serveDestination } from './serve-destination.js'
import { beginSource, type SourceHandle } from './source.js'
import { Throttle } from '../rate/throttle.js'

/** `stateDir`: null is the default of this host (ownStatePath). `undo`: where undo journals go, and their bound. */
/** For words to a client of which nothing was heard any more. */
const LAST_WORDS_MS = 500

export type ServeOptions = {
  native: NativeMode
  stateDir: string | null
  undo: UndoLimits
  /** What the key of the client is allowed; null is everything that this user may open. */
  restriction: Restriction | null
  /** How disks are opened; absent is openDisk. For disks that are none (test/fuzz). */
  openDisk?: typeof openDisk
  signal: AbortSignal
}

/** A client waits for each record; each takes a few flushes. */
const MAX_WAITING_RECORDS = 16

type ServedDisk = Readonly<{ request: OpenMessage; open: OpenDisk }>

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
  output.write(
    encodeBanner(
      ownBanner('server', core !== null, availableAlgorithms(core), availableCodecs(), ownProcessName()),
    ),
  )
  const greeting = await readBanner(input, 'client', 'the client')
  if (greeting === null) return EXIT.lost
  agreeVersion(greeting.banner, 'the client')
  const survey = new Survey(core)
  // the client measures the line now; what it asks for comes after that
  survey.begin()
  const channel = new Channel(input, output, greeting.rest)
  channel.keepAlive(greeting.banner.timeoutMs ?? SILENCE_TIMEOUT_MS, 'the client')
  const state = HostState.open(ownStatePath(options.stateDir))
  const session = new ServeSession(channel, core, survey, state, {
    ...options,
    peerProcess: greeting.banner.process,
  })
  const bond = new FarBond(channel, input, output)
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
    bond.close()
    await session.close()
    channel.end()
    // one that does not read would never have it all
    if (!channel.isSilent) await settled
    else await Promise.race([settled, delay(LAST_WORDS_MS)]).finally(() => output.destroy())
    bond.destroy()
  }
}

class ServeSession {
  readonly #channel: Channel
  readonly #native: NativeCore | null
  readonly #disks = new Map<number, ServedDisk>()
  readonly #survey: Survey
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
  readonly #state: Promise<HostState>
  readonly #undoLimits: UndoLimits
  readonly #restriction: Restriction | null
  readonly #openDisk: typeof openDisk
  /** The client, where it is on this machine. */
  readonly #peerProcess: string | null
  /** Records are written one after the other, and so are the answers. */
  #recording: Promise<void> = Promise.resolve()
  #recordsWaiting = 0

  constructor(
    channel: Channel,
    native: NativeCore | null,
    survey: Survey,
    state: Promise<HostState>,
    {
      undo,
      restriction,
      peerProcess,
      openDisk: opening = openDisk,
    }: Pick<ServeOptions, 'undo' | 'restriction' | 'openDisk'> & { peerProcess: string | null },
  ) {
    this.#channel = channel
    this.#native = native
    this.#survey = survey
    this.#state = state
    this.#undoLimits = undo
    this.#restriction = restriction
    this.#openDisk = opening
    this.#peerProcess = peerProcess
    state.catch(() => undefined) // who opens a disk hears of it
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
    await Promise.allSettled([gate?.then((open) => open[Symbol.asyncDispose]()), this.#recording])
    try {
      await closeDisks(Array.from(this.#disks.values(), ({ open }) => open))
    } finally {
      await this.#membership?.leave()
    }
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
    } else if (type === FRAME.record) this.#record(disk, body)
    else throw protocolError(`${frameName(type)} frame from a client`)
  }

  #record(disk: number, body: Buffer): void {
    const open = this.#disks.get(disk)?.open
    if (open?.isBegun !== true) throw protocolError(`record of disk ${disk} out of turn`)
    const record = decodeRecord(body)
    if (this.#recordsWaiting === MAX_WAITING_RECORDS)
      throw protocolError('records sent faster than they are kept')
    this.#recordsWaiting += 1
    const recording = this.#recording.then(async () => {
      const unclosed = (await open.undo?.finish()) ?? null
      const failure = (await open.keeper.finish(record)) ?? unclosed
      this.#recordsWaiting -= 1
      this.#channel.post(FRAME.recorded, disk, encodeControl({ failure }))
    })
    this.#recording = recording
    recording.catch((error: unknown) => this.#channel.fail(toSyncError(error)))
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
    for (const { request, open } of this.#disks.values()) admit(gate, request, open.endpoint)
    this.#channel.post(FRAME.invited, 0, encodeControl({ lane: gate.token }))
    return gate
  }

  async #open(frame: Frame): Promise<void> {
    if (this.#disks.has(frame.disk)) throw protocolError(`disk ${frame.disk} opened twice`)
    const request = decodeOpen(frame.body)
    const open = await this.#openAs(request)
    const { endpoint, warnings, known } = open
    const undo = open.undo?.report ?? null
    this.#disks.set(frame.disk, { open, request })
    if (this.#gate !== null) admit(await this.#gate, request, endpoint)
    this.#channel.post(FRAME.opened, frame.disk, encodeOpened({ ...endpoint.info, warnings, known, undo }))
  }

  /** A further lane shares what the first one claimed: it must know the run's secret, and have opened the same disk. */
  async #openAs({ lane, ...request }: OpenMessage): Promise<OpenDisk> {
    const context = {
      native: this.#native,
      survey: this.#survey,
      state: await this.#state,
      undo: this.#undoLimits,
      restriction: this.#restriction,
      peerProcess: this.#peerProcess,
      signal: this.#channel.failed,
    }
    if (lane === null) return await this.#openDisk({ ...request, lane: 'first' }, context)
    const { joinRun, checkAdmitted } = await import('../guard/membership.js')
    if (this.#membership === null) {
      this.#membership = await joinRun(lane)
      // The claim is gone: what is under way is ended before anything more is written.
      this.#membership.lost.then((error) => this.#channel.fail(error)).catch(() => undefined)
    }
    const facts = await this.#membership.disk(request.path)
    const open = await this.#openDisk({ ...request, lane: 'further' }, context)
    try {
      checkAdmitted(request.path, facts, open.endpoint.info.identity)
      return open
    } catch (error) {
      await open[Symbol.asyncDispose]()
      throw error
    }
  }

  async #checkRange(
    restriction: Restriction,
    { request, open }: ServedDisk,
    start: StartMessage,
  ): Promise<void> {
    if (request.role === 'source') return
    const { sizeBytes } = open.endpoint.info
    const sizeThen = start.mode === 'write' ? Math.max(sizeBytes, start.destinationBytes) : sizeBytes
    const { checkRange } = await import('../guard/restrict.js')
    checkRange(restriction, request.path, start.offsetBytes + start.lengthBytes, sizeThen)
  }

  async #start(frame: Frame): Promise<void> {
    const disk = this.#disks.get(frame.disk)
    if (disk === undefined) throw protocolError(`start of disk ${frame.disk}, which is not open`)
    const start = decodeStart(frame.body)
    const digester = await sessionDigester(start, this.#native)
    const { open, request } = disk
    const { endpoint } = open
    open.isBegun = true
    this.#sources.delete(frame.disk)
    const { mode } = start
    if (mode === 'write' && request.role === 'destination' && request.access !== 'write') {
      throw protocolError(`disk ${frame.disk} is open for reading only`)
    }
    const range = startRange(start)
    if (this.#restriction !== null) await this.#checkRange(this.#restriction, disk, start)
    const pass = { channel: this.#channel, disk: frame.disk, endpoint, digester, mode, range }
    if (request.role === 'destination') {
      // what is kept of the leaves is that of one lane
      const keepsLeaves = (): boolean => this.#gate === null
      const state = await this.#state
      await serveDestination({ ...pass, operand: request.path }, open, start, {
        native: this.#native,
        state,
        keepsLeaves,
      })
    } else {
      if (start.bytesPerSecond !== null) this.#throttle.setRate(start.bytesPerSecond)
      const compressor = await openCompressor(start.compression, this.#throttle)
      const { badSectors } = start
      const source = beginSource({ ...pass, throttle: this.#throttle, compressor, scan: null, badSectors })
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
