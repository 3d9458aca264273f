// When a run opens more lanes by itself: one row for each reason to do so and not to.

import { describe, expect, it } from 'vitest'

import {
  type LinkFacts,
  LONG_ROUND_TRIP_MS,
  MAX_AUTO_STREAMS,
  streamsFor,
  WORTHWHILE_MS,
} from '../../src/sync/lane-policy.js'
import { MAX_STREAMS } from '../../src/options.js'

const MIB = 1 << 20

/** A push over 40 ms that moves 40 MiB/s, with 4 GiB before it: one window is what holds it back. */
const LONG: LinkFacts = {
  roundTripMs: 40,
  movedBytes: 40 * MIB,
  elapsedMs: 1000,
  doneBytes: 40 * MIB,
  leftBytes: 4096 * MIB,
  processors: 2,
  bytesPerSecond: null,
}
/** A fast line between large hosts: one ssh process is what holds it back. */
const FAST: LinkFacts = {
  ...LONG,
  roundTripMs: 0.2,
  movedBytes: 400 * MIB,
  doneBytes: 400 * MIB,
  processors: 8,
}

describe('streamsFor', () => {
  const rows: readonly [string, LinkFacts, number][] = [
    ['a long link whose window is full', LONG, 8],
    ['20 ms', { ...LONG, roundTripMs: 20 }, 4],
    ['8 ms, the shortest that is long', { ...LONG, roundTripMs: 8, movedBytes: 90 * MIB }, 2],
    ['less than that', { ...LONG, roundTripMs: 7.9, movedBytes: 90 * MIB }, 1],
    ['300 ms: not more than the most', { ...LONG, roundTripMs: 300 }, MAX_AUTO_STREAMS],
    ['a round trip that was not seen', { ...LONG, roundTripMs: Infinity, movedBytes: 0 }, 1],
    ['nothing moved yet', { ...LONG, movedBytes: 0 }, 1],
    ['no time yet', { ...LONG, elapsedMs: 0 }, 1],
    ['a long link whose window is not full: the disk is what is slow', { ...LONG, movedBytes: 10 * MIB }, 1],
    [
      'an identical disk over a long link: hardly anything moves',
      { ...LONG, movedBytes: MIB, doneBytes: 1024 * MIB },
      1,
    ],
    ['a limit that is nearly reached', { ...LONG, bytesPerSecond: 45 * MIB }, 1],
    ['a limit that is far off', { ...LONG, bytesPerSecond: 400 * MIB }, 8],
    ['a run that is over soon', { ...LONG, leftBytes: 100 * MIB }, 1],
    [
      'a run that is over in no more than three seconds',
      { ...LONG, leftBytes: (40 * MIB * WORTHWHILE_MS) / 1000 - 1 },
      1,
    ],
    ['a run that takes longer', { ...LONG, leftBytes: (40 * MIB * WORTHWHILE_MS) / 1000 }, 8],
    ['nothing done yet: what is left takes as long as one likes', { ...LONG, doneBytes: 0 }, 8],
    ['a short, fast link between large hosts', FAST, 4],
    ['a short, fast link where one host is small', { ...FAST, processors: 7 }, 1],
    [
      'a short link between large hosts that is not fast',
      { ...FAST, movedBytes: 199 * MIB, doneBytes: 199 * MIB },
      1,
    ],
  ]
  it.each(rows)('%s', (_name, facts, streams) => {
    expect(streamsFor(facts)).toBe(streams)
  })

  it('never asks for more than may be asked for, and for at least one', () => {
    for (const roundTripMs of [0, 1, LONG_ROUND_TRIP_MS, 12, 40, 1000, 1e9, Infinity])
      for (const movedBytes of [0, 1, MIB, 1e12]) {
        const streams = streamsFor({ ...LONG, roundTripMs, movedBytes, processors: 64 })
        expect(Number.isInteger(streams)).toBe(true)
        expect(streams).toBeGreaterThanOrEqual(1)
        expect(streams).toBeLessThanOrEqual(MAX_AUTO_STREAMS)
      }
    expect(MAX_AUTO_STREAMS).toBeLessThanOrEqual(MAX_STREAMS)
  })
})
