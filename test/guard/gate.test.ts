// The gate and its lanes in one process: who comes in, what they are told, how it ends, and everybody who is not let in.

import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { Socket } from 'node:net'

import { afterEach, describe, expect, it, vi } from 'vitest'

import {
  ANSWER_TIMEOUT_MS,
  decodeToken,
  encodeLine,
  encodeToken,
  LineReader,
  MAX_HELLO_BYTES,
  MAX_LANES,
  MAX_LINE_BYTES,
  newNonce,
  newTicket,
  proofOf,
  socketPath,
} from '../../src/guard/admission.js'
import { LEAVE_TIMEOUT_MS, MAX_STRANGERS, openGate } from '../../src/guard/gate.js'
import { checkAdmitted, joinRun } from '../../src/guard/membership.js'
import { until } from '../support/processes.js'

const DISK = '/dev/example'
const FACTS = { machine: 'here', aliases: ['block:7:0', 'file:1:2'] }
const MEGABYTE = Buffer.alloc(1 << 20, 'x')

/** Sockets of tests, each with everything it received and its end. */
const opened = new Set<Socket>()

type Peer = { socket: Socket; text: () => string; closed: Promise<unknown> }

function stranger(token: string): Peer {
  return watch(connect({ path: socketPath(decodeToken(token)) }))
}

function watch(socket: Socket): Peer {
  let text = ''
  opened.add(socket)
  socket.on('data', (chunk) => (text += chunk.toString()))
  // Being cut off is what is tested here; 'close' follows.
  socket.on('error', () => undefined)
  return { socket, text: () => text, closed: new Promise((resolve) => socket.once('close', resolve)) }
}

function isPending(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([
    promise.then(() => false),
    new Promise<true>((resolve) => setImmediate(resolve, true)),
  ])
}

/** A lane can come in; when it did, the gate has met everybody who connected before. */
async function expectOpen(token: string): Promise<void> {
  await using lane = await joinRun(token)
  expect(await isPending(lane.lost)).toBe(true)
}

/** Listens where the gate of a run would, without its secret. */
async function impostor(meet: (socket: Socket) => void): Promise<AsyncDisposable & { token: string }> {
  const ticket = newTicket()
  const server = createServer((socket) => {
    watch(socket)
    meet(socket)
  })
  server.listen({ path: socketPath(ticket) })
  await once(server, 'listening')
  return {
    token: encodeToken({ ...ticket, secret: newTicket().secret }),
    [Symbol.asyncDispose]: async () => {
      for (const socket of opened) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

afterEach(() => {
  vi.useRealTimers()
  for (const socket of opened) socket.destroy()
  opened.clear()
})

describe('a gate', () => {
  it('lets the lanes of its run in and tells them what was claimed', async () => {
    await using gate = await openGate()
    gate.admit(DISK, FACTS)
    gate.admit('/dev/ö "\u0007', { machine: 'there', aliases: ['block:8:1'] })
    const first = await joinRun(gate.token)
    await using second = await joinRun(gate.token)
    expect(gate.lanes).toBe(2)
    expect(await first.disk(DISK)).toEqual(FACTS)
    expect(await second.disk('/dev/ö "\u0007')).toEqual({ machine: 'there', aliases: ['block:8:1'] })
    await first.leave()
    await first.leave()
    await until(() => gate.lanes === 1, 'the gate notices who left')
    expect(await isPending(first.lost)).toBe(true)
    await expect(first.disk(DISK)).rejects.toMatchObject({ code: 'session/lost' })
    expect(await second.disk(DISK)).toEqual(FACTS)
  })

  it('has a token of printable characters that says where and the secret', async () => {
    await using gate = await openGate()
    await using other = await openGate()
    expect(gate.token).toMatch(/^[\w.]{72}$/)
    expect(gate.token).not.toBe(other.token)
    expect(encodeToken(decodeToken(gate.token))).toBe(gate.token)
    expect(readFileSync('/proc/net/unix', 'utf8')).not.toContain(decodeToken(gate.token).secret)
  })

  it('listens under a name of full length, which every Node.js takes for the same', () => {
    const path = socketPath(newTicket())
    expect(Buffer.byteLength(path)).toBe(108)
    expect(path).toMatch(/^\0blocksync-lanes-[0-9a-f]{32}-+$/)
  })

  it('does not admit to a disk that was not claimed, and goes on', async () => {
    await using gate = await openGate()
    await using lane = await joinRun(gate.token)
    await expect(lane.disk(DISK)).rejects.toMatchObject({
      code: 'guard/held',
      operand: DISK,
    })
    await expect(lane.disk(DISK)).rejects.toThrow('no run admits')
    gate.admit(DISK, FACTS)
    expect(await lane.disk(DISK)).toEqual(FACTS)
    gate.admit(DISK, { machine: 'here', aliases: ['block:7:9'] })
    expect(await lane.disk(DISK)).toEqual({ machine: 'here', aliases: ['block:7:9'] })
  })

  it('answers many questions at once, in order', async () => {
    await using gate = await openGate()
    const keys = Array.from({ length: 4096 }, (_, index) => `/dev/disk${index}`)
    for (const key of keys) gate.admit(key, { machine: key, aliases: ['a'.repeat(2000)] })
    await using lane = await joinRun(gate.token)
    const facts = await Promise.all(keys.map((key) => lane.disk(key)))
    expect(facts.map(({ machine }) => machine)).toEqual(keys)
    expect(() => gate.admit('/dev/one-more', FACTS)).toThrow('too many disks')
  })

  it('admits no name that does not fit into a line', async () => {
    await using gate = await openGate()
    const longest = `/${'\u0001'.repeat(4094)}`
    gate.admit(longest, FACTS)
    await using lane = await joinRun(gate.token)
    expect(await lane.disk(longest)).toEqual(FACTS)
    expect(() => gate.admit('x'.repeat(MAX_LINE_BYTES), FACTS)).toThrow('too long')
    expect(() => gate.admit(DISK, { machine: 'x'.repeat(MAX_LINE_BYTES), aliases: ['a'] })).toThrow(
      'too long',
    )
  })

  it(`has room for ${MAX_LANES} lanes`, async () => {
    await using gate = await openGate()
    gate.admit(DISK, FACTS)
    const lanes = await Promise.all(Array.from({ length: MAX_LANES }, () => joinRun(gate.token)))
    expect(gate.lanes).toBe(MAX_LANES)
    const refused = joinRun(gate.token)
    await expect(refused).rejects.toMatchObject({ code: 'guard/held' })
    await expect(refused).rejects.toThrow(`${MAX_LANES} further connections already`)
    const [one, ...others] = lanes
    await one?.leave()
    await until(() => gate.lanes === MAX_LANES - 1, 'one left')
    await using instead = await joinRun(gate.token)
    expect(await instead.disk(DISK)).toEqual(FACTS)
    await Promise.all(others.map((lane) => lane.leave()))
  })
})

describe('the end of a run', () => {
  it('is told to the lanes, and the gate waits until they have stopped', async () => {
    const gate = await openGate()
    gate.admit(DISK, FACTS)
    const lanes = [await joinRun(gate.token), await joinRun(gate.token)] as const
    const closing = gate[Symbol.asyncDispose]()
    expect(gate[Symbol.asyncDispose]()).toBe(closing)
    for (const { lost } of lanes) expect(await lost).toMatchObject({ code: 'session/lost' })
    await expect(lanes[0].disk(DISK)).rejects.toBe(await lanes[0].lost)
    await lanes[0].leave()
    await until(() => gate.lanes === 1, 'one left')
    expect(await isPending(closing)).toBe(true)
    await expect(joinRun(gate.token)).rejects.toMatchObject({ code: 'guard/held' })
    await lanes[1].leave()
    await closing
    expect(gate.lanes).toBe(0)
    expect(readFileSync('/proc/net/unix', 'utf8')).not.toContain(decodeToken(gate.token).name)
  })

  it('does not wait for ever for a lane that hangs', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const gate = await openGate()
    const lane = await joinRun(gate.token)
    const closing = gate[Symbol.asyncDispose]()
    await lane.lost
    vi.advanceTimersByTime(LEAVE_TIMEOUT_MS - 1)
    expect(await isPending(closing)).toBe(true)
    vi.advanceTimersByTime(1)
    await closing
    expect(gate.lanes).toBe(0)
    await lane.leave()
  })

  it('also ends who proved nothing', async () => {
    const gate = await openGate()
    const held = stranger(gate.token)
    await expectOpen(gate.token)
    await gate[Symbol.asyncDispose]()
    await held.closed
  })
})

describe('a token', () => {
  const good = encodeToken(newTicket())
  it.each([
    ['nothing', ''],
    ['words', 'let me in'],
    ['one of another version', good.replace('lanes1', 'lanes2')],
    ['one that goes on', `${good}0`],
    ['one with a line after it', `${good}\n`],
    ['one that is cut', good.slice(0, -1)],
    ['one in capitals', good.toUpperCase()],
    ['a path', good.replace(/\.[0-9a-f]+\./, './run/other.sock.')],
    ['megabytes', MEGABYTE.toString()],
  ])('that is %s is malformed', async (_, token) => {
    const joining = joinRun(token)
    await expect(joining).rejects.toMatchObject({ code: 'session/protocol' })
    if (token !== '') await expect(joining).rejects.not.toThrow(token)
  })

  it('with another secret admits nobody', async () => {
    await using gate = await openGate()
    const wrong = encodeToken({ ...decodeToken(gate.token), secret: newTicket().secret })
    const joining = joinRun(wrong)
    await expect(joining).rejects.toMatchObject({ code: 'guard/held' })
    await expect(joining).rejects.toThrow('the secret in its token is not that of the run')
    await expect(joining).rejects.not.toThrow(decodeToken(wrong).secret)
    expect(gate.lanes).toBe(0)
    await expectOpen(gate.token)
  })

  it('of a run that is over admits nobody', async () => {
    const gate = await openGate()
    await gate[Symbol.asyncDispose]()
    const joining = joinRun(gate.token)
    await expect(joining).rejects.toMatchObject({ code: 'guard/held' })
    await expect(joining).rejects.toThrow('the run is over, or is on another host')
  })
})

describe('a stranger', () => {
  it.each<[string, (token: string) => string]>([
    ['nothing true', () => encodeLine({ nonce: newNonce(), proof: '0'.repeat(64) })],
    ['a proof without a nonce', () => encodeLine({ proof: '0'.repeat(64) })],
    ['a proof that is no text', () => encodeLine({ nonce: newNonce(), proof: 7 })],
    [
      'the proof of a gate',
      (token) => encodeLine({ nonce: 'n', proof: proofOf('gate', decodeToken(token), 'n') }),
    ],
    [
      'the proof for another nonce',
      (token) => encodeLine({ nonce: 'n', proof: proofOf('lane', decodeToken(token), 'm') }),
    ],
    ['a question', () => encodeLine({ disk: DISK })],
    ['no JSON', () => 'GET / HTTP/1.1\r\n'],
    ['a list', () => '[]\n'],
    ['empty lines', () => '\n\n\n'],
  ])('that sends %s is told so and nothing else', async (_, words) => {
    await using gate = await openGate()
    gate.admit(DISK, FACTS)
    const peer = stranger(gate.token)
    peer.socket.write(`${words(gate.token)}${encodeLine({ disk: DISK })}`)
    await peer.closed
    expect(peer.text()).toBe('{"refused":"secret"}\n')
    expect(gate.lanes).toBe(0)
  })

  it.each([
    ['one line', MEGABYTE],
    ['many lines', Buffer.from(`${'x'.repeat(99)}\n`.repeat(40_000))],
    ['zero bytes', Buffer.alloc(4 << 20)],
  ])('that sends megabytes in %s is cut off', async (_, bytes) => {
    await using gate = await openGate()
    const peer = stranger(gate.token)
    peer.socket.write(bytes)
    await peer.closed
    expect(peer.socket.bytesWritten).toBeLessThanOrEqual(bytes.length)
    await expectOpen(gate.token)
  })

  it('that sends nothing, or a byte now and then, is cut off in time', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    await using gate = await openGate()
    const silent = stranger(gate.token)
    const slow = stranger(gate.token)
    await expectOpen(gate.token)
    slow.socket.write('{')
    vi.advanceTimersByTime(ANSWER_TIMEOUT_MS - 1)
    slow.socket.write('"')
    await expectOpen(gate.token)
    expect(await isPending(Promise.race([silent.closed, slow.closed]))).toBe(true)
    vi.advanceTimersByTime(1)
    await Promise.all([silent.closed, slow.closed])
    expect([silent.text(), slow.text()]).toEqual(['', ''])
  })

  it('cannot keep lanes out by holding connections', async () => {
    await using gate = await openGate()
    const peers = Array.from({ length: MAX_STRANGERS * 4 }, () => stranger(gate.token))
    await using lane = await joinRun(gate.token)
    expect(await isPending(lane.lost)).toBe(true)
    await Promise.all(peers.slice(0, MAX_STRANGERS * 3).map(({ closed }) => closed))
    // One more made room for the lane, which is not among them any more.
    expect(peers.filter(({ socket }) => !socket.destroyed)).toHaveLength(MAX_STRANGERS - 1)
  })

  it('that goes away at once does no harm', async () => {
    await using gate = await openGate()
    for (let count = 0; count < 50; count++) {
      const { socket, closed } = stranger(gate.token)
      await once(socket, 'connect')
      if (count % 2 === 1) socket.write('{')
      socket.destroy()
      await closed
    }
    await expectOpen(gate.token)
  })
})

describe('a lane that does not behave', () => {
  async function rawLane(token: string): Promise<Peer> {
    const peer = stranger(token)
    const nonce = newNonce()
    peer.socket.write(encodeLine({ nonce, proof: proofOf('lane', decodeToken(token), nonce) }))
    await once(peer.socket, 'data')
    return peer
  }

  it.each([
    ['no question', Buffer.from('{"dusk":1}\n')],
    ['no JSON', Buffer.from('x\n')],
    ['a line without end', MEGABYTE],
  ])('and sends %s is out', async (_, bytes) => {
    await using gate = await openGate()
    const peer = await rawLane(gate.token)
    peer.socket.write(bytes)
    await peer.closed
    await until(() => gate.lanes === 0, 'it is out')
    await expectOpen(gate.token)
  })

  it('and asks without reading the answers is not read', async () => {
    await using gate = await openGate()
    gate.admit('a', { machine: 'x'.repeat(30_000), aliases: ['a'] })
    const peer = await rawLane(gate.token)
    peer.socket.pause()
    const questions = Buffer.from(encodeLine({ disk: 'a' }).repeat(200_000))
    peer.socket.write(questions)
    await expectOpen(gate.token)
    await until(() => peer.socket.writableLength > 0, 'its questions wait')
    const before = process.memoryUsage().rss
    await expectOpen(gate.token)
    expect(process.memoryUsage().rss - before).toBeLessThan(256 << 20)
    expect(peer.socket.writableLength).toBeGreaterThan(0)
    peer.socket.destroy()
    await until(() => gate.lanes === 0, 'it is out')
  })
})

describe('something else in the place of the gate', () => {
  const meets: [string, (socket: Socket) => void, string][] = [
    ['sends back what it got', (socket) => socket.pipe(socket), 'does not know its secret'],
    ['says yes', (socket) => socket.write('{"proof":true}\n'), 'does not know its secret'],
    ['sends no JSON', (socket) => socket.write('welcome\n'), 'does not know its secret'],
    ['sends megabytes', (socket) => socket.write(MEGABYTE), 'does not know its secret'],
    ['answers and talks on', (socket) => socket.write('{}\n'.repeat(9)), 'does not know its secret'],
    ['hangs up', (socket) => socket.end(), 'the run is over'],
    ['resets', (socket) => socket.destroy(), 'the run is over'],
  ]
  it.each(meets)('that %s is not believed', async (_, meet, why) => {
    await using other = await impostor(meet)
    const joining = joinRun(other.token)
    await expect(joining).rejects.toMatchObject({ code: 'guard/held' })
    await expect(joining).rejects.toThrow(why)
  })

  it('that says nothing is not waited for', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    let met: () => void = () => undefined
    const meeting = new Promise<void>((resolve) => (met = resolve))
    await using other = await impostor((socket) => socket.once('data', () => met()))
    const [refusal] = await Promise.all([
      joinRun(other.token).catch((thrown: unknown) => thrown),
      meeting.then(() => vi.advanceTimersByTime(ANSWER_TIMEOUT_MS)),
    ])
    expect(refusal).toMatchObject({ code: 'session/lost' })
  })
})

describe('the disk that a lane opened', () => {
  const identity = { machine: 'here', aliases: ['block:7:0', 'file:1:2'] }
  it('must be the one that was claimed', () => {
    expect(() => checkAdmitted(DISK, FACTS, identity)).not.toThrow()
    // What lies behind a loop device may have lost its name meanwhile; the device is the same.
    expect(() => checkAdmitted(DISK, FACTS, { machine: 'here', aliases: ['block:7:0'] })).not.toThrow()
  })

  it.each([
    ['on another machine', { ...identity, machine: 'there' }],
    ['another one', { machine: 'here', aliases: ['block:7:1'] }],
    ['the file behind it', { machine: 'here', aliases: ['file:1:2'] }],
    ['nothing', { machine: 'here', aliases: [] }],
  ])('must not be %s', (_, opened) => {
    expect(() => checkAdmitted(DISK, FACTS, opened)).toThrow(
      expect.objectContaining({ code: 'guard/held', operand: DISK }),
    )
  })

  it('is not known without names', () => {
    expect(() =>
      checkAdmitted(DISK, { machine: 'here', aliases: [] }, { machine: 'here', aliases: [] }),
    ).toThrow('is not the disk')
  })
})

describe('lines', () => {
  const bytes = Buffer.from('ab\n\ncdé\nf')
  it.each(Array.from({ length: bytes.length }, (_, index) => index))(
    'are the same when cut at byte %d',
    (cut) => {
      const reader = new LineReader()
      const lines = [bytes.subarray(0, cut), bytes.subarray(cut), Buffer.from('g\n')].flatMap(
        (chunk) => reader.push(chunk, 4) ?? ['too long'],
      )
      expect(lines).toEqual(['ab', '', 'cdé', 'fg'])
    },
  )

  it('of the longest length are read, longer ones are not', () => {
    const longest = 'x'.repeat(MAX_HELLO_BYTES)
    expect(new LineReader().push(Buffer.from(`${longest}\n`), MAX_HELLO_BYTES)).toEqual([longest])
    expect(new LineReader().push(Buffer.from(`${longest}x\n`), MAX_HELLO_BYTES)).toBeNull()
    const reader = new LineReader()
    expect(reader.push(Buffer.from(longest), MAX_HELLO_BYTES)).toEqual([])
    expect(reader.push(Buffer.from('x'), MAX_HELLO_BYTES)).toBeNull()
  })
})
