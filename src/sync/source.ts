// Source half of a pass: the destination's digests come in, its own disk is digested at the same time, and only the
// leaves that differ go out (sender.ts), in the order of the disk. Never writes to its endpoint.

import { SECTION_BYTES } from '../digest/root.js'
import { ZeroDigests } from '../digest/zero.js'
import { SyncError, toSyncError } from '../errors.js'
import { decodeDigests } from '../wire/bodies.js'
import type { FinishedMessage, FinishMessage } from '../wire/control.js'
import { decodeFinished } from '../wire/control.js'
import type { Frame } from '../wire/frame.js'
import { FRAME, frameName, protocolError } from '../wire/frame.js'
import { BoundedQueue } from '../wire/queue.js'
import { Announced } from './announced.js'
import { Batcher } from './batch.js'
import { clip, CompareContext, type Decision, decide, slabBytesOf, type TheirRun } from './compare.js'
import { PassGeometry } from './geometry.js'
import { Refiner } from './refiner.js'
import { Rescue } from './rescue.js'
import { type Run, Scan } from './scan.js'
import { type Said, Sender, type SenderPass } from './sender.js'

/** Leaf digests of blocks that wait for answers: as much as the destination keeps. */
const PENDING_SLAB_BYTES = 16 << 20
/** What a decision counts besides its slab: about what its objects take. */
const DECISION_WEIGHT_BYTES = 1024

export type SourcePass = SenderPass & {
  /** A scan that was started before the far end was ready, with this digester and its rescue by `badSectors`; else one is made. */
  readonly scan: Scan | null
  /** What is done where the source cannot be read: `stop` (absent), or `skip`: the destination keeps what it has there. */
  readonly badSectors?: 'stop' | 'skip'
}

/** `sections` are the section digests of what was gone over: [start of the range, block `said.endBlock`). */
export type SourceResult = Readonly<{ said: FinishMessage; destination: FinishedMessage; sections: Buffer }>

/** A pass that is under way. */
export type SourceHandle = Readonly<{
  /** Rejects with the first error of either side; by then nothing is being read any more. */
  done: Promise<SourceResult>
  /**
   * Ends the pass at `block` instead of the end of its range, or at the first section boundary behind what is on its way
   * already. Gives back where it will end: from there on nothing was and nothing will be sent.
   */
  limitTo: (block: number) => number
}>

/** Begins a pass. */
export function beginSource(pass: SourcePass): SourceHandle {
  const run = new SourceRun(pass)
  const done = run.run()
  done.catch(() => undefined) // whoever began it awaits it too
  return { done, limitTo: (block) => run.limitTo(block) }
}

/** Runs a pass to its end. */
export async function runSource(pass: SourcePass): Promise<SourceResult> {
  return await beginSource(pass).done
}

class SourceRun {
  readonly #pass: SourcePass
  readonly #geometry: PassGeometry
  readonly #refiner: Refiner
  readonly #batcher: Batcher
  readonly #sender: Sender
  readonly #context: CompareContext
  readonly #scan: Scan
  readonly #theirs = new BoundedQueue<{ frame: Frame; runs: TheirRun[] }>(Number.MAX_SAFE_INTEGER)
  readonly #decisions = new BoundedQueue<Decision>(PENDING_SLAB_BYTES)
  readonly #announced: Announced
  #failed: { error: unknown } | null = null
  /** Where the pass ends: lowered by limitTo. */
  #endBlock: number
  /** Everything below it was taken up by stage 2. */
  #takenBlock: number
  /** What is behind #endBlock is neither compared nor sent any more. */
  #isCut = false
  #said: Said | null = null

  constructor(pass: SourcePass) {
    const { channel, disk, digester, endpoint, range } = pass
    const zeros = new ZeroDigests(digester, range.offset + range.length)
    this.#pass = pass
    this.#geometry = new PassGeometry(digester.parameters.geometry, range)
    this.#endBlock = this.#geometry.endBlock
    this.#takenBlock = this.#geometry.firstBlock
    this.#refiner = new Refiner(channel, disk, digester, this.#geometry)
    const { badSectors = 'stop' } = pass
    this.#scan =
      pass.scan ??
      new Scan(endpoint, digester, range, badSectors === 'skip' ? new Rescue(endpoint, digester) : null)
    const { rescue } = this.#scan
    this.#context = new CompareContext(digester, this.#geometry, this.#refiner, zeros, badSectors)
    this.#batcher = new Batcher(this.#geometry, digester, zeros, () => pass.throttle.grainBytes, rescue)
    this.#sender = new Sender(pass, this.#geometry, this.#batcher, zeros, rescue)
    this.#announced = new Announced(this.#geometry.firstBlock, this.#geometry.endBlock)
    if (pass.mode === 'write') {
      const { blockBytes } = this.#geometry
      this.#scan.skip = ({ offset, length }) =>
        this.#announced.isZero(offset / blockBytes, Math.ceil((offset + length) / blockBytes))
    }
  }

  async run(): Promise<SourceResult> {
    const { channel } = this.#pass
    channel.onCredit = (frames) => this.#sender.acknowledge(frames)
    const stages = [this.#compare(), this.#batch(), this.#send()]
    for (const stage of stages) stage.catch((error: unknown) => this.#fail(error))
    try {
      const destination = await this.#receive()
      await Promise.all(stages)
      const said = this.#said
      if (said === null) throw protocolError('finished before the source was')
      if (this.#pass.mode === 'write' && destination.root !== said.message.root) {
        throw new SyncError(
          'verify/mismatch',
          `the root digests differ: ${said.message.root} was sent, the destination has ${destination.root}`,
          {
            hint: 'Run the same command again; if it happens again, check memory and disks.',
          },
        )
      }
      return { said: said.message, destination, sections: said.sections }
    } catch (error) {
      this.#fail(error)
      await Promise.allSettled(stages)
      throw this.#failed?.error ?? error
    } finally {
      channel.onCredit = null
      await this.#scan.stop()
      await this.#sender.settled()
    }
  }

  limitTo(block: number): number {
    const sectionBlocks = SECTION_BYTES / this.#geometry.blockBytes
    const least = Math.ceil(this.#takenBlock / sectionBlocks) * sectionBlocks
    this.#endBlock = Math.min(this.#endBlock, Math.max(block, least))
    // Stage 2 may be waiting for a decision that is not wanted any more.
    if (this.#takenBlock >= this.#endBlock) this.#cut()
    return this.#endBlock
  }

  #cut(): void {
    if (this.#isCut || this.#endBlock === this.#geometry.endBlock) return
    this.#isCut = true
    this.#decisions.close()
    for (const { frame } of this.#theirs.close()) this.#pass.channel.release(frame)
    // Awaited once more at the end of the pass, where a failure of it counts.
    this.#scan.stop().catch(() => undefined)
  }

  #fail(error: unknown): void {
    if (this.#failed !== null) return
    this.#failed = { error }
    this.#sender.fail(error)
    this.#batcher.end()
    this.#theirs.fail(error)
    this.#decisions.fail(error)
    this.#refiner.abandon()
    this.#pass.channel.fail(toSyncError(error))
  }

  async #receive(): Promise<FinishedMessage> {
    const { channel, disk, digester } = this.#pass
    for (;;) {
      const frame = await channel.receive()
      if (frame.disk !== disk)
        throw protocolError(`${frameName(frame.type)} frame for disk ${frame.disk} during disk ${disk}`)
      if (frame.type === FRAME.digests) {
        const { firstBlock, runs } = decodeDigests(frame.body, digester.digestBytes)
        const placed = this.#announced.place(firstBlock, runs)
        if (this.#isCut) channel.release(frame)
        else this.#theirs.put({ frame, runs: placed })
        if (this.#announced.isComplete) this.#theirs.end()
      } else if (frame.type === FRAME.detail) {
        this.#refiner.answer(frame.body)
        channel.release(frame)
      } else if (frame.type === FRAME.finished) {
        // Nobody receives behind this: a stage that still waits would wait for ever.
        if (this.#said === null) throw protocolError('finished before the source was')
        return decodeFinished(frame.body)
      } else {
        throw protocolError(`${frameName(frame.type)} frame in the middle of a pass`)
      }
    }
  }

  /** Stage 1: own runs against theirs, in order; decisions out. */
  async #compare(): Promise<void> {
    try {
      await this.#compareAll()
      this.#decisions.end()
    } catch (error) {
      if (!this.#isCut) throw error
    }
  }

  async #compareAll(): Promise<void> {
    const { firstBlock, endBlock } = this.#geometry
    let own: Run | undefined
    let at = firstBlock
    while (at < endBlock && !this.#isCut) {
      const received = await this.#theirs.shift()
      if (received === undefined) throw protocolError(`digests ended at block ${at} of ${endBlock}`)
      try {
        for (const their of received.runs) {
          const theirEnd = their.firstBlock + their.blockCount
          while (at < theirEnd && !this.#isCut) {
            if (own === undefined || at >= own.firstBlock + own.blockCount) own = await this.#scan.next()
            if (own === undefined)
              throw new SyncError('internal', `the scan ended at block ${at} of ${endBlock}`)
            const to = Math.min(theirEnd, own.firstBlock + own.blockCount)
            for (const decision of decide(own, their, at, to, this.#context)) {
              await this.#decisions.push(decision, slabBytesOf(decision) + DECISION_WEIGHT_BYTES)
            }
            at = to
          }
          this.#announced.pass(at)
        }
      } finally {
        this.#pass.channel.release(received.frame)
      }
    }
  }

  /** Stage 2: decisions whose answers are in, into batches, for the sender to read and send. */
  async #batch(): Promise<void> {
    while (this.#takenBlock < this.#endBlock) {
      const decided = await this.#decisions.shift()
      if (decided === undefined || decided.firstBlock >= this.#endBlock) break
      const decision = clip(decided, this.#endBlock, this.#pass.digester.digestBytes)
      this.#takenBlock = decision.firstBlock + decision.blockCount
      if (decision.kind === 'leaves' && !decision.target.isReady) {
        await this.#sender.put(this.#batcher.take())
        await decision.target.ready()
        if (!decision.target.isReady) return // abandoned: the pass has failed, and whoever failed it says why
      }
      for (const batch of this.#batcher.add(decision)) await this.#sender.put(batch)
      if (this.#decisions.ready === 0) await this.#sender.put(this.#batcher.take())
    }
    this.#cut()
    await this.#sender.put(this.#batcher.take())
    this.#sender.end()
  }

  /** Stage 3: batches out. */
  async #send(): Promise<void> {
    await this.#sender.run()
    this.#said = await this.#sender.finish(this.#endBlock, this.#scan.readBytes)
  }
}
