// The two waiting places: order, weight, and that everybody who waits is told of an end or a failure.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import { BoundedQueue, Window } from '../../src/wire/queue.js'
import { survivors, watch } from '../support/collector.js'

/** What a promise has come to once everything that is due has run. */
async function stateOf(promise: Promise<unknown>): Promise<string> {
  const state = promise.then(
    (value) => `resolved ${String(value)}`,
    (error: unknown) => `rejected ${error instanceof Error ? error.message : String(error)}`,
  )
  const due = new Promise<string>((resolve) => setImmediate(() => resolve('waiting')))
  return await Promise.race([state, due])
}

/** Takes items out in a function of its own, so that no variable here holds the last of them. */
async function discard(queue: BoundedQueue<object>, count: number): Promise<void> {
  for (let taken = 0; taken < count; taken += 1) await queue.shift()
}

describe('BoundedQueue', () => {
  it('gives out in order, also past the point where it tidies up', async () => {
    const queue = new BoundedQueue<number>(Number.MAX_SAFE_INTEGER)
    for (let item = 0; item < 5000; item += 1) queue.put(item)
    expect(queue.ready).toBe(5000)
    for (let item = 0; item < 5000; item += 1) {
      expect(await queue.shift()).toBe(item)
      if (item % 3 === 0) queue.put(5000 + item / 3)
    }
    for (let item = 5000; queue.ready > 0; item += 1) expect(await queue.shift()).toBe(item)
  })

  it('takes one item of any weight, then waits until there is room', async () => {
    const queue = new BoundedQueue<string>(10)
    await queue.push('heavy', 100)
    const second = queue.push('light', 1)
    expect(await stateOf(second)).toBe('waiting')
    expect(await queue.shift()).toBe('heavy')
    expect(await stateOf(second)).toBe('resolved undefined')
    expect(queue.ready).toBe(1)
  })

  it('waits at the limit and not below it', async () => {
    const queue = new BoundedQueue<number>(3)
    await queue.push(1)
    await queue.push(2)
    await queue.push(3)
    const fourth = queue.push(4)
    expect(await stateOf(fourth)).toBe('waiting')
    await queue.shift()
    await fourth
    expect([await queue.shift(), await queue.shift(), await queue.shift()]).toEqual([2, 3, 4])
  })

  it('hands an item to whoever waits for it', async () => {
    const queue = new BoundedQueue<string>(1)
    const waiting = queue.shift()
    expect(await stateOf(waiting)).toBe('waiting')
    await queue.push('now', 50)
    expect(await waiting).toBe('now')
    // It was never inside: the next one has room.
    expect(await stateOf(queue.push('next', 50))).toBe('resolved undefined')
  })

  it('knows the weight of what is inside', async () => {
    const queue = new BoundedQueue<string>(100)
    expect(queue.weight).toBe(0)
    await queue.push('a', 7)
    queue.put('b', 30)
    queue.put('c')
    expect([queue.weight, queue.ready]).toEqual([38, 3])
    await queue.shift()
    expect(queue.weight).toBe(31)
    await queue.shift()
    await queue.shift()
    expect(queue.weight).toBe(0)
    // What goes straight to whoever waits was never inside.
    const waiting = queue.shift()
    queue.put('d', 50)
    await waiting
    expect(queue.weight).toBe(0)
  })

  it('does not keep alive what it has given out', async () => {
    const queue = new BoundedQueue<object>(Number.MAX_SAFE_INTEGER)
    const names = ['first', 'second', 'third', 'last']
    const watched = names.map((name) => {
      const item = { name }
      queue.put(item)
      return watch(name, item)
    })
    expect(await survivors(watched)).toEqual(names)
    await discard(queue, 3)
    expect(await survivors(watched)).toEqual(['last'])
    expect(queue.ready).toBe(1)
  })

  it('ends after what is inside, and wakes whoever waits', async () => {
    const queue = new BoundedQueue<number>(10)
    queue.put(1)
    queue.end()
    expect(await queue.shift()).toBe(1)
    expect(await queue.shift()).toBeUndefined()
    const other = new BoundedQueue<number>(10)
    const waiting = other.shift()
    other.end()
    expect(await waiting).toBeUndefined()
  })

  it('fails whoever waits and whoever comes later, with the first error', async () => {
    const empty = new BoundedQueue<number>(1)
    const waiting = empty.shift()
    const full = new BoundedQueue<number>(1)
    await full.push(1)
    const pushing = full.push(2)
    for (const queue of [empty, full]) {
      queue.fail(new Error('first'))
      queue.fail(new Error('second'))
    }
    for (const promise of [waiting, pushing, empty.shift(), empty.push(3), full.shift(), full.push(4)]) {
      expect(await stateOf(promise)).toBe('rejected first')
    }
  })

  it('any mix of pushes and shifts keeps order and never holds more than the limit and one item', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 20 }),
        fc.array(fc.integer({ min: 0, max: 30 }), { maxLength: 60 }),
        fc.array(fc.boolean()),
        async (limit, weights, pauses) => {
          const queue = new BoundedQueue<number>(limit)
          let inside = 0
          const produce = async (): Promise<void> => {
            for (const [index, weight] of weights.entries()) {
              await queue.push(index, weight)
              inside += weight
              expect(inside - weight).toBeLessThan(limit + 31)
            }
            queue.end()
          }
          const consume = async (): Promise<number[]> => {
            const out: number[] = []
            for (let item = await queue.shift(); item !== undefined; item = await queue.shift()) {
              inside -= weights[item] ?? 0
              out.push(item)
              if (pauses[item % Math.max(1, pauses.length)] === true)
                await new Promise((resolve) => setImmediate(resolve))
            }
            return out
          }
          const [, out] = await Promise.all([produce(), consume()])
          expect(out).toEqual(weights.map((_, index) => index))
        },
      ),
      { seed: 20_250_104, numRuns: 60 },
    )
  })
})

describe('Window', () => {
  it('bounds frames', async () => {
    const window = new Window(2, 1000)
    await window.reserve(1)
    await window.reserve(0)
    const third = window.reserve(0)
    expect(await stateOf(third)).toBe('waiting')
    expect(window.taken).toEqual({ frames: 2, bytes: 1 })
    window.restore(1, 0)
    expect(await stateOf(third)).toBe('resolved undefined')
  })

  it('bounds bytes', async () => {
    const window = new Window(100, 10)
    await window.reserve(10)
    const second = window.reserve(1)
    expect(await stateOf(second)).toBe('waiting')
    window.restore(1, 0)
    expect(await stateOf(second)).toBe('waiting')
    window.restore(0, 1)
    expect(await stateOf(second)).toBe('resolved undefined')
  })

  it('serves in order: a small one does not overtake a large one that waits', async () => {
    const window = new Window(10, 10)
    await window.reserve(8)
    const order: string[] = []
    const large = window.reserve(5).then(() => order.push('large'))
    const small = window.reserve(1).then(() => order.push('small'))
    expect(await stateOf(small)).toBe('waiting')
    window.restore(1, 8)
    await Promise.all([large, small])
    expect(order).toEqual(['large', 'small'])
    expect(window.taken).toEqual({ frames: 2, bytes: 6 })
  })

  it('one restore lets in as many as fit', async () => {
    const window = new Window(3, 30)
    for (let index = 0; index < 3; index += 1) await window.reserve(10)
    const waiting = [window.reserve(5), window.reserve(5), window.reserve(25)]
    window.restore(3, 30)
    expect(await Promise.all(waiting.map(stateOf))).toEqual([
      'resolved undefined',
      'resolved undefined',
      'waiting',
    ])
  })

  it('fails whoever waits and whoever comes later, with the first error', async () => {
    const window = new Window(1, 1)
    await window.reserve(1)
    const waiting = [window.reserve(1), window.reserve(0)]
    window.fail(new Error('first'))
    window.fail(new Error('second'))
    for (const promise of [...waiting, window.reserve(0)])
      expect(await stateOf(promise)).toBe('rejected first')
  })
})
