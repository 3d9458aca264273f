// Destination half of a pass: its own digests go out, changes come in and are written, and at the end everything is
// flushed and the root compared. Refuses writes outside the announced disk, off the leaf grid, or out of order.

import { CODEC_ID } from '../codec/codec.js'
import type { Digester, Range } from '../digest/digester.js'
import { Root, SECTION_BYTES } from '../digest/root.js'
import { ZeroDigests } from '../digest/zero.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { SyncError, toSyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import type { Preserver } from '../undo/preserver.js'
import type { VerifyChoice } from '../options.js'
import type { RefineItem, RefineLevel } from '../wire/bodies.js'
import { decodeData, decodeMark, decodeRefine, encodeDetail } from '../wire/bodies.js'
import type { Channel } from '../wire/channel.js'
import { WINDOW_BYTES } from '../wire/channel.js'
import type { FinishMessage } from '../wire/control.js'
import { decodeFinish, encodeFinished } from '../wire/control.js'
import type { Frame } from '../wire/frame.js'
import { FRAME, frameName, MAX_SLAB_BYTES, protocolError } from '../wire/frame.js'
import { Announcer } from './announcer.js'
import { PassGeometry } from './geometry.js'
import { ReadBack, readBackDigester } from './read-back.js'
import { Retained } from './retained.js'
import { Scan } from './scan.js'
import { Writer } from './writer.js'
import type { RangeSink } from './written-ranges.js'

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
  /**
   * `written`: what a pass wrote is read back after its flush; `all`: a pass that compares reads from the device. Absent is
   * neither. `native` is for the digester that it takes.
   */
  verify?: Readonly<{ what: VerifyChoice; native: NativeCore | null }>
  /** Keeps the old content of what is written; the pass closes it. Absent is nobody. */
  preserver?: Preserver | null
  /** Nothing is written before this resolves. */
  permitted?: Promise<unknown>
  /** Told when the first frame of the pass is here: the source has begun it. */
  onBegun?: () => void
  /** Told of what arrived to be written. */
  onWritten?: RangeSink
  onProgress?: (progress: DestinationProgress) => void
}>

/** `sections` are the section digests of what was gone over: [start of the range, block `sourceSays.endBlock`). */
export type DestinationResult = Readonly<{
  root: string
  sections: Buffer
  sourceSays: FinishMessage
  readBytes: number
  /** Written, read back and found equal; null where that was not asked for. */
  verifiedBytes: number | null
  /** Journal with the old content of what was written. */
  undoBytes: number
}>

/**
 * Runs the pass to its end. Rejects with the first error of either side; by then nothing is being read or written any
 * more, and what had been written is flushed.
 */
export async function runDestination(pass: DestinationPass): Promise<DestinationResult> {
  // what is compared is what the device has, where that is the question
  const { what = 'none', native = null } = pass.verify ?? {}
  using _device = what === 'all' ? await pass.endpoint.readFromDevice() : null
  const isReadBack = what === 'written' && pass.mode === 'write'
  const digester = isReadBack ? await readBackDigester(pass.digester.parameters, native) : null
  try {
    return await new DestinationRun(pass, digester).run()
  } finally {
    await pass.preserver?.close()
  }
}

class DestinationRun {
  readonly #pass: DestinationPass
  readonly #geometry: PassGeometry
  readonly #root: Root
  readonly #retained: Retained
  readonly #scan: Scan
  readonly #announcer: Announcer
  readonly #writer: Writer
  /** Of what is to be verified; null where nothing is. */
  readonly #readBack: ReadBack | null
  #lastEnd: number
  #markedBlock: number
  #receivedBytes = 0
  /** Blocks and groups whose digests were asked for. */
  #askedItems = 0

  constructor(pass: DestinationPass, readBackDigester: Digester | null) {
    const { channel, disk, digester, endpoint, range } = pass
    const zeros = new ZeroDigests(digester, range.offset + range.length)
    this.#pass = pass
    this.#geometry = new PassGeometry(digester.parameters.geometry, range)
    this.#lastEnd = range.offset
    this.#markedBlock = this.#geometry.firstBlock
    this.#readBack = readBackDigester === null ? null : new ReadBack(endpoint, readBackDigester, pass.operand)
    this.#root = new Root(digester, zeros, range)
    this.#retained = new Retained(digester, this.#geometry, zeros, this.#root)
    this.#scan = new Scan(endpoint, digester, range)
    this.#announcer = new Announcer(channel, disk, this.#scan, this.#retained)
    this.#writer = new Writer(channel, endpoint, pass, (block) => this.#report(block ?? this.#markedBlock))
  }

  async run(): Promise<DestinationResult> {
    const announcing = this.#announcer.run()
    const writing = this.#writer.run()
    // Each of the three fails the others; the first error is the one that counts.
    let first: { error: unknown } | null = null
    const failAll = (error: unknown): void => {
      if (first !== null) return
      first = { error }
      this.#announcer.fail(error)
      this.#writer.fail(error)
      this.#pass.channel.fail(toSyncError(error))
    }
    announcing.catch(failAll)
    writing.catch(failAll)
    try {
      const sourceSays = await this.#receive()
      if (sourceSays.endBlock < this.#geometry.endBlock) await this.#announcer.cut()
      await announcing
      this.#writer.end()
      await writing
      if (this.#pass.mode === 'write') await this.#writer.flush()
      await this.#readBack?.check()
      this.#report(this.#root.blocks)
      return this.#finish(sourceSays)
    } catch (error) {
      failAll(error)
      await this.#scan.stop()
      await Promise.allSettled([announcing, writing])
      throw await this.#writer.flushAfter((first as { error: unknown } | null)?.error ?? error)
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
    const said = {
      root,
      readBytes: this.#scan.readBytes,
      verifiedBytes: this.#readBack?.bytes ?? null,
      undoBytes: this.#pass.preserver?.bytes ?? 0,
    }
    channel.post(FRAME.finished, disk, encodeFinished(said))
    return { ...said, sections, sourceSays }
  }

  async #receive(): Promise<FinishMessage> {
    const { channel, disk } = this.#pass
    for (;;) {
      const frame = await channel.receive()
      this.#pass.onBegun?.()
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
    this.#announcer.decided(this.#retained.decide(block))
    this.#markedBlock = block
    if (this.#writer.isIdle) this.#report(block)
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
    // Each block and each group once: who asks on would be answered for ever.
    this.#askedItems += items.length
    if (this.#askedItems > this.#geometry.itemCount) throw protocolError('details asked for more than once')
    channel.post(FRAME.detail, disk, ...encodeDetail(level, items.length, slabs))
  }

  /** Checks and digests what arrived; the write itself follows in order. */
  async #accept(frame: Frame): Promise<void> {
    if (this.#pass.mode !== 'write') throw protocolError('data frame in a pass that only compares')
    const { endBytes, leafBytes } = this.#geometry
    const { records, codec, payload: packed, rawBytes } = decodeData(frame.body)
    // What comes behind it waits: marks count on what was digested before them.
    const payload = codec === CODEC_ID.none ? packed : await this.#writer.unpack(codec, packed, rawBytes)
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
    this.#pass.onWritten?.(records)
    this.#readBack?.add(records, payload)
    this.#receivedBytes += payload.length
    const unpackedBytes = codec === CODEC_ID.none ? 0 : rawBytes
    this.#writer.put({ frame, records, payload, unpackedBytes, markedBlock: this.#markedBlock })
    if (this.#readBack?.isFull === true) await this.#readBackNow(this.#readBack)
  }

  /** So much was written that no more of it is to be remembered: it is read back before the pass goes on. */
  async #readBackNow(readBack: ReadBack): Promise<void> {
    await this.#writer.settled()
    await this.#writer.flush()
    await readBack.check()
  }

  #report(block: number): void {
    const { counts } = this.#retained
    this.#pass.onProgress?.({
      doneBytes: this.#geometry.bytesBelow(block),
      receivedBytes: this.#receivedBytes,
      ...counts,
    })
  }
}
