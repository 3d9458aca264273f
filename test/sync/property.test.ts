// Random disks, random changes, random options, random ways to the far side: the destination equals the source, or the
// exit status is not 0. BLOCKSYNC_TEST_SEED repeats a run, BLOCKSYNC_TEST_ROUNDS says how many passes are tried.

import { readFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import type { AlgorithmName, Range } from '../../src/digest/digester.js'
import { loadNative } from '../../src/native.js'
import { runCli } from '../support/cli.js'
import { useScratch } from '../support/disks.js'
import { useFarSides, ways } from '../support/far-sides.js'
import { MemoryDisk } from '../support/memory-disk.js'
import { expectedOf, runPass, worked } from '../support/pass.js'

const SEED = Number(process.env['BLOCKSYNC_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
/**
 * Passes in this process; a process of its own is started for one in PROCESS_SHARE of them. Each run has another seed, so
 * few rounds in each of many runs find what many rounds in one would.
 */
const ROUNDS = Number(process.env['BLOCKSYNC_TEST_ROUNDS'] ?? 600)
const PROCESS_SHARE = 40
const TIMEOUT_MS = 600_000
const NATIVE = loadNative('auto')

/** A generator of numbers from 0 to below 1 (mulberry32, public domain): the same seed gives the same numbers. */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

class Chance {
  readonly #next: () => number

  constructor(seed: number) {
    this.#next = generator(seed)
  }

  below(limit: number): number {
    return Math.floor(this.#next() * limit)
  }

  one<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)]
    if (item === undefined) throw new Error('nothing to choose from')
    return item
  }

  bytes(length: number): Buffer {
    const out = Buffer.alloc(length)
    for (let at = 0; at + 4 <= length; at += 4) out.writeUInt32LE(this.below(2 ** 32), at)
    return out
  }
}

type World = Readonly<{
  source: Buffer
  destination: Buffer
  blockBytes: number
  leafBytes: number
  algorithm: AlgorithmName
  sourceHoles: Range[]
}>

/** Two disks: pieces of data and zeros, and an older (or a strange) copy of them. */
function world(chance: Chance): World {
  const blockBytes = 4096 << chance.below(7)
  const leafBytes = Math.min(blockBytes, 512 << chance.below(6))
  const sizes = [
    0,
    1,
    511,
    512,
    513,
    blockBytes - 1,
    blockBytes,
    blockBytes + 1,
    blockBytes * (1 + chance.below(24)),
    1 + chance.below(2 ** 20),
  ]
  const source = Buffer.alloc(chance.one(sizes))
  for (let piece = chance.below(6); piece > 0 && source.length > 0; piece -= 1) {
    const offset = chance.below(source.length)
    source.set(chance.bytes(Math.min(source.length - offset, 4 + chance.below(source.length))), offset)
  }
  const destination = chance.one([
    Buffer.from(source),
    Buffer.from(source),
    Buffer.alloc(source.length),
    chance.bytes(source.length),
  ])
  for (let change = chance.below(8); change > 0 && source.length > 0; change -= 1) {
    const offset = chance.below(source.length)
    const length = Math.min(source.length - offset, 1 + chance.below(chance.one([1, 600, 100_000])))
    destination.set(
      chance.one([chance.bytes(length), Buffer.alloc(length), Buffer.alloc(length, 255)]),
      offset,
    )
  }
  const algorithms: AlgorithmName[] =
    NATIVE === null ? ['xxh64x2', 'sha256'] : ['xxh64x2', 'sha256', 'xxh3-128']
  return {
    source,
    destination,
    blockBytes,
    leafBytes,
    algorithm: chance.one(algorithms),
    sourceHoles: holesOf(source, chance),
  }
}

/** Some of the runs of zeros of a disk, as holes. */
function holesOf(content: Buffer, chance: Chance): Range[] {
  const holes: Range[] = []
  for (let at = 0; at < content.length; at += 4096) {
    const length = Math.min(4096, content.length - at)
    const isZero = content.subarray(at, at + length).every((byte) => byte === 0)
    if (isZero && chance.below(3) > 0) holes.push({ offset: at, length })
  }
  return holes
}

describe(`random disks, seed ${SEED} (BLOCKSYNC_TEST_SEED)`, () => {
  it(`end equal in this process, ${ROUNDS} rounds`, { timeout: TIMEOUT_MS }, async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const { source, destination, blockBytes, leafBytes, algorithm, sourceHoles } = world(
        new Chance(SEED + round),
      )
      const geometry = { blockBytes, leafBytes }
      const from = new MemoryDisk({ role: 'source', content: Buffer.from(source), holes: sourceHoles })
      const to = new MemoryDisk({ role: 'destination', content: Buffer.from(destination) })
      const native = {
        source: algorithm === 'xxh3-128' || round % 2 === 0 ? NATIVE : null,
        destination: NATIVE,
      }
      const what = `seed ${SEED}, round ${round}: ${source.length} bytes, blocks ${blockBytes}, leaves ${leafBytes}, ${algorithm}`
      const { said, root } = worked(
        await runPass({ source: from, destination: to, geometry, algorithm, native }),
      )
      const expected = expectedOf(source, destination, geometry)
      expect(to.content.equals(source), what).toBe(true)
      expect(root, what).toBe(said.root)
      const { sentBytes, differentBlocks, zeroBlocks, totalBlocks } = expected
      expect(said, what).toMatchObject({ sentBytes, differentBlocks, zeroBlocks })
      expect(said.sameBlocks + said.skippedBlocks, what).toBe(totalBlocks - differentBlocks - zeroBlocks)
    }
  })

  describe('between processes', () => {
    const scratch = useScratch()
    const far = useFarSides()
    const possible = ways('local', 'local', 'openssh', 'ssh2')

    it(`end equal or with a status`, { timeout: TIMEOUT_MS }, async () => {
      const on = scratch()
      const count = Math.ceil(ROUNDS / PROCESS_SHARE)
      for (let round = 0; round < count; round += 1) {
        const chance = new Chance(SEED - 1 - round)
        const { source, destination, blockBytes, leafBytes, algorithm } = world(chance)
        const from = await on.file('random-from.img', source)
        // One in four is of another size, so that something is refused too.
        const isOdd = chance.below(4) === 0
        const old = isOdd ? destination.subarray(0, chance.below(destination.length + 1)) : destination
        const to = await on.file('random-to.img', old)
        const way = chance.one(possible)
        const operands = chance.below(2) === 0 ? [from, far.path(way, to)] : [far.path(way, from), to]
        const size = chance.one(['strict', 'grow', 'min'])
        const words = [
          ...operands,
          ...far.words(way),
          '--block-size',
          String(blockBytes),
          '--granularity',
          String(leafBytes),
          '--native',
          chance.one(NATIVE === null ? ['auto', 'off'] : ['auto', 'off', 'require']),
          '--size',
          size,
          ...(chance.below(2) === 0 ? ['--digest', algorithm === 'xxh3-128' ? 'auto' : algorithm] : []),
        ]
        const ended = await runCli(on, words)
        const what = `seed ${SEED}, round ${round}: ${words.join(' ')}: ${ended.stderr}`
        const written = await readFile(to)
        if (old.length !== source.length && size === 'strict' && old.length > 0)
          expect(ended.status, what).toBe(3)
        else expect(ended.status, what).toBe(0)
        if (ended.status !== 0) expect(written.equals(old), what).toBe(true)
        else
          expect(written.subarray(0, source.length).equals(source.subarray(0, written.length)), what).toBe(
            true,
          )
      }
    })
  })
})
