// Bodies of the binary frames: named vectors, the plain twin, round trips of anything, and bodies that lie about their
// lengths and counts, cut at every byte.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import type { DataRecord, WireRun } from '../../src/wire/bodies.js'
import {
  decodeCredit,
  decodeData,
  decodeDetail,
  decodeDigests,
  decodeMark,
  decodeRate,
  decodeRefine,
  encodeCredit,
  encodeData,
  encodeDetail,
  encodeDigests,
  encodeMark,
  encodeRate,
  encodeRefine,
} from '../../src/wire/bodies.js'
import {
  MAX_DATA_PAYLOAD_BYTES,
  MAX_DATA_RECORDS,
  MAX_DIGEST_RUNS,
  MAX_REFINE_ITEMS,
  MAX_ZERO_RECORD_BYTES,
} from '../../src/wire/frame.js'
import { largestAllocation, expectRefused } from './expect.js'
import { twinData, twinDigests, twinRefine } from './twin.js'
import { bodyOf, fromHex } from './vectors.js'

const DIGEST_BYTES = 16
/** The same examples in every run; change it to try others. */
const REPLAY = { seed: 20_250_102, numRuns: 300 }
const A = 'a0a1a2a3a4a5a6a7a8a9aaabacadaeaf'
const B = 'b0b1b2b3b4b5b6b7b8b9babbbcbdbebf'
const TOO_LARGE = '0020000000000000'

const position = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.constant(Number.MAX_SAFE_INTEGER))
const uint32 = fc.oneof(fc.nat(100), fc.constantFrom(0xffffffff, 0x80000000, 0x7fffffff))

/** Every proper beginning of a good body is refused, or (where it ends between two parts) says less. */
function cutEverywhere(body: Buffer, decode: (cut: Buffer) => unknown, mayEnd: readonly number[] = []): void {
  for (let length = 0; length < body.length; length += 1) {
    const cut = body.subarray(0, length)
    if (mayEnd.includes(length)) decode(cut)
    else expectRefused('session/protocol', () => decode(cut))
  }
}

describe('digests', () => {
  it('vector', () => {
    const body = bodyOf('digests')
    const decoded = decodeDigests(body, DIGEST_BYTES)
    expect(decoded).toEqual({
      firstBlock: 5,
      runs: [
        { kind: 'data', blockCount: 2, blocks: fromHex(A + B) },
        { kind: 'zero', blockCount: 3 },
        { kind: 'hole', blockCount: 0xffffffff },
      ],
    })
    expect(Buffer.concat(encodeDigests(5, decoded.runs)).equals(body)).toBe(true)
    cutEverywhere(body, (cut) => decodeDigests(cut, DIGEST_BYTES), [8, 48, 56])
    expect(decodeDigests(bodyOf('digests, none'), DIGEST_BYTES)).toEqual({
      firstBlock: Number.MAX_SAFE_INTEGER,
      runs: [],
    })
  })

  it('any runs come back, also for the twin, with digests of 16 and of 32 bytes', () => {
    for (const digestBytes of [16, 32]) {
      const data = fc
        .integer({ min: 1, max: 5 })
        .chain((blockCount) =>
          fc
            .uint8Array({ minLength: blockCount * digestBytes, maxLength: blockCount * digestBytes })
            .map((blocks): WireRun => ({ kind: 'data', blockCount, blocks: Buffer.from(blocks) })),
        )
      const empty = fc
        .tuple(fc.constantFrom('zero' as const, 'hole' as const), uint32)
        .map(([kind, count]): WireRun => ({ kind, blockCount: Math.max(1, count) }))
      fc.assert(
        fc.property(position, fc.array(fc.oneof(data, empty), { maxLength: 8 }), (firstBlock, runs) => {
          const body = Buffer.concat(encodeDigests(firstBlock, runs))
          expect(decodeDigests(body, digestBytes)).toEqual({ firstBlock, runs })
          expect(twinDigests(body, digestBytes)).toEqual({
            firstBlock,
            runs: runs.map((run) => ({
              kind: run.kind,
              blockCount: run.blockCount,
              blocks: run.kind === 'data' ? run.blocks.toString('hex') : null,
            })),
          })
        }),
        REPLAY,
      )
    }
  })

  const refusals: readonly [string, string][] = [
    ['a first block above 2^53 - 1', TOO_LARGE],
    ['an empty run', '0000000000000000 0200000000000000'],
    ['a run of kind 0', '0000000000000000 0000000000000001'],
    ['a run of kind 4', '0000000000000000 0400000000000001'],
    ['more digests announced than there are', `0000000000000000 0100000000000002 ${A}`],
    ['2^32 - 1 digests announced', '0000000000000000 01000000ffffffff'],
    ['a digest that is one byte longer than it was announced', `0000000000000000 0100000000000001 ${A}00`],
  ]
  for (const [name, hex] of refusals) {
    it(`refuses ${name}`, () => {
      const body = fromHex(hex)
      expect(
        largestAllocation(() => expectRefused('session/protocol', () => decodeDigests(body, DIGEST_BYTES))),
      ).toBeLessThan(4096)
    })
  }

  it('refuses more runs than the limit', () => {
    const runs = Array.from({ length: MAX_DIGEST_RUNS }, (): WireRun => ({ kind: 'zero', blockCount: 1 }))
    expect(decodeDigests(Buffer.concat(encodeDigests(0, runs)), DIGEST_BYTES).runs.length).toBe(
      MAX_DIGEST_RUNS,
    )
    runs.push({ kind: 'hole', blockCount: 1 })
    expectRefused('session/protocol', () =>
      decodeDigests(Buffer.concat(encodeDigests(0, runs)), DIGEST_BYTES),
    )
  })
})

describe('refine', () => {
  it('vectors', () => {
    const groups = {
      level: 'groups' as const,
      items: [
        { block: 7, group: 0 },
        { block: 9, group: 0 },
      ],
    }
    const leaves = { level: 'leaves' as const, items: [{ block: 2 ** 32, group: 3 }] }
    for (const [name, value] of [
      ['refine groups', groups],
      ['refine leaves', leaves],
    ] as const) {
      expect(decodeRefine(bodyOf(name))).toEqual(value)
      expect(encodeRefine(value.level, value.items).equals(bodyOf(name))).toBe(true)
      cutEverywhere(bodyOf(name), decodeRefine)
      expectRefused('session/protocol', () => decodeRefine(Buffer.concat([bodyOf(name), Buffer.alloc(1)])))
    }
  })

  it('any questions come back, also for the twin', () => {
    const items = fc.array(fc.record({ block: position, group: uint32 }), { minLength: 1, maxLength: 50 })
    fc.assert(
      fc.property(fc.constantFrom('groups' as const, 'leaves' as const), items, (level, asked) => {
        const body = encodeRefine(level, asked)
        expect(decodeRefine(body)).toEqual({ level, items: asked })
        expect(twinRefine(body)).toEqual({ level, items: asked })
      }),
      REPLAY,
    )
  })

  it('refuses no items, more than the limit, a wrong level, a block above 2^53 - 1, and a count that is not that of the items', () => {
    const item = { block: 1, group: 0 }
    const many = Array.from({ length: MAX_REFINE_ITEMS }, () => item)
    expect(decodeRefine(encodeRefine('leaves', many)).items.length).toBe(MAX_REFINE_ITEMS)
    expectRefused('session/protocol', () => decodeRefine(encodeRefine('leaves', [...many, item])))
    expectRefused('session/protocol', () => decodeRefine(encodeRefine('leaves', [])))
    for (const level of ['00', '03', 'ff']) {
      expectRefused('session/protocol', () =>
        decodeRefine(fromHex(`${level}000000 00000001 0000000000000001 00000000`)),
      )
    }
    expectRefused('session/protocol', () => decodeRefine(fromHex(`01000000 00000001 ${TOO_LARGE} 00000000`)))
    expectRefused('session/protocol', () =>
      decodeRefine(fromHex('01000000 00000002 0000000000000001 00000000')),
    )
    const huge = fromHex('01000000 ffffffff 0000000000000001 00000000')
    expect(largestAllocation(() => expectRefused('session/protocol', () => decodeRefine(huge)))).toBeLessThan(
      4096,
    )
  })
})

describe('detail', () => {
  it('vectors', () => {
    for (const [name, level, slab] of [
      ['detail groups', 'groups', A + B],
      ['detail leaves', 'leaves', B],
    ] as const) {
      expect(decodeDetail(bodyOf(name))).toEqual({ level, itemCount: 1, slab: fromHex(slab) })
      expect(Buffer.concat(encodeDetail(level, 1, [fromHex(slab)])).equals(bodyOf(name))).toBe(true)
    }
    // How long the slab must be is known to whoever asked; only the head can be short here.
    for (let length = 0; length < 8; length += 1) {
      expectRefused('session/protocol', () => decodeDetail(bodyOf('detail leaves').subarray(0, length)))
    }
    expectRefused('session/protocol', () => decodeDetail(fromHex('03000000 00000001')))
  })

  it('any answer comes back', () => {
    const slabs = fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 5 })
    fc.assert(
      fc.property(
        fc.constantFrom('groups' as const, 'leaves' as const),
        uint32,
        slabs,
        (level, itemCount, parts) => {
          const body = Buffer.concat(encodeDetail(level, itemCount, parts))
          expect(decodeDetail(body)).toEqual({ level, itemCount, slab: Buffer.concat(parts) })
        },
      ),
      REPLAY,
    )
  })
})

describe('data', () => {
  it('vector', () => {
    const body = bodyOf('data')
    const records: DataRecord[] = [
      { kind: 'data', offset: 4096, length: 3 },
      { kind: 'zero', offset: 8192, length: 512 },
      { kind: 'data', offset: Number.MAX_SAFE_INTEGER, length: 1 },
    ]
    const payload = fromHex('c0c1c2d0')
    expect(decodeData(body)).toEqual({ records, codec: 0, payload, rawBytes: 4 })
    expect(Buffer.concat([encodeData(records), payload]).equals(body)).toBe(true)
    cutEverywhere(body, decodeData)
    expectRefused('session/protocol', () => decodeData(Buffer.concat([body, Buffer.alloc(1)])))
  })

  it('vector of a compressed one', () => {
    const body = bodyOf('data, compressed')
    const records: DataRecord[] = [{ kind: 'data', offset: 4096, length: 8 }]
    const payload = fromHex('c0c1c2c3c4')
    expect(decodeData(body)).toEqual({ records, codec: 2, payload, rawBytes: 8 })
    expect(Buffer.concat([encodeData(records, 2), payload]).equals(body)).toBe(true)
    // how long the piece is, only decompressing it tells; an empty one cannot be
    for (let length = 0; length <= 24; length += 1)
      expectRefused('session/protocol', () => decodeData(body.subarray(0, length)))
  })

  it('any records come back, also for the twin', () => {
    const data = fc.record({
      kind: fc.constant('data' as const),
      offset: position,
      length: fc.integer({ min: 1, max: 100 }),
    })
    const zero = fc.record({
      kind: fc.constant('zero' as const),
      offset: position,
      length: fc.integer({ min: 1, max: MAX_ZERO_RECORD_BYTES }),
    })
    fc.assert(
      fc.property(
        fc.array(fc.oneof(data, zero), { minLength: 1, maxLength: 20 }),
        fc.constantFrom(0 as const, 1 as const, 2 as const),
        fc.nat(2000),
        (records, wanted, gained) => {
          const rawBytes = records.reduce((sum, { kind, length }) => sum + (kind === 'data' ? length : 0), 0)
          const codec = rawBytes < 2 ? 0 : wanted
          const payloadBytes = codec === 0 ? rawBytes : 1 + (gained % (rawBytes - 1))
          const payload = Buffer.alloc(payloadBytes, 0xd5)
          const body = Buffer.concat([encodeData(records, codec), payload])
          expect(decodeData(body)).toEqual({ records, codec, payload, rawBytes })
          expect(twinData(body)).toEqual({ records, codec, payload: payload.toString('hex') })
        },
      ),
      REPLAY,
    )
  })

  const refusals: readonly [string, string][] = [
    ['no records', '00000000 00000000'],
    ['a record that is not there', '00000001 00000000'],
    ['2^32 - 1 records', 'ffffffff 00000000 01000000 00000001 0000000000000000 aa'],
    ['a record of kind 0', '00000001 00000000 00000000 00000001 0000000000000000 aa'],
    ['a record of kind 3', '00000001 00000000 03000000 00000001 0000000000000000 aa'],
    ['a record of no length', '00000001 00000000 02000000 00000000 0000000000000000'],
    ['an offset above 2^53 - 1', `00000001 00000000 01000000 00000001 ${TOO_LARGE} aa`],
    ['payload that is too short', '00000001 00000000 01000000 00000002 0000000000000000 aa'],
    ['payload that is too long', '00000001 00000000 01000000 00000001 0000000000000000 aabb'],
    ['payload behind zeros', '00000001 00000000 02000000 00000200 0000000000000000 aa'],
    ['codec 3', '00000001 03000000 01000000 00000002 0000000000000000 aa'],
    ['codec 255', '00000001 ff000000 01000000 00000002 0000000000000000 aa'],
    ['a reserved byte behind the codec', '00000001 00010000 01000000 00000001 0000000000000000 aa'],
    ['the last reserved byte', '00000001 02000001 01000000 00000002 0000000000000000 aa'],
    ['a compressed payload as long as the data', '00000001 01000000 01000000 00000001 0000000000000000 aa'],
    [
      'a compressed payload longer than the data',
      '00000001 01000000 01000000 00000001 0000000000000000 aabb',
    ],
    ['a compressed payload of no bytes', '00000001 02000000 01000000 00000001 0000000000000000'],
    ['a codec and no data', '00000001 01000000 02000000 00000200 0000000000000000'],
    ['a codec and a payload without data', '00000001 01000000 02000000 00000200 0000000000000000 aa'],
    ['4 GiB behind a compressed byte', '00000001 02000000 01000000 ffffffff 0000000000000000 aa'],
    ['4 GiB of payload announced', '00000001 00000000 01000000 ffffffff 0000000000000000 aa'],
  ]
  for (const [name, hex] of refusals) {
    it(`refuses ${name}`, () => {
      const body = fromHex(hex)
      expect(largestAllocation(() => expectRefused('session/protocol', () => decodeData(body)))).toBeLessThan(
        4096,
      )
    })
  }

  it('refuses more records, and more payload, than the limits', () => {
    const zeros = Array.from({ length: MAX_DATA_RECORDS }, (): DataRecord => ({
      kind: 'zero',
      offset: 0,
      length: 1,
    }))
    expect(decodeData(encodeData(zeros)).records.length).toBe(MAX_DATA_RECORDS)
    expectRefused('session/protocol', () =>
      decodeData(encodeData([...zeros, { kind: 'zero', offset: 0, length: 1 }])),
    )
    const whole = (length: number): Buffer =>
      Buffer.concat([encodeData([{ kind: 'data', offset: 0, length }]), Buffer.alloc(length)])
    expect(decodeData(whole(MAX_DATA_PAYLOAD_BYTES)).payload.length).toBe(MAX_DATA_PAYLOAD_BYTES)
    expectRefused('session/protocol', () => decodeData(whole(MAX_DATA_PAYLOAD_BYTES + 1)))
    const packed = (length: number): Buffer =>
      Buffer.concat([encodeData([{ kind: 'data', offset: 0, length }], 2), Buffer.alloc(9)])
    expect(decodeData(packed(MAX_DATA_PAYLOAD_BYTES)).rawBytes).toBe(MAX_DATA_PAYLOAD_BYTES)
    expectRefused('session/protocol', () => decodeData(packed(MAX_DATA_PAYLOAD_BYTES + 1)))
  })
})

describe('mark and credit', () => {
  it('vectors', () => {
    expect(decodeMark(bodyOf('mark'))).toBe(258)
    expect(encodeMark(258).equals(bodyOf('mark'))).toBe(true)
    expect(decodeCredit(bodyOf('credit'))).toEqual({ frames: 32, bytes: 2 << 20 })
    expect(encodeCredit(32, 2 << 20).equals(bodyOf('credit'))).toBe(true)
    for (const decode of [decodeMark, decodeCredit]) {
      cutEverywhere(bodyOf('mark'), decode)
      expectRefused('session/protocol', () => decode(Buffer.alloc(9)))
    }
    expectRefused('session/protocol', () => decodeMark(fromHex(TOO_LARGE)))
    expectRefused('session/protocol', () => decodeMark(fromHex('ffffffffffffffff')))
  })

  it('any of them comes back', () => {
    fc.assert(
      fc.property(position, uint32, uint32, (block, frames, bytes) => {
        expect(decodeMark(encodeMark(block))).toBe(block)
        expect(decodeCredit(encodeCredit(frames, bytes))).toEqual({ frames, bytes })
      }),
      REPLAY,
    )
  })
})

describe('rate', () => {
  it('vectors: a rate, none, and what no double can hold', () => {
    expect(decodeRate(bodyOf('rate'))).toBe(20 << 20)
    expect(decodeRate(bodyOf('rate, none'))).toBe(null)
    expect(encodeRate(20 << 20).equals(bodyOf('rate'))).toBe(true)
    expect(encodeRate(null).equals(bodyOf('rate, none'))).toBe(true)
    cutEverywhere(bodyOf('rate'), decodeRate)
    expectRefused('session/protocol', () => decodeRate(Buffer.alloc(9)))
    expectRefused('session/protocol', () => decodeRate(fromHex(TOO_LARGE)))
  })

  it('any rate comes back', () => {
    fc.assert(
      fc.property(position, (rate) => {
        expect(decodeRate(encodeRate(rate))).toBe(rate === 0 ? null : rate)
      }),
      REPLAY,
    )
  })
})
