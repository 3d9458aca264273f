// One disk of a run, over its lanes: the first lane goes over the disk from its start, further ones take stripes from its
// end, until they meet. The sections of all passes make the one root. Refuses a stripe that the first lane has sent of.

import type { Compression } from '../codec/codec.js'
import type { Digester, Range } from '../digest/digester.js'
import { rootOf, SECTION_BYTES } from '../digest/root.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { isSameDisk } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import type { AgreedSize } from '../guard/pair.js'
import type { NativeCore } from '../native.js'
import type { SyncOptions, VerifyChoice } from '../options.js'
import type { PairKeeper } from '../state/pair-keeper.js'
import type { KnownDisk, PairStart } from '../state/record.js'
import type { DiskUndo } from '../undo/journal.js'
import type { FinishMessage, OpenedMessage, StartMessage } from '../wire/control.js'
import { encodeStart } from '../wire/control.js'
import { FRAME, protocolError } from '../wire/frame.js'
import { openCompressor } from './compression.js'
import { runDestination } from './destination.js'
import type { Lane, Lanes } from './lanes.js'
import type { DiskMeter, PartMeter } from './meter.js'
import type { DiskPair } from './report.js'
import type { Scan } from './scan.js'
import { prepareDestination } from './prepare.js'
import type { Session } from './session.js'
import { beginSource } from './source.js'
import type { Throttle } from '../rate/throttle.js'
import { WrittenRanges } from './written-ranges.js'

/** What a lane takes at once at most: its leaf digests are 4 MiB, so eight lanes stay small. */
const MAX_STRIPE_BYTES = 1 << 30

/** A disk of the run, open and checked at both ends. `near` is the one that is open in this process. */
export type OpenPair = Readonly<{
  disk: number
  pair: DiskPair
  near: Endpoint
  /** What is known of the near disk; that of the far one is in `far`. */
  known: KnownDisk | null
  /** Keeps the record of the near disk. */
  keeper: PairKeeper
  /** Keeps the old content of a near destination, or makes a journal void; null where there is none. */
  undo: DiskUndo | null
  far: OpenedMessage
  size: AgreedSize
  meter: DiskMeter
}>

export type DiskRunContext = Readonly<{
  push: boolean
  options: SyncOptions
  digester: Digester
  /** For payload that is sent from here. */
  throttle: Throttle
  compression: Compression | null
  /** What a far source may send in one lane as it is now; null is no limit. */
  farBytesPerSecond: () => number | null
  lanes: Lanes
  /** Admits further lanes to the far disks. */
  invitation: () => Promise<string>
  /** A scan of this disk that was started early, with the same digester, or null. */
  scan: Scan | null
  native: NativeCore | null
  /** Read back from the device of the destination: by a pass that writes what it wrote, by one that compares everything. */
  verify: VerifyChoice
  /** What the destination is marked with before it is written, or null. */
  pair: PairStart | null
}>

/** A pass under way. `limitTo` is that of SourceHandle, wherever the source is. */
type Pass = { done: Promise<void>; limitTo: (block: number) => Promise<number> }

/** Runs it; resolves when the destination is flushed and both roots agree. */
export async function runDisk(session: Session, open: OpenPair, context: DiskRunContext): Promise<void> {
  await new DiskRun(open, context).run(session)
}

class DiskRun {
  readonly #open: OpenPair
  readonly #context: DiskRunContext
  readonly #blockBytes: number
  readonly #sections: Buffer
  readonly #firstPart: PartMeter
  readonly #written = new WrittenRanges()
  /** Where the stripes begin that further lanes took. */
  #tailBytes: number
  /** Bytes whose sections are in. */
  #joinedBytes = 0
  #isEqual = true
  /** The source's root where one pass went over the whole disk. */
  #wholeRoot: string | null = null
  #taking: Promise<unknown> = Promise.resolve()
  /** Nothing is written before this. */
  #marking: Promise<unknown> = Promise.resolve()

  constructor(open: OpenPair, context: DiskRunContext) {
    const { lengthBytes } = open.size
    this.#open = open
    this.#context = context
    this.#blockBytes = context.digester.parameters.geometry.blockBytes
    this.#sections = Buffer.alloc(Math.ceil(lengthBytes / SECTION_BYTES) * 32)
    this.#firstPart = open.meter.part(1)
    this.#tailBytes = lengthBytes
  }

  async run(session: Session): Promise<void> {
    const { meter, near, size } = this.#open
    const { lanes, push, digester, scan } = this.#context
    const whole = { offset: 0, length: size.lengthBytes }
    if (!push) {
      this.#marking = this.#mark()
      await prepareDestination(near, this.#start(whole), this.#marking)
    }
    meter.started(lanes.channels, digester)
    const first = await this.#begin(session, whole, this.#firstPart, scan)
    if (this.#mode === 'write')
      lanes.start({ open: (lane) => this.#openOn(lane), work: (lane) => this.#workOn(lane, first) })
    await first.done
    await lanes.finish()
    if (this.#joinedBytes !== size.lengthBytes)
      throw protocolError(`a pass ended after ${this.#joinedBytes} of ${size.lengthBytes} bytes`)
    meter.finished(this.#wholeRoot ?? rootOf(digester.parameters, whole, this.#sections), this.#isEqual, {
      sections: this.#sections,
      written: this.#written.summary(),
    })
  }

  /** A near destination is marked here; a far one, when it is told to start. */
  async #mark(): Promise<void> {
    if (this.#mode === 'write') await this.#open.undo?.begin()
    const { pair } = this.#context
    if (pair !== null) await this.#open.keeper.begin(pair)
  }

  get #mode(): 'write' | 'compare' {
    return this.#context.options.mode === 'write' ? 'write' : 'compare'
  }

  #start({ offset, length }: Range): StartMessage {
    const { push, digester, farBytesPerSecond, compression } = this.#context
    const { algorithm, seed, geometry } = digester.parameters
    return {
      mode: this.#mode,
      offsetBytes: offset,
      lengthBytes: length,
      destinationBytes: this.#open.size.destinationBytes,
      ...geometry,
      algorithm,
      seed,
      bytesPerSecond: push ? null : farBytesPerSecond(),
      compression: push ? null : compression,
      verify: this.#context.verify,
      badSectors: push ? 'stop' : this.#badSectors,
      // once, before the first pass writes; further lanes come after that
      pair: push && offset === 0 ? this.#context.pair : null,
    }
  }

  async #begin(session: Session, range: Range, part: PartMeter, scan: Scan | null): Promise<Pass> {
    const { push, digester, throttle, compression } = this.#context
    const { disk, near, pair } = this.#open
    const { channel } = session
    channel.post(FRAME.start, disk, encodeStart(this.#start(range)))
    const onWritten = this.#written.sink()
    const pass = { channel, disk, endpoint: near, digester, mode: this.#mode, range, onWritten } as const
    if (push) {
      const compressor = await openCompressor(compression, throttle)
      const source = beginSource({
        ...pass,
        scan,
        throttle,
        compressor,
        badSectors: this.#badSectors,
        onProgress: part.sourceProgress,
      })
      const done = source.done.then(({ said, destination, sections }) =>
        this.#join(range, part, said, destination, sections),
      )
      return { done, limitTo: async (block) => source.limitTo(block) }
    }
    const operand = pair.destination.typed
    const verify = { what: this.#context.verify, native: this.#context.native }
    const permitted = this.#marking
    const preserver =
      this.#mode === 'write'
        ? (this.#open.undo?.preserver(near, digester.parameters.geometry.leafBytes) ?? null)
        : null
    const onProgress = part.destinationProgress
    const done = runDestination({ ...pass, operand, verify, permitted, preserver, onProgress }).then(
      ({ sourceSays, sections, ...destination }) =>
        this.#join(range, part, sourceSays, destination, sections),
    )
    return { done, limitTo: (block) => session.limit(disk, block) }
  }

  #join(
    { offset, length }: Range,
    part: PartMeter,
    said: FinishMessage,
    destination: { root: string; readBytes: number; verifiedBytes: number | null; undoBytes: number },
    sections: Buffer,
  ): void {
    const endBytes = Math.min(said.endBlock * this.#blockBytes, offset + length)
    part.finished(said, destination.readBytes, endBytes - offset)
    if (this.#mode === 'write') this.#checkVerified(destination.verifiedBytes)
    this.#open.meter.compared(said.differing)
    this.#checkUnreadable(said.unreadable, offset, endBytes)
    this.#open.meter.unread(said.unreadable)
    this.#open.meter.keptBytes(destination.undoBytes)
    sections.copy(this.#sections, (offset / SECTION_BYTES) * 32)
    this.#joinedBytes += endBytes - offset
    this.#isEqual &&= said.root === destination.root
    if (endBytes - offset === this.#open.size.lengthBytes) this.#wholeRoot = said.root
  }

  get #badSectors(): 'stop' | 'skip' {
    return this.#context.options.rescue === null ? 'stop' : 'skip'
  }

  /** A map is made of it. */
  #checkUnreadable(ranges: readonly Range[], fromBytes: number, endBytes: number): void {
    if (ranges.length > 0 && this.#badSectors === 'stop')
      throw protocolError('finish frame with unreadable ranges that were not to be skipped')
    let at = fromBytes
    for (const { offset, length } of ranges) {
      if (offset < at || length === 0 || offset + length > endBytes)
        throw protocolError(
          `finish frame with unreadable ${offset}+${length}, out of order or outside the pass`,
        )
      at = offset + length
    }
  }

  /** A far end that was asked to read back and does not say that it did has not. */
  #checkVerified(verifiedBytes: number | null): void {
    if (this.#context.verify === 'none') return
    if (verifiedBytes === null) throw protocolError('finished frame without what was verified')
    this.#open.meter.verified('written', verifiedBytes)
  }

  /** A further lane: stripe after stripe, until it meets the first one. */
  async #workOn({ session, number }: Lane, first: Pass): Promise<void> {
    for (let range = await this.#take(first); range !== null; range = await this.#take(first)) {
      const pass = await this.#begin(session, range, this.#open.meter.part(number), null)
      await pass.done
    }
  }

  /** The disk in the far process of a further lane. */
  async #openOn({ session, number }: Lane): Promise<void> {
    const { push, options, invitation } = this.#context
    const { disk, pair, far } = this.#open
    const { path } = push ? pair.destination : pair.source
    session.open(disk, {
      role: push ? 'destination' : 'source',
      path,
      access: push && options.mode === 'write' ? 'write' : 'read',
      create: 'never',
      createSizeBytes: 0,
      // one holder: the first lane was asked, and may be what others would be found to do
      guards: 'off',
      force: [],
      peer: null,
      lane: push ? await invitation() : null,
      lockWaitMs: 0,
      undo: push && options.undo !== null ? 'keep' : 'none',
    })
    const info = await session.opened()
    if (push && options.undo !== null && info.undo?.group !== far.undo?.group)
      throw protocolError('opened frame without the undo journal of the first lane')
    if (isSameDisk(info.identity, far.identity)) return
    throw new SyncError(
      'guard/same-disk',
      `${path} is not the same disk in lane ${number} as in the first one; nothing was written through it`,
      { operand: path, hint: 'Does the name of the host lead to several hosts? Name one of them.' },
    )
  }

  /** The next stripe from the end of what the first lane has to itself, or null when nothing is left to take. */
  async #take(first: Pass): Promise<Range | null> {
    const taken = this.#taking.then(() => this.#takeNext(first))
    this.#taking = taken.catch(() => undefined) // whoever asked for it hears of the failure
    return await taken
  }

  async #takeNext(first: Pass): Promise<Range | null> {
    const doneBytes = this.#firstPart.doneBytes()
    const share = (this.#tailBytes - doneBytes) / (2 * this.#context.lanes.wanted)
    const wantedBytes = Math.min(MAX_STRIPE_BYTES, Math.max(SECTION_BYTES, share))
    const fromBytes = Math.floor((this.#tailBytes - wantedBytes) / SECTION_BYTES) * SECTION_BYTES
    if (fromBytes <= doneBytes) return null
    const offset = (await first.limitTo(fromBytes / this.#blockBytes)) * this.#blockBytes
    if (offset >= this.#tailBytes) return null
    if (offset < fromBytes || offset % SECTION_BYTES !== 0)
      throw protocolError(`limited at byte ${offset}, where ${fromBytes} was asked for`)
    const length = this.#tailBytes - offset
    this.#tailBytes = offset
    return { offset, length }
  }
}
