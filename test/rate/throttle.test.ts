// The throttle by a clock of the test's own: how near to the rate it keeps, in what order it lets go, and that a new rate
// is noticed by those who wait.

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { Throttle } from '../../src/rate/throttle.js'
import { TestClock } from '../support/test-clock.js'

const KIB = 1024
const MIB = 1024 * KIB
const never = new AbortController().signal

/** Takes `chunkBytes` again and again until it is stopped; counts what it was given. */
class Taker {
  takenBytes = 0
  readonly #stop = new AbortController()
  readonly #running: Promise<void>

  constructor(throttle: Throttle, chunkBytes: number) {
    this.#running = this.#run(throttle, chunkBytes)
  }

  async #run(throttle: Throttle, chunkBytes: number): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await throttle.take(chunkBytes, this.#stop.signal)
      this.takenBytes += chunkBytes
    }
  }

  async stop(): Promise<void> {
    const reason = new SyncError('interrupt/sigint', 'enough')
    this.#stop.abort(reason)
    await this.#running.catch((thrown: unknown) => {
      if (thrown !== reason) throw thrown
    })
  }
}

/** What the takers get within `durationMs`, in bytes each. */
async function taken(
  clock: TestClock,
  takers: readonly Taker[],
  durationMs: number,
  lateMs = 0,
): Promise<number[]> {
  const before = takers.map(({ takenBytes }) => takenBytes)
  await clock.advance(durationMs, lateMs)
  return takers.map(({ takenBytes }, index) => takenBytes - (before[index] ?? 0))
}

/** What has become of a take: `waits`, `given`, or the message it was refused with. */
function watch(take: Promise<void>): { state: string } {
  const watched = { state: 'waits' }
  take.then(
    () => (watched.state = 'given'),
    (error: Error) => (watched.state = error.message),
  )
  return watched
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)

describe('within 5 % over ten seconds', () => {
  const rates: [string, number][] = [
    ['64 KiB/s', 64 * KIB],
    ['1 MiB/s', MIB],
    ['20 MiB/s', 20 * MIB],
    ['500 MiB/s', 500 * MIB],
  ]
  const rows = rates.flatMap(([name, rate]) =>
    [4 * KIB, 64 * KIB, MIB].flatMap((chunk) => [0, 3].map((lateMs) => [name, rate, chunk, lateMs] as const)),
  )
  it.each(rows)('%s (%d), pieces of %d, timers %d ms late', async (_name, rate, chunk, lateMs) => {
    // four thousand takes an instant are enough work for a test
    const durationMs = rate / chunk > 20_000 ? 2000 : 10_000
    const clock = new TestClock()
    const taker = new Taker(new Throttle(rate, clock), chunk)
    const [bytes = 0] = await taken(clock, [taker], durationMs, lateMs)
    await taker.stop()
    const asked = (rate * durationMs) / 1000
    // never more; less only by what is not a whole piece yet
    expect(bytes).toBeLessThanOrEqual(asked * 1.001)
    expect(bytes).toBeGreaterThanOrEqual(Math.min(asked * 0.95, asked - chunk - (rate * lateMs) / 1000))
    // it sleeps: at most one timer a piece, and no more than one a millisecond
    expect(clock.timersSet).toBeLessThanOrEqual(Math.min(durationMs, bytes / chunk) + 2)
  })

  it('keeps the rate where the sender is held up now and then, and does not make up for a long rest', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(MIB, clock)
    let givenBytes = 0
    // 100 ms behind every piece it does something else
    const sending = (async (): Promise<void> => {
      while (givenBytes < 10 * MIB) {
        await throttle.take(128 * KIB, never)
        givenBytes += 128 * KIB
        await new Promise<void>((resolve) => clock.setTimer(resolve, 100))
      }
    })()
    await clock.advance(9000)
    expect(givenBytes / (9 * MIB)).toBeGreaterThan(0.95)
    expect(givenBytes).toBeLessThanOrEqual(9 * MIB)
    await clock.advance(1200)
    await sending

    await clock.advance(3_600_000)
    const taker = new Taker(throttle, 4 * KIB)
    const [atOnce = 0] = await taken(clock, [taker], 0)
    expect(atOnce).toBeLessThanOrEqual(MIB / 4)
    await taker.stop()
  })

  it('is even where frames are as large as it says', async () => {
    for (const rate of [10, 64 * KIB, MIB, 20 * MIB]) {
      const clock = new TestClock()
      const throttle = new Throttle(rate, clock)
      expect(throttle.grainBytes).toBeGreaterThanOrEqual(4096)
      expect(throttle.grainBytes).toBeLessThanOrEqual(Math.max(4096, rate / 10))
    }
    expect(new Throttle(null).grainBytes).toBe(Infinity)
  })
})

describe('several takers', () => {
  it('share the rate evenly, and keep it together', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(8 * MIB, clock)
    const takers = Array.from({ length: 8 }, () => new Taker(throttle, 64 * KIB))
    const each = await taken(clock, takers, 10_000)
    expect(sum(each) / (80 * MIB)).toBeGreaterThan(0.98)
    expect(sum(each)).toBeLessThanOrEqual(80 * MIB)
    expect(Math.max(...each) - Math.min(...each)).toBeLessThanOrEqual(64 * KIB)
    for (const taker of takers) await taker.stop()
  })

  it('are let go in the order of asking, a small one behind a large one too', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(1000, clock)
    const order: string[] = []
    const takes = [
      throttle.take(2000, never).then(() => order.push('large')),
      throttle.take(1, never).then(() => order.push('small')),
      throttle.take(500, never).then(() => order.push('middle')),
    ]
    await clock.advance(1999)
    expect(order).toEqual([])
    await clock.advance(1)
    expect(order).toEqual(['large'])
    await clock.advance(1)
    expect(order).toEqual(['large', 'small'])
    await clock.advance(500)
    await Promise.all(takes)
    expect(order).toEqual(['large', 'small', 'middle'])
    expect(clock.waiting).toBe(0)
  })
})

describe('a new rate while takers wait', () => {
  it('from a byte a second to no limit lets all go at once', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(1, clock)
    const takes = [throttle.take(MIB, never), throttle.take(MIB, never)]
    await clock.advance(1000)
    throttle.setRate(null)
    await Promise.all(takes)
    await throttle.take(1e12, never)
    expect([throttle.bytesPerSecond, clock.waiting]).toEqual([null, 0])
  })

  it('from no limit to 1 K holds the next one, without credit for the time before', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(null, clock)
    await throttle.take(1e9, never)
    await clock.advance(100_000)
    throttle.setRate(1024)
    const taker = new Taker(throttle, 1024)
    expect(await taken(clock, [taker], 999)).toEqual([0])
    expect(await taken(clock, [taker], 10_000)).toEqual([10 * 1024])
    await taker.stop()
  })

  it('to another one keeps what was earned until then', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(1000, clock)
    const taking = watch(throttle.take(10_000, never))
    await clock.advance(4000)
    // 6000 are left: at 100 a second they take a minute, at 6000 a second one more second
    throttle.setRate(100)
    await clock.advance(10_000)
    throttle.setRate(5000)
    await clock.advance(999)
    expect(taking.state).toBe('waits')
    await clock.advance(1)
    expect(taking.state).toBe('given')
  })

  it('is noticed by a sender that never stops', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(MIB, clock)
    const takers = [new Taker(throttle, 16 * KIB), new Taker(throttle, 16 * KIB)]
    for (const rate of [MIB, 4 * MIB, 64 * KIB, 20 * MIB]) {
      throttle.setRate(rate)
      const bytes = sum(await taken(clock, takers, 10_000))
      expect([rate, Math.abs(bytes / (rate * 10) - 1) < 0.05]).toEqual([rate, true])
    }
    for (const taker of takers) await taker.stop()
  })

  it('refuses what is no rate', () => {
    const throttle = new Throttle(1)
    for (const rate of [0, -1, NaN, Infinity]) {
      expect(() => throttle.setRate(rate)).toThrow(RangeError)
      expect(() => new Throttle(rate)).toThrow(RangeError)
    }
  })
})

describe('giving up', () => {
  it('has the reason of the signal, and gives what it had to the next', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(1000, clock)
    const [first, second] = [new AbortController(), new AbortController()]
    const given = [throttle.take(10_000, first.signal), throttle.take(10_000, second.signal)].map(watch)
    const taking = watch(throttle.take(2000, never))
    await clock.advance(500)
    second.abort(new Error('second'))
    first.abort(new Error('first'))
    await clock.advance(0)
    expect(given.map(({ state }) => state)).toEqual(['first', 'second'])
    // what a rest may pile up: 200 bytes
    await clock.advance(1799)
    expect(taking.state).toBe('waits')
    await clock.advance(1)
    expect([taking.state, clock.waiting]).toEqual(['given', 0])
  })

  it('leaves no timer, and takes nothing for a signal that was aborted before', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(1, clock)
    const abort = new AbortController()
    const taking = watch(throttle.take(5, abort.signal))
    abort.abort(new Error('enough'))
    await clock.advance(0)
    expect(taking.state).toBe('enough')
    await expect(throttle.take(1e9, abort.signal)).rejects.toThrow('enough')
    expect(clock.waiting).toBe(0)
  })

  it('waits for longer than a timer can', async () => {
    const clock = new TestClock()
    const throttle = new Throttle(1, clock)
    const taking = watch(throttle.take(3e6, never))
    expect(clock.longestDelayMs).toBe(2 ** 31 - 1)
    await clock.advance(3e9 - 1)
    expect([taking.state, clock.timersSet]).toEqual(['waits', 2])
    // a rounding error may cost a millisecond
    await clock.advance(2)
    expect(taking.state).toBe('given')
  })
})
