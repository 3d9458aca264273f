// flock(2) on an open descriptor, at once or by waiting: by the native core, else by util-linux' flock, which is given the
// descriptor and locks the same open file description. Refuses nothing; says where a lock is not possible.

import { errnoOf } from '../errors.js'
import type { NativeCore } from '../native.js'

export type LockMode = 'shared' | 'exclusive'

/** `impossible`: the file system has no such locks, or there is nothing here that can ask for one; `why` is for people. */
export type LockAnswer = { is: 'locked' } | { is: 'held' } | { is: 'impossible'; why: string }

/** Without waiting it is one system call; a program that needs longer than this hangs. */
const AT_ONCE_MS = 10_000
/** The descriptor in the program: the first one behind the three that every program has. */
const CHILD_FD = 3
/** What is kept of what it says. */
const MAX_WORDS_UNITS = 200

/** Asks for a lock without waiting. */
export async function tryLock(fd: number, mode: LockMode, native: NativeCore | null): Promise<LockAnswer> {
  if (native === null) return await runFlock(['-n'], fd, mode, AT_ONCE_MS, null)
  try {
    return { is: native.lock(fd, mode === 'exclusive') ? 'locked' : 'held' }
  } catch (error) {
    const errno = errnoOf(error)
    // EINVAL and the like of a file system that knows no locks: EOPNOTSUPP, ENOLCK, ENOSYS, EIO, EBADF (NFS)
    if (errno === null || !/^E(?!RR_)[A-Z0-9]+$/.test(errno)) throw error
    return { is: 'impossible', why: errno }
  }
}

/** Waits for a lock, for `waitMs` at most or until `signal` is aborted: then it is `held`, and nothing waits any more. */
export async function waitForLock(
  fd: number,
  mode: LockMode,
  waitMs: number,
  signal: AbortSignal,
): Promise<LockAnswer> {
  if (signal.aborted) return { is: 'held' }
  return await runFlock([], fd, mode, waitMs, signal)
}

async function runFlock(
  words: readonly string[],
  fd: number,
  mode: LockMode,
  timeoutMs: number,
  signal: AbortSignal | null,
): Promise<LockAnswer> {
  // seldom needed, and it takes milliseconds of every start
  const { spawn } = await import('node:child_process')
  return await new Promise((resolve) => {
    const child = spawn('flock', [...words, mode === 'exclusive' ? '-x' : '-s', String(CHILD_FD)], {
      stdio: ['ignore', 'ignore', 'pipe', fd],
    })
    let said = ''
    const stop = (): void => {
      child.kill('SIGKILL')
    }
    // one timer bounds them all: Node.js fires a longer one at once
    const timer = setTimeout(stop, Math.min(timeoutMs, MAX_TIMER_MS))
    const settle = (answer: LockAnswer): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', stop)
      resolve(answer)
    }
    signal?.addEventListener('abort', stop, { once: true })
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString()).slice(0, MAX_WORDS_UNITS)
    })
    child.once('error', (error) => {
      const what = errnoOf(error) === 'ENOENT' ? 'flock (util-linux) is not installed' : error.message
      settle({ is: 'impossible', why: what })
    })
    child.once('close', (status, killedBy) => {
      if (status === 0) settle({ is: 'locked' })
      else if (status === 1 || killedBy === 'SIGKILL') settle({ is: 'held' })
      else settle({ is: 'impossible', why: said.trim().split('\n')[0] ?? `flock ended with ${status}` })
    })
  })
}

/** The longest timer there is (2^31 - 1 ms); whoever waits for longer asks again. */
const MAX_TIMER_MS = 2_147_483_647
