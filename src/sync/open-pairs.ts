// The pairs of a run: paths in, disks out that are open at both ends and fit each other. Nothing is written before all
// of them are; refuses a run of which one disk cannot be opened, is on both sides, or has the wrong size.

import pLimit from 'p-limit'

import type { Endpoint, StableIdentity } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { checkApart, checkPair } from '../guard/pair.js'
import { sameIdRefusal } from '../guard/same-id.js'
import { Survey } from '../guard/survey.js'
import type { NativeCore } from '../native.js'
import type { SyncOptions } from '../options.js'
import type { KnownDisk } from '../state/record.js'
import type { HostState } from '../state/state.js'
import type { OpenedMessage } from '../wire/control.js'
import type { KeptJournal } from '../wire/kept-journal.js'
import { protocolError } from '../wire/frame.js'
import type { OpenPair } from './disk-pass.js'
import type { DiskMeter } from './meter.js'
import { NO_UNDO_LIMITS, type UndoWish } from './keep-undo.js'
import { closeDisks, type DiskRequest, type OpenDisk, openDisk } from './open-disk.js'
import type { DiskPair, Operand, RunHooks } from './report.js'
import type { Session } from './session.js'

/** Disks being opened at the same time: waking a sleeping one takes seconds, and a run may have dozens. */
const disksAtOnce = pLimit(8)

export type PairsContext = Readonly<{
  /** Push: the sources are here. */
  push: boolean
  options: SyncOptions
  native: NativeCore | null
  state: Promise<HostState>
  /** One for each pair. */
  meters: readonly DiskMeter[]
  hooks: RunHooks
}>

/** Opens and checks what a run is about. In a push `openSources` comes first, as it needs no far end. */
export class OpenPairs {
  readonly #pairs: readonly DiskPair[]
  readonly #context: PairsContext
  /** The disks that are open in this process, in the order of the pairs. */
  readonly #near: OpenDisk[] = []
  readonly #survey: Survey
  /** The far end, where it is on this machine. */
  #peerProcess: string | null = null

  constructor(pairs: readonly DiskPair[], context: PairsContext) {
    this.#pairs = pairs
    this.#context = context
    this.#survey = new Survey(context.native)
  }

  /** The first disk that is open here, if there is one by now. */
  get firstNear(): Endpoint | null {
    return this.#near[0]?.endpoint ?? null
  }

  /** The first source of a push is known not to change. */
  get isFirstFrozen(): boolean {
    return this.#near[0]?.known?.frozen ?? false
  }

  /** The sources of a push. Rejects when all are open or have failed, with the first failure. */
  async openSources(): Promise<void> {
    const opening = this.#pairs.map(({ source }) =>
      disksAtOnce(async () => {
        return await this.#openHere(source, {
          path: source.path,
          role: 'source',
          access: 'read',
          create: 'never',
          createSizeBytes: 0,
          peer: 'later',
          standsFor: source.standsFor ?? null,
          track: source.track ?? null,
        })
      }),
    )
    const opened = await Promise.allSettled(opening)
    for (const outcome of opened) if (outcome.status === 'fulfilled') this.#near.push(outcome.value)
    const failed = opened.find((outcome) => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  /** What is not open yet, at both ends; then every pair is checked, and all of them against each other. */
  async openAll(session: Session): Promise<OpenPair[]> {
    const { push } = this.#context
    const { mode, create } = this.#context.options
    const access = mode === 'write' ? 'write' : 'read'
    this.#peerProcess = session.far.process
    await this.#askFar(session, access)
    const far: OpenedMessage[] = []
    for (const { source, destination } of this.#pairs) {
      const info = await session.opened()
      far.push(info)
      this.#warn(push ? destination : source, info.warnings)
      if (push) continue
      const request = {
        path: destination.path,
        role: 'destination',
        access,
        create,
        createSizeBytes: info.sizeBytes,
        peer: info.known?.stable ?? null,
      } as const
      this.#near.push(await this.#openHere(destination, request))
    }
    const known = await Promise.all(far.map((info, disk) => this.#knownHere(info, disk)))
    const open = this.#pairs.map((pair, disk) =>
      this.#checked(pair, disk, far[disk], known[disk] ?? null, access),
    )
    checkApart(
      open.map(({ pair, near: { info }, far: there }) => ({
        pair,
        source: push ? info : there,
        destination: push ? there : info,
      })),
    )
    return open
  }

  /** From here on the disk of this pair stays as it is when the run ends. */
  begin({ disk }: OpenPair): void {
    const near = this.#near[disk]
    if (near !== undefined) near.isBegun = true
  }

  /** Closes what is open here. */
  async close(): Promise<void> {
    await closeDisks(this.#near)
  }

  /** `verify` asks nobody: it writes nothing, and says itself where the two differ. */
  get #asking(): Pick<DiskRequest, 'guards' | 'force'> {
    const { mode, force } = this.#context.options
    return { guards: mode === 'verify' ? 'off' : 'on', force }
  }

  async #openHere(
    operand: Operand,
    request: Omit<DiskRequest, 'guards' | 'force' | 'lane' | 'undo' | 'lockWaitMs'>,
  ): Promise<OpenDisk> {
    const { native, state, options } = this.#context
    const limits = options.undo ?? NO_UNDO_LIMITS
    const context = {
      native,
      survey: this.#survey,
      state: await state,
      undo: limits,
      peerProcess: this.#peerProcess,
    }
    const undo = request.role === 'destination' ? undoWish(options) : 'none'
    const open = await openDisk({ ...request, ...this.#asking, lane: 'first', undo, lockWaitMs: 0 }, context)
    this.#warn(operand, open.warnings)
    return open
  }

  /** The end that found something knows its disk by the path; the user typed a host with it. */
  #warn({ path, typed }: Operand, warnings: readonly string[]): void {
    for (const warning of warnings) this.#context.hooks.onWarning?.(warning.replace(path, () => typed))
  }

  /** Asks for all disks of the far side at once. */
  async #askFar(session: Session, access: 'read' | 'write'): Promise<void> {
    const { push, options } = this.#context
    const state = await this.#context.state
    const peers = await Promise.all(
      this.#pairs.map(async ({ destination }, disk) => {
        // in a pull the destination is opened when its size is known
        return this.#near[disk]?.stable ?? (await state.identifyPath(destination.path))
      }),
    )
    this.#pairs.forEach(({ source, destination }, disk) => {
      const peer = peers[disk] ?? null
      if (push) {
        session.open(disk, {
          role: 'destination',
          path: destination.path,
          access,
          create: options.create,
          createSizeBytes: this.#near[disk]?.endpoint.info.sizeBytes ?? 0,
          ...this.#asking,
          peer,
          lane: null,
          lockWaitMs: 0,
          standsFor: null,
          undo: undoWish(options),
        })
      } else {
        session.open(disk, {
          role: 'source',
          path: source.path,
          access: 'read',
          create: 'never',
          createSizeBytes: 0,
          ...this.#asking,
          peer,
          lane: null,
          lockWaitMs: 0,
          standsFor: source.standsFor ?? null,
          undo: 'none',
        })
      }
    })
  }

  /** What is kept of a destination. A far end that was asked to keep it and does not say that it does has not. */
  #kept({ destination }: DiskPair, journal: KeptJournal | null, meter: DiskMeter): void {
    const { options, hooks } = this.#context
    if (options.undo === null) return
    if (journal === null) throw protocolError('opened frame without the undo journal that was asked for')
    meter.kept(journal)
    const goesOn = journal.continues ? ', which goes on with that of the run that did not finish' : ''
    hooks.onDetail?.(
      `${destination.typed}: undo journal in ${journal.path}${goesOn}; ${formatMebibytes(journal.freeBytes)} are free there`,
    )
  }

  /** The sources of a push were opened before it was known whose peer they are. */
  async #knownHere({ known: there }: OpenedMessage, disk: number): Promise<KnownDisk | null> {
    const { push, hooks, state } = this.#context
    const near = this.#near[disk]
    const known = near?.known ?? null
    if (!push || near === undefined || known === null || there === null) return known
    const { records, problems } = await (await state).recordsOf(near.stable, there.stable)
    for (const problem of problems) hooks.onWarning?.(problem)
    return { ...known, pairs: records }
  }

  /** Two ends that see one disk: refused where it would be written, told in a dry run. */
  #checkSameId({ source, destination }: DiskPair, here: StableIdentity, there: StableIdentity): void {
    const { push, options, hooks } = this.#context
    if (options.mode === 'verify' || options.force.includes('same-id')) return
    const ids = push ? ([here, there] as const) : ([there, here] as const)
    const refusal = sameIdRefusal(...ids, source.typed, destination.typed)
    if (refusal === null) return
    if (options.mode === 'write') throw refusal
    hooks.onWarning?.(`${refusal.message}; a run that writes refuses it (--force-same-id)`)
  }

  #checked(
    pair: DiskPair,
    disk: number,
    far: OpenedMessage | undefined,
    known: KnownDisk | null,
    access: 'read' | 'write',
  ): OpenPair {
    const { push, options, meters } = this.#context
    const open = this.#near[disk]
    const meter = meters[disk]
    if (open === undefined || far === undefined || meter === undefined)
      throw new SyncError('internal', `disk ${disk} is not open`)
    const { endpoint: near, keeper, undo } = open
    const [source, destination] = push ? [near.info, far] : [far, near.info]
    const size = checkPair({
      source,
      destination,
      sourceName: pair.source.typed,
      destinationName: pair.destination.typed,
      policy: options.size,
      access,
    })
    const here = this.#near[disk]?.stable ?? null
    const there = far.known?.stable ?? null
    if (here !== null && there !== null) this.#checkSameId(pair, here, there)
    const lengthened = size.destinationBytes > destination.sizeBytes
    meter.opened(size.lengthBytes, destination.created, lengthened, {
      source,
      destination,
      stable: push ? { source: here, destination: there } : { source: there, destination: here },
    })
    this.#kept(pair, push ? far.undo : (undo?.report ?? null), meter)
    return { disk, pair, near, known, keeper, undo: push ? null : undo, far, size, meter }
  }
}

/** What a destination is asked to keep. */
export function undoWish({ undo }: Pick<SyncOptions, 'undo'>): UndoWish {
  if (undo === null) return 'none'
  return undo.keep === 'chain' ? 'chain' : 'keep'
}

function formatMebibytes(bytes: number): string {
  return `${Math.floor(bytes / (1 << 20))} MiB`
}
