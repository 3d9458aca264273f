// This host, in this process. What the agent of another host executes too: there is one implementation of each operation.
// Refuses journals that another session has, and paths that are not absolute.

import { SyncError } from '../errors.js'
import { loadNative } from '../native.js'
import type { NativeMode } from '../options.js'
import { openStateDirectory, ownStatePath } from '../state/directory.js'
import { hostFacts } from './facts.js'
import {
  makeDirectories,
  makeSparseFile,
  readTextFile,
  removeEntry,
  renameEntry,
  writeTextFile,
} from './files.js'
import type { DiskParts } from './disk-parts.js'
import type {
  DigestRequest,
  FileFacts,
  Host,
  HostFacts,
  JournalLine,
  JournalName,
  ProgramRequest,
  ProgramResult,
  Protection,
  SpaceFacts,
  UndoneSteps,
  UndoStep,
  WriteOutRequest,
} from './host.js'
import { Journals } from './journals.js'
import { Locks } from './locks.js'
import { lookAt, spaceAt } from './look.js'
import { runProgram } from './programs.js'
import { ProtectNotes } from './protect-notes.js'
import {
  protectDisk,
  PROTECT_ENVIRONMENT,
  PROTECT_TIMEOUT_MS,
  unprotectDisk,
  type ProtectParts,
} from './protect.js'
import { volumeAt } from './volumes.js'

export type LocalHostOptions = Readonly<{
  /** Null is the usual place (src/state/directory.ts). */
  stateDir: string | null
  native: NativeMode
  /** Aborted: nothing waits for a lock any more, and what reads or writes whole disks ends where it is. */
  signal?: AbortSignal
  /** Absent: there is no controller elsewhere. */
  clientAddress?: () => Promise<string | null>
}>

/** Where it is noted how protected disks were before. */
const NOTES = 'protected'

export class LocalHost implements Host {
  readonly name = 'this host'
  readonly kind = 'local'
  readonly lost: AbortSignal = new AbortController().signal
  readonly #statePath: string
  readonly #native: NativeMode
  readonly #journals: Journals
  readonly #locks: Locks
  readonly #protecting: ProtectParts
  readonly #clientAddress: () => Promise<string | null>
  /** Ends what reads or writes whole disks. */
  readonly #closing = new AbortController()
  readonly #signal: AbortSignal
  readonly #long = new Set<Promise<unknown>>()

  /** Throws native/required. Nothing is opened before it is needed. */
  constructor({ stateDir, native, signal, clientAddress }: LocalHostOptions) {
    this.#statePath = ownStatePath(stateDir)
    this.#native = native
    this.#clientAddress = clientAddress ?? (async () => Promise.resolve(null))
    this.#signal = AbortSignal.any([this.#closing.signal, ...(signal === undefined ? [] : [signal])])
    const lock = { native: loadNative(native), signal: signal ?? this.lost }
    this.#journals = new Journals(this.#statePath, lock)
    this.#locks = new Locks((name) => this.#journals.stateDirectory(name), lock)
    this.#protecting = {
      run: (argv) => this.run({ argv, timeoutMs: PROTECT_TIMEOUT_MS, environment: PROTECT_ENVIRONMENT }),
      volumeAt,
      notes: new ProtectNotes(() => this.#journals.stateDirectory(NOTES)),
    }
  }

  async facts(): Promise<HostFacts> {
    return await hostFacts(
      this.#statePath,
      async () => (await openStateDirectory(this.#statePath, 'write')).path,
      await this.#clientAddress(),
    )
  }

  async run(request: ProgramRequest): Promise<ProgramResult> {
    return await runProgram(request, [...this.#journals.descriptors, ...this.#locks.descriptors])
  }

  async look(path: string): Promise<FileFacts | null> {
    return await lookAt(path)
  }

  async space(path: string): Promise<SpaceFacts> {
    return await spaceAt(path)
  }

  async readText(path: string, maxBytes: number): Promise<string | null> {
    return await readTextFile(path, maxBytes)
  }

  async writeText(
    path: string,
    text: string,
    options: Readonly<{ mode: number; existing: 'replace' | 'refuse' }>,
  ): Promise<void> {
    await writeTextFile(path, text, options)
  }

  async makeDirectories(path: string): Promise<readonly string[]> {
    return await makeDirectories(path)
  }

  async makeFile(path: string, sizeBytes: number, mode: number): Promise<void> {
    await makeSparseFile(path, sizeBytes, mode)
  }

  async remove(path: string): Promise<void> {
    await removeEntry(path)
  }

  async rename(from: string, to: string): Promise<void> {
    await renameEntry(from, to)
  }

  async protect(path: string, tag: string): Promise<Protection> {
    return await protectDisk(path, tag, this.#protecting)
  }

  async unprotect(protection: Protection): Promise<void> {
    await unprotectDisk(protection, this.#protecting)
  }

  async openJournal(
    name: JournalName,
    mode: 'create' | 'continue',
    waitMs: number,
  ): Promise<readonly JournalLine[]> {
    return await this.#journals.open(name, mode, waitMs)
  }

  async appendJournal(name: JournalName, line: JournalLine): Promise<void> {
    await this.#journals.append(name, line)
  }

  async readJournal(name: JournalName): Promise<readonly JournalLine[] | null> {
    return await this.#journals.read(name)
  }

  async listJournals(): Promise<readonly JournalName[]> {
    return await this.#journals.list()
  }

  async removeJournal(name: JournalName): Promise<void> {
    await this.#journals.remove(name)
  }

  async workDirectory(name: JournalName): Promise<string> {
    return await this.#journals.workDirectory(name)
  }

  async takeLock(name: string, waitMs: number): Promise<void> {
    await this.#locks.take(name, waitMs)
  }

  async undoSteps(path: string): Promise<readonly UndoStep[]> {
    const { undoSteps } = await import('./undo-steps.js')
    return await undoSteps(path, this.#parts)
  }

  async undoBack(path: string, through: string | null): Promise<UndoneSteps> {
    const { undoBack } = await import('./undo-steps.js')
    return await this.#ended(undoBack(path, through, this.#parts))
  }

  async dropUndo(path: string, through: string): Promise<void> {
    const { dropUndo } = await import('./undo-steps.js')
    await this.#ended(dropUndo(path, through, this.#parts))
  }

  async digest(request: DigestRequest): Promise<string> {
    const { rootOfDisk } = await import('./disk-digest.js')
    return await this.#ended(rootOfDisk(request, this.#parts))
  }

  async writeOut(request: WriteOutRequest): Promise<Readonly<{ bytes: number }>> {
    const { writeOut } = await import('./write-out.js')
    return await this.#ended(writeOut(request, this.#parts))
  }

  async close(): Promise<void> {
    this.#closing.abort(new SyncError('host/lost', 'the host was closed', { operand: this.name }))
    await Promise.allSettled(this.#long)
    await this.#locks.close()
    await this.#journals.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** What works on disks; the code for it is loaded when it is first asked for. */
  get #parts(): DiskParts {
    return { statePath: this.#statePath, native: this.#native, signal: this.#signal }
  }

  /** The locks of this session are let go of when it has ended, by whatever. */
  async #ended<T>(work: Promise<T>): Promise<T> {
    this.#long.add(work)
    try {
      return await work
    } finally {
      this.#long.delete(work)
    }
  }
}
