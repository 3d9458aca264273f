// A channel over streams in memory: order, credit, pings, a slow receiver, and the count of bytes. How it ends: channel-failures.test.ts.

import { describe, expect, it, vi } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { encodeCredit, encodeMark } from '../../src/wire/bodies.js'
import { MAX_WAITING_PONGS, WINDOW_BYTES, WINDOW_FRAMES } from '../../src/wire/channel.js'
import { encodeControl } from '../../src/wire/control.js'
import type { Frame } from '../../src/wire/frame.js'
import { FRAME, HEADER_BYTES, MAX_FRAME_BYTES } from '../../src/wire/frame.js'
import { expectRejected } from './expect.js'
import { channelPair, frameBytes, isSettled, lonelyChannel, settled } from './pair.js'
import { twinFrames } from './twin.js'

describe('frames', () => {
  it('arrive whole and in order, credited or not, and every byte is counted at both ends', async () => {
    const { near, far, toFar } = channelPair()
    const sizes = [0, 1, 70_000, 100, 1_000_000]
    let bytes = 0
    for (const [disk, size] of sizes.entries()) {
      const body = Buffer.alloc(size, disk + 1)
      await near.send(FRAME.data, disk, [body.subarray(0, size >> 1), body.subarray(size >> 1)])
      near.post(FRAME.mark, disk, encodeMark(disk))
      bytes += HEADER_BYTES + size + HEADER_BYTES + 8
      const data = await far.receive()
      expect([data.type, data.disk, data.body.equals(body)]).toEqual([FRAME.data, disk, true])
      far.release(data)
      const mark = await far.expect(FRAME.mark)
      expect(mark.body.equals(encodeMark(disk))).toBe(true)
      far.release(mark)
    }
    await settled()
    expect([near.wireBytesSent, far.wireBytesReceived]).toEqual([bytes, bytes])
    expect(far.wireBytesSent).toBe(near.wireBytesReceived)
    expect(near.wireBytesReceived).toBe(sizes.length * (HEADER_BYTES + 8))
    expect(toFar.readableLength).toBe(0)
  })

  it('that were read behind the banner come first', async () => {
    const { channel, input } = lonelyChannel(
      Buffer.concat([
        frameBytes(FRAME.open, encodeControl({})),
        frameBytes(FRAME.mark, encodeMark(1)).subarray(0, 3),
      ]),
    )
    input.write(frameBytes(FRAME.mark, encodeMark(1)).subarray(3))
    expect((await channel.receive()).type).toBe(FRAME.open)
    expect((await channel.receive()).type).toBe(FRAME.mark)
    expect(channel.wireBytesReceived).toBe(HEADER_BYTES + 2 + HEADER_BYTES + 8)
  })

  it('of another type than was due are a protocol error that names both', async () => {
    const { channel, input } = lonelyChannel()
    input.write(frameBytes(FRAME.mark, encodeMark(1)))
    const error = await expectRejected('session/protocol', channel.expect(FRAME.opened))
    expect(error.message).toContain('mark frame where opened was due')
  })

  it('a part may be reused when its bytes have left, and not before', async () => {
    const { channel, output } = lonelyChannel()
    const { left } = await channel.send(FRAME.data, 0, [Buffer.alloc(200_000)])
    expect(await isSettled(left)).toBe(false)
    output.resume()
    await left
    expect(channel.backlogBytes).toBe(0)
  })
})

describe('credit', () => {
  it('blocks at the window of frames, resumes when it comes back, and says in order what was dealt with', async () => {
    const { near, far } = channelPair()
    const returned: number[] = []
    near.onCredit = (frames) => returned.push(frames)
    for (let sent = 0; sent < WINDOW_FRAMES; sent += 1) await near.send(FRAME.digests, 0, [Buffer.alloc(8)])
    const more = near.send(FRAME.digests, 0, [Buffer.alloc(8)])
    expect(await isSettled(more)).toBe(false)
    // Frames that need none pass meanwhile.
    near.post(FRAME.mark, 0, encodeMark(1))
    const step = WINDOW_FRAMES / 8
    for (let count = 0; count < step; count += 1) {
      expect(returned).toEqual([])
      far.release(await far.expect(FRAME.digests))
    }
    expect(await isSettled(more)).toBe(true)
    expect(returned).toEqual([step])
    for (let count = step; count < WINDOW_FRAMES; count += 1) far.release(await far.expect(FRAME.digests))
    far.release(await far.expect(FRAME.mark))
    far.release(await far.expect(FRAME.digests))
    await settled()
    expect(returned.reduce((sum, frames) => sum + frames, 0)).toBe(WINDOW_FRAMES + 1)
  })

  it('blocks at the window of bytes', async () => {
    const { near, far } = channelPair()
    const body = Buffer.alloc(1 << 20)
    const fitting = Math.floor(WINDOW_BYTES / (HEADER_BYTES + body.length))
    for (let sent = 0; sent < fitting; sent += 1) await near.send(FRAME.data, 0, [body])
    const more = near.send(FRAME.data, 0, [body])
    const frames: Frame[] = []
    for (let count = 0; count < fitting; count += 1) frames.push(await far.receive())
    expect(await isSettled(more)).toBe(false)
    // An eighth of the window goes back at once, less waits.
    for (const frame of frames.splice(0, 2)) far.release(frame)
    expect(await isSettled(more)).toBe(true)
  })

  it('goes back at once when nothing else is outstanding', async () => {
    const { near, far } = channelPair()
    const returned: number[] = []
    near.onCredit = (frames) => returned.push(frames)
    await near.send(FRAME.data, 0, [Buffer.alloc(8)])
    await near.send(FRAME.data, 0, [Buffer.alloc(8)])
    const first = await far.receive()
    const second = await far.receive()
    far.release(first)
    await settled()
    expect(returned).toEqual([])
    far.release(second)
    await settled()
    expect(returned).toEqual([2])
  })

  it('more frames in flight than the window are refused', async () => {
    const { channel, input } = lonelyChannel()
    const frame = frameBytes(FRAME.digests, Buffer.alloc(8))
    for (let sent = 0; sent < WINDOW_FRAMES; sent += 1) input.write(frame)
    await settled()
    expect(channel.failure).toBeNull()
    input.write(frame)
    await settled()
    expect(channel.failure?.code).toBe('session/protocol')
    await expectRejected('session/protocol', channel.receive())
  })

  it('more bytes in flight than the window are refused', async () => {
    const { channel, input } = lonelyChannel()
    const frame = frameBytes(FRAME.data, Buffer.alloc(MAX_FRAME_BYTES - HEADER_BYTES))
    const fitting = Math.floor(WINDOW_BYTES / frame.length)
    for (let sent = 0; sent < fitting; sent += 1) input.write(frame)
    await settled()
    expect(channel.failure).toBeNull()
    input.write(frame)
    await settled()
    expect(channel.failure?.code).toBe('session/protocol')
  })

  it('for more than was sent is refused: it would lift the bound', async () => {
    for (const [frames, bytes] of [
      [2, 0],
      [0, HEADER_BYTES + 9],
      [0xffffffff, 0xffffffff],
    ] as const) {
      const { channel, input } = lonelyChannel()
      await channel.send(FRAME.data, 0, [Buffer.alloc(8)])
      input.write(frameBytes(FRAME.credit, encodeCredit(frames, bytes)))
      await expectRejected('session/protocol', channel.receive())
    }
    const { channel, input } = lonelyChannel()
    await channel.send(FRAME.data, 0, [Buffer.alloc(8)])
    input.write(frameBytes(FRAME.credit, encodeCredit(1, HEADER_BYTES + 8)))
    await settled()
    expect(channel.failure).toBeNull()
  })
})

describe('ping', () => {
  it('is answered with the same bytes without anybody receiving', async () => {
    const { channel, input, output } = lonelyChannel()
    for (const hex of ['0123456789abcdef', '']) {
      const body = Buffer.from(hex, 'hex')
      input.write(frameBytes(FRAME.ping, body))
      await settled()
      const answer = output.read() as Buffer
      expect(answer.equals(frameBytes(FRAME.pong, body))).toBe(true)
    }
    expect(channel.failure).toBeNull()
  })

  it('crosses and comes back as a pong', async () => {
    const { near } = channelPair()
    const answer = new Promise<Frame>((resolve) => {
      near.onAside = resolve
    })
    near.post(FRAME.ping, 0, Buffer.alloc(8, 7))
    const { type, body } = await answer
    expect([type, body.equals(Buffer.alloc(8, 7))]).toEqual([FRAME.pong, true])
  })

  it('without end from a side that does not read is refused before it fills the memory', async () => {
    const { channel, input } = lonelyChannel()
    const ping = frameBytes(FRAME.ping, Buffer.alloc(8))
    // What the stream behind the channel takes in without a reader is not waiting in the channel.
    for (let sent = 0; sent < 32; sent += 1) {
      input.write(Buffer.concat(Array.from({ length: MAX_WAITING_PONGS }, () => ping)))
      await settled()
    }
    expect(channel.failure?.code).toBe('session/protocol')
    expect(channel.backlogBytes).toBeLessThanOrEqual((MAX_WAITING_PONGS + 1) * ping.length)
  })
})

describe('a receiver that is slow', () => {
  it('pauses the stream and loses nothing', async () => {
    const { channel, input } = lonelyChannel()
    const count = 20_000
    const bytes = Buffer.concat(
      Array.from({ length: count }, (_, block) => frameBytes(FRAME.mark, encodeMark(block))),
    )
    let paused = false
    for (let at = 0; at < bytes.length; at += 4096) input.write(bytes.subarray(at, at + 4096))
    await settled()
    paused = input.isPaused()
    expect(paused).toBe(true)
    expect(input.readableLength + input.writableLength).toBeGreaterThan(bytes.length / 2)
    let inOrder = 0
    for (let block = 0; block < count; block += 1) {
      const frame = await channel.receive()
      if (frame.body.readBigUInt64BE(0) === BigInt(block)) inOrder += 1
    }
    expect(inOrder).toBe(count)
    expect(input.isPaused()).toBe(false)
  })
})

describe('a receiver that takes nothing', () => {
  it('is sent no more than a bounded number of bytes, also in few large frames without credit', async () => {
    const { channel, input } = lonelyChannel()
    const frame = frameBytes(FRAME.detail, Buffer.alloc(1 << 20))
    const count = 40
    for (let sent = 0; sent < count; sent += 1) input.write(frame)
    await settled()
    expect(input.isPaused()).toBe(true)
    expect(channel.wireBytesReceived).toBeGreaterThan(WINDOW_BYTES / 2)
    expect(channel.wireBytesReceived).toBeLessThanOrEqual(WINDOW_BYTES + 2 * frame.length)
    // Half of it has to go before more comes.
    const before = channel.wireBytesReceived
    channel.release(await channel.receive())
    await settled()
    expect(channel.wireBytesReceived).toBe(before)
    for (let received = 1; received < count; received += 1) {
      const next = await channel.expect(FRAME.detail)
      channel.release(next)
      expect(channel.wireBytesReceived).toBeLessThanOrEqual(
        received * frame.length + WINDOW_BYTES + 3 * frame.length,
      )
    }
    expect(channel.wireBytesReceived).toBe(count * frame.length)
    expect(input.isPaused()).toBe(false)
  })
})

describe('what is sent', () => {
  it('in many small parts is one write, large parts are not copied', async () => {
    const { channel, output } = lonelyChannel()
    output.resume()
    const write = vi.spyOn(output, 'write')
    const small = Array.from({ length: 1000 }, (_, index) => Buffer.alloc(100, index))
    const large = Buffer.alloc(32 << 10, 9)
    await (
      await channel.send(FRAME.data, 0, small)
    ).left
    expect(write.mock.calls.map(([part]) => (part as Buffer).length)).toEqual([HEADER_BYTES + 100_000])
    write.mockClear()
    await (
      await channel.send(FRAME.data, 0, [...small, large, ...small])
    ).left
    const parts = write.mock.calls.map(([part]) => part as Buffer)
    expect(parts.map(({ length }) => length)).toEqual([HEADER_BYTES + 100_000, large.length, 100_000])
    expect(parts[1]).toBe(large)
    expect(Buffer.concat([parts[0]?.subarray(HEADER_BYTES) ?? large, large, parts[2] ?? large])).toEqual(
      Buffer.concat([...small, large, ...small]),
    )
    write.mockClear()
    channel.post(FRAME.detail, 0, ...small)
    expect(write).toHaveBeenCalledTimes(1)
  })

  it('is what the twin reads', async () => {
    const { channel, output } = lonelyChannel()
    await channel.send(FRAME.data, 3, [Buffer.from([1, 2]), Buffer.alloc(0), Buffer.from([3])])
    channel.post(FRAME.mark, 4, encodeMark(5))
    channel.postError(new SyncError('internal', 'x'))
    const bytes = Buffer.concat((await output.toArray()) as Buffer[])
    expect(twinFrames(bytes).map(({ type, disk }) => [type, disk])).toEqual([
      [FRAME.data, 3],
      [FRAME.mark, 4],
      [FRAME.error, 0],
    ])
    expect(twinFrames(bytes)[0]?.body).toEqual([1, 2, 3])
    expect(channel.wireBytesSent).toBe(bytes.length)
  })
})
