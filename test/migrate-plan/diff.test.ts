// unifiedDiff: known outputs, and for random texts that applying the diff to the one gives the other.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { unifiedDiff } from '../../src/migrate/diff.js'

/** Applies a diff as patch(1) would, with no tolerance at all. */
function applied(text: string, diff: string): string {
  const before = text.split('\n')
  const after: string[] = []
  let at = 0
  for (const line of diff.split('\n').slice(2, -1)) {
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@$/.exec(line)
    if (hunk !== null) {
      const start = hunk[2] === '0' ? Number(hunk[1]) : Number(hunk[1]) - 1
      while (at < start) after.push(before[at++] ?? '')
      expect(Number(hunk[3])).toBe(hunk[4] === '0' ? after.length : after.length + 1)
      continue
    }
    const content = line.slice(1)
    if (line.startsWith('+')) after.push(content)
    else {
      expect(before[at]).toBe(content)
      at++
      if (line.startsWith(' ')) after.push(content)
    }
  }
  return [...after, ...before.slice(at)].join('\n')
}

const numbers = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => `line ${from + index}`)

describe('unifiedDiff', () => {
  it('is empty for equal texts', () => {
    expect(unifiedDiff('a', 'b', 'x\n', 'x\n')).toBe('')
  })

  it('shows a change with three lines around it', () => {
    const before = numbers(1, 20)
    const after = before.with(9, 'changed')
    expect(unifiedDiff('old', 'new', `${before.join('\n')}\n`, `${after.join('\n')}\n`).split('\n')).toEqual([
      '--- old',
      '+++ new',
      '@@ -7,7 +7,7 @@',
      ' line 7',
      ' line 8',
      ' line 9',
      '-line 10',
      '+changed',
      ' line 11',
      ' line 12',
      ' line 13',
      '',
    ])
  })

  it('joins what is near and parts what is far', () => {
    const before = numbers(1, 40)
    const near = before.with(9, 'x').with(15, 'y')
    const far = before.with(9, 'x').with(20, 'y')
    const hunks = (after: string[]): number =>
      unifiedDiff('a', 'b', before.join('\n'), after.join('\n')).match(/^@@/gm)?.length ?? 0
    expect([hunks(near), hunks(far)]).toEqual([1, 2])
  })

  it('numbers empty sides as diff -u does', () => {
    expect(unifiedDiff('a', 'b', '', 'x\n')).toBe('--- a\n+++ b\n@@ -0,0 +1 @@\n+x\n')
    expect(unifiedDiff('a', 'b', 'x\ny\n', '')).toBe('--- a\n+++ b\n@@ -1,2 +0,0 @@\n-x\n-y\n')
  })

  it('tells a last line without its newline', () => {
    expect(unifiedDiff('a', 'b', 'x', 'x\n')).toContain('-x\n\\ No newline at end of file\n+x\n')
  })

  it('of another text is all of both, and quick', () => {
    const before = Array.from({ length: 3000 }, (_, index) => `a${index}`)
    const after = Array.from({ length: 3000 }, (_, index) => `b${index}`)
    const startMs = performance.now()
    const diff = unifiedDiff('a', 'b', `${before.join('\n')}\n`, `${after.join('\n')}\n`)
    expect(diff.split('\n')).toHaveLength(6000 + 4)
    expect(performance.now() - startMs).toBeLessThan(5000)
  })

  it('applied to the one gives the other', () => {
    const text = fc
      .array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 40 })
      .map((lines) => lines.map((line) => `${line}\n`).join(''))
    fc.assert(
      fc.property(text, text, (before, after) => {
        const diff = unifiedDiff('old', 'new', before, after)
        expect(diff === '' ? before : applied(before, diff)).toBe(after)
      }),
      { numRuns: 500 },
    )
  })
})
