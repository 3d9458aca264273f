// A source that is read in parts: its digests must be those of the disk as it is, whatever was changed and said to be, and what it
// keeps must be what it read. The endpoint's own suite runs over it too (test/endpoint/file.test.ts).

import { readFile, writeFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import type { Digester, Range } from '../../src/digest/digester.js'
import { spanDigests } from '../../src/digest/digester.js'
import { createDigester } from '../../src/digest/open.js'
import type { Endpoint } from '../../src/endpoint/endpoint.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { LeafFile } from '../../src/track/leaf-file.js'
import { SAMPLE_SHARE, LeafTrack } from '../../src/track/track.js'
import { loadNative, type NativeCore } from '../../src/native.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { refusal } from '../support/refusal.js'

const LEAF_BYTES = 4096
const BLOCK_BYTES = 65536
const SPAN_BYTES = 4 * BLOCK_BYTES
const SEED = Buffer.alloc(16, 7)
const SOURCE = '1.2'
const scratch = useScratch()

let made = 0

async function leafFile(): Promise<LeafFile> {
  made += 1
  return await LeafFile.create(scratch().path(`leaves-${made}`))
}

async function digesterOf(seed: Uint8Array): Promise<Digester> {
  const geometry = { blockBytes: BLOCK_BYTES, leafBytes: LEAF_BYTES }
  return await createDigester({ algorithm: 'xxh64x2', seed, geometry }, null)
}

async function openSource(path: string, native: NativeCore | null = null): Promise<Endpoint> {
  const request = {
    path,
    role: 'source',
    access: 'read',
    create: 'never',
    createSizeBytes: 0,
    claim: 'shared',
  } as const
  return await openEndpoint(request, native)
}

/** Goes over all of the disk as a scan does; the digests of all of it, and how much was not read. */
async function scan(endpoint: Endpoint, digester: Digester): Promise<{ all: Buffer[]; keptBytes: number }> {
  const { sizeBytes } = endpoint.info
  const all: Buffer[] = []
  let keptBytes = 0
  for (let offset = 0; offset < sizeBytes; offset += SPAN_BYTES) {
    const range = { offset, length: Math.min(SPAN_BYTES, sizeBytes - offset) }
    const out = spanDigests(digester.parameters.geometry, digester.digestBytes, range.length)
    keptBytes += (await endpoint.digestSpan(range, digester, out)).keptBytes ?? 0
    all.push(out.leaves, out.blocks, Buffer.from(out.zeroLeaves), Buffer.from(out.zeroBlocks))
  }
  return { all, keptBytes }
}

/** One run over `path`: through a track, and plain; both must give the same. Seals the file, resolves with what was not read. */
async function run(
  path: string,
  file: LeafFile,
  changed: readonly Range[] | null,
  seed = SEED,
): Promise<number> {
  const digester = await digesterOf(seed)
  const track = new LeafTrack({
    role: 'source',
    file,
    seed,
    source: SOURCE,
    changed: Promise.resolve(changed),
  })
  await using plain = await openSource(path)
  await using tracked = track.over(await openSource(path))
  const { all, keptBytes } = await scan(tracked, digester)
  expect(all).toEqual((await scan(plain, digester)).all)
  const facts = track.facts('1.9')
  if (facts === null) throw new Error('nothing to seal')
  expect(facts.unknown).toEqual([])
  await file.seal(facts)
  return keptBytes
}

function sampleBytes(lengthBytes: number): number {
  return Math.ceil(lengthBytes / SAMPLE_SHARE / BLOCK_BYTES) * BLOCK_BYTES
}

describe('a source of which much is known', () => {
  it('is read once, and then only where it changed and where the sample is', async () => {
    const path = scratch().path('once.img')
    const data = randomBytes(5 * SPAN_BYTES + 3 * LEAF_BYTES + 100)
    data.fill(0, 2 * BLOCK_BYTES, 4 * BLOCK_BYTES)
    await writeFile(path, data)
    const file = await leafFile()
    expect(await run(path, file, null)).toBe(0)
    expect(await run(path, file, [])).toBe(data.length - sampleBytes(data.length))
    const changed = [
      { offset: SPAN_BYTES + LEAF_BYTES, length: 2 * LEAF_BYTES },
      { offset: data.length - 50, length: 50 },
    ]
    for (const { offset, length } of changed) randomBytes(length).copy(data, offset)
    // zeros where there were none, and something where there were zeros
    data.fill(0, 3 * SPAN_BYTES, 3 * SPAN_BYTES + BLOCK_BYTES)
    data.fill(1, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + LEAF_BYTES)
    await writeFile(path, data)
    const zeros = { offset: 3 * SPAN_BYTES, length: BLOCK_BYTES }
    const ones = { offset: 2 * BLOCK_BYTES, length: LEAF_BYTES }
    const tailBytes = LEAF_BYTES + 100
    const keptBytes = await run(path, file, [ones, ...changed, zeros])
    const readBytes = 3 * LEAF_BYTES + BLOCK_BYTES + sampleBytes(data.length)
    expect(data.length - keptBytes).toBeLessThanOrEqual(readBytes + tailBytes)
    // what was kept of that run is of the disk as it was then
    expect(await run(path, file, [])).toBe(data.length - sampleBytes(data.length))
    await file.close()
  })

  it('gives the digests of the disk, whatever changes, for long', async () => {
    const path = scratch().path('random.img')
    let data = randomBytes(64 * BLOCK_BYTES + 777)
    await writeFile(path, data)
    const file = await leafFile()
    await run(path, file, null)
    for (let round = 0; round < 40; round += 1) {
      const changed: Range[] = []
      for (let count = Math.floor(Math.random() * 12); count > 0; count -= 1) {
        const offset = Math.floor((Math.random() * data.length) / LEAF_BYTES) * LEAF_BYTES
        const length = Math.min(data.length - offset, LEAF_BYTES * (1 + Math.floor(Math.random() * 20)))
        if (Math.random() < 0.3) data.fill(0, offset, offset + length)
        else randomBytes(length).copy(data, offset)
        changed.push({ offset, length })
      }
      // a disk that was lengthened, or cut: what is behind the end is nobody's change
      if (round % 7 === 3) data = Buffer.concat([data, randomBytes(3 * BLOCK_BYTES + 5)])
      if (round % 7 === 5) data = data.subarray(0, data.length - BLOCK_BYTES - 3)
      await writeFile(path, data)
      const inside = changed.filter(({ offset }) => offset < data.length)
      await run(path, file, inside)
    }
    expect(file.facts?.lengthBytes).toBe(data.length)
    await file.close()
  })

  it('keeps nothing of a run that did not end, and goes on from its seal alone', async () => {
    const path = scratch().path('unsealed.img')
    await writeFile(path, randomBytes(3 * SPAN_BYTES))
    const file = await leafFile()
    await run(path, file, null)
    const there = await LeafFile.open(file.path)
    expect(there.facts).toMatchObject({ lengthBytes: 3 * SPAN_BYTES, source: SOURCE })
    await there.write(5, 16, randomBytes(16))
    await there.close()
    const broken = await LeafFile.open(file.path)
    expect(broken.facts).toBeNull()
    expect(await run(path, broken, [])).toBe(0)
    await broken.close()
    await file.close()
  })

  it('reads all where the leaves are of another seed, another file, or nothing is said of changes', async () => {
    const path = scratch().path('other.img')
    await writeFile(path, randomBytes(3 * SPAN_BYTES))
    const file = await leafFile()
    await run(path, file, null)
    expect(await run(path, file, [], Buffer.alloc(16, 8))).toBe(0)
    expect(await run(path, file, [], Buffer.alloc(16, 8))).toBeGreaterThan(0)
    expect(await run(path, file, null, Buffer.alloc(16, 8))).toBe(0)
    const facts = file.facts
    if (facts === null) throw new Error('not sealed')
    await file.seal({ ...facts, source: '1.3' })
    expect(await run(path, file, [], Buffer.alloc(16, 8))).toBe(0)
    await file.close()
  })

  it('looks at all of the disk in a row of runs, and refuses what changed though nobody said so', async () => {
    const path = scratch().path('sampled.img')
    const data = randomBytes(SAMPLE_SHARE * BLOCK_BYTES)
    await writeFile(path, data)
    const file = await leafFile()
    await run(path, file, null)
    const before = data.readUInt8(40 * BLOCK_BYTES)
    data.writeUInt8(before ^ 1, 40 * BLOCK_BYTES)
    await writeFile(path, data)
    const digester = await digesterOf(SEED)
    let failedAfter = -1
    for (let round = 0; round < SAMPLE_SHARE && failedAfter < 0; round += 1) {
      const track = new LeafTrack({
        role: 'source',
        file,
        seed: SEED,
        source: SOURCE,
        changed: Promise.resolve([]),
      })
      await using tracked = track.over(await openSource(path))
      try {
        await scan(tracked, digester)
      } catch {
        failedAfter = round
        const again = await refusal(scan(tracked, digester))
        expect(again.code).toBe('source/track')
        expect(again.message).toContain(`byte ${40 * BLOCK_BYTES} and`)
        break
      }
      const facts = track.facts('1.9')
      if (facts === null) throw new Error('nothing to seal')
      await file.seal(facts)
    }
    // the run that read all of it counts as having looked at the first one
    expect(failedAfter).toBe(39)
    await file.close()
  })

  it('leaves digests with another seed alone', async () => {
    const path = scratch().path('verify.img')
    const data = randomBytes(2 * SPAN_BYTES)
    await writeFile(path, data)
    const file = await leafFile()
    await run(path, file, null)
    const track = new LeafTrack({
      role: 'source',
      file,
      seed: SEED,
      source: SOURCE,
      changed: Promise.resolve([]),
    })
    await using tracked = track.over(await openSource(path))
    await using plain = await openSource(path)
    await scan(tracked, await digesterOf(SEED))
    const other = await digesterOf(Buffer.alloc(16, 9))
    const { all, keptBytes } = await scan(tracked, other)
    expect(keptBytes).toBe(0)
    expect(all).toEqual((await scan(plain, other)).all)
    expect(track.facts('1.9')?.seed).toBe(SEED.toString('hex'))
    await file.close()
  })

  it('has what was read to be sent, and not before', async () => {
    const path = scratch().path('sent.img')
    const data = randomBytes(2 * SPAN_BYTES)
    await writeFile(path, data)
    const file = await leafFile()
    const digester = await digesterOf(SEED)
    const track = new LeafTrack({
      role: 'source',
      file,
      seed: SEED,
      source: SOURCE,
      changed: Promise.resolve(null),
    })
    await using tracked = track.over(await openSource(path))
    const out = spanDigests(digester.parameters.geometry, digester.digestBytes, SPAN_BYTES)
    await tracked.digestSpan({ offset: 0, length: SPAN_BYTES }, digester, out)
    expect(track.facts('1.9')?.unknown).toEqual([{ offset: SPAN_BYTES, length: SPAN_BYTES }])
    const leaves = Buffer.alloc((SPAN_BYTES / LEAF_BYTES) * digester.digestBytes)
    const ranges = [{ offset: SPAN_BYTES, length: SPAN_BYTES }]
    await tracked.readDigested(
      ranges,
      digester,
      Buffer.alloc(SPAN_BYTES),
      leaves,
      new Uint8Array(SPAN_BYTES / LEAF_BYTES),
    )
    const facts = track.facts('1.9')
    if (facts === null) throw new Error('nothing to seal')
    expect(facts.unknown).toEqual([])
    await file.seal(facts)
    const raw = await readFile(file.path)
    expect(raw.subarray(0, leaves.length * 2)).toEqual(Buffer.concat([out.leaves, leaves]))
    expect(await run(path, file, [])).toBeGreaterThan(0)
    await file.close()
  })

  it('is read by the native core in the same way', async () => {
    const native = loadNative('require')
    const path = scratch().path('native.img')
    const data = randomBytes(4 << 20)
    await writeFile(path, data)
    const file = await leafFile()
    const geometry = { blockBytes: BLOCK_BYTES, leafBytes: LEAF_BYTES }
    const digester = await createDigester({ algorithm: 'xxh3-128', seed: SEED, geometry }, native)
    const go = async (changed: readonly Range[] | null): Promise<void> => {
      const track = new LeafTrack({
        role: 'source',
        file,
        seed: SEED,
        source: SOURCE,
        changed: Promise.resolve(changed),
      })
      await using plain = await openSource(path, native)
      await using tracked = track.over(await openSource(path, native))
      expect((await scan(tracked, digester)).all).toEqual((await scan(plain, digester)).all)
      const facts = track.facts('1.9')
      if (facts !== null) await file.seal(facts)
    }
    await go(null)
    randomBytes(10_000).copy(data, 2_000_000)
    await writeFile(path, data)
    await go([{ offset: 2_000_000, length: 10_000 }])
    await file.close()
  })
})
