// A channel that hears nothing: it asks, it waits, it gives up; and what must not be taken for silence.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

import type { SyncError } from '../../src/errors.js'
import { Keepalive, type Line, PING_EVERY_MS } from '../../src/wire/keepalive.js'
import { FRAME } from '../../src/wire/frame.js'
import { channelPair, frameBytes, lonelyChannel, settled } from './pair.js'

type Fake = Line & { received: number; sent: number; deaf: boolean; pings: Buffer[]; failures: SyncError[] }

function fakeLine(): Fake {
  const fake: Fake = {
    received: 0,
    sent: 0,
    deaf: false,
    pings: [],
    failures: [],
    receivedBytes: () => fake.received,
    sentBytes: () => fake.sent,
    isDeaf: () => fake.deaf,
    ping: (body) => {
      fake.pings.push(body)
      fake.sent += 16
    },
    fail: (error) => fake.failures.push(error),
  }
  return fake
}

describe('the watch', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('asks while nothing comes, and gives up after the time-out, once', () => {
    const line = fakeLine()
    const watch = new Keepalive(line, 60_000, 'host2')
    vi.advanceTimersByTime(PING_EVERY_MS)
    expect(line.pings).toHaveLength(1)
    vi.advanceTimersByTime(60_000 - 2 * PING_EVERY_MS)
    expect([line.failures, watch.isLost]).toEqual([[], false])
    vi.advanceTimersByTime(600_000)
    expect(line.failures.map(({ code, message, isRetriable }) => [code, message, isRetriable])).toEqual([
      ['session/lost', 'nothing was heard of host2 for 60 s', true],
    ])
    expect(watch.isLost).toBe(true)
  })

  it('any byte is a sign of life, and an answer makes room for the next question', () => {
    const line = fakeLine()
    using watch = new Keepalive(line, 1000, 'host2')
    for (let look = 0; look < 100; look += 1) {
      line.received += 1
      vi.advanceTimersByTime(250)
      watch.takes(line.pings.at(-1) ?? Buffer.alloc(0))
    }
    expect(line.failures).toEqual([])
    // a side that hears and says nothing itself still lets the other one hear that it is there
    expect(line.pings.length).toBeGreaterThan(40)
  })

  it('says nothing where there is enough on the line, both ways', () => {
    const line = fakeLine()
    using _watch = new Keepalive(line, 1000, 'host2')
    for (let look = 0; look < 100; look += 1) {
      line.received += 1
      line.sent += 1
      vi.advanceTimersByTime(250)
    }
    expect(line.pings).toEqual([])
  })

  it('while this side does not read, silence is its own; it still says that it is there', () => {
    const line = fakeLine()
    using _watch = new Keepalive(line, 1000, 'host2')
    line.deaf = true
    vi.advanceTimersByTime(60_000)
    expect(line.failures).toEqual([])
    expect(line.pings.length).toBeGreaterThan(0)
    line.deaf = false
    vi.advanceTimersByTime(1000)
    expect(line.failures).toHaveLength(1)
  })

  it('questions do not pile up, and an answer that nobody asked for is not taken', () => {
    const line = fakeLine()
    using watch = new Keepalive(line, 0, 'host2')
    expect(watch.takes(Buffer.from('keep-up\n'))).toBe(false)
    vi.advanceTimersByTime(100 * PING_EVERY_MS)
    expect(line.failures).toEqual([]) // 0 is for ever
    expect(line.pings).toHaveLength(4)
    expect(watch.takes(Buffer.alloc(8))).toBe(false)
    expect(line.pings.map((body) => watch.takes(body))).toEqual([true, true, true, true])
    expect(watch.takes(line.pings[0] ?? Buffer.alloc(0))).toBe(false)
  })
})

describe('a process that could not hear', () => {
  it('does not count the time that it was kept from listening', async () => {
    const line = fakeLine()
    using _watch = new Keepalive(line, 1000, 'host2')
    // as when it was stopped for longer than the time-out
    const untilMs = performance.now() + 1500
    while (performance.now() < untilMs);
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(line.failures).toEqual([])
  })
})

describe('a channel', () => {
  it('with a live other side stays, whoever of the two watches', async () => {
    const { near, far } = channelPair()
    near.keepAlive(1000, 'far')
    await new Promise((resolve) => setTimeout(resolve, 1800))
    expect([near.failure, far.failure, near.isSilent]).toEqual([null, null, false])
    expect(far.wireBytesReceived).toBeGreaterThan(0)
    near.end()
    far.end()
    await settled()
  })

  it('with a silent one fails everybody who waits, and keeps the answers of others apart', async () => {
    const { channel, input, output } = lonelyChannel()
    const asides: number[] = []
    channel.onAside = ({ type }) => asides.push(type)
    channel.keepAlive(1000, 'host2')
    const waiting = channel.receive()
    waiting.catch(() => undefined)
    output.resume()
    await new Promise((resolve) => setTimeout(resolve, 300))
    input.write(frameBytes(FRAME.pong, Buffer.alloc(8))) // of a ping of the session
    input.write(frameBytes(FRAME.pong, Buffer.from('keep-up\n')))
    await settled()
    expect(asides).toEqual([FRAME.pong])
    await expect(waiting).rejects.toMatchObject({ code: 'session/lost', operand: 'host2' })
    expect(channel.isSilent).toBe(true)
  })

  it('that ended is not watched any more', async () => {
    const { channel, input } = lonelyChannel()
    channel.keepAlive(1000, 'host2')
    input.end()
    await settled()
    expect(channel.failure?.message).toContain('ended before')
    await new Promise((resolve) => setTimeout(resolve, 1300))
    expect(channel.isSilent).toBe(false)
  })
})
