// The lanes of a run with sessions that are made up: who fails what, who is told, and that nothing is left when it ends.

import { PassThrough } from 'node:stream'

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { FURTHER_WINDOW_BYTES, Lanes, type LaneWork } from '../../src/sync/lanes.js'
import { Session } from '../../src/sync/session.js'
import type { Connection, FarExit } from '../../src/transport/transport.js'
import { Channel, WINDOW_BYTES } from '../../src/wire/channel.js'
import { FRAME, HEADER_BYTES } from '../../src/wire/frame.js'
import { ownBanner } from '../../src/wire/handshake.js'
import { isSettled, settled } from '../wire/pair.js'

/** A session whose far end ends, with `exitStatus`, when its input ends. */
class FakeFar {
  readonly session: Session
  readonly said: PassThrough
  isDisposed = false

  constructor(exitStatus = 0) {
    const input = new PassThrough()
    this.said = new PassThrough()
    const output = this.said
    const exit = new Promise<FarExit>((resolve) => {
      output.once('finish', () => resolve({ exitStatus, signal: null, stderrTail: '' }))
    })
    const connection: Connection = {
      peerName: 'host2',
      kind: 'openssh',
      cipher: null,
      forward: null,
      input,
      output,
      exit,
      end: () => output.end(),
      kill: () => undefined,
      explain: (ended) => new SyncError('session/lost', `it ended with ${ended.exitStatus}`),
      [Symbol.asyncDispose]: async () => {
        this.isDisposed = true
      },
    }
    output.resume()
    const channel = new Channel(input, output, Buffer.alloc(0))
    this.session = new Session(connection, channel, ownBanner('server', false, []), 2, Buffer.alloc(16))
  }
}

type Connecting = { resolve: (far: FakeFar) => void; reject: (error: unknown) => void }

/** Lanes over a first session, and the connections that they asked for, in order. */
function lanesOf(): {
  lanes: Lanes
  first: FakeFar
  connecting: Connecting[]
  warnings: string[]
} {
  const first = new FakeFar()
  const connecting: Connecting[] = []
  const warnings: string[] = []
  const connect = (): Promise<Session> =>
    new Promise((resolve, reject) => connecting.push({ resolve: (far) => resolve(far.session), reject }))
  const lanes = new Lanes(first.session, connect, { onWarning: (text) => void warnings.push(text) })
  return { lanes, first, connecting, warnings }
}

const FAILED = new SyncError('connect/refused', 'nothing answers on host2', {
  operand: 'host2',
  hint: 'Look.',
})
const IDLE: LaneWork = { open: async () => undefined, work: async () => undefined }

describe('lanes that come up', () => {
  it('are asked for once, take up work whenever they come, and are counted', async () => {
    const { lanes, connecting } = lanesOf()
    const did: string[] = []
    const work: LaneWork = {
      open: async ({ number }) => void did.push(`open ${number}`),
      work: async ({ number, need }) => void did.push(`work ${number} ${need}`),
    }
    let changes = 0
    lanes.onChange = () => (changes += 1)
    expect([lanes.wanted, lanes.sessions.length]).toEqual([1, 1])
    lanes.grow(3, 'required')
    lanes.grow(3, 'required')
    lanes.grow(2, 'welcome')
    await settled()
    expect([lanes.wanted, connecting.length, lanes.sessions.length]).toEqual([3, 2, 1])
    connecting[1]?.resolve(new FakeFar())
    await settled()
    lanes.start(work)
    await settled()
    expect(did).toEqual(['open 3', 'work 3 required'])
    connecting[0]?.resolve(new FakeFar())
    await settled()
    expect(did.slice(2)).toEqual(['open 2', 'work 2 required'])
    expect([changes, lanes.sessions.length, lanes.channels.length]).toEqual([2, 3, 3])
    await lanes.finish()
    // No work is left for one that comes now; the next disk's is for all.
    lanes.grow(4, 'welcome')
    await settled()
    connecting[2]?.resolve(new FakeFar())
    await settled()
    expect(did.length).toBe(4)
    lanes.start(work)
    await lanes.finish()
    expect(did.filter((line) => line.startsWith('work')).length).toBe(5)
    await lanes.goodbye()
    await lanes[Symbol.asyncDispose]()
  })

  it('have less in flight than the first one: their far processes add up', async () => {
    const { lanes, first, connecting } = lanesOf()
    const further = new FakeFar()
    lanes.grow(2, 'required')
    await settled()
    connecting[0]?.resolve(further)
    await settled()
    const body = Buffer.alloc((1 << 20) - HEADER_BYTES)
    const inFlight = async ({ channel }: Session): Promise<number> => {
      for (let sent = 0; sent < 20; sent += 1) {
        const sending = channel.send(FRAME.data, 0, [body])
        sending.catch(() => undefined) // the one that waits is ended with its channel
        if (!(await isSettled(sending))) break
      }
      return channel.inFlightBytes
    }
    expect(await inFlight(further.session)).toBe(FURTHER_WINDOW_BYTES)
    expect(await inFlight(first.session)).toBe(WINDOW_BYTES)
    lanes.fail(FAILED)
    await lanes[Symbol.asyncDispose]()
  })

  it('are waited for by finish, which takes no new ones meanwhile', async () => {
    const { lanes, connecting } = lanesOf()
    let done: () => void = () => undefined
    const working = new Promise<void>((resolve) => (done = resolve))
    lanes.grow(2, 'required')
    await settled()
    connecting[0]?.resolve(new FakeFar())
    lanes.start({ open: async () => undefined, work: () => working })
    await settled()
    const finished = lanes.finish()
    expect(await isSettled(finished)).toBe(false)
    done()
    await finished
    await lanes[Symbol.asyncDispose]()
  })
})

describe('a lane that cannot be opened', () => {
  it('ends a run that required it: all channels fail, the error has its number', async () => {
    const { lanes, first, connecting, warnings } = lanesOf()
    const up = new FakeFar()
    lanes.grow(3, 'required')
    await settled()
    connecting[0]?.resolve(up)
    await settled()
    connecting[1]?.reject(FAILED)
    await settled()
    expect(lanes.failure).toMatchObject({
      code: 'connect/refused',
      message: 'lane 3: nothing answers on host2',
      operand: 'host2',
      hint: 'Look.',
    })
    for (const { channel } of [first.session, up.session]) expect(channel.failure).toBe(lanes.failure)
    await expect(lanes.finish()).rejects.toBe(lanes.failure)
    expect(warnings).toEqual([])
    await lanes[Symbol.asyncDispose]()
  })

  it('is a warning where it was only welcome, and the run goes on', async () => {
    const { lanes, first, connecting, warnings } = lanesOf()
    lanes.grow(2, 'welcome')
    await settled()
    lanes.start(IDLE)
    connecting[0]?.reject(FAILED)
    await settled()
    expect(warnings).toEqual([
      'lane 2 could not be opened (nothing answers on host2); the run goes on without it',
    ])
    expect([lanes.failure, first.session.channel.failure]).toEqual([null, null])
    await lanes.finish()
    await lanes[Symbol.asyncDispose]()
  })

  it('is said once, whatever number of them there is', async () => {
    const { lanes, connecting, warnings } = lanesOf()
    lanes.grow(4, 'welcome')
    await settled()
    for (const { reject } of connecting) reject(FAILED)
    await settled()
    expect([connecting.length, warnings.length, lanes.failure]).toEqual([3, 1, null])
    await lanes[Symbol.asyncDispose]()
  })

  it.each([
    ['required', 'guard/held', []],
    ['welcome', null, ['lane 2 could not be opened (it is in use); the run goes on without it']],
  ] as const)('because its disk cannot be: %s', async (need, code, warned) => {
    const { lanes, first, connecting, warnings } = lanesOf()
    const refused = new FakeFar()
    lanes.grow(2, need)
    await settled()
    connecting[0]?.resolve(refused)
    lanes.start({
      open: async () => {
        throw new SyncError('guard/held', 'it is in use')
      },
      work: async () => {
        throw new Error('it works on a disk that it could not open')
      },
    })
    await settled()
    expect(lanes.failure?.code ?? null).toBe(code)
    expect(first.session.channel.failure?.code ?? null).toBe(code)
    expect(warnings).toEqual(warned)
    // Nobody else ends it: it is none of the lanes any more.
    expect([lanes.sessions.length, refused.isDisposed]).toEqual([1, true])
    await lanes[Symbol.asyncDispose]()
  })
})

describe('a lane that fails at work', () => {
  it.each(['required', 'welcome'] as const)(
    'ends all, %s or not; the first failure is the one',
    async (need) => {
      const { lanes, first, connecting } = lanesOf()
      const fars = [new FakeFar(), new FakeFar()]
      lanes.grow(3, need)
      await settled()
      fars.forEach((far, index) => connecting[index]?.resolve(far))
      const failures: ((error: SyncError) => void)[] = []
      lanes.start({
        open: async () => undefined,
        work: () => new Promise((_, reject) => failures.push(reject)),
      })
      await settled()
      failures[1]?.(new SyncError('destination/write', 'EIO', { operand: '/disk' }))
      await settled()
      failures[0]?.(new SyncError('session/lost', 'it was cut off by that'))
      await expect(lanes.finish()).rejects.toMatchObject({
        code: 'destination/write',
        message: 'lane 3: EIO',
        operand: '/disk',
      })
      for (const { session } of [first, ...fars]) expect(session.channel.failure).not.toBeNull()
      const said = await lanes.giveUp(lanes.failure ?? FAILED)
      expect(said.length).toBe(2)
      await lanes[Symbol.asyncDispose]()
      expect(fars.map(({ isDisposed }) => isDisposed)).toEqual([true, true])
    },
  )

  it('is explained by how its far end ended where the line was lost', async () => {
    const { lanes, connecting } = lanesOf()
    lanes.grow(2, 'required')
    await settled()
    connecting[0]?.resolve(new FakeFar(137))
    await settled()
    lanes.start({
      open: async () => undefined,
      work: async () => {
        throw new SyncError('session/lost', 'the far end ended before it was done')
      },
    })
    await expect(lanes.finish()).rejects.toMatchObject({ message: 'lane 2: it ended with 137' })
    await lanes[Symbol.asyncDispose]()
  })
})

describe('the end of a run', () => {
  it('says goodbye to all, and fails where one far end does not end well', async () => {
    const { lanes, connecting } = lanesOf()
    lanes.grow(3, 'required')
    await settled()
    connecting[0]?.resolve(new FakeFar(0))
    connecting[1]?.resolve(new FakeFar(8))
    await settled()
    await expect(lanes.goodbye()).rejects.toMatchObject({ message: 'it ended with 8' })
    await lanes[Symbol.asyncDispose]()
  })

  it('asks for no more connections than a few at once, and for none that waited', async () => {
    const { lanes, connecting } = lanesOf()
    lanes.grow(16, 'required')
    await settled()
    const atOnce = connecting.length
    expect(atOnce).toBeLessThan(10)
    await lanes.goodbye()
    for (const { reject } of connecting) reject(new SyncError('internal', 'the run is over'))
    await lanes[Symbol.asyncDispose]()
    expect(connecting.length).toBe(atOnce)
  })

  it.each(['goodbye', 'failure'] as const)(
    'while a lane is coming up (%s): it is ended when it has',
    async (how) => {
      const { lanes, connecting, warnings } = lanesOf()
      const late = new FakeFar()
      lanes.grow(3, 'required')
      await settled()
      if (how === 'goodbye') await lanes.goodbye()
      else lanes.fail(FAILED)
      const disposing = lanes[Symbol.asyncDispose]()
      expect(await isSettled(disposing)).toBe(false)
      connecting[0]?.resolve(late)
      // As `connect` does when it is told that the run is over.
      connecting[1]?.reject(new SyncError('internal', 'the run is over'))
      await disposing
      expect([late.isDisposed, lanes.sessions.length]).toEqual([true, 1])
      expect([warnings, lanes.failure]).toEqual([[], null])
      lanes.grow(5, 'required')
      await settled()
      expect(connecting.length).toBe(2)
    },
  )
})
