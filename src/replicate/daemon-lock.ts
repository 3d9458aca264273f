// STATE/replicate/.daemon.lock: one daemon for a state directory, and how others find it. Refuses a second one; the lock goes with the
// process that has it, so one that was killed is no daemon.

import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'

import { errnoOf, SyncError } from '../errors.js'
import { tryLock } from '../guard/flock.js'
import { isObject } from '../json.js'
import { loadNative } from '../native.js'
import { openStateDirectory, stateUnusable, subdirectory } from '../state/directory.js'
import { isRunning, ownProcess } from '../state/process.js'

/** A pid, a name of a process and a time. */
const MAX_TEXT_BYTES = 512

export type DaemonNote = Readonly<{ pid: number; startedAt: string }>

/** Disposing it, or the end of the process, frees it. */
export type DaemonLock = AsyncDisposable & Readonly<{ note: DaemonNote }>

export function daemonLockPath(stateDir: string): string {
  return join(stateDir, 'replicate', '.daemon.lock')
}

/** Makes the directory where it is missing. Rejects with replicate/busy, naming the pid, and with state/unusable. */
export async function lockDaemon(stateDir: string, nowMs: number): Promise<DaemonLock> {
  const state = await openStateDirectory(stateDir, 'write')
  if (state.path === null) throw stateUnusable(state.why, stateDir, 'the daemon was not started')
  const path = daemonLockPath(stateDir)
  let handle: FileHandle | null = null
  try {
    await subdirectory(state.path, 'replicate')
    const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants
    handle = await open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o600)
    const answer = await tryLock(handle.fd, 'exclusive', loadNative('auto'))
    if (answer.is === 'held') throw busy(path, await readNote(handle))
    if (answer.is === 'impossible') throw noLock(path, answer.why)
    const note = { pid: process.pid, startedAt: new Date(nowMs).toISOString() }
    await handle.truncate(0)
    await handle.write(`${JSON.stringify({ ...note, process: await ownProcess() })}\n`, 0)
    const held = handle
    return { note, [Symbol.asyncDispose]: async () => held.close() }
  } catch (error) {
    await handle?.close()
    if (error instanceof SyncError || errnoOf(error) === null) throw error
    throw stateUnusable(`${path} cannot be used (${errnoOf(error)})`, path, 'the daemon was not started')
  }
}

/** The daemon of a state directory, or null where none runs. Makes nothing, and asks for no lock. Rejects with the system's error. */
export async function findDaemon(stateDir: string): Promise<DaemonNote | null> {
  try {
    await using handle = await open(
      daemonLockPath(stateDir),
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
    )
    const found = await readNote(handle)
    return found !== null && (await isRunning(found.process))
      ? { pid: found.pid, startedAt: found.startedAt }
      : null
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw error
  }
}

/** Null where there is none: it has just begun, or it is no note of ours. */
async function readNote(handle: FileHandle): Promise<(DaemonNote & { process: string }) | null> {
  const buffer = Buffer.alloc(MAX_TEXT_BYTES)
  const { bytesRead } = await handle.read(buffer, 0, MAX_TEXT_BYTES, 0)
  try {
    const value: unknown = JSON.parse(buffer.toString('utf8', 0, bytesRead))
    if (!isObject(value)) return null
    const { pid, startedAt, process: name } = value
    if (!Number.isSafeInteger(pid) || typeof startedAt !== 'string' || typeof name !== 'string') return null
    return { pid: Number(pid), startedAt, process: name }
  } catch (error) {
    if (error instanceof SyntaxError) return null
    throw error
  }
}

function busy(path: string, holder: DaemonNote | null): SyncError {
  const who =
    holder === null ? 'another daemon' : `another daemon (pid ${holder.pid}, since ${holder.startedAt})`
  const hint =
    holder === null
      ? 'Type blocksync replicate status.'
      : `Type kill -HUP ${holder.pid} to have it read its configuration again, or end it first: kill ${holder.pid}.`
  return new SyncError(
    'replicate/busy',
    `${who} runs the jobs of this state directory; nothing was started`,
    {
      operand: path,
      hint,
    },
  )
}

function noLock(path: string, why: string): SyncError {
  return new SyncError('state/unusable', `${path} cannot be locked (${why}); the daemon was not started`, {
    operand: path,
    hint: 'Name a state directory on a local disk: --state-dir DIR.',
  })
}
