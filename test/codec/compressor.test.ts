// What the compressor does with batches: what it compresses, what it leaves alone, and how often it looks.

import { randomBytes } from 'node:crypto'

import { describe, expect, it } from 'vitest'

import { type Codec, MAX_PIECE_BYTES } from '../../src/codec/codec.js'
import { Compressor, LEAST_RATIO, MIN_BATCH_BYTES, type Packed } from '../../src/codec/compressor.js'
import { availableCodecs, decompress, openCodec } from '../../src/codec/open.js'
import { expectRejected } from '../wire/expect.js'
import { textOf } from './conformance.js'

/** Counts what a codec is asked for: how often it compresses pieces of which length. */
function counting(codec: Codec): { codec: Codec; lengths: number[] } {
  const lengths: number[] = []
  const compress = async (data: Uint8Array): Promise<Buffer> => {
    lengths.push(data.length)
    return await codec.compress(data)
  }
  return { codec: { ...codec, compress }, lengths }
}

async function unpacked({ codec, parts, rawBytes }: Packed): Promise<Buffer> {
  const payload = Buffer.concat(parts)
  return codec === 0 ? payload : await decompress(codec, payload, rawBytes)
}

/** `bytes` of which in each leaf the first `randomShare` is noise and the rest is one letter. */
function mixed(bytes: number, randomShare: number): Buffer {
  const content = Buffer.alloc(bytes, 'x')
  for (let at = 0; at < bytes; at += 4096) {
    const leafBytes = Math.min(4096, bytes - at)
    randomBytes(Math.floor(leafBytes * randomShare)).copy(content, at)
  }
  return content
}

const SAMPLE = 32768
const WHOLE = 1 << 20

describe.each(availableCodecs())('with %s', (name) => {
  it('a batch in many parts, of any cut, comes back', async () => {
    const codec = await openCodec(name)
    const text = textOf(WHOLE)
    for (const partBytes of [1024, 4096, 5000, 100_000, WHOLE]) {
      const parts: Buffer[] = []
      for (let at = 0; at < WHOLE; at += partBytes) parts.push(text.subarray(at, at + partBytes))
      const packed = await new Compressor(codec, 'always').pack(parts)
      expect([packed.codec, packed.parts.length, packed.rawBytes]).toEqual([codec.id, 1, WHOLE])
      expect((await unpacked(packed)).equals(text)).toBe(true)
    }
    expect(text.equals(textOf(WHOLE))).toBe(true)
  })

  it('what it gives is shorter than the batch by the least ratio, or the batch itself', async () => {
    const codec = await openCodec(name)
    for (const share of [0, 0.5, 0.85, 0.89, 0.9, 0.91, 0.93, 0.95, 1]) {
      for (const bytes of [MIN_BATCH_BYTES, 4096, 40_000, 65_536, 300_000, WHOLE]) {
        const raw = mixed(bytes, share)
        const parts = [raw]
        const packed = await new Compressor(codec, 'always').pack(parts)
        if (packed.codec === 0) expect(packed.parts).toBe(parts)
        else expect((packed.parts[0]?.length ?? bytes) * LEAST_RATIO).toBeLessThanOrEqual(bytes)
        expect((await unpacked(packed)).equals(raw)).toBe(true)
        if (share <= 0.5) expect(packed.codec).toBe(codec.id)
        if (share >= 0.95) expect(packed.codec).toBe(0)
      }
    }
  })
})

describe('how often it looks', () => {
  it('noise is sampled, then seldom, and never compressed as a whole', async () => {
    const { codec, lengths } = counting(await openCodec('brotli'))
    const compressor = new Compressor(codec, 'always')
    const noise = [randomBytes(WHOLE)]
    for (let batch = 0; batch < 100; batch += 1) expect((await compressor.pack(noise)).parts).toBe(noise)
    expect(new Set(lengths)).toEqual(new Set([SAMPLE]))
    expect(lengths.length).toBeGreaterThan(5)
    expect(lengths.length).toBeLessThan(12)
  })

  it('text is compressed without samples from the second batch on', async () => {
    const { codec, lengths } = counting(await openCodec('brotli'))
    const compressor = new Compressor(codec, 'always')
    for (let batch = 0; batch < 4; batch += 1) await compressor.pack([textOf(WHOLE)])
    expect(lengths).toEqual([SAMPLE, WHOLE, WHOLE, WHOLE, WHOLE])
  })

  it('text behind much noise is found within 16 batches', async () => {
    const compressor = new Compressor(await openCodec('brotli'), 'always')
    const noise = [randomBytes(WHOLE)]
    for (let batch = 0; batch < 200; batch += 1) await compressor.pack(noise)
    let batches = 1
    while ((await compressor.pack([textOf(WHOLE)])).codec === 0) batches += 1
    expect(batches).toBeLessThanOrEqual(16)
    expect((await compressor.pack(noise)).codec).toBe(0)
    expect((await compressor.pack([textOf(WHOLE)])).codec).not.toBe(0)
  })

  it('sees text that is only at the end, or only in the middle, of a batch', async () => {
    const codec = await openCodec('brotli')
    for (const from of [0, 3 << 18, 1 << 19]) {
      const batch = randomBytes(WHOLE)
      textOf(WHOLE / 4).copy(batch, from)
      expect((await new Compressor(codec, 'always').pack([batch])).codec).toBe(codec.id)
    }
  })

  it('small batches are not sampled, tiny and empty ones left alone', async () => {
    const { codec, lengths } = counting(await openCodec('brotli'))
    const compressor = new Compressor(codec, 'always')
    await compressor.pack([textOf(65_535)])
    for (const parts of [[], [textOf(1)], [textOf(MIN_BATCH_BYTES - 1)]]) {
      const packed = await compressor.pack(parts)
      expect([packed.codec, packed.parts]).toEqual([0, parts])
    }
    expect(lengths).toEqual([65_535])
  })

  it('a batch larger than a frame is refused as a defect', async () => {
    const compressor = new Compressor(await openCodec('brotli'), 'always')
    await expectRejected('internal', compressor.pack([Buffer.alloc(MAX_PIECE_BYTES), Buffer.alloc(1)]))
  })
})

describe('watch', () => {
  it('takes a line that breaks, and does nothing where every batch is tried', async () => {
    for (const mode of ['always', 'auto'] as const) {
      const compressor = new Compressor(await openCodec('brotli'), mode)
      const packed = await compressor.pack([textOf(WHOLE)])
      expect(packed.codec === 0).toBe(mode === 'auto')
      const broken = Promise.reject(new Error('cable cut'))
      compressor.watch(packed, broken)
      await expect(broken).rejects.toThrow('cable cut')
      expect((await compressor.pack([textOf(WHOLE)])).codec === 0).toBe(mode === 'auto')
    }
  })
})
