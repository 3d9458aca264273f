// One journal of a migration: a JSON object a line, appended and flushed, and locked while a session has it. A last line
// that was cut is left out and cut off; what is damaged in another way is refused, and so is what is too large.

import { constants } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

import { errnoOf, type SyncError } from '../errors.js'
import { tryLock, waitForLock, type LockAnswer } from '../guard/flock.js'
import type { NativeCore } from '../native.js'
import { syncDirectory } from '../state/atomic-file.js'
import { isObject } from '../json.js'
import { fileFailure, fileRefusal } from './failures.js'
import { MAX_JOURNAL_BYTES, MAX_JOURNAL_LINE_BYTES, type JournalLine } from './host.js'

type OpenFile = Awaited<ReturnType<typeof open>>

export type JournalContent = Readonly<{
  lines: readonly JournalLine[]
  /** Up to the end of the last whole line. */
  wholeBytes: number
}>

export type LockRequest = Readonly<{
  native: NativeCore | null
  waitMs: number
  /** Aborted: nothing is waited for any more. */
  signal: AbortSignal
}>

const NEWLINE = 0x0a
const LOOK_AT_IT = 'Look at the file: each line is to be a JSON object. Nothing was changed.'

/**
 * The lines of a journal. The last one is left out where it does not end, or has zeros in it: that is what a loss of power
 * leaves of a line that was never acknowledged. Throws host/file for anything else that is no JSON object.
 */
export function parseJournal(bytes: Buffer, path: string): JournalContent {
  const lines: JournalLine[] = []
  let start = 0
  for (;;) {
    const end = bytes.indexOf(NEWLINE, start)
    if (end === -1) return { lines, wholeBytes: start }
    const text = bytes.subarray(start, end)
    const line = parseLine(text)
    if (line === null) {
      if (end + 1 === bytes.length && text.includes(0)) return { lines, wholeBytes: start }
      throw fileRefusal(path, `${path} is damaged: line ${lines.length + 1} is no record`, LOOK_AT_IT)
    }
    lines.push(line)
    start = end + 1
  }
}

function parseLine(text: Buffer): JournalLine | null {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text))
    return isObject(value) ? value : null
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return null
    throw error
  }
}

/** What a journal holds now, without taking it; null where there is none. */
export async function readJournalFile(path: string): Promise<readonly JournalLine[] | null> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    return parseJournal(await readAll(file, path), path).lines
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null
    throw fileFailure(path, 'read', error)
  }
}

async function readAll(file: OpenFile, path: string): Promise<Buffer> {
  const facts = await file.stat()
  if (!facts.isFile()) throw fileRefusal(path, `${path} is no file`, LOOK_AT_IT)
  if (facts.size > MAX_JOURNAL_BYTES)
    throw fileRefusal(path, `${path} has more than ${MAX_JOURNAL_BYTES} bytes`, LOOK_AT_IT)
  const buffer = Buffer.alloc(facts.size)
  let bytes = 0
  while (bytes < buffer.length) {
    const { bytesRead } = await file.read(buffer, bytes, buffer.length - bytes, bytes)
    if (bytesRead === 0) break
    bytes += bytesRead
  }
  return buffer.subarray(0, bytes)
}

/** A journal that is locked by us, or why it is not. */
export type TakenJournal =
  | Readonly<{ is: 'taken'; journal: JournalFile; lines: readonly JournalLine[] }>
  | Readonly<{ is: 'missing' }>
  | Readonly<{ is: 'held' }>
  | Readonly<{ is: 'impossible'; why: string }>

export class JournalFile {
  readonly path: string
  readonly #file: OpenFile
  #bytes: number
  /** Appends go one after the other; never rejects. */
  #last: Promise<unknown> = Promise.resolve()
  /** After a flush that failed nobody knows what is on the disk: it takes no more. */
  #failure: SyncError | null = null

  private constructor(path: string, file: OpenFile, bytes: number) {
    this.path = path
    this.#file = file
    this.#bytes = bytes
  }

  /**
   * Takes the journal at `path`, whose directory is there; with `create` it is made where it is missing. A last line that was
   * cut is cut off. Rejects with host/file.
   */
  static async take(path: string, mode: 'create' | 'continue', lock: LockRequest): Promise<TakenJournal> {
    try {
      for (;;) {
        const file = await openJournalFile(path, mode)
        if (file === null) return { is: 'missing' }
        const answer = await lockOrClose(file, lock)
        if (answer.is !== 'locked') return answer
        // whoever had it may have removed it meanwhile
        if (await isAt(file, path)) return await JournalFile.#begin(path, file)
        await file.close()
      }
    } catch (error) {
      throw fileFailure(path, 'opened', error)
    }
  }

  static async #begin(path: string, file: OpenFile): Promise<TakenJournal> {
    try {
      const bytes = await readAll(file, path)
      const { lines, wholeBytes } = parseJournal(bytes, path)
      if (wholeBytes < bytes.length) await file.truncate(wholeBytes)
      await file.sync()
      await syncDirectory(dirname(path))
      return { is: 'taken', journal: new JournalFile(path, file, wholeBytes), lines }
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** Programs that inherit it inherit the lock. */
  get fd(): number {
    return this.#file.fd
  }

  /** What it holds, when all appends that were asked for are done. */
  async lines(): Promise<readonly JournalLine[]> {
    await this.#last
    const { lines } = parseJournal(await readAll(this.#file, this.path), this.path)
    return lines
  }

  /** On stable storage when it resolves; when it rejects it is not in the journal, or nothing more comes after it. */
  async append(line: JournalLine): Promise<void> {
    const appended = this.#last.then(() => this.#append(line))
    this.#last = appended.catch(() => undefined) // told to whoever asked for it
    await appended
  }

  /** When what is being appended is done. The lock lasts while a program has the descriptor. */
  async close(): Promise<void> {
    await this.#last
    await this.#file.close()
  }

  async #append(line: JournalLine): Promise<void> {
    if (this.#failure !== null) throw this.#failure
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`)
    if (bytes.length > MAX_JOURNAL_LINE_BYTES || this.#bytes + bytes.length > MAX_JOURNAL_BYTES)
      throw fileRefusal(
        this.path,
        `${this.path} takes no record of ${bytes.length} bytes any more`,
        `A record has at most ${MAX_JOURNAL_LINE_BYTES} bytes, a journal ${MAX_JOURNAL_BYTES}.`,
      )
    try {
      // one write: what another process reads is the line, or the beginning of it
      const { bytesWritten } = await this.#file.write(bytes)
      if (bytesWritten < bytes.length)
        throw fileRefusal(this.path, `${this.path}: no space is left for a record`, 'Make room there.')
    } catch (error) {
      await this.#cutBack()
      throw fileFailure(this.path, 'written', error)
    }
    try {
      await this.#file.datasync()
    } catch (error) {
      this.#failure = fileFailure(this.path, 'flushed', error)
      throw this.#failure
    }
    this.#bytes += bytes.length
  }

  /** Takes away what a write that failed left. */
  async #cutBack(): Promise<void> {
    try {
      await this.#file.truncate(this.#bytes)
      await this.#file.datasync()
    } catch (error) {
      this.#failure = fileFailure(this.path, 'cut back to its last record', error)
    }
  }
}

async function openJournalFile(path: string, mode: 'create' | 'continue'): Promise<OpenFile | null> {
  const { O_RDWR, O_APPEND, O_NOFOLLOW, O_NONBLOCK, O_CREAT } = constants
  try {
    return await open(
      path,
      O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | (mode === 'create' ? O_CREAT : 0),
      0o600,
    )
  } catch (error) {
    if (mode === 'continue' && errnoOf(error) === 'ENOENT') return null
    throw error
  }
}

/** Waits for the lock as the request says. The file is closed where it is not had. */
export async function lockOrClose(
  file: OpenFile,
  { native, waitMs, signal }: LockRequest,
): Promise<LockAnswer> {
  let answer: LockAnswer = { is: 'held' }
  try {
    answer = await tryLock(file.fd, 'exclusive', native)
    if (answer.is === 'held' && waitMs > 0) answer = await waitForLock(file.fd, 'exclusive', waitMs, signal)
  } finally {
    if (answer.is !== 'locked') await file.close()
  }
  return answer
}

async function isAt(file: OpenFile, path: string): Promise<boolean> {
  const ours = await file.stat({ bigint: true })
  try {
    const there = await stat(path, { bigint: true })
    return there.ino === ours.ino && there.dev === ours.dev
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
}
