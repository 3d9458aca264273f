// The state of a job on the host that runs it: STATE/replicate/JOB/{state.json,history.jsonl,lock}. One attempt of a job at a time
// holds `lock`, and it goes with the process that has it. Refuses a state that is damaged or of another version.

import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'

import { errnoOf, SyncError } from '../errors.js'
import { tryLock, waitForLock } from '../guard/flock.js'
import { loadNative } from '../native.js'
import { readPlainFile, readSmallFile, writeAtomically } from '../state/atomic-file.js'
import { openStateDirectory, stateUnusable, subdirectory } from '../state/directory.js'
import { isRunning, ownProcess } from '../state/process.js'
import { checkedAttempt, checkedState } from './job-state-check.js'
import { JOB_STATE_VERSION, type AttemptRecord, type JobState } from './job-state.js'
import { RecordError } from '../state/fields.js'

/** Of history.jsonl: a week of attempts every ten minutes. It is made so short again when it has twice as many. */
export const MAX_HISTORY_LINES = 1000
/** A record of an attempt has a few sentences at most; what is longer is not read. */
const MAX_HISTORY_BYTES = 64 << 20
/** Changing state.json takes milliseconds; whoever holds it longer hangs. */
const CHANGE_WAIT_MS = 10_000
/** A name of a process. */
const MAX_LOCK_TEXT_UNITS = 100

/** Where the files of a job are. */
export function jobDirectory(stateDir: string, name: string): string {
  return join(stateDir, 'replicate', name)
}

/** The state of a job that was never run. */
export function newJobState(name: string): JobState {
  return {
    version: JOB_STATE_VERSION,
    job: name,
    direction: 'forward',
    paused: null,
    running: null,
    newest: null,
    last: null,
    failures: 0,
    retryAt: null,
    scheduledAt: null,
    told: 'well',
    totals: { attempts: 0, failures: 0, skipped: 0, sentBytes: 0 },
    drill: null,
  }
}

/** Reads it, or the state of a job that was never run. Rejects with replicate/record and state/unusable. Makes nothing. */
export async function openJobState(stateDir: string, name: string): Promise<JobState> {
  const path = join(jobDirectory(stateDir, name), 'state.json')
  let text: string | null
  try {
    text = await readSmallFile(path)
  } catch (error) {
    if (error instanceof RangeError) throw damaged(path, name, error.message)
    throw unusable(error, path, 'nothing was done')
  }
  if (text === null) return newJobState(name)
  try {
    return checkedState(parsed(text), name)
  } catch (error) {
    if (!(error instanceof RecordError)) throw error
    throw damaged(path, name, error.message)
  }
}

/** On stable storage when it resolves. For whoever has the state open for a change; others use `changeJobState`. */
export async function saveJobState(stateDir: string, state: JobState): Promise<void> {
  const directory = await makeJobDirectory(stateDir, state.job)
  const path = join(directory, 'state.json')
  try {
    await writeAtomically(path, `${JSON.stringify(state, null, 2)}\n`)
  } catch (error) {
    throw unusable(error, path, 'the state of the job was not written')
  }
}

/**
 * Reads, changes and writes it while nobody else does: a pause by hand and the end of an attempt do not lose each other.
 * Resolves with what was written; `change` gives its argument back to write nothing.
 */
export async function changeJobState(
  stateDir: string,
  name: string,
  change: (state: JobState) => JobState,
): Promise<JobState> {
  const directory = await makeJobDirectory(stateDir, name)
  await using handle = await openLockFile(join(directory, 'state.lock'))
  let answer = await tryLock(handle.fd, 'exclusive', loadNative('auto'))
  if (answer.is === 'held')
    answer = await waitForLock(handle.fd, 'exclusive', CHANGE_WAIT_MS, new AbortController().signal)
  if (answer.is !== 'locked') throw noLock(join(directory, 'state.lock'), name, answer)
  const before = await openJobState(stateDir, name)
  const after = change(before)
  if (after !== before) await saveJobState(stateDir, after)
  return after
}

/** The lock of a job; it is free again when this is disposed of, and when the process is gone, however. */
export type JobLock = AsyncDisposable

/** Rejects with replicate/busy, naming the process that has it, and with state/unusable. */
export async function lockJob(stateDir: string, name: string): Promise<JobLock> {
  const directory = await makeJobDirectory(stateDir, name)
  const path = join(directory, 'lock')
  const handle = await openLockFile(path)
  try {
    const answer = await tryLock(handle.fd, 'exclusive', loadNative('auto'))
    if (answer.is === 'held') throw busy(name, await holderOf(handle))
    if (answer.is === 'impossible') throw noLock(path, name, answer)
    await handle.truncate(0)
    await handle.write(`${await ownProcess()}\n`, 0)
  } catch (error) {
    await handle.close()
    throw error instanceof SyncError ? error : unusable(error, path, 'nothing was done')
  }
  return { [Symbol.asyncDispose]: async () => handle.close() }
}

/** The attempt that runs, or null: one whose process is gone was killed. */
export async function runningAttempt(state: JobState): Promise<JobState['running']> {
  return state.running !== null && (await isRunning(state.running.process)) ? state.running : null
}

/** Adds a line; the oldest go when there are twice as many as are kept. */
export async function appendHistory(stateDir: string, name: string, record: AttemptRecord): Promise<void> {
  const directory = await makeJobDirectory(stateDir, name)
  const path = join(directory, 'history.jsonl')
  try {
    // a line that a killed process cut off is ended first, and left out by who reads
    const lines = await historyLines(path)
    if (lines.length >= 2 * MAX_HISTORY_LINES) {
      const kept = [...lines.slice(1 - MAX_HISTORY_LINES), JSON.stringify(record)]
      await writeAtomically(path, `${kept.join('\n')}\n`)
      return
    }
    const { O_APPEND, O_CREAT, O_RDWR, O_NOFOLLOW } = constants
    await using handle = await open(path, O_APPEND | O_CREAT | O_RDWR | O_NOFOLLOW, 0o600)
    const { size } = await handle.stat()
    const isCut = size > 0 && (await lastByte(handle, size)) !== '\n'
    await handle.write(`${isCut ? '\n' : ''}${JSON.stringify(record)}\n`)
    await handle.sync()
  } catch (error) {
    throw unusable(error, path, 'the history of the job was not written')
  }
}

/** The last `count` attempts, the oldest first. What is no record is left out. */
export async function readHistory(
  stateDir: string,
  name: string,
  count: number,
): Promise<readonly AttemptRecord[]> {
  const path = join(jobDirectory(stateDir, name), 'history.jsonl')
  const records: AttemptRecord[] = []
  for (const line of (await historyLines(path)).toReversed()) {
    if (records.length >= count) break
    try {
      records.push(checkedAttempt(parsed(line)))
    } catch (error) {
      if (!(error instanceof RecordError)) throw error
    }
  }
  return records.toReversed()
}

async function historyLines(path: string): Promise<string[]> {
  try {
    const text = (await readPlainFile(path, MAX_HISTORY_BYTES))?.toString('utf8') ?? ''
    return text.split('\n').filter((line) => line !== '')
  } catch (error) {
    // nobody rests on what is told there: what cannot be ours gives way
    if (error instanceof RangeError) return []
    throw unusable(error, path, 'nothing was read')
  }
}

async function lastByte(handle: FileHandle, size: number): Promise<string> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(1), 0, 1, size - 1)
  return buffer.toString('latin1', 0, bytesRead)
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new RecordError('it is no JSON', { cause: error })
  }
}

async function makeJobDirectory(stateDir: string, name: string): Promise<string> {
  const state = await openStateDirectory(stateDir, 'write')
  if (state.path === null) throw stateUnusable(state.why, name, 'nothing was done')
  try {
    return await subdirectory(state.path, 'replicate', name)
  } catch (error) {
    throw unusable(error, jobDirectory(stateDir, name), 'nothing was done')
  }
}

async function openLockFile(path: string): Promise<FileHandle> {
  const { O_CREAT, O_RDWR, O_NOFOLLOW } = constants
  try {
    return await open(path, O_CREAT | O_RDWR | O_NOFOLLOW, 0o600)
  } catch (error) {
    throw unusable(error, path, 'nothing was done')
  }
}

async function holderOf(handle: FileHandle): Promise<string> {
  const { buffer, bytesRead } = await handle.read(
    Buffer.alloc(MAX_LOCK_TEXT_UNITS),
    0,
    MAX_LOCK_TEXT_UNITS,
    0,
  )
  const process = buffer.toString('utf8', 0, bytesRead).trim()
  const pid = process.split(' ')[1]
  // a program that it had started may have it still
  return pid !== undefined && /^\d+$/.test(pid) && (await isRunning(process)) ? ` (process ${pid})` : ''
}

function busy(name: string, holder: string): SyncError {
  return new SyncError('replicate/busy', `an attempt of ${name} runs already${holder}; nothing was done`, {
    operand: name,
    hint: `Wait for its end; blocksync replicate status shows how far it is.`,
  })
}

function noLock(
  path: string,
  name: string,
  answer: { is: 'held' } | { is: 'impossible'; why: string },
): SyncError {
  const why = answer.is === 'held' ? 'another process holds it' : answer.why
  return stateUnusable(`${path} could not be locked (${why})`, name, 'nothing was done')
}

function damaged(path: string, name: string, why: string): SyncError {
  return new SyncError('replicate/record', `${path} cannot be used: ${why}; nothing was done`, {
    operand: name,
    hint: `Move it away: the next attempt makes a new one (a job that was reversed has to be reversed again).`,
  })
}

function unusable(error: unknown, path: string, notDone: string): SyncError {
  if (error instanceof SyncError) return error
  const errno = errnoOf(error)
  if (errno === null) throw error
  return stateUnusable(`${path} cannot be used (${errno})`, path, notDone)
}
