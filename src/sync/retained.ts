// What the destination announced and the source has not decided yet: digests of its blocks, patched with what arrives,
// handed to the root in order as marks come in. Refuses blocks that were not announced or are decided already.

import type { Digester, SpanDigests } from '../digest/digester.js'
import type { Root } from '../digest/root.js'
import type { ZeroDigests } from '../digest/zero.js'
import { protocolError } from '../wire/frame.js'
import { GROUP_LEAVES, type PassGeometry } from './geometry.js'
import type { Run } from './scan.js'

type Entry = {
  firstBlock: number
  endBlock: number
  /** Digests of a run with data; null where the run was zeros. */
  digests: SpanDigests | null
  /** Leaf digests of blocks that were changed since they were announced, in ascending order. */
  changed: Map<number, Buffer>
  weightBytes: number
}

/** What an entry counts besides its leaf digests. */
const ENTRY_BYTES = 512

/**
 * Leaf digests of changed blocks that no mark has passed: twice what a source that marks behind each data frame can leave
 * here (64 decisions of at most 512 KiB of leaf digests). More comes from one that never marks.
 */
const MAX_CHANGED_SLAB_BYTES = 64 << 20

export class Retained {
  readonly #digester: Digester
  readonly #geometry: PassGeometry
  readonly #zeros: ZeroDigests
  readonly #root: Root
  #entries: Entry[] = []
  #head = 0
  #announcedBlocks: number
  #changedSlabBytes = 0
  /** Decided blocks that were changed, and that were not. */
  readonly counts = { changedBlocks: 0, unchangedBlocks: 0 }

  constructor(digester: Digester, geometry: PassGeometry, zeros: ZeroDigests, root: Root) {
    this.#digester = digester
    this.#geometry = geometry
    this.#zeros = zeros
    this.#root = root
    this.#announcedBlocks = geometry.firstBlock
  }

  /** Memory a run takes until it is decided: its leaf digests, and the objects around them. */
  static weightBytesOf(run: Run): number {
    return ENTRY_BYTES + (run.kind === 'data' ? run.digests.leaves.length : 0)
  }

  /** Keeps a run that is about to be announced. Runs come in order and leave no gap. */
  add(run: Run): void {
    this.#entries.push({
      firstBlock: run.firstBlock,
      endBlock: run.firstBlock + run.blockCount,
      digests: run.kind === 'data' ? run.digests : null,
      changed: new Map(),
      weightBytes: Retained.weightBytesOf(run),
    })
    this.#announcedBlocks = run.firstBlock + run.blockCount
  }

  /** Group digests of a block as it was announced. */
  groups(block: number): Buffer {
    const leaves = this.#announcedLeaves(block)
    const out = Buffer.allocUnsafe(this.#geometry.groupCount(block) * this.#digester.digestBytes)
    this.#digester.digestItems(leaves, GROUP_LEAVES * this.#digester.digestBytes, out)
    return out
  }

  /** Leaf digests of one group of a block as it was announced. */
  leaves(block: number, group: number): Buffer {
    const leaves = this.#announcedLeaves(block)
    if (group >= this.#geometry.groupCount(block))
      throw protocolError(`group ${group} of block ${block} does not exist`)
    const groupBytes = GROUP_LEAVES * this.#digester.digestBytes
    return leaves.subarray(group * groupBytes, (group + 1) * groupBytes)
  }

  /** New content of leaves: `data`, or zeros where it is null. The range lies on leaf boundaries inside one disk. */
  patch(offset: number, length: number, data: Uint8Array | null): void {
    const { blockBytes, leafBytes } = this.#geometry
    const { digestBytes } = this.#digester
    const end = offset + length
    let at = offset
    while (at < end) {
      const block = Math.floor(at / blockBytes)
      const upTo = Math.min(end, (block + 1) * blockBytes)
      const entry = this.#entryOf(block)
      const firstLeaf = (at - block * blockBytes) / leafBytes
      const endLeaf = Math.ceil((upTo - block * blockBytes) / leafBytes)
      if (data !== null || entry.digests !== null || entry.changed.has(block)) {
        const leaves = this.#changedLeaves(entry, block)
        const target = leaves.subarray(firstLeaf * digestBytes, endLeaf * digestBytes)
        if (data === null)
          target.set(this.#zeros.leaves(block).subarray(firstLeaf * digestBytes, endLeaf * digestBytes))
        else this.#digester.digestLeaves(data.subarray(at - offset, upTo - offset), target)
      }
      at = upTo
    }
  }

  /** Everything below `block` is decided: it goes to the root. Returns the bytes that are free again. */
  decide(block: number): number {
    if (block > this.#announcedBlocks || block < this.#root.blocks) {
      throw protocolError(`mark at block ${block}, announced up to ${this.#announcedBlocks}`)
    }
    let freedBytes = 0
    while (this.#root.blocks < block) {
      const entry = this.#entries[this.#head]
      if (entry === undefined) throw protocolError(`mark at block ${block} beyond what was announced`)
      const upTo = Math.min(block, entry.endBlock)
      for (const [changedBlock, leaves] of entry.changed) {
        if (changedBlock >= upTo) break
        this.#addUnchanged(entry, changedBlock)
        const digest = Buffer.allocUnsafe(this.#digester.digestBytes)
        this.#digester.digestItems(leaves, leaves.length, digest)
        this.#root.add(digest, 1)
        entry.changed.delete(changedBlock)
        this.#changedSlabBytes -= leaves.length
        this.counts.changedBlocks += 1
      }
      this.#addUnchanged(entry, upTo)
      if (upTo === entry.endBlock) {
        freedBytes += entry.weightBytes
        this.#head += 1
      }
    }
    if (this.#head > 512) {
      this.#entries = this.#entries.slice(this.#head)
      this.#head = 0
    }
    return freedBytes
  }

  #addUnchanged(entry: Entry, upTo: number): void {
    const from = this.#root.blocks
    if (upTo <= from) return
    this.counts.unchangedBlocks += upTo - from
    if (entry.digests === null) return this.#root.addZeros(upTo - from)
    const { digestBytes } = this.#digester
    const { blocks } = entry.digests
    this.#root.add(
      blocks.subarray((from - entry.firstBlock) * digestBytes, (upTo - entry.firstBlock) * digestBytes),
      upTo - from,
    )
  }

  #changedLeaves(entry: Entry, block: number): Buffer {
    const known = entry.changed.get(block)
    if (known !== undefined) return known
    const leaves =
      entry.digests === null
        ? Buffer.from(this.#zeros.leaves(block))
        : this.#ownLeaves(entry.digests, entry, block)
    this.#changedSlabBytes += leaves.length
    if (this.#changedSlabBytes > MAX_CHANGED_SLAB_BYTES)
      throw protocolError('changes without a mark behind them')
    entry.changed.set(block, leaves)
    return leaves
  }

  #ownLeaves(digests: SpanDigests, entry: Entry, block: number): Buffer {
    const blockSlabBytes = this.#geometry.leavesPerBlock * this.#digester.digestBytes
    const at = (block - entry.firstBlock) * blockSlabBytes
    return digests.leaves.subarray(at, at + this.#geometry.leafCount(block) * this.#digester.digestBytes)
  }

  #announcedLeaves(block: number): Buffer {
    const entry = this.#entryOf(block)
    if (entry.digests === null || entry.changed.has(block))
      throw protocolError(`details of block ${block} asked for out of turn`)
    return this.#ownLeaves(entry.digests, entry, block)
  }

  #entryOf(block: number): Entry {
    if (block >= this.#root.blocks && block < this.#announcedBlocks) {
      let low = this.#head
      let high = this.#entries.length - 1
      while (low <= high) {
        const middle = (low + high) >>> 1
        const entry = this.#entries[middle]
        if (entry === undefined) break
        if (block < entry.firstBlock) high = middle - 1
        else if (block >= entry.endBlock) low = middle + 1
        else return entry
      }
    }
    throw protocolError(`block ${block} is not announced, or decided already`)
  }
}
