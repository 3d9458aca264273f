// This host, in this process. What the agent of another host executes too: there is one implementation of each operation.
// Refuses journals that another session has, and paths that are not absolute.

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
import type {
  FileFacts,
  Host,
  HostFacts,
  JournalLine,
  JournalName,
  ProgramRequest,
  ProgramResult,
  Protection,
  SpaceFacts,
} from './host.js'
import { Journals } from './journals.js'
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
  /** Aborted: nothing waits for the lock of a journal any more. */
  signal?: AbortSignal
}>

/** Where it is noted how protected disks were before. */
const NOTES = 'protected'

export class LocalHost implements Host {
  readonly name = 'this host'
  readonly kind = 'local'
  readonly lost: AbortSignal = new AbortController().signal
  readonly #statePath: string
  readonly #journals: Journals
  readonly #protecting: ProtectParts

  /** Throws native/required. Nothing is opened before it is needed. */
  constructor({ stateDir, native, signal }: LocalHostOptions) {
    this.#statePath = ownStatePath(stateDir)
    this.#journals = new Journals(this.#statePath, {
      native: loadNative(native),
      signal: signal ?? this.lost,
    })
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
    )
  }

  async run(request: ProgramRequest): Promise<ProgramResult> {
    return await runProgram(request, this.#journals.descriptors)
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

  async close(): Promise<void> {
    await this.#journals.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
