// The codecs that this Node has, against one suite; their bombs and windows; and which of them two ends agree on.

import * as zlib from 'node:zlib'

import { describe, expect, it } from 'vitest'

import { CODEC_ID, CODEC_NAMES, type CodecName, codecName, MAX_PIECE_BYTES } from '../../src/codec/codec.js'
import { agreeCodec, availableCodecs, decompress, openCodec } from '../../src/codec/open.js'
import type { CompressChoice } from '../../src/options.js'
import { MAX_DATA_PAYLOAD_BYTES } from '../../src/wire/frame.js'
import { expectRefused, expectRejected } from '../wire/expect.js'
import { describeCodec, textOf } from './conformance.js'

const AVAILABLE = availableCodecs()
if (!AVAILABLE.includes('zstd'))
  console.warn(`skipped: zstd, which Node.js ${process.version} does not have (22.15 does)`)

for (const name of AVAILABLE) describeCodec(await openCodec(name))

/** The most memory taken in buffers while `act` runs, above what was taken before, in bytes. */
async function takenBy(act: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage.rss()
  let most = before
  const timer = setInterval(() => (most = Math.max(most, process.memoryUsage.rss())), 1)
  try {
    await act()
  } finally {
    clearInterval(timer)
  }
  return Math.max(most, process.memoryUsage.rss()) - before
}

describe('brotli, hostile', () => {
  const { BROTLI_PARAM_LGWIN, BROTLI_PARAM_LARGE_WINDOW, BROTLI_PARAM_QUALITY } = zlib.constants
  const packed = (bytes: number, params: Record<number, number>): Buffer =>
    zlib.brotliCompressSync(Buffer.alloc(bytes, 'bomb'), { params })

  it('a bomb is stopped at the announced length', async () => {
    const bomb = packed(64 << 20, { [BROTLI_PARAM_LGWIN]: 20, [BROTLI_PARAM_QUALITY]: 5 })
    expect(bomb.length).toBeLessThan(4096)
    const brotli = await openCodec('brotli')
    const taken = await takenBy(async () => {
      for (let time = 0; time < 20; time += 1)
        await expectRejected('session/protocol', brotli.decompress(bomb, MAX_PIECE_BYTES))
    })
    expect(taken).toBeLessThan(48 << 20)
  })

  it('takes every window up to 1 MiB and refuses larger ones, before anything else', async () => {
    const brotli = await openCodec('brotli')
    for (let log = 10; log <= 24; log += 1) {
      const piece = packed(1 << 20, { [BROTLI_PARAM_LGWIN]: log, [BROTLI_PARAM_QUALITY]: 5 })
      if (log <= 20) expect((await brotli.decompress(piece, 1 << 20)).length).toBe(1 << 20)
      else {
        const error = await expectRejected('session/protocol', brotli.decompress(piece, 1 << 20))
        expect(error.message).toContain(`window of 2^${log} bytes`)
      }
    }
  })

  it('refuses large windows, which are not brotli as of the RFC', async () => {
    const brotli = await openCodec('brotli')
    for (const log of [16, 28, 30]) {
      const piece = packed(4096, { [BROTLI_PARAM_LGWIN]: log, [BROTLI_PARAM_LARGE_WINDOW]: 1 })
      await expectRejected('session/protocol', brotli.decompress(piece, 4096))
    }
  })
})

// Over an empty list where Node has no zstd: nothing is defined there, so nothing counts as skipped.
describe.each(AVAILABLE.filter((name) => name === 'zstd'))('%s, hostile', () => {
  /** A frame head as of RFC 8878, 3.1.1: a window of 2^`log` bytes, no content size. */
  const head = (log: number): Buffer => Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3])
  /** The last block: `bytes` (at most 128 KiB) times one byte. */
  const repeated = (bytes: number, last: 0 | 1): Buffer => {
    const block = Buffer.alloc(4, 0x61)
    block.writeUIntLE((bytes << 3) | (1 << 1) | last, 0, 3)
    return block
  }

  it('a bomb is stopped at the announced length', async () => {
    const zstd = await openCodec('zstd')
    const blocks = Array.from({ length: 4096 }, (_, index) => repeated(128 << 10, index === 4095 ? 1 : 0))
    const bomb = Buffer.concat([head(20), ...blocks])
    const taken = await takenBy(async () => {
      for (let time = 0; time < 20; time += 1)
        await expectRejected('session/protocol', zstd.decompress(bomb, MAX_PIECE_BYTES))
    })
    expect(taken).toBeLessThan(48 << 20)
  })

  it('takes windows up to 1 MiB and refuses larger ones, before it takes memory', async () => {
    const zstd = await openCodec('zstd')
    for (let log = 10; log <= 41; log += 1) {
      const piece = Buffer.concat([head(log), repeated(1024, 1)])
      if (log <= 20) expect((await zstd.decompress(piece, 1024)).equals(Buffer.alloc(1024, 'a'))).toBe(true)
      else {
        const taken = await takenBy(
          async () => await expectRejected('session/protocol', zstd.decompress(piece, 1024)),
        )
        expect(taken).toBeLessThan(48 << 20)
      }
    }
  })

  it('refuses a content size that is not the announced one, frames to skip, and dictionaries', async () => {
    const zstd = await openCodec('zstd')
    const sized = Buffer.from('28b52ffda0000000800b000061', 'hex')
    const skippable = Buffer.from('502a4d180400000061616161', 'hex')
    const dictionary = Buffer.from('28b52ffd21010161', 'hex')
    for (const piece of [sized, skippable, dictionary])
      await expectRejected('session/protocol', zstd.decompress(piece, 1))
    const packed = await zstd.compress(textOf(1000))
    for (const piece of [Buffer.concat([skippable, packed]), Buffer.concat([packed, skippable])])
      await expectRejected('session/protocol', zstd.decompress(piece, 1000))
  })

  it('has the parameters that node:zlib names', async () => {
    const { ZSTD_PARAMETERS } = await import('../../src/codec/zstd.js')
    expect(zlib.constants).toMatchObject(ZSTD_PARAMETERS)
  })
})

describe('ids', () => {
  it('belong to names, and a piece is what a frame holds', () => {
    for (const name of CODEC_NAMES) expect(codecName(CODEC_ID[name])).toBe(name)
    expect(MAX_PIECE_BYTES).toBe(MAX_DATA_PAYLOAD_BYTES)
  })

  it('are decompressed where this end named them, else refused as a breach', async () => {
    const raw = textOf(5000)
    for (const name of CODEC_NAMES) {
      const codec = await openCodec(AVAILABLE.includes(name) ? name : 'brotli')
      const piece = await codec.compress(raw)
      if (AVAILABLE.includes(name))
        expect((await decompress(CODEC_ID[name], piece, 5000)).equals(raw)).toBe(true)
      else {
        const error = await expectRejected('session/protocol', decompress(CODEC_ID[name], piece, 5000))
        expect(error.message).toContain(name)
      }
    }
  })
})

describe('what two ends agree on', () => {
  const both: readonly CodecName[] = ['zstd', 'brotli']
  const old: readonly CodecName[] = ['brotli']
  const agreed = (choice: CompressChoice, ours: readonly CodecName[], theirs: readonly CodecName[]) =>
    agreeCodec(choice, { name: 'host2', node: 'v20.19.0', codecs: theirs }, { node: 'v24.1.0', codecs: ours })

  it('asks node:zlib and its versions the same', () => {
    expect(AVAILABLE.includes('zstd')).toBe('zstdCompress' in zlib)
    expect(AVAILABLE.at(-1)).toBe('brotli')
  })

  it.each<[CompressChoice, readonly CodecName[], readonly CodecName[], string | null]>([
    ['none', both, both, null],
    ['best', both, both, 'zstd always'],
    ['best', both, old, 'brotli always'],
    ['best', old, both, 'brotli always'],
    ['auto', both, both, 'zstd auto'],
    ['auto', old, both, 'brotli auto'],
    ['auto', both, [], null],
    ['zstd', both, both, 'zstd always'],
    ['brotli', both, both, 'brotli always'],
    ['brotli', both, old, 'brotli always'],
  ])('%s, %j and %j: %s', (choice, ours, theirs, expected) => {
    const compression = agreed(choice, ours, theirs)
    expect(compression === null ? null : `${compression.codec} ${compression.mode}`).toBe(expected)
  })

  it.each<[CompressChoice, readonly CodecName[], readonly CodecName[], string, RegExp]>([
    ['zstd', both, old, 'host2', /host2 \(Node\.js v20\.19\.0\) has no zstd.*22\.15.*nothing was opened/],
    ['zstd', old, both, 'this host', /v24\.1\.0 on this host has no zstd.*22\.15.*nothing was opened/],
    ['brotli', both, [], 'host2', /host2 .*v20\.19\.0.* has no brotli;/],
    ['best', both, [], 'host2', /host2 .*v20\.19\.0.*nothing was opened/],
  ])('%s, %j and %j is refused', (choice, ours, theirs, operand, message) => {
    const error = expectRefused('connect/capability', () => agreed(choice, ours, theirs))
    expect(error.message).toMatch(message)
    expect([error.operand, error.hint]).toEqual([operand, expect.stringContaining('-z')])
  })

  it('with a far end as it is here', () => {
    const far = { name: 'host2', node: process.version, codecs: AVAILABLE }
    expect(agreeCodec('best', far)).toEqual({ codec: AVAILABLE[0], mode: 'always' })
  })
})
