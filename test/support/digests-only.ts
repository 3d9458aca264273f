// A disk of any size without content: every leaf of data digests to the same bytes, so that only the engine takes time and
// memory. Refuses to be read or written, having nothing.

import type { Digester, Range, SpanDigests } from '../../src/digest/digester.js'
import type { Role } from '../../src/endpoint/endpoint.js'
import { MemoryDisk } from './memory-disk.js'

export class DigestsOnly extends MemoryDisk {
  digestedBytes = 0
  readonly #gate: () => Promise<void>

  /** Every digest waits for `gate` first. */
  constructor(role: Role, sizeBytes: number, gate: () => Promise<void>, holes: readonly Range[] = []) {
    super({ role, content: Buffer.alloc(0), info: { sizeBytes }, holes })
    this.#gate = gate
  }

  override async digestSpan(
    range: Range,
    _digester: Digester,
    out: SpanDigests,
  ): Promise<{ coldBytes: number }> {
    await this.#gate()
    this.digestedBytes += range.length
    out.leaves.fill(1)
    out.blocks.fill(2)
    out.zeroLeaves.fill(0)
    out.zeroBlocks.fill(0)
    return { coldBytes: 0 }
  }
}
