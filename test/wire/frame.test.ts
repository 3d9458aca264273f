// The frame codec against named vectors, cut at every byte, against a plain twin, and against headers that lie.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import type { Frame, FrameType } from '../../src/wire/frame.js'
import {
  decodeHeader,
  encodeHeader,
  FRAME,
  FrameDecoder,
  frameName,
  HEADER_BYTES,
  isAside,
  isCredited,
  MAX_CONTROL_BYTES,
  MAX_DATA_PAYLOAD_BYTES,
  MAX_DATA_RECORDS,
  MAX_DIGEST_RUNS,
  MAX_DISKS,
  MAX_FRAME_BYTES,
  MAX_REFINE_ITEMS,
  MAX_SLAB_BYTES,
} from '../../src/wire/frame.js'
import { largestAllocation, expectRefused } from './expect.js'
import type { TwinFrame } from './twin.js'
import { twinFrames } from './twin.js'
import { bytesOf, fromHex, VECTORS } from './vectors.js'

/** From docs/protocol.md, "Limits". */
const LIMITS: readonly [FrameType, number][] = [
  [FRAME.open, MAX_CONTROL_BYTES],
  [FRAME.opened, MAX_CONTROL_BYTES],
  [FRAME.start, MAX_CONTROL_BYTES],
  [FRAME.digests, 8 + 8 * MAX_DIGEST_RUNS + MAX_SLAB_BYTES],
  [FRAME.refine, 8 + 12 * MAX_REFINE_ITEMS],
  [FRAME.detail, 8 + MAX_SLAB_BYTES],
  [FRAME.data, 8 + 16 * MAX_DATA_RECORDS + MAX_DATA_PAYLOAD_BYTES],
  [FRAME.mark, 8],
  [FRAME.finish, MAX_CONTROL_BYTES],
  [FRAME.finished, MAX_CONTROL_BYTES],
  [FRAME.credit, 8],
  [FRAME.error, MAX_CONTROL_BYTES],
  [FRAME.bye, 0],
  [FRAME.ping, 8],
  [FRAME.pong, 8],
  [FRAME.rate, 8],
  [FRAME.limit, 8],
  [FRAME.limited, 8],
  [FRAME.invite, 0],
  [FRAME.invited, MAX_CONTROL_BYTES],
  [FRAME.record, MAX_CONTROL_BYTES],
  [FRAME.recorded, MAX_CONTROL_BYTES],
  [FRAME.bond, MAX_CONTROL_BYTES],
  [FRAME.bonding, MAX_CONTROL_BYTES],
  [FRAME.bonded, MAX_CONTROL_BYTES],
]

function headerOf(type: number, reserved: number, disk: number, bodyBytes: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt8(type, 0)
  header.writeUInt8(reserved, 1)
  header.writeUInt16BE(disk, 2)
  header.writeUInt32BE(bodyBytes, 4)
  return header
}

function decodeAll(chunks: readonly Uint8Array[], decoder = new FrameDecoder()): TwinFrame[] {
  const frames: TwinFrame[] = []
  for (const chunk of chunks) {
    decoder.push(chunk, ({ type, disk, body, recycle }) => {
      frames.push({ type, disk, body: [...body] })
      recycle()
    })
  }
  return frames
}

describe('vectors', () => {
  it('show every frame type at least once', () => {
    const shown = new Set(VECTORS.map(({ type }) => type))
    expect(Object.values(FRAME).filter((type) => !shown.has(type))).toEqual([])
  })

  for (const vector of VECTORS) {
    const { name, type, disk, header, body } = vector
    it(`${name}: is encoded and decoded as written`, () => {
      const bodyBytes = fromHex(body)
      expect(encodeHeader(type, disk, bodyBytes.length).toString('hex')).toBe(header)
      expect(decodeHeader(fromHex(header))).toEqual({ type, disk, bodyBytes: bodyBytes.length })
      expect(decodeAll([bytesOf(vector)])).toEqual([{ type, disk, body: [...bodyBytes] }])
    })

    it(`${name}: cut at every byte`, () => {
      const bytes = bytesOf(vector)
      for (let cut = 0; cut <= bytes.length; cut += 1) {
        const decoder = new FrameDecoder()
        const first = decodeAll([bytes.subarray(0, cut)], decoder)
        expect(first.length).toBe(cut === bytes.length ? 1 : 0)
        expect(decoder.isBetweenFrames).toBe(cut === 0 || cut === bytes.length)
        expect([...first, ...decodeAll([bytes.subarray(cut)], decoder)]).toEqual([
          { type, disk, body: [...fromHex(body)] },
        ])
        expect(decoder.isBetweenFrames).toBe(true)
      }
    })
  }

  it('all in one stream, a byte at a time, with empty chunks between, as the twin reads them', () => {
    const stream = Buffer.concat(VECTORS.map(bytesOf))
    const bytes = Array.from(stream, (byte) => [Buffer.alloc(0), Buffer.from([byte])]).flat()
    expect(decodeAll(bytes)).toEqual(twinFrames(stream))
    expect(decodeAll([stream])).toEqual(twinFrames(stream))
    expect(twinFrames(stream).length).toBe(VECTORS.length)
  })
})

describe('any stream of frames', () => {
  it('comes out as the twin reads it, whatever the cuts', () => {
    const frame = fc
      .constantFrom(...LIMITS)
      .chain(([type, limit]) =>
        fc.tuple(
          fc.constant(type),
          fc.nat(MAX_DISKS - 1),
          fc.uint8Array({ maxLength: Math.min(limit, 300) }),
        ),
      )
    fc.assert(
      fc.property(
        fc.array(frame, { maxLength: 12 }),
        fc.array(fc.nat(64), { minLength: 1 }),
        (frames, cuts) => {
          const stream = Buffer.concat(
            frames.flatMap(([type, disk, body]) => [
              encodeHeader(type, disk, body.length),
              Buffer.from(body),
            ]),
          )
          const chunks: Buffer[] = []
          for (let at = 0, turn = 0; at < stream.length; turn += 1) {
            const length = 1 + (cuts[turn % cuts.length] ?? 0)
            chunks.push(stream.subarray(at, at + length))
            at += length
          }
          const decoded = decodeAll(chunks)
          expect(decoded).toEqual(twinFrames(stream))
          expect(decoded).toEqual(frames.map(([type, disk, body]) => ({ type, disk, body: [...body] })))
        },
      ),
      { seed: 20_250_101, numRuns: 300 },
    )
  })

  it('keeps large bodies apart until they are recycled, and reuses their memory then', () => {
    const decoder = new FrameDecoder()
    const body = (fill: number): Buffer => Buffer.alloc(100_000, fill)
    const frames: { body: Buffer; recycle: () => void }[] = []
    const push = (fill: number): number =>
      largestAllocation(() => {
        decoder.push(encodeHeader(FRAME.data, 0, 100_000), () => undefined)
        decoder.push(body(fill), (frame) => frames.push(frame))
      })
    push(1)
    push(2)
    expect(frames.map((frame) => frame.body.equals(body(frames.indexOf(frame) + 1)))).toEqual([true, true])
    frames[0]?.recycle()
    push(3)
    expect(frames[2]?.body.buffer).toBe(frames[0]?.body.buffer)
    expect(frames[1]?.body.equals(body(2))).toBe(true)
  })
})

describe('the memory of a body', () => {
  const bodyOf = (decoder: FrameDecoder, bodyBytes: number, chunk?: Buffer): Frame => {
    const frames: Frame[] = []
    const note = (frame: Frame): void => void frames.push(frame)
    const bytes = Buffer.concat([encodeHeader(FRAME.data, 0, bodyBytes), Buffer.alloc(bodyBytes)])
    if (chunk !== undefined) bytes.copy(chunk)
    decoder.push(chunk === undefined ? bytes : chunk.subarray(0, bytes.length), note)
    const [frame] = frames
    if (frame === undefined || frames.length > 1) throw new Error('one frame was due')
    return frame
  }
  /** Above half of the largest data frame its records come on top. */
  const slackBytes = MAX_FRAME_BYTES - (1 << 20)
  const sizes = [64, 65, 100, 127, 128, 129, 200, 256, 257, 500, 512, 513, 800, 1024].map(
    (kibibytes) => kibibytes << 10,
  )

  it.each(sizes)('of %i bytes is at most twice as much', (bodyBytes) => {
    const { body } = bodyOf(new FrameDecoder(), bodyBytes)
    expect(body.length).toBe(bodyBytes)
    expect(body.buffer.byteLength).toBeLessThanOrEqual(2 * bodyBytes + slackBytes)
  })

  it('does not become more by reuse: a small frame is not put into what a large one left', () => {
    const decoder = new FrameDecoder()
    for (const bodyBytes of sizes.toReversed()) bodyOf(decoder, bodyBytes).recycle()
    for (const bodyBytes of sizes) {
      const frame = bodyOf(decoder, bodyBytes)
      expect(frame.body.length).toBe(bodyBytes)
      expect(frame.body.buffer.byteLength).toBeLessThanOrEqual(2 * bodyBytes + slackBytes)
      frame.recycle()
    }
  })

  it('is reused within a size class', () => {
    const decoder = new FrameDecoder()
    const first = bodyOf(decoder, 100_000)
    first.recycle()
    expect(bodyOf(decoder, 120_000).body.buffer).toBe(first.body.buffer)
    expect(bodyOf(decoder, 120_000).body.buffer).not.toBe(first.body.buffer)
  })

  it('does not pin the chunk it came in', () => {
    for (const bodyBytes of [8, 5000, 60_000, 100_000]) {
      const chunk = Buffer.alloc(1 << 20)
      const { body } = bodyOf(new FrameDecoder(), bodyBytes, chunk)
      expect(body.buffer).not.toBe(chunk.buffer)
      expect(body.buffer.byteLength).toBeLessThanOrEqual(Math.max(Buffer.poolSize, 2 * bodyBytes))
    }
  })
})

describe('what a header may not say', () => {
  it('is known for every type', () => {
    expect(LIMITS.map(([type]) => type)).toEqual(Object.values(FRAME))
  })

  for (const [type, limit] of LIMITS) {
    it(`${frameName(type)}: a body of ${limit} bytes is the largest`, () => {
      expect(decodeHeader(headerOf(type, 0, 0, limit))).toEqual({ type, disk: 0, bodyBytes: limit })
      expect(encodeHeader(type, 0, limit).equals(headerOf(type, 0, 0, limit))).toBe(true)
      for (const bodyBytes of [limit + 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
        const largest = largestAllocation(() => {
          const error = expectRefused('session/protocol', () => decodeAll([headerOf(type, 0, 0, bodyBytes)]))
          expect(error.message).toContain(frameName(type))
          expect(error.message).toContain(String(bodyBytes))
        })
        expect(largest).toBeLessThanOrEqual(1024)
        expectRefused('internal', () => encodeHeader(type, 0, bodyBytes))
      }
    })
  }

  it('no body takes more memory than the largest frame', () => {
    for (const [type, limit] of LIMITS) {
      const decoder = new FrameDecoder()
      expect(
        largestAllocation(() => decoder.push(headerOf(type, 0, 0, limit), () => undefined)),
      ).toBeLessThanOrEqual(MAX_FRAME_BYTES)
    }
  })

  it('every type that is not known', () => {
    const known = new Set<number>(Object.values(FRAME))
    for (let type = 0; type < 256; type += 1) {
      if (known.has(type)) continue
      expect(expectRefused('session/protocol', () => decodeAll([headerOf(type, 0, 0, 0)])).message).toContain(
        `type ${type}`,
      )
      expect(frameName(type)).toBe(`type ${type}`)
    }
  })

  it('a reserved byte that is set', () => {
    for (let reserved = 1; reserved < 256; reserved += 1) {
      expectRefused('session/protocol', () => decodeAll([headerOf(FRAME.ping, reserved, 0, 0)]))
    }
  })

  it('a disk number beyond the last', () => {
    expect(decodeHeader(headerOf(FRAME.mark, 0, MAX_DISKS - 1, 8)).disk).toBe(MAX_DISKS - 1)
    for (const disk of [MAX_DISKS, 0xffff]) {
      expectRefused('session/protocol', () => decodeAll([headerOf(FRAME.mark, 0, disk, 8)]))
      expectRefused('internal', () => encodeHeader(FRAME.mark, disk, 8))
    }
  })

  it('is refused as soon as the header is there, before the body', () => {
    const decoder = new FrameDecoder()
    const header = headerOf(FRAME.mark, 0, 0, 9)
    decoder.push(header.subarray(0, 7), () => undefined)
    expectRefused('session/protocol', () => decoder.push(header.subarray(7), () => undefined))
  })
})

describe('credit', () => {
  it('is for digests and data', () => {
    expect(Object.values(FRAME).filter(isCredited)).toEqual([FRAME.digests, FRAME.data])
  })
})

describe('asides', () => {
  it('are what is for the session and not for its pass', () => {
    const { pong, rate, limit, limited, invite, invited, record, recorded, bond, bonding, bonded } = FRAME
    expect(Object.values(FRAME).filter(isAside)).toEqual([
      pong,
      rate,
      limit,
      limited,
      invite,
      invited,
      record,
      recorded,
      bond,
      bonding,
      bonded,
    ])
  })
})
