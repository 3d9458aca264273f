// A run that is tried again: a host that is not up yet, a connection that breaks; what was acknowledged is not sent twice,
// what is final is not tried again, and an interrupt ends the pause.

import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { type Ended, FIXTURES, REMOTE_COMMAND, relay, resultOf, runCli, startCli } from '../support/cli.js'
import { type Scratch, useScratch } from '../support/disks.js'
import { useFarSides, ways } from '../support/far-sides.js'
import { leastMs } from '../support/least.js'
import { descendantsOf, isRunning, until } from '../support/processes.js'
import { openSlowLine } from '../support/slow-line.js'

const MIB = 1 << 20

const scratch = useScratch()
const far = useFarSides()
let made = 0

const image = (on: Scratch, mib: number): Promise<string> => on.randomFile(`disk-${made++}.img`, mib * MIB)

type RetryEvent = { event: string; retry: number; retries: number; waitMs: number; error: { code: string } }

function retriesOf({ stdout }: Ended): RetryEvent[] {
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as RetryEvent)
    .filter(({ event }) => event === 'retry')
}

/** A port of this host that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const closed = once(server, 'close')
  server.close()
  await closed
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

describe.each(ways('openssh', 'ssh2'))('over %s', (way) => {
  it('a host that comes up meanwhile is reached', async () => {
    const on = scratch()
    const [from, to] = [await image(on, 1), await image(on, 1)]
    const port = await freePort()
    // the same host, by another port, where nobody listens before the first attempt has failed
    const config = on.path(`config-${made++}`)
    writeFileSync(
      config,
      readFileSync(far.sshd().clientConfigPath, 'utf8').replace(/Port \d+/, `Port ${port}`),
    )
    const hosts = readFileSync(far.sshd().knownHostsPath, 'utf8')
    writeFileSync(far.sshd().knownHostsPath, `${hosts}${hosts.replaceAll(/\]:\d+/g, `]:${port}`)}`)
    const words = ['--ssh', way, '-F', config, '--remote-command', REMOTE_COMMAND]
    const run = startCli(on, ['--json', from, `far:${to}`, '--retries', '5', ...words])
    await run.said(/retrying in 1 s \(1 of 5\): far: /)
    const line = await openSlowLine(far.sshd().port, 0, port)
    on.onClose(() => line.close())
    const ended = await run.ended
    expect({ status: ended.status, stderr: ended.status === 0 ? '' : ended.stderr }).toEqual({
      status: 0,
      stderr: '',
    })
    expect(resultOf(ended)).toMatchObject({ ok: true, attempts: 1 + retriesOf(ended).length })
    expect(retriesOf(ended)[0]).toMatchObject({ retry: 1, retries: 5, error: { code: 'connect/refused' } })
    expect((await readFile(to)).equals(await readFile(from))).toBe(true)
  })
})

describe('a connection that breaks', () => {
  it('is made again, and what was acknowledged is not sent again', async () => {
    const on = scratch()
    const [from, to] = [await image(on, 24), await on.sparseFile(`copy-${made++}.img`, 24 * MIB)]
    // the relay of the first attempt cuts at the 13th data frame; later ones find its mark and pass everything
    const mark = on.path(`mark-${made++}`)
    const shell = [
      process.execPath,
      join(FIXTURES, 'relay.js'),
      '--on=up:data:13',
      '--do=cut',
      `--once=${mark}`,
    ]
    const words = ['-e', shell.join(' '), '--remote-command', REMOTE_COMMAND]
    const ended = await runCli(on, ['--json', from, `far:${to}`, '--retries', '3', ...words])
    expect({ status: ended.status, stderr: ended.stderr }).toMatchObject({ status: 0 })
    expect(ended.stderr).toMatch(/retrying in 1 s \(1 of 3\): /)
    const result = resultOf(ended)
    expect(result).toMatchObject({ ok: true, attempts: 2, state: 'done' })
    expect(retriesOf(ended)).toMatchObject([{ retry: 1, error: { code: 'session/lost' } }])
    // thirteen frames went, of which some were not acknowledged; never the whole disk twice
    expect(result.sentBytes).toBeLessThanOrEqual(24 * MIB - 8 * MIB)
    expect(result.sentBytes).toBeGreaterThanOrEqual(11 * MIB)
    expect(result.wireBytesSent).toBeLessThan(result.sentBytes + 64 * 1024)
    expect((await readFile(to)).equals(await readFile(from))).toBe(true)
  })

  it('is given up after the last one, with its status', async () => {
    const on = scratch()
    const [from, to] = [await image(on, 4), await image(on, 4)]
    const line = await relay(on, { on: 'up:data:1', act: 'cut' })
    const ended = await runCli(on, ['--json', from, `far:${to}`, '--retries', '1', ...line.words])
    expect(ended.status).toBe(8)
    expect(resultOf(ended)).toMatchObject({ ok: false, attempts: 2 })
    expect(retriesOf(ended)).toHaveLength(1)
  })

  it('is not made again for what no retry can help', async () => {
    const on = scratch()
    const from = await image(on, 1)
    const [shorter, missing] = [await on.sparseFile(`short-${made++}.img`, 4096), on.path('missing.img')]
    for (const [to, status] of [
      [shorter, 3],
      [missing, 3],
    ] as const) {
      const ended = await runCli(on, ['--json', from, to, '--retries', '5'])
      expect([ended.status, retriesOf(ended), resultOf(ended)]).toMatchObject([status, [], { attempts: 1 }])
    }
    const usage = await runCli(on, ['--json', from, from, '--retries', 'x'])
    expect([usage.status, resultOf(usage)]).toMatchObject([2, { attempts: 0 }])
  })

  it('an interrupt ends the pause at once', async () => {
    const on = scratch()
    const [from, to] = [await image(on, 4), await image(on, 4)]
    const interrupted = async (): Promise<number> => {
      const line = await relay(on, { on: 'up:data:1', act: 'cut' })
      const run = startCli(on, ['--json', from, `far:${to}`, '--retries', '9', ...line.words])
      await run.said(/retrying in 2 s \(2 of 9\)/)
      const children = descendantsOf(run.pid)
      const startMs = performance.now()
      run.child.kill('SIGTERM')
      const ended = await run.ended
      const tookMs = performance.now() - startMs
      expect([ended.status, resultOf(ended)]).toMatchObject([
        143,
        { ok: false, error: { code: 'interrupt/sigterm' } },
      ])
      await until(() => !children.some(isRunning), 'nothing is left')
      return tookMs
    }
    expect(await leastMs(interrupted, 1000)).toBeLessThan(1000)
  })

  it('waits for what is left of the attempt before, which still has the disk', async () => {
    const on = scratch()
    const [from, to] = [await image(on, 4), await image(on, 4)]
    const line = await relay(on, { on: 'up:data:2', act: 'hold' })
    const run = startCli(on, ['--json', from, `far:${to}`, '--timeout', '2', '--retries', '3', ...line.words])
    await line.reached()
    const farPid = await line.farPid()
    process.kill(farPid, 'SIGSTOP')
    await run.said(/retrying in \d s/)
    await run.said(/waiting up to \d+ s: the destination \S+ is locked by blocksync/)
    process.kill(farPid, 'SIGCONT')
    // what it holds it lets go of when it finds that its client is gone; the relay still holds, so each attempt ends the same way
    await until(() => !isRunning(farPid), 'the first far end is gone')
    run.child.kill('SIGTERM')
    expect((await run.ended).status).toBe(143)
  })
})
