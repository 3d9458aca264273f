// One disk of a run, over its lanes: the first lane goes over the disk from its start, further ones take stripes from its
// end, until they meet. The sections of all passes make the one root. Refuses a stripe that the first lane has sent of.

import type { Compression } from '../codec/codec.js'
import type { Digester, Range } from '../digest/digester.js'
import { rootOf, SECTION_BYTES } from '../digest/root.js'
import type { Endpoint, EndpointInfo } from '../endpoint/endpoint.js'
import { isSameDisk } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import type { AgreedSize } from '../guard/pair.js'
import type { SyncOptions } from '../options.js'
import type { FinishMessage, StartMessage } from '../wire/control.js'
import { encodeStart } from '../wire/control.js'
import { FRAME, protocolError } from '../wire/frame.js'
import { openCompressor } from './compression.js'
import { runDestination } from './destination.js'
import type { Lane, Lanes } from './lanes.js'
import type { DiskMeter, PartMeter } from './meter.js'
import type { DiskPair } from './report.js'
import type { Scan } from './scan.js'
import { prepareDestination } from './serve.js'
import type { Session } from './session.js'
import { beginSource } from './source.js'
import type { Throttle } from '../rate/throttle.js'

/** What a lane takes at once at most: its leaf digests are 4 MiB, so eight lanes stay small. */
const MAX_STRIPE_BYTES = 1 << 30

/** A disk of the run, open and checked at both ends. `near` is the one that is open in this process. */
export type OpenPair = Readonly<{
  disk: number
  pair: DiskPair
  near: Endpoint
  far: EndpointInfo
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
  /** Where the stripes begin that further lanes took. */
  #tailBytes: number
  /** Bytes whose sections are in. */
  #joinedBytes = 0
  #isEqual = true
  /** The source's root where one pass went over the whole disk. */
  #wholeRoot: string | null = null
  #taking: Promise<unknown> = Promise.resolve()

  constructor(open: OpenPair, context: DiskRunContext) {
    const { lengthBytes } = open.size
    this.#open = open
    this.#context = context
    this.#blockBytes = context.digester.parameters.geometry.blockBytes
    this.#sections = Buffer.alloc(Math.ceil(lengthBytes / SECTION_BYTES) * 32)
    this.#firstPart = open.meter.part()
    this.#tailBytes = lengthBytes
  }

  async run(session: Session): Promise<void> {
    const { meter, near, size } = this.#open
    const { lanes, push, digester, scan } = this.#context
    const whole = { offset: 0, length: size.lengthBytes }
    if (!push) await prepareDestination(near, this.#start(whole))
    meter.started(lanes.channels, digester)
    const first = await this.#begin(session, whole, this.#firstPart, scan)
    if (this.#mode === 'write')
      lanes.start({ open: (lane) => this.#openOn(lane), work: (lane) => this.#workOn(lane, first) })
    await first.done
    await lanes.finish()
    if (this.#joinedBytes !== size.lengthBytes)
      throw protocolError(`a pass ended after ${this.#joinedBytes} of ${size.lengthBytes} bytes`)
    meter.finished(this.#wholeRoot ?? rootOf(digester.parameters, whole, this.#sections), this.#isEqual)
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
    }
  }

  async #begin(session: Session, range: Range, part: PartMeter, scan: Scan | null): Promise<Pass> {
    const { push, digester, throttle, compression } = this.#context
    const { disk, near, pair } = this.#open
    const { channel } = session
    channel.post(FRAME.start, disk, encodeStart(this.#start(range)))
    const pass = { channel, disk, endpoint: near, digester, mode: this.#mode, range } as const
    if (push) {
      const compressor = await openCompressor(compression, throttle)
      const source = beginSource({ ...pass, scan, throttle, compressor, onProgress: part.sourceProgress })
      const done = source.done.then(({ said, destination, sections }) =>
        this.#join(range, part, said, destination, sections),
      )
      return { done, limitTo: async (block) => source.limitTo(block) }
    }
    const operand = pair.destination.typed
    const done = runDestination({ ...pass, operand, onProgress: part.destinationProgress }).then(
      ({ sourceSays, sections, ...destination }) =>
        this.#join(range, part, sourceSays, destination, sections),
    )
    return { done, limitTo: (block) => session.limit(disk, block) }
  }

  #join(
    { offset, length }: Range,
    part: PartMeter,
    said: FinishMessage,
    destination: { root: string; readBytes: number },
    sections: Buffer,
  ): void {
    const endBytes = Math.min(said.endBlock * this.#blockBytes, offset + length)
    part.finished(said, destination.readBytes, endBytes - offset)
    sections.copy(this.#sections, (offset / SECTION_BYTES) * 32)
    this.#joinedBytes += endBytes - offset
    this.#isEqual &&= said.root === destination.root
    if (endBytes - offset === this.#open.size.lengthBytes) this.#wholeRoot = said.root
  }

  /** A further lane: stripe after stripe, until it meets the first one. */
  async #workOn({ session }: Lane, first: Pass): Promise<void> {
    for (let range = await this.#take(first); range !== null; range = await this.#take(first)) {
      const pass = await this.#begin(session, range, this.#open.meter.part(), null)
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
      lane: push ? await invitation() : null,
    })
    const info = await session.opened()
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
