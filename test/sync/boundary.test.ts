// The far end as a boundary: a real `serve` in this process, real files, and a client that wants more than its key allows,
// or wants it faster than it takes the answers.

import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { PassThrough, Writable } from 'node:stream'

import { beforeAll, describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import type { Restriction } from '../../src/guard/restrict.js'
import { serve } from '../../src/sync/serve.js'
import { Channel, MAX_WAITING_POSTS } from '../../src/wire/channel.js'
import { encodeControl } from '../../src/wire/control.js'
import { FRAME, type FrameType } from '../../src/wire/frame.js'
import { encodeBanner, ownBanner, readBanner } from '../../src/wire/handshake.js'
import { useScratch } from '../support/disks.js'
import { expectRejected } from '../wire/expect.js'

const scratch = useScratch()
const at = (name: string): string => scratch().path(name)
const SIZE = 8192

type Client = { channel: Channel; ended: Promise<number> }

async function connect(restriction: Restriction | null): Promise<Client> {
  const up = new PassThrough()
  const down = new PassThrough()
  const ended = serve(up, down, {
    native: 'off',
    stateDir: at('state'),
    undo: { directory: null, maxBytes: null },
    restriction,
    signal: new AbortController().signal,
  })
  const greeting = await readBanner(down, 'server', 'here', 5000)
  if (greeting === null) throw new Error('no banner')
  up.write(encodeBanner(ownBanner('client', false, ['xxh64x2'])))
  return { channel: new Channel(down, up, greeting.rest), ended }
}

const open = (path: string, more: object = {}): Buffer =>
  encodeControl({ role: 'destination', path, access: 'write', create: 'never', createSizeBytes: 0, ...more })

const start = (lengthBytes: number, more: object = {}): Buffer =>
  encodeControl({
    mode: 'compare',
    offsetBytes: 0,
    lengthBytes,
    destinationBytes: SIZE,
    blockBytes: 4096,
    leafBytes: 512,
    algorithm: 'sha256',
    seed: '0'.repeat(32),
    ...more,
  })

/** Says these, then hears: the name of the next frame, or the refusal. */
async function said(
  restriction: Restriction | null,
  ...frames: readonly [FrameType, Buffer][]
): Promise<string> {
  const { channel, ended } = await connect(restriction)
  const heard: string[] = []
  try {
    for (const [type, body] of frames) {
      channel.post(type, 0, body)
      const frame = await channel.receive()
      heard.push(String(frame.type))
    }
  } catch (error) {
    if (!(error instanceof SyncError)) throw error
    heard.push(error.code)
  }
  channel.end()
  await ended
  return heard.join(' ')
}

beforeAll(async () => {
  await Promise.all([mkdir(at('in')), mkdir(at('out'))])
  await Promise.all(['in/a.img', 'out/secret'].map((name) => writeFile(at(name), Buffer.alloc(SIZE, name))))
  await symlink(at('out/secret'), at('in/link'))
})

describe('a restricted key', () => {
  const key = (only: Restriction['only'] = null): Restriction => ({ paths: [at('in')], only })

  it('opens what it may', async () => {
    expect(await said(key(), [FRAME.open, open(at('in/a.img'))])).toBe(String(FRAME.opened))
  })

  it.each([['out/secret'], ['in/link'], ['in/../out/secret'], ['out/nothing']])(
    'does not open %s',
    async (name) => {
      const path = `${scratch().directory}/${name}`
      expect(await said(key(), [FRAME.open, open(path)])).toBe('guard/restricted')
      expect(await said(key(), [FRAME.open, open(path, { role: 'source', access: 'read' })])).toBe(
        'guard/restricted',
      )
    },
  )

  it('makes nothing outside', async () => {
    const made = open(at('out/new.img'), { create: 'if-missing', createSizeBytes: 4096 })
    expect(await said(key(), [FRAME.open, made])).toBe('guard/restricted')
    await expect(readFile(at('out/new.img'))).rejects.toThrow('ENOENT')
  })

  it('gets no further as a lane of a run: the path is asked about before the claim is', async () => {
    const token = `lanes1.${'0'.repeat(32)}.${'1'.repeat(32)}`
    expect(await said(key(), [FRAME.open, open(at('in/a.img'), { lane: token })])).toBe('guard/held')
    expect(await said(null, [FRAME.open, open(at('out/secret'), { lane: token })])).toBe('guard/held')
  })

  it('may be one that only reads, or only writes', async () => {
    expect(await said(key('read'), [FRAME.open, open(at('in/a.img'))])).toBe('guard/restricted')
    expect(await said(key('read'), [FRAME.open, open(at('in/a.img'), { access: 'read' })])).toBe(
      String(FRAME.opened),
    )
    const source = open(at('in/a.img'), { role: 'source', access: 'read' })
    expect(await said(key('write'), [FRAME.open, source])).toBe('guard/restricted')
  })

  it('that only writes does not read a disk byte by byte, by digests of ranges that end anywhere', async () => {
    const opened: [FrameType, Buffer] = [FRAME.open, open(at('in/a.img'))]
    expect(await said(key('write'), opened, [FRAME.start, start(1)])).toBe(`${FRAME.opened} guard/restricted`)
    expect(await said(key('write'), opened, [FRAME.start, start(513)])).toBe(
      `${FRAME.opened} guard/restricted`,
    )
    expect(await said(key('write'), opened, [FRAME.start, start(SIZE)])).toBe(
      `${FRAME.opened} ${FRAME.digests}`,
    )
    expect(await said(null, opened, [FRAME.start, start(1)])).toBe(`${FRAME.opened} ${FRAME.digests}`)
  })
})

describe('a far end does not take what a client claims', () => {
  it.each(['lengthBytes', 'destinationBytes', 'offsetBytes'])('%s above 256 TiB', async (name) => {
    const claimed = start(SIZE, { [name]: 2 ** 48 + 2 ** 26 })
    expect(await said(null, [FRAME.open, open(at('in/a.img'))], [FRAME.start, claimed])).toBe(
      `${FRAME.opened} session/protocol`,
    )
  })
})

describe('a channel', () => {
  it('does not keep small frames for ever for a peer that does not read', async () => {
    const deaf = new Writable({ write: () => undefined })
    const channel = new Channel(new PassThrough(), deaf, Buffer.alloc(0))
    for (let count = 0; count < MAX_WAITING_POSTS; count += 1) channel.post(FRAME.credit, 0, Buffer.alloc(8))
    expect(channel.failure).toBeNull()
    channel.post(FRAME.credit, 0, Buffer.alloc(8))
    const { message } = await expectRejected('session/protocol', channel.receive())
    expect(message).toContain('than is read')
  })
})

describe('a banner', () => {
  it('is looked for in time that does not grow with what was sent before', async () => {
    const input = new PassThrough()
    const reading = readBanner(input, 'server', 'there', 60_000)
    const noise = Buffer.from('BLOCKSYNC server '.repeat(3700))
    const startMs = performance.now()
    input.write(noise)
    for (let count = 0; count < 300; count += 1) {
      input.write('x')
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(performance.now() - startMs).toBeLessThan(5000)
    input.write(`\n${encodeBanner(ownBanner('server', false, ['sha256']))}`)
    expect((await reading)?.banner.side).toBe('server')
  })
})
