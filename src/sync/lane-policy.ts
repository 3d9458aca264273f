// When a run opens more lanes by itself, and how many: decided by what the link does, once it has shown it. Numbers in,
// a number out. Refuses lanes where a disk is what the run waits for: it would not become faster.

import { WINDOW_BYTES } from '../wire/channel.js'

/** Lanes that are opened unasked: eight windows of 2 MiB are 400 MiB/s at 40 ms, beyond what one host encrypts. */
export const MAX_AUTO_STREAMS = 8
/** Below it the window of one ssh channel (2 MiB) is filled faster than one processor encrypts. */
export const LONG_ROUND_TRIP_MS = 8
/** One lane for each: 2 MiB every 5 ms is 400 MiB/s. */
const ROUND_TRIP_PER_LANE_MS = 5
/** More than this on its way in one round trip: less does not fill the window of a channel. */
const WINDOW_BOUND_BYTES = 640 << 10
/**
 * Waiting to be sent, on average, where the line is what holds the run back. Where a disk does, at either end, nothing
 * waits before the line but what comes in bursts, which was at most 490 KiB at 50 ms; a line had 1.1 to 2 MiB before it.
 */
const STANDING_BYTES = 768 << 10
/**
 * Not written yet: from here on it is the destination that is behind. In a push what is on its way counts too, and a line
 * that is slower than the disk leaves half of the window free; in a pull it is the four frames that are being written.
 */
const UNWRITTEN_BYTES = { push: (WINDOW_BYTES / 4) * 3, pull: WINDOW_BYTES / 4 } as const
/**
 * What one connection of TCP has under way at most, with the buffers that Linux gives it by default (4 MiB to send). A
 * bonded session that has as much is held back by no window; where the line stands still before that, by those of TCP.
 */
const TCP_WINDOW_BYTES = 4 << 20
/** A run that is over sooner is not worth new connections: each costs a second of processor time on both hosts. */
export const WORTHWHILE_MS = 3000
/** Processors of both hosts from which one ssh process, not the machine, is the limit of a fast link. */
const MANY_PROCESSORS = 8
/** What one ssh process encrypts on a slow processor. A lane that reaches it has no long link before it. */
const CIPHER_BOUND_BYTES_PER_SECOND = 200 << 20
const MANY_PROCESSORS_STREAMS = 4

export type LinkFacts = Readonly<{
  direction: 'push' | 'pull'
  /** Streams of the first session, each with a window of its own: more than 1 where it is bonded. */
  members: number
  /** The shortest that was seen. */
  roundTripMs: number
  /** Of a ping that has to wait behind the data: as it mostly is. Null where none came back yet. */
  loadedRoundTripMs: number | null
  /** Payload that was written, and in what time. */
  movedBytes: number
  elapsedMs: number
  /** Payload that the destination has not written yet: what is on its way to it, in a pull what has arrived. */
  unwrittenBytes: number
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
  const { roundTripMs, loadedRoundTripMs, movedBytes, elapsedMs, doneBytes, leftBytes } = facts
  const { direction, members, processors, bytesPerSecond, unwrittenBytes } = facts
  if (movedBytes === 0 || elapsedMs <= 0 || loadedRoundTripMs === null) return 1
  const rate = (movedBytes / elapsedMs) * 1000
  // A limit that is nearly reached is the limit.
  if (bytesPerSecond !== null && rate > bytesPerSecond * 0.8) return 1
  // As much will differ in what is left as did until here.
  const leftMs = (elapsedMs * leftBytes) / Math.max(doneBytes, 1)
  if (leftMs < WORTHWHILE_MS) return 1
  // The destination's disk is what is behind.
  if (unwrittenBytes > UNWRITTEN_BYTES[direction]) return 1
  // What came before a ping into the line, and had to go first: with none, more lines carry no more.
  if ((rate * (loadedRoundTripMs - roundTripMs)) / 1000 < STANDING_BYTES) return 1
  const underWayBytes = (rate * roundTripMs) / 1000
  const isHeldBack =
    underWayBytes >= WINDOW_BOUND_BYTES && (members === 1 || underWayBytes < TCP_WINDOW_BYTES)
  if (roundTripMs >= LONG_ROUND_TRIP_MS && isHeldBack)
    return Math.min(MAX_AUTO_STREAMS, Math.ceil(roundTripMs / ROUND_TRIP_PER_LANE_MS))
  if (processors >= MANY_PROCESSORS && rate >= CIPHER_BOUND_BYTES_PER_SECOND) return MANY_PROCESSORS_STREAMS
  return 1
}
