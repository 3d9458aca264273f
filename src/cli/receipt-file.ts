// The file of a receipt, in and out: written whole or not at all, and never half over one that was there. That it can be
// written is found out before anything is opened. Refuses files that are longer than any receipt.

import { randomBytes } from 'node:crypto'
import { constants, type Stats } from 'node:fs'
import { open, realpath, rename, rm, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import path from 'node:path'

import { errnoOf, SyncError } from '../errors.js'

/** A run of 256 disks whose lists are all full stays below half of it. */
const MAX_RECEIPT_BYTES = 512 << 20
/** Who may read the disks may read about them: no secrets are in it. */
const RECEIPT_MODE = 0o644

/** A receipt that is to be written. Who opens it disposes of it; what was not committed leaves nothing behind. */
export interface OpenReceipt extends AsyncDisposable {
  /** Writes it: on stable storage, under its name, when it resolves. Rejects with receipt/write. */
  commit(document: object): Promise<void>
}

/** Receipts by their names. */
export type Receipts = Readonly<{
  /** Rejects with `usage` where it could not be written. */
  open: (file: string) => Promise<OpenReceipt>
  /** The text of one. Rejects with `usage`. */
  read: (file: string) => Promise<string>
}>

export const receiptFiles: Receipts = { open: (file) => ReceiptFile.open(file), read: readReceipt }

class ReceiptFile implements OpenReceipt {
  readonly #typed: string
  readonly #path: string
  readonly #temporary: string
  #handle: FileHandle | null

  private constructor(typed: string, target: string, temporary: string, handle: FileHandle) {
    this.#typed = typed
    this.#path = target
    this.#temporary = temporary
    this.#handle = handle
  }

  /** Makes a temporary file beside `typed`. Rejects with `usage` where that cannot be: nothing was opened then. */
  static async open(typed: string): Promise<ReceiptFile> {
    try {
      const target = await targetOf(typed)
      const temporary = `${target}.${randomBytes(6).toString('hex')}.tmp`
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL
      return new ReceiptFile(typed, target, temporary, await open(temporary, flags, RECEIPT_MODE))
    } catch (error) {
      throw new SyncError(
        'usage',
        `--receipt ${typed} cannot be written (${whyOf(error)}); nothing was opened`,
        {
          operand: '--receipt',
          hint: 'Name a file in a directory that exists and that you may write to.',
          cause: error,
        },
      )
    }
  }

  async commit(document: object): Promise<void> {
    const handle = this.#handle
    if (handle === null) throw new SyncError('internal', 'a receipt was written twice')
    try {
      await handle.writeFile(textOf(document))
      await handle.sync()
      await rename(this.#temporary, this.#path)
      this.#handle = null
      await handle.close()
      await syncDirectory(path.dirname(this.#path))
    } catch (error) {
      throw new SyncError(
        'receipt/write',
        `the receipt ${this.#typed} could not be written (${whyOf(error)}); the run itself is done`,
        {
          operand: this.#typed,
          hint: 'blocksync verify --receipt FILE SOURCE DESTINATION compares again and makes one.',
          cause: error,
        },
      )
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const handle = this.#handle
    if (handle === null) return
    this.#handle = null
    await handle.close()
    await rm(this.#temporary, { force: true })
  }
}

/** Indented for people, but for pairs of numbers: there may be thousands. */
function textOf(document: object): string {
  return `${JSON.stringify(document, null, 1).replaceAll(/\[\n *(\d+),\n *(\d+)\n *\]/g, '[$1, $2]')}\n`
}

async function readReceipt(file: string): Promise<string> {
  try {
    const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
    try {
      const facts = await handle.stat()
      if (!facts.isFile()) throw new Error('it is no file')
      if (facts.size > MAX_RECEIPT_BYTES) throw new Error(`it has ${facts.size} bytes`)
      return await handle.readFile('utf8')
    } finally {
      await handle.close()
    }
  } catch (error) {
    throw new SyncError('usage', `the receipt ${file} cannot be read (${whyOf(error)}); nothing was opened`, {
      operand: file,
      hint: 'Name a file that blocksync --receipt FILE wrote.',
      cause: error,
    })
  }
}

/** Where it goes: through a symbolic link, and never over what is no plain file. */
async function targetOf(typed: string): Promise<string> {
  const target = path.resolve(typed)
  let facts: Stats
  try {
    facts = await stat(target)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return target
    throw error
  }
  if (!facts.isFile()) throw new Error('there is something that is no file')
  return await realpath(target)
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function whyOf(error: unknown): string {
  return errnoOf(error) ?? (error instanceof Error ? error.message : String(error))
}
