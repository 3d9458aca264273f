// Frames for the session, not for its pass: answered at any time, also in the middle of a pass, and refused where nobody
// asked for them or the other side is the one to send them. A real far end against a client that is this test.

import { PassThrough } from 'node:stream'

import { afterEach, describe, expect, it } from 'vitest'

import { SECTION_BYTES } from '../../src/digest/root.js'
import { MAX_DISK_BYTES } from '../../src/endpoint/endpoint.js'
import { EXIT, SyncError } from '../../src/errors.js'
import { serve } from '../../src/sync/serve.js'
import { Session } from '../../src/sync/session.js'
import { decodeMark, encodeMark, encodeRate } from '../../src/wire/bodies.js'
import { Channel } from '../../src/wire/channel.js'
import {
  decodeFinish,
  decodeInvited,
  encodeControl,
  encodeOpen,
  encodeStart,
} from '../../src/wire/control.js'
import type { StartMessage } from '../../src/wire/control.js'
import { FRAME, type FrameType } from '../../src/wire/frame.js'
import { encodeBanner, ownBanner, readBanner } from '../../src/wire/handshake.js'
import { useScratch } from '../support/disks.js'
import { channelPair, settled } from './pair.js'

const BLOCK_BYTES = 1 << 20
const SECTION_BLOCKS = SECTION_BYTES / BLOCK_BYTES

const scratch = useScratch()
const clients: Client[] = []
let made = 0

/** A session with a far end in this process. */
class Client {
  readonly channel: Channel
  /** Its exit status, once it has ended. */
  readonly ended: Promise<number>
  readonly asides: { type: FrameType; disk: number; body: Buffer }[] = []

  constructor(channel: Channel, ended: Promise<number>) {
    this.channel = channel
    this.ended = ended
    channel.onAside = ({ type, disk, body }) => void this.asides.push({ type, disk, body })
  }

  static async connect(): Promise<Client> {
    const up = new PassThrough()
    const down = new PassThrough()
    const ended = serve(up, down, {
      native: 'off',
      stateDir: null,
      undo: { directory: null, maxBytes: null },
      restriction: null,
      signal: new AbortController().signal,
    })
    const greeting = await readBanner(down, 'server', 'here', 5000)
    if (greeting === null) throw new Error('no banner')
    up.write(encodeBanner(ownBanner('client', false, ['xxh64x2'])))
    const client = new Client(new Channel(down, up, greeting.rest), ended)
    clients.push(client)
    return client
  }

  async open(role: 'source' | 'destination', sections = 3): Promise<void> {
    const path = await scratch().sparseFile(`disk-${made++}.img`, sections * SECTION_BYTES)
    const access = role === 'source' ? 'read' : 'write'
    const request = {
      role,
      path,
      access,
      create: 'never',
      createSizeBytes: 0,
      guards: 'on',
      force: [],
      peer: null,
      lane: null,
      lockWaitMs: 0,
      undo: 'none',
      standsFor: null,
    } as const
    this.channel.post(FRAME.open, 0, encodeOpen(request))
    await this.channel.expect(FRAME.opened)
  }

  start(fields: Partial<StartMessage> = {}): void {
    const lengthBytes = fields.lengthBytes ?? 3 * SECTION_BYTES
    const start: StartMessage = {
      mode: 'compare',
      verify: 'none',
      offsetBytes: 0,
      lengthBytes,
      destinationBytes: lengthBytes,
      blockBytes: BLOCK_BYTES,
      leafBytes: 4096,
      algorithm: 'xxh64x2',
      seed: Buffer.alloc(16, 1),
      bytesPerSecond: null,
      compression: null,
      badSectors: 'stop',
      leaves: null,
      pair: null,
      ...fields,
    }
    this.channel.post(FRAME.start, 0, encodeStart(start))
  }

  /** All asides there are once `count` of them have come. */
  async heard(count: number): Promise<Client['asides']> {
    while (this.asides.length < count) {
      if (this.channel.failure !== null) throw this.channel.failure
      await settled()
    }
    return this.asides
  }

  /** What the far end says to what it refuses; it has ended by then. */
  async refusal(): Promise<string> {
    expect(await this.ended).toBe(EXIT.lost)
    await settled()
    const { peerError } = this.channel
    expect(peerError?.code).toBe('session/protocol')
    return peerError?.message ?? ''
  }
}

afterEach(async () => {
  for (const { channel, ended } of clients.splice(0)) {
    channel.end()
    await ended
  }
})

describe('a far end', () => {
  it('answers an invite with a token, before a disk is open and in the middle of a pass', async () => {
    for (const when of ['first', 'in a pass']) {
      const client = await Client.connect()
      if (when === 'in a pass') {
        await client.open('destination')
        client.start()
        await client.channel.expect(FRAME.digests)
      }
      client.channel.post(FRAME.invite, 0)
      const [answer] = await client.heard(1)
      expect(answer?.type).toBe(FRAME.invited)
      expect(decodeInvited(answer?.body ?? Buffer.alloc(0)).lane).toMatch(/^[!-~]{1,200}$/)
    }
  })

  it('answers a ping and takes a rate in the middle of a pass', async () => {
    const client = await Client.connect()
    await client.open('source')
    client.start()
    client.channel.post(FRAME.rate, 0, encodeRate(1000))
    client.channel.post(FRAME.rate, 0, encodeRate(null))
    client.channel.post(FRAME.ping, 0, Buffer.alloc(8, 3))
    expect(await client.heard(1)).toEqual([{ type: FRAME.pong, disk: 0, body: Buffer.alloc(8, 3) }])
    expect(client.channel.failure).toBeNull()
  })

  it.each(['before its start', 'after its start'])('ends a pass where it was limited %s', async (when) => {
    const client = await Client.connect()
    await client.open('source')
    const limit = (): void => client.channel.post(FRAME.limit, 0, encodeMark(SECTION_BLOCKS))
    if (when === 'before its start') limit()
    client.start()
    if (when === 'after its start') limit()
    const [answer] = await client.heard(1)
    expect([answer?.type, answer?.disk, decodeMark(answer?.body ?? Buffer.alloc(0))]).toEqual([
      FRAME.limited,
      0,
      SECTION_BLOCKS,
    ])
    // Zeros at both ends (without the native core holes are read): it decides when it is told so.
    const hole = Buffer.alloc(16)
    hole.writeUInt8(3, 8)
    hole.writeUInt32BE(3 * SECTION_BLOCKS, 12)
    await client.channel.send(FRAME.digests, 0, [hole])
    for (;;) {
      const { type, body } = await client.channel.receive()
      if (type !== FRAME.finish) continue
      expect(decodeFinish(body)).toMatchObject({ endBlock: SECTION_BLOCKS, sameBlocks: SECTION_BLOCKS })
      break
    }
    // The next question may come, also when the pass is over: there is nothing left to take from it.
    client.channel.post(FRAME.limit, 0, encodeMark(0))
    const answers = await client.heard(2)
    expect(decodeMark(answers[1]?.body ?? Buffer.alloc(0))).toBe(SECTION_BLOCKS)
  })

  const refused: readonly [string, (client: Client) => Promise<void> | void, string][] = [
    [
      'a limit of a disk that is not open',
      ({ channel }) => channel.post(FRAME.limit, 7, encodeMark(0)),
      'limit of disk 7 out of turn',
    ],
    [
      'a limit of a destination',
      async (client) => {
        await client.open('destination')
        client.channel.post(FRAME.limit, 0, encodeMark(0))
      },
      'limit of disk 0 out of turn',
    ],
    [
      'a second limit before the answer',
      async (client) => {
        await client.open('source')
        client.channel.post(FRAME.limit, 0, encodeMark(64))
        client.channel.post(FRAME.limit, 0, encodeMark(64))
      },
      'limit of disk 0 out of turn',
    ],
    [
      'a limit of a wrong length',
      async (client) => {
        await client.open('source')
        client.channel.post(FRAME.limit, 0, Buffer.alloc(7))
      },
      'wrong length',
    ],
    [
      'a second invite',
      ({ channel }) => {
        channel.post(FRAME.invite, 0)
        channel.post(FRAME.invite, 0)
      },
      'a second invite',
    ],
    [
      'a rate of a wrong length',
      ({ channel }) => channel.post(FRAME.rate, 0, Buffer.alloc(7)),
      'wrong length',
    ],
    [
      'limited',
      ({ channel }) => channel.post(FRAME.limited, 0, encodeMark(0)),
      'limited frame from a client',
    ],
    [
      'invited',
      ({ channel }) => channel.post(FRAME.invited, 0, encodeControl({ lane: 'x' })),
      'invited frame from a client',
    ],
    ['a pong', ({ channel }) => channel.post(FRAME.pong, 0, Buffer.alloc(8)), 'pong frame from a client'],
    [
      'a start off a section boundary',
      async (client) => {
        await client.open('destination')
        client.start({ offsetBytes: BLOCK_BYTES, lengthBytes: SECTION_BYTES })
      },
      'not from a section on',
    ],
    [
      'a start whose range is above the longest disk',
      async (client) => {
        await client.open('destination')
        client.start({ offsetBytes: MAX_DISK_BYTES, lengthBytes: SECTION_BYTES })
      },
      'not from a section on',
    ],
    [
      'a start of a codec that is none',
      async (client) => {
        await client.open('source')
        client.channel.post(FRAME.start, 0, encodeControl({ codec: 'lz4' }))
      },
      'start',
    ],
    [
      'a record of a disk that no pass was over',
      async (client) => {
        await client.open('destination')
        client.channel.post(FRAME.record, 0, encodeControl({}))
      },
      'record of disk 0 out of turn',
    ],
    [
      'a record of a disk that is not open',
      ({ channel }) => channel.post(FRAME.record, 3, encodeControl({})),
      'record of disk 3 out of turn',
    ],
    [
      'an answer to a record from a client',
      ({ channel }) => channel.post(FRAME.recorded, 0, encodeControl({ failure: null })),
      'recorded frame from a client',
    ],
    [
      'a lane token that is no token',
      ({ channel }) => {
        const request = {
          role: 'destination',
          path: '/x',
          access: 'write',
          create: 'never',
          createSizeBytes: 0,
          guards: 'on',
          force: [],
          peer: null,
        } as const
        const lane = { lane: 'sesame', lockWaitMs: 0, undo: 'none', standsFor: null } as const
        channel.post(FRAME.open, 0, encodeOpen({ ...request, ...lane }))
      },
      'token',
    ],
  ]
  it.each(refused)('refuses %s', async (_name, act, said) => {
    const client = await Client.connect()
    await act(client)
    if (said === 'start') expect(await client.refusal()).toContain('control frame')
    else expect(await client.refusal()).toContain(said)
  })

  it('refuses a range that the destination does not have', async () => {
    const client = await Client.connect()
    await client.open('destination')
    client.start({ offsetBytes: 2 * SECTION_BYTES, lengthBytes: 2 * SECTION_BYTES })
    expect(await client.ended).toBe(EXIT.guard)
    await settled()
    expect(client.channel.peerError?.code).toBe('guard/size')
  })
})

describe('a near end', () => {
  /** A session whose far end is this test, and what it was refused with. */
  function session(): { near: Session; far: Channel } {
    const { near, far } = channelPair()
    const connection = {
      peerName: 'host2',
      kind: 'openssh',
      cipher: null,
      forward: null,
      input: new PassThrough(),
      output: new PassThrough(),
      exit: new Promise<never>(() => undefined),
      end: () => undefined,
      kill: () => undefined,
      explain: () => new SyncError('session/lost', 'it ended'),
      [Symbol.asyncDispose]: async () => undefined,
    } as const
    far.onAside = () => undefined
    const banner = ownBanner('server', false, ['xxh64x2'])
    return { near: new Session(connection, near, banner, 2, Buffer.alloc(16)), far }
  }

  const asides: readonly [string, FrameType, Buffer][] = [
    ['a pong', FRAME.pong, Buffer.alloc(8)],
    ['limited', FRAME.limited, encodeMark(64)],
    ['invited', FRAME.invited, encodeControl({ lane: 'x' })],
    ['a rate', FRAME.rate, encodeRate(1)],
    ['a limit', FRAME.limit, encodeMark(64)],
    ['an invite', FRAME.invite, Buffer.alloc(0)],
  ]
  it.each(asides)('refuses %s that nobody asked for', async (_name, type, body) => {
    const { near, far } = session()
    far.post(type, 0, body)
    await settled()
    expect(near.channel.failure?.code).toBe('session/protocol')
    expect(near.channel.failure?.message).toContain('that nobody asked for')
  })

  it('takes one answer for each question, and no more', async () => {
    const { near, far } = session()
    const asked = [near.limit(3, 64), near.roundTripMs(), near.invite(), near.limit(3, 128)]
    far.post(FRAME.limited, 3, encodeMark(64))
    far.post(FRAME.invited, 0, encodeControl({ lane: 'x' }))
    far.post(FRAME.limited, 3, encodeMark(192))
    expect(await Promise.all(asked)).toEqual([64, expect.any(Number), 'x', 192])
    far.post(FRAME.limited, 3, encodeMark(192))
    await settled()
    expect(near.channel.failure?.message).toContain('limited frame that nobody asked for')
  })

  it.each([
    ['limited of a wrong length', FRAME.limited, Buffer.alloc(7), (near: Session) => near.limit(0, 64)],
    ['invited without a token', FRAME.invited, encodeControl({ lane: 7 }), (near: Session) => near.invite()],
  ] as const)('refuses an answer that is none: %s', async (_name, type, body, ask) => {
    const { near, far } = session()
    const asked = ask(near)
    far.post(type, 0, body)
    await expect(asked).rejects.toMatchObject({ code: 'session/protocol' })
  })

  it('does not wait for answers of a far end that is gone', async () => {
    const { near, far } = session()
    const asked = [near.limit(0, 64), near.invite(), near.roundTripMs()]
    const outcomes = Promise.allSettled(asked)
    far.end()
    for (const outcome of await outcomes)
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'session/lost' } })
    await expect(near.limit(0, 64)).rejects.toMatchObject({ code: 'session/lost' })
  })
})
