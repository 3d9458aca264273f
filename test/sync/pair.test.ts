// The two halves of a pass against each other, in memory: every combination of what a block is here and there, every
// geometry, every odd size. Counts, bytes sent and roots are compared with what a plain comparison of the bytes gives.

import { describe, expect, it } from 'vitest'

import type { AlgorithmName, Geometry, Range } from '../../src/digest/digester.js'
import { loadNative } from '../../src/native.js'
import { randomBytes } from '../support/disks.js'
import { MemoryDisk } from '../support/memory-disk.js'
import { type Expected, expectedOf, runPass, wireBound, worked } from '../support/pass.js'

const KIB = 1024
const MIB = 1 << 20
const NATIVE = loadNative('auto')

type Fill = 'data' | 'zero' | 'hole'
const THERE = ['same', 'one leaf', 'every other leaf', 'other', 'zero', 'hole', 'half zero'] as const

/** Content and holes of a disk, block by block. */
type Plan = { content: Buffer; holes: Range[] }

/** A source whose blocks are data, zeros and holes, and a destination with each kind of difference to each of them. */
function combinations(
  { blockBytes, leafBytes }: Geometry,
  tailBytes: number,
): { source: Plan; destination: Plan } {
  const here: Fill[] = ['data', 'zero', 'hole']
  const pairs = here.flatMap((own) => THERE.map((their) => ({ own, their })))
  const sizeBytes = pairs.length * blockBytes + tailBytes
  const source: Plan = { content: Buffer.alloc(sizeBytes), holes: [] }
  const destination: Plan = { content: Buffer.alloc(sizeBytes), holes: [] }
  if (tailBytes > 0) pairs.push({ own: 'data', their: 'one leaf' })
  for (const [block, { own, their }] of pairs.entries()) {
    const offset = block * blockBytes
    const length = Math.min(blockBytes, sizeBytes - offset)
    const ours = source.content.subarray(offset, offset + length)
    const theirs = destination.content.subarray(offset, offset + length)
    if (own === 'data') ours.set(randomBytes(length))
    if (own === 'hole') source.holes.push({ offset, length })
    if (their === 'zero') continue
    if (their === 'hole' || (their === 'same' && own === 'hole')) {
      destination.holes.push({ offset, length })
      continue
    }
    theirs.set(ours)
    if (their === 'one leaf') theirs[length - 1] = (theirs[length - 1] ?? 0) ^ 1
    if (their === 'other') theirs.set(randomBytes(length))
    if (their === 'half zero') theirs.set(randomBytes(Math.ceil(length / 2)))
    if (their === 'every other leaf') {
      for (let at = 0; at < length; at += 2 * leafBytes) theirs[at] = (theirs[at] ?? 0) ^ 0x80
    }
  }
  return { source, destination }
}

const disk = (role: 'source' | 'destination', { content, holes }: Plan): MemoryDisk =>
  new MemoryDisk({ role, content: Buffer.from(content), holes })

function isInHoles(plan: Plan, block: number, blockBytes: number): boolean {
  const from = block * blockBytes
  const end = Math.min(from + blockBytes, plan.content.length)
  return plan.holes.some(({ offset, length }) => offset <= from && end <= offset + length)
}

type Case = Readonly<{ source: Plan; destination: Plan; geometry: Geometry; algorithm?: AlgorithmName }>

/** Compares, then writes, then compares again, and checks everything that can be known about the three. */
async function checkCase({ source, destination, geometry, algorithm = 'xxh64x2' }: Case): Promise<Expected> {
  const { blockBytes } = geometry
  const bothHoles = (block: number): boolean =>
    isInHoles(source, block, blockBytes) && isInHoles(destination, block, blockBytes)
  const expected = expectedOf(source.content, destination.content, geometry, bothHoles)
  const { sameBlocks, differentBlocks, zeroBlocks, skippedBlocks, sentBytes, totalBlocks } = expected
  const counts = { sameBlocks, differentBlocks, zeroBlocks, skippedBlocks, sentBytes }
  const from = disk('source', source)
  const to = disk('destination', destination)
  const native =
    algorithm === 'xxh3-128' ? { source: NATIVE, destination: NATIVE } : { source: null, destination: NATIVE }
  const pass = { source: from, destination: to, geometry, algorithm, native }

  const compared = worked(await runPass({ ...pass, mode: 'compare' }))
  expect(compared.said).toMatchObject(counts)
  expect(to.content.equals(destination.content)).toBe(true)
  expect(
    to.log.filter(({ access }) => access === 'write' || access === 'zero' || access === 'flush'),
  ).toEqual([])

  const { said, root, wireBytes } = worked(await runPass(pass))
  expect(to.content.equals(source.content)).toBe(true)
  expect(from.content.equals(source.content)).toBe(true)
  expect(said).toMatchObject(counts)
  expect(said.sameBlocks + said.differentBlocks + said.zeroBlocks + said.skippedBlocks).toBe(totalBlocks)
  expect(root).toBe(said.root)
  expect(to.log.at(-1)?.access).toBe('flush')
  const digestBytes = algorithm === 'sha256' ? 32 : 16
  expect(wireBytes.toDestination + wireBytes.toSource).toBeLessThanOrEqual(
    wireBound(expected, geometry, digestBytes),
  )
  for (const plan of [source, destination]) {
    const read = plan === source ? [...from.ranges('digest'), ...from.ranges('read')] : to.ranges('digest')
    for (let block = 0; block < totalBlocks; block += 1) {
      if (!isInHoles(plan, block, blockBytes)) continue
      // What was compared first is in the log too; a hole is read in neither pass.
      expect(
        read.some(
          ({ offset, length }) => offset < (block + 1) * blockBytes && offset + length > block * blockBytes,
        ),
      ).toBe(false)
    }
  }

  const again = worked(await runPass(pass))
  expect(again.said).toMatchObject({ sentBytes: 0, differentBlocks: 0, zeroBlocks: 0, root: said.root })
  return expected
}

const GEOMETRIES: readonly Geometry[] = [
  { blockBytes: 4 * KIB, leafBytes: 512 },
  { blockBytes: 4 * KIB, leafBytes: 4 * KIB },
  { blockBytes: 64 * KIB, leafBytes: 512 },
  { blockBytes: 64 * KIB, leafBytes: 4 * KIB },
  { blockBytes: MIB, leafBytes: 4 * KIB },
  { blockBytes: MIB, leafBytes: MIB },
  { blockBytes: 2 * MIB, leafBytes: 512 },
  { blockBytes: 4 * MIB, leafBytes: 64 * KIB },
]

describe('a pass', () => {
  for (const geometry of GEOMETRIES) {
    const { blockBytes, leafBytes } = geometry
    it(`writes what differs, blocks of ${blockBytes}, leaves of ${leafBytes}`, async () => {
      const tails = blockBytes > 64 * KIB ? [513] : [0, 1, 511, 512, 513, leafBytes + 1, blockBytes - 1]
      for (const tailBytes of tails) await checkCase({ ...combinations(geometry, tailBytes), geometry })
    })
  }

  it('works at both ends of the block sizes: 16 MiB in leaves of 1 MiB and of 1 KiB', async () => {
    for (const leafBytes of [MIB, KIB]) {
      const geometry = { blockBytes: 16 * MIB, leafBytes }
      const content = Buffer.concat([randomBytes(17 * MIB), Buffer.alloc(20 * MIB + 3)])
      const changed = Buffer.from(content)
      changed[5] = (changed[5] ?? 0) ^ 1
      changed[content.length - 1] = 7
      const expected = await checkCase({
        source: { content, holes: [] },
        destination: { content: changed, holes: [] },
        geometry,
      })
      expect(expected).toMatchObject({ differentBlocks: 1, zeroBlocks: 1, sentBytes: leafBytes })
    }
  })

  it.each<[AlgorithmName]>(NATIVE === null ? [['sha256']] : [['sha256'], ['xxh3-128']])(
    'works with %s',
    async (algorithm) => {
      const geometry = { blockBytes: 64 * KIB, leafBytes: 4 * KIB }
      await checkCase({ ...combinations(geometry, 1), geometry, algorithm })
    },
  )

  it.each([0, 1, 511, 512, 513, 4095, 4096, 4097])('works on a disk of %d bytes', async (sizeBytes) => {
    const geometry = { blockBytes: 4 * KIB, leafBytes: 512 }
    const contents = [Buffer.alloc(sizeBytes), Buffer.alloc(sizeBytes, 1), randomBytes(sizeBytes)]
    for (const content of contents) {
      for (const other of contents) {
        await checkCase({
          source: { content, holes: [] },
          destination: { content: other, holes: [] },
          geometry,
        })
      }
    }
  })

  it('sends 1 % of scattered leaves for little more than they are', async () => {
    const geometry = { blockBytes: MIB, leafBytes: 4 * KIB }
    const content = randomBytes(64 * MIB)
    const older = Buffer.from(content)
    const changed = new Set<number>()
    while (changed.size < 164) changed.add(Math.floor(Math.random() * (content.length / (4 * KIB))))
    for (const leaf of changed) older[leaf * 4 * KIB] = (older[leaf * 4 * KIB] ?? 0) ^ 1
    const pass = {
      source: disk('source', { content, holes: [] }),
      destination: disk('destination', { content: older, holes: [] }),
    }
    const { said, wireBytes } = worked(await runPass({ ...pass, geometry }))
    expect(said.sentBytes).toBe(164 * 4 * KIB)
    expect(wireBytes.toDestination).toBeLessThanOrEqual(said.sentBytes * 1.02 + 4096)
    expect(wireBytes.toDestination + wireBytes.toSource).toBeLessThanOrEqual(said.sentBytes * 1.2)
  })

  it('leaves holes where the source has zeros and the destination had data', async () => {
    const geometry = { blockBytes: 64 * KIB, leafBytes: 4 * KIB }
    const content = Buffer.alloc(MIB)
    content.set(randomBytes(4 * KIB), 512 * KIB)
    const to = disk('destination', { content: randomBytes(MIB), holes: [] })
    const { said } = worked(
      await runPass({ source: disk('source', { content, holes: [] }), destination: to, geometry }),
    )
    expect(said).toMatchObject({
      sentBytes: 4 * KIB,
      zeroedBytes: MIB - 4 * KIB,
      zeroBlocks: 15,
      differentBlocks: 1,
    })
    expect(to.allocatedBytes).toBe(4 * KIB)
    expect(to.bytes('write')).toBe(4 * KIB)
  })

  it('reads a source only once where the destination is known to be zeros', async () => {
    const geometry = { blockBytes: 64 * KIB, leafBytes: 4 * KIB }
    const content = randomBytes(32 * MIB)
    content.fill(0, 3 * MIB, 5 * MIB)
    let announced: () => void = () => undefined
    const all = new Promise<void>((resolve) => (announced = resolve))
    // The source begins when everything the destination has is announced and here.
    const from = new MemoryDisk({ role: 'source', content, beforeExtents: () => all })
    const to = disk('destination', {
      content: Buffer.alloc(content.length),
      holes: [{ offset: 0, length: content.length }],
    })
    const outcome = await runPass({
      source: from,
      destination: to,
      geometry,
      onChannels: (source) => {
        const receive = source.receive.bind(source)
        source.receive = async () => {
          const frame = await receive()
          setImmediate(announced)
          return frame
        }
      },
    })
    const { said, root } = worked(outcome)
    expect(to.content.equals(content)).toBe(true)
    expect(root).toBe(said.root)
    expect(from.bytes('digest')).toBe(0)
    expect(from.bytes('read')).toBe(content.length)
    expect(said).toMatchObject({
      sentBytes: 30 * MIB,
      zeroedBytes: 0,
      differentBlocks: 30 * 16,
      sameBlocks: 2 * 16,
    })
    expect(to.allocatedBytes).toBe(30 * MIB)
  })
})
