// Forecasts and the end of rounds, over what passes measured.

import { describe, expect, it } from 'vitest'

import { afterRound, forecastDowntimeMs, type Measured } from '../../src/migrate/rounds.js'

const MIB = 1 << 20
const pass = (sentBytes: number, durationMs: number, bytesPerSecond: number | null = null): Measured => ({
  sentBytes,
  wireBytes: sentBytes,
  durationMs,
  bytesPerSecond,
})
const round = (forecastDowntimeMs: number) => ({
  sentBytes: 1,
  wireBytes: 1,
  durationMs: 1,
  forecastDowntimeMs,
})

describe('the forecast', () => {
  const warm = (passes: readonly Measured[], memoryBytes = 0): number =>
    forecastDowntimeMs({ passes, memoryBytes, procedure: 'warm' })

  it('takes a first pass for as long as it was', () => {
    expect(warm([pass(1000 * MIB, 100_000, 10 * MIB)])).toBeGreaterThanOrEqual(100_000)
  })

  it('follows what the guest changed while the pass before was under way', () => {
    // 1000 MiB at 10 MiB/s; then 50 MiB of changes in 100 s: half a MiB a second
    const passes = [pass(1000 * MIB, 100_000, 10 * MIB), pass(50 * MIB, 8_000, 10 * MIB)]
    // 3 s of scanning, 4 MiB of changes during 8 s
    expect(warm(passes) - warm([pass(0, 0)])).toBeCloseTo(3_000 + 400, -2)
    const quiet = [...passes, pass(4 * MIB, 3_400)]
    expect(warm(quiet)).toBeLessThan(warm(passes))
  })

  it('adds saving, sending and restoring the memory, which a guest that is shut down has not', () => {
    const passes = [pass(100 * MIB, 1_000, 100 * MIB), pass(1 * MIB, 500)]
    const withMemory = warm(passes, 1024 * MIB) - warm(passes, 0)
    expect(withMemory).toBeGreaterThan(1024 * MIB * (1000 / 200e6 + 1000 / 300e6) + 5_000)
    const cold = (memoryBytes: number): number =>
      forecastDowntimeMs({ passes, memoryBytes, procedure: 'cold' })
    expect(cold(1024 * MIB)).toBe(cold(0))
  })
})

describe('after a round', () => {
  const options = { maxRounds: 4, downtimeTargetMs: 5000 }
  it.each([
    [[5000], 'short-enough'],
    [[9000], 'again'],
    [[9000, 8000], 'again'],
    [[9000, 9000], 'no-better'],
    [[9000, 12_000], 'no-better'],
    [[12_000, 9000, 8000, 7000], 'most-rounds'],
    [[12_000, 9000, 8000, 4000], 'short-enough'],
  ] as const)('forecasts of %j ms: %s', (forecasts, verdict) => {
    expect(afterRound(forecasts.map(round), options)).toBe(verdict)
  })
})
