// How much a far end may send on an ssh2 channel before we answer: the library's 2 MiB are raised by its own message for
// it. Refuses to raise anything while nobody reads, and where the library is not built as expected.

import type { Readable } from 'node:stream'

import type { ClientChannel } from 'ssh2'

/**
 * Sent to us and not yet read, at most. 2 MiB (the library's, and OpenSSH's) allow 50 MiB/s at a round trip of 40 ms. It is
 * twice what the wire lets be in flight (WINDOW_BYTES of wire/channel.ts), so that ssh is not what holds back.
 */
export const RECEIVE_WINDOW_BYTES = 32 << 20
/** What was read is given back in pieces of this size: each is a packet. */
const STEP_BYTES = 1 << 20

/** The parts of the library that are not in its types; package.json pins its version. */
type Internals = {
  incoming: { window: number }
  outgoing: { id: number; state: string }
  _client: { _protocol: { channelWindowAdjust: (channelId: number, bytes: number) => void } }
}

/**
 * Opens the window of `channel` and keeps it open as `input`, which is fed from it, is read: what may still come and what
 * waits stay below RECEIVE_WINDOW_BYTES together. Call `giveBack` after each chunk. Null where the library knows no such
 * way; its own window remains.
 */
export function widenWindow(channel: ClientChannel, input: Readable): { giveBack: () => void } | null {
  if (!hasInternals(channel)) return null
  const { incoming, outgoing } = channel
  const protocol = channel._client._protocol
  const giveBack = (): void => {
    const unreadBytes = channel.readableLength + input.readableLength
    const bytes = RECEIVE_WINDOW_BYTES - incoming.window - unreadBytes
    // Behind our own CHANNEL_CLOSE nothing may follow (RFC 4254, 5.3).
    if (bytes < STEP_BYTES || (outgoing.state !== 'open' && outgoing.state !== 'eof')) return
    incoming.window += bytes
    protocol.channelWindowAdjust(outgoing.id, bytes)
  }
  giveBack()
  return { giveBack }
}

function hasInternals(channel: ClientChannel): channel is ClientChannel & Internals {
  const { incoming, outgoing, _client: client } = channel as Partial<Internals>
  return (
    typeof incoming?.window === 'number' &&
    typeof outgoing?.id === 'number' &&
    typeof outgoing.state === 'string' &&
    typeof client?._protocol?.channelWindowAdjust === 'function'
  )
}
