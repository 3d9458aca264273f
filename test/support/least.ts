// Times that are judged: other work on the machine makes one longer, never shorter, so the least of a few is what is meant.

/** More than once only where other work came in between; what is slow by itself is slow each time. */
const MOST_TRIES = 3

/** The least time of up to three; the first one below `enoughMs` ends it. `measure` gives a time in milliseconds. */
export async function leastMs(measure: () => Promise<number>, enoughMs: number): Promise<number> {
  let least = Infinity
  for (let tries = 0; tries < MOST_TRIES && least >= enoughMs; tries += 1)
    least = Math.min(least, await measure())
  return least
}
