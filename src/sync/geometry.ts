// Arithmetic of one pass: block and leaf numbers to byte ranges, with the short ones at the end of the disk.

import type { Geometry, Range } from '../digest/digester.js'

/** Leaves whose digests make one group digest: the step between a block and its leaves. */
export const GROUP_LEAVES = 16

export class PassGeometry {
  readonly lengthBytes: number
  readonly blockBytes: number
  readonly leafBytes: number
  readonly leavesPerBlock: number
  readonly totalBlocks: number

  constructor(geometry: Geometry, lengthBytes: number) {
    this.lengthBytes = lengthBytes
    this.blockBytes = geometry.blockBytes
    this.leafBytes = geometry.leafBytes
    this.leavesPerBlock = geometry.blockBytes / geometry.leafBytes
    this.totalBlocks = Math.ceil(lengthBytes / geometry.blockBytes)
  }

  /** Bytes of `blockCount` blocks from `firstBlock` on. */
  blocks(firstBlock: number, blockCount: number): Range {
    const offset = firstBlock * this.blockBytes
    return { offset, length: Math.min(blockCount * this.blockBytes, this.lengthBytes - offset) }
  }

  /** Leaves in block `block`; fewer in the last one. */
  leafCount(block: number): number {
    return Math.ceil(this.blocks(block, 1).length / this.leafBytes)
  }

  /** Bytes of the leaves [firstLeaf, endLeaf) of block `block`. */
  leaves(block: number, firstLeaf: number, endLeaf: number): Range {
    const offset = block * this.blockBytes + firstLeaf * this.leafBytes
    return { offset, length: Math.min((endLeaf - firstLeaf) * this.leafBytes, this.lengthBytes - offset) }
  }

  groupCount(block: number): number {
    return Math.ceil(this.leafCount(block) / GROUP_LEAVES)
  }

  /** Bytes done when everything below block `block` is. */
  bytesBelow(block: number): number {
    return Math.min(block * this.blockBytes, this.lengthBytes)
  }
}
