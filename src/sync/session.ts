// The near end's side of a connection: transport, banners, channel, and the questions asked of the far end before a
// pass. Turns every way a session can end into the one error a user should see.

import { randomBytes } from 'node:crypto'

import { availableCodecs } from '../codec/open.js'
import type { AlgorithmName } from '../digest/digester.js'
import { SEED_BYTES } from '../digest/digester.js'
import { availableAlgorithms } from '../digest/open.js'
import { SyncError, toSyncError } from '../errors.js'
import { ownProcessName } from '../guard/holders.js'
import type { NativeCore } from '../native.js'
import type { SyncOptions } from '../options.js'
import type { Connection, FarSide } from '../transport/transport.js'
import { Channel } from '../wire/channel.js'
import type { OpenedMessage, OpenMessage } from '../wire/control.js'
import { decodeMark, encodeMark, encodeRate } from '../wire/bodies.js'
import { decodeInvited, decodeOpened, encodeControl, encodeOpen } from '../wire/control.js'
import { SILENCE_TIMEOUT_MS } from '../wire/keepalive.js'
import { FRAME } from '../wire/frame.js'
import type { Banner } from '../wire/handshake.js'
import { decodeRecorded, type RecordMessage } from '../wire/known.js'
import { agreeVersion, encodeBanner, ownBanner, readBanner } from '../wire/handshake.js'
import { Answers } from './answers.js'
import type { RunHooks } from './report.js'
import { startFar } from './start-far.js'
import { within } from '../within.js'

/** How long the far end may take to flush and go after its input ended. */
export const GOODBYE_TIMEOUT_MS = 30_000
/** How long one of which nothing was heard any more gets to go by itself. */
const SILENT_GOODBYE_MS = 1000

export class Session implements AsyncDisposable {
  readonly connection: Connection
  readonly channel: Channel
  readonly far: Banner
  readonly protocol: number
  /** One seed for every pass of the session that compares content for the first time. */
  readonly seed: Uint8Array
  /** What is asked at any time, also while a pass runs. */
  readonly answers: Answers
  /** Streams that it goes over: several once it is bonded. */
  members = 1
  /** Aborted when it has failed, or is about to end: nothing new is to be begun in it. */
  readonly ending: AbortSignal

  readonly #closing = new AbortController()
  readonly #timeoutMs: number
  /** It was said goodbye to and did not go: not waited for a second time. */
  #isStuck = false

  /** `timeoutMs`: for how long the far end may be silent; 0 is for ever. */
  constructor(
    connection: Connection,
    channel: Channel,
    far: Banner,
    protocol: number,
    seed: Uint8Array,
    timeoutMs = 0,
  ) {
    this.#timeoutMs = timeoutMs
    this.connection = connection
    this.channel = channel
    this.far = far
    this.protocol = protocol
    this.seed = seed
    this.ending = AbortSignal.any([channel.failed, this.#closing.signal])
    this.answers = new Answers(channel)
  }

  /** Asks for a disk; the answer is taken by `opened`, in order, so that several can be asked for at once. */
  open(disk: number, message: OpenMessage): void {
    this.channel.post(FRAME.open, disk, encodeOpen(message))
  }

  async opened(): Promise<OpenedMessage> {
    const frame = await this.channel.expect(FRAME.opened)
    return decodeOpened(frame.body)
  }

  /** Measures one round trip, in milliseconds. */
  async roundTripMs(): Promise<number> {
    const startMs = performance.now()
    await this.answers.ask(FRAME.ping, FRAME.pong, Buffer.alloc(8))
    return performance.now() - startMs
  }

  /** What admits further lanes to the disks that are open in this session. */
  async invite(): Promise<string> {
    return decodeInvited(await this.answers.ask(FRAME.invite, FRAME.invited)).lane
  }

  /** Asks the far source to end its pass over `disk` at `block`; resolves with where it will (SourceHandle.limitTo). */
  async limit(disk: number, block: number): Promise<number> {
    return decodeMark(await this.answers.ask(FRAME.limit, FRAME.limited, encodeMark(block), disk))
  }

  /** Has the far end keep a record of a disk that is done; resolves with why it could not, or null. */
  async record(disk: number, message: RecordMessage): Promise<string | null> {
    const answer = await this.answers.ask(FRAME.record, FRAME.recorded, encodeControl(message), disk)
    return decodeRecorded(answer).failure
  }

  /** The rate at which the far source may send from now on. */
  setRate(bytesPerSecond: number | null): void {
    this.channel.post(FRAME.rate, 0, encodeRate(bytesPerSecond))
  }

  /** Ends a session that did all it was to do. Rejects where the far end does not end well. */
  async goodbye(): Promise<void> {
    this.#closing.abort()
    this.channel.post(FRAME.bye, 0)
    this.channel.end()
    // nothing is flushed any more, and nobody listens for silence behind the goodbye
    const patienceMs = Math.min(GOODBYE_TIMEOUT_MS, this.#timeoutMs || GOODBYE_TIMEOUT_MS)
    const exit = await within(this.connection.exit, patienceMs)
    if (exit === null) {
      this.#isStuck = true
      throw new SyncError('session/lost', `blocksync on ${this.connection.peerName} did not end`, {
        operand: this.connection.peerName,
      })
    }
    if (exit.exitStatus !== 0) throw this.connection.explain(exit, 'banner-seen')
  }

  /**
   * The error to report after `thrown`. Tells the far end, waits until it has flushed and gone (and ends it if it does
   * not), and hears what it said meanwhile: why the connection was lost, or that what it had acknowledged did not reach
   * its disk, which no interruption may hide.
   */
  async giveUp(thrown: unknown): Promise<SyncError> {
    this.#closing.abort()
    const error = toSyncError(thrown)
    const isLost = error.code === 'session/lost'
    if (error === this.channel.peerError || isLost) this.channel.end()
    else this.channel.postError(error)
    this.channel.drain()
    const isSilent = this.channel.isSilent || this.#isStuck
    const exit = await within(this.connection.exit, isSilent ? SILENT_GOODBYE_MS : GOODBYE_TIMEOUT_MS)
    if (exit === null) this.connection.kill()
    const { peerError } = this.channel
    if (isSilent && isLost) return peerError ?? error
    if (isLost && error !== peerError) {
      if (peerError !== null) return peerError
      return exit === null ? error : this.connection.explain(exit, 'banner-seen')
    }
    if (!isInterrupt(error)) return error
    if (peerError?.code.startsWith('destination/') === true) return peerError
    return exit === null ? unconfirmed(error, this.connection.peerName) : error
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.connection[Symbol.asyncDispose]()
  }
}

/**
 * Starts the far end and exchanges banners. Rejects with the connect/* error that says why there is no session, or with
 * the reason of `hooks.signal` as soon as that is aborted; nothing stays behind then.
 */
export async function openSession(
  far: FarSide,
  options: SyncOptions,
  native: NativeCore | null,
  seed: Uint8Array,
  hooks: RunHooks,
): Promise<Session> {
  const { signal } = hooks
  const starting =
    hooks.takeConnection?.() ?? startFar(far, options, native, hooks.onStderrLine ?? ignoreLine)
  const connection = await unlessAborted(starting, signal)
  const onAbort = (): void => connection.kill()
  signal?.addEventListener('abort', onAbort, { once: true })
  try {
    if (signal?.aborted === true) onAbort()
    return await greet(connection, native, seed, options.timeoutMs, hooks)
  } catch (error) {
    await connection[Symbol.asyncDispose]()
    signal?.throwIfAborted()
    throw error
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

/** The connection, or the signal's reason; a connection that comes too late is ended. */
async function unlessAborted(
  starting: Promise<Connection>,
  signal: AbortSignal | undefined,
): Promise<Connection> {
  if (signal === undefined) return await starting
  const aborted = new AbortController()
  try {
    return await Promise.race([
      starting,
      new Promise<never>((_, reject) => {
        const onAbort = (): void => reject(toSyncError(signal.reason))
        signal.addEventListener('abort', onAbort, { once: true, signal: aborted.signal })
        if (signal.aborted) onAbort()
      }),
    ])
  } catch (error) {
    starting
      .then(
        (late) => late[Symbol.asyncDispose](),
        () => undefined, // it did not start: there is nothing to end, and the signal's reason is what counts
      )
      .catch(() => undefined)
    throw error
  } finally {
    aborted.abort()
  }
}

/** Banners both ways. Rejects with the connect/* error that says why there is no session. */
async function greet(
  connection: Connection,
  native: NativeCore | null,
  seed: Uint8Array,
  timeoutMs: number,
  hooks: RunHooks,
): Promise<Session> {
  connection.output.on('error', () => undefined) // shows as the end of the input, which is explained
  const greeting = await readBanner(connection.input, 'server', connection.peerName)
  if (greeting === null) {
    // Its output has ended; a far end that lives on all the same is ended, so that there is something to explain.
    if ((await within(connection.exit, GOODBYE_TIMEOUT_MS)) === null) connection.kill()
    throw connection.explain(await connection.exit, 'before-banner')
  }
  const { banner, noise, rest } = greeting
  const protocol = agreeVersion(banner, connection.peerName)
  if (noise !== '') {
    const firstLine = noise.split('\n')[0] ?? ''
    hooks.onWarning?.(
      `${connection.peerName} printed ${noise.length} bytes before the protocol began ("${firstLine.slice(0, 60)}"): ` +
        'a shell start-up file there writes to stdout; they were skipped',
    )
  }
  connection.output.write(
    encodeBanner(
      ownBanner(
        'client',
        native !== null,
        availableAlgorithms(native),
        availableCodecs(),
        ownProcessName(),
        timeoutMs === SILENCE_TIMEOUT_MS ? null : timeoutMs,
      ),
    ),
  )
  const channel = new Channel(connection.input, connection.output, rest)
  channel.keepAlive(
    timeoutMs,
    connection.kind === 'local' ? 'the local half of blocksync' : connection.peerName,
  )
  return new Session(connection, channel, banner, protocol, seed, timeoutMs)
}

/** A seed for one session: new each time, so that nobody can aim at digests in advance. */
export function newSeed(): Uint8Array {
  return randomBytes(SEED_BYTES)
}

/** The algorithm both ends use. Throws connect/capability where the far end lacks the one that was asked for. */
export function agreeAlgorithm(
  options: SyncOptions,
  native: NativeCore | null,
  session: Session,
): AlgorithmName {
  const { far, connection } = session
  if (options.native === 'require' && !far.native) {
    throw new SyncError(
      'connect/capability',
      `blocksync on ${connection.peerName} runs without its native core; nothing was opened`,
      {
        operand: connection.peerName,
        hint: `Type blocksync doctor ${connection.peerName} to see why, or drop --native require.`,
      },
    )
  }
  const ours = availableAlgorithms(native)
  const wanted = options.digest === 'auto' ? ours : [options.digest]
  const agreed = wanted.find((name) => ours.includes(name) && far.algorithms.includes(name))
  if (agreed === undefined) {
    throw new SyncError(
      'connect/capability',
      `digest ${wanted.join(', ')} is not available at both ends (here: ${ours.join(', ')}; ${connection.peerName}: ${far.algorithms.join(', ')}); nothing was opened`,
      { operand: connection.peerName, hint: 'Type --digest auto.' },
    )
  }
  return agreed
}

function isInterrupt({ code }: SyncError): boolean {
  return code === 'interrupt/sigint' || code === 'interrupt/sigterm'
}

/** An interruption after which nobody heard that the far end flushed. */
export function unconfirmed(interrupt: SyncError, peerName: string): SyncError {
  return new SyncError(
    interrupt.code,
    `interrupted; ${peerName} did not confirm that everything acknowledged is on disk (it flushes by itself when its input ends)`,
    { operand: peerName, hint: 'Run the same command again; it continues from what is there.' },
  )
}

function ignoreLine(): void {
  // nobody asked for the far end's stderr
}
