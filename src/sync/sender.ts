// The last stage of a source: batches come in, are read a few ahead, and go out in order at the rate that is allowed, a
// mark behind each. Adds up the root and the counts of what was sent. Never writes to its endpoint.

import type { Compressor } from '../codec/compressor.js'
import type { Digester, Range } from '../digest/digester.js'
import { Root } from '../digest/root.js'
import type { ZeroDigests } from '../digest/zero.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import type { Throttle } from '../rate/throttle.js'
import { encodeData, encodeMark } from '../wire/bodies.js'
import type { Channel } from '../wire/channel.js'
import type { FinishMessage } from '../wire/control.js'
import { encodeFinish } from '../wire/control.js'
import { MAX_DIFFERING_RANGES } from '../wire/differing.js'
import { FRAME, MAX_DATA_PAYLOAD_BYTES } from '../wire/frame.js'
import { BoundedQueue } from '../wire/queue.js'
import type { Batch, Batcher, Outcome } from './batch.js'
import type { PassGeometry } from './geometry.js'
import type { BlockCounts } from './report.js'
import type { Rescue } from './rescue.js'
import type { RangeSink } from './written-ranges.js'

/** Batches being read ahead of the one that is sent. */
const BATCHES_AHEAD = 3

export type SourceProgress = BlockCounts & {
  /** Decided and, where it was sent, written by the destination. */
  doneBytes: number
  sentBytes: number
  zeroedBytes: number
}

export type SenderPass = Readonly<{
  channel: Channel
  disk: number
  endpoint: Endpoint
  digester: Digester
  mode: 'write' | 'compare'
  /** From a section boundary. */
  range: Range
  throttle: Throttle
  /** Told of what is sent to be written. */
  onWritten?: RangeSink
  /** Null where payload is sent as it is. */
  compressor: Compressor | null
  onProgress?: (progress: SourceProgress) => void
}>

/** What was said in `finish`, and the section digests of what was gone over. */
export type Said = Readonly<{ message: FinishMessage; sections: Buffer }>

export class Sender {
  readonly #pass: SenderPass
  readonly #geometry: PassGeometry
  readonly #batcher: Batcher
  readonly #root: Root
  readonly #rescue: Rescue | null
  readonly #batches = new BoundedQueue<Batch>(BATCHES_AHEAD)
  readonly #buffers: Uint8Array[] = []
  readonly #readings = new Set<Promise<void>>()
  /** Aborted when the pass fails: a wait for the rate may be minutes. */
  readonly #ended = new AbortController()
  /** For each data frame without credit: everything below that block was decided before it. */
  readonly #unacknowledged: number[] = []
  #markedBlock = 0
  /** Read while sending, of what the scan left unread. */
  #firstReadBytes = 0
  /** Where a pass that only compares found differences, the first ones. */
  readonly #differing: Range[] = []
  readonly #counts = {
    sameBlocks: 0,
    differentBlocks: 0,
    zeroBlocks: 0,
    skippedBlocks: 0,
    sentBytes: 0,
    zeroedBytes: 0,
  }

  /** `rescue` knows what could not be read; null where that ends the pass. */
  constructor(
    pass: SenderPass,
    geometry: PassGeometry,
    batcher: Batcher,
    zeros: ZeroDigests,
    rescue: Rescue | null,
  ) {
    this.#rescue = rescue
    this.#pass = pass
    this.#geometry = geometry
    this.#batcher = batcher
    this.#root = new Root(pass.digester, zeros, pass.range)
  }

  /** Puts a batch (null is none) in line and starts its read; waits while BATCHES_AHEAD are in line. */
  async put(batch: Batch | null): Promise<void> {
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

  /** No batch follows. */
  end(): void {
    this.#batches.end()
  }

  fail(error: unknown): void {
    this.#ended.abort(error)
    this.#batches.fail(error)
  }

  /** Resolves when nothing is being read for it any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#readings)
  }

  /** The destination has written that many data frames more. */
  acknowledge(frames: number): void {
    this.#unacknowledged.splice(0, frames)
    this.#report()
  }

  /** Sends what was put, in order; resolves after `end`, when all is in line. */
  async run(): Promise<void> {
    const { channel, disk } = this.#pass
    let sending: { left: Promise<void>; payload: Uint8Array } | null = null
    for (let batch = await this.#batches.shift(); batch !== undefined; batch = await this.#batches.shift()) {
      if (this.#pass.mode === 'write') {
        const sent = await this.#send(batch)
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
  }

  /** Says that the pass ends at `endBlock`; `scannedBytes` were read to compare. After `run`. */
  async finish(endBlock: number, scannedBytes: number): Promise<Said> {
    const { channel, disk, range, endpoint } = this.#pass
    const grownBytes = await endpoint.grownBytes()
    const length = this.#geometry.bytesBelow(endBlock)
    const { root, sections } = this.#root.finish(range.offset + length)
    const readBytes = scannedBytes + this.#firstReadBytes
    const unreadable = this.#rescue?.within({ offset: range.offset, length }) ?? []
    const differing = this.#differing
    const message = { ...this.#counts, root, endBlock, readBytes, grownBytes, differing, unreadable }
    channel.post(FRAME.finish, disk, encodeFinish(message))
    return { message, sections }
  }

  async #send(batch: Batch): Promise<{ left: Promise<void> } | null> {
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
    this.#pass.onWritten?.(records)
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
      this.#differs(range)
      if (owner !== null) owner.sentLeaves = true
    }
  }

  #differs({ offset, length }: Range): void {
    const last = this.#differing.at(-1)
    if (last !== undefined && last.offset + last.length === offset) last.length += length
    else if (this.#differing.length < MAX_DIFFERING_RANGES) this.#differing.push({ offset, length })
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

  #report(): void {
    const doneBlocks = this.#unacknowledged[0] ?? this.#root.blocks
    this.#pass.onProgress?.({ ...this.#counts, doneBytes: this.#geometry.bytesBelow(doneBlocks) })
  }
}
