// How a channel ends: the stream ends or breaks at any byte, either side fails, and who waits is told why.

import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { encodeMark } from '../../src/wire/bodies.js'
import { Channel, WINDOW_FRAMES } from '../../src/wire/channel.js'
import { encodeError } from '../../src/wire/control.js'
import { FRAME } from '../../src/wire/frame.js'
import { expectRejected } from './expect.js'
import { channelPair, frameBytes, isSettled, lonelyChannel, settled } from './pair.js'

describe('the end', () => {
  it('hands out what came before it, then says that the far end is gone', async () => {
    const { channel, input } = lonelyChannel()
    for (let block = 0; block < 3; block += 1) input.write(frameBytes(FRAME.mark, encodeMark(block)))
    input.end()
    await settled()
    for (let block = 0; block < 3; block += 1)
      expect((await channel.receive()).body.equals(encodeMark(block))).toBe(true)
    const error = await expectRejected('session/lost', channel.receive())
    expect(error.message).not.toContain('middle of a frame')
    expect(error.hint).not.toBeNull()
    await expectRejected('session/lost', channel.receive())
  })

  it('inside a frame is said, at every cut', async () => {
    const bytes = frameBytes(FRAME.mark, encodeMark(7))
    for (let cut = 1; cut < bytes.length; cut += 1) {
      const { channel, input } = lonelyChannel()
      input.end(bytes.subarray(0, cut))
      expect((await expectRejected('session/lost', channel.receive())).message).toContain('middle of a frame')
    }
  })

  it('wakes whoever waits to receive or for credit, and whoever comes later', async () => {
    const { channel, input } = lonelyChannel()
    for (let sent = 0; sent < WINDOW_FRAMES; sent += 1)
      await channel.send(FRAME.digests, 0, [Buffer.alloc(8)])
    const waiting = [channel.receive(), channel.send(FRAME.digests, 0, [Buffer.alloc(8)])]
    expect(await isSettled(Promise.race(waiting))).toBe(false)
    input.end()
    for (const promise of waiting) await expectRejected('session/lost', promise)
    await expectRejected('session/lost', channel.send(FRAME.digests, 0, [Buffer.alloc(8)]))
    await expectRejected('session/lost', channel.send(FRAME.mark, 0, [encodeMark(1)]))
  })

  it('of a stream that is destroyed, or had ended before, is the same', async () => {
    const { channel, input } = lonelyChannel()
    input.destroy(new Error('cable cut'))
    await expectRejected('session/lost', channel.receive())
    const ended = new PassThrough()
    ended.resume().end()
    await settled()
    await expectRejected('session/lost', new Channel(ended, new PassThrough(), Buffer.alloc(0)).receive())
  })

  it('of the output shows as a failure, and the rest of what is sent is rejected', async () => {
    const { channel, output } = lonelyChannel()
    const { left } = await channel.send(FRAME.data, 0, [Buffer.alloc(200_000)])
    output.destroy(new Error('EPIPE'))
    await expectRejected('session/lost', left)
    await expectRejected('session/lost', channel.receive())
    await expectRejected('session/lost', channel.send(FRAME.data, 0, [Buffer.alloc(1)]))
    // A post after a failure goes nowhere and throws nothing.
    const before = channel.wireBytesSent
    channel.post(FRAME.mark, 0, encodeMark(1))
    channel.postError(new SyncError('internal', 'too late'))
    expect(channel.wireBytesSent).toBe(before)
  })

  it('after `end` nothing more is sent', async () => {
    const { channel, output } = lonelyChannel()
    channel.post(FRAME.bye, 0)
    channel.end()
    channel.end()
    channel.post(FRAME.mark, 0, encodeMark(1))
    const chunks = (await output.toArray()) as Buffer[]
    expect(Buffer.concat(chunks).equals(frameBytes(FRAME.bye))).toBe(true)
  })
})

describe('an error', () => {
  it('of the far end reaches whoever receives or sends, and is kept in preference', async () => {
    const { near, far, toNear } = channelPair()
    const receiving = near.receive()
    far.postError(
      new SyncError('destination/no-space', '/images/web.img: no space left', { operand: '/images/web.img' }),
    )
    const error = await expectRejected('destination/no-space', receiving)
    expect([error.operand, near.peerError, near.failure]).toEqual(['/images/web.img', error, error])
    await expectRejected('destination/no-space', near.send(FRAME.data, 0, [Buffer.alloc(1)]))
    await settled()
    expect(near.failure?.code).toBe('destination/no-space')
    // `postError` also ended the stream.
    const before = far.wireBytesSent
    far.post(FRAME.mark, 0, encodeMark(1))
    expect([far.wireBytesSent, toNear.writableEnded]).toEqual([before, true])
  })

  it('that comes after our own failure is still heard', async () => {
    const { channel, input, output } = lonelyChannel()
    output.destroy(new Error('EPIPE'))
    await expectRejected('session/lost', channel.receive())
    input.pause()
    channel.drain()
    input.write(frameBytes(FRAME.error, encodeError(new SyncError('destination/flush', 'the flush failed'))))
    await settled()
    expect(channel.peerError?.code).toBe('destination/flush')
    expect(channel.failure?.code).toBe('destination/flush')
  })

  it('of this end fails everybody who waits; the first one counts', async () => {
    const { channel } = lonelyChannel()
    const receiving = channel.receive()
    channel.fail(new SyncError('interrupt/sigint', 'interrupted'))
    channel.fail(new SyncError('internal', 'later'))
    await expectRejected('interrupt/sigint', receiving)
    await expectRejected('interrupt/sigint', channel.send(FRAME.data, 0, []))
    await expectRejected('interrupt/sigint', channel.receive())
  })

  it('in the bytes of the far end ends the session, and what comes after it is not looked at', async () => {
    const { channel, input } = lonelyChannel()
    input.write(Buffer.from('ffffffffffffffff', 'hex'))
    await expectRejected('session/protocol', channel.receive())
    input.write(frameBytes(FRAME.mark, encodeMark(1)))
    input.end()
    await settled()
    await expectRejected('session/protocol', channel.receive())
  })

  it('frame that cannot be read is a protocol error', async () => {
    const { channel, input } = lonelyChannel()
    input.write(frameBytes(FRAME.error, Buffer.from('{')))
    await expectRejected('session/protocol', channel.receive())
  })
})
