// What every codec must do, whatever it is: come back exactly, and refuse whatever is not what was announced.

import { randomBytes } from 'node:crypto'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { type Codec, MAX_PIECE_BYTES } from '../../src/codec/codec.js'
import { expectRejected } from '../wire/expect.js'

export const TEXT = Buffer.from('a line of text that comes again and again, with a number: ')

/** `bytes` of numbered lines. */
export function textOf(bytes: number): Buffer {
  const lines: string[] = []
  for (let length = 0, line = 0; length < bytes; line += 1) {
    lines.push(`${TEXT.toString()}${line}\n`)
    length += TEXT.length + 2
  }
  return Buffer.from(lines.join('')).subarray(0, bytes)
}

const SIZES = [1, 2, 63, 64, 65, 4096, 65536, 100_001, MAX_PIECE_BYTES - 1, MAX_PIECE_BYTES]

export function describeCodec(codec: Codec): void {
  describe(codec.name, () => {
    it.each(SIZES)('gives back %d bytes of text, zeros and noise', async (bytes) => {
      for (const raw of [textOf(bytes), Buffer.alloc(bytes), randomBytes(bytes)]) {
        const packed = await codec.compress(raw)
        expect((await codec.decompress(packed, bytes)).equals(raw)).toBe(true)
      }
    })

    it('makes text a quarter at most and noise hardly longer', async () => {
      expect((await codec.compress(textOf(65536))).length).toBeLessThan(65536 / 4)
      expect((await codec.compress(randomBytes(65536))).length).toBeLessThan(65536 + 512)
    })

    it('gives back anything', async () => {
      await fc.assert(
        fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 5000 }), async (raw) => {
          const packed = await codec.compress(raw)
          expect((await codec.decompress(packed, raw.length)).equals(raw)).toBe(true)
        }),
        { seed: 20_250_107, numRuns: 100 },
      )
    })

    it('works on several pieces at once', async () => {
      const raws = Array.from({ length: 12 }, (_, index) => textOf(10_000 + index))
      const packed = await Promise.all(raws.map(async (raw) => await codec.compress(raw)))
      const back = await Promise.all(
        packed.map(async (piece, index) => await codec.decompress(piece, 10_000 + index)),
      )
      expect(back.map((raw, index) => raw.equals(raws[index] ?? TEXT))).not.toContain(false)
    })

    it('refuses a piece that is longer or shorter than announced', async () => {
      const packed = await codec.compress(textOf(10_000))
      for (const rawBytes of [1, 9000, 9999, 10_001, 20_000, MAX_PIECE_BYTES])
        await expectRejected('session/protocol', codec.decompress(packed, rawBytes))
    })

    it('refuses a piece cut anywhere', async () => {
      const packed = await codec.compress(textOf(300))
      for (let length = 0; length < packed.length; length += 1)
        await expectRejected('session/protocol', codec.decompress(packed.subarray(0, length), 300))
    })

    it('refuses what stands behind a piece: garbage, a byte, a second piece', async () => {
      const packed = await codec.compress(textOf(300))
      for (const tail of [Buffer.alloc(1), Buffer.from('garbage'), packed, randomBytes(5000)])
        await expectRejected('session/protocol', codec.decompress(Buffer.concat([packed, tail]), 300))
      await expectRejected('session/protocol', codec.decompress(Buffer.concat([packed, packed]), 600))
    })

    it('takes bytes of any kind for a value of the right length or a refusal, nothing else', async () => {
      const packed = await codec.compress(textOf(2000))
      const flips = fc.array(fc.tuple(fc.nat(packed.length - 1), fc.integer({ min: 1, max: 255 })), {
        minLength: 1,
        maxLength: 4,
      })
      const changed = flips.map((list) => {
        const bytes = Buffer.from(packed)
        for (const [at, mask] of list) bytes[at] = (bytes[at] ?? 0) ^ mask
        return bytes
      })
      const noise = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
      let refused = 0
      await fc.assert(
        fc.asyncProperty(fc.oneof(changed, noise), async (bytes) => {
          try {
            expect((await codec.decompress(bytes, 2000)).length).toBe(2000)
          } catch (thrown) {
            expect(thrown).toMatchObject({ name: 'SyncError', code: 'session/protocol' })
            refused += 1
          }
        }),
        { seed: 20_250_108, numRuns: 400 },
      )
      expect(refused).toBeGreaterThan(100)
    })

    it('refuses to begin with no bytes or more than a frame holds', async () => {
      for (const bytes of [0, -1, 1.5, Number.NaN, MAX_PIECE_BYTES + 1, 2 ** 40])
        await expectRejected('internal', codec.decompress(Buffer.alloc(10), bytes))
      await expectRejected('internal', codec.compress(Buffer.alloc(0)))
      await expectRejected('internal', codec.compress(Buffer.alloc(MAX_PIECE_BYTES + 1)))
    })
  })
}
