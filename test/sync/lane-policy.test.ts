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
  direction: 'push',
  members: 1,
  roundTripMs: 40,
  loadedRoundTripMs: 80,
  movedBytes: 40 * MIB,
  elapsedMs: 1000,
  unwrittenBytes: 6 * MIB,
  doneBytes: 40 * MIB,
  leftBytes: 4096 * MIB,
  processors: 2,
  bytesPerSecond: null,
}
/** A fast line between large hosts: one ssh process is what holds it back. */
const FAST: LinkFacts = {
  ...LONG,
  roundTripMs: 0.2,
  loadedRoundTripMs: 4,
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
    [
      '300 ms: not more than the most',
      { ...LONG, roundTripMs: 300, loadedRoundTripMs: 340 },
      MAX_AUTO_STREAMS,
    ],
    [
      'a source whose disk gives 25 MiB/s (measured: 50.7 and 51.8 ms): nothing waits before the line',
      { ...LONG, roundTripMs: 50.7, loadedRoundTripMs: 51.8, movedBytes: 25 * MIB },
      1,
    ],
    [
      'a destination that writes 15 MiB/s (measured: 51.5 and 83.3 ms): it is sent to in bursts',
      { ...LONG, roundTripMs: 51.5, loadedRoundTripMs: 83.3, movedBytes: 14.7 * MIB },
      1,
    ],
    ['a destination whose whole window waits to be written', { ...LONG, unwrittenBytes: 14 * MIB }, 1],
    ['the most that may wait there', { ...LONG, unwrittenBytes: 12 * MIB }, 8],
    ['more than that', { ...LONG, unwrittenBytes: 12 * MIB + 1 }, 1],
    ['a pull that has four frames to write', { ...LONG, direction: 'pull', unwrittenBytes: 4 * MIB }, 8],
    ['a pull that has more', { ...LONG, direction: 'pull', unwrittenBytes: 4 * MIB + 1 }, 1],
    [
      'a line of 50 ms that is what holds back (measured: 52.2 and 104.5 ms, 35 MiB/s)',
      { ...LONG, roundTripMs: 52.2, loadedRoundTripMs: 104.5, movedBytes: 35 * MIB },
      8,
    ],
    ['768 KiB before the line', { ...LONG, movedBytes: 32 * MIB, loadedRoundTripMs: 40 + 23.4375 }, 8],
    ['less than that before it', { ...LONG, movedBytes: 32 * MIB, loadedRoundTripMs: 40 + 23.4 }, 1],
    ['no ping came back yet', { ...LONG, loadedRoundTripMs: null }, 1],
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
    [
      'a bonded session that has what one connection of TCP gives',
      { ...LONG, members: 7, movedBytes: 100 * MIB },
      1,
    ],
    [
      'a bonded session that has less: TCP is what holds it back',
      { ...LONG, members: 7, movedBytes: 99 * MIB },
      8,
    ],
    ['a bonded session before a slow disk', { ...LONG, members: 7, movedBytes: 10 * MIB }, 1],
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
