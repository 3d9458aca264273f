// The root: one digest over the digests of all blocks, in order, with what they were made with. Both ends compute it
// over what the destination holds when a pass is done. Its definition is part of the protocol (docs/protocol.md).

import { createHash } from 'node:crypto'

import type { Digester } from './digester.js'
import type { ZeroDigests } from './zero.js'

/**
 * root = SHA-256( "blocksync-root-1\n" + algorithm + "\n" + seed in hex + "\n" + lengthBytes + "\n" + blockBytes + "\n"
 * + leafBytes + "\n" + all block digests ). Blocks are added in order, each once.
 */
export class Root {
  readonly #hash = createHash('sha256')
  readonly #zeros: ZeroDigests
  #blocks = 0

  constructor(digester: Digester, zeros: ZeroDigests, lengthBytes: number) {
    const { algorithm, seed, geometry } = digester.parameters
    const { blockBytes, leafBytes } = geometry
    this.#zeros = zeros
    this.#hash.update(
      `blocksync-root-1\n${algorithm}\n${Buffer.from(seed).toString('hex')}\n${lengthBytes}\n${blockBytes}\n${leafBytes}\n`,
    )
  }

  /** Blocks added so far: the index of the next one. */
  get blocks(): number {
    return this.#blocks
  }

  /** The digests of the next `blockCount` blocks. */
  add(digests: Uint8Array, blockCount: number): void {
    this.#hash.update(digests)
    this.#blocks += blockCount
  }

  /** The next `blockCount` blocks are all zeros. */
  addZeros(blockCount: number): void {
    this.#zeros.feed(this.#blocks, blockCount, (digests) => this.#hash.update(digests))
    this.#blocks += blockCount
  }

  /** The root in hex. Nothing can be added afterwards. */
  finish(): string {
    return this.#hash.digest('hex')
  }
}
