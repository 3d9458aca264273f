// `auto` on lines of every speed, simulated with a clock of its own: where it compresses, and what a run then takes
// against one that never does and one that always does.

import { describe, expect, it } from 'vitest'

import type { Codec } from '../../src/codec/codec.js'
import { Compressor } from '../../src/codec/compressor.js'

const MIB = 1 << 20
/** What a trial of the codec takes, in batches. */
const TRIAL_BATCHES = 4
/** Pipes, socket buffers and ssh's window between us and the line: what leaves at once. */
const BUFFER_BYTES = 3 * MIB

type Line = Readonly<{
  /** MiB/s of the line at a time in ms. */
  lineMibPerSecond: (nowMs: number) => number
  /** MiB/s of the codec, and raw over compressed. */
  codecMibPerSecond: number
  ratio: number
  /** MiB/s at which batches come; they come at once where it is left away. */
  diskMibPerSecond?: number
  ceilingMibPerSecond?: number
}>

/** A run of `batches` batches of 1 MiB over a line, in simulated time: two frames in line at most, as a source sends. */
async function run(line: Line, batches: number, mode: 'always' | 'auto' | 'never') {
  let nowMs = 0
  const ceiling = line.ceilingMibPerSecond === undefined ? null : line.ceilingMibPerSecond * MIB
  const codec: Codec = {
    name: 'zstd',
    id: 1,
    // real bytes do not matter here, only how many there are and how long they take
    compress: async (data) => {
      nowMs += (data.length / MIB / line.codecMibPerSecond) * 1000
      return await Promise.resolve(Buffer.alloc(Math.ceil(data.length / line.ratio)))
    },
    decompress: async () => await Promise.reject(new Error('nobody decompresses here')),
  }
  const compressor =
    mode === 'never' ? null : new Compressor(codec, mode, { now: () => nowMs, ceiling: () => ceiling })
  const batch = [Buffer.alloc(MIB)]
  const inLine: { leavesMs: number; leave: () => void }[] = []
  let lineFreeMs = 0
  let compressed = 0
  const compressedAt: boolean[] = []
  const settle = async (): Promise<void> => {
    await new Promise((resolve) => setImmediate(resolve))
  }
  /** Lets every frame leave that has left by `untilMs`, each at its time. */
  const leaveUntil = async (untilMs: number): Promise<void> => {
    for (let first = inLine[0]; first !== undefined && first.leavesMs <= untilMs; first = inLine[0]) {
      inLine.shift()
      const afterMs = Math.max(nowMs, first.leavesMs)
      nowMs = first.leavesMs
      first.leave()
      await settle()
      nowMs = afterMs
    }
  }
  let frameReadyMs = 0
  for (let index = 0; index < batches; index += 1) {
    if (line.diskMibPerSecond !== undefined) {
      frameReadyMs += 1000 / line.diskMibPerSecond
      await leaveUntil(frameReadyMs)
      nowMs = Math.max(nowMs, frameReadyMs)
    }
    const packed =
      compressor === null ? { codec: 0 as const, parts: batch, rawBytes: MIB } : await compressor.pack(batch)
    await leaveUntil(nowMs)
    compressedAt.push(packed.codec !== 0)
    if (packed.codec !== 0) compressed += 1
    const bytes = packed.parts.reduce((sum, part) => sum + part.length, 0)
    const rate = Math.min(line.lineMibPerSecond(nowMs), line.ceilingMibPerSecond ?? Infinity)
    lineFreeMs = Math.max(lineFreeMs, nowMs) + (bytes / MIB / rate) * 1000
    // it has left this process when the rest in the buffers is no more than they hold
    const leavesMs = Math.max(nowMs + 0.3, lineFreeMs - (BUFFER_BYTES / MIB / rate) * 1000)
    let leave = (): void => undefined
    const left = new Promise<void>((resolve) => (leave = resolve))
    inLine.push({ leavesMs: Math.max(leavesMs, inLine.at(-1)?.leavesMs ?? 0), leave })
    compressor?.watch(packed, left)
    await leaveUntil(nowMs)
    while (inLine.length > 1) {
      const next = Math.max(nowMs, inLine[0]?.leavesMs ?? 0)
      await leaveUntil(next)
      nowMs = next
    }
  }
  return { elapsedMs: Math.max(nowMs, lineFreeMs), share: compressed / batches, compressedAt }
}

const steady = (mibPerSecond: number, codecMibPerSecond: number, ratio: number): Line => ({
  lineMibPerSecond: () => mibPerSecond,
  codecMibPerSecond,
  ratio,
})

/** What is lost to the fastest of never and always, as a factor. */
async function against(
  line: Line,
  batches: number,
): Promise<{ factor: number; share: number; isNoLoss: boolean }> {
  const [auto, always, never] = [
    await run(line, batches, 'auto'),
    await run(line, batches, 'always'),
    await run(line, batches, 'never'),
  ]
  const best = Math.min(always.elapsedMs, never.elapsedMs)
  // what trials may cost: half a percent, and the first, of which nothing was known
  const allowedMs = never.elapsedMs * 1.01 + (2 * TRIAL_BATCHES * 1000) / line.codecMibPerSecond
  return { factor: auto.elapsedMs / best, share: auto.share, isNoLoss: auto.elapsedMs <= allowedMs }
}

describe('auto', () => {
  it.each([300, 350, 400, 500, 1000, 5000])('leaves a line of %d MiB/s alone', async (mibPerSecond) => {
    for (const [codec, ratio] of [
      [200, 3],
      [400, 3.4],
      [100, 20],
    ] as const) {
      const { share, isNoLoss } = await against(steady(mibPerSecond, codec, ratio), 1000)
      expect(share).toBeLessThan(0.01)
      expect(isNoLoss).toBe(true)
    }
  })

  it.each([1, 5, 10, 30, 60, 100])('compresses for a line of %d MiB/s', async (mibPerSecond) => {
    for (const [codec, ratio] of [
      [200, 3],
      [400, 3.4],
    ] as const) {
      const { share, factor } = await against(steady(mibPerSecond, codec, ratio), 400)
      expect(share).toBeGreaterThan(0.85)
      expect(factor).toBeLessThan(1.3)
    }
  })

  it('leaves content alone that cannot be compressed, on any line', async () => {
    for (const mibPerSecond of [1, 10, 100, 1000]) {
      const { share, isNoLoss } = await against(steady(mibPerSecond, 1000, 1.001), 300)
      expect(share).toBe(0)
      expect(isNoLoss).toBe(true)
    }
  })

  it('leaves a line alone that waits for us, however slow the codec or the disk', async () => {
    for (const diskMibPerSecond of [5, 20, 50]) {
      const line = { ...steady(100, 300, 3), diskMibPerSecond }
      expect((await against(line, 300)).share).toBe(0)
    }
  })

  it('is never slower than without by more than its trials, whatever line and codec', async () => {
    for (const mibPerSecond of [2, 20, 90, 150, 250, 600]) {
      for (const codec of [20, 120, 350]) {
        for (const ratio of [1.15, 4]) {
          const { isNoLoss } = await against(steady(mibPerSecond, codec, ratio), 200)
          expect([mibPerSecond, codec, ratio, isNoLoss]).toEqual([mibPerSecond, codec, ratio, true])
        }
      }
    }
  }, 60_000)

  it('begins on a line that becomes slow, and ends where it becomes fast', async () => {
    const line = {
      ...steady(0, 300, 3),
      lineMibPerSecond: (nowMs: number) => (nowMs > 2000 && nowMs < 12_000 ? 40 : 500),
    }
    const { compressedAt } = await run(line, 6000, 'auto')
    const first = compressedAt.findIndex((now, index) => now && compressedAt[index + 5] === true)
    expect(first).toBeGreaterThan(800)
    expect(first).toBeLessThan(1100)
    expect(compressedAt.slice(first + 50, first + 900)).not.toContain(false)
    expect(compressedAt.slice(-2000).filter(Boolean).length).toBeLessThan(12)
  })

  it('tries seldom without, where the line only keeps up because of the codec', async () => {
    // 60 MiB/s with a ratio of 30: compressed data never fills it, so whether it is still slow has to be tried
    const { share, factor } = await against(steady(60, 200, 30), 6000)
    expect(share).toBeGreaterThan(0.9)
    expect(factor).toBeLessThan(1.1)
  }, 60_000)

  it('does not go back and forth', async () => {
    for (const mibPerSecond of [100, 120, 140, 160, 180]) {
      const { compressedAt } = await run(steady(mibPerSecond, 200, 3), 1500, 'auto')
      // trials aside
      const settled = compressedAt.filter((now, index) => now === compressedAt[index + TRIAL_BATCHES])
      const turns = settled.filter((now, index) => index > 0 && now !== settled[index - 1]).length
      expect([mibPerSecond, turns < 12]).toEqual([mibPerSecond, true])
    }
  })

  it('compresses from the start under a ceiling that is below the codec, and not under a high one', async () => {
    const low = await run({ ...steady(1000, 300, 3), ceilingMibPerSecond: 10 }, 50, 'auto')
    expect(low.share).toBe(1)
    const high = await run({ ...steady(1000, 300, 3), ceilingMibPerSecond: 900 }, 500, 'auto')
    expect(high.share).toBeLessThan(0.02)
  })
})
