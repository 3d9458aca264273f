// How a session ends when the other side does not do its part: one that says nothing and lives on, one that does not go,
// one whose disk cannot flush. It ends within a bounded time, says what is not known, and leaves no process behind.

import { PassThrough } from 'node:stream'

import { afterEach, describe, expect, it, vi } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { syncOptions } from '../../src/options.js'
import { GOODBYE_TIMEOUT_MS, newSeed, openSession, Session, unconfirmed } from '../../src/sync/session.js'
import type { Connection, FarExit } from '../../src/transport/transport.js'
import { Channel } from '../../src/wire/channel.js'
import { encodeError } from '../../src/wire/control.js'
import { FRAME } from '../../src/wire/frame.js'
import { isRunning, until } from '../support/processes.js'
import { frameBytes } from '../wire/pair.js'

/** What is left of the patience of these tests. */
const SHORT_MS = 100

const INTERRUPT = new SyncError('interrupt/sigint', 'interrupted by SIGINT')

afterEach(() => {
  vi.restoreAllMocks()
})

/** Makes the wait for a goodbye short, and no other; gives how often it was waited for. */
function impatient(): () => number {
  const later = globalThis.setTimeout.bind(globalThis)
  let count = 0
  vi.spyOn(globalThis, 'setTimeout').mockImplementation((act: () => void, delayMs?: number) => {
    if (delayMs === GOODBYE_TIMEOUT_MS) count += 1
    return later(act, delayMs === GOODBYE_TIMEOUT_MS ? SHORT_MS : delayMs)
  })
  return () => count
}

type FakeFar = Readonly<{
  session: Session
  /** What the far end says; what comes is thrown away. */
  says: PassThrough
  exits: (exit: Partial<FarExit>) => void
  isKilled: () => boolean
}>

/** A session with a far end that does nothing by itself. */
function fakeFar(timeoutMs = 0): FakeFar {
  const input = new PassThrough()
  const output = new PassThrough().resume()
  let exits: (exit: Partial<FarExit>) => void = () => undefined
  let killed = false
  const exit = new Promise<FarExit>((resolve) => {
    exits = (given) => resolve({ exitStatus: null, signal: null, stderrTail: '', ...given })
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
    kill: () => {
      killed = true
    },
    explain: ({ exitStatus }) => new SyncError('session/lost', `it ended with ${exitStatus}`),
    [Symbol.asyncDispose]: async () => undefined,
  }
  const banner = {
    side: 'server',
    least: 1,
    most: 1,
    program: '1',
    node: '20',
    native: false,
    algorithms: [],
    codecs: [],
    processors: 1,
    process: null,
    timeoutMs: null,
    bonds: false,
  } as const
  const channel = new Channel(input, output, Buffer.alloc(0))
  const session = new Session(connection, channel, banner, 1, newSeed(), timeoutMs)
  return { session, says: input, exits, isKilled: () => killed }
}

describe('an interruption', () => {
  it('that the far end confirms by its exit is reported as it is', async () => {
    const { session, exits, isKilled } = fakeFar()
    const giving = session.giveUp(INTERRUPT)
    exits({ exitStatus: 130 })
    expect(await giving).toBe(INTERRUPT)
    expect(isKilled()).toBe(false)
  })

  it('whose far end does not go is not said to be on disk; it is ended', async () => {
    const waits = impatient()
    const { session, isKilled } = fakeFar()
    const error = await session.giveUp(INTERRUPT)
    expect(waits()).toBe(1)
    expect(isKilled()).toBe(true)
    expect(error).toMatchObject({ code: 'interrupt/sigint', exitStatus: 130, operand: 'host2' })
    expect(error.message).toContain('host2 did not confirm that everything acknowledged is on disk')
    expect(error.hint).toContain('Run the same command again')
    expect(unconfirmed(INTERRUPT, 'host2').message).toBe(error.message)
  })

  it.each(['destination/flush', 'destination/no-space', 'destination/write'] as const)(
    'does not hide that the far end could not keep what it had acknowledged: %s',
    async (code) => {
      const { session, says, exits } = fakeFar()
      const giving = session.giveUp(INTERRUPT)
      says.write(frameBytes(FRAME.error, encodeError(new SyncError(code, 'EIO'))))
      says.end()
      await until(() => session.channel.peerError !== null, 'the error has arrived')
      exits({ exitStatus: 6 })
      expect(await giving).toMatchObject({ code, exitStatus: 6 })
    },
  )

  it('is not replaced by what else the far end says while it goes', async () => {
    const { session, says, exits } = fakeFar()
    const giving = session.giveUp(INTERRUPT)
    says.end(frameBytes(FRAME.error, encodeError(new SyncError('session/protocol', 'eh'))))
    await until(() => session.channel.peerError !== null, 'the error has arrived')
    exits({ exitStatus: 8 })
    expect(await giving).toBe(INTERRUPT)
  })
})

describe('a goodbye', () => {
  it('that is not answered is an error after a bounded time', async () => {
    const waits = impatient()
    const { session } = fakeFar()
    await expect(session.goodbye()).rejects.toMatchObject({ code: 'session/lost', operand: 'host2' })
    expect(waits()).toBe(1)
  })

  it('is waited for no longer than --timeout says, and not once more', async () => {
    const waits = impatient()
    const { session, isKilled } = fakeFar(SHORT_MS)
    const thrown: unknown = await session.goodbye().catch((error: unknown) => error)
    expect(thrown).toMatchObject({ code: 'session/lost' })
    vi.useFakeTimers({ toFake: ['setTimeout'] })
    try {
      const giving = session.giveUp(thrown)
      await vi.advanceTimersByTimeAsync(1000)
      expect(await giving).toBe(thrown)
    } finally {
      vi.useRealTimers()
    }
    expect(isKilled()).toBe(true)
    expect(waits()).toBe(0)
  })
})

describe('a far end that closes its output before the banner and lives on', () => {
  it.each([
    ['and reads', 'exec >&-; echo "pid $$" >&2; while read -r line; do :; done; exec sleep 1000'],
    ['and does not hear SIGTERM', 'trap "" TERM; exec >&-; echo "pid $$" >&2; exec sleep 1000'],
  ])('%s: is ended, and an error is reported', async (_name, script) => {
    const waits = impatient()
    const far = { kind: 'remote', host: 'host2', user: null, port: null, typed: 'host2' } as const
    const { transport, ...rest } = syncOptions({})
    const options = { ...rest, transport: { ...transport, rsh: ['/bin/sh', '-c', script] } }
    let pid = 0
    const onStderrLine = (line: string): void => {
      pid = Number(/^pid (\d+)$/.exec(line)?.[1] ?? pid)
    }
    const opening = openSession(far, options, null, newSeed(), { onStderrLine })
    await expect(opening).rejects.toMatchObject({
      name: 'SyncError',
      code: expect.stringMatching(/^connect\//) as string,
      operand: 'host2',
    })
    expect(waits()).toBe(1)
    expect(pid).toBeGreaterThan(0)
    expect(isRunning(pid)).toBe(false)
  })
})
