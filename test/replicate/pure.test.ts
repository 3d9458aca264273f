// The pure parts: what retention wants, what a record becomes by it, what follows a failure.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import type { Retention } from '../../src/config/config.js'
import { SyncError } from '../../src/errors.js'
import type { UndoStep } from '../../src/host/host.js'
import { backoffMs, classOf, FIRST_BACKOFF_MS, MOST_BACKOFF_MS } from '../../src/replicate/failures.js'
import {
  chainOf,
  groupsOf,
  MAX_STEPS,
  prune,
  wayBack,
  withoutChain,
} from '../../src/replicate/generations.js'
import { checkedReplica } from '../../src/replicate/record-check.js'
import type { Generation, ReplicaRecord } from '../../src/replicate/record.js'
import { keepsOlder, wanted } from '../../src/replicate/retention.js'
import { RecordError } from '../../src/state/fields.js'

const HOUR_MS = 3_600_000
const LAST: Retention = { last: 1, hourly: 0, daily: 0, weekly: 0 }

const keeps = fc.record({ last: fc.nat(5), hourly: fc.nat(5), daily: fc.nat(4), weekly: fc.nat(3) })
/** Times that go on, and now and then back. */
const dated = fc.array(fc.integer({ min: -3, max: 60 }), { maxLength: 40 }).map((steps) => {
  let ms = Date.parse('2026-03-01T00:00:00.000Z')
  return steps.map((hours, index) => {
    ms += hours * HOUR_MS
    return { number: index + 1, takenAt: new Date(ms).toISOString() }
  })
})

describe('retention', () => {
  it('keeps the newest, and as many of the last as it says', () => {
    fc.assert(
      fc.property(dated, keeps, (generations, keep) => {
        const stays = wanted(generations, keep)
        for (const { number } of generations.slice(-Math.max(1, keep.last))) expect(stays).toContain(number)
      }),
    )
  })

  it('wants again what it wanted, and nothing that it once gave up', () => {
    fc.assert(
      fc.property(dated, keeps, (generations, keep) => {
        const stays = wanted(generations, keep)
        const left = generations.filter(({ number }) => stays.has(number))
        expect(wanted(left, keep)).toEqual(stays)
        const before = wanted(generations.slice(0, -1), keep)
        for (const number of stays) expect(number === generations.length || before.has(number)).toBe(true)
        // one by one comes to the same as all at once
        let kept: typeof generations = []
        for (const one of generations) {
          const all = [...kept, one]
          const some = wanted(all, keep)
          kept = all.filter(({ number }) => some.has(number))
        }
        expect(kept.map(({ number }) => number)).toEqual([...stays].toSorted((a, b) => a - b))
      }),
    )
  })

  it('wants no less when it is told to keep more', () => {
    fc.assert(
      fc.property(dated, keeps, keeps, (generations, keep, more) => {
        const sum = {
          last: keep.last + more.last,
          hourly: keep.hourly + more.hourly,
          daily: keep.daily + more.daily,
          weekly: keep.weekly + more.weekly,
        }
        const stays = wanted(generations, sum)
        for (const number of wanted(generations, keep)) expect(stays).toContain(number)
      }),
    )
  })

  it('takes hours, days and weeks of UTC that have a generation', () => {
    const at = (number: number, takenAt: string): { number: number; takenAt: string } => ({
      number,
      takenAt: `${takenAt}:00.000Z`,
    })
    const all = [
      at(1, '2026-03-01T23:59'), // a Sunday
      at(2, '2026-03-02T00:00'),
      at(3, '2026-03-02T10:10'),
      at(4, '2026-03-09T10:10'),
      at(5, '2026-03-09T10:50'),
    ]
    expect([...wanted(all, LAST)]).toEqual([5])
    expect([...wanted(all, { ...LAST, hourly: 2 })]).toEqual([5, 3])
    expect([...wanted(all, { ...LAST, daily: 3 })]).toEqual([5, 3, 1])
    expect([...wanted(all, { ...LAST, weekly: 2 })]).toEqual([5, 3])
    expect(keepsOlder(LAST)).toBe(false)
    expect(keepsOlder({ ...LAST, hourly: 2 })).toBe(true)
  })
})

const ROOT = { algorithm: 'sha256', root: 'ab', seed: 'cd', blockBytes: 4096, leafBytes: 512, lengthBytes: 1 }

function group(name: string): string {
  return name.padStart(32, '0')
}

function generation(number: number, undo: readonly string[], isCopied = false): Generation {
  return {
    number,
    takenAt: '2026-03-01T00:00:00.000Z',
    completedAt: '2026-03-01T00:00:00.000Z',
    cut: 'near',
    quiesced: 'no',
    spreadMs: 0,
    sentBytes: 0,
    attempt: `a${number}`,
    disks: [
      { root: ROOT, undo: undo.map(group), copy: isCopied ? { kind: 'reflink', path: `/c${number}` } : null },
    ],
  }
}

function recordOf(generations: readonly Generation[], droppedUndo: string | null = null): ReplicaRecord {
  return {
    version: 1,
    id: 'web.aaaaaaaa',
    job: 'web',
    controller: { hostName: 'a', machineId: 'a'.repeat(32) },
    source: { hostName: 'a', machineId: 'a'.repeat(32), address: null, port: null },
    state: 'good',
    base: 'generation',
    attempt: 'a1',
    changedAt: '2026-03-01T00:00:00.000Z',
    disks: [{ path: '/d', sourcePath: '/s', droppedUndo }],
    nextGeneration: (generations.at(-1)?.number ?? 0) + 1,
    generations,
    guest: null,
  }
}

function steps(names: string, state: UndoStep['state'] = 'finished'): UndoStep[] {
  return names.split('').map((name) => ({ group: group(name), state, startedAt: '', bytes: 0 }))
}

describe('a record', () => {
  const record = recordOf([
    generation(1, ['a']),
    generation(2, ['b', 'c']),
    generation(3, []),
    generation(4, ['d']),
  ])

  it('gives the steps of what it leaves out to the next newer one', () => {
    const { record: pruned } = prune(record, new Set([1, 4]))
    expect(pruned.generations.map(({ number, disks }) => [number, disks[0]?.undo])).toEqual([
      [1, []],
      [4, ['b', 'c', 'd'].map(group)],
    ])
    expect(pruned.disks[0]?.droppedUndo).toBe(group('a'))
    expect(wayBack(pruned, 1, 0)).toEqual(['d', 'c', 'b'].map(group))
  })

  it('gives up every step where only the newest, or only copies, stay', () => {
    const { record: pruned } = prune(record, new Set())
    expect(groupsOf(pruned, 0)).toEqual([])
    expect(pruned.generations.map(({ number }) => number)).toEqual([4])
    expect(pruned.disks[0]?.droppedUndo).toBe(group('d'))
    const copied = recordOf([generation(1, ['a'], true), generation(2, ['b'], true)])
    expect(prune(copied, new Set([1, 2])).record.disks[0]?.droppedUndo).toBe(group('b'))
  })

  it('gives up the oldest where the steps become too many', () => {
    const many = recordOf([
      generation(1, []),
      generation(
        2,
        Array.from({ length: MAX_STEPS }, (_, index) => index.toString(16)),
      ),
      generation(3, ['abcdef']),
    ])
    const { record: pruned, sacrificed } = prune(many, new Set([1, 2, 3]))
    expect(sacrificed).toEqual([1])
    expect(groupsOf(pruned, 0)).toEqual([group('abcdef')])
  })

  it('is held against what is on the disk', () => {
    const of = recordOf(record.generations, group('9'))
    expect(chainOf(of, 0, steps('89abcd'))).toMatchObject({
      leftover: group('9'),
      extra: [],
      through: group('d'),
      broken: null,
    })
    expect(chainOf(of, 0, steps('abcde'))).toMatchObject({ leftover: null, extra: steps('e'), broken: null })
    expect(chainOf(of, 0, [...steps('abcd'), ...steps('e', 'open')]).broken).toBeNull()
    expect(chainOf(of, 0, steps('abc')).broken).toContain('gone')
    expect(chainOf(of, 0, steps('bcd')).broken).toContain('gone')
    expect(chainOf(of, 0, [...steps('abcd'), ...steps('e', 'void')]).broken).toContain('given up')
    expect(chainOf(of, 0, [...steps('abc'), ...steps('d', 'undoing')]).broken).toContain('take back')
    const empty = recordOf([generation(4, [])], group('9'))
    expect(chainOf(empty, 0, steps('9'))).toMatchObject({ through: group('9'), extra: [] })
    expect(chainOf(empty, 0, steps('e'))).toMatchObject({ through: null, extra: steps('e') })
  })

  it('keeps what was copied when the chain is broken', () => {
    const some = recordOf([generation(1, ['a'], true), generation(2, ['b'])])
    const without = withoutChain(some, [steps('x')])
    expect(without.base).toBe('nothing')
    expect(without.generations.map(({ number }) => number)).toEqual([1])
    expect(without.disks[0]?.droppedUndo).toBe(group('x'))
    expect(without.nextGeneration).toBe(3)
  })

  it('is read as it was written, and refused with anything else in a field', () => {
    const text = JSON.stringify(record)
    expect(checkedReplica(JSON.parse(text), record.id)).toEqual(record)
    expect(() => checkedReplica(JSON.parse(text), 'other')).toThrow(RecordError)
    const paths: (readonly (string | number)[])[] = []
    const walk = (value: unknown, path: readonly (string | number)[]): void => {
      if (path.length > 0) paths.push(path)
      if (typeof value !== 'object' || value === null) return
      for (const [key, inside] of Object.entries(value))
        walk(inside, [...path, Array.isArray(value) ? Number(key) : key])
    }
    walk(record, [])
    expect(paths.length).toBeGreaterThan(60)
    for (const path of paths) {
      const broken = structuredClone(record) as unknown as Record<string | number, unknown>
      let at = broken
      for (const key of path.slice(0, -1)) at = at[key] as Record<string | number, unknown>
      at[path.at(-1) ?? ''] = { unexpected: true }
      expect(() => checkedReplica(broken, record.id), path.join('.')).toThrow(RecordError)
    }
    expect(() => checkedReplica({ ...record, nextGeneration: 4 }, record.id)).toThrow(/order/)
    expect(() => checkedReplica({ ...record, generations: [], base: 'nothing' }, record.id)).toThrow(/good/)
  })
})

describe('failures', () => {
  const failure = (code: SyncError['code']): SyncError => new SyncError(code, 'it failed')

  it('are tried again soon where they may pass by themselves', () => {
    for (const code of [
      'session/lost',
      'connect/refused',
      'host/lost',
      'replicate/snapshot',
      'guard/locked',
    ] as const)
      expect(classOf(failure(code)), code).toBe('soon')
    for (const code of [
      'guard/mounted',
      'usage',
      'connect/host-key',
      'replicate/promoted',
      'destination/no-space',
      'destination/undo-space',
      'replicate/record',
      'replicate/hook',
    ] as const)
      expect(classOf(failure(code)), code).toBe('regular')
  })

  it('wait longer each time, and never longer than the interval', () => {
    expect([1, 2, 3].map((failures) => backoffMs(failures, null, 0))).toEqual([5_000, 10_000, 20_000])
    expect(backoffMs(1000, null, 0)).toBe(MOST_BACKOFF_MS)
    expect(backoffMs(1000, 30_000, 0)).toBe(30_000)
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (failures, chance) => {
          const waitMs = backoffMs(failures, null, chance)
          expect(waitMs).toBeGreaterThanOrEqual(FIRST_BACKOFF_MS * 0.75)
          expect(waitMs).toBeLessThanOrEqual(MOST_BACKOFF_MS)
        },
      ),
    )
  })
})
