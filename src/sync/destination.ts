// Destination half of a pass: its own digests go out, changes come in and are written, and at the end everything is
// flushed and the root compared. Refuses writes outside the announced disk, off the leaf grid, or out of order.

import { CODEC_ID, type CodecId } from '../codec/codec.js'
import { decompress } from '../codec/open.js'
import type { Digester, Range } from '../digest/digester.js'
import { Root, SECTION_BYTES } from '../digest/root.js'
import { ZeroDigests } from '../digest/zero.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { SyncError, toSyncError } from '../errors.js'
import type { DataRecord, RefineItem, RefineLevel, WireRun } from '../wire/bodies.js'
import { decodeData, decodeMark, decodeRefine, encodeDetail, encodeDigests } from '../wire/bodies.js'
import type { Channel } from '../wire/channel.js'
import { WINDOW_BYTES } from '../wire/channel.js'
import type { FinishMessage } from '../wire/control.js'
import { decodeFinish, encodeControl } from '../wire/control.js'
import type { Frame } from '../wire/frame.js'
import { FRAME, frameName, MAX_SLAB_BYTES, protocolError } from '../wire/frame.js'
import { BoundedQueue, Window } from '../wire/queue.js'
import { PassGeometry } from './geometry.js'
import { Retained } from './retained.js'
import { type Run, Scan } from './scan.js'

/** Leaf digests kept for blocks the source has not decided: 4 GiB of disk in 4 KiB leaves. */
const RETAINED_BYTES = 16 << 20
/** Frames being written at once: a disk wants a queue, and one write must not wait for the next frame to come. */
const WRITE_DEPTH = 4
/** Runs put into one digests frame when many small ones are ready. */
const MAX_RUNS_PER_FRAME = 64
/** Digests of one frame: room for a whole span in the smallest blocks. */
const DIGESTS_FRAME_BYTES = 128 << 10
/** Answers in line for a source that asks and does not read. */
const MAX_BACKLOG_BYTES = 4 * WINDOW_BYTES

/** Everything below `doneBytes` is decided and written; `receivedBytes` of payload came in so far. */
export type DestinationProgress = {
  doneBytes: number
  receivedBytes: number
  changedBlocks: number
  unchangedBlocks: number
}

export type DestinationPass = Readonly<{
  channel: Channel
  disk: number
  endpoint: Endpoint
  digester: Digester
  mode: 'write' | 'compare'
  /** From a section boundary. */
  range: Range
  /** What to call this disk in messages. */
  operand: string
  onProgress?: (progress: DestinationProgress) => void
}>

/** `sections` are the section digests of what was gone over: [start of the range, block `sourceSays.endBlock`). */
export type DestinationResult = Readonly<{
  root: string
  sections: Buffer
  sourceSays: FinishMessage
  readBytes: number
}>

/**
 * Runs the pass to its end. Rejects with the first error of either side; by then nothing is being read or written any
 * more, and what had been written is flushed.
 */
export async function runDestination(pass: DestinationPass): Promise<DestinationResult> {
  return await new DestinationRun(pass).run()
}

/** A data frame that was checked and digested. */
type Arrived = Readonly<{
  frame: Frame
  records: readonly DataRecord[]
  payload: Buffer
  /** What of #unpacked it holds. */
  unpackedBytes: number
}>

class DestinationRun {
  readonly #pass: DestinationPass
  readonly #geometry: PassGeometry
  readonly #root: Root
  readonly #retained: Retained
  readonly #retention = new Window(Number.MAX_SAFE_INTEGER, RETAINED_BYTES)
  /** Credit counts what crossed the wire; what came compressed takes more here until it is written. */
  readonly #unpacked = new Window(Number.MAX_SAFE_INTEGER, WINDOW_BYTES)
  readonly #scan: Scan
  readonly #writes = new BoundedQueue<Arrived>(Number.MAX_SAFE_INTEGER)
  #written = false
  /** Data frames accepted and not written yet. */
  #writing = 0
  #lastEnd: number
  /** The source ended before the end of the range: what was announced behind that is not wanted any more. */
  #isCut = false
  #markedBlock = 0
  #receivedBytes = 0

  constructor(pass: DestinationPass) {
    const { digester, endpoint, range } = pass
    const zeros = new ZeroDigests(digester, range.offset + range.length)
    this.#pass = pass
    this.#geometry = new PassGeometry(digester.parameters.geometry, range)
    this.#lastEnd = range.offset
    this.#root = new Root(digester, zeros, range)
    this.#retained = new Retained(digester, this.#geometry, zeros, this.#root)
    this.#scan = new Scan(endpoint, digester, range)
  }

  async run(): Promise<DestinationResult> {
    const announcing = this.#announce()
    const writing = this.#write()
    // Each of the three fails the others; the first error is the one that counts.
    let first: { error: unknown } | null = null
    const failAll = (error: unknown): void => {
      if (first !== null) return
      first = { error }
      this.#retention.fail(error)
      this.#unpacked.fail(error)
      this.#writes.fail(error)
      this.#pass.channel.fail(toSyncError(error))
    }
    announcing.catch(failAll)
    writing.catch(failAll)
    try {
      const sourceSays = await this.#receive()
      if (sourceSays.endBlock < this.#geometry.endBlock) await this.#cut()
      await announcing
      this.#writes.end()
      await writing
      if (this.#pass.mode === 'write') await this.#pass.endpoint.flush()
      this.#report(this.#root.blocks)
      return this.#finish(sourceSays)
    } catch (error) {
      failAll(error)
      await this.#scan.stop()
      await Promise.allSettled([announcing, writing])
      throw await this.#flushed((first as { error: unknown } | null)?.error ?? error)
    }
  }

  /** Flushes what was written before the pass failed with `error`; what to throw then. */
  async #flushed(error: unknown): Promise<unknown> {
    if (!this.#written) return error
    try {
      await this.#pass.endpoint.flush()
      return error
    } catch (flushError) {
      // A disk that failed already says more; whatever else ended the pass must not hide that this did not reach the disk.
      if (error instanceof SyncError && error.code.startsWith('destination/')) return error
      return flushError
    }
  }

  #finish(sourceSays: FinishMessage): DestinationResult {
    const { channel, disk, mode, operand } = this.#pass
    const endBytes = this.#geometry.range.offset + this.#geometry.bytesBelow(sourceSays.endBlock)
    const { root, sections } = this.#root.finish(endBytes)
    if (mode === 'write' && root !== sourceSays.root) {
      throw new SyncError(
        'verify/mismatch',
        `${operand}: the root digests differ: ${sourceSays.root} was sent, ${root} is here`,
        {
          operand,
          hint: 'The destination was written but is not what the source has. Run the same command again; if it happens again, check memory and disks.',
        },
      )
    }
    channel.post(FRAME.finished, disk, encodeControl({ root, readBytes: this.#scan.readBytes }))
    return { root, sections, sourceSays, readBytes: this.#scan.readBytes }
  }

  async #cut(): Promise<void> {
    this.#isCut = true
    this.#retention.fail(new Error('the pass was cut short'))
    await this.#scan.stop()
  }

  /** Own runs, as they are ready, to the source; what it has not decided is kept within RETAINED_BYTES. */
  async #announce(): Promise<void> {
    try {
      await this.#announceAll()
    } catch (error) {
      if (!this.#isCut) throw error
    }
  }

  async #announceAll(): Promise<void> {
    const { channel, disk } = this.#pass
    for await (const runs of this.#batches()) {
      const [first] = runs
      if (first === undefined) continue
      for (const run of runs) {
        await this.#retention.reserve(Retained.weightBytesOf(run))
        this.#retained.add(run)
      }
      await channel.send(FRAME.digests, disk, encodeDigests(first.firstBlock, runs.map(wireRun)))
    }
  }

  /** Runs that are ready together, as many as go into one frame. */
  async *#batches(): AsyncGenerator<Run[]> {
    let batch: Run[] = []
    let digestsBytes = 0
    let weightBytes = 0
    for (let run = await this.#scan.next(); run !== undefined; run = await this.#scan.next()) {
      const runBytes = run.kind === 'data' ? run.digests.blocks.length : 0
      const isFull = batch.length === MAX_RUNS_PER_FRAME || digestsBytes + runBytes > DIGESTS_FRAME_BYTES
      // A frame's runs are reserved before it is sent: more than the retention holds would wait for itself.
      if (isFull || weightBytes + Retained.weightBytesOf(run) > RETAINED_BYTES) {
        yield batch
        batch = []
        digestsBytes = 0
        weightBytes = 0
      }
      batch.push(run)
      digestsBytes += runBytes
      weightBytes += Retained.weightBytesOf(run)
      if (this.#scan.ready === 0) {
        yield batch
        batch = []
        digestsBytes = 0
        weightBytes = 0
      }
    }
    if (batch.length > 0) yield batch
  }

  async #receive(): Promise<FinishMessage> {
    const { channel, disk } = this.#pass
    for (;;) {
      const frame = await channel.receive()
      if (frame.disk !== disk)
        throw protocolError(`${frameName(frame.type)} frame for disk ${frame.disk} during disk ${disk}`)
      if (frame.type === FRAME.data) await this.#accept(frame)
      else if (frame.type === FRAME.mark) this.#mark(decodeMark(frame.body))
      else if (frame.type === FRAME.refine) this.#answer(decodeRefine(frame.body))
      else if (frame.type === FRAME.finish) {
        return this.#checkedFinish(decodeFinish(frame.body))
      } else throw protocolError(`${frameName(frame.type)} frame in the middle of a pass`)
    }
  }

  #checkedFinish(finish: FinishMessage): FinishMessage {
    const { endBlock, blockBytes } = this.#geometry
    if (this.#root.blocks !== finish.endBlock)
      throw protocolError(`finish at block ${finish.endBlock} after block ${this.#root.blocks}`)
    if (finish.endBlock !== endBlock && (finish.endBlock * blockBytes) % SECTION_BYTES !== 0)
      throw protocolError(`finish at block ${finish.endBlock} of ${endBlock}`)
    return finish
  }

  #mark(block: number): void {
    this.#retention.restore(0, this.#retained.decide(block))
    this.#markedBlock = block
    if (this.#writing === 0) this.#report(block)
  }

  #answer({ level, items }: { level: RefineLevel; items: readonly RefineItem[] }): void {
    const { channel, disk } = this.#pass
    if (channel.backlogBytes > MAX_BACKLOG_BYTES)
      throw protocolError('details asked for faster than they are read')
    let weightBytes = 0
    const slabs = items.map(({ block, group }) => {
      const slab = level === 'groups' ? this.#retained.groups(block) : this.#retained.leaves(block, group)
      weightBytes += slab.length
      if (weightBytes > MAX_SLAB_BYTES) throw protocolError('more details asked for than fit into one frame')
      return slab
    })
    channel.post(FRAME.detail, disk, ...encodeDetail(level, items.length, slabs))
  }

  /** Checks and digests what arrived; the write itself follows in order. */
  async #accept(frame: Frame): Promise<void> {
    if (this.#pass.mode !== 'write') throw protocolError('data frame in a pass that only compares')
    const { endBytes, leafBytes } = this.#geometry
    const { records, codec, payload: packed, rawBytes } = decodeData(frame.body)
    // What comes behind it waits: marks count on what was digested before them.
    const payload = codec === CODEC_ID.none ? packed : await this.#unpack(codec, packed, rawBytes)
    let payloadAt = 0
    for (const { kind, offset, length } of records) {
      const end = offset + length
      if (offset < this.#lastEnd || end > endBytes)
        throw protocolError(`data for ${offset}+${length}, out of order or outside the disk`)
      if (offset % leafBytes !== 0 || (end % leafBytes !== 0 && end !== endBytes))
        throw protocolError(`data for ${offset}+${length}, off the grid`)
      this.#lastEnd = end
      this.#retained.patch(
        offset,
        length,
        kind === 'data' ? payload.subarray(payloadAt, payloadAt + length) : null,
      )
      if (kind === 'data') payloadAt += length
    }
    this.#receivedBytes += payload.length
    this.#writing += 1
    this.#writes.put({ frame, records, payload, unpackedBytes: codec === CODEC_ID.none ? 0 : rawBytes })
  }

  async #unpack(codec: Exclude<CodecId, 0>, packed: Buffer, rawBytes: number): Promise<Buffer> {
    await this.#unpacked.reserve(rawBytes)
    return await decompress(codec, packed, rawBytes)
  }

  #report(block: number): void {
    const { counts } = this.#retained
    this.#pass.onProgress?.({
      doneBytes: this.#geometry.bytesBelow(block),
      receivedBytes: this.#receivedBytes,
      ...counts,
    })
  }

  /** Several frames are being written at once (they never overlap); their credit goes back in order. */
  async #write(): Promise<void> {
    const underWay: (Arrived & { writing: Promise<void> })[] = []
    try {
      for (let next = await this.#writes.shift(); next !== undefined; next = await this.#writes.shift()) {
        const writing = this.#writeRecords(next)
        writing.catch(() => undefined) // awaited below, in order
        underWay.push({ ...next, writing })
        while (underWay.length >= WRITE_DEPTH || (underWay.length > 0 && this.#writes.ready === 0)) {
          const oldest = underWay.shift()
          if (oldest === undefined) break
          await oldest.writing
          this.#pass.channel.release(oldest.frame)
          if (oldest.unpackedBytes > 0) this.#unpacked.restore(1, oldest.unpackedBytes)
          this.#writing -= 1
        }
        if (this.#writing === 0) this.#report(this.#markedBlock)
      }
    } finally {
      await Promise.allSettled(underWay.map(({ writing }) => writing))
    }
  }

  async #writeRecords({ records, payload }: Arrived): Promise<void> {
    const { endpoint } = this.#pass
    const ranges = records.filter((record) => record.kind === 'data')
    this.#written = true
    if (ranges.length > 0) await endpoint.write(ranges, payload)
    const zeros = records.filter((record) => record.kind === 'zero')
    if (zeros.length > 0) await endpoint.zero(zeros)
  }
}

function wireRun(run: Run): WireRun {
  if (run.kind === 'data') return { kind: 'data', blockCount: run.blockCount, blocks: run.digests.blocks }
  return { kind: run.kind === 'hole' ? 'hole' : 'zero', blockCount: run.blockCount }
}
