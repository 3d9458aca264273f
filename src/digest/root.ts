// The root: one digest over the digests of all blocks, with what they were made with. Blocks come in order within a part
// of the disk; parts may be made apart (by lanes) and joined. Its definition is part of the protocol (docs/protocol.md).

import { createHash, type Hash } from 'node:crypto'

import type { Digester, DigestParameters, Range } from './digester.js'
import type { ZeroDigests } from './zero.js'

/**
 * Blocks of so many bytes of the disk are digested together, so that parts of a disk can be joined without their block
 * digests being kept: a multiple of every block size. 32 bytes for each of them is all that a whole disk costs.
 */
export const SECTION_BYTES = 64 << 20
const SECTION_DIGEST_BYTES = 32
/** Room for these is taken at once (64 GiB of disk): a length that somebody claims is not worth more. */
const FIRST_SECTIONS = 1024

/**
 * root = SHA-256( "blocksync-root-2\n" + algorithm + "\n" + seed in hex + "\n" + blockBytes + "\n" + leafBytes + "\n"
 * + offset + "\n" + length + "\n" + all section digests ), for `range` of the disk (from a section boundary); in hex.
 * A section digest is the SHA-256 of the digests of the section's blocks.
 */
export function rootOf(
  parameters: DigestParameters,
  { offset, length }: Range,
  sections: Uint8Array,
): string {
  const { algorithm, seed, geometry } = parameters
  const { blockBytes, leafBytes } = geometry
  return createHash('sha256')
    .update(`blocksync-root-2\n${algorithm}\n${Buffer.from(seed).toString('hex')}\n`)
    .update(`${blockBytes}\n${leafBytes}\n${offset}\n${length}\n`)
    .update(sections)
    .digest('hex')
}

/** Collects the block digests of one range, in order, each block once. */
export class Root {
  readonly #digester: Digester
  readonly #zeros: ZeroDigests
  readonly #offset: number
  readonly #endBytes: number
  readonly #sectionBlocks: number
  /** Grows with what was gone over. */
  #sections: Buffer
  #sectionCount = 0
  /** The section that was begun, or null between two. */
  #open: Hash | null = null
  #zeroSection: Buffer | null = null
  #blocks: number

  /** `range` begins at a section boundary; `zeros` are of the same disk. */
  constructor(digester: Digester, zeros: ZeroDigests, range: Range) {
    const { blockBytes } = digester.parameters.geometry
    this.#digester = digester
    this.#zeros = zeros
    this.#offset = range.offset
    this.#endBytes = range.offset + range.length
    this.#sectionBlocks = SECTION_BYTES / blockBytes
    this.#blocks = range.offset / blockBytes
    const sections = Math.ceil(range.length / SECTION_BYTES)
    this.#sections = Buffer.alloc(Math.min(sections, FIRST_SECTIONS) * SECTION_DIGEST_BYTES)
  }

  /** The block whose digest is due next; all below it, from the start of the range, are in. */
  get blocks(): number {
    return this.#blocks
  }

  /** The digests of the next `blockCount` blocks. */
  add(digests: Uint8Array, blockCount: number): void {
    const { digestBytes } = this.#digester
    for (let done = 0; done < blockCount;) {
      const take = Math.min(blockCount - done, this.#leftInSection())
      this.#hash().update(digests.subarray(done * digestBytes, (done + take) * digestBytes))
      this.#advance(take)
      done += take
    }
  }

  /** The next `blockCount` blocks are all zeros. */
  addZeros(blockCount: number): void {
    for (let left = blockCount; left > 0;) {
      const take = Math.min(left, this.#leftInSection())
      // A disk of a terabyte may be zeros but for a little: most sections are this one.
      if (take === this.#sectionBlocks && !this.#endsWith(take)) {
        this.#put((this.#zeroSection ??= this.#digestOfZeros(take)))
        this.#blocks += take
      } else {
        const hash = this.#hash()
        this.#zeros.feed(this.#blocks, take, (digests) => hash.update(digests))
        this.#advance(take)
      }
      left -= take
    }
  }

  /** The root over [start of the range, `endBytes`), all of whose blocks are in, and its section digests. Once. */
  finish(endBytes: number = this.#endBytes): { root: string; sections: Buffer } {
    this.#close()
    const sections = this.#sections.subarray(0, this.#sectionCount * SECTION_DIGEST_BYTES)
    const range = { offset: this.#offset, length: endBytes - this.#offset }
    return { root: rootOf(this.#digester.parameters, range, sections), sections }
  }

  #leftInSection(): number {
    return this.#sectionBlocks - (this.#blocks % this.#sectionBlocks)
  }

  /** True where the next `blockCount` blocks reach the end of the range: the last one may be short. */
  #endsWith(blockCount: number): boolean {
    return (this.#blocks + blockCount) * this.#digester.parameters.geometry.blockBytes >= this.#endBytes
  }

  #hash(): Hash {
    return (this.#open ??= createHash('sha256'))
  }

  #advance(blockCount: number): void {
    this.#blocks += blockCount
    if (this.#blocks % this.#sectionBlocks === 0) this.#close()
  }

  #close(): void {
    if (this.#open === null) return
    this.#put(this.#open.digest())
    this.#open = null
  }

  #put(digest: Buffer): void {
    const at = this.#sectionCount * SECTION_DIGEST_BYTES
    if (at === this.#sections.length) this.#sections = Buffer.concat([this.#sections, Buffer.alloc(at)])
    digest.copy(this.#sections, at)
    this.#sectionCount += 1
  }

  #digestOfZeros(blockCount: number): Buffer {
    const hash = createHash('sha256')
    this.#zeros.feed(this.#blocks, blockCount, (digests) => hash.update(digests))
    return hash.digest()
  }
}
