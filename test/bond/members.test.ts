// The streams of a bond over real sockets: only who knows the secret comes in, at either end; the socket has its name and
// mode while somebody is expected and is gone afterwards.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { createServer, connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { connectMembers } from '../../src/bond/connect.js'
import { removeLeftOver } from '../../src/bond/left-over.js'
import { BondListener } from '../../src/bond/listen.js'
import { admitMember, hearGreeting, newBondWord } from '../../src/bond/member.js'
import { privatePrefix } from '../../src/transport/abandoned.js'
import { allowsForward, isAboutForward, openForward } from '../../src/transport/forward.js'
import { bondSocketPath } from '../../src/transport/transport.js'
import { until } from '../support/processes.js'

const NEVER = new AbortController().signal
const undo: (() => void)[] = []

afterEach(() => {
  for (const act of undo.splice(0)) act()
})

function listener(secret: string): { path: string; listener: BondListener; members: Socket[] } {
  const name = newBondWord()
  const members: Socket[] = []
  const made = new BondListener({ name, secret }, (socket) => {
    members.push(socket)
    undo.push(() => socket.destroy())
  })
  undo.push(() => made.close())
  return { path: bondSocketPath(name), listener: made, members }
}

async function joined(path: string, secret: string, count: number): Promise<Socket[]> {
  const sockets = await connectMembers(path, secret, count, NEVER)
  undo.push(() => sockets.forEach((socket) => socket.destroy()))
  return sockets
}

describe('the listener', () => {
  it('lets in who knows the secret, and hands on what comes behind the proof', async () => {
    const secret = newBondWord()
    const { path, listener: far, members } = listener(secret)
    expect(await far.listen()).toBe(true)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const sockets = await joined(path, secret, 3)
    expect(sockets).toHaveLength(3)
    sockets.forEach((socket, index) => socket.write(`stream ${index}`))
    await until(() => members.length === 3, 'all are in')
    const heard = await Promise.all(
      members.map(async (member) => {
        member.resume()
        const [bytes] = (await once(member, 'data')) as [Buffer]
        return bytes.toString()
      }),
    )
    expect(heard.sort()).toEqual(['stream 0', 'stream 1', 'stream 2'])
  })

  it('keeps out who does not, and the one who waits at its name is kept out too', async () => {
    const { path, listener: far, members } = listener(newBondWord())
    await far.listen()
    expect(await joined(path, newBondWord(), 2)).toEqual([])
    const mute = connect(path)
    undo.push(() => mute.destroy())
    const [greeting] = (await once(mute, 'data')) as [Buffer]
    expect(greeting).toHaveLength(48)
    mute.write(Buffer.alloc(32))
    await once(mute, 'close')
    expect(members).toEqual([])
  })

  it('is told of no more than are wanted, and whose greeting was not answered goes with it', async () => {
    const secret = newBondWord()
    const { path, listener: far, members } = listener(secret)
    await far.listen()
    let greetedMs = -1
    const sockets = await connectMembers(path, secret, 4, NEVER, (tookMs) => {
      greetedMs = tookMs
      return 2
    })
    undo.push(() => sockets.forEach((socket) => socket.destroy()))
    expect(sockets).toHaveLength(2)
    expect(greetedMs).toBeGreaterThan(0)
    await until(() => members.length === 2, 'both are in')
    far.close()
    expect(members).toHaveLength(2)
  })

  it('is gone when it is closed, with whoever had not proved anything', async () => {
    const { path, listener: far } = listener(newBondWord())
    await far.listen()
    const mute = connect(path)
    undo.push(() => mute.destroy())
    await once(mute, 'data')
    far.close()
    await once(mute, 'close')
    expect(existsSync(path)).toBe(false)
    far.close()
  })

  it('says where it cannot listen', async () => {
    const secret = newBondWord()
    const one = listener(secret)
    await one.listener.listen()
    const name = one.path.slice(-32)
    const other = new BondListener({ name, secret }, () => undefined)
    expect(await other.listen()).toBe(false)
    expect(existsSync(one.path)).toBe(true)
  })
})

describe('what a far end left that was killed', () => {
  const HOUR_AGO = Date.now() / 1000 - 3600

  /** A socket whose process is gone: closing it in this one would take its name away. */
  function abandoned(): string {
    const path = bondSocketPath(newBondWord())
    undo.push(() => rmSync(path, { force: true }))
    const program = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
    expect(spawnSync(process.execPath, ['-e', program, path], { timeout: 20_000 }).signal).toBe('SIGKILL')
    return path
  }

  it('goes when it is old; what is young, is listened at or is no socket stays', async () => {
    const [old, young] = [abandoned(), abandoned()]
    const { path: live, listener: far } = listener(newBondWord())
    await far.listen()
    const file = bondSocketPath(newBondWord())
    writeFileSync(file, '')
    undo.push(() => rmSync(file))
    for (const path of [old, live, file]) utimesSync(path, HOUR_AGO, HOUR_AGO)
    expect(await removeLeftOver(Date.now())).toBeGreaterThanOrEqual(1)
    expect([old, young, live, file].map((path) => existsSync(path))).toEqual([false, true, true, true])
  })
})

describe('the client', () => {
  let path = ''
  beforeEach(() => {
    const directory = mkdtempSync(join(tmpdir(), 'blocksync-bond-'))
    undo.push(() => rmSync(directory, { recursive: true, force: true }))
    path = join(directory, 'socket')
  })

  it('does without where nobody listens', async () => {
    expect(await joined(path, newBondWord(), 3)).toEqual([])
  })

  it('does without where it is closed at once, as ssh does with what is refused', async () => {
    const server = createServer((socket) => socket.destroy()).listen(path)
    undo.push(() => server.close())
    await once(server, 'listening')
    expect(await joined(path, newBondWord(), 3)).toEqual([])
  })

  it('says nothing to one who greets without the secret', async () => {
    let heard = 0
    const server = createServer((socket) => {
      socket.on('error', () => undefined).on('data', (chunk) => (heard += chunk.length))
      socket.write(Buffer.alloc(48))
    }).listen(path)
    undo.push(() => server.close())
    await once(server, 'listening')
    expect(await joined(path, newBondWord(), 2)).toEqual([])
    expect(heard).toBe(0)
  })

  it('lets go of all when the session ends meanwhile', async () => {
    const accepted: Socket[] = []
    const server = createServer((socket) => accepted.push(socket)).listen(path)
    undo.push(() => server.close())
    await once(server, 'listening')
    const ending = new AbortController()
    const joining = connectMembers(path, newBondWord(), 2, ending.signal)
    await until(() => accepted.length === 2, 'both came')
    const closed = Promise.all(accepted.map(async (socket) => void (await once(socket.resume(), 'close'))))
    ending.abort()
    expect(await joining).toEqual([])
    await closed
  })
})

describe('a proof', () => {
  it('does not come in time', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'blocksync-bond-'))
    undo.push(() => rmSync(directory, { recursive: true, force: true }))
    const accepted: Socket[] = []
    const server = createServer((socket) => accepted.push(socket)).listen(join(directory, 's'))
    undo.push(() => server.close())
    await once(server, 'listening')
    const near = connect(join(directory, 's'))
    await once(near, 'connect')
    await until(() => accepted.length === 1, 'it came')
    const [far] = accepted
    if (far === undefined) throw new Error('nobody came')
    for (const socket of [near, far]) socket.on('error', () => socket.destroy())
    // Neither hears from the other: who is greeted by nobody gives up, and then nobody answers the greeting.
    expect(await hearGreeting(near, newBondWord(), 5)).toBe(null)
    expect(await admitMember(far, newBondWord(), 5)).toBe(false)
    expect([near.destroyed, far.destroyed]).toEqual([true, true])
  })
})

describe('the forward', () => {
  it.each([
    ['controlpath none\nexitonforwardfailure no\nclearallforwardings no\n', true],
    ['user root\n', true],
    ['controlpath /root/.ssh/cm-%C\n', false],
    ['exitonforwardfailure yes\n', false],
    ['clearallforwardings yes\n', false],
  ])('with %j: %j', async (resolved, allowed) => {
    expect(allowsForward(resolved)).toBe(allowed)
    const forward = openForward(resolved, await privatePrefix())
    if (forward !== null) undo.push(forward.remove)
    expect(forward !== null).toBe(allowed)
    if (forward === null) return
    const directory = join(forward.localPath, '..')
    expect(statSync(directory).mode & 0o777).toBe(0o700)
    expect(forward.words).toEqual(['-L', `${forward.localPath}:${bondSocketPath(forward.name)}`])
    forward.remove()
    expect(existsSync(directory)).toBe(false)
  })

  it('is not asked for where ssh says nothing about itself', () => {
    expect(openForward(null, 'blocksync-')).toBe(null)
  })

  it.each([
    ['channel 3: open failed: administratively prohibited: open failed', true],
    ['channel 12: open failed: connect failed: open failed', true],
    ['ssh: connect to host kvm2 port 22: Connection refused', false],
    ['bind [127.0.0.1]:5900: Address already in use', false],
  ])('is what %j is about: %j', (line, isAbout) => {
    expect(isAboutForward(line)).toBe(isAbout)
  })
})
