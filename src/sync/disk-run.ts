// One disk of a run, over its lanes: the first lane goes over the disk from its start, further ones take stripes from its
// end, until they meet. The sections of all passes make the one root. Refuses a stripe that the first lane has sent of.

import type { Range } from '../digest/digester.js'
import { rootOf, SECTION_BYTES } from '../digest/root.js'
import { toSyncError } from '../errors.js'
import type { VerifyChoice } from '../options.js'
import type { PairStart } from '../state/record.js'
import { protocolError } from '../wire/frame.js'
import type { CheckpointSink, DoneBefore } from './checkpoint.js'
import {
  badSectorsOf,
  beginPass,
  checkUnreadable,
  leavesOf,
  type OpenPair,
  type Pass,
  type PassContext,
  type PassOutcome,
  startOf,
} from './disk-pass.js'
import { DoneSections, Ground } from './ground.js'
import { openOnLane } from './lane-disk.js'
import type { Lane, Lanes } from './lanes.js'
import type { PartMeter } from './meter.js'
import { Pace } from './pace.js'
import { prepareDestination } from './prepare.js'
import type { Scan } from './scan.js'
import type { Session } from './session.js'
import { WrittenRanges } from './written-ranges.js'

/** What a lane takes at once at most: its leaf digests are 4 MiB, so eight lanes stay small. */
const MAX_STRIPE_BYTES = 1 << 30

export type DiskRunContext = PassContext &
  Readonly<{
    lanes: Lanes
    /** Admits further lanes to the far disks. */
    invitation: () => Promise<string>
    /** A scan of this disk that was started early, with the same digester, or null. */
    scan: Scan | null
    verify: VerifyChoice
    /** What the destination is marked with before it is written, or null. */
    pair: PairStart | null
    /** What needs no pass any more; null is nothing. */
    before: DoneBefore | null
    /** Null: no pass is ended for the sake of a checkpoint. */
    checkpoints: CheckpointSink | null
  }>

/** What the first lane is at: from `offset` to `endBytes`, which is lowered when some of it is taken away. */
type Front = { offset: number; endBytes: number; part: PartMeter; begun: Promise<Pass> }

/** Runs it; resolves when the destination is flushed and both roots agree. */
export async function runDisk(session: Session, open: OpenPair, context: DiskRunContext): Promise<void> {
  await new DiskRun(open, context).run(session)
}

class DiskRun {
  readonly #open: OpenPair
  readonly #context: DiskRunContext
  readonly #blockBytes: number
  readonly #sections: Buffer
  readonly #ground: Ground
  readonly #done: DoneSections
  readonly #written = new WrittenRanges()
  readonly #pace: Pace
  /** Null between two passes of the first lane. */
  #front: Front | null = null
  #isFirstPass = true
  /** Bytes whose sections are in. */
  #joinedBytes = 0
  #putMs = performance.now()
  #isEqual = true
  /** The source's root where one pass went over the whole disk. */
  #wholeRoot: string | null = null
  #taking: Promise<unknown> = Promise.resolve()
  /** Nothing is written before this. */
  #marking: Promise<unknown> = Promise.resolve()

  constructor(open: OpenPair, context: DiskRunContext) {
    const { lengthBytes } = open.size
    const { before, checkpoints } = context
    this.#open = open
    this.#context = context
    this.#blockBytes = context.digester.parameters.geometry.blockBytes
    this.#sections = Buffer.alloc(Math.ceil(lengthBytes / SECTION_BYTES) * 32)
    this.#ground = new Ground(lengthBytes, before?.runs)
    this.#done = new DoneSections(lengthBytes)
    this.#pace = new Pace(checkpoints?.everyMs ?? Infinity)
    if (before !== null) this.#adopt(before)
  }

  async run(session: Session): Promise<void> {
    const { checkpoints } = this.#context
    try {
      await this.#run(session)
      await checkpoints?.settle(null)
    } catch (error) {
      if (this.#joinedBytes > 0) this.#checkpoint()
      await checkpoints?.settle(error)
      throw error
    }
  }

  async #run(session: Session): Promise<void> {
    const { meter, near, size } = this.#open
    const { lanes, push, digester } = this.#context
    const whole = { offset: 0, length: size.lengthBytes }
    if (!push) {
      this.#marking = this.#mark()
      const { verify, pair } = this.#context
      const start = startOf(this.#open, this.#context, { range: whole, mode: this.#mode, verify, pair })
      await prepareDestination(near, start, this.#marking)
    }
    meter.started(lanes.channels, digester)
    await this.#goOver(session)
    await lanes.finish()
    if (this.#joinedBytes !== size.lengthBytes)
      throw protocolError(`a pass ended after ${this.#joinedBytes} of ${size.lengthBytes} bytes`)
    meter.finished(this.#wholeRoot ?? rootOf(digester.parameters, whole, this.#sections), this.#isEqual, {
      sections: this.#sections,
      written: this.#written.summary(),
    })
  }

  /** What the first lane does: pass after pass, until nothing is left that nobody works on. */
  async #goOver(session: Session): Promise<void> {
    const { lanes, scan } = this.#context
    for (let range = this.#nextOfFront(); range !== null; range = this.#nextOfFront()) {
      const part = this.#paced(this.#open.meter.part(1), range.length)
      const turn = this.#isFirstPass ? 'first' : 'next'
      this.#isFirstPass = false
      const begun = this.#begin(session, range, part, turn, turn === 'first' ? scan : null)
      const front: Front = { offset: range.offset, endBytes: range.offset + range.length, part, begun }
      this.#front = front
      this.#pace.begun()
      const pass = await begun
      if (this.#mode === 'write' && turn === 'first')
        lanes.start({
          open: (lane) => openOnLane(lane, this.#open, this.#context),
          work: (lane) => this.#workOn(lane),
        })
      using _due = this.#cutWhenDue(session)
      const outcome = await pass.done
      // whoever was about to take some of it has it, or has nothing
      await this.#taking
      this.#front = null
      this.#pace.ended(front.endBytes - front.offset)
      this.#join(range, part, outcome)
    }
  }

  #nextOfFront(): Range | null {
    return this.#ground.takeFront(this.#pace.nextBytes(this.#ground.bytes))
  }

  #paced(part: PartMeter, lengthBytes: number): PartMeter {
    const tell = ({ doneBytes }: { doneBytes: number }): void => this.#pace.progressed(doneBytes, lengthBytes)
    return {
      ...part,
      sourceProgress: (progress) => {
        part.sourceProgress(progress)
        tell(progress)
      },
      destinationProgress: (progress) => {
        part.destinationProgress(progress)
        tell(progress)
      },
    }
  }

  /** Ends the pass of the first lane when it has taken so long that what it did should not be lost. */
  #cutWhenDue({ channel }: Session): Disposable {
    if (this.#context.checkpoints === null) return { [Symbol.dispose]: () => undefined }
    let timer: NodeJS.Timeout | undefined
    const arm = (): void => {
      timer = setTimeout(() => {
        this.#inTurn(() => this.#cut()).then(arm, (error: unknown) => channel.fail(toSyncError(error)))
      }, this.#pace.patienceMs).unref()
    }
    arm()
    return { [Symbol.dispose]: () => clearTimeout(timer) }
  }

  /** Ends it at the next section boundary; the rest is for the next one, or for other lanes. */
  async #cut(): Promise<void> {
    const front = this.#front
    if (front === null) return
    const { offset, endBytes, part } = front
    const leftBytes = endBytes - offset - part.doneBytes()
    if (endBytes <= offset + SECTION_BYTES || !this.#pace.isWorthACut(part.doneBytes(), leftBytes)) return
    await this.#limitFront(front, offset + SECTION_BYTES)
    if (front.endBytes < endBytes)
      this.#ground.giveBack({ offset: front.endBytes, length: endBytes - front.endBytes })
  }

  /** Has the pass end at `fromBytes`, or behind it where it is there already. */
  async #limitFront(front: Front, fromBytes: number): Promise<void> {
    const pass = await front.begun
    const endBytes = (await pass.limitTo(fromBytes / this.#blockBytes)) * this.#blockBytes
    if (endBytes >= front.endBytes) return
    if (endBytes < fromBytes || endBytes % SECTION_BYTES !== 0)
      throw protocolError(`limited at byte ${endBytes}, where ${fromBytes} was asked for`)
    front.endBytes = endBytes
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

  async #begin(
    session: Session,
    range: Range,
    part: PartMeter,
    turn: 'first' | 'next' | 'stripe',
    scan: Scan | null,
  ): Promise<Pass> {
    const { verify, pair } = this.#context
    return await beginPass(session, this.#open, this.#context, {
      range,
      mode: this.#mode,
      verify,
      // once, before the first pass writes; further lanes come after that
      pair: turn === 'first' ? pair : null,
      leaves: leavesOf(this.#open, range, this.#mode),
      scan,
      permitted: this.#marking,
      part,
      onWritten: this.#written.sink(),
    })
  }

  #join({ offset, length }: Range, part: PartMeter, { said, destination, sections }: PassOutcome): void {
    const { meter, size } = this.#open
    const { options } = this.#context
    const endBytes = Math.min(said.endBlock * this.#blockBytes, offset + length)
    part.finished(said, destination.readBytes, endBytes - offset)
    if (this.#mode === 'write') this.#checkVerified(destination.verifiedBytes)
    meter.compared(said.differing)
    checkUnreadable(said.unreadable, { offset, length: endBytes - offset }, badSectorsOf(options))
    meter.unread(said.unreadable)
    meter.keptBytes(destination.undoBytes)
    sections.copy(this.#sections, (offset / SECTION_BYTES) * 32)
    this.#joinedBytes += endBytes - offset
    this.#isEqual &&= said.root === destination.root
    if (endBytes - offset === size.lengthBytes) this.#wholeRoot = said.root
    this.#done.add({ offset, length: endBytes - offset })
    if (performance.now() - this.#putMs >= this.#pace.everyMs / 2 && this.#joinedBytes < size.lengthBytes)
      this.#checkpoint()
  }

  /** What an earlier run did. */
  #adopt({ runs, digests }: DoneBefore): void {
    let at = 0
    for (const [from, end] of runs) {
      const bytes = (end - from) * 32
      digests.copy(this.#sections, from * 32, at, at + bytes)
      at += bytes
      const range = { offset: from * SECTION_BYTES, length: (end - from) * SECTION_BYTES }
      range.length = Math.min(range.length, this.#open.size.lengthBytes - range.offset)
      this.#done.add(range)
      this.#joinedBytes += range.length
    }
  }

  /** Every pass that was joined is flushed, and both ends have the same digests of it. */
  #checkpoint(): void {
    const { checkpoints } = this.#context
    if (checkpoints === null) return
    this.#putMs = performance.now()
    checkpoints.put(this.#done.runs, this.#sections)
  }

  /** A far end that was asked to read back and does not say that it did has not. */
  #checkVerified(verifiedBytes: number | null): void {
    if (this.#context.verify === 'none') return
    if (verifiedBytes === null) throw protocolError('finished frame without what was verified')
    this.#open.meter.verified('written', verifiedBytes)
  }

  /** A further lane: stripe after stripe, until it meets the first one. */
  async #workOn({ session, number }: Lane): Promise<void> {
    for (let range = await this.#take(); range !== null; range = await this.#take()) {
      const part = this.#open.meter.part(number)
      const pass = await this.#begin(session, range, part, 'stripe', null)
      this.#join(range, part, await pass.done)
    }
  }

  /** The next stripe from the end of what nobody works on, or of what the first lane has to itself; null when nothing is left. */
  async #take(): Promise<Range | null> {
    return await this.#inTurn(() => this.#takeNext())
  }

  /** One after the other: each of these may lower the end of what the first lane goes over. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const taken = this.#taking.then(work)
    this.#taking = taken.catch(() => undefined) // whoever asked for it hears of the failure
    return await taken
  }

  async #takeNext(): Promise<Range | null> {
    const front = this.#front
    const atBytes = front === null ? 0 : front.offset + front.part.doneBytes()
    const leftBytes = this.#ground.bytes + (front === null ? 0 : front.endBytes - atBytes)
    const share = leftBytes / (2 * this.#context.lanes.wanted)
    const wantedBytes = Math.min(MAX_STRIPE_BYTES, Math.max(SECTION_BYTES, share))
    const free = this.#ground.takeBack(wantedBytes)
    if (free !== null || front === null) return free
    const { endBytes } = front
    const fromBytes = Math.floor((endBytes - wantedBytes) / SECTION_BYTES) * SECTION_BYTES
    if (fromBytes <= atBytes) return null
    await this.#limitFront(front, fromBytes)
    return front.endBytes < endBytes ? { offset: front.endBytes, length: endBytes - front.endBytes } : null
  }
}
