// The JavaScript twin of the native core: reads with fs.read and digests with any hash function, leaf by leaf.
// Refuses outputs that are too small (RangeError) before it reads; awaits a read between chunks, so the event loop runs.

import type { Digester, DigestParameters, Range, ReadCount, ReadFrom, SpanDigests } from './digester.js'
import { chunkBytes, withScratch } from './scratch.js'

/** A hash function: writes the `digestBytes` bytes of the digest of `data` at `outOffset` of `out`. */
export type PlainHash = Readonly<{
  digestBytes: number
  hashInto: (data: Uint8Array, out: DataView, outOffset: number) => void
}>

/** A digester in JavaScript around `hash`; the same bytes as the native core gives for the same hash function. */
export function plainDigester(parameters: DigestParameters, hash: PlainHash): Digester {
  return new PlainDigester(parameters, hash)
}

/** Leaf digests arrive here in order; `count` is how many there are. */
type LeafSink = { leaves: DataView; zeroLeaves: Uint8Array; count: number }

class PlainDigester implements Digester {
  readonly parameters: DigestParameters
  readonly digestBytes: number
  readonly native = false
  readonly #hash: PlainHash
  readonly #leafBytes: number
  readonly #zeroLeaf: Buffer
  readonly #zeroDigest: Uint8Array

  constructor(parameters: DigestParameters, hash: PlainHash) {
    this.parameters = parameters
    this.digestBytes = hash.digestBytes
    this.#hash = hash
    this.#leafBytes = parameters.geometry.leafBytes
    this.#zeroLeaf = Buffer.alloc(this.#leafBytes)
    this.#zeroDigest = new Uint8Array(hash.digestBytes)
    hash.hashInto(this.#zeroLeaf, viewOf(this.#zeroDigest), 0)
  }

  async digestSpan({ fd }: ReadFrom, range: Range, out: SpanDigests): Promise<ReadCount> {
    const { blockBytes } = this.parameters.geometry
    checkRange(range, blockBytes)
    const blockCount = Math.ceil(range.length / blockBytes)
    this.#checkLeafRoom(Math.ceil(range.length / this.#leafBytes), out.leaves, out.zeroLeaves)
    checkRoom('blocks', out.blocks, blockCount * this.digestBytes)
    checkRoom('zeroBlocks', out.zeroBlocks, blockCount)
    const sink = { leaves: viewOf(out.leaves), zeroLeaves: out.zeroLeaves, count: 0 }
    const bytes = await this.#readLeaves(fd, range, sink, null)
    const leavesPerBlock = blockBytes / this.#leafBytes
    this.digestItems(
      out.leaves.subarray(0, sink.count * this.digestBytes),
      leavesPerBlock * this.digestBytes,
      out.blocks,
    )
    for (let leaf = 0, block = 0; leaf < sink.count; leaf += leavesPerBlock, block += 1) {
      const flags = out.zeroLeaves.subarray(leaf, Math.min(leaf + leavesPerBlock, sink.count))
      out.zeroBlocks[block] = flags.includes(0) ? 0 : 1
    }
    return { bytes, coldBytes: 0 }
  }

  async readDigested(
    { fd }: ReadFrom,
    ranges: readonly Range[],
    into: Uint8Array,
    leaves: Uint8Array,
    zeroLeaves: Uint8Array,
  ): Promise<ReadCount> {
    let leafCount = 0
    let lengthBytes = 0
    for (const range of ranges) {
      checkRange(range, this.#leafBytes)
      leafCount += Math.ceil(range.length / this.#leafBytes)
      lengthBytes += range.length
    }
    this.#checkLeafRoom(leafCount, leaves, zeroLeaves)
    checkRoom('into', into, lengthBytes)
    const sink = { leaves: viewOf(leaves), zeroLeaves, count: 0 }
    let totalRead = 0
    for (const range of ranges) {
      const bytesRead = await this.#readLeaves(fd, range, sink, into.subarray(totalRead))
      totalRead += bytesRead
      if (bytesRead < range.length) break
    }
    return { bytes: totalRead, coldBytes: 0 }
  }

  digestLeaves(data: Uint8Array, leaves: Uint8Array): void {
    this.digestItems(data, this.#leafBytes, leaves)
  }

  digestItems(data: Uint8Array, itemBytes: number, out: Uint8Array): void {
    if (!(Number.isSafeInteger(itemBytes) && itemBytes >= 1))
      throw new RangeError(`itemBytes must be at least 1, not ${itemBytes}`)
    checkRoom('out', out, Math.ceil(data.length / itemBytes) * this.digestBytes)
    const view = viewOf(out)
    for (let at = 0, outOffset = 0; at < data.length; at += itemBytes, outOffset += this.digestBytes) {
      this.#hash.hashInto(data.subarray(at, at + itemBytes), view, outOffset)
    }
  }

  /** Reads `range` chunk by chunk, digests its leaves into `sink` and copies it to `into`; resolves with the bytes read. */
  async #readLeaves(fd: number, range: Range, sink: LeafSink, into: Uint8Array | null): Promise<number> {
    const limitBytes = chunkBytes(this.#leafBytes)
    if (range.length === 0) return 0
    return withScratch(Math.min(limitBytes, range.length), async (scratch) => {
      let done = 0
      while (done < range.length) {
        const wanted = Math.min(limitBytes, range.length - done)
        const data = await scratch.read(fd, range.offset + done, wanted)
        this.#digestInto(data, sink)
        into?.set(data, done)
        done += data.length
        if (data.length < wanted) break
      }
      return done
    })
  }

  #digestInto(data: Uint8Array, sink: LeafSink): void {
    for (let at = 0; at < data.length; at += this.#leafBytes) {
      const leaf = data.subarray(at, at + this.#leafBytes)
      const isZero = this.#isZero(leaf)
      const outOffset = sink.count * this.digestBytes
      if (isZero && leaf.length === this.#leafBytes) {
        new Uint8Array(sink.leaves.buffer, sink.leaves.byteOffset + outOffset, this.digestBytes).set(
          this.#zeroDigest,
        )
      } else {
        this.#hash.hashInto(leaf, sink.leaves, outOffset)
      }
      sink.zeroLeaves[sink.count] = isZero ? 1 : 0
      sink.count += 1
    }
  }

  /** Looks at every byte, unless the first or the last is not zero already. */
  #isZero(leaf: Uint8Array): boolean {
    if (leaf[0] !== 0 || leaf[leaf.length - 1] !== 0) return false
    return this.#zeroLeaf.compare(leaf, 0, leaf.length, 0, leaf.length) === 0
  }

  #checkLeafRoom(leafCount: number, leaves: Uint8Array, zeroLeaves: Uint8Array): void {
    checkRoom('leaves', leaves, leafCount * this.digestBytes)
    checkRoom('zeroLeaves', zeroLeaves, leafCount)
  }
}

function checkRange(range: Range, unitBytes: number): void {
  const { offset, length } = range
  const isGood = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0
  if (!isGood || !Number.isSafeInteger(offset + length) || offset % unitBytes !== 0) {
    throw new RangeError(
      `a range of ${length} bytes at ${offset} does not start at a multiple of ${unitBytes}`,
    )
  }
}

function checkRoom(name: string, into: Uint8Array, neededBytes: number): void {
  if (into.length < neededBytes)
    throw new RangeError(`${name} has room for ${into.length} bytes of ${neededBytes}`)
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
