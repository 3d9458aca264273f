// How many threads read and digest: libuv's pool, which is 4 unless its environment variable says otherwise.

/** What libuv starts by itself; fewer would only take away. */
const LEAST_THREADS = 4
/** Reads that wait for a disk occupy a thread and no processor: so many more than there are processors. */
const WAITING_THREADS = 4
/** Beyond this, more reads at once make no disk faster; each holds its scratch memory. */
const MOST_THREADS = 16

/** The value of UV_THREADPOOL_SIZE for a machine with so many processors. */
export function threadPoolSize(processors: number): string {
  return String(Math.min(Math.max(processors + WAITING_THREADS, LEAST_THREADS), MOST_THREADS))
}
