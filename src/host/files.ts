// Files and directories of this host: read, made, replaced, renamed, removed. What resolves is on stable storage.
// Refuses paths that are not absolute, to replace what is not to be replaced, and what is larger than its bound.

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { link, lstat, mkdir, open, rename, rmdir, unlink } from 'node:fs/promises'
import { dirname, isAbsolute } from 'node:path'

import { errnoOf } from '../errors.js'
import { syncDirectory } from '../state/atomic-file.js'
import { asFileFailure, fileFailure, fileRefusal } from './failures.js'
import { MAX_INPUT_BYTES, MAX_OUTPUT_BYTES } from './host.js'

/** What a file without a size of its own (in /proc) is read with. */
const READ_BYTES = 64 << 10
/** File systems that have no hard links say one of these (FAT, some FUSE). */
const NO_LINKS = new Set(['EPERM', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EINVAL'])
const NEW_DIRECTORY_MODE = 0o755
const NOTHING_THERE = new Set(['ENOENT', 'ENOTDIR'])

/** Host.readText. */
export async function readTextFile(path: string, maxBytes: number): Promise<string | null> {
  checkPath(path)
  const bytes = await asFileFailure(path, 'read', readWhole(path, Math.min(maxBytes, MAX_OUTPUT_BYTES)))
  if (bytes === null) return null
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    if (!text.includes('\0')) return text
  } catch (thrown) {
    if (!(thrown instanceof TypeError)) throw thrown
  }
  throw fileRefusal(path, `${path} is no text file`, 'Is that the right file?')
}

/** Host.writeText. */
export async function writeTextFile(
  path: string,
  text: string,
  { mode, existing }: Readonly<{ mode: number; existing: 'replace' | 'refuse' }>,
): Promise<void> {
  checkPath(path)
  if (Buffer.byteLength(text) > MAX_INPUT_BYTES)
    throw fileRefusal(
      path,
      `${path} was not written: the text has more than ${MAX_INPUT_BYTES} bytes`,
      'It is made for configurations and definitions; copy larger files.',
    )
  const temporary = `${path}.new-${randomBytes(6).toString('hex')}`
  try {
    await writeNew(temporary, mode, (file) => file.writeFile(text))
    await (existing === 'replace' ? rename(temporary, path) : renameToNew(temporary, path))
    await syncDirectory(dirname(path))
  } catch (thrown) {
    await unlinkIfThere(temporary)
    throw fileFailure(path, 'written', thrown)
  }
}

/** Host.makeDirectories. */
export async function makeDirectories(path: string): Promise<readonly string[]> {
  checkPath(path)
  try {
    return await makeWithAbove(path)
  } catch (thrown) {
    throw fileFailure(path, 'made', thrown)
  }
}

/** Host.makeFile. */
export async function makeSparseFile(path: string, sizeBytes: number, mode: number): Promise<void> {
  checkPath(path)
  try {
    await writeNew(path, mode, (file) => file.truncate(sizeBytes))
    await syncDirectory(dirname(path))
  } catch (thrown) {
    throw fileFailure(path, 'made', thrown)
  }
}

/** Host.remove. */
export async function removeEntry(path: string): Promise<void> {
  checkPath(path)
  try {
    const facts = await nothingAsNull(lstat(path))
    if (facts === null) return
    await (facts.isDirectory() ? rmdir(path) : unlink(path))
    await syncDirectory(dirname(path))
  } catch (thrown) {
    throw fileFailure(path, 'removed', thrown)
  }
}

/** Host.rename. Looks first, so it is for names that nobody else gives at the same moment. */
export async function renameEntry(from: string, to: string): Promise<void> {
  checkPath(from)
  checkPath(to)
  try {
    if ((await nothingAsNull(lstat(to))) !== null)
      throw fileRefusal(
        to,
        `${from} was not renamed to ${to}: something is there already`,
        `Move ${to} away and run this again.`,
      )
    await rename(from, to)
    await syncDirectory(dirname(from))
    if (dirname(to) !== dirname(from)) await syncDirectory(dirname(to))
  } catch (thrown) {
    throw fileFailure(from, `renamed to ${to}`, thrown)
  }
}

/** The working directory of whoever serves a migration is nobody's business; a NUL would end a name early. */
export function checkPath(path: string): void {
  if (isAbsolute(path) && !path.includes('\0')) return
  throw fileRefusal(path, `'${path}' is not an absolute path; nothing was done`, 'Write the whole path.')
}

/** The answer, or null where nothing is at the path. What may not be looked at is there. */
export async function nothingAsNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer
  } catch (error) {
    if (NOTHING_THERE.has(errnoOf(error) ?? '')) return null
    throw error
  }
}

async function readWhole(path: string, maxBytes: number): Promise<Buffer | null> {
  try {
    // a fifo would make the open wait
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const facts = await file.stat()
    if (!facts.isFile()) throw fileRefusal(path, `${path} is no text file`, 'Is that the right file?')
    const tooLarge = (): Error =>
      fileRefusal(path, `${path} has more than ${maxBytes} bytes`, 'Is that the right file?')
    if (facts.size > maxBytes) throw tooLarge()
    const pieces: Buffer[] = []
    let bytes = 0
    for (;;) {
      const piece = Buffer.allocUnsafe(READ_BYTES)
      const { bytesRead } = await file.read(piece, 0, READ_BYTES, null)
      if (bytesRead === 0) return Buffer.concat(pieces)
      bytes += bytesRead
      if (bytes > maxBytes) throw tooLarge()
      pieces.push(piece.subarray(0, bytesRead))
    }
  } catch (error) {
    if (NOTHING_THERE.has(errnoOf(error) ?? '')) return null
    throw error
  }
}

type OpenFile = Awaited<ReturnType<typeof open>>

/** A file that was not there before, filled and flushed; taken away again where that fails. */
async function writeNew(path: string, mode: number, fill: (file: OpenFile) => Promise<void>): Promise<void> {
  await using file = await open(path, 'wx', mode)
  try {
    await fill(file)
    // what the umask took away
    await file.chmod(mode)
    await file.sync()
  } catch (error) {
    await unlinkIfThere(path)
    throw error
  }
}

/** rename() would replace; link() does not. */
async function renameToNew(from: string, to: string): Promise<void> {
  try {
    await link(from, to)
  } catch (error) {
    if (!NO_LINKS.has(errnoOf(error) ?? '')) throw error
    if ((await nothingAsNull(lstat(to))) !== null)
      throw fileRefusal(to, `${to} was not written: something is there already`, `Move ${to} away.`)
    await rename(from, to)
    return
  }
  await unlink(from)
}

async function makeWithAbove(path: string): Promise<string[]> {
  try {
    await mkdir(path, { mode: NEW_DIRECTORY_MODE })
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') {
      // a file of that name is ENOTDIR here; a link to a directory is one
      await syncDirectory(path)
      return []
    }
    const above = dirname(path)
    if (errnoOf(error) !== 'ENOENT' || above === path) throw error
    const made = await makeWithAbove(above)
    return [...made, ...(await makeWithAbove(path))]
  }
  await syncDirectory(dirname(path))
  return [path]
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}
