// Locks on disks: who gets one beside whom, by the native core and without it; who has it is named; what waits can be
// ended; and nothing is left of one when its process is killed.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { link, stat } from 'node:fs/promises'

import { afterEach, describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { type DiskLock, lockDisk, type LockMode } from '../../src/guard/lock.js'
import { ownProcessName, processName } from '../../src/guard/holders.js'
import { loadNative, type NativeCore } from '../../src/native.js'
import { useScratch } from '../support/disks.js'
import { has, needs } from '../support/needs.js'
import { childrenOf, until } from '../support/processes.js'

const scratch = useScratch()
const locks: DiskLock[] = []
let made = 0

afterEach(async () => {
  for (const lock of locks.splice(0)) await lock.release()
})

type Asked = {
  waitMs?: number
  signal?: AbortSignal
  peerProcess?: string | null
  native?: NativeCore | null
}

async function lock(path: string, mode: LockMode, asked: Asked = {}): Promise<DiskLock> {
  const { waitMs = 0, signal = null, peerProcess = null, native = loadNative('auto') } = asked
  const got = await lockDisk({ path, role: 'destination', mode, waitMs }, { native, peerProcess, signal })
  locks.push(got)
  return got
}

async function refusal(attempt: Promise<unknown>): Promise<SyncError> {
  const error: unknown = await attempt.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  if (error instanceof SyncError && error.code === 'guard/locked') return error
  throw new Error(`not refused as locked: ${String(error)}`)
}

/** A process that has a lock on `path`, and stays until it is ended. */
async function stranger(path: string, mode: LockMode): Promise<ChildProcess> {
  const flag = mode === 'exclusive' ? '-x' : '-s'
  // --no-fork, so that it is one process that has it
  const child = spawn('flock', ['--no-fork', flag, path, 'sh', '-c', 'echo ready; exec sleep 100'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  scratch().onClose(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
  })
  if (child.stdout === null) throw new Error('no stdout')
  await once(child.stdout, 'data')
  return child
}

const image = async (): Promise<string> => scratch().sparseFile(`disk-${made++}.img`, 4096)

/** Descriptors of this process that lead to `path`. */
async function openHere(path: string): Promise<number> {
  const { ino } = await stat(path)
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path && ino > 0
    } catch {
      return false // the descriptor of the listing itself
    }
  }).length
}

const CORES: [string, NativeCore | null][] = [
  ...(has('native') ? [['the native core', loadNative('require')] as [string, NativeCore | null]] : []),
  ['util-linux flock', null],
]

describe.each(CORES)('by %s', needs('flock'), (_name, native) => {
  it.each([
    ['exclusive', 'exclusive', false],
    ['exclusive', 'shared', false],
    ['shared', 'exclusive', false],
    ['shared', 'shared', true],
  ] as const)('one who has %s, one who asks for %s: %s', async (has_, asks, isGranted) => {
    const path = await image()
    const holder = await stranger(path, has_)
    const asked = lock(path, asks, { native })
    if (isGranted) {
      expect((await asked).facts).not.toBeNull()
      return
    }
    const { message, operand, hint } = await refusal(asked)
    expect(message).toMatch(
      new RegExp(
        `^the destination ${path} is locked by (?:sleep \\(pid ${holder.pid}: sleep 100\\)|sh \\(pid ${holder.pid}: sh -c .*\\)) since [0-9: ]+ \\(\\d+ s\\); nothing was written$`,
      ),
    )
    expect(operand).toBe(path)
    expect(hint).toContain('--lock-wait')
    expect(await openHere(path)).toBe(0)
  })

  it('a lock of this process is seen by others, until it is released, and not when it is released', async () => {
    const path = await image()
    const own = await lock(path, 'exclusive', { native })
    const child = spawn('flock', ['-n', '-x', path, 'true'])
    expect(await once(child, 'exit')).toEqual([1, null])
    await own.release()
    await own.release()
    const again = spawn('flock', ['-n', '-x', path, 'true'])
    expect(await once(again, 'exit')).toEqual([0, null])
  })

  it('kill -9 of who has it frees it', async () => {
    const path = await image()
    const holder = await stranger(path, 'exclusive')
    await refusal(lock(path, 'exclusive', { native }))
    holder.kill('SIGKILL')
    await once(holder, 'exit')
    expect((await lock(path, 'exclusive', { native })).facts?.ino).toBe(
      (await stat(path, { bigint: true })).ino,
    )
  })

  it('waits until it is free', async () => {
    const path = await image()
    const holder = await stranger(path, 'exclusive')
    const waiting = lock(path, 'exclusive', { native, waitMs: 30_000 })
    await until(() => childrenOf(process.pid).some((pid) => isBlockedFlock(pid)), 'it waits')
    holder.kill('SIGKILL')
    expect((await waiting).facts).not.toBeNull()
    const child = spawn('flock', ['-n', '-s', path, 'true'])
    expect(await once(child, 'exit')).toEqual([1, null])
  })

  it.each(['time is up', 'it is aborted'])('a wait ends when %s, and nothing waits any more', async (how) => {
    const path = await image()
    await stranger(path, 'exclusive')
    const abort = new AbortController()
    const startMs = performance.now()
    const waitMs = how === 'time is up' ? 300 : 60_000
    const waiting = refusal(lock(path, 'shared', { native, waitMs, signal: abort.signal }))
    if (how !== 'time is up') {
      await until(() => childrenOf(process.pid).some((pid) => isBlockedFlock(pid)), 'it waits')
      abort.abort()
    }
    await waiting
    const tookMs = performance.now() - startMs
    if (how === 'time is up') expect(tookMs).toBeGreaterThanOrEqual(waitMs)
    expect(tookMs).toBeLessThan(30_000)
    expect(childrenOf(process.pid).some((pid) => isBlockedFlock(pid))).toBe(false)
    expect(await openHere(path)).toBe(0)
  })

  it('a disk that this run has locked itself is not a stranger: whoever compares the disks refuses it', async () => {
    const path = await image()
    const own = await lock(path, 'exclusive', { native })
    const other = scratch().path(`link-${made++}`)
    await link(path, other)
    const second = await lock(other, 'exclusive', { native })
    expect([own.facts === null, second.facts === null]).toEqual([false, true])
  })
})

function isBlockedFlock(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('flock\0-')
  } catch {
    return false // it ended between the listing and the read
  }
}

describe('who has it', needs('flock', 'native'), () => {
  it('the other end of the run is no stranger, by its name', async () => {
    const path = await image()
    const { pid = 0 } = await stranger(path, 'exclusive')
    const name = processName(pid)
    expect(name).toMatch(/^[0-9a-f-]{36}\.\d+\.\d+$/)
    expect((await lock(path, 'shared', { peerProcess: name })).facts).toBeNull()
    // another pid, another boot: strangers
    await refusal(lock(path, 'shared', { peerProcess: ownProcessName() }))
    await refusal(lock(path, 'shared', { peerProcess: name?.replace(/^./, 'x') ?? null }))
  })

  it('all of several are named, up to three', async () => {
    const path = await image()
    const pids: (number | undefined)[] = []
    for (let holder = 0; holder < 4; holder += 1) pids.push((await stranger(path, 'shared')).pid)
    const { message } = await refusal(lock(path, 'exclusive'))
    expect(pids.filter((pid) => message.includes(`pid ${pid}:`))).toHaveLength(3)
    expect(message).toContain('1 more')
  })

  it('what is not a disk, or not there, is left to whoever opens it', async () => {
    const on = scratch()
    for (const path of [on.path('missing'), on.directory, '/dev/null', `${await image()}/x`])
      expect(await lock(path, 'exclusive')).toMatchObject({ facts: null, warnings: [] })
  })

  it('where there are no locks it is a warning, and the run goes on', async () => {
    const path = await image()
    const native = { ...loadNative('require'), lock: () => failWith('EOPNOTSUPP') } as unknown as NativeCore
    const got = await lock(path, 'exclusive', { native })
    expect(got.facts).toBeNull()
    expect(got.warnings).toEqual([`${path} is not locked against other runs: EOPNOTSUPP`])
    expect(await openHere(path)).toBe(0)
  })
})

function failWith(code: string): never {
  throw Object.assign(new Error(code), { code })
}
