// Locks of this host by name: STATE/locks/NAME.lock, taken for a session by flock and inherited by the programs that it starts.
// The file says who has it. Refuses names that are not plain, and what another session has (replicate/busy).

import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { stateUnusable } from '../state/directory.js'
import { isRunning, ownProcess } from '../state/process.js'
import { fileFailure } from './failures.js'
import { nothingAsNull } from './files.js'
import { lockOrClose, type LockRequest } from './journal-file.js'
import { MAX_LOCKS } from './programs.js'

const FOLDER = 'locks'
/** Ids of replicas are the longest names, and end in a few words of ours. */
const PLAIN_NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/
/** A name of a process, far below it. */
const MAX_TEXT_BYTES = 256

type OpenFile = Awaited<ReturnType<typeof open>>

export class Locks {
  /** Makes a directory of this host's state and resolves with its path. */
  readonly #directory: (name: string) => Promise<string>
  readonly #lock: Omit<LockRequest, 'waitMs'>
  /** A lock that is being taken counts; it is gone again where it could not be had. */
  readonly #taken = new Map<string, Promise<OpenFile>>()
  readonly #open = new Set<OpenFile>()

  constructor(directory: (name: string) => Promise<string>, lock: Omit<LockRequest, 'waitMs'>) {
    this.#directory = directory
    this.#lock = lock
  }

  /** Who inherits them keeps others out. */
  get descriptors(): number[] {
    return Array.from(this.#open, ({ fd }) => fd)
  }

  /** Host.takeLock. */
  async take(name: string, waitMs: number): Promise<void> {
    if (!PLAIN_NAME.test(name))
      throw new SyncError('internal', `'${printable(name.slice(0, 40))}' is no name of a lock`)
    let taking = this.#taken.get(name)
    if (taking === undefined) {
      if (this.#taken.size === MAX_LOCKS)
        throw new SyncError('internal', `no session takes more than ${MAX_LOCKS} locks`)
      taking = this.#take(name, waitMs)
      this.#taken.set(name, taking)
      taking.catch(() => this.#taken.delete(name)) // told below to whoever asked
    }
    await taking
  }

  /** Lets go of all; programs that inherited a lock keep it. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#taken.values())
    const files = [...this.#open]
    this.#open.clear()
    this.#taken.clear()
    await Promise.all(files.map((file) => file.close()))
  }

  async #take(name: string, waitMs: number): Promise<OpenFile> {
    const path = join(await this.#directory(FOLDER), `${name}.lock`)
    try {
      const file = await open(
        path,
        constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK,
        0o600,
      )
      const answer = await lockOrClose(file, { ...this.#lock, waitMs })
      if (answer.is === 'held') throw await this.#busy(name, path)
      if (answer.is === 'impossible')
        throw stateUnusable(`${path} cannot be locked (${answer.why})`, path, 'nothing was changed')
      this.#open.add(file)
      // for the message of who comes in vain; the lock itself is the kernel's, and the file is never removed
      await file.truncate(0)
      await file.write(`${await ownProcess()}\n`, 0)
      return file
    } catch (error) {
      throw fileFailure(path, 'locked', error)
    }
  }

  async #busy(name: string, path: string): Promise<SyncError> {
    // seldom needed, and reads all of /proc
    const { findHolders } = await import('../guard/holders.js')
    const facts = await nothingAsNull(stat(path, { bigint: true }))
    const holders = facts === null ? [] : await findHolders(facts, this.#lock.native)
    const seen = holders.map(({ says }) => says).join(', ')
    const who = seen === '' ? await writtenBy(path) : seen
    return new SyncError(
      'replicate/busy',
      `${name} is in use${who === '' ? '' : `: ${who}`}; nothing was changed`,
      {
        operand: name,
        hint: 'Wait until that has ended, then type the same again.',
      },
    )
  }
}

/** Where who has it cannot be looked into: what it wrote about itself, if that still runs. */
async function writtenBy(path: string): Promise<string> {
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_TEXT_BYTES), 0, MAX_TEXT_BYTES, 0)
  const name = buffer.toString('utf8', 0, bytesRead).trim()
  return (await isRunning(name)) ? `pid ${name.split(' ')[1] ?? '?'}` : ''
}
