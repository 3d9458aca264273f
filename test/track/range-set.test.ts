// Sets of ranges against a bitmap of the same disk.

import { describe, expect, it } from 'vitest'

import { onGrid, RangeSet } from '../../src/track/range-set.js'

const LENGTH = 200

function bitmapOf(set: RangeSet): string {
  const bits = Array.from({ length: LENGTH }, () => '.')
  for (const { offset, length } of set.all) bits.fill('x', offset, offset + length)
  return bits.join('')
}

describe('a set of ranges', () => {
  it('is what a bitmap would be, and its ranges never touch', () => {
    for (let round = 0; round < 300; round += 1) {
      const set = new RangeSet()
      const bits = Array.from({ length: LENGTH }, () => '.')
      for (let count = 0; count < 12; count += 1) {
        const offset = Math.floor(Math.random() * LENGTH)
        const length = Math.floor(Math.random() * Math.min(30, LENGTH - offset + 1))
        set.add({ offset, length })
        bits.fill('x', offset, offset + length)
        expect(bitmapOf(set)).toBe(bits.join(''))
        const ends = set.all.map((range) => range.offset + range.length)
        set.all.forEach((range, index) => {
          if (index > 0) expect(range.offset).toBeGreaterThan(ends[index - 1] ?? Infinity)
        })
        const from = Math.floor(Math.random() * LENGTH)
        const within = { offset: from, length: Math.floor(Math.random() * (LENGTH - from)) }
        const inside = new RangeSet(set.within(within))
        const outside = new RangeSet(set.missing(within))
        const window = bits.map((bit, at) => (at >= from && at < from + within.length ? bit : ' '))
        expect(bitmapOf(inside)).toBe(window.map((bit) => (bit === 'x' ? 'x' : '.')).join(''))
        expect(bitmapOf(outside)).toBe(window.map((bit) => (bit === '.' ? 'x' : '.')).join(''))
      }
      expect(set.count).toBe(set.all.length)
      expect(bitmapOf(new RangeSet([...set.all].toReversed()))).toBe(bitmapOf(set))
    }
  })

  it('goes to the grid outwards, and not beyond the end', () => {
    const set = onGrid(
      [
        { offset: 5, length: 1 },
        { offset: 12, length: 9 },
        { offset: 95, length: 4 },
      ],
      8,
      99,
    )
    expect(set.all).toEqual([
      { offset: 0, length: 24 },
      { offset: 88, length: 11 },
    ])
  })
})
