// Source half of a pass: the destination's digests come in, its own disk is digested at the same time, and only the
// leaves that differ go out, in the order of the disk. Never writes to its endpoint.

import type { Compressor } from '../codec/compressor.js'
import type { Digester, Range } from '../digest/digester.js'
import { Root, SECTION_BYTES } from '../digest/root.js'
import { ZeroDigests } from '../digest/zero.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { SyncError, toSyncError } from '../errors.js'
import { decodeDigests, encodeData, encodeMark } from '../wire/bodies.js'
import type { Channel } from '../wire/channel.js'
import type { FinishedMessage, FinishMessage } from '../wire/control.js'
import { decodeFinished, encodeControl } from '../wire/control.js'
import type { Frame } from '../wire/frame.js'
import { FRAME, frameName, MAX_DATA_PAYLOAD_BYTES, protocolError } from '../wire/frame.js'
import { BoundedQueue } from '../wire/queue.js'
import { Announced } from './announced.js'
import { type Batch, Batcher, type Outcome } from './batch.js'
import { clip, CompareContext, type Decision, decide, slabBytesOf, type TheirRun } from './compare.js'
import { PassGeometry } from './geometry.js'
import { Refiner } from './refiner.js'
import type { BlockCounts } from './report.js'
import type { Throttle } from '../rate/throttle.js'
import { type Run, Scan } from './scan.js'

/** Leaf digests of blocks that wait for answers: as much as the destination keeps. */
const PENDING_SLAB_BYTES = 16 << 20
/** What a decision counts besides its slab: about what its objects take. */
const DECISION_WEIGHT_BYTES = 1024
/** Batches being read ahead of the sender, and one being sent. */
const BATCHES_AHEAD = 3

export type SourceProgress = BlockCounts & {
  /** Decided and, where it was sent, written by the destination. */
  doneBytes: number
  sentBytes: number
  zeroedBytes: number
}

export type SourcePass = Readonly<{
  channel: Channel
  disk: number
  endpoint: Endpoint
  digester: Digester
  mode: 'write' | 'compare'
  /** From a section boundary. */
  range: Range
  throttle: Throttle
  /** Null where payload is sent as it is. */
  compressor: Compressor | null
  /** A scan that was started before the far end was ready, with this digester; else one is made. */
  scan: Scan | null
  onProgress?: (progress: SourceProgress) => void
}>

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
  readonly #root: Root
  readonly #refiner: Refiner
  readonly #batcher: Batcher
  readonly #scan: Scan
  readonly #theirs = new BoundedQueue<{ frame: Frame; runs: TheirRun[] }>(Number.MAX_SAFE_INTEGER)
  readonly #decisions = new BoundedQueue<Decision>(PENDING_SLAB_BYTES)
  readonly #batches = new BoundedQueue<Batch>(BATCHES_AHEAD)
  readonly #buffers: Uint8Array[] = []
  readonly #readings = new Set<Promise<void>>()
  readonly #announced: Announced
  #failed: { error: unknown } | null = null
  /** Where the pass ends: lowered by limitTo. */
  #endBlock: number
  /** Everything below it was taken up by stage 2. */
  #takenBlock: number
  /** What is behind #endBlock is neither compared nor sent any more. */
  #isCut = false
  /** Aborted when the pass fails: a wait for the rate may be minutes. */
  readonly #ended = new AbortController()
  #said: { message: FinishMessage; sections: Buffer } | null = null
  readonly #unacknowledged: number[] = []
  #markedBlock = 0
  /** Read while sending, of what the scan left unread. */
  #firstReadBytes = 0
  readonly #counts = {
    sameBlocks: 0,
    differentBlocks: 0,
    zeroBlocks: 0,
    skippedBlocks: 0,
    sentBytes: 0,
    zeroedBytes: 0,
  }

  constructor(pass: SourcePass) {
    const { channel, disk, digester, endpoint, range } = pass
    const zeros = new ZeroDigests(digester, range.offset + range.length)
    this.#pass = pass
    this.#geometry = new PassGeometry(digester.parameters.geometry, range)
    this.#endBlock = this.#geometry.endBlock
    this.#takenBlock = this.#geometry.firstBlock
    this.#root = new Root(digester, zeros, range)
    this.#refiner = new Refiner(channel, disk, digester, this.#geometry)
    this.#batcher = new Batcher(this.#geometry, digester, zeros, () => pass.throttle.grainBytes)
    this.#scan = pass.scan ?? new Scan(endpoint, digester, range)
    this.#announced = new Announced(this.#geometry.firstBlock, this.#geometry.endBlock)
    if (pass.mode === 'write') {
      const { blockBytes } = this.#geometry
      this.#scan.skip = ({ offset, length }) =>
        this.#announced.isZero(offset / blockBytes, Math.ceil((offset + length) / blockBytes))
    }
  }

  async run(): Promise<SourceResult> {
    const { channel } = this.#pass
    channel.onCredit = (frames) => this.#acknowledge(frames)
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
      await Promise.allSettled(this.#readings)
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
    this.#ended.abort(error)
    this.#theirs.fail(error)
    this.#decisions.fail(error)
    this.#batches.fail(error)
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
    const context = new CompareContext(this.#pass.digester, this.#geometry, this.#refiner)
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
            for (const decision of decide(own, their, at, to, context)) {
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

  /** Stage 2: decisions whose answers are in, into batches; their reads start here. */
  async #batch(): Promise<void> {
    while (this.#takenBlock < this.#endBlock) {
      const decided = await this.#decisions.shift()
      if (decided === undefined || decided.firstBlock >= this.#endBlock) break
      const decision = clip(decided, this.#endBlock, this.#pass.digester.digestBytes)
      this.#takenBlock = decision.firstBlock + decision.blockCount
      if (decision.kind === 'leaves' && !decision.target.isReady) {
        await this.#queueBatch(this.#batcher.take())
        await decision.target.ready()
        if (!decision.target.isReady) return // abandoned: the pass has failed, and whoever failed it says why
      }
      for (const batch of this.#batcher.add(decision)) await this.#queueBatch(batch)
      if (this.#decisions.ready === 0) await this.#queueBatch(this.#batcher.take())
    }
    this.#cut()
    await this.#queueBatch(this.#batcher.take())
    this.#batches.end()
  }

  async #queueBatch(batch: Batch | null): Promise<void> {
    if (batch === null) return
    if (this.#pass.mode === 'write' && batch.readBytes > 0) {
      const buffer = this.#buffers.pop() ?? Buffer.allocUnsafeSlow(MAX_DATA_PAYLOAD_BYTES)
      const reading = this.#batcher.read(batch, this.#pass.endpoint, buffer, this.#pass.compressor)
      this.#readings.add(reading)
      const done = (): boolean => this.#readings.delete(reading)
      reading.then(done, done)
    }
    await this.#batches.push(batch)
  }

  /** Stage 3: batches out, in order; a mark behind each. */
  async #send(): Promise<void> {
    const { channel, disk } = this.#pass
    let sending: { left: Promise<void>; payload: Uint8Array } | null = null
    for (let batch = await this.#batches.shift(); batch !== undefined; batch = await this.#batches.shift()) {
      if (this.#pass.mode === 'write') {
        const sent = await this.#sendBatch(batch)
        // The buffer of the batch before this one is free once its bytes have left.
        if (sent !== null) {
          if (sending !== null) await this.#recycle(sending)
          sending = { left: sent.left, payload: batch.payload }
        }
      } else {
        this.#countOnly(batch)
      }
      for (const outcome of this.#batcher.outcomes(batch)) this.#account(outcome)
      if (this.#root.blocks > this.#markedBlock) {
        this.#markedBlock = this.#root.blocks
        channel.post(FRAME.mark, disk, encodeMark(this.#markedBlock))
      }
      this.#report()
    }
    if (sending !== null) await this.#recycle(sending)
    const endBlock = this.#endBlock
    const { root, sections } = this.#root.finish(
      this.#geometry.range.offset + this.#geometry.bytesBelow(endBlock),
    )
    const readBytes = this.#scan.readBytes + this.#firstReadBytes
    this.#said = { message: { ...this.#counts, root, endBlock, readBytes }, sections }
    channel.post(FRAME.finish, disk, encodeControl(this.#said.message))
  }

  async #sendBatch(batch: Batch): Promise<{ left: Promise<void> } | null> {
    const { channel, disk, throttle, compressor } = this.#pass
    await batch.reading
    this.#firstReadBytes += batch.firstReadBytes
    const { records, packed } = batch.outgoing ?? this.#batcher.outgoing(batch)
    if (records.length === 0) {
      if (batch.readBytes > 0) this.#recycleBuffer(batch.payload)
      return null
    }
    const payloadBytes = packed.parts.reduce((sum, part) => sum + part.length, 0)
    await throttle.take(payloadBytes, this.#ended.signal)
    this.#counts.sentBytes += packed.rawBytes
    for (const { kind, length } of records) if (kind === 'zero') this.#counts.zeroedBytes += length
    const sent = await channel.send(FRAME.data, disk, [encodeData(records, packed.codec), ...packed.parts])
    compressor?.watch(packed, sent.left)
    this.#unacknowledged.push(this.#root.blocks)
    return sent
  }

  /** What a writing pass would send. */
  #countOnly(batch: Batch): void {
    for (const { kind, range, owner } of batch.segments) {
      if (kind === 'read') this.#counts.sentBytes += range.length
      else this.#counts.zeroedBytes += range.length
      if (owner !== null) owner.sentLeaves = true
    }
  }

  async #recycle(sending: { left: Promise<void>; payload: Uint8Array }): Promise<void> {
    await sending.left
    this.#recycleBuffer(sending.payload)
  }

  #recycleBuffer(payload: Uint8Array): void {
    if (payload.buffer.byteLength === MAX_DATA_PAYLOAD_BYTES)
      this.#buffers.push(new Uint8Array(payload.buffer))
  }

  #account(outcome: Outcome): void {
    if (outcome.kind === 'block') {
      this.#root.add(outcome.digest, 1)
      if (outcome.sent) this.#counts.differentBlocks += 1
      else this.#counts.sameBlocks += 1
      return
    }
    const { decision } = outcome
    if (decision.kind === 'zero') {
      this.#root.addZeros(decision.blockCount)
      this.#counts.zeroBlocks += decision.blockCount
      return
    }
    if (decision.digests === null) this.#root.addZeros(decision.blockCount)
    else this.#root.add(decision.digests, decision.blockCount)
    if (decision.skipped) this.#counts.skippedBlocks += decision.blockCount
    else this.#counts.sameBlocks += decision.blockCount
  }

  #acknowledge(frames: number): void {
    this.#unacknowledged.splice(0, frames)
    this.#report()
  }

  #report(): void {
    const doneBlocks = this.#unacknowledged[0] ?? this.#root.blocks
    this.#pass.onProgress?.({ ...this.#counts, doneBytes: this.#geometry.bytesBelow(doneBlocks) })
  }
}
