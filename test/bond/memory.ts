// Streams in memory that take and give as slowly, and cut as oddly, as a test wants; and what is read from one.

import { PassThrough, type Readable } from 'node:stream'

/** Numbers from 0 up to below `below`, always the same ones for a seed. */
export function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

/** A stream that passes bytes on in odd pieces, after odd numbers of turns of the event loop. */
export function crookedLine(random: (below: number) => number): PassThrough {
  return new PassThrough({
    highWaterMark: 4096,
    transform(lent: Buffer, _encoding, done) {
      // As a kernel does: what was taken is the writer's again.
      const chunk = Buffer.from(lent)
      const step = (at: number): void => {
        if (at >= chunk.length) return done()
        const end = at + 1 + random(random(4) === 0 ? 7 : 50_000)
        this.push(chunk.subarray(at, end))
        if (random(3) === 0) setImmediate(step, end)
        else step(end)
      }
      if (random(2) === 0) setImmediate(step, 0)
      else step(0)
    },
  })
}

/** All that comes until the end; a chunk is looked at only during its event, as the bond asks for. */
export async function readAll(
  input: Readable,
  onChunk: (bytes: number) => void = () => undefined,
): Promise<Buffer> {
  const chunks: Buffer[] = []
  return await new Promise((resolve) => {
    input.on('data', (chunk: Uint8Array) => {
      chunks.push(Buffer.from(chunk))
      onChunk(chunk.length)
    })
    input.once('end', () => resolve(Buffer.concat(chunks)))
  })
}
