// What every kind of endpoint must do, whatever is behind it: one suite, run by each kind with its own way of making a
// disk. It looks only through the interface, and at the disk's bytes by another way (`bytes`).

import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'

import type { AlgorithmName, Digester, Range } from '../../src/digest/digester.js'
import { spanDigests } from '../../src/digest/digester.js'
import { createDigester } from '../../src/digest/open.js'
import type { Endpoint, Extent } from '../../src/endpoint/endpoint.js'
import { SyncError } from '../../src/errors.js'
import type { ErrorCode } from '../../src/errors.js'
import { loadNative } from '../../src/native.js'
import type { NativeCore } from '../../src/native.js'
import { randomBytes } from '../support/disks.js'

/** A disk made for one test. `bytes` reads all of it by another way than the endpoint. */
export type Subject = Readonly<{
  open: (role: 'source' | 'destination', access: 'read' | 'write') => Promise<Endpoint>
  bytes: () => Promise<Buffer>
  /** Allocated bytes below the disk where zeroing must give them back, else null. */
  allocatedBytes: (() => Promise<number>) | null
}>

export type Kind = Readonly<{
  native: NativeCore | null
  kind: 'file' | 'block-device'
  direct: boolean
  /** Size of the odd-sized disk: an unaligned tail for a file, one sector over a block for a device. */
  oddSizeBytes: number
  sectorBytes: number
  /** True where holes of the disk are known as such. */
  knowsHoles: boolean
  /** Makes a disk with these bytes; `holes` are ranges of zeros that are not allocated. */
  make: (data: Uint8Array, holes: readonly Range[]) => Promise<Subject>
}>

const BLOCK_BYTES = 65536
const LEAF_BYTES = 4096
const MIB = 1 << 20
const SEED = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex')

/** Requests without a path: what most tests ask for. */
export const SOURCE = {
  role: 'source',
  access: 'read',
  create: 'never',
  createSizeBytes: 0,
  claim: 'exclusive',
} as const
export const DESTINATION = {
  role: 'destination',
  access: 'write',
  create: 'never',
  createSizeBytes: 0,
  claim: 'exclusive',
} as const
export const DRY_RUN = { ...DESTINATION, access: 'read' } as const
export const CREATE = { ...DESTINATION, create: 'if-missing', createSizeBytes: 1 << 20 } as const

/** Registers the suite. `kind` is asked for inside the tests, when the scratch is there. */
export function describeEndpoint(name: string, options: { skip: boolean }, kind: () => Kind): void {
  describe(`endpoint: ${name}`, options, () => {
    const odd = () => randomBytes(kind().oddSizeBytes)
    const sha256 = () => digester('sha256', kind().native)

    it('says what it is', async () => {
      const data = odd()
      const subject = await kind().make(data, [])
      await using source = await subject.open('source', 'read')
      await using destination = await subject.open('destination', 'write')
      for (const { info } of [source, destination]) {
        expect(info).toMatchObject({
          kind: kind().kind,
          sizeBytes: data.length,
          created: false,
          direct: kind().direct,
        })
        expect(info.logicalSectorBytes).toBe(kind().sectorBytes)
      }
      expect(source.info.identity).toEqual(destination.info.identity)
      expect(source.info.identity.aliases.length).toBeGreaterThan(0)
    })

    it('digests as the bytes say, with every algorithm, tail included', async () => {
      const data = odd()
      data.fill(0, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES)
      data.fill(0, LEAF_BYTES, 2 * LEAF_BYTES)
      const subject = await kind().make(data, [])
      await using disk = await subject.open('source', 'read')
      const all: Range = { offset: 0, length: data.length }

      const strong = await sha256()
      const out = spanDigests(strong.parameters.geometry, strong.digestBytes, data.length)
      await disk.digestSpan(all, strong, out)
      const leaves = sha256Items(data, LEAF_BYTES)
      expect(out.leaves.equals(leaves)).toBe(true)
      expect(out.blocks.equals(sha256Items(leaves, (BLOCK_BYTES / LEAF_BYTES) * 32))).toBe(true)
      expect(Buffer.from(out.zeroLeaves).equals(zeroMarks(data, LEAF_BYTES))).toBe(true)
      expect(Buffer.from(out.zeroBlocks).equals(zeroMarks(data, BLOCK_BYTES))).toBe(true)

      const algorithms: AlgorithmName[] = kind().native === null ? ['xxh64x2'] : ['xxh64x2', 'xxh3-128']
      for (const algorithm of algorithms) {
        const fast = await digester(algorithm, kind().native)
        const read = spanDigests(fast.parameters.geometry, fast.digestBytes, data.length)
        await disk.digestSpan(all, fast, read)
        const inMemory = Buffer.alloc(read.leaves.length)
        fast.digestLeaves(data, inMemory)
        expect(read.leaves.equals(inMemory)).toBe(true)
      }
    })

    it('digests spans from the middle, and two at once', async () => {
      const data = odd()
      const subject = await kind().make(data, [])
      await using disk = await subject.open('source', 'read')
      const strong = await sha256()
      const spans = [8 * BLOCK_BYTES, BLOCK_BYTES].map((offset) => ({ offset, length: 3 * BLOCK_BYTES }))
      const outs = spans.map((span) => spanDigests(strong.parameters.geometry, 32, span.length))
      await Promise.all(spans.map((span, i) => disk.digestSpan(span, strong, required(outs[i]))))
      spans.forEach((span, i) => {
        const part = data.subarray(span.offset, span.offset + span.length)
        expect(required(outs[i]).leaves.equals(sha256Items(part, LEAF_BYTES))).toBe(true)
      })
    })

    it('reads scattered ranges with the digests of their leaves', async () => {
      const data = odd()
      data.fill(0, 5 * LEAF_BYTES, 6 * LEAF_BYTES)
      const subject = await kind().make(data, [])
      await using disk = await subject.open('source', 'read')
      const strong = await sha256()
      const tail = (Math.ceil(data.length / LEAF_BYTES) - 1) * LEAF_BYTES
      const ranges = [
        { offset: 5 * LEAF_BYTES, length: LEAF_BYTES },
        { offset: LEAF_BYTES, length: 3 * LEAF_BYTES },
        { offset: tail, length: data.length - tail },
      ]
      const wanted = Buffer.concat(ranges.map(({ offset, length }) => data.subarray(offset, offset + length)))
      const into = Buffer.alloc(wanted.length)
      const leaves = Buffer.alloc(5 * 32)
      const zeroLeaves = new Uint8Array(5)
      await disk.readDigested(ranges, strong, into, leaves, zeroLeaves)
      expect(into.equals(wanted)).toBe(true)
      expect(leaves.equals(sha256Items(wanted, LEAF_BYTES))).toBe(true)
      expect([...zeroLeaves]).toEqual([1, 0, 0, 0, 0])
      await disk.readDigested([], strong, into, leaves, zeroLeaves)
    })

    it('covers every range with extents exactly once, and no data is in a hole', async () => {
      const data = Buffer.concat([
        randomBytes(MIB),
        Buffer.alloc(MIB),
        randomBytes(MIB),
        Buffer.alloc(MIB),
        randomBytes(4096),
      ])
      const holes = [MIB, 3 * MIB].map((offset) => ({ offset, length: MIB }))
      const subject = await kind().make(data, holes)
      await using disk = await subject.open('source', 'read')
      for (const range of [
        { offset: 0, length: data.length },
        { offset: 0, length: 0 },
        { offset: data.length, length: 0 },
        { offset: MIB / 2, length: MIB },
        { offset: MIB + 4096, length: 8192 },
        { offset: data.length - 512, length: 512 },
      ]) {
        const extents = await collect(disk.extents(range))
        expectCover(extents, range)
        for (const { offset, length } of extents.filter((extent) => extent.kind === 'hole')) {
          expect(data.subarray(offset, offset + length).every((byte) => byte === 0)).toBe(true)
        }
      }
      const found = (await collect(disk.extents({ offset: 0, length: data.length }))).filter(
        ({ kind: k }) => k === 'hole',
      )
      expect(found.map(({ offset, length }) => ({ offset, length }))).toEqual(kind().knowsHoles ? holes : [])
    })

    it('fetches more extents than fit into one batch', async () => {
      const pieces = 700
      const data = Buffer.alloc(pieces * 8192)
      const holes: Range[] = []
      for (let i = 0; i < pieces; i++) {
        data.fill((i % 255) + 1, i * 8192, i * 8192 + 4096)
        holes.push({ offset: i * 8192 + 4096, length: 4096 })
      }
      const subject = await kind().make(data, holes)
      await using disk = await subject.open('source', 'read')
      const range = { offset: 0, length: data.length }
      const extents = await collect(disk.extents(range))
      expectCover(extents, range)
      expect(extents.length).toBe(kind().knowsHoles ? 2 * pieces : 1)
    })

    it('refuses ranges that are not inside the disk', async () => {
      const data = odd()
      const subject = await kind().make(data, [])
      await using disk = await subject.open('destination', 'write')
      const strong = await sha256()
      const out = spanDigests(strong.parameters.geometry, 32, 2 * data.length)
      for (const range of [
        { offset: 0, length: data.length + 1 },
        { offset: data.length, length: 1 },
        { offset: -4096, length: 4096 },
        { offset: 0.5, length: 1 },
        { offset: Number.MAX_SAFE_INTEGER, length: Number.MAX_SAFE_INTEGER },
        { offset: 0, length: Number.NaN },
      ]) {
        await expectCode('internal', disk.digestSpan(range, strong, out))
        await expectCode(
          'internal',
          disk.readDigested([range], strong, Buffer.alloc(4096), out.leaves, out.zeroLeaves),
        )
        await expectCode('internal', disk.write([range], Buffer.alloc(1)))
        await expectCode('internal', disk.zero([range]))
        await expectCode('internal', collect(disk.extents(range)))
      }
      await expectCode('internal', disk.write([{ offset: 0, length: 10 }], Buffer.alloc(9)))
      expect((await subject.bytes()).equals(data)).toBe(true)
    })

    it('writes scattered ranges, reads them back and changes nothing else', async () => {
      const data = odd()
      const subject = await kind().make(data, [])
      await using disk = await subject.open('destination', 'write')
      const ranges = [
        { offset: data.length - 512, length: 512 },
        { offset: 512, length: 512 },
        { offset: BLOCK_BYTES, length: 3 * LEAF_BYTES },
      ]
      const from = randomBytes(1024 + 3 * LEAF_BYTES)
      await disk.write(ranges, from)
      await disk.write([], Buffer.alloc(0))
      let taken = 0
      for (const { offset, length } of ranges) {
        from.copy(data, offset, taken, taken + length)
        taken += length
      }
      // before the flush: what is read must already be what was written
      const strong = await sha256()
      const out = spanDigests(strong.parameters.geometry, 32, data.length)
      await disk.digestSpan({ offset: 0, length: data.length }, strong, out)
      expect(out.leaves.equals(sha256Items(data, LEAF_BYTES))).toBe(true)
      await disk.flush()
      expect((await subject.bytes()).equals(data)).toBe(true)
      // and it may be written again after a flush
      await disk.write([{ offset: 0, length: 512 }], from.subarray(0, 512))
      await disk.flush()
      from.copy(data, 0, 0, 512)
      expect((await subject.bytes()).equals(data)).toBe(true)
    })

    it('zeroes exactly the range, whatever its alignment, and gives the room back', async () => {
      const data = odd()
      const subject = await kind().make(data, [])
      await using disk = await subject.open('destination', 'write')
      const before = await subject.allocatedBytes?.()
      const sector = 512
      const ranges = [
        { offset: BLOCK_BYTES, length: 8 * BLOCK_BYTES },
        { offset: sector, length: sector },
        { offset: 4096 - sector, length: 2 * sector },
        { offset: 12 * BLOCK_BYTES + sector, length: 4 * 4096 },
        { offset: data.length - 3 * sector, length: 3 * sector },
        { offset: 0, length: 0 },
      ]
      for (const range of ranges) {
        await disk.zero([range])
        data.fill(0, range.offset, range.offset + range.length)
      }
      await disk.flush()
      expect((await subject.bytes()).equals(data)).toBe(true)
      const after = await subject.allocatedBytes?.()
      const givenBack = before === undefined || after === undefined ? Infinity : before - after
      expect(givenBack).toBeGreaterThanOrEqual(8 * BLOCK_BYTES)
    })

    it('leaves a hole a hole when it is zeroed', async () => {
      const data = Buffer.concat([randomBytes(MIB), Buffer.alloc(3 * MIB)])
      const subject = await kind().make(data, [{ offset: MIB, length: 3 * MIB }])
      await using disk = await subject.open('destination', 'write')
      await disk.zero([{ offset: MIB, length: 3 * MIB }])
      await disk.flush()
      expect((await subject.bytes()).equals(data)).toBe(true)
      const allocated = (await subject.allocatedBytes?.()) ?? 0
      expect(allocated).toBeLessThan(2 * MIB)
    })

    it('grows a file upward only, never a device', async () => {
      const data = odd()
      const subject = await kind().make(data, [])
      await using disk = await subject.open('destination', 'write')
      if (kind().kind === 'block-device') {
        await expectCode('internal', disk.grow(data.length + 512))
        return
      }
      await expectCode('internal', disk.grow(data.length - 1))
      await disk.grow(data.length + 12_345)
      expect(disk.info.sizeBytes).toBe(data.length + 12_345)
      await disk.write([{ offset: data.length + 12_344, length: 1 }], Buffer.of(7))
      await disk.flush()
      expect((await subject.bytes()).equals(Buffer.concat([data, Buffer.alloc(12_344), Buffer.of(7)]))).toBe(
        true,
      )
    })

    it('refuses to write what was opened for reading, and a flush of it is fine', async () => {
      const data = odd()
      const subject = await kind().make(data, [])
      await using disk = await subject.open('destination', 'read')
      await expectCode('destination/open', disk.write([{ offset: 0, length: 512 }], Buffer.alloc(512)))
      await expectCode('destination/open', disk.zero([{ offset: 0, length: 512 }]))
      await expectCode('destination/open', disk.grow(data.length + 512))
      await disk.flush()
      expect((await subject.bytes()).equals(data)).toBe(true)
    })

    it('closes twice, waits for what is under way, and refuses use after that', async () => {
      const data = odd()
      const subject = await kind().make(data, [])
      const disk = await subject.open('destination', 'write')
      const strong = await sha256()
      const out = spanDigests(strong.parameters.geometry, 32, data.length)
      const all = { offset: 0, length: data.length }
      const reading = disk.digestSpan(all, strong, out)
      await disk.close()
      await reading
      expect(out.leaves.equals(sha256Items(data, LEAF_BYTES))).toBe(true)
      await disk.close()
      await expectCode('internal', disk.digestSpan(all, strong, out))
      await expectCode(
        'internal',
        disk.readDigested([all], strong, Buffer.alloc(data.length), out.leaves, out.zeroLeaves),
      )
      await expectCode('internal', disk.write([{ offset: 0, length: 1 }], Buffer.of(1)))
      await expectCode('internal', disk.zero([{ offset: 0, length: 1 }]))
      await expectCode('internal', disk.grow(data.length))
      await expectCode('internal', disk.flush())
      await expectCode('internal', collect(disk.extents(all)))
      // and what it held is free again
      await using again = await subject.open('destination', 'write')
      expect(again.info.sizeBytes).toBe(data.length)
    })
  })
}

/** With the native core where it is built, and always without. */
export function cores(): Array<{ name: string; core: NativeCore | null }> {
  const plain = { name: 'plain', core: null }
  const native = loadNative('auto')
  return native === null ? [plain] : [{ name: 'native', core: native }, plain]
}

/** Rejects unless `answer` rejects with a SyncError of this code; resolves with that. */
export async function expectCode(code: ErrorCode, answer: Promise<unknown>): Promise<SyncError> {
  const error: unknown = await answer.then(
    () => null,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(SyncError)
  if (!(error instanceof SyncError)) throw new Error('not a SyncError')
  expect({ code: error.code, message: error.message }).toEqual({ code, message: error.message })
  expect(error.operand).not.toBeNull()
  return error
}

export async function digester(algorithm: AlgorithmName, native: NativeCore | null): Promise<Digester> {
  return createDigester(
    { algorithm, seed: SEED, geometry: { blockBytes: BLOCK_BYTES, leafBytes: LEAF_BYTES } },
    native,
  )
}

export async function collect(extents: AsyncIterable<Extent>): Promise<Extent[]> {
  const all: Extent[] = []
  for await (const extent of extents) all.push(extent)
  return all
}

function expectCover(extents: readonly Extent[], range: Range): void {
  let next = range.offset
  for (const { offset, length } of extents) {
    expect(offset).toBe(next)
    expect(length).toBeGreaterThan(0)
    next += length
  }
  expect(next).toBe(range.offset + range.length)
}

function sha256Items(data: Uint8Array, itemBytes: number): Buffer {
  const items: Buffer[] = []
  for (let offset = 0; offset < data.length; offset += itemBytes) {
    items.push(
      createHash('sha256')
        .update(data.subarray(offset, offset + itemBytes))
        .digest(),
    )
  }
  return Buffer.concat(items)
}

function zeroMarks(data: Uint8Array, itemBytes: number): Buffer {
  const marks: number[] = []
  for (let offset = 0; offset < data.length; offset += itemBytes) {
    marks.push(data.subarray(offset, offset + itemBytes).every((byte) => byte === 0) ? 1 : 0)
  }
  return Buffer.from(marks)
}

function required<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a value of the test is missing')
  return value
}
