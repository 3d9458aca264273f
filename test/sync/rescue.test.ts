// Passes over a source with bad sectors: what can be read arrives, the destination keeps what it has where it cannot, both
// ends agree on the root, and the list of what could not be read is exact. Without --rescue the first bad sector is named.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import { SyncError } from '../../src/errors.js'
import { MAX_UNREADABLE_LEAVES } from '../../src/sync/rescue.js'
import { MAX_UNREADABLE_RANGES } from '../../src/wire/differing.js'
import { randomBytes } from '../support/disks.js'
import { type Access, MemoryDisk } from '../support/memory-disk.js'
import { runPass, worked } from '../support/pass.js'

const KIB = 1024
const GEOMETRY = { blockBytes: 128 * KIB, leafBytes: 4 * KIB }
const { blockBytes, leafBytes } = GEOMETRY
/** A few spans' worth of blocks would be slow; blocks, groups and a short end are what matters. */
const SIZE = 9 * blockBytes + 3 * leafBytes + 700

function badSector({ offset }: Range, errno = 'EIO'): SyncError {
  const cause = Object.assign(new Error(errno), { code: errno })
  return new SyncError('source/read', `cannot read at byte ${offset}`, { operand: '/dev/x', cause })
}

/** Rejects reads that touch one of these ranges. `when` says whether it is bad for this kind of access. */
function bad(ranges: readonly Range[], when: (access: Access) => boolean = () => true) {
  return (access: Access, { offset, length }: Range): void => {
    if (!when(access)) return
    const hit = ranges.find((range) => range.offset < offset + length && offset < range.offset + range.length)
    if (hit !== undefined) throw badSector({ offset, length })
  }
}

/** Leaves (as merged ranges) that these ranges touch. */
function leavesOf(ranges: readonly Range[], size: number): Range[] {
  const merged: Range[] = []
  for (let at = 0; at < size; at += leafBytes) {
    const length = Math.min(leafBytes, size - at)
    if (!ranges.some((range) => range.offset < at + length && at < range.offset + range.length)) continue
    const last = merged.at(-1)
    if (last !== undefined && last.offset + last.length === at) last.length += length
    else merged.push({ offset: at, length })
  }
  return merged
}

/** The source's content, with the old one of the destination where it cannot be read. */
function mixed(source: Buffer, old: Buffer, kept: readonly Range[]): Buffer {
  const content = Buffer.from(source)
  for (const { offset, length } of kept) old.copy(content, offset, offset, offset + length)
  return content
}

function disks(
  source: Buffer,
  old: Buffer,
  before: (access: Access, range: Range) => void,
  holes: readonly Range[] = [],
): { from: MemoryDisk; to: MemoryDisk } {
  return {
    from: new MemoryDisk({ role: 'source', content: Buffer.from(source), before }),
    to: new MemoryDisk({ role: 'destination', content: Buffer.from(old), holes }),
  }
}

describe('bad sectors that are skipped', () => {
  const RANGES: readonly Range[] = [
    { offset: 5 * leafBytes + 512, length: 512 },
    { offset: 2 * blockBytes - 512, length: 1024 },
    { offset: 4 * blockBytes, length: blockBytes },
    { offset: SIZE - 1, length: 1 },
  ]
  const contents: readonly [string, (source: Buffer) => Buffer][] = [
    ['is something else', () => randomBytes(SIZE)],
    ['is zeros', () => Buffer.alloc(SIZE)],
    ['is equal', (source) => Buffer.from(source)],
  ]
  const moments: readonly [string, (access: Access) => boolean][] = [
    ['from the start', () => true],
    ['from when they are to be sent', (access) => access === 'read'],
  ]
  it.each(
    contents.flatMap(([name, old]) => moments.map(([when, isBad]) => [name, when, old, isBad] as const)),
  )('where the destination %s, bad %s', async (name, _when, oldOf, isBad) => {
    const source = randomBytes(SIZE)
    const old = oldOf(source)
    const { from, to } = disks(source, old, bad(RANGES, isBad))
    const { said } = worked(
      await runPass({ source: from, destination: to, geometry: GEOMETRY, badSectors: 'skip' }),
    )
    // what is not sent is not read to be sent
    const isUnnoticed = name === 'is equal' && !isBad('digest')
    const lost = isUnnoticed ? [] : leavesOf(RANGES, SIZE)
    expect(said.unreadable).toEqual(lost)
    expect(to.content.equals(mixed(source, old, lost))).toBe(true)
    expect([from.underWay, to.underWay]).toEqual([0, 0])
  })

  it('any content, holes and places: exact, and the roots agree', async () => {
    const leaf = fc.nat({ max: Math.ceil(SIZE / leafBytes) - 1 })
    const places = fc.array(fc.tuple(leaf, fc.integer({ min: 1, max: 40 })), { minLength: 1, maxLength: 6 })
    const kinds = fc.array(fc.constantFrom('zero', 'same', 'other', 'hole'), { minLength: 10, maxLength: 10 })
    await fc.assert(
      fc.asyncProperty(places, kinds, fc.array(leaf, { maxLength: 5 }), async (bads, blocks, zeroLeaves) => {
        const source = randomBytes(SIZE)
        for (const at of zeroLeaves) source.fill(0, at * leafBytes, Math.min(SIZE, (at + 1) * leafBytes))
        const old = Buffer.from(source)
        const holes: Range[] = []
        blocks.forEach((kind, block) => {
          const [at, end] = [block * blockBytes, Math.min(SIZE, (block + 1) * blockBytes)]
          if (kind === 'other') randomBytes(end - at).copy(old, at)
          if (kind === 'zero' || kind === 'hole') old.fill(0, at, end)
          if (kind === 'hole') holes.push({ offset: at, length: end - at })
        })
        const ranges = bads.map(([at, count]) => ({
          offset: at * leafBytes + 512,
          length: count * leafBytes - 600,
        }))
        const { from, to } = disks(source, old, bad(ranges), holes)
        const pass = { source: from, destination: to, geometry: GEOMETRY, badSectors: 'skip' } as const
        const compared = worked(await runPass({ ...pass, mode: 'compare' }))
        expect(compared.said.unreadable).toEqual(leavesOf(ranges, SIZE))
        const { said } = worked(await runPass(pass))
        expect(said.unreadable).toEqual(leavesOf(ranges, SIZE))
        expect(to.content.equals(mixed(source, old, said.unreadable))).toBe(true)
        // all that can be read is there: nothing is left to do
        const again = worked(await runPass(pass))
        expect(again.said).toMatchObject({ sentBytes: 0, differentBlocks: 0, zeroBlocks: 0 })
      }),
      { numRuns: 25 },
    )
  })

  it('reads that work the second time are not listed', async () => {
    const source = randomBytes(SIZE)
    let left = 2
    const { from, to } = disks(source, Buffer.alloc(SIZE), (access, range) => {
      if (access !== 'drop' && left-- > 0) throw badSector(range)
    })
    const { said } = worked(
      await runPass({ source: from, destination: to, geometry: GEOMETRY, badSectors: 'skip' }),
    )
    expect(said.unreadable).toEqual([])
    expect(to.content.equals(source)).toBe(true)
  })

  it.each([
    ['a device that is gone', badSector({ offset: 0, length: 1 }, 'ENXIO')],
    ['a disk that has become shorter', new SyncError('source/shrank', 'ended at byte 7')],
  ])('%s ends it all the same', async (_name, error) => {
    const { from, to } = disks(randomBytes(SIZE), Buffer.alloc(SIZE), () => {
      throw error
    })
    const { source } = await runPass({
      source: from,
      destination: to,
      geometry: GEOMETRY,
      badSectors: 'skip',
    })
    expect(source).toEqual({ status: 'rejected', reason: error })
  })

  it('too many of them end it, with a word about ddrescue', async () => {
    const small = { blockBytes: 64 * KIB, leafBytes: 512 }
    const size = (2 * MAX_UNREADABLE_RANGES + 3) * 512
    const { from, to } = disks(randomBytes(size), Buffer.alloc(size), (access, { offset, length }) => {
      // every other leaf
      if (length > 512 || (offset / 512) % 2 === 0) throw badSector({ offset, length })
    })
    const { source } = await runPass({ source: from, destination: to, geometry: small, badSectors: 'skip' })
    const reason: unknown = source.status === 'rejected' ? source.reason : null
    expect(reason).toMatchObject({ code: 'source/read', hint: expect.stringMatching(/ddrescue/) as string })
    expect(MAX_UNREADABLE_LEAVES).toBeGreaterThan(MAX_UNREADABLE_RANGES)
  })
})

describe('a bad sector that ends the pass', () => {
  it.each([
    ['while digesting', () => true],
    ['while reading what is sent', (access: Access) => access === 'read'],
  ] as const)('is named, %s', async (_name, when) => {
    const sector = { offset: 3 * blockBytes + 7 * 512, length: 512 }
    const later = { offset: 6 * blockBytes, length: 512 }
    const { from, to } = disks(randomBytes(SIZE), randomBytes(SIZE), bad([sector, later], when))
    const { source } = await runPass({ source: from, destination: to, geometry: GEOMETRY })
    const reason: unknown = source.status === 'rejected' ? source.reason : null
    expect(reason).toMatchObject({ code: 'source/read', message: `cannot read at byte ${sector.offset}` })
  })

  it('without bad sectors nothing is read twice', async () => {
    const source = randomBytes(SIZE)
    const reads: number[] = []
    for (const badSectors of ['stop', 'skip'] as const) {
      const { from, to } = disks(source, source, () => undefined)
      worked(await runPass({ source: from, destination: to, geometry: GEOMETRY, badSectors }))
      reads.push(from.bytes('digest') + from.bytes('read'))
    }
    expect(reads).toEqual([SIZE, SIZE])
  })
})
