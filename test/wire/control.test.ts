// Control frames: every field is needed and checked, unknown ones are ignored, nothing of the far end's text reaches a
// terminal as it is.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import {
  decodeError,
  decodeFinish,
  decodeFinished,
  decodeInvited,
  decodeOpen,
  decodeOpened,
  decodeStart,
  encodeControl,
  encodeFinish,
  encodeFinished,
  encodeError,
  encodeOpen,
  encodeStart,
} from '../../src/wire/control.js'
import { MAX_DIFFERING_RANGES, MAX_UNREADABLE_RANGES } from '../../src/wire/differing.js'
import { MAX_DISK_BYTES } from '../../src/endpoint/endpoint.js'
import { encodeHeader, FRAME, FrameDecoder, HEADER_BYTES, MAX_CONTROL_BYTES } from '../../src/wire/frame.js'
import { expectRefused } from './expect.js'

const REPLAY = { seed: 20_250_103, numRuns: 200 }
const ROOT = 'ab'.repeat(32)

const OPEN = {
  role: 'destination',
  path: '/images/web.img',
  access: 'write',
  create: 'if-missing',
  createSizeBytes: 4096,
} as const
const OPENED = {
  path: '/images/web.img',
  kind: 'file',
  sizeBytes: 4096,
  logicalSectorBytes: 512,
  created: true,
  direct: false,
  identity: { machine: 'here', aliases: ['file:1:2'] },
} as const
const START = {
  mode: 'write',
  offsetBytes: 0,
  lengthBytes: 4096,
  destinationBytes: 8192,
  blockBytes: 4096,
  leafBytes: 512,
  algorithm: 'sha256',
  seed: '000102030405060708090a0b0c0d0e0f',
} as const
const FINISH = {
  root: ROOT,
  endBlock: 10,
  sameBlocks: 1,
  differentBlocks: 2,
  zeroBlocks: 3,
  skippedBlocks: 4,
  sentBytes: 5,
  zeroedBytes: 6,
  readBytes: 7,
} as const
const FINISHED = { root: ROOT, readBytes: 9 } as const
const INVITED = { lane: 'a secret of the run' } as const

type Message = { name: string; good: Readonly<Record<string, unknown>>; decode: (body: Buffer) => unknown }

const MESSAGES: readonly Message[] = [
  {
    name: 'open',
    good: OPEN,
    decode: (body) => {
      const { lane, lockWaitMs, guards, force, peer, undo, standsFor, ...rest } = decodeOpen(body)
      expect([lane, lockWaitMs, guards, force, peer, undo]).toEqual([null, 0, 'on', [], null, 'none'])
      expect(standsFor).toBeNull()
      return rest
    },
  },
  {
    name: 'opened',
    good: OPENED,
    decode: (body) => {
      const { warnings, known, undo, ...rest } = decodeOpened(body)
      expect([warnings, known, undo]).toEqual([[], null, null])
      return rest
    },
  },
  {
    name: 'start',
    good: START,
    decode: (body) => {
      const { bytesPerSecond, compression, verify, badSectors, leaves, pair, seed, ...rest } =
        decodeStart(body)
      expect([bytesPerSecond, compression, verify, badSectors, leaves, pair]).toEqual([
        null,
        null,
        'none',
        'stop',
        null,
        null,
      ])
      return { ...rest, seed: Buffer.from(seed).toString('hex') }
    },
  },
  {
    name: 'finish',
    good: FINISH,
    decode: (body) => {
      const { differing, unreadable, grownBytes, ...rest } = decodeFinish(body)
      expect([differing, unreadable, grownBytes]).toEqual([[], [], 0])
      return rest
    },
  },
  {
    name: 'finished',
    good: FINISHED,
    decode: (body) => {
      const { verifiedBytes, undoBytes, ...rest } = decodeFinished(body)
      expect([verifiedBytes, undoBytes]).toEqual([null, 0])
      return rest
    },
  },
  { name: 'invited', good: INVITED, decode: decodeInvited },
]

/** A wrong value for each kind of field: other types, numbers that are no counts, words that are not in the list. */
const WRONG: readonly unknown[] = [null, [], {}, -1, 1.5, 2 ** 53, 1e300, true, 'sideways', '']

function isTextField(name: string, value: unknown): boolean {
  return typeof value === 'string' && ['path', 'machine', 'lane'].includes(name)
}

for (const { name, good, decode } of MESSAGES) {
  describe(name, () => {
    it('comes back, and unknown fields are ignored', () => {
      expect(decode(encodeControl(good))).toEqual(good)
      expect(decode(encodeControl({ ...good, later: [1, { two: 3 }] }))).toEqual(good)
    })

    it('needs every field', () => {
      for (const field of Object.keys(good)) {
        const rest = Object.fromEntries(Object.entries(good).filter(([key]) => key !== field))
        expectRefused('session/protocol', () => decode(encodeControl(rest)))
      }
    })

    for (const [field, value] of Object.entries(good)) {
      it(`checks ${field}`, () => {
        const wrong = WRONG.filter(
          (other) =>
            typeof other !== typeof value || !(typeof other === 'boolean' || isTextField(field, value)),
        )
        expect(wrong.length).toBeGreaterThan(5)
        for (const other of wrong)
          expectRefused('session/protocol', () => decode(encodeControl({ ...good, [field]: other })))
      })
    }

    it('is refused when cut at any byte', () => {
      const body = encodeControl(good)
      for (let length = 0; length < body.length; length += 1)
        expectRefused('session/protocol', () => decode(body.subarray(0, length)))
    })

    it('is refused when it is not an object', () => {
      for (const text of ['', 'null', '1', '"open"', '[]', '{', '{}x', '\u0000'])
        expectRefused('session/protocol', () => decode(Buffer.from(text)))
      expectRefused('session/protocol', () => decode(Buffer.from([0xff, 0xfe, 0x7b, 0x7d])))
    })

    it('does not take fields from the prototype', () => {
      expectRefused('session/protocol', () =>
        decode(Buffer.from('{"__proto__":' + JSON.stringify(good) + '}')),
      )
    })
  })
}

describe('open and opened', () => {
  it('any path of a good disk comes back', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'grapheme' }),
        fc.integer({ min: 0, max: MAX_DISK_BYTES }),
        fc.array(fc.string()),
        (path, sizeBytes, aliases) => {
          expect(decodeOpen(encodeControl({ ...OPEN, path, createSizeBytes: sizeBytes }))).toMatchObject({
            ...OPEN,
            path,
            createSizeBytes: sizeBytes,
            lane: null,
            lockWaitMs: 0,
          })
          const info = { ...OPENED, path, sizeBytes, identity: { machine: path, aliases } }
          expect(decodeOpened(encodeControl(info))).toMatchObject({ ...info, warnings: [] })
        },
      ),
      REPLAY,
    )
  })

  it('guards are named from a closed list, each at most once', () => {
    const decoded = (fields: object) => decodeOpen(encodeControl({ ...OPEN, ...fields }))
    expect(decoded({})).toMatchObject({ guards: 'on', force: [] })
    const force = ['mounted', 'same-id'] as const
    expect(decoded({ guards: 'off', force })).toMatchObject({ guards: 'off', force })
    expect(decodeOpen(encodeOpen({ ...decoded({ force }), guards: 'off' }))).toMatchObject({
      guards: 'off',
      force,
    })
    for (const wrong of [
      null,
      'mounted',
      ['all'],
      ['mounted', 7],
      ['open', 'open'],
      Array(100).fill('open'),
      { length: 0 },
    ])
      expectRefused('session/protocol', () => decoded({ force: wrong }))
    for (const wrong of [null, true, 'ON', ''])
      expectRefused('session/protocol', () => decoded({ guards: wrong }))
  })

  it('warnings are a few harmless lines', () => {
    const decoded = (warnings: unknown) => decodeOpened(encodeControl({ ...OPENED, warnings })).warnings
    expect(decoded(['a\u001b[2Jb\nc'])).toEqual(['a?[2Jb?c'])
    for (const wrong of [null, 'x', [1], Array(5).fill('x'), ['x'.repeat(1001)], {}])
      expectRefused('session/protocol', () => decoded(wrong))
  })

  it('a lane token is optional, and text', () => {
    const decoded = (lane: unknown): string | null => decodeOpen(encodeControl({ ...OPEN, lane })).lane
    expect([decoded(undefined), decoded(''), decoded('token')]).toEqual([null, '', 'token'])
    for (const wrong of [null, 7, true, ['token'], {}])
      expectRefused('session/protocol', () => decoded(wrong))
    for (const lane of [null, 'token'])
      expect(decodeOpen(encodeOpen({ ...decodeOpen(encodeControl(OPEN)), lane })).lane).toBe(lane)
  })

  it('a wait for a lock is a count of milliseconds, and not waiting is not said', () => {
    const decoded = (lockWaitMs: unknown): number =>
      decodeOpen(encodeControl({ ...OPEN, lockWaitMs })).lockWaitMs
    expect([decoded(undefined), decoded(0), decoded(5000)]).toEqual([0, 0, 5000])
    for (const wrong of [null, -1, 1.5, '5', 2 ** 53]) expectRefused('session/protocol', () => decoded(wrong))
    const open = decodeOpen(encodeControl({ ...OPEN }))
    expect(encodeOpen(open).toString()).not.toContain('lockWaitMs')
    expect(decodeOpen(encodeOpen({ ...open, lockWaitMs: 7 })).lockWaitMs).toBe(7)
  })

  it('a journal is one step or a chain, and none is not said', () => {
    const decoded = (undo: unknown): string => decodeOpen(encodeControl({ ...OPEN, undo })).undo
    expect([undefined, 'none', 'keep', 'chain'].map(decoded)).toEqual(['none', 'none', 'keep', 'chain'])
    // so does a server of before chains, and keeps no single step in its place
    for (const wrong of [null, 'two', true, ['chain']])
      expectRefused('session/protocol', () => decoded(wrong))
    const open = decodeOpen(encodeControl({ ...OPEN }))
    expect(encodeOpen(open).toString()).not.toContain('undo')
    expect(decodeOpen(encodeOpen({ ...open, undo: 'chain' })).undo).toBe('chain')
  })

  it('a source may stand for another disk, and its own is not said', () => {
    const decoded = (standsFor: unknown): string | null =>
      decodeOpen(encodeControl({ ...OPEN, standsFor })).standsFor
    expect([decoded(undefined), decoded('/dev/vg/web')]).toEqual([null, '/dev/vg/web'])
    for (const wrong of [null, 7, true, ['/a'], {}]) expectRefused('session/protocol', () => decoded(wrong))
    const open = decodeOpen(encodeControl({ ...OPEN }))
    expect(encodeOpen(open).toString()).not.toContain('standsFor')
    expect(decodeOpen(encodeOpen({ ...open, standsFor: '/dev/vg/web' })).standsFor).toBe('/dev/vg/web')
  })

  it('a lane token is bounded by the frame: a longer one is refused before memory is taken', () => {
    const lane = 'x'.repeat(MAX_CONTROL_BYTES)
    const body = encodeControl({ ...OPEN, lane })
    const header = Buffer.alloc(HEADER_BYTES)
    header.writeUInt8(FRAME.open)
    header.writeUInt32BE(body.length, 4)
    expectRefused('session/protocol', () => new FrameDecoder().push(header, () => undefined))
    expectRefused('internal', () => encodeHeader(FRAME.open, 0, body.length))
  })

  it('checks the identity', () => {
    for (const identity of [
      {},
      { machine: 'x' },
      { machine: 1, aliases: [] },
      { machine: 'x', aliases: 'file:1:2' },
      { machine: 'x', aliases: [1] },
    ]) {
      expectRefused('session/protocol', () => decodeOpened(encodeControl({ ...OPENED, identity })))
    }
  })
})

describe('start', () => {
  it('any seed and sizes come back', () => {
    const seeds = fc.uint8Array({ minLength: 16, maxLength: 16 })
    const algorithms = fc.constantFrom('xxh3-128' as const, 'xxh64x2' as const, 'sha256' as const)
    fc.assert(
      fc.property(
        seeds,
        algorithms,
        fc.integer({ min: 0, max: MAX_DISK_BYTES }),
        fc.maxSafeNat(),
        fc.option(fc.integer({ min: 1 })),
        fc.option(
          fc.constantFrom(
            { codec: 'zstd', mode: 'auto' } as const,
            { codec: 'brotli', mode: 'always' } as const,
          ),
        ),
        fc.constantFrom('none' as const, 'written' as const, 'all' as const),
        fc.constantFrom('stop' as const, 'skip' as const),
        fc.constantFrom(null, { root: null }, { root: ROOT }),
        (
          seed,
          algorithm,
          lengthBytes,
          blockBytes,
          bytesPerSecond,
          compression,
          verify,
          badSectors,
          leaves,
        ) => {
          const sizes = {
            lengthBytes,
            blockBytes,
            bytesPerSecond,
            compression,
            verify,
            badSectors,
            leaves,
            pair: null,
          }
          const start = { ...START, ...sizes, mode: 'compare' as const, seed, algorithm }
          const decoded = decodeStart(encodeStart(start))
          expect({ ...decoded, seed: Uint8Array.from(decoded.seed) }).toEqual(start)
        },
      ),
      REPLAY,
    )
  })

  it('a rate is optional, and never nothing', () => {
    const decoded = (bytesPerSecond: unknown): number | null =>
      decodeStart(encodeControl({ ...START, bytesPerSecond })).bytesPerSecond
    expect([decoded(undefined), decoded(0), decoded(1), decoded(5000)]).toEqual([null, 1, 1, 5000])
    for (const wrong of [null, -1, 1.5, '7', {}]) expectRefused('session/protocol', () => decoded(wrong))
  })

  it('a codec is optional, one of the list, and comes with how it is used', () => {
    const decoded = (codec: unknown, compress: unknown): unknown =>
      decodeStart(encodeControl({ ...START, codec, compress })).compression
    expect(decoded(undefined, undefined)).toBeNull()
    expect(decoded(undefined, 'sideways')).toBeNull()
    expect(decoded('zstd', 'auto')).toEqual({ codec: 'zstd', mode: 'auto' })
    for (const codec of [null, 1, '', 'lz4', 'none', 'best'])
      expectRefused('session/protocol', () => decoded(codec, 'auto'))
    for (const compress of [undefined, null, 1, '', 'best'])
      expectRefused('session/protocol', () => decoded('zstd', compress))
  })

  it('takes a seed of 16 bytes in lower-case hex and nothing else', () => {
    const { seed } = START
    for (const wrong of [
      seed.slice(2),
      `${seed}00`,
      `${seed}zz`,
      seed.toUpperCase(),
      ` ${seed.slice(1)}`,
      `${seed.slice(0, 31)}g`,
    ]) {
      expectRefused('session/protocol', () => decodeStart(encodeControl({ ...START, seed: wrong })))
    }
  })
})

describe('finish and finished', () => {
  const NOTHING_TO_SAY = { ...FINISH, grownBytes: 0, differing: [], unreadable: [] }

  it('the longest list of what could not be read fits into its frame', () => {
    const last = Number.MAX_SAFE_INTEGER
    const unreadable = Array.from({ length: MAX_UNREADABLE_RANGES }, () => ({
      offset: last - 512,
      length: 512,
    }))
    const longest = Array.from({ length: MAX_UNREADABLE_RANGES }, () => ({ offset: last, length: 0 }))
    const frame = encodeFinish({ ...NOTHING_TO_SAY, unreadable })
    expect(encodeFinish({ ...NOTHING_TO_SAY, unreadable: longest }).length).toBeLessThan(
      MAX_CONTROL_BYTES / 2,
    )
    expect(decodeFinish(frame).unreadable).toEqual(unreadable)
    const many = [...unreadable, { offset: 0, length: 1 }]
    expectRefused('session/protocol', () =>
      decodeFinish(encodeFinish({ ...NOTHING_TO_SAY, unreadable: many })),
    )
  })

  it('say what differs and what was read back, where there is something to say', () => {
    const unreadable = [
      { offset: 512, length: 512 },
      { offset: 8192, length: 1024 },
    ]
    const message = { ...FINISH, grownBytes: 7, differing: [{ offset: 4096, length: 512 }], unreadable }
    expect(decodeFinish(encodeFinish(message))).toEqual(message)
    expect(JSON.parse(encodeFinish(NOTHING_TO_SAY).toString())).toEqual(FINISH)
    const finished = { ...FINISHED, verifiedBytes: 17, undoBytes: 3 }
    expect(decodeFinished(encodeFinished(finished))).toMatchObject(finished)
    expect(JSON.parse(encodeFinished({ ...FINISHED, verifiedBytes: null, undoBytes: 0 }).toString())).toEqual(
      FINISHED,
    )
  })

  it('name a few ranges on a disk and nothing else', () => {
    const many = Array.from({ length: MAX_DIFFERING_RANGES + 1 }, (_, index) => [index, 1])
    const wrong = [null, {}, 'x', [1], [[1]], [[1, 2, 3]], [[-1, 2]], [['1', 2]], [[2 ** 53 - 1, 1]], many]
    for (const differing of wrong)
      expectRefused('session/protocol', () => decodeFinish(encodeControl({ ...FINISH, differing })))
    for (const verifiedBytes of [null, -1, '1'])
      expectRefused('session/protocol', () => decodeFinished(encodeControl({ ...FINISHED, verifiedBytes })))
    for (const leaves of [
      null,
      1,
      'x',
      [],
      { root: null },
      { root: ROOT.slice(1) },
      { root: ROOT.toUpperCase() },
    ])
      expectRefused('session/protocol', () => decodeStart(encodeControl({ ...START, leaves })))
    for (const verify of [null, 1, 'some', 'WRITTEN'])
      expectRefused('session/protocol', () => decodeStart(encodeControl({ ...START, verify })))
  })

  it('take a root of 32 bytes in hex and nothing else: it is shown to people', () => {
    for (const root of [ROOT.slice(1), `${ROOT}0`, '\u001b[2J'.padEnd(64, '0'), ROOT.toUpperCase()]) {
      expectRefused('session/protocol', () => decodeFinish(encodeControl({ ...FINISH, root })))
      expectRefused('session/protocol', () => decodeFinished(encodeControl({ ...FINISHED, root })))
    }
  })
})

describe('error', () => {
  it('keeps code, message, operand and hint', () => {
    const error = new SyncError('destination/no-space', '/images/web.img: no space left', {
      operand: '/images/web.img',
      hint: 'Make room.',
    })
    const decoded = decodeError(encodeError(error))
    expect({
      code: decoded.code,
      message: decoded.message,
      operand: decoded.operand,
      hint: decoded.hint,
    }).toEqual({
      code: error.code,
      message: error.message,
      operand: error.operand,
      hint: error.hint,
    })
    expect(decodeError(encodeError(new SyncError('usage', 'no details')))).toMatchObject({
      operand: null,
      hint: null,
    })
  })

  it('with a code that is not known here is session/lost, with its text', () => {
    for (const code of ['destination/on-fire', 'toString', '', 7, null]) {
      expect(decodeError(encodeControl({ code, message: 'it burns' }))).toMatchObject({
        code: 'session/lost',
        message: 'it burns',
      })
    }
  })

  it('does not bring control characters to a terminal', () => {
    const nasty = 'a\u001b[31mb\r\nc\u0000d\u009be\u007f'
    const decoded = decodeError(
      encodeControl({ code: 'internal', message: nasty, operand: nasty, hint: nasty }),
    )
    for (const text of [decoded.message, decoded.operand, decoded.hint]) expect(text).toBe('a?[31mb??c?d?e?')
  })

  it('is refused without a message', () => {
    expectRefused('session/protocol', () => decodeError(encodeControl({ code: 'internal' })))
    expectRefused('session/protocol', () => decodeError(Buffer.from('[]')))
  })

  it('fits into its frame, however long the text was', () => {
    for (const unit of ['x', '\u0000', '\ud800', '€', '"']) {
      const long = unit.repeat(1 << 17)
      const body = encodeError(new SyncError('internal', long, { operand: long, hint: long }))
      expect(body.length).toBeLessThanOrEqual(MAX_CONTROL_BYTES)
      expect(decodeError(body).code).toBe('internal')
    }
  })
})
