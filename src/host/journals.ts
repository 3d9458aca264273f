// The journals of this host: STATE/migrate/ID/{source,destination}.jsonl, and beside each its work directory (source.d,
// destination.d). Refuses names that are not plain, a journal that another session has, and a state directory that is not safe.

import { readdir, rm, rmdir, stat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { errnoOf, SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { syncDirectory } from '../state/atomic-file.js'
import { openStateDirectory, stateUnusable, subdirectory } from '../state/directory.js'
import { fileFailure } from './failures.js'
import { nothingAsNull } from './files.js'
import type { JournalLine, JournalName, JournalRole } from './host.js'
import { JournalFile, readJournalFile, type LockRequest } from './journal-file.js'
import { MAX_JOURNALS } from './programs.js'

const ROLES: readonly JournalRole[] = ['source', 'destination']
const FOLDER = 'migrate'

/** Ids are names of directories: letters, digits, dot, dash and underscore, and not a dot in front. */
export function isJournalId(text: string): boolean {
  return /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/.test(text)
}

export class Journals {
  /** An absolute path; made when it is first written to. */
  readonly #statePath: string
  readonly #lock: Omit<LockRequest, 'waitMs'>
  readonly #open = new Map<string, JournalFile>()

  constructor(statePath: string, lock: Omit<LockRequest, 'waitMs'>) {
    this.#statePath = statePath
    this.#lock = lock
  }

  /** Descriptors of the journals of this session: who inherits them keeps others out. */
  get descriptors(): number[] {
    return Array.from(this.#open.values(), ({ fd }) => fd)
  }

  /** Host.openJournal. */
  async open(
    name: JournalName,
    mode: 'create' | 'continue',
    waitMs: number,
  ): Promise<readonly JournalLine[]> {
    const path = this.#pathOf(name)
    if (path === null) throw unknownMigration(name)
    const open = this.#open.get(path)
    if (open !== undefined) return await open.lines()
    if (this.#open.size === MAX_JOURNALS)
      throw new SyncError('internal', `no session opens more than ${MAX_JOURNALS} journals`)
    if (mode === 'create') await this.#makeDirectory(name)
    else if ((await this.#existing()) === null) throw unknownMigration(name)
    const taken = await JournalFile.take(path, mode, { ...this.#lock, waitMs })
    switch (taken.is) {
      case 'taken':
        this.#open.set(path, taken.journal)
        return taken.lines
      case 'missing':
        throw unknownMigration(name)
      case 'held':
        throw await this.#busy(name, path)
      case 'impossible':
        throw stateUnusable(`${path} cannot be locked (${taken.why})`, path, 'nothing was changed')
      default:
        return taken satisfies never
    }
  }

  /** Host.appendJournal. */
  async append(name: JournalName, line: JournalLine): Promise<void> {
    const journal = this.#open.get(this.#pathOf(name) ?? '')
    if (journal === undefined)
      throw new SyncError('internal', `the ${name.role} journal ${printable(name.id)} is not open here`)
    await journal.append(line)
  }

  /** Host.readJournal. */
  async read(name: JournalName): Promise<readonly JournalLine[] | null> {
    const path = this.#pathOf(name)
    if (path === null || (await this.#existing()) === null) return null
    return await readJournalFile(path)
  }

  /** Host.listJournals. */
  async list(): Promise<readonly JournalName[]> {
    const state = await this.#existing()
    if (state === null) return []
    const folder = join(state, FOLDER)
    const names: JournalName[] = []
    try {
      const ids = (await nothingAsNull(readdir(folder))) ?? []
      for (const id of ids.filter(isJournalId).toSorted()) {
        for (const role of ROLES) {
          if ((await nothingAsNull(stat(join(folder, id, `${role}.jsonl`)))) !== null)
            names.push({ id, role })
        }
      }
    } catch (error) {
      throw fileFailure(folder, 'read', error)
    }
    return names
  }

  /** Host.removeJournal: taken first, where this session has not got it. */
  async remove(name: JournalName): Promise<void> {
    const path = this.#pathOf(name)
    if (path === null || (await this.#existing()) === null) return
    if (!this.#open.has(path)) {
      const taken = await JournalFile.take(path, 'continue', { ...this.#lock, waitMs: 0 })
      if (taken.is === 'held') throw await this.#busy(name, path)
      if (taken.is === 'impossible')
        throw stateUnusable(`${path} cannot be locked (${taken.why})`, path, 'nothing was removed')
      if (taken.is === 'taken') this.#open.set(path, taken.journal)
    }
    try {
      await rm(workPath(path), { recursive: true, force: true })
      await syncIfThere(dirname(path))
      await unlinkIfThere(path)
      await syncIfThere(dirname(path))
      await rmdirIfEmpty(dirname(path))
      await syncIfThere(dirname(dirname(path)))
    } catch (error) {
      throw fileFailure(path, 'removed', error)
    }
    const journal = this.#open.get(path)
    this.#open.delete(path)
    await journal?.close()
  }

  /** Host.workDirectory. */
  async workDirectory(name: JournalName): Promise<string> {
    const path = this.#pathOf(name)
    if (path === null) throw unknownMigration(name)
    const above = await this.#makeDirectory(name)
    return await makeFlushed(above, `${name.role}.d`)
  }

  /** A directory of this host's state that is no migration's, made 0700. */
  async stateDirectory(...names: string[]): Promise<string> {
    let path = await this.#writable()
    for (const name of names) path = await makeFlushed(path, name)
    return path
  }

  /** Lets go of all; programs that inherited a lock keep it. */
  async close(): Promise<void> {
    const journals = [...this.#open.values()]
    this.#open.clear()
    await Promise.all(journals.map((journal) => journal.close()))
  }

  #pathOf({ id, role }: JournalName): string | null {
    return isJournalId(id) ? join(this.#statePath, FOLDER, id, `${role}.jsonl`) : null
  }

  async #makeDirectory({ id }: JournalName): Promise<string> {
    return await this.stateDirectory(FOLDER, id)
  }

  /** The state directory, made where it is missing and flushed into the one above it. */
  async #writable(): Promise<string> {
    const { path, why } = await openStateDirectory(this.#statePath, 'write')
    if (path === null) throw stateUnusable(why, this.#statePath, 'nothing was changed')
    await syncIfThere(dirname(path))
    return path
  }

  /** The same where it is there; null where it is not. */
  async #existing(): Promise<string | null> {
    const directory = await openStateDirectory(this.#statePath, 'read')
    if (directory.path !== null) return directory.path
    if (directory.isMissing) return null
    throw stateUnusable(directory.why, this.#statePath, 'nothing was changed')
  }

  async #busy(name: JournalName, path: string): Promise<SyncError> {
    // seldom needed, and reads all of /proc
    const { findHolders } = await import('../guard/holders.js')
    const facts = await nothingAsNull(stat(path, { bigint: true }))
    const holders = facts === null ? [] : await findHolders(facts, this.#lock.native)
    const who = holders.map(({ says }) => says).join(', ')
    return new SyncError(
      'migrate/busy',
      `migration ${name.id} is under way${who === '' ? '' : `: ${who}`}; nothing was changed`,
      {
        operand: name.id,
        hint: 'Wait until it has ended, or look what it is doing: blocksync migrate --status.',
      },
    )
  }
}

function unknownMigration({ id, role }: JournalName): SyncError {
  return new SyncError('migrate/unknown', `there is no ${role} journal of a migration '${printable(id)}'`, {
    operand: printable(id),
    hint: 'Type blocksync migrate --status to see which there are.',
  })
}

function workPath(journalPath: string): string {
  return journalPath.replace(/\.jsonl$/, '.d')
}

async function makeFlushed(above: string, name: string): Promise<string> {
  const path = join(above, name)
  try {
    await subdirectory(above, name)
    await syncDirectory(above)
    return path
  } catch (error) {
    throw fileFailure(path, 'made', error)
  }
}

/** What may not be opened for reading cannot be flushed; it was not changed by us then, either. */
async function syncIfThere(path: string): Promise<void> {
  try {
    await syncDirectory(path)
  } catch (error) {
    if (!['ENOENT', 'EACCES'].includes(errnoOf(error) ?? '')) throw error
  }
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

/** The other role may be on this host too. */
async function rmdirIfEmpty(path: string): Promise<void> {
  try {
    await rmdir(path)
  } catch (error) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(errnoOf(error) ?? '')) throw error
  }
}
