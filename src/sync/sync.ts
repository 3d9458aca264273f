// One run: pairs of disks and options in, a report out. Opens and checks every disk before the first byte is written,
// then runs one disk after the other over its lanes. The near end of what serve.ts is the far end of.

import pLimit from 'p-limit'

import { agreeCodec } from '../codec/open.js'
import type { Digester } from '../digest/digester.js'
import { createDigester, availableAlgorithms } from '../digest/open.js'
import type { Endpoint, EndpointInfo } from '../endpoint/endpoint.js'
import { openEndpoint } from '../endpoint/open.js'
import { SyncError, toSyncError } from '../errors.js'
import { checkApart, checkPair } from '../guard/pair.js'
import { loadNative, type NativeCore } from '../native.js'
import type { SyncOptions } from '../options.js'
import type { FarSide } from '../transport/transport.js'
import { type OpenPair, runDisk } from './disk-run.js'
import { Lanes } from './lanes.js'
import { LinkWatch } from './link-watch.js'
import { DiskMeter } from './meter.js'
import { ownWhereabouts } from '../rate/place.js'
import { openControl } from '../rate/socket.js'
import { RateControl, rateShare } from '../rate/control.js'
import type { DiskPair, DiskReport, RunHooks, RunReport } from './report.js'
import { Scan } from './scan.js'
import { agreeAlgorithm, newSeed, openSession, type Session, unconfirmed } from './session.js'
import { Throttle } from '../rate/throttle.js'

/** Disks being opened at the same time: waking a sleeping one takes seconds, and a run may have dozens. */
const disksAtOnce = pLimit(8)

/**
 * Makes each pair's destination equal to its source (or compares them, by `options.mode`), one after the other.
 * Never rejects: what went wrong is the report's `error`, with what was done until then.
 */
export async function sync(
  pairs: readonly DiskPair[],
  options: SyncOptions,
  hooks: RunHooks,
): Promise<RunReport> {
  const meters = pairs.map((pair, index) => new DiskMeter(pair, index, pairs.length, options, hooks))
  const report = (error: SyncError | null): RunReport => ({
    disks: meters.map((meter): DiskReport => meter.report()),
    error,
  })
  try {
    const run = new SyncRun(pairs, options, hooks, meters)
    await run.run()
    return report(null)
  } catch (thrown) {
    return report(toSyncError(thrown))
  }
}

class SyncRun {
  readonly #pairs: readonly DiskPair[]
  readonly #options: SyncOptions
  readonly #hooks: RunHooks
  readonly #meters: readonly DiskMeter[]
  /** Push: the source is here. Two local disks are a push to a local child. */
  readonly #push: boolean
  readonly #farSide: FarSide
  readonly #native: NativeCore | null
  /** For what is sent from here; a far source has its own, and is told of changes. */
  readonly #throttle = new Throttle(null)
  readonly #rate: RateControl
  /** Tells far sources of a new rate; there are none before a session is open. */
  #shareOut: () => void = () => undefined
  readonly #near: Endpoint[] = []
  /** Of these, the disks whose pass was begun. */
  readonly #begun = new Set<Endpoint>()
  #early: { scan: Scan; digester: Digester } | null = null

  constructor(
    pairs: readonly DiskPair[],
    options: SyncOptions,
    hooks: RunHooks,
    meters: readonly DiskMeter[],
  ) {
    const first = pairs[0]
    if (first === undefined) throw new SyncError('usage', 'no disks were named; nothing was opened')
    this.#pairs = pairs
    this.#options = options
    this.#hooks = hooks
    this.#meters = meters
    this.#push = first.source.at.kind === 'local'
    this.#farSide = this.#push ? first.destination.at : first.source.at
    this.#native = loadNative(options.native)
    checkDigest(options, this.#native)
    this.#rate = new RateControl(options.bwlimit, this.#throttle, { onChange: () => this.#shareOut() })
  }

  async run(): Promise<void> {
    const { signal } = this.#hooks
    signal?.throwIfAborted()
    const seed = newSeed()
    using _rate = this.#rate
    // made while the session connects; where nothing is sent there is nothing to limit
    const control = this.#options.mode === 'write' ? this.#openControl() : null
    try {
      if (this.#push) await this.#openSources()
      // The far end starts while the first blocks are digested here.
      const opening = openSession(this.#farSide, this.#options, this.#native, seed, this.#hooks)
      const [session] = await Promise.allSettled([opening, this.#digestEarly(seed)])
      if (session.status === 'rejected') throw session.reason
      await using open = session.value
      await this.#talk(open)
    } finally {
      await this.#stopEarly()
      await this.#closeNear()
      await (await control)?.[Symbol.asyncDispose]()
    }
  }

  /** The socket of `blocksync bwlimit`; a run without one goes on. */
  async #openControl(): Promise<AsyncDisposable> {
    const disks = this.#pairs.map(({ source, destination }) => ({
      source: source.typed,
      destination: destination.typed,
    }))
    const control = await openControl({ disks, pid: process.pid }, this.#rate, ownWhereabouts(process.env))
    if (control.path === null)
      this.#hooks.onDetail?.(`its limit cannot be changed while it runs: ${control.why}`)
    return control
  }

  async #stopEarly(): Promise<void> {
    const early = this.#early
    this.#early = null
    await early?.scan.stop()
  }

  /** Closes the disks that are open here; one that was made for a pass that never began is taken back. */
  async #closeNear(): Promise<void> {
    const closing = this.#near.map(async (endpoint) => {
      if (!this.#begun.has(endpoint)) await endpoint.takeBack()
      await endpoint.close()
    })
    const failed = (await Promise.allSettled(closing)).find(({ status }) => status === 'rejected')
    if (failed?.status === 'rejected') throw failed.reason
  }

  async #talk(session: Session): Promise<void> {
    const { signal } = this.#hooks
    const over = new AbortController()
    await using lanes = new Lanes(session, () => this.#openLane(session, over.signal), this.#hooks)
    const onAbort = (): void => lanes.fail(toSyncError(signal?.reason))
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      if (signal?.aborted === true) onAbort()
      await this.#runDisks(session, lanes)
      over.abort(new SyncError('internal', 'the run is over'))
      // The first far end holds the claim that the others share.
      await lanes.goodbye()
      await session.goodbye()
    } catch (thrown) {
      over.abort(thrown)
      throw await this.#reported(thrown, session, lanes)
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  async #runDisks(session: Session, lanes: Lanes): Promise<void> {
    const algorithm = agreeAlgorithm(this.#options, this.#native, session)
    const { far, connection } = session
    const peer = { name: connection.peerName, node: far.node, codecs: far.codecs }
    const compression = agreeCodec(this.#options.compress, peer)
    this.#warnOfPlainEnds(session)
    for (const meter of this.#meters)
      meter.connected(session, this.#native !== null, this.#push, compression?.codec ?? null)
    using watch = new LinkWatch(session, this.#push)
    const disks = await this.#openAll(session)
    const { blockBytes, granularityBytes: leafBytes } = this.#options
    const parameters = { algorithm, seed: session.seed, geometry: { blockBytes, leafBytes } }
    const digester =
      this.#early?.digester.parameters.algorithm === algorithm
        ? this.#early.digester
        : await createDigester(parameters, this.#native)
    const farShare = (): number | null => rateShare(rate.bytesPerSecond, lanes.sessions.length)
    const shareOut = (): void => {
      if (!this.#push) for (const each of lanes.sessions) each.setRate(farShare())
    }
    const rate = this.#rate
    this.#shareOut = shareOut
    lanes.onChange = shareOut
    let invited: Promise<string> | null = null
    const invitation = (): Promise<string> => (invited ??= session.invite())
    for (const open of disks) {
      const scan = this.#takeEarly(open.disk, digester, open.size.lengthBytes)
      if (scan === null) await this.#stopEarly()
      this.#begun.add(open.near)
      const running = {
        push: this.#push,
        options: this.#options,
        digester,
        compression,
        lanes,
        invitation,
        scan,
      }
      watch.begin(open, lanes, this.#options, () => rate.bytesPerSecond)
      await runDisk(session, open, { ...running, throttle: this.#throttle, farBytesPerSecond: farShare })
    }
  }

  /** One more connection to the same far side. */
  async #openLane({ seed }: Session, over: AbortSignal): Promise<Session> {
    const options = { ...this.#options, transport: { ...this.#options.transport, lane: 'further' } } as const
    const { signal = over } = this.#hooks
    return await openSession(this.#farSide, options, this.#native, seed, {
      ...this.#hooks,
      signal: AbortSignal.any([over, signal]),
    })
  }

  /** What to report after `thrown`, when all far ends have been told and are gone. */
  async #reported(thrown: unknown, session: Session, lanes: Lanes): Promise<SyncError> {
    const { signal } = this.#hooks
    const [, own] = await Promise.all([lanes.giveUp(toSyncError(thrown)), session.giveUp(thrown)])
    const error = lanes.failure ?? this.#named(own, session)
    // A terminal interrupts ssh as well, so the connection may have been lost before we heard of it.
    if (signal?.aborted === true && error.code === 'session/lost')
      return unconfirmed(toSyncError(signal.reason), session.connection.peerName)
    return error
  }

  /** Slower by a multiple, and blind to holes: nobody should have to find that out from a clock. */
  #warnOfPlainEnds({ far, connection: { peerName, kind } }: Session): void {
    if (this.#options.native !== 'auto' || (this.#native !== null && far.native)) return
    const where =
      this.#native !== null
        ? `on ${peerName}`
        : far.native || kind === 'local'
          ? 'here'
          : `here and on ${peerName}`
    const doctor =
      this.#native !== null && kind !== 'local' ? `blocksync doctor ${peerName}` : 'blocksync doctor'
    this.#hooks.onWarning?.(
      `no native core ${where}: digests are slower and the holes of a sparse file are read; ${doctor} says why (--native off says that it is meant)`,
    )
  }

  /** The far end knows its disks by their path; the user typed a host with it, and has to know which machine is meant. */
  #named(error: SyncError, { channel, connection }: Session): SyncError {
    if (error !== channel.peerError || this.#farSide.kind === 'local') return error
    const { peerName } = connection
    const far = this.#pairs.map(({ source, destination }) => (this.#push ? destination : source))
    const typed = far.find(({ path }) => path === error.operand)?.typed ?? null
    const message =
      typed !== null && error.operand !== null && error.message.includes(error.operand)
        ? error.message.replace(error.operand, () => typed)
        : `${peerName}: ${error.message}`
    return new SyncError(error.code, message, {
      operand: typed ?? error.operand ?? peerName,
      ...(error.hint === null ? {} : { hint: `On ${peerName}: ${error.hint}` }),
      cause: error,
    })
  }

  async #openSources(): Promise<void> {
    const opening = this.#pairs.map(({ source }) =>
      disksAtOnce(async () => {
        const request = {
          path: source.path,
          role: 'source',
          access: 'read',
          create: 'never',
          createSizeBytes: 0,
          claim: 'exclusive',
        } as const
        return await openEndpoint(request, this.#native)
      }),
    )
    const opened = await Promise.allSettled(opening)
    for (const outcome of opened) if (outcome.status === 'fulfilled') this.#near.push(outcome.value)
    const failed = opened.find((outcome) => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  /** Starts digesting the first source with the algorithm that will be agreed on, unless the far end cannot. */
  async #digestEarly(seed: Uint8Array): Promise<void> {
    if (!this.#push) return
    const [first] = this.#near
    const [best] =
      this.#options.digest === 'auto' ? availableAlgorithms(this.#native) : [this.#options.digest]
    if (first === undefined || best === undefined || !availableAlgorithms(this.#native).includes(best)) return
    const { blockBytes, granularityBytes: leafBytes } = this.#options
    const digester = await createDigester(
      { algorithm: best, seed, geometry: { blockBytes, leafBytes } },
      this.#native,
    )
    this.#early = { digester, scan: new Scan(first, digester, { offset: 0, length: first.info.sizeBytes }) }
  }

  async #openAll(session: Session): Promise<OpenPair[]> {
    const { mode, create } = this.#options
    const access = mode === 'write' ? 'write' : 'read'
    const far: EndpointInfo[] = []
    this.#pairs.forEach(({ source, destination }, disk) => {
      if (this.#push) {
        const createSizeBytes = this.#near[disk]?.info.sizeBytes ?? 0
        session.open(disk, {
          role: 'destination',
          path: destination.path,
          access,
          create,
          createSizeBytes,
          lane: null,
        })
      } else {
        session.open(disk, {
          role: 'source',
          path: source.path,
          access: 'read',
          create: 'never',
          createSizeBytes: 0,
          lane: null,
        })
      }
    })
    for (const { destination } of this.#pairs) {
      const info = await session.opened()
      far.push(info)
      if (this.#push) continue
      const request = {
        path: destination.path,
        role: 'destination',
        access,
        create,
        createSizeBytes: info.sizeBytes,
        claim: 'exclusive',
      } as const
      this.#near.push(await openEndpoint(request, this.#native))
    }
    const open = this.#pairs.map((pair, disk) => this.#checked(pair, disk, far[disk], access))
    checkApart(
      open.map(({ pair, near: { info }, far: there }) => ({
        pair,
        source: this.#push ? info : there,
        destination: this.#push ? there : info,
      })),
    )
    return open
  }

  #checked(pair: DiskPair, disk: number, far: EndpointInfo | undefined, access: 'read' | 'write'): OpenPair {
    const near = this.#near[disk]
    const meter = this.#meters[disk]
    if (near === undefined || far === undefined || meter === undefined)
      throw new SyncError('internal', `disk ${disk} is not open`)
    const [source, destination] = this.#push ? [near.info, far] : [far, near.info]
    const size = checkPair({
      source,
      destination,
      sourceName: pair.source.typed,
      destinationName: pair.destination.typed,
      policy: this.#options.size,
      access,
    })
    meter.opened(size.lengthBytes, destination.created, size.destinationBytes > destination.sizeBytes)
    return { disk, pair, near, far, size, meter }
  }

  /** The scan that was started early, where it is of this disk, with this digester and of this length. */
  #takeEarly(disk: number, digester: Digester, lengthBytes: number): Scan | null {
    if (disk !== 0 || this.#early === null || this.#early.digester !== digester) return null
    return this.#early.scan.range.length === lengthBytes ? this.#early.scan : null
  }
}

/** An algorithm that cannot run here is a mistake in the command line, whatever the far end can. */
function checkDigest({ digest }: SyncOptions, native: NativeCore | null): void {
  const available = availableAlgorithms(native)
  if (digest === 'auto' || available.includes(digest)) return
  throw new SyncError(
    'native/required',
    `--digest ${digest} needs the native core, which is off or not built here; nothing was opened`,
    {
      operand: '--digest',
      hint: `Type --digest auto, or one of ${available.join(', ')}.`,
    },
  )
}
