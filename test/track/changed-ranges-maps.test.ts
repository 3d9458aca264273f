// Maps that are played: what lies in many windows, what moves while it is looked at, what is too much, which flags are plain.

import { describe, expect, it } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import { changedRanges } from '../../src/track/changed-ranges.js'
import { needs } from '../support/needs.js'
import { core, GRAIN, grainsOf, MIB, randomOf, range, useImages } from './images.js'

// the files are on xfs since others are refused; what is on them does not matter
describe('changed ranges of maps that are played', needs('native', 'loop', 'mkfs.xfs'), () => {
  const images = useImages('xfs')

  type Row = readonly [logical: number, physical: number, length: number, flags?: number]

  /** Two sparse files of that length (or of `endBytes`), and a core that tells these rows of them; `moved` are base's, when it is asked again. */
  async function told(
    lengthBytes: number,
    maps: Readonly<{ base: readonly Row[]; now: readonly Row[]; moved?: readonly Row[] }>,
    grainBytes = GRAIN,
    endBytes: readonly [base: number, now: number] = [lengthBytes, lengthBytes],
  ): Promise<readonly Range[]> {
    const files = [await images().opened(images().path(), 'w+')]
    files.push(await images().opened(images().path(), 'w+'))
    for (const [index, file] of files.entries()) await file.truncate(endBytes[index])
    const [base = -1, now = -1] = files.map(({ fd }) => fd)
    let asked = 0
    const extentMap = (fd: number, offset: number, length: number, out: Float64Array): Promise<number> => {
      if (fd === base) asked += 1
      const again = asked % 2 === 0
      return Promise.resolve(
        rowsWithin(
          fd === now ? maps.now : again ? (maps.moved ?? maps.base) : maps.base,
          offset,
          offset + length,
          out,
        ),
      )
    }
    return await changedRanges({ ...core(), extentMap }, base, now, { lengthBytes, grainBytes })
  }

  function rowsWithin(rows: readonly Row[], offset: number, end: number, out: Float64Array): number {
    let [low, high] = [0, rows.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      const [logical = 0, , length = 0] = rows[middle] ?? []
      if (logical + length <= offset) low = middle + 1
      else high = middle
    }
    let count = 0
    for (; low < rows.length && count < out.length / 4; low++) {
      const [logical = 0, physical = 0, length = 0, flags = 0] = rows[low] ?? []
      const [from, to] = [Math.max(logical, offset), Math.min(logical + length, end)]
      if (from >= end) break
      out.set([from, physical + from - logical, to - from, flags], 4 * count++)
    }
    return count
  }

  it('what was moved while it was looked at is changed, and nothing else is', async () => {
    const map: Row[] = [[0, 10 * MIB, 4 * MIB]]
    const moved: Row[] = [
      [0, 10 * MIB, MIB],
      [MIB, 20 * MIB, MIB],
      [2 * MIB, 12 * MIB, 2 * MIB],
    ]
    expect(await told(4 * MIB, { base: map, now: map })).toEqual([])
    expect(await told(4 * MIB, { base: map, now: map, moved })).toEqual([range(MIB, MIB)])
  })

  it.each([0x2, 0x4, 0x8, 0x80, 0x100, 0x200, 0x400, 0x800, 0x4000, 2 ** 31])(
    'flag %i is not plain in either of them',
    async (flag) => {
      const plain: Row[] = [[0, MIB, 2 * MIB, 0x3001]]
      const other: Row[] = [
        [0, MIB, MIB, 0x1000],
        [MIB, 2 * MIB, GRAIN, flag | 0x2000],
        [MIB + GRAIN, 2 * MIB + GRAIN, MIB - GRAIN, 1],
      ]
      const expected = [range(MIB, GRAIN)]
      expect(await told(2 * MIB, { base: plain, now: other })).toEqual(expected)
      expect(await told(2 * MIB, { base: other, now: plain })).toEqual(expected)
      expect(await told(2 * MIB, { base: plain, now: plain, moved: other })).toEqual(expected)
    },
  )

  it.each([11, 12, 13])('many extents, in windows: what a look at every sector says (%i)', async (seed) => {
    const random = randomOf(seed)
    const SECTOR = 512
    const sectors = 60_000 + random(1000)
    /** Where each sector lies; 0 is a hole. */
    const base = Float64Array.from({ length: sectors }, (_, at) => MIB + at * SECTOR)
    const now = base.slice()
    const again = base.slice()
    for (const map of [base, now, again])
      for (let n = 0; n < 2000; n++) {
        const at = random(sectors)
        map.fill(random(3) === 0 ? 0 : 2 ** 40 + random(2 ** 20) * MIB, at, at + random(7))
      }
    for (let n = 0; n < 6000; n++) {
      const at = random(sectors)
      const end = at + random(20)
      const place = 2 ** 41 + n * MIB
      // in one place in all three, or moved in one of the looks; nothing keeps to grains
      for (const map of [[base, now, again], [now], [base, again]][random(3)] ?? [])
        for (let sector = at; sector < Math.min(end, sectors); sector++) map[sector] = place + sector * SECTOR
    }
    const rowsOf = (map: Float64Array): Row[] => {
      const rows: [number, number, number][] = []
      for (const [at, place] of map.entries()) {
        if (place === 0) continue
        const last = rows.at(-1)
        const follows = last !== undefined && last[0] + last[2] === at * SECTOR && last[1] + last[2] === place
        if (follows && random(4) > 0) last[2] += SECTOR
        else rows.push([at * SECTOR, place, SECTOR])
      }
      return rows
    }
    const maps = { base: rowsOf(base), now: rowsOf(now), moved: rowsOf(again) }
    expect(Math.min(...Object.values(maps).map(({ length }) => length))).toBeGreaterThan(10_000)
    const lengthBytes = sectors * SECTOR
    for (const grainBytes of [SECTOR, GRAIN, 3 * SECTOR]) {
      const grains = grainsOf(await told(lengthBytes, maps, grainBytes), lengthBytes, grainBytes)
      const expected = new Uint8Array(grains.length)
      for (const [at, place] of base.entries())
        if (place === 0 || place !== now[at] || place !== again[at])
          expected[Math.floor((at * SECTOR) / grainBytes)] = 1
      expect(Buffer.compare(grains, expected)).toBe(0)
      expect(expected.includes(0) && expected.includes(1)).toBe(true)
    }
  })

  it('too many ranges become fewer, over the small gaps between them', async () => {
    const pieces = 300_000
    const quiet = range(pieces * GRAIN, 64 * MIB)
    const lengthBytes = 2 * pieces * GRAIN + quiet.offset + quiet.length
    // every other grain has moved, but for a long quiet part
    const base: Row[] = []
    for (let at = 0; at < lengthBytes; at += 2 * GRAIN)
      if (at < quiet.offset || at >= quiet.offset + quiet.length) base.push([at, 2 ** 40 + at, GRAIN])
    base.push([quiet.offset, 2 ** 40 + quiet.offset, quiet.length])
    base.sort(([one], [other]) => one - other)
    const found = await told(lengthBytes, { base, now: base })
    expect(found.length).toBeLessThanOrEqual(1 << 18)
    const grains = grainsOf(found, lengthBytes, GRAIN)
    const missed = Array.from({ length: grains.length / 2 }, (_, at) => 2 * at + 1).filter(
      (grain) =>
        grains[grain] === 0 && (grain * GRAIN < quiet.offset || grain * GRAIN >= quiet.offset + quiet.length),
    )
    expect(missed).toEqual([])
    expect(grains.subarray(quiet.offset / GRAIN, (quiet.offset + quiet.length) / GRAIN).includes(1)).toBe(
      false,
    )
  })

  it.each([
    ['base', [MIB + 100, 2 * MIB]],
    ['now', [2 * MIB, MIB + 100]],
  ] as const)('what a block has behind the end of %s is no content of it', async (_, endBytes) => {
    const map: Row[] = [[0, MIB, 2 * MIB]]
    const expected = [range(MIB, MIB)]
    expect(await told(2 * MIB, { base: map, now: map }, GRAIN, endBytes)).toEqual(expected)
  })

  it('a map with no way on is an error, and not the end', async () => {
    const file = await images().opened(images().path(), 'w+')
    await file.truncate(MIB)
    const extentMap = (_: number, __: number, ___: number, out: Float64Array): Promise<number> =>
      Promise.resolve(out.fill(0).length / 4)
    const what = { lengthBytes: MIB, grainBytes: GRAIN }
    await expect(changedRanges({ ...core(), extentMap }, file.fd, file.fd, what)).rejects.toThrow('no way on')
  })
})
