// A peer that is there no more though the connection is: a far end, an ssh, a client that is stopped, a line that carries
// nothing any more. The other side ends with status 8 in time, flushes, and leaves no process; a busy one is not taken for dead.

import { closeSync, openSync, writeSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'

import { describe, expect, it } from 'vitest'

import { type Ended, relay, resultOf, type Running, startCli } from '../support/cli.js'
import { randomBytes, type Scratch, useScratch } from '../support/disks.js'
import { directions, servesOf, useFarSides, type Way, ways } from '../support/far-sides.js'
import { childrenOf, descendantsOf, isRunning, until } from '../support/processes.js'

const MIB = 1 << 20
/** The time-out of these runs, and what giving up may take besides: last words, a hard kill, a machine that is busy. */
const TIMEOUT = ['--timeout', '1']
const GIVES_UP_MS = 20_000

const scratch = useScratch()
const far = useFarSides()
let made = 0

/** A run that goes on for a minute, and has begun to send. */
async function running(on: Scratch, operands: readonly string[], words: readonly string[]): Promise<Running> {
  const run = startCli(on, ['--json', '--progress', ...operands, ...words, '--bwlimit', '256K'])
  await run.said(/"sentBytes":[1-9]/)
  return run
}

async function image(on: Scratch): Promise<string> {
  return await on.randomFile(`disk-${made++}.img`, 16 * MIB)
}

function expectLost(ended: Ended, says: RegExp): void {
  expect({ status: ended.status, stderr: ended.status === 8 ? '' : ended.stderr }).toEqual({
    status: 8,
    stderr: '',
  })
  expect(resultOf(ended)).toMatchObject({ ok: false, state: 'partial' })
  expect(resultOf(ended).error).toMatchObject({ code: 'session/lost' })
  expect(resultOf(ended).error?.message).toMatch(says)
}

/** Stops a process, for as long as `during` takes. */
async function stopped<T>(pid: number, during: () => Promise<T>): Promise<T> {
  process.kill(pid, 'SIGSTOP')
  try {
    return await during()
  } finally {
    try {
      process.kill(pid, 'SIGCONT')
    } catch {
      // it was killed meanwhile, as it may be
    }
  }
}

describe.each(ways('local', 'openssh', 'ssh2'))('over %s', (way: Way) => {
  const servePids = (pid: number): number[] => (way === 'local' ? servesOf(pid) : far.servePids())

  it.each(directions(way))('a far end that is stopped (%s)', async (direction) => {
    const on = scratch()
    const [here, there] = [await image(on), await image(on)]
    const operands = direction === 'push' ? [here, far.path(way, there)] : [far.path(way, there), here]
    const run = await running(on, operands, [...TIMEOUT, ...far.words(way)])
    const [serve = -1] = servePids(run.pid)
    const children = descendantsOf(run.pid)
    const startMs = performance.now()
    await stopped(serve, async () => {
      const name = way === 'local' ? 'the local half of blocksync' : 'far'
      expectLost(await run.ended, new RegExp(`^nothing was heard of ${name} for 1 s`))
      expect(performance.now() - startMs).toBeLessThan(GIVES_UP_MS)
      expect(children.filter(isRunning)).toEqual([])
    })
    // one behind ssh goes when it can go on
    await until(() => !isRunning(serve), 'the far end is gone')
  })

  it.each(directions(way))(
    'a client that is stopped (%s): the far end flushes and goes',
    async (direction) => {
      const on = scratch()
      const [here, there] = [await image(on), await image(on)]
      const operands = direction === 'push' ? [here, far.path(way, there)] : [far.path(way, there), here]
      const run = await running(on, operands, [...TIMEOUT, ...far.words(way)])
      const [serve = -1] = servePids(run.pid)
      await stopped(run.pid, async () => {
        await until(() => !isRunning(serve), 'the far end is gone', GIVES_UP_MS)
      })
      expectLost(await run.ended, /nothing was heard of|broke|ended|status 8/)
    },
  )
})

describe.each(ways('openssh'))('over %s', () => {
  it('an ssh that is stopped', async () => {
    const on = scratch()
    const [here, there] = [await image(on), await image(on)]
    const run = await running(on, [here, `far:${there}`], [...TIMEOUT, ...far.words('openssh')])
    const [ssh = -1] = childrenOf(run.pid)
    const [serve = -1] = far.servePids()
    await stopped(ssh, async () => {
      expectLost(await run.ended, /^nothing was heard of far for 1 s/)
      expect(isRunning(ssh)).toBe(false)
      await until(() => !isRunning(serve), 'the far end is gone', GIVES_UP_MS)
    })
  })
})

describe('a line', () => {
  it.each([
    'up:data:2',
    'down:credit:1',
    'down:digests:1',
    'down:opened:1',
    'up:finish:1',
    'down:finished:1',
  ] as const)('that carries nothing any more from %s on', async (when) => {
    const on = scratch()
    const [here, there] = [await image(on), await image(on)]
    const line = await relay(on, { on: when, act: 'hold' })
    const run = startCli(on, ['--json', here, `far:${there}`, ...TIMEOUT, ...line.words])
    await line.reached()
    const farPid = await line.farPid()
    const ended = await run.ended
    expect({ status: ended.status, stderr: ended.status === 8 ? '' : ended.stderr }).toEqual({
      status: 8,
      stderr: '',
    })
    expect(resultOf(ended).error?.message).toMatch(/nothing was heard of /)
    await until(() => !isRunning(farPid), 'the far end is gone', GIVES_UP_MS)
  })

  it('--timeout 0 listens for ever', async () => {
    const on = scratch()
    const [here, there] = [await image(on), await image(on)]
    const line = await relay(on, { on: 'down:credit:1', act: 'hold' })
    const run = startCli(on, ['--json', here, `far:${there}`, '--timeout', '0', ...line.words])
    await line.reached()
    const farPid = await line.farPid()
    await new Promise((resolve) => setTimeout(resolve, 3000))
    expect([isRunning(run.pid), isRunning(farPid)]).toEqual([true, true])
    line.letGo()
    expect((await run.ended).status).toBe(0)
    expect((await readFile(there)).equals(await readFile(here))).toBe(true)
  })
})

describe('a busy machine', () => {
  it('is not taken for a dead one: every processor taken, a change in every 64 KiB', async () => {
    const on = scratch()
    const sizeBytes = 256 * MIB
    const here = await on.randomFile(`busy-${made++}.img`, sizeBytes)
    const there = await on.file(`busy-${made++}.img`, await readFile(here))
    scatter(there, sizeBytes)
    const burn = 'const until = Date.now() + 40_000; while (Date.now() < until) Math.sqrt(Math.random())'
    for (let each = 0; each < 2 * availableParallelism(); each += 1) on.start(process.execPath, '-e', burn)
    const run = startCli(on, ['--json', '-q', here, there, ...TIMEOUT])
    const ended = await run.ended
    expect({ status: ended.status, stderr: ended.stderr }).toEqual({ status: 0, stderr: '' })
    expect((await stat(there)).size).toBe(sizeBytes)
  })
})

/** Changes 4 KiB in every 64 KiB. */
function scatter(path: string, sizeBytes: number): void {
  const fd = openSync(path, 'r+')
  try {
    for (let offset = 0; offset < sizeBytes; offset += 64 << 10)
      writeSync(fd, randomBytes(4096), 0, 4096, offset)
  } finally {
    closeSync(fd)
  }
}
