// One end's own disk as runs of blocks, in order: read and digested where there is data, not read where there is a hole.
// A few reads are under way at once, and a bounded amount is ready ahead of the consumer. Never writes.

import { availableParallelism } from 'node:os'

import type { Digester, Range, SpanDigests } from '../digest/digester.js'
import { spanDigests } from '../digest/digester.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { BoundedQueue } from '../wire/queue.js'
import { placed } from './bad-sector.js'
import type { Rescue } from './rescue.js'

/** A run of blocks with one property. `unread`: left for whoever sends it, because all of it will be sent anyway. */
export type Run =
  | DataRun
  | DamagedRun
  | (Blocks & { kind: 'zero' })
  | (Blocks & { kind: 'hole' })
  | (Blocks & { kind: 'unread' })
export type DataRun = Blocks & { kind: 'data'; digests: SpanDigests }
/** One block of which some leaves could not be read (`bad`, one byte a leaf): their digests and zero flags mean nothing. */
export type DamagedRun = Blocks & {
  kind: 'damaged'
  blockCount: 1
  leaves: Buffer
  zeroLeaves: Uint8Array
  bad: Uint8Array
}
type Blocks = { firstBlock: number; blockCount: number }

/** Bytes one call to the digester covers: at 8 MiB a tenth of the time goes into the calls and the frames they become. */
export const SPAN_BYTES = 32 << 20
/** Blocks of one hole run: far below what the wire's u32 can count, and its zeros go into the root in some 10 ms. */
const MAX_HOLE_BLOCKS = 1 << 20
/** Calls under way at once for cached files: memory bandwidth is used up by the cores there are. */
const CACHED_DEPTH = Math.min(2, availableParallelism())
/** Calls under way at once where the device itself is read: it wants a queue. */
const DEVICE_DEPTH = 4
/** Leaf digests that may be ready and not consumed. */
export const AHEAD_SLAB_BYTES = 16 << 20
/** A run without a slab still counts a little, so that their number is bounded too. */
const RUN_WEIGHT_BYTES = 4096

/** Scans `range` (from a block boundary) of `endpoint`. `readBytes` counts what was read and digested. */
export class Scan {
  readBytes = 0
  /** Asked before a span is read: true leaves it unread. May be set while the scan runs. */
  skip: ((range: Range) => boolean) | null = null
  readonly #endpoint: Endpoint
  readonly #digester: Digester
  readonly range: Range
  /** Goes on over bad sectors; null where they end the scan. */
  readonly rescue: Rescue | null
  readonly #ready = new BoundedQueue<Run>(AHEAD_SLAB_BYTES)
  readonly #done: Promise<void>
  #stopped = false
  /** Of a file: what was read last was not in the page cache. */
  #isCold = false

  /** Starts reading at once. `stop` must be called and awaited before the endpoint is closed. */
  constructor(endpoint: Endpoint, digester: Digester, range: Range, rescue: Rescue | null = null) {
    this.#endpoint = endpoint
    this.#digester = digester
    this.range = range
    this.rescue = rescue
    this.#done = this.#pump().then(
      () => this.#ready.end(),
      (error: unknown) => this.#ready.fail(error),
    )
  }

  get #depth(): number {
    return this.#endpoint.info.direct || this.#isCold ? DEVICE_DEPTH : CACHED_DEPTH
  }

  get #endBytes(): number {
    return this.range.offset + this.range.length
  }

  /** Runs that `next` would give without waiting. */
  get ready(): number {
    return this.#ready.ready
  }

  /** The next run, or undefined at the end of the disk. Rejects with the endpoint's error. */
  async next(): Promise<Run | undefined> {
    return await this.#ready.shift()
  }

  /** Ends the scan early; resolves when no read is under way any more. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#ready.fail(new Error('scan stopped'))
    await this.#done
  }

  async #pump(): Promise<void> {
    const underWay: Promise<readonly Run[]>[] = []
    try {
      for await (const span of this.#plan()) {
        if (this.#stopped) return
        const reading = this.#read(span)
        reading.catch(() => undefined) // awaited below, in order; this only keeps a later one from being called unhandled
        underWay.push(reading)
        while (underWay.length >= this.#depth) await this.#deliver(underWay.shift())
      }
      while (underWay.length > 0) await this.#deliver(underWay.shift())
    } finally {
      await Promise.allSettled(underWay)
    }
  }

  async #deliver(reading: Promise<readonly Run[]> | undefined): Promise<void> {
    for (const run of (await reading) ?? []) {
      await this.#ready.push(run, RUN_WEIGHT_BYTES + slabBytesOf(run))
    }
  }

  /** Holes and data, cut into pieces that one call, or one run on the wire, can hold. */
  async *#plan(): AsyncGenerator<Blocks & { kind: 'data' | 'hole' }> {
    for await (const { kind, firstBlock, blockCount } of this.#intervals()) {
      if (kind === 'data') {
        yield { kind, firstBlock, blockCount }
        continue
      }
      for (let done = 0; done < blockCount; done += MAX_HOLE_BLOCKS) {
        yield {
          kind,
          firstBlock: firstBlock + done,
          blockCount: Math.min(MAX_HOLE_BLOCKS, blockCount - done),
        }
      }
    }
  }

  /** Holes as they are, data cut into spans; a block that has both is data. */
  async *#intervals(): AsyncGenerator<Blocks & { kind: 'data' | 'hole' }> {
    const { blockBytes } = this.#digester.parameters.geometry
    const endBlock = Math.ceil(this.#endBytes / blockBytes)
    const spanBlocks = Math.max(1, Math.floor(SPAN_BYTES / blockBytes))
    // [from, to) is data found and not given out yet; everything below `from` was given out.
    let from = this.range.offset / blockBytes
    let to = from
    for await (const extent of this.#endpoint.extents(this.range)) {
      if (extent.kind === 'hole' || extent.length === 0) continue
      const first = Math.max(to, Math.floor(extent.offset / blockBytes))
      const end = Math.ceil((extent.offset + extent.length) / blockBytes)
      if (first > to) {
        if (to > from) yield { kind: 'data', firstBlock: from, blockCount: to - from }
        yield { kind: 'hole', firstBlock: to, blockCount: first - to }
        from = first
        to = first
      }
      to = Math.max(to, end)
      for (; to - from >= spanBlocks; from += spanBlocks)
        yield { kind: 'data', firstBlock: from, blockCount: spanBlocks }
    }
    if (to > from) yield { kind: 'data', firstBlock: from, blockCount: to - from }
    if (endBlock > to) yield { kind: 'hole', firstBlock: to, blockCount: endBlock - to }
  }

  async #read(span: Blocks & { kind: 'data' | 'hole' }): Promise<readonly Run[]> {
    const { firstBlock, blockCount } = span
    if (span.kind === 'hole') return [{ kind: 'hole', firstBlock, blockCount }]
    const { geometry } = this.#digester.parameters
    const offset = firstBlock * geometry.blockBytes
    const length = Math.min(blockCount * geometry.blockBytes, this.#endBytes - offset)
    if (this.skip?.({ offset, length }) === true) return [{ kind: 'unread', firstBlock, blockCount }]
    const digests = spanDigests(geometry, this.#digester.digestBytes, length)
    const { coldBytes, keptBytes = 0, damaged } = await this.#digest({ offset, length }, digests)
    this.#isCold = coldBytes * 2 > length - keptBytes
    this.readBytes += length - keptBytes
    return splitZeros(firstBlock, blockCount, digests, damaged, this.#digester)
  }

  async #digest(
    range: Range,
    digests: SpanDigests,
  ): Promise<{ coldBytes: number; keptBytes?: number; damaged: ReadonlyMap<number, Uint8Array> | null }> {
    const isOver = (): boolean => this.#stopped
    if (this.rescue !== null) return await this.rescue.digestSpan(range, digests, isOver)
    try {
      return { ...(await this.#endpoint.digestSpan(range, this.#digester, digests)), damaged: null }
    } catch (error) {
      throw await placed(error, [range], this.#endpoint, isOver)
    }
  }
}

function slabBytesOf(run: Run): number {
  if (run.kind === 'data') return run.digests.leaves.length
  return run.kind === 'damaged' ? run.leaves.length : 0
}

/** In place of a flag of a zero block. */
const DAMAGED = 2

/** A digested span as runs: zero and damaged blocks apart from the others. The runs' slabs are views into the span's. */
function splitZeros(
  firstBlock: number,
  blockCount: number,
  digests: SpanDigests,
  damaged: ReadonlyMap<number, Uint8Array> | null,
  digester: Digester,
): readonly Run[] {
  const { blockBytes, leafBytes } = digester.parameters.geometry
  const { digestBytes } = digester
  const leavesPerBlock = blockBytes / leafBytes
  const runs: Run[] = []
  // neither zeros nor data
  for (const block of damaged?.keys() ?? []) digests.zeroBlocks[block] = DAMAGED
  for (let at = 0; at < blockCount;) {
    const bad = damaged?.get(at)
    if (bad !== undefined) {
      const from = at * leavesPerBlock
      const end = from + bad.length
      runs.push({
        kind: 'damaged',
        firstBlock: firstBlock + at,
        blockCount: 1,
        leaves: digests.leaves.subarray(from * digestBytes, end * digestBytes),
        zeroLeaves: digests.zeroLeaves.subarray(from, end),
        bad,
      })
      at += 1
      continue
    }
    const zero = digests.zeroBlocks[at]
    let end = at + 1
    while (end < blockCount && digests.zeroBlocks[end] === zero) end += 1
    const run = { firstBlock: firstBlock + at, blockCount: end - at }
    if (zero === 1) runs.push({ kind: 'zero', ...run })
    else {
      runs.push({
        kind: 'data',
        ...run,
        digests: {
          leaves: digests.leaves.subarray(
            at * leavesPerBlock * digestBytes,
            end * leavesPerBlock * digestBytes,
          ),
          blocks: digests.blocks.subarray(at * digestBytes, end * digestBytes),
          zeroLeaves: digests.zeroLeaves.subarray(at * leavesPerBlock, end * leavesPerBlock),
          zeroBlocks: digests.zeroBlocks.subarray(at, end),
        },
      })
    }
    at = end
  }
  return runs
}
