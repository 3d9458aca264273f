// One run: pairs of disks and options in, a report out. Has every disk opened and checked before the first byte is
// written, then runs one disk after the other over its lanes. The near end of what serve.ts is the far end of.

import { agreeCodec } from '../codec/open.js'
import { createDigester, availableAlgorithms } from '../digest/open.js'
import { SyncError, toSyncError } from '../errors.js'
import { loadNative, type NativeCore } from '../native.js'
import type { SyncOptions } from '../options.js'
import type { FarSide } from '../transport/transport.js'
import type { OpenPair } from './disk-pass.js'
import { runDisk } from './disk-run.js'
import { EarlyScan } from './early-scan.js'
import { Lanes } from './lanes.js'
import { LinkWatch } from './link-watch.js'
import { DiskMeter } from './meter.js'
import { OpenPairs } from './open-pairs.js'
import { Pairing } from './pairing.js'
import { ownWhereabouts } from '../rate/place.js'
import { openControl } from '../rate/socket.js'
import { RateControl, rateShare } from '../rate/control.js'
import { ownStatePath } from '../state/directory.js'
import { HostState } from '../state/state.js'
import type { DiskPair, DiskReport, RunHooks, RunReport } from './report.js'
import { Resuming } from './resuming.js'
import { checkRescue, openRescue, type RescueRun, unreadable } from './rescue-run.js'
import { verifyAll } from './verify-all.js'
import { agreeAlgorithm, newSeed, openSession, type Session, unconfirmed } from './session.js'
import { Throttle } from '../rate/throttle.js'

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
    return report(unreadable(report(null), options))
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
  readonly #disks: OpenPairs
  readonly #pairing: Pairing
  readonly #early: EarlyScan
  readonly #resuming: Resuming
  /** Of the one disk of a run over bad sectors. */
  #rescue: RescueRun | null = null

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
    checkCopies(pairs, options)
    checkRescue(pairs, options)
    const state = HostState.open(ownStatePath(options.stateDir))
    state.catch(() => undefined) // who opens a disk hears of it
    this.#disks = new OpenPairs(pairs, {
      push: this.#push,
      options,
      native: this.#native,
      state,
      meters,
      hooks,
    })
    this.#pairing = new Pairing(this.#push, options, hooks)
    this.#resuming = new Resuming(this.#push, options, hooks, state, this.#pairing)
    this.#early = new EarlyScan(options, this.#native)
    this.#rate = new RateControl(options.bwlimit, this.#throttle, { onChange: () => this.#shareOut() })
  }

  async run(): Promise<void> {
    const { signal } = this.#hooks
    signal?.throwIfAborted()
    await this.#resuming.check()
    this.#rescue = await openRescue(this.#options, this.#push, this.#hooks)
    const [first] = this.#pairs
    // of what is known of the disks only that with one seed can be used
    const seed = first?.source.track?.seed ?? first?.leaves?.seed ?? newSeed()
    using _rate = this.#rate
    // made while the session connects; where nothing is sent there is nothing to limit
    const control = this.#options.mode === 'write' ? this.#openControl() : null
    try {
      if (this.#push) await this.#disks.openSources()
      // The far end starts while the first blocks are digested here.
      const opening = openSession(this.#farSide, this.#options, this.#native, seed, this.#hooks)
      const [session] = await Promise.allSettled([opening, this.#digestEarly(seed)])
      if (session.status === 'rejected') throw session.reason
      await using open = session.value
      await this.#talk(open)
    } finally {
      await this.#early.stop()
      await this.#disks.close()
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
    using watch = new LinkWatch(session, this.#push, (text) => this.#hooks.onDetail?.(text))
    const disks = await this.#disks.openAll(session)
    await this.#pairing.check(disks)
    for (const open of disks) this.#rescue?.check(open)
    const { blockBytes, granularityBytes: leafBytes } = this.#options
    const parameters = { algorithm, seed: session.seed, geometry: { blockBytes, leafBytes } }
    const early = this.#early.digester
    const digester =
      early?.parameters.algorithm === algorithm ? early : await createDigester(parameters, this.#native)
    const farShare = (): number | null => rateShare(rate.bytesPerSecond, lanes.sessions.length)
    const shareOut = (): void => {
      if (!this.#push) for (const each of lanes.sessions) each.setRate(farShare())
    }
    const rate = this.#rate
    this.#shareOut = shareOut
    lanes.onChange = shareOut
    let invited: Promise<string> | null = null
    const invitation = (): Promise<string> => (invited ??= session.invite())
    const running = {
      push: this.#push,
      options: this.#options,
      native: this.#native,
      digester,
      compression,
      lanes,
      invitation,
      throttle: this.#throttle,
      farBytesPerSecond: farShare,
    }
    // what was written is read back where all is to be verified, too
    const verify = this.#options.verify === 'none' ? 'none' : 'written'
    const recording: Promise<void>[] = []
    const record = (open: OpenPair): void => {
      const written = this.#pairing.finish(session, open)
      written.catch(() => undefined) // awaited at the end, unless a disk fails before
      recording.push(written)
    }
    for (const open of disks) {
      const resumed = await this.#resuming.find(session, open, running)
      const before = resumed?.before ?? null
      const scan = before === null ? this.#early.take(open.disk, digester, open.size.lengthBytes) : null
      if (scan === null) await this.#early.stop()
      this.#disks.begin(open)
      watch.begin(open, lanes, this.#options, () => rate.bytesPerSecond)
      const own = { ...running, digester: resumed?.digester ?? digester }
      const checkpoints = await this.#resuming.sink(open, own.digester)
      const pair = this.#pairing.startOf(open)
      await runDisk(session, open, { ...own, scan, verify, pair, before, checkpoints })
      await this.#rescue?.done(open)
      // the next disk need not wait for it
      if (this.#options.verify !== 'all') record(open)
    }
    if (this.#options.verify === 'all') {
      await verifyAll(session, disks, running)
      disks.forEach(record)
    }
    await Promise.all(recording)
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

  /** Starts digesting the first source while the session is still being opened. */
  async #digestEarly(seed: Uint8Array): Promise<void> {
    const first = this.#disks.firstNear
    if (!this.#push || first === null) return
    // its digests would be those of another seed than that of the run which is gone on with
    if (await this.#resuming.isLikely(this.#disks.isFirstFrozen)) return
    await this.#early.begin(first, seed)
  }
}

/** A checkpoint is of one copy of the source, and the next copy is another one. */
function checkCopies(pairs: readonly DiskPair[], { resume }: SyncOptions): void {
  const copy = pairs.find(({ source }) => source.standsFor !== undefined)?.source
  const wrong = pairs.find(({ destination }) => destination.standsFor !== undefined)?.destination
  const [operand, why] =
    wrong !== undefined
      ? [wrong, 'is a destination, and only a source may stand for another disk']
      : [copy, 'stands for another disk, and a run of it cannot go on where one did not finish (resume)']
  if (operand === undefined || (wrong === undefined && resume === 'no')) return
  throw new SyncError('usage', `${operand.typed} ${why}; nothing was opened`, {
    operand: operand.typed,
    hint: "Set resume to 'no'.",
  })
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
