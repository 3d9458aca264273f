// A pass over a part of a disk, and one that is ended before the end of its range: what further lanes rest on.

import { PassThrough } from 'node:stream'

import { describe, expect, it } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import { createDigester } from '../../src/digest/open.js'
import { rootOf, SECTION_BYTES } from '../../src/digest/root.js'
import { runDestination } from '../../src/sync/destination.js'
import { beginSource } from '../../src/sync/source.js'
import { Throttle } from '../../src/rate/throttle.js'
import { Channel } from '../../src/wire/channel.js'
import { randomBytes } from '../support/disks.js'
import { MemoryDisk } from '../support/memory-disk.js'
import { runPass, worked } from '../support/pass.js'

const GEOMETRY = { blockBytes: 1 << 20, leafBytes: 64 << 10 }
const SECTION_BLOCKS = SECTION_BYTES / GEOMETRY.blockBytes
/** Three whole sections, and one that ends in the middle of a leaf. */
const LENGTH_BYTES = 3 * SECTION_BYTES + 5000

/** No pass writes to it. */
const FROM = randomBytes(LENGTH_BYTES).fill(0, SECTION_BYTES, 2 * SECTION_BYTES)
const OLD = randomBytes(LENGTH_BYTES)

/** Two contents that differ all over, with zeros in the second section of the source. */
function disks(): { from: Buffer; to: Buffer } {
  return { from: FROM, to: Buffer.from(OLD) }
}

describe('a pass over a part of a disk', () => {
  const ranges: readonly [string, Range][] = [
    ['from its start', { offset: 0, length: SECTION_BYTES }],
    ['in its middle', { offset: SECTION_BYTES, length: SECTION_BYTES }],
    ['to its end', { offset: 2 * SECTION_BYTES, length: LENGTH_BYTES - 2 * SECTION_BYTES }],
    ['that is only the last section', { offset: 3 * SECTION_BYTES, length: 5000 }],
  ]
  it.each(ranges)('%s makes just that part equal', async (_name, range) => {
    const { from, to } = disks()
    const expected = Buffer.from(to)
    from.copy(expected, range.offset, range.offset, range.offset + range.length)
    const source = new MemoryDisk({ role: 'source', content: from })
    const destination = new MemoryDisk({ role: 'destination', content: to })
    const { said } = worked(await runPass({ source, destination, geometry: GEOMETRY, range }))
    expect(to.equals(expected)).toBe(true)
    const { sameBlocks, differentBlocks, zeroBlocks, skippedBlocks, endBlock } = said
    expect(endBlock).toBe(Math.ceil((range.offset + range.length) / GEOMETRY.blockBytes))
    expect(sameBlocks + differentBlocks + zeroBlocks + skippedBlocks).toBe(
      Math.ceil(range.length / GEOMETRY.blockBytes),
    )
  })

  it('joined with the others gives the root of the whole', async () => {
    const { from } = disks()
    const whole = { offset: 0, length: LENGTH_BYTES }
    const roots: string[] = []
    const sections: Buffer[] = []
    for (const range of [whole, ...ranges.slice(0, 2).map(([, each]) => each), ranges[2]?.[1] ?? whole]) {
      const source = new MemoryDisk({ role: 'source', content: from })
      const destination = new MemoryDisk({ role: 'destination', content: Buffer.from(from) })
      const outcome = await runPass({ source, destination, geometry: GEOMETRY, range })
      roots.push(worked(outcome).root)
      if (range !== whole && outcome.source.status === 'fulfilled')
        sections.push(outcome.source.value.sections)
    }
    const parameters = {
      algorithm: 'xxh64x2' as const,
      seed: Buffer.from('0123456789abcdef'),
      geometry: GEOMETRY,
    }
    expect(rootOf(parameters, whole, Buffer.concat(sections))).toBe(roots[0])
  })
})

type Limited = { endBlock: number; answered: number[]; to: Buffer; from: Buffer }

/** A pass that is told to end at `blocks` when so many frames of data have been acknowledged. */
async function limited(blocks: readonly number[], afterFrames: number): Promise<Limited> {
  const { from, to } = disks()
  const forward = new PassThrough()
  const backward = new PassThrough()
  const near = new Channel(backward, forward, Buffer.alloc(0))
  const far = new Channel(forward, backward, Buffer.alloc(0))
  const digester = await createDigester(
    { algorithm: 'xxh64x2', seed: Buffer.alloc(16), geometry: GEOMETRY },
    null,
  )
  const common = { disk: 0, digester, mode: 'write', range: { offset: 0, length: LENGTH_BYTES } } as const
  const destination = new MemoryDisk({ role: 'destination', content: to })
  const running = runDestination({ ...common, channel: far, endpoint: destination, operand: 'to' })
  const answered: number[] = []
  const endpoint = new MemoryDisk({ role: 'source', content: from })
  let sentFrames = 0
  const source = beginSource({
    ...common,
    channel: near,
    endpoint,
    throttle: new Throttle(null),
    compressor: null,
    scan: null,
    onProgress: () => {
      sentFrames += 1
      if (sentFrames === afterFrames) for (const block of blocks) answered.push(source.limitTo(block))
    },
  })
  const [{ said }, { sourceSays, root }] = await Promise.all([source.done, running])
  expect(sourceSays).toEqual(said)
  expect(root).toBe(said.root)
  return { endBlock: said.endBlock, answered, to, from }
}

describe('a pass that is limited', () => {
  it('ends there, and leaves what is behind it alone', async () => {
    const { endBlock, answered, to, from } = await limited([2 * SECTION_BLOCKS], 3)
    expect(answered).toEqual([2 * SECTION_BLOCKS])
    expect(endBlock).toBe(2 * SECTION_BLOCKS)
    expect(to.compare(from, 0, 2 * SECTION_BYTES, 0, 2 * SECTION_BYTES)).toBe(0)
    for (let at = 2 * SECTION_BYTES; at < LENGTH_BYTES; at += GEOMETRY.leafBytes)
      expect(to[at] === from[at] && to[at + 1] === from[at + 1] && to[at + 2] === from[at + 2]).toBe(false)
  })

  it('twice ends at the lower one', async () => {
    const { endBlock, answered } = await limited([3 * SECTION_BLOCKS, 2 * SECTION_BLOCKS], 3)
    expect(answered).toEqual([3 * SECTION_BLOCKS, 2 * SECTION_BLOCKS])
    expect(endBlock).toBe(2 * SECTION_BLOCKS)
  })

  it('never below what is on its way: it ends at the next section', async () => {
    const { endBlock, answered, to, from } = await limited([0], 3)
    expect(answered).toEqual([SECTION_BLOCKS])
    expect(endBlock).toBe(SECTION_BLOCKS)
    expect(to.compare(from, 0, SECTION_BYTES, 0, SECTION_BYTES)).toBe(0)
  })

  it('beyond its end is not limited', async () => {
    const { endBlock, answered, to, from } = await limited([9 * SECTION_BLOCKS], 3)
    const end = Math.ceil(LENGTH_BYTES / GEOMETRY.blockBytes)
    expect(answered).toEqual([end])
    expect(endBlock).toBe(end)
    expect(to.equals(from)).toBe(true)
  })

  it('too late gives back where it ended', async () => {
    const { from, to } = disks()
    const source = new MemoryDisk({ role: 'source', content: from })
    const destination = new MemoryDisk({ role: 'destination', content: to })
    const { said } = worked(await runPass({ source, destination, geometry: GEOMETRY }))
    expect(said.endBlock).toBe(Math.ceil(LENGTH_BYTES / GEOMETRY.blockBytes))
  })
})
