// The log of what was written: what goes in comes out, and it stays small.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import { createDigester } from '../../src/digest/open.js'
import { CHUNK_BYTES, MAX_LOG_BYTES, type WrittenEntry, WrittenLog } from '../../src/sync/written-log.js'
import { MAX_LISTED_RANGES, WrittenRanges } from '../../src/sync/written-ranges.js'
import type { DataRecord } from '../../src/wire/bodies.js'
import { randomBytes } from '../support/disks.js'

const LEAF = 4096

async function digesterOf(leafBytes = LEAF) {
  const geometry = { blockBytes: CHUNK_BYTES, leafBytes }
  return await createDigester({ algorithm: 'xxh64x2', seed: Buffer.alloc(16, 7), geometry }, null)
}

/** Ranges that touch made one. */
function joined(ranges: readonly Range[]): Range[] {
  const all: Range[] = []
  for (const { offset, length } of ranges) {
    const last = all.at(-1)
    if (last !== undefined && last.offset + last.length === offset) last.length += length
    else all.push({ offset, length })
  }
  return all
}

const rangesOf = (entries: readonly WrittenEntry[], kind: WrittenEntry['kind']): Range[] =>
  joined(entries.filter((entry) => entry.kind === kind).flatMap(({ ranges }) => [...ranges]))

describe('the log of what was written', () => {
  it('gives back every record, and a digest of each MiB of data', async () => {
    const digester = await digesterOf()
    const pieces = fc.array(
      fc.record({
        kind: fc.constantFrom('data' as const, 'zero' as const),
        gap: fc.integer({ min: 0, max: 400 }),
        leaves: fc.integer({ min: 1, max: 300 }),
      }),
      { minLength: 1, maxLength: 12 },
    )
    await fc.assert(
      fc.asyncProperty(pieces, fc.integer({ min: 0, max: 2 ** 52 }), async (plan, base) => {
        await Promise.resolve()
        const log = new WrittenLog(digester)
        const records: DataRecord[] = []
        const parts: Buffer[] = []
        let at = Math.floor(base / CHUNK_BYTES) * CHUNK_BYTES
        for (const { kind, gap, leaves } of plan) {
          const record = { kind, offset: at + gap * LEAF, length: leaves * LEAF }
          at = record.offset + record.length
          records.push(record)
          const data = kind === 'data' ? randomBytes(record.length) : Buffer.alloc(0)
          parts.push(data)
          log.add([record], data)
        }
        const entries = [...log.entries()]
        for (const kind of ['data', 'zero'] as const)
          expect(rangesOf(entries, kind)).toEqual(joined(records.filter((record) => record.kind === kind)))
        // the digests, worked out again from the pieces
        const content = new Map<number, Buffer>()
        records.forEach(({ kind, offset, length }, index) => {
          for (let done = 0; kind === 'data' && done < length; done += LEAF)
            content.set(offset + done, parts[index]?.subarray(done, done + LEAF) ?? Buffer.alloc(0))
        })
        for (const entry of entries) {
          if (entry.kind === 'zero') continue
          const [first] = entry.ranges
          expect(Math.floor((first?.offset ?? 0) / CHUNK_BYTES)).toBe(
            Math.floor(
              ((entry.ranges.at(-1)?.offset ?? 0) + (entry.ranges.at(-1)?.length ?? 0) - 1) / CHUNK_BYTES,
            ),
          )
          const data = entry.ranges.flatMap(({ offset, length }) =>
            Array.from(
              { length: length / LEAF },
              (_, leaf) => content.get(offset + leaf * LEAF) ?? Buffer.alloc(0),
            ),
          )
          const leaves = Buffer.alloc(data.length * digester.digestBytes)
          digester.digestLeaves(Buffer.concat(data), leaves)
          const digest = Buffer.alloc(digester.digestBytes)
          digester.digestItems(leaves, leaves.length, digest)
          expect(entry.digest).toEqual(digest)
        }
        expect(log.weightBytes).toBe(0)
        expect([...log.entries()]).toEqual([])
      }),
      { numRuns: 30 },
    )
  })

  it('takes some 20 bytes for a MiB in one piece, and so stays below its bound for 400 GiB', async () => {
    const digester = await digesterOf(CHUNK_BYTES)
    const log = new WrittenLog(digester)
    const data = Buffer.alloc(CHUNK_BYTES, 1)
    const base = 2 ** 45
    const count = 64
    for (let chunk = 0; chunk < count; chunk += 1)
      log.add([{ kind: 'data', offset: base + chunk * CHUNK_BYTES, length: CHUNK_BYTES }], data)
    expect(log.weightBytes).toBeGreaterThan(0)
    expect((log.weightBytes / count) * 400 * 1024).toBeLessThan(1.3 * MAX_LOG_BYTES)
  })

  it('takes no more for a TiB of zeros than for a leaf of them', async () => {
    const log = new WrittenLog(await digesterOf())
    log.add([{ kind: 'zero', offset: 0, length: 2 ** 40 }], Buffer.alloc(0))
    expect(log.weightBytes).toBeLessThan(16)
    expect(log.bytes).toEqual({ data: 0, zero: 2 ** 40 })
  })
})

describe('the ranges of a receipt', () => {
  const record = (offset: number, length: number): DataRecord => ({ kind: 'data', offset, length })

  it('are those of all lanes in the order of the disk, joined where they touch', () => {
    const written = new WrittenRanges()
    const [first, second] = [written.sink(), written.sink()]
    first([record(0, 10), record(10, 10)])
    second([record(100, 50)])
    first([record(20, 30), record(90, 10)])
    expect(written.summary()).toEqual({
      count: 2,
      bytes: 110,
      ranges: [
        { offset: 0, length: 50 },
        { offset: 90, length: 60 },
      ],
      sections: null,
    })
  })

  it('become sections where they are too many', () => {
    const written = new WrittenRanges()
    const sink = written.sink()
    for (let index = 0; index <= MAX_LISTED_RANGES; index += 1) sink([record(index * 65536, 4096)])
    const { count, bytes, ranges, sections } = written.summary()
    expect([count, bytes, ranges]).toEqual([MAX_LISTED_RANGES + 1, (MAX_LISTED_RANGES + 1) * 4096, null])
    expect(sections).toEqual([0, 1, 2, 3, 4])
  })
})
