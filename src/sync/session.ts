// The near end's side of a connection: transport, banners, channel, and the questions asked of the far end before a
// pass. Turns every way a session can end into the one error a user should see.

import { randomBytes } from 'node:crypto'

import { availableCodecs } from '../codec/open.js'
import type { AlgorithmName } from '../digest/digester.js'
import { SEED_BYTES } from '../digest/digester.js'
import { availableAlgorithms } from '../digest/open.js'
import { SyncError, toSyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import type { SyncOptions } from '../options.js'
import type { Connection, FarSide } from '../transport/transport.js'
import { Channel } from '../wire/channel.js'
import type { OpenedMessage, OpenMessage } from '../wire/control.js'
import { decodeMark, encodeMark, encodeRate } from '../wire/bodies.js'
import { decodeInvited, decodeOpened, encodeOpen } from '../wire/control.js'
import { FRAME, frameName, type FrameType, protocolError } from '../wire/frame.js'
import type { Banner } from '../wire/handshake.js'
import { agreeVersion, encodeBanner, ownBanner, readBanner } from '../wire/handshake.js'
import type { RunHooks } from './report.js'
import { startFar } from './start-far.js'

/** How long the far end may take to flush and go after its input ended. */
export const GOODBYE_TIMEOUT_MS = 30_000

export class Session implements AsyncDisposable {
  readonly connection: Connection
  readonly channel: Channel
  readonly far: Banner
  readonly protocol: number
  /** One seed for every pass of the session that compares content for the first time. */
  readonly seed: Uint8Array

  /** Who waits for an answer that comes at any time, in the order of asking. */
  readonly #asked = new Map<FrameType, ((body: Buffer) => void)[]>()

  constructor(connection: Connection, channel: Channel, far: Banner, protocol: number, seed: Uint8Array) {
    this.connection = connection
    this.channel = channel
    this.far = far
    this.protocol = protocol
    this.seed = seed
    channel.onAside = ({ type, body }) => {
      const answer = this.#asked.get(type)?.shift()
      if (answer === undefined) throw protocolError(`${frameName(type)} frame that nobody asked for`)
      answer(body)
    }
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
    const answer = this.#ask(FRAME.pong)
    this.channel.post(FRAME.ping, 0, Buffer.alloc(8))
    await answer
    return performance.now() - startMs
  }

  /** What admits further lanes to the disks that are open in this session. */
  async invite(): Promise<string> {
    const answer = this.#ask(FRAME.invited)
    this.channel.post(FRAME.invite, 0)
    return decodeInvited(await answer).lane
  }

  /** Asks the far source to end its pass over `disk` at `block`; resolves with where it will (SourceHandle.limitTo). */
  async limit(disk: number, block: number): Promise<number> {
    const answer = this.#ask(FRAME.limited)
    this.channel.post(FRAME.limit, disk, encodeMark(block))
    return decodeMark(await answer)
  }

  /** The rate at which the far source may send from now on. */
  setRate(bytesPerSecond: number | null): void {
    this.channel.post(FRAME.rate, 0, encodeRate(bytesPerSecond))
  }

  /** The body of the next answer of a type; rejects when the channel fails. */
  #ask(type: FrameType): Promise<Buffer> {
    const { failed } = this.channel
    return new Promise((resolve, reject) => {
      const onFail = (): void => reject(toSyncError(failed.reason))
      if (failed.aborted) return onFail()
      failed.addEventListener('abort', onFail, { once: true })
      const waiting = this.#asked.get(type) ?? []
      this.#asked.set(type, waiting)
      waiting.push((body) => {
        failed.removeEventListener('abort', onFail)
        resolve(body)
      })
    })
  }

  /** Ends a session that did all it was to do. Rejects where the far end does not end well. */
  async goodbye(): Promise<void> {
    this.channel.post(FRAME.bye, 0)
    this.channel.end()
    const exit = await within(this.connection.exit, GOODBYE_TIMEOUT_MS)
    if (exit === null) {
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
    const error = toSyncError(thrown)
    const isLost = error.code === 'session/lost'
    if (error === this.channel.peerError || isLost) this.channel.end()
    else this.channel.postError(error)
    this.channel.drain()
    const exit = await within(this.connection.exit, GOODBYE_TIMEOUT_MS)
    if (exit === null) this.connection.kill()
    const { peerError } = this.channel
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
    return await greet(connection, native, seed, hooks)
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
    encodeBanner(ownBanner('client', native !== null, availableAlgorithms(native), availableCodecs())),
  )
  return new Session(
    connection,
    new Channel(connection.input, connection.output, rest),
    banner,
    protocol,
    seed,
  )
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

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      promise,
      new Promise<null>((resolve) => (timer = setTimeout(() => resolve(null), timeoutMs))),
    ])
  } finally {
    clearTimeout(timer)
  }
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
