// Digests of zeros for one disk: of a whole leaf and block and of the short ones at its end, computed once.
// With them a run of zeros is digested, compared and patched without reading anything.

import type { Digester } from './digester.js'

export class ZeroDigests {
  readonly #digester: Digester
  readonly #lengthBytes: number
  readonly #wholeLeaves: Buffer
  readonly #tailLeaves: Buffer
  readonly #wholeBlock: Buffer
  readonly #tailBlock: Buffer
  readonly #tailBlockIndex: number

  /** For a disk of `lengthBytes` bytes. */
  constructor(digester: Digester, lengthBytes: number) {
    const { blockBytes } = digester.parameters.geometry
    this.#digester = digester
    this.#lengthBytes = lengthBytes
    const tailBytes = lengthBytes % blockBytes
    this.#tailBlockIndex = tailBytes === 0 ? -1 : Math.floor(lengthBytes / blockBytes)
    this.#wholeLeaves = this.#leavesOf(Math.min(blockBytes, Math.max(lengthBytes, 1)))
    this.#wholeBlock = this.#blockOf(this.#wholeLeaves)
    this.#tailLeaves = tailBytes === 0 ? this.#wholeLeaves : this.#leavesOf(tailBytes)
    this.#tailBlock = this.#blockOf(this.#tailLeaves)
  }

  /** Digest of block `blockIndex` when it is all zeros. */
  block(blockIndex: number): Buffer {
    return blockIndex === this.#tailBlockIndex ? this.#tailBlock : this.#wholeBlock
  }

  /** Leaf digests of block `blockIndex` when it is all zeros. Not to be written to: copy first. */
  leaves(blockIndex: number): Buffer {
    return blockIndex === this.#tailBlockIndex ? this.#tailLeaves : this.#wholeLeaves
  }

  /** Calls `update` with the digests of `blockCount` zero blocks from `firstBlock` on, many at a time. */
  feed(firstBlock: number, blockCount: number, update: (digests: Uint8Array) => void): void {
    const endBlock = firstBlock + blockCount
    const wholeEnd = this.#tailBlockIndex !== -1 && endBlock > this.#tailBlockIndex ? endBlock - 1 : endBlock
    let left = wholeEnd - firstBlock
    if (left > 0) {
      const slab = Buffer.alloc(Math.min(left, FEED_BLOCKS) * this.#wholeBlock.length, this.#wholeBlock)
      for (; left > 0; left -= FEED_BLOCKS) {
        update(left >= FEED_BLOCKS ? slab : slab.subarray(0, left * this.#wholeBlock.length))
      }
    }
    if (wholeEnd < endBlock) update(this.#tailBlock)
  }

  #leavesOf(blockBytes: number): Buffer {
    const { leafBytes } = this.#digester.parameters.geometry
    const leaves = Buffer.alloc(Math.ceil(blockBytes / leafBytes) * this.#digester.digestBytes)
    if (this.#lengthBytes > 0) this.#digester.digestLeaves(Buffer.alloc(blockBytes), leaves)
    return leaves
  }

  #blockOf(leaves: Buffer): Buffer {
    const block = Buffer.alloc(this.#digester.digestBytes)
    this.#digester.digestItems(leaves, leaves.length, block)
    return block
  }
}

/** Digests handed on at once by `feed`: 64 KiB of the shortest. */
const FEED_BLOCKS = 4096
