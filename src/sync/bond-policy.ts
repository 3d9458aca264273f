// Whether a session goes over more streams than one: a round trip in, a number out.

import { MAX_MEMBERS } from '../bond/piece.js'
import { LONG_ROUND_TRIP_MS } from './lane-policy.js'

/** One stream for each: 2 MiB every 6 ms is 330 MiB/s, what one ssh process encrypts. */
const ROUND_TRIP_PER_MEMBER_MS = 6

/** Streams that fill a link of this round trip, the plain one included; 1 where that one does. */
export function membersFor(roundTripMs: number): number {
  if (!(roundTripMs >= LONG_ROUND_TRIP_MS)) return 1
  return Math.min(MAX_MEMBERS, Math.ceil(roundTripMs / ROUND_TRIP_PER_MEMBER_MS))
}
