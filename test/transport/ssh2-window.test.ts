// The receive window of an ssh2 channel, by its numbers: opened once, given back as bytes are read, and left alone where
// the library is another. That a real far end makes use of it is in conformance.test.ts.
import { Readable } from 'node:stream'

import type { ClientChannel } from 'ssh2'
import { describe, expect, it } from 'vitest'

import { RECEIVE_WINDOW_BYTES, widenWindow } from '../../src/transport/ssh2-window.js'

const LIBRARY_BYTES = 2 << 20
const MIB = 1 << 20

type Fake = {
  incoming: { window: number }
  outgoing: { id: number; state: string }
  readableLength: number
  _client: { _protocol: { channelWindowAdjust: (id: number, bytes: number) => void } }
}

function fakeChannel(): { fake: Fake; channel: ClientChannel; sent: number[] } {
  const sent: number[] = []
  const fake: Fake = {
    incoming: { window: LIBRARY_BYTES },
    outgoing: { id: 7, state: 'open' },
    readableLength: 0,
    _client: {
      _protocol: {
        channelWindowAdjust: (id, bytes) => {
          expect(id).toBe(7)
          sent.push(bytes)
        },
      },
    },
  }
  return { fake, channel: fake as unknown as ClientChannel, sent }
}

const idle = (): Readable => new Readable({ highWaterMark: 64 * MIB, read: () => {} })

describe('the receive window', () => {
  it('is opened at once, and given back in steps', () => {
    const { fake, channel, sent } = fakeChannel()
    const window = widenWindow(channel, idle())
    expect(sent).toEqual([RECEIVE_WINDOW_BYTES - LIBRARY_BYTES])
    fake.incoming.window -= MIB - 1
    window?.giveBack()
    expect(sent).toHaveLength(1)
    fake.incoming.window -= 1
    window?.giveBack()
    expect(sent).toEqual([RECEIVE_WINDOW_BYTES - LIBRARY_BYTES, MIB])
    expect(fake.incoming.window).toBe(RECEIVE_WINDOW_BYTES)
  })

  it('is not given back for what waits: in the channel or in the stream behind it', () => {
    const { fake, channel, sent } = fakeChannel()
    const input = idle()
    const window = widenWindow(channel, input)
    fake.incoming.window -= 8 * MIB
    fake.readableLength = 5 * MIB
    input.push(Buffer.alloc(3 * MIB))
    window?.giveBack()
    expect(sent).toHaveLength(1)
    fake.readableLength = 3 * MIB
    window?.giveBack()
    expect(sent.slice(1)).toEqual([2 * MIB])
  })

  it('sends nothing behind a close of ours, but does behind our end', () => {
    const { fake, channel, sent } = fakeChannel()
    const window = widenWindow(channel, idle())
    for (const [state, count] of [
      ['eof', 2],
      ['closing', 2],
      ['closed', 2],
    ] as const) {
      fake.outgoing.state = state
      fake.incoming.window -= 2 * MIB
      window?.giveBack()
      expect(sent).toHaveLength(count)
    }
  })

  it.each<[string, (fake: Fake) => unknown]>([
    ['no client', (fake) => ({ ...fake, _client: undefined })],
    ['no protocol', (fake) => ({ ...fake, _client: {} })],
    ['no way to say it', (fake) => ({ ...fake, _client: { _protocol: {} } })],
    ['no window', (fake) => ({ ...fake, incoming: {} })],
    ['no number', (fake) => ({ ...fake, outgoing: { state: 'open' } })],
  ])('is left alone where the library has %s', (_what, other) => {
    const { fake, sent } = fakeChannel()
    expect(widenWindow(other(fake) as ClientChannel, idle())).toBeNull()
    expect(sent).toEqual([])
    expect(fake.incoming.window).toBe(LIBRARY_BYTES)
  })
})
