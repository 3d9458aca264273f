// The lock of a run on a disk: flock(2) on the disk itself, shared for what is read, exclusive for what is written. It goes
// with the process that has it, however that ends. Refuses with guard/locked what another run has; never asks twice.

import { constants } from 'node:fs'
import type { BigIntStats } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'

import { errnoOf, SyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import { type LockAnswer, type LockMode, tryLock, waitForLock } from './flock.js'
import { findHolders, type Holder, ownProcessName, processName } from './holders.js'

export type { LockMode } from './flock.js'

export type LockRequest = Readonly<{
  path: string
  role: 'source' | 'destination'
  mode: LockMode
  /** For how long another run is waited for; 0 is not at all. */
  waitMs: number
}>

export type LockContext = Readonly<{
  native: NativeCore | null
  /** The process at the other end of this run (ownProcessName there), or null: it is no stranger. */
  peerProcess: string | null
  /** Ends a wait. */
  signal: AbortSignal | null
}>

/** A lock that is held, or what stands for one where there can be none. `release` may be called twice. */
export interface DiskLock {
  /** What is locked, as fstat has it (bigint); null where nothing is: who opens the disk compares it. */
  readonly facts: BigIntStats | null
  /** Sentences for the user: the run goes on. */
  readonly warnings: readonly string[]
  release(): Promise<void>
}

/** udev has a shared lock for as long as it probes a device that somebody has just closed: a moment. */
const UDEV_WAIT_MS = 5000
/** So many of the holders are named. */
const MAX_TOLD = 3

/** For what is not locked: a path that leads to nothing, or to no disk, which whoever opens it explains. */
export const NO_LOCK: DiskLock = { facts: null, warnings: [], release: () => Promise.resolve() }

/** Locks that this process has, by file: a conflict with those need not show in /proc. */
const heldHere = new Map<string, number>()

/**
 * Locks the disk at `path`. Rejects with guard/locked where another run has a lock that does not go with it (after
 * `waitMs`, or when `signal` is aborted). Where there are no locks (a network file system), resolves with a warning.
 */
export async function lockDisk(request: LockRequest, context: LockContext): Promise<DiskLock> {
  const handle = await openToLock(request)
  if (handle === null) return NO_LOCK
  try {
    const facts = await handle.stat({ bigint: true })
    const answer = await acquire(handle, facts, request, context)
    if (answer.is === 'locked') return new HeldLock(handle, facts, [])
    await handle.close()
    if (answer.is === 'held') return NO_LOCK
    const warning = `${request.path} is not locked against other runs: ${answer.why}`
    return { ...NO_LOCK, warnings: [warning] }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** `held` is a lock of this very run, on another descriptor. */
async function acquire(
  handle: FileHandle,
  facts: BigIntStats,
  request: LockRequest,
  { native, peerProcess, signal }: LockContext,
): Promise<LockAnswer> {
  const { mode, waitMs } = request
  let answer = await tryLock(handle.fd, mode, native)
  if (answer.is !== 'held') return answer
  const holders = await findHolders(facts, native)
  if (isOurs(holders, facts, peerProcess)) return answer
  const isBrief = holders.length > 0 && holders.every((holder) => holder.isBrief)
  const patienceMs = Math.max(waitMs, isBrief ? UDEV_WAIT_MS : 0)
  if (patienceMs > 0) answer = await waitForLock(handle.fd, mode, patienceMs, signal ?? NEVER)
  if (answer.is === 'held') throw locked(request, holders)
  return answer
}

const NEVER = new AbortController().signal

/** A disk that is named twice in one run is refused by whoever compares the disks (guard/pair.ts), who knows both names. */
function isOurs(holders: readonly Holder[], facts: BigIntStats, peerProcess: string | null): boolean {
  if (holders.length === 0) return heldHere.has(fileKey(facts))
  const names = new Set([ownProcessName(), peerProcess])
  return holders.every(({ pid }) => names.has(processName(pid) ?? ''))
}

function locked({ path, role, waitMs }: LockRequest, holders: readonly Holder[]): SyncError {
  const told = holders.slice(0, MAX_TOLD).map(({ says }) => says)
  if (holders.length > MAX_TOLD) told.push(`${holders.length - MAX_TOLD} more`)
  const who = told.length === 0 ? 'another process' : told.join(', ')
  const waited = waitMs > 0 ? `, still after ${Math.round(waitMs / 1000)} s` : ''
  return new SyncError(
    'guard/locked',
    `the ${role} ${path} is locked by ${who}${waited}; nothing was written`,
    {
      operand: path,
      hint:
        waitMs > 0
          ? 'Run the same command again when that has ended.'
          : 'Run the same command again when that has ended, or type --lock-wait 10m to wait for it.',
    },
  )
}

/** A descriptor to lock, by which nothing is read or written; null where there is none to be had. */
async function openToLock({ path, mode }: LockRequest): Promise<FileHandle | null> {
  try {
    // a fifo or a terminal is not opened: that alone could block, or wake somebody up
    const facts = await stat(path)
    if (!facts.isFile() && !facts.isBlockDevice()) return null
    const flags =
      constants.O_NONBLOCK | (mode === 'exclusive' && facts.isFile() ? constants.O_RDWR : constants.O_RDONLY)
    return await open(path, flags)
  } catch (error) {
    if (errnoOf(error) === null) throw error
    // missing, forbidden, without a medium: whoever opens it to use it says so
    return null
  }
}

function fileKey({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`
}

class HeldLock implements DiskLock {
  readonly facts: BigIntStats
  readonly warnings: readonly string[]
  readonly #handle: FileHandle
  #state: 'held' | 'released' = 'held'

  constructor(handle: FileHandle, facts: BigIntStats, warnings: readonly string[]) {
    this.#handle = handle
    this.facts = facts
    this.warnings = warnings
    heldHere.set(fileKey(facts), (heldHere.get(fileKey(facts)) ?? 0) + 1)
  }

  async release(): Promise<void> {
    if (this.#state === 'released') return
    this.#state = 'released'
    const key = fileKey(this.facts)
    const left = (heldHere.get(key) ?? 1) - 1
    if (left === 0) heldHere.delete(key)
    else heldHere.set(key, left)
    // the lock goes with the open file description
    await this.#handle.close()
  }
}
