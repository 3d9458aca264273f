// A disk of which much is known: what may have changed is read and digested, for all else the kept leaves are given. What was read or
// written becomes what is known. Refuses a disk that is another where a sample is read, though nothing said that it changed there.

import type { Digester, Range, SpanDigests } from '../digest/digester.js'
import { ZeroDigests } from '../digest/zero.js'
import type { Endpoint, EndpointInfo, Extent, Role } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import type { ReadPlan, LeafTrack } from './track.js'

/** Read by one call; the data of changed leaves goes through JavaScript's memory, and four spans are read at once. */
const MAX_BATCH_BYTES = 4 << 20
/** Ranges of one call: as many as a frame of data may have. */
const MAX_BATCH_RANGES = 1024

export class TrackedEndpoint implements Endpoint {
  readonly #inner: Endpoint
  readonly #track: LeafTrack
  /** For what is written; null where nothing is. */
  readonly #digester: Digester | null
  #zeros: ZeroDigests | null = null

  constructor(inner: Endpoint, track: LeafTrack, digester: Digester | null) {
    this.#inner = inner
    this.#track = track
    this.#digester = digester
  }

  get info(): EndpointInfo {
    return this.#inner.info
  }

  async *extents(range: Range): AsyncGenerator<Extent> {
    for await (const extent of this.#inner.extents(range)) {
      // what was a hole is not called unchanged by anybody when it is something else
      if (extent.kind === 'hole') this.#track.covered.add(extent)
      yield extent
    }
  }

  async digestSpan(
    range: Range,
    digester: Digester,
    out: SpanDigests,
  ): Promise<{ coldBytes: number; keptBytes?: number }> {
    if (!this.#isOurs(digester)) return await this.#inner.digestSpan(range, digester, out)
    const plan = await this.#track.plan()
    const changed = plan?.changed.within(range) ?? [range]
    // what is read piece by piece takes longer
    if (plan === null || bytesOf(changed) * 2 > range.length) {
      const read = await this.#inner.digestSpan(range, digester, out)
      await this.#track.keep(range, digester, out.leaves)
      return read
    }
    const readBytes = await this.#digestChanged(range, digester, out, plan, changed)
    this.#derive(range, digester, out)
    return { coldBytes: readBytes, keptBytes: range.length - readBytes }
  }

  async readDigested(
    ranges: readonly Range[],
    digester: Digester,
    into: Uint8Array,
    leaves: Uint8Array,
    zeroLeaves: Uint8Array,
  ): Promise<void> {
    await this.#inner.readDigested(ranges, digester, into, leaves, zeroLeaves)
    if (!this.#isOurs(digester)) return
    let at = 0
    for (const range of ranges) {
      const slab = leaves.subarray(at, (at += this.#slabBytes(range, digester)))
      // what was left unread because all of it would be sent
      if (this.#track.covered.missing(range).length > 0) await this.#track.keep(range, digester, slab)
    }
  }

  async write(ranges: readonly Range[], from: Uint8Array): Promise<void> {
    await this.#inner.write(ranges, from)
    const digester = this.#digester
    if (digester === null || !this.#isOurs(digester)) return
    let at = 0
    for (const range of ranges) {
      const leaves = Buffer.allocUnsafe(this.#slabBytes(range, digester))
      digester.digestLeaves(from.subarray(at, (at += range.length)), leaves)
      await this.#track.keep(range, digester, leaves)
    }
  }

  async zero(ranges: readonly Range[]): Promise<void> {
    await this.#inner.zero(ranges)
    const digester = this.#digester
    if (digester === null || !this.#isOurs(digester)) return
    const { blockBytes, leafBytes } = digester.parameters.geometry
    for (const { offset, length } of ranges) {
      const end = offset + length
      // block by block: a range of zeros may be as long as the disk
      for (let from = offset; from < end;) {
        const block = Math.floor(from / blockBytes)
        const to = Math.min(end, (block + 1) * blockBytes)
        const first = ((from - block * blockBytes) / leafBytes) * digester.digestBytes
        const range = { offset: from, length: to - from }
        const leaves = this.#zerosOf(digester).leaves(block)
        const bytes = this.#slabBytes(range, digester)
        await this.#track.keep(range, digester, leaves.subarray(first, first + bytes))
        from = to
      }
    }
  }

  grow(sizeBytes: number): Promise<void> {
    return this.#inner.grow(sizeBytes)
  }

  grownBytes(): Promise<number> {
    return this.#inner.grownBytes()
  }

  takeBack(): Promise<void> {
    return this.#inner.takeBack()
  }

  readFromDevice(): Promise<Disposable> {
    return this.#inner.readFromDevice()
  }

  flush(): Promise<void> {
    return this.#inner.flush()
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #isOurs({ parameters, digestBytes }: Digester): boolean {
    return this.#track.isOf(parameters, digestBytes, this.info.sizeBytes)
  }

  #slabBytes({ length }: Range, { parameters, digestBytes }: Digester): number {
    return Math.ceil(length / parameters.geometry.leafBytes) * digestBytes
  }

  #zerosOf(digester: Digester): ZeroDigests {
    return (this.#zeros ??= new ZeroDigests(digester, this.info.sizeBytes))
  }

  /** The kept leaves of `range`, and in their places those of what is read of it now. Resolves with the bytes that were read. */
  async #digestChanged(
    range: Range,
    digester: Digester,
    out: SpanDigests,
    { changed, sample }: ReadPlan,
    changedHere: readonly Range[],
  ): Promise<number> {
    const { file, covered } = this.#track
    const { digestBytes } = digester
    const { leafBytes } = digester.parameters.geometry
    const slabAt = (byteOffset: number): number =>
      Math.ceil((byteOffset - range.offset) / leafBytes) * digestBytes
    await file.read(range.offset / leafBytes, digestBytes, out.leaves)
    const sampled = sample.within(range).flatMap((piece) => changed.missing(piece))
    let readBytes = 0
    for (const batch of batches([...changedHere, ...sampled], leafBytes)) {
      const bytes = bytesOf(batch)
      const slabBytes = batch.map((piece) => this.#slabBytes(piece, digester))
      const leaves = Buffer.allocUnsafe(slabBytes.reduce((sum, one) => sum + one, 0))
      const zeroLeaves = new Uint8Array(leaves.length / digestBytes)
      await this.#inner.readDigested(batch, digester, Buffer.allocUnsafe(bytes), leaves, zeroLeaves)
      readBytes += bytes
      let at = 0
      for (const [index, piece] of batch.entries()) {
        const slab = leaves.subarray(at, (at += slabBytes[index] ?? 0))
        const place = slabAt(piece.offset)
        const isSample = changed.within(piece).length === 0
        if (isSample && slab.compare(out.leaves, place, place + slab.length) !== 0) {
          await file.unseal()
          throw untrue(this.info.path, this.#track.role, piece)
        }
        slab.copy(out.leaves, place)
      }
    }
    const [first] = changedHere
    const last = changedHere.at(-1)
    if (first !== undefined && last !== undefined) {
      const { offset } = first
      const end = last.offset + last.length
      const slab = out.leaves.subarray(slabAt(offset), slabAt(end))
      await this.#track.keep({ offset, length: end - offset }, digester, slab)
    }
    covered.add(range)
    return readBytes
  }

  /** What follows from the leaves: digests of blocks, and what is zeros. */
  #derive(range: Range, digester: Digester, { leaves, blocks, zeroLeaves, zeroBlocks }: SpanDigests): void {
    const { digestBytes, parameters } = digester
    const { blockBytes, leafBytes } = parameters.geometry
    const zeros = this.#zerosOf(digester)
    const leavesPerBlock = blockBytes / leafBytes
    digester.digestItems(leaves, leavesPerBlock * digestBytes, blocks)
    const firstBlock = range.offset / blockBytes
    for (let leaf = 0; leaf < zeroLeaves.length; leaf += 1) {
      const block = Math.floor(leaf / leavesPerBlock)
      const zero = zeros.leaves(firstBlock + block)
      const at = leaf * digestBytes
      const zeroAt = (leaf % leavesPerBlock) * digestBytes
      // nearly all differ in the first bytes
      const isZero =
        leaves.readUInt32LE(at) === zero.readUInt32LE(zeroAt) &&
        leaves.compare(zero, zeroAt, zeroAt + digestBytes, at, at + digestBytes) === 0
      zeroLeaves[leaf] = isZero ? 1 : 0
    }
    for (let block = 0; block < zeroBlocks.length; block += 1) {
      const here = zeroLeaves.subarray(block * leavesPerBlock, (block + 1) * leavesPerBlock)
      zeroBlocks[block] = here.includes(0) ? 0 : 1
    }
  }
}

function bytesOf(ranges: readonly Range[]): number {
  return ranges.reduce((sum, { length }) => sum + length, 0)
}

/** Ranges on the grid of leaves in ascending order, cut into what one call may read. */
function* batches(ranges: readonly Range[], leafBytes: number): Generator<Range[]> {
  const mostBytes = Math.max(MAX_BATCH_BYTES, leafBytes)
  let batch: Range[] = []
  let batchBytes = 0
  for (const range of ranges.toSorted((a, b) => a.offset - b.offset)) {
    for (let done = 0; done < range.length;) {
      const length = Math.min(range.length - done, mostBytes - batchBytes)
      batch.push({ offset: range.offset + done, length })
      batchBytes += length
      done += length
      if (batchBytes < mostBytes && batch.length < MAX_BATCH_RANGES) continue
      yield batch
      batch = []
      batchBytes = 0
    }
  }
  if (batch.length > 0) yield batch
}

function untrue(path: string, role: Role, { offset, length }: Range): SyncError {
  const where = `${path} has other content between byte ${offset} and ${offset + length} than`
  if (role === 'source')
    return new SyncError('source/track', `${where} it had, though its file system says that it is the same`, {
      operand: path,
      hint: 'The next attempt reads all of the source. If it happens again, set track: off, and see whether dmesg tells of memory or disks.',
    })
  return new SyncError(
    'destination/track',
    `${where} the attempt before left there, though nothing says that it was written to since`,
    {
      operand: path,
      hint: 'The next attempt compares all of it and mends it. Look for errors of that disk there (dmesg), and for who writes to it.',
    },
  )
}
