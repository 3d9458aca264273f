// What systemd is told, as a receiver of datagrams gets it; and the core's function for them.

import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { serviceManager, watchdogMs } from '../../src/daemon/sd-notify.js'
import { loadNative } from '../../src/native.js'
import { needs } from '../support/needs.js'
import { until } from '../support/processes.js'
import { receive } from './receiver.js'

let directory: string
const native = loadNative('auto')
const path = process.env['PATH']

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-notify-'))
})

afterEach(() => {
  process.env['PATH'] = path
  delete process.env['NOTIFY_SOCKET']
  rmSync(directory, { recursive: true, force: true })
})

describe('systemd', needs('native', 'python3'), () => {
  it.each(['path', 'abstract'])('is told over a %s', async (kind) => {
    const address = kind === 'path' ? join(directory, 'notify') : `@blocksync-test-${process.pid}`
    await using receiver = await receive(address)
    const failures: string[] = []
    const manager = serviceManager({ NOTIFY_SOCKET: address, WATCHDOG_USEC: '3000000' }, native, (message) =>
      failures.push(message),
    )
    const before = process.hrtime.bigint() / 1000n
    await manager.ready('2 jobs,\nREADY=0')
    await manager.reloading()
    await manager.status('one')
    await manager.alive()
    await manager.stopping()
    await until(() => receiver.texts.length === 5, 'all have come')
    expect(receiver.texts[0]).toBe('READY=1\nSTATUS=2 jobs, READY=0')
    const [, microseconds] = /^RELOADING=1\nMONOTONIC_USEC=(\d+)$/.exec(receiver.texts[1] ?? '') ?? []
    expect(BigInt(microseconds ?? 0)).toBeGreaterThanOrEqual(before)
    expect(BigInt(microseconds ?? 0)).toBeLessThan(before + 10_000_000n)
    expect(receiver.texts.slice(2)).toEqual(['STATUS=one', 'WATCHDOG=1', 'STOPPING=1'])
    expect([manager.aliveEveryMs, failures]).toEqual([1500, []])
  })

  it('has as many words as fit into a datagram of its own', async () => {
    const address = join(directory, 'notify')
    await using receiver = await receive(address)
    const core = native ?? expect.unreachable()
    const text = 'x'.repeat(60_000)
    core.sendDatagram(Buffer.from(address), Buffer.from(text))
    core.sendDatagram(Buffer.from(address), new Uint8Array(0))
    await until(() => receiver.texts.length === 2, 'both have come')
    expect(receiver.texts).toEqual([text, ''])
  })
})

describe('a datagram', needs('native'), () => {
  it('fails with the system’s errno, and refuses what is no address', () => {
    const core = native ?? expect.unreachable()
    const send = (address: string): void => core.sendDatagram(Buffer.from(address), Buffer.from('x'))
    expect(() => send(join(directory, 'none'))).toThrow(expect.objectContaining({ code: 'ENOENT' }))
    writeFileSync(join(directory, 'file'), '')
    expect(() => send(join(directory, 'file'))).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }))
    expect(() => send('\0blocksync-nobody')).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }))
    for (const address of ['', 'x'.repeat(109)])
      expect(() => send(address)).toThrow(expect.objectContaining({ code: 'ENAMETOOLONG' }))
    expect(() => core.sendDatagram('/x' as unknown as Uint8Array, Buffer.from('x'))).toThrow(TypeError)
  })
})

describe('without systemd', () => {
  it('tells nobody', async () => {
    const manager = serviceManager({ WATCHDOG_USEC: '1000000' }, native, () => expect.unreachable())
    await manager.ready('1 job')
    expect(manager.aliveEveryMs).toBeNull()
  })

  it.each(['/nowhere/notify', 'vsock:2:1', `/${'x'.repeat(120)}`])(
    'says once that %s does not work',
    async (address) => {
      const failures: string[] = []
      const manager = serviceManager({ NOTIFY_SOCKET: address }, native, (message) => failures.push(message))
      await manager.ready('1 job')
      await manager.alive()
      expect(failures).toEqual([expect.stringContaining('systemd could not be told')])
    },
  )

  it('asks systemd’s own program where there is no core', async () => {
    const program = join(directory, 'systemd-notify')
    writeFileSync(program, '#!/bin/sh\nfor word; do echo "$word"; done >> "$NOTIFY_SOCKET"\n')
    chmodSync(program, 0o755)
    process.env['PATH'] = `${directory}:${path}`
    process.env['NOTIFY_SOCKET'] = join(directory, 'said')
    await serviceManager(process.env, null, () => expect.unreachable()).ready('1 job')
    expect(readFileSync(join(directory, 'said'), 'utf8')).toBe(
      `--pid=${process.pid}\nREADY=1\nSTATUS=1 job\n`,
    )
    process.env['PATH'] = directory
    rmSync(program)
    const failures: string[] = []
    await serviceManager(process.env, null, (message) => failures.push(message)).ready('1 job')
    expect(failures).toEqual([expect.stringContaining('systemd-notify')])
  })

  it('watches half as long as systemd does, and only where that is for this process', () => {
    expect(watchdogMs({ WATCHDOG_USEC: '30000000' })).toBe(15_000)
    expect(watchdogMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: String(process.pid) })).toBe(15_000)
    expect(watchdogMs({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '1' })).toBeNull()
    for (const text of ['', '0', '-5', 'x']) expect(watchdogMs({ WATCHDOG_USEC: text })).toBeNull()
  })
})
