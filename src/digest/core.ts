// Digests made by the native core: arguments pass through to one call on the thread pool, data never reaches JavaScript.
// What the core refuses (sizes, types) rejects here too; a failed read keeps its errno and offset.

import type { NativeAlgorithm, NativeCore } from '../native.js'
import type { Digester, DigestParameters, Range, ReadCount, ReadFrom, SpanDigests } from './digester.js'

/** Both algorithms of the core make 128 bits. */
export const CORE_DIGEST_BYTES = 16

/** A digester over the native core; `wireId` is the core's number of `parameters.algorithm`. */
export function coreDigester(
  parameters: DigestParameters,
  core: NativeCore,
  wireId: NativeAlgorithm,
): Digester {
  return new CoreDigester(parameters, core, wireId)
}

class CoreDigester implements Digester {
  readonly parameters: DigestParameters
  readonly digestBytes = CORE_DIGEST_BYTES
  readonly native = true
  readonly #core: NativeCore
  readonly #wireId: NativeAlgorithm

  constructor(parameters: DigestParameters, core: NativeCore, wireId: NativeAlgorithm) {
    this.parameters = parameters
    this.#core = core
    this.#wireId = wireId
  }

  async digestSpan({ fd, directFd }: ReadFrom, range: Range, out: SpanDigests): Promise<ReadCount> {
    const { seed, geometry } = this.parameters
    return this.#core.digestSpan(
      fd,
      directFd,
      range.offset,
      range.length,
      geometry.blockBytes,
      geometry.leafBytes,
      this.#wireId,
      seed,
      out.leaves,
      out.blocks,
      out.zeroLeaves,
      out.zeroBlocks,
    )
  }

  async readDigested(
    { fd, directFd }: ReadFrom,
    ranges: readonly Range[],
    into: Uint8Array,
    leaves: Uint8Array,
    zeroLeaves: Uint8Array,
  ): Promise<ReadCount> {
    const pairs = new Float64Array(ranges.length * 2)
    ranges.forEach((range, index) => pairs.set([range.offset, range.length], index * 2))
    const { seed, geometry } = this.parameters
    return this.#core.readDigested(
      fd,
      directFd,
      pairs,
      geometry.leafBytes,
      this.#wireId,
      seed,
      into,
      leaves,
      zeroLeaves,
    )
  }

  digestLeaves(data: Uint8Array, leaves: Uint8Array): void {
    this.digestItems(data, this.parameters.geometry.leafBytes, leaves)
  }

  digestItems(data: Uint8Array, itemBytes: number, out: Uint8Array): void {
    this.#core.digestItems(this.#wireId, this.parameters.seed, data, itemBytes, out)
  }
}
