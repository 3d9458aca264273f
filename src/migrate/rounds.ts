// Rounds of copying while the guest runs: what the downtime would be now, and whether another round would shorten it.
// Pure functions over what was measured; refuses nothing.

import type { RoundFacts } from './journal.js'

/** Until something was measured: slow enough for a disk of spinning plates with a little cache. */
const DEFAULT_SAVE_BYTES_PER_SECOND = 200e6
const DEFAULT_RESTORE_BYTES_PER_SECOND = 300e6
/** Half of what a gigabit line carries. */
const DEFAULT_LINK_BYTES_PER_SECOND = 60e6
/** Of a guest's memory, what is left of it on the line: zeros are not sent, and the rest is compressed. */
const STATE_ON_LINE = 0.5
/** A session that is opened, disks that are opened and flushed, journals and the hypervisor's own calls. */
const FIXED_MS = 1500

export type Measured = Readonly<{
  sentBytes: number
  wireBytes: number
  durationMs: number
  bytesPerSecond: number | null
}>

export type ForecastRequest = Readonly<{
  /** All passes so far, the latest last; at least one. */
  passes: readonly Measured[]
  memoryBytes: number
  procedure: 'warm' | 'cold'
}>

/**
 * The downtime in ms if the guest were stopped now: save, last pass, state copy, restore and what is fixed. What the last
 * pass has to send follows from what the guest changed while the pass before was under way.
 */
export function forecastDowntimeMs({ passes, memoryBytes, procedure }: ForecastRequest): number {
  const isWarm = procedure === 'warm'
  const saveMs = isWarm ? (memoryBytes * 1000) / DEFAULT_SAVE_BYTES_PER_SECOND : 0
  const restoreMs = isWarm ? (memoryBytes * 1000) / DEFAULT_RESTORE_BYTES_PER_SECOND : 0
  const linkRate = bestRate(passes) ?? DEFAULT_LINK_BYTES_PER_SECOND
  const stateCopyMs = isWarm ? (memoryBytes * STATE_ON_LINE * 1000) / linkRate : 0
  return Math.round(saveMs + lastPassMs(passes, saveMs, linkRate) + stateCopyMs + restoreMs + FIXED_MS)
}

/** The pass that a stopped guest would wait for. */
function lastPassMs(passes: readonly Measured[], saveMs: number, linkRate: number): number {
  const last = passes.at(-1)
  const before = passes.at(-2)
  if (last === undefined) return 0
  // of a first pass nobody knows what was changed meanwhile: the next one lasts no longer than it did
  if (before === undefined) return last.durationMs
  const scanMs = Math.max(0, last.durationMs - (last.sentBytes * 1000) / linkRate)
  const changedBytesPerMs = last.sentBytes / Math.max(1, before.durationMs)
  const changedBytes = changedBytesPerMs * (last.durationMs + saveMs)
  return scanMs + (changedBytes * 1000) / linkRate
}

/** The highest rate that was seen: passes with little to send say less about the line than about their scan. */
function bestRate(passes: readonly Measured[]): number | null {
  let best: number | null = null
  for (const { bytesPerSecond } of passes)
    if (bytesPerSecond !== null && bytesPerSecond > 0) best = Math.max(best ?? 0, bytesPerSecond)
  return best
}

/** Why there is no further round, or `again`. */
export type RoundVerdict = 'again' | 'short-enough' | 'no-better' | 'most-rounds'

/** After each round. `rounds`: all so far, at least one. */
export function afterRound(
  rounds: readonly RoundFacts[],
  { maxRounds, downtimeTargetMs }: Readonly<{ maxRounds: number; downtimeTargetMs: number }>,
): RoundVerdict {
  const last = rounds.at(-1)
  const before = rounds.at(-2)
  if (last === undefined) return 'again'
  if (last.forecastDowntimeMs <= downtimeTargetMs) return 'short-enough'
  if (rounds.length >= maxRounds) return 'most-rounds'
  if (before !== undefined && last.forecastDowntimeMs >= before.forecastDowntimeMs) return 'no-better'
  return 'again'
}
