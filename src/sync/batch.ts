// Decisions become batches: what one data frame can hold, read and digested in one call, a few batches ahead of the
// sender. What is sent is digested as it is sent, so that the root is true even where the disk changes under us.

import { CODEC_ID } from '../codec/codec.js'
import type { Compressor, Packed } from '../codec/compressor.js'
import type { Digester, Range } from '../digest/digester.js'
import type { ZeroDigests } from '../digest/zero.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import type { DataRecord } from '../wire/bodies.js'
import { MAX_DATA_PAYLOAD_BYTES, MAX_DATA_RECORDS, MAX_ZERO_RECORD_BYTES } from '../wire/frame.js'
import { placed } from './bad-sector.js'
import type { Decision } from './compare.js'
import type { PassGeometry } from './geometry.js'
import { append, appendPart, type BlockDecision, leafRuns, nextOf } from './leaf-runs.js'
import type { Rescue } from './rescue.js'

/** One piece of a decision in the order of the disk: leaves to read and send, or zeros to announce. */
type Segment = { kind: 'read' | 'zero'; range: Range; owner: Owner | null }

/** A block on its way out: its leaf digests as they are sent. */
type Owner = { decision: BlockDecision; leaves: Buffer; changed: boolean; sentLeaves: boolean }

/** What a batch is on the wire. */
export type Outgoing = Readonly<{ records: readonly DataRecord[]; packed: Packed }>

/** What follows in the root once the batch is out. */
export type Outcome =
  | { kind: 'run'; decision: Decision & { kind: 'same' | 'zero' } }
  | { kind: 'block'; firstBlock: number; digest: Buffer; sent: boolean }

export class Batch {
  readonly segments: Segment[] = []
  readonly finished: (Owner | (Decision & { kind: 'same' | 'zero' }))[] = []
  readBytes = 0
  /** Of these, bytes of blocks that were not read before: what a scan would have counted. */
  firstReadBytes = 0
  recordCount = 0
  /** Resolves when `payload`, `leaves` and `zeroLeaves` are filled. Null where nothing is read. */
  reading: Promise<void> | null = null
  /** What goes out, once it is read and packed; null where that is not done ahead. */
  outgoing: Outgoing | null = null
  /** Payload it may have. */
  readonly #limitBytes: number
  payload: Uint8Array = NOTHING
  leaves: Buffer = NOTHING
  zeroLeaves: Uint8Array = NOTHING
  /** One byte a leaf, 1 where it could not be read and the destination keeps what it has; null where all was read. */
  bad: Uint8Array | null = null

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes
  }

  get roomBytes(): number {
    return this.#limitBytes - this.readBytes
  }

  get isFull(): boolean {
    return (
      this.readBytes >= this.#limitBytes ||
      this.recordCount >= MAX_DATA_RECORDS ||
      this.finished.length >= MAX_DECISIONS
    )
  }
}

/** Decisions of one batch: the destination hears of them when it is sent, and waits with its memory until then. */
const MAX_DECISIONS = 64

const NOTHING = Buffer.alloc(0)

/** Cuts decisions into batches. One for each pass; `add` in order, `take` when a batch is full or nothing more is due. */
export class Batcher {
  readonly #geometry: PassGeometry
  readonly #digester: Digester
  readonly #zeros: ZeroDigests
  readonly #grainBytes: () => number
  readonly #rescue: Rescue | null
  #isEnded = false
  #batch: Batch

  /**
   * `grainBytes`: payload of one frame that keeps the line even; at most MAX_DATA_PAYLOAD_BYTES are taken. `rescue` goes on
   * over bad sectors; null where they end the pass.
   */
  constructor(
    geometry: PassGeometry,
    digester: Digester,
    zeros: ZeroDigests,
    grainBytes: () => number = () => Infinity,
    rescue: Rescue | null = null,
  ) {
    this.#rescue = rescue
    this.#geometry = geometry
    this.#digester = digester
    this.#zeros = zeros
    this.#grainBytes = grainBytes
    this.#batch = this.#fresh()
  }

  /** Takes a decision whose answers are in; yields each batch that it fills. */
  *add(decision: Decision): Generator<Batch> {
    if (decision.kind === 'same') {
      this.#batch.finished.push(decision)
    } else if (decision.kind === 'zero') {
      const { offset, length } = this.#geometry.blocks(decision.firstBlock, decision.blockCount)
      for (let done = 0; done < length; done += MAX_ZERO_RECORD_BYTES) {
        if (this.#batch.isFull) yield this.#swap()
        this.#put(
          {
            kind: 'zero',
            range: { offset: offset + done, length: Math.min(MAX_ZERO_RECORD_BYTES, length - done) },
            owner: null,
          },
          1,
        )
      }
      this.#batch.finished.push(decision)
    } else {
      const owner = this.#owner(decision)
      for (const { kind, firstLeaf, endLeaf } of leafRuns(decision, this.#geometry)) {
        for (let leaf = firstLeaf; leaf < endLeaf;) {
          if (this.#batch.isFull) yield this.#swap()
          const room = kind === 'zero' ? endLeaf - leaf : this.#roomLeaves()
          const upTo = Math.min(endLeaf, leaf + room)
          const range = this.#geometry.leaves(decision.firstBlock, leaf, upTo)
          // A read leaf may turn out to be zeros, so each can become a record of its own.
          this.#put({ kind, range, owner }, kind === 'zero' ? 1 : upTo - leaf)
          leaf = upTo
        }
      }
      this.#batch.finished.push(owner)
    }
    if (this.#batch.isFull) yield this.#swap()
  }

  /** The batch so far, if there is anything in it. */
  take(): Batch | null {
    return this.#batch.finished.length === 0 && this.#batch.segments.length === 0 ? null : this.#swap()
  }

  #roomLeaves(): number {
    const byBytes = Math.floor(this.#batch.roomBytes / this.#geometry.leafBytes)
    return Math.max(1, Math.min(byBytes, MAX_DATA_RECORDS - this.#batch.recordCount))
  }

  #put(segment: Segment, records: number): void {
    this.#batch.segments.push(segment)
    this.#batch.recordCount += records
    if (segment.kind !== 'read') return
    this.#batch.readBytes += records * this.#geometry.leafBytes
    if (segment.owner?.decision.kind === 'fill' && segment.owner.decision.known === null) {
      this.#batch.firstReadBytes += segment.range.length
    }
  }

  #swap(): Batch {
    const full = this.#batch
    this.#batch = this.#fresh()
    return full
  }

  #fresh(): Batch {
    return new Batch(Math.max(this.#geometry.leafBytes, Math.min(MAX_DATA_PAYLOAD_BYTES, this.#grainBytes())))
  }

  #owner(decision: BlockDecision): Owner {
    const known = decision.kind === 'leaves' ? decision.target.leaves : (decision.known?.leaves ?? null)
    const leaves = known ?? Buffer.from(this.#zeros.leaves(decision.firstBlock))
    const changed = known === null || (decision.kind === 'leaves' && decision.digest === null)
    return { decision, leaves, changed, sentLeaves: false }
  }

  /**
   * Starts the read of a batch into `buffer` (MAX_DATA_PAYLOAD_BYTES), and packs what was read where there is a
   * compressor; the promise is also `batch.reading`.
   */
  read(batch: Batch, endpoint: Endpoint, buffer: Uint8Array, compressor: Compressor | null): Promise<void> {
    const ranges = batch.segments.filter(({ kind }) => kind === 'read').map(({ range }) => range)
    const bytes = ranges.reduce((sum, { length }) => sum + length, 0)
    const leafCount = ranges.reduce(
      (sum, { length }) => sum + Math.ceil(length / this.#geometry.leafBytes),
      0,
    )
    batch.payload = buffer.subarray(0, bytes)
    batch.leaves = Buffer.allocUnsafe(leafCount * this.#digester.digestBytes)
    batch.zeroLeaves = new Uint8Array(leafCount)
    const reading = this.#readRanges(batch, ranges, endpoint)
    batch.reading = compressor === null ? reading : this.#pack(batch, reading, compressor)
    batch.reading.catch(() => undefined) // awaited by the sender, in order
    return batch.reading
  }

  async #readRanges(batch: Batch, ranges: readonly Range[], endpoint: Endpoint): Promise<void> {
    const { payload, leaves, zeroLeaves } = batch
    if (this.#rescue !== null) {
      batch.bad = await this.#rescue.readDigested(ranges, payload, leaves, zeroLeaves)
      return
    }
    try {
      await endpoint.readDigested(ranges, this.#digester, payload, leaves, zeroLeaves)
    } catch (error) {
      throw await placed(error, ranges, endpoint, () => this.#isEnded)
    }
  }

  /** The pass has failed: nothing is looked for any more. */
  end(): void {
    this.#isEnded = true
    this.#rescue?.end()
  }

  async #pack(batch: Batch, reading: Promise<void>, compressor: Compressor): Promise<void> {
    await reading
    const { records, parts } = this.#records(batch)
    batch.outgoing = { records, packed: await compressor.pack(parts) }
  }

  /** What a batch that was read is on the wire, uncompressed. */
  outgoing(batch: Batch): Outgoing {
    const { records, parts } = this.#records(batch)
    const rawBytes = parts.reduce((sum, part) => sum + part.length, 0)
    return { records, packed: { codec: CODEC_ID.none, parts, rawBytes } }
  }

  /** Records and payload of a batch that was read; its blocks' leaf digests become those of what is sent. */
  #records(batch: Batch): { records: DataRecord[]; parts: Uint8Array[] } {
    const records: DataRecord[] = []
    const parts: Uint8Array[] = []
    const { leafBytes } = this.#geometry
    let payloadAt = 0
    let leafAt = 0
    for (const { kind, range, owner } of batch.segments) {
      if (kind === 'zero' || owner === null) {
        append(records, 'zero', range.offset, range.length)
        if (owner !== null) owner.sentLeaves = true
        continue
      }
      const leafCount = Math.ceil(range.length / leafBytes)
      const { bad } = batch
      if (bad !== null) this.#keepTheirs(owner, range, bad, batch.leaves, leafAt, leafCount)
      this.#patch(owner, range, batch.leaves, leafAt, leafCount)
      const dropZeros = owner.decision.kind === 'fill'
      for (let leaf = 0; leaf < leafCount;) {
        const from = leafAt + leaf
        const isBad = bad?.[from] === 1
        const badEnd =
          bad === null ? leafAt + leafCount : nextOf(bad, isBad ? 0 : 1, from, leafAt + leafCount)
        const isZero = batch.zeroLeaves[from] === 1
        const end = (isBad ? badEnd : nextOf(batch.zeroLeaves, isZero ? 0 : 1, from, badEnd)) - leafAt
        const offset = range.offset + leaf * leafBytes
        const length = Math.min((end - leaf) * leafBytes, range.offset + range.length - offset)
        leaf = end
        if (!isBad && (!isZero || !dropZeros)) {
          owner.sentLeaves = true
          append(records, isZero ? 'zero' : 'data', offset, length)
          if (!isZero) appendPart(parts, batch.payload, payloadAt, length)
        }
        payloadAt += length
      }
      leafAt += leafCount
    }
    return { records, parts }
  }

  /** What the blocks of a batch came to, in order, after `outgoing` (in a pass that only compares: without it). */
  outcomes(batch: Batch): Outcome[] {
    return batch.finished.map((entry) => {
      if ('kind' in entry) return { kind: 'run', decision: entry }
      const { decision, leaves, changed, sentLeaves } = entry
      const known = decision.kind === 'leaves' ? decision.digest : (decision.known?.digest ?? null)
      const { firstBlock } = decision
      if (!changed && known !== null) return { kind: 'block', firstBlock, digest: known, sent: sentLeaves }
      const digest = Buffer.allocUnsafe(this.#digester.digestBytes)
      this.#digester.digestItems(leaves, leaves.length, digest)
      return { kind: 'block', firstBlock, digest, sent: sentLeaves }
    })
  }

  /** In place of bad leaves the digests of what the destination has there, since it keeps that. */
  #keepTheirs(
    { decision }: Owner,
    range: Range,
    bad: Uint8Array,
    leaves: Buffer,
    leafAt: number,
    leafCount: number,
  ): void {
    const { digestBytes } = this.#digester
    const { blockBytes, leafBytes } = this.#geometry
    const theirs =
      decision.kind === 'leaves' ? decision.target.theirs : this.#zeros.leaves(decision.firstBlock)
    const firstLeaf = (range.offset - decision.firstBlock * blockBytes) / leafBytes
    for (let leaf = 0; leaf < leafCount; leaf += 1) {
      if (bad[leafAt + leaf] !== 1) continue
      const from = (firstLeaf + leaf) * digestBytes
      theirs?.copy(leaves, (leafAt + leaf) * digestBytes, from, from + digestBytes)
    }
  }

  #patch(owner: Owner, range: Range, source: Buffer, leafAt: number, leafCount: number): void {
    const { digestBytes } = this.#digester
    const { blockBytes, leafBytes } = this.#geometry
    const at = ((range.offset - owner.decision.firstBlock * blockBytes) / leafBytes) * digestBytes
    const from = leafAt * digestBytes
    const end = (leafAt + leafCount) * digestBytes
    if (owner.leaves.compare(source, from, end, at, at + end - from) === 0) return
    source.copy(owner.leaves, at, from, end)
    owner.changed = true
  }
}
