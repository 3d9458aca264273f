// When a run opens more lanes by itself, and how many: decided by what the link does, once it has shown it. Numbers in,
// a number out.

/** Lanes that are opened unasked: eight windows of 2 MiB are 400 MiB/s at 40 ms, beyond what one host encrypts. */
export const MAX_AUTO_STREAMS = 8
/** Below it the window of one ssh channel (2 MiB) is filled faster than one processor encrypts. */
export const LONG_ROUND_TRIP_MS = 8
/** One lane for each: 2 MiB every 5 ms is 400 MiB/s. */
const ROUND_TRIP_PER_LANE_MS = 5
/** More than this on its way in one round trip: it is the window that holds the channel back, not the disk. */
const WINDOW_BOUND_BYTES = 640 << 10
/** A run that is over sooner is not worth new connections: each costs a second of processor time on both hosts. */
export const WORTHWHILE_MS = 3000
/** Processors of both hosts from which one ssh process, not the machine, is the limit of a fast link. */
const MANY_PROCESSORS = 8
/** What one ssh process encrypts on a slow processor. A lane that reaches it has no long link before it. */
const CIPHER_BOUND_BYTES_PER_SECOND = 200 << 20
const MANY_PROCESSORS_STREAMS = 4

export type LinkFacts = Readonly<{
  /** The shortest that was seen. */
  roundTripMs: number
  /** Payload that arrived, and in what time. */
  movedBytes: number
  elapsedMs: number
  /** Of the disk: done, and to do. */
  doneBytes: number
  leftBytes: number
  /** Processors of the host that has fewer. */
  processors: number
  /** `--bwlimit` as it is now. */
  bytesPerSecond: number | null
}>

/** How many lanes the run should have, 1 where the first one will do. */
export function streamsFor(facts: LinkFacts): number {
  const { roundTripMs, movedBytes, elapsedMs, doneBytes, leftBytes, processors, bytesPerSecond } = facts
  if (movedBytes === 0 || elapsedMs <= 0) return 1
  const rate = (movedBytes / elapsedMs) * 1000
  // A limit that is nearly reached is the limit.
  if (bytesPerSecond !== null && rate > bytesPerSecond * 0.8) return 1
  // As much will differ in what is left as did until here.
  const leftMs = (elapsedMs * leftBytes) / Math.max(doneBytes, 1)
  if (leftMs < WORTHWHILE_MS) return 1
  if (roundTripMs >= LONG_ROUND_TRIP_MS && (rate * roundTripMs) / 1000 >= WINDOW_BOUND_BYTES)
    return Math.min(MAX_AUTO_STREAMS, Math.ceil(roundTripMs / ROUND_TRIP_PER_LANE_MS))
  if (processors >= MANY_PROCESSORS && rate >= CIPHER_BOUND_BYTES_PER_SECOND) return MANY_PROCESSORS_STREAMS
  return 1
}
