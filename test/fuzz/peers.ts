// The two halves of a pass as a fuzzer plays them: they know the rules, so that most of what they send is taken. The source
// sends what the disk has already, so that roots agree and passes end well; what spoils them comes from mutate.ts.

import type { Digester, Range } from '../../src/digest/digester.js'
import {
  type DataRecord,
  decodeDigests,
  decodeRefine,
  encodeCredit,
  encodeData,
  encodeDetail,
  encodeDigests,
  encodeMark,
  encodeRefine,
  type WireRun,
} from '../../src/wire/bodies.js'
import { encodeControl } from '../../src/wire/control.js'
import {
  encodeHeader,
  FRAME,
  type Frame,
  type FrameType,
  HEADER_BYTES,
  MAX_DATA_PAYLOAD_BYTES,
} from '../../src/wire/frame.js'
import type { DiskShape } from './disk.js'
import type { Random } from './random.js'

export type PassShape = Readonly<{ shape: DiskShape; range: Range; mode: 'write' | 'compare'; disk: number }>

/** Plays one half of one pass. */
export interface PassPeer {
  /** What it would send next; null where it has to wait. */
  next(): Buffer | null
  /** A frame of the half under test. */
  heard(frame: Frame): void
  /** True when the pass is over. */
  readonly isOver: boolean
}

export function frameOf(type: FrameType, disk: number, ...parts: readonly Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  return Buffer.concat([encodeHeader(type, disk, length), ...parts], HEADER_BYTES + length)
}

const GROUP_LEAVES = 16
/** How often a rude source sends what it must not: rarely, so that it comes in the middle of things. */
const RUDE_EVERY = 400
const COUNTS = {
  sameBlocks: 0,
  differentBlocks: 0,
  zeroBlocks: 0,
  skippedBlocks: 0,
  sentBytes: 0,
  zeroedBytes: 0,
  readBytes: 0,
}

/** The source, against a destination. */
export class SourcePeer implements PassPeer {
  readonly #random: Random
  readonly #pass: PassShape
  readonly #endBlock: number
  /** Null where it is not known: then any. */
  readonly #root: string | null
  readonly #onRoot: (root: string) => void
  readonly #isData: Uint8Array
  readonly #isTouched: Uint8Array
  readonly #firstBlock: number
  /** In one session of eight data is new. */
  readonly #isNew: boolean
  readonly #isRude: boolean
  #announced: number
  #decided: number
  #lastEnd: number
  #owedFrames = 0
  #owedBytes = 0
  #state: 'sending' | 'finished' | 'over' = 'sending'

  constructor(pass: PassShape, root: string | null, onRoot: (root: string) => void, random: Random) {
    const { shape, range } = pass
    this.#random = random
    this.#pass = pass
    this.#root = root
    this.#onRoot = onRoot
    this.#firstBlock = range.offset / shape.blockBytes
    this.#endBlock = Math.ceil((range.offset + range.length) / shape.blockBytes)
    this.#isData = new Uint8Array(this.#endBlock)
    this.#isTouched = new Uint8Array(this.#endBlock)
    this.#isNew = random.once(8)
    this.#isRude = random.once(2)
    this.#announced = this.#firstBlock
    this.#decided = this.#firstBlock
    this.#lastEnd = range.offset
  }

  get isOver(): boolean {
    return this.#state === 'over'
  }

  heard({ type, body }: Frame): void {
    if (type === FRAME.digests) {
      this.#owedFrames += 1
      this.#owedBytes += HEADER_BYTES + body.length
      for (const run of decodeDigests(body, 16).runs) {
        if (run.kind === 'data') this.#isData.fill(1, this.#announced, this.#announced + run.blockCount)
        this.#announced += run.blockCount
      }
    }
    if (type === FRAME.finished) {
      this.#state = 'over'
      const { root } = JSON.parse(body.toString()) as { root: string }
      this.#onRoot(root)
    }
  }

  next(): Buffer | null {
    const { disk, mode } = this.#pass
    if (this.#owedFrames > 0 && this.#random.once(4)) return this.#credit()
    if (this.#state !== 'sending') return null
    if (this.#decided === this.#endBlock) {
      this.#state = 'finished'
      return frameOf(
        FRAME.finish,
        disk,
        encodeControl({ ...COUNTS, root: this.#root ?? '0'.repeat(64), endBlock: this.#endBlock }),
      )
    }
    if (this.#announced === this.#decided) return null
    if (this.#isRude && this.#random.once(RUDE_EVERY)) return this.#wrongData()
    const what = this.#random.int(16)
    if (what < 3) return this.#refine() ?? this.#mark()
    if (what < 12 && mode === 'write') return this.#data() ?? this.#mark()
    return this.#mark()
  }

  #credit(): Buffer {
    const credit = frameOf(FRAME.credit, 0, encodeCredit(this.#owedFrames, this.#owedBytes))
    this.#owedFrames = 0
    this.#owedBytes = 0
    return credit
  }

  #mark(): Buffer {
    this.#decided = Math.min(this.#announced, this.#decided + this.#random.between(1, 2))
    return frameOf(FRAME.mark, this.#pass.disk, encodeMark(this.#decided))
  }

  #refine(): Buffer | null {
    const { blockBytes, leafBytes } = this.#pass.shape
    const block = this.#random.between(this.#decided, this.#announced - 1)
    if (this.#isData[block] !== 1 || this.#isTouched[block] === 1) return null
    const { range } = this.#pass
    const length = Math.min(blockBytes, range.offset + range.length - block * blockBytes)
    const groups = Math.ceil(Math.ceil(length / leafBytes) / GROUP_LEAVES)
    if (this.#random.once(2))
      return frameOf(FRAME.refine, this.#pass.disk, encodeRefine('groups', [{ block, group: 0 }]))
    const group = this.#random.int(groups)
    return frameOf(FRAME.refine, this.#pass.disk, encodeRefine('leaves', [{ block, group }]))
  }

  /** Well formed, and where or when it must not be: beside the range, the grid, the order, or in a pass that compares. */
  #wrongData(): Buffer {
    const random = this.#random
    const { range, shape, disk, mode } = this.#pass
    const { blockBytes, leafBytes } = shape
    const end = range.offset + range.length
    const offset =
      mode === 'compare' && random.once(2)
        ? Math.max(this.#lastEnd, this.#decided * blockBytes)
        : Math.max(
            0,
            random.pick([
              range.offset - leafBytes,
              this.#lastEnd - leafBytes,
              this.#decided * blockBytes - leafBytes,
              this.#announced * blockBytes,
              Math.floor(end / leafBytes) * leafBytes,
              end,
              end - leafBytes,
              2 ** 40,
            ]) + random.pick([0, 0, 0, 1, -1, leafBytes]),
          )
    const length = random.pick([1, leafBytes, leafBytes, leafBytes + 1, 2 * leafBytes, 3 * blockBytes])
    const kind = random.once(2) || length > MAX_DATA_PAYLOAD_BYTES ? 'zero' : 'data'
    const payload = Buffer.alloc(kind === 'data' ? length : 0, 0xee)
    return frameOf(FRAME.data, disk, encodeData([{ kind, offset, length }]), payload)
  }

  #data(): Buffer | null {
    const { shape, range, disk } = this.#pass
    const { blockBytes, leafBytes, content } = shape
    const records: DataRecord[] = []
    const parts: Buffer[] = []
    const limit = Math.min(range.offset + range.length, this.#announced * blockBytes)
    let at = Math.max(this.#lastEnd, this.#decided * blockBytes)
    for (let count = this.#random.between(1, 3); count > 0; count -= 1) {
      at += this.#random.int(2) * leafBytes
      if (at >= limit) break
      const length = Math.min(limit - at, leafBytes * this.#random.between(1, 2))
      const old = content.subarray(at, at + length)
      // what lies behind the content is a hole: zeros
      const isZero = old.length === 0 || (this.#isNew && this.#random.once(3))
      records.push({ kind: isZero ? 'zero' : 'data', offset: at, length })
      if (!isZero) {
        const data = this.#isNew ? Buffer.alloc(length, this.#random.next() & 0xff) : Buffer.alloc(length)
        if (!this.#isNew) old.copy(data)
        parts.push(data)
      }
      const endBlock = Math.ceil((at + length) / blockBytes)
      this.#isTouched.fill(1, Math.floor(at / blockBytes), endBlock)
      at += length
    }
    if (records.length === 0) return null
    this.#lastEnd = at
    return frameOf(FRAME.data, disk, encodeData(records), ...parts)
  }
}

/** The destination, against a source. Half of what it announces is what the source has. */
export class DestinationPeer implements PassPeer {
  readonly #random: Random
  readonly #pass: PassShape
  readonly #digester: Digester
  /** Of all blocks of the disk. */
  readonly #blocks: Buffer
  readonly #endBlock: number
  readonly #questions: { level: 'groups' | 'leaves'; items: readonly { block: number; group: number }[] }[] =
    []
  #announced: number
  #owedFrames = 0
  #owedBytes = 0
  #root: string | null = null
  isOver = false

  constructor(pass: PassShape, digester: Digester, blocks: Buffer, random: Random) {
    const { shape, range } = pass
    this.#random = random
    this.#pass = pass
    this.#digester = digester
    this.#blocks = blocks
    this.#announced = range.offset / shape.blockBytes
    this.#endBlock = Math.ceil((range.offset + range.length) / shape.blockBytes)
  }

  heard({ type, body }: Frame): void {
    if (type === FRAME.refine) this.#questions.push(decodeRefine(body))
    else if (type === FRAME.data) {
      this.#owedFrames += 1
      this.#owedBytes += HEADER_BYTES + body.length
    } else if (type === FRAME.finish) this.#root = (JSON.parse(body.toString()) as { root: string }).root
  }

  next(): Buffer | null {
    const { disk } = this.#pass
    const question = this.#random.once(2) ? this.#questions.shift() : undefined
    if (question !== undefined) {
      const slabs = question.items.map((item) => this.#answer(question.level, item))
      return frameOf(FRAME.detail, disk, ...encodeDetail(question.level, question.items.length, slabs))
    }
    if (this.#owedFrames > 0 && this.#random.once(2)) return this.#credit()
    if (this.#announced < this.#endBlock && this.#random.int(8) > 0) return this.#announce()
    if (this.#root === null || this.#questions.length > 0 || this.isOver) return null
    this.isOver = true
    return frameOf(FRAME.finished, disk, encodeControl({ root: this.#root, readBytes: 0 }))
  }

  #credit(): Buffer {
    const credit = frameOf(FRAME.credit, 0, encodeCredit(this.#owedFrames, this.#owedBytes))
    this.#owedFrames = 0
    this.#owedBytes = 0
    return credit
  }

  #announce(): Buffer {
    const first = this.#announced
    const runs: WireRun[] = []
    const { digestBytes } = this.#digester
    for (let count = this.#random.between(1, 3); count > 0 && this.#announced < this.#endBlock; count -= 1) {
      const most = this.#random.once(40) ? 100 : 2
      const blockCount = Math.min(this.#random.between(1, most), this.#endBlock - this.#announced)
      const kind = this.#random.int(8)
      if (kind < 6) {
        const own = this.#blocks.subarray(
          this.#announced * digestBytes,
          (this.#announced + blockCount) * digestBytes,
        )
        const blocks = kind < 4 ? own : this.#random.bytes(blockCount * digestBytes)
        runs.push({ kind: 'data', blockCount, blocks })
      } else runs.push({ kind: kind === 6 ? 'zero' : 'hole', blockCount })
      this.#announced += blockCount
    }
    return frameOf(FRAME.digests, this.#pass.disk, ...encodeDigests(first, runs))
  }

  /** Digests of nothing in particular: all leaves differ. Of the right length. */
  #answer(level: 'groups' | 'leaves', { block, group }: { block: number; group: number }): Buffer {
    const { shape, range } = this.#pass
    const length = Math.min(shape.blockBytes, range.offset + range.length - block * shape.blockBytes)
    const leaves = Math.ceil(length / shape.leafBytes)
    const count =
      level === 'groups'
        ? Math.ceil(leaves / GROUP_LEAVES)
        : Math.min(GROUP_LEAVES, leaves - group * GROUP_LEAVES)
    return Buffer.alloc(Math.max(0, count) * this.#digester.digestBytes, this.#random.next() & 0xff)
  }
}
