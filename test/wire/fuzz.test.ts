// Bytes of any kind through the decoder and every body decoder: the answer is a value or a SyncError with one of three
// codes, never another exception, a hang, or memory. Seeded: a failure prints what to replay.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import {
  decodeCredit,
  decodeData,
  decodeDetail,
  decodeDigests,
  decodeMark,
  decodeRefine,
} from '../../src/wire/bodies.js'
import {
  decodeError,
  decodeFinish,
  decodeFinished,
  decodeOpen,
  decodeOpened,
  decodeStart,
} from '../../src/wire/control.js'
import type { Frame } from '../../src/wire/frame.js'
import { FrameDecoder, MAX_FRAME_BYTES } from '../../src/wire/frame.js'
import { parseBanner } from '../../src/wire/handshake.js'
import { largestAllocation } from './expect.js'
import { bytesOf, VECTORS } from './vectors.js'

const RUNS = { seed: 20_250_106, numRuns: 3000 }
const STREAM = Buffer.concat(VECTORS.map(bytesOf))
/** A frame that is nothing but its header. */
const BYE = Buffer.from('0d00000000000000', 'hex')

const BODY_DECODERS: readonly ((body: Buffer) => unknown)[] = [
  (body) => decodeDigests(body, 16),
  (body) => decodeDigests(body, 32),
  decodeRefine,
  decodeDetail,
  decodeData,
  decodeMark,
  decodeCredit,
  decodeOpen,
  decodeOpened,
  decodeStart,
  decodeFinish,
  decodeFinished,
  decodeError,
]

/** True where `act` ended well; false where it refused as it may. Anything else goes on as a failure of the test. */
function accepted(act: () => unknown): boolean {
  try {
    act()
    return true
  } catch (thrown) {
    if (thrown instanceof SyncError && thrown.code === 'session/protocol') return false
    throw thrown
  }
}

function throughAll(body: Buffer): void {
  for (const decode of BODY_DECODERS) accepted(() => decode(body))
}

/** Feeds `bytes` in chunks; counts the frames before the end or the refusal. */
function feed(bytes: Uint8Array, chunkBytes: number): number {
  const decoder = new FrameDecoder()
  let frames = 0
  accepted(() => {
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      decoder.push(bytes.subarray(at, at + chunkBytes), ({ body, recycle }: Frame) => {
        frames += 1
        throughAll(body)
        recycle()
      })
    }
  })
  return frames
}

/** A good stream with some bytes replaced, taken out or put in. */
const mutated = fc
  .array(
    fc.tuple(
      fc.constantFrom('set', 'cut', 'insert', 'swap'),
      fc.nat(STREAM.length - 1),
      fc.integer({ min: 0, max: 255 }),
    ),
    {
      minLength: 1,
      maxLength: 6,
    },
  )
  .map((changes) => {
    let bytes = Buffer.from(STREAM)
    for (const [kind, place, value] of changes) {
      const at = place % bytes.length
      if (kind === 'set') bytes.fill(value, at, at + 1)
      else if (kind === 'cut')
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + (value % 16))])
      else if (kind === 'insert')
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from([value]), bytes.subarray(at)])
      else bytes = Buffer.concat([bytes.subarray(at), bytes.subarray(0, at)])
    }
    return bytes
  })

describe('fuzz', () => {
  it('random bytes', () => {
    const largest = largestAllocation(() => {
      fc.assert(
        fc.property(
          fc.uint8Array({ maxLength: 400 }),
          fc.integer({ min: 1, max: 50 }),
          (bytes, chunk) => void feed(bytes, chunk),
        ),
        RUNS,
      )
    })
    expect(largest).toBeLessThanOrEqual(MAX_FRAME_BYTES)
  })

  it('streams that are almost good', () => {
    let frames = 0
    const largest = largestAllocation(() => {
      fc.assert(
        fc.property(mutated, fc.integer({ min: 1, max: 50 }), (bytes, chunk) => {
          frames += feed(bytes, chunk)
        }),
        RUNS,
      )
    })
    expect(largest).toBeLessThanOrEqual(MAX_FRAME_BYTES)
    // The mutations leave most of the stream standing: what is tested is not only the first header.
    expect(frames).toBeGreaterThan(RUNS.numRuns * 3)
  })

  it('random bodies of every type, also such that look like JSON', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => throughAll(Buffer.from(bytes))),
      RUNS,
    )
    fc.assert(
      fc.property(fc.json(), (text) => throughAll(Buffer.from(text))),
      RUNS,
    )
  })

  it('good bodies with some bytes changed', () => {
    const bodies = VECTORS.map((vector) => bytesOf(vector).subarray(8)).filter((body) => body.length > 0)
    const changed = fc
      .tuple(fc.constantFrom(...bodies), fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 4 }))
      .map(([body, changes]) => {
        const bytes = Buffer.from(body)
        for (const [at, value] of changes) bytes.fill(value, at % bytes.length, (at % bytes.length) + 1)
        return bytes
      })
    fc.assert(fc.property(changed, throughAll), RUNS)
  })

  it('the same frames come out of a bad stream, however it is cut', () => {
    fc.assert(
      fc.property(mutated, fc.integer({ min: 1, max: 50 }), (bytes, chunk) => {
        expect(feed(bytes, chunk)).toBe(feed(bytes, bytes.length + 1))
      }),
      { ...RUNS, numRuns: 500 },
    )
  })

  it('a long stream of small frames does not grow the decoder', () => {
    const decoder = new FrameDecoder()
    const bytes = Buffer.concat(Array.from({ length: 1000 }, () => BYE))
    let frames = 0
    const largest = largestAllocation(() => {
      for (let turn = 0; turn < 200; turn += 1) decoder.push(bytes, () => (frames += 1))
    })
    expect([frames, largest]).toEqual([200_000, 0])
  })

  it('lines that look like banners', () => {
    fc.assert(
      fc.property(fc.string(), (tail) => void parseBanner(`BLOCKSYNC server 1-1${tail}`)),
      RUNS,
    )
    const startMs = performance.now()
    parseBanner(`BLOCKSYNC server 1-1${' a='.repeat(400)}\u0000`)
    parseBanner(`BLOCKSYNC server 1-1 ${'a'.repeat(1000)}`)
    expect(performance.now() - startMs).toBeLessThan(2000)
  })
})
