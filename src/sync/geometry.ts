// Arithmetic of one pass: block and leaf numbers to byte ranges, with the short ones at the end of the disk.

import type { Geometry, Range } from '../digest/digester.js'

/** Leaves whose digests make one group digest: the step between a block and its leaves. */
export const GROUP_LEAVES = 16

/** `range` of a disk, from a block boundary. Block and leaf numbers count from the start of the disk. */
export class PassGeometry {
  readonly range: Range
  readonly blockBytes: number
  readonly leafBytes: number
  readonly leavesPerBlock: number
  readonly firstBlock: number
  readonly endBlock: number
  /** Where the range ends; its last block may be short there. */
  readonly endBytes: number

  constructor(geometry: Geometry, range: Range) {
    this.range = range
    this.blockBytes = geometry.blockBytes
    this.leafBytes = geometry.leafBytes
    this.leavesPerBlock = geometry.blockBytes / geometry.leafBytes
    this.endBytes = range.offset + range.length
    this.firstBlock = range.offset / geometry.blockBytes
    this.endBlock = Math.ceil(this.endBytes / geometry.blockBytes)
  }

  /** Bytes of `blockCount` blocks from `firstBlock` on. */
  blocks(firstBlock: number, blockCount: number): Range {
    const offset = firstBlock * this.blockBytes
    return { offset, length: Math.min(blockCount * this.blockBytes, this.endBytes - offset) }
  }

  /** Leaves in block `block`; fewer in the last one. */
  leafCount(block: number): number {
    return Math.ceil(this.blocks(block, 1).length / this.leafBytes)
  }

  /** Bytes of the leaves [firstLeaf, endLeaf) of block `block`. */
  leaves(block: number, firstLeaf: number, endLeaf: number): Range {
    const offset = block * this.blockBytes + firstLeaf * this.leafBytes
    return { offset, length: Math.min((endLeaf - firstLeaf) * this.leafBytes, this.endBytes - offset) }
  }

  groupCount(block: number): number {
    return Math.ceil(this.leafCount(block) / GROUP_LEAVES)
  }

  /** Blocks of the range, and groups in them: whatever there are details of. */
  get itemCount(): number {
    return (this.endBlock - this.firstBlock) * (1 + Math.ceil(this.leavesPerBlock / GROUP_LEAVES))
  }

  /** Bytes of the range done when everything in it below block `block` is. */
  bytesBelow(block: number): number {
    return Math.min(block * this.blockBytes, this.endBytes) - this.range.offset
  }
}
