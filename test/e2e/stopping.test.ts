// A run that is stopped while it waits: for the rate, for a disk that cannot keep what it was given, for a host that does
// not answer. It stops at once, and says what is known.

import { once } from 'node:events'
import { createServer } from 'node:net'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { relay, resultOf, runCli, startCli } from '../support/cli.js'
import { randomBytes, type Scratch, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { bytesWrittenBy, isRunning, until, untilIdle } from '../support/processes.js'

const MIB = 1 << 20
/** Far less than any wait that is meant to be cut short. */
const AT_ONCE_MS = 8000

const scratch = useScratch()
let made = 0

type Direction = 'push' | 'pull'

const operands = (direction: Direction, from: string, to: string): string[] =>
  direction === 'push' ? [from, `far:${to}`] : [`far:${from}`, to]

/** 32 MiB, of which every other 64 KiB are random: pieces that are written through the cache, since they are short. */
function chequered(): Buffer {
  const content = randomBytes(32 * MIB)
  for (let at = 64 << 10; at < content.length; at += 128 << 10) content.fill(0, at, at + (64 << 10))
  return content
}

/** A device that takes 16 MiB of them and whose file system has room for 4 of them: it fails when it is flushed. */
async function unflushable(on: Scratch): Promise<string> {
  const name = `small-${made++}`
  await on.mount(name, 'tmpfs', '-t', 'tmpfs', '-o', 'size=4M')
  const backing = await on.sparseFile(join(name, 'backing.img'), 32 * MIB)
  return on.loopDevice(backing)
}

describe.each(['push', 'pull'] as const)('%s', (direction) => {
  it('an interrupt does not hide that the destination cannot flush', needs('loop', 'mount'), async () => {
    const on = scratch()
    const from = await on.file(`source-${made++}.img`, chequered())
    const to = await unflushable(on)
    // The device is read whole by then, and ten megabytes of it go to its cache.
    const line = await relay(on, { on: direction === 'push' ? 'up:data:12' : 'down:data:12', act: 'hold' })
    const running = startCli(on, ['--json', ...operands(direction, from, to), ...line.words])
    await line.reached()
    const farPid = await line.farPid()
    const writer = direction === 'push' ? farPid : running.pid
    await until(() => bytesWrittenBy(writer) > 6 * MIB, 'more is written than there is room for')
    running.child.kill('SIGINT')
    line.letGo()
    const ended = await running.ended
    expect(ended.stderr).toMatch(/stopping/)
    expect({ status: ended.status, stderr: ended.status === 6 ? '' : ended.stderr }).toEqual({
      status: 6,
      stderr: '',
    })
    expect(resultOf(ended)).toMatchObject({ ok: false, state: 'partial' })
    expect(resultOf(ended).error?.code).toMatch(/^destination\/(flush|no-space|write)$/)
    await until(() => !isRunning(farPid), 'the far side is gone')
  })

  it('waiting for the rate is cut short by the end of the other side, at both ends', async () => {
    const on = scratch()
    const from = await on.randomFile(`source-${made++}.img`, 8 * MIB)
    const to = await on.sparseFile(`target-${made++}.img`, 8 * MIB)
    // The source has heard of the first digests; a megabyte at this rate takes a quarter of an hour.
    const line = await relay(on, {
      on: direction === 'push' ? 'down:digests:1' : 'up:digests:1',
      act: 'hold',
    })
    const words = [...operands(direction, from, to), '--bwlimit', '1K', ...line.words]
    const running = startCli(on, ['--json', ...words])
    await line.reached()
    const farPid = await line.farPid()
    line.letGo()
    // The source digests its own eight megabytes, and then there is nothing to do but to wait.
    const sourcePid = direction === 'push' ? running.pid : farPid
    await untilIdle(sourcePid)
    const startMs = performance.now()
    if (direction === 'push') process.kill(farPid, 'SIGKILL')
    else running.child.kill('SIGKILL')
    const ended = await running.ended
    expect(ended.status).toBe(direction === 'push' ? 8 : null)
    await until(() => !isRunning(farPid), 'the far side is gone', AT_ONCE_MS)
    expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS)
  })

  it('keeps to the rate', async () => {
    const on = scratch()
    const from = await on.randomFile(`source-${made++}.img`, 3 * MIB)
    const to = await on.sparseFile(`target-${made++}.img`, 3 * MIB)
    const line = await relay(on, null)
    const startMs = performance.now()
    const words = [...operands(direction, from, to), '--bwlimit', '1536K', ...line.words]
    const ended = await runCli(on, ['--json', ...words])
    const elapsedMs = performance.now() - startMs
    expect(resultOf(ended)).toMatchObject({ ok: true, sentBytes: 3 * MIB })
    expect(elapsedMs).toBeGreaterThan(1800)
    expect(elapsedMs).toBeLessThan(10_000)
  })
})

it('an interrupt ends the wait for a host that takes the connection and never speaks', async () => {
  const on = scratch()
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const connected = once(server, 'connection')
  const sockets = new Set<{ destroy: () => void }>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    // It is cut in the middle of the handshake.
    socket.on('error', () => undefined).resume()
  })
  on.onClose(async () => {
    const closed = once(server, 'close')
    server.close()
    for (const socket of sockets) socket.destroy()
    await closed
  })
  const config = await on.file('silent_config', Buffer.from('Host silent\n  HostName 127.0.0.1\n'))
  const from = await on.file(`source-${made++}.img`, randomBytes(512))
  const words = ['--ssh', 'ssh2', '-F', config, '-p', String(address.port)]
  const running = startCli(on, ['--json', from, 'silent:/nowhere', ...words])
  await connected
  const startMs = performance.now()
  running.child.kill('SIGINT')
  const ended = await running.ended
  expect({ status: ended.status, stderr: ended.status === 130 ? '' : ended.stderr }).toEqual({
    status: 130,
    stderr: '',
  })
  expect(performance.now() - startMs).toBeLessThan(AT_ONCE_MS)
})
