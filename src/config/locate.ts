// Which files a configuration is read from, and their text. Refuses what is no plain text file, what is too large, and a file
// that others may change: it names commands that this user runs.

import { constants } from 'node:fs'
import { open, readdir, realpath, stat } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { errnoOf, SyncError } from '../errors.js'

/** The main file, and beside it conf.d/*.yaml. */
export const USUAL_DIRECTORY = '/etc/blocksync'

/** Thousands of jobs fit; a disk image or a log does not. */
export const MAX_FILE_BYTES = 1 << 20
/** A pattern that matched a whole tree is a mistake. */
const MAX_FILES = 1000

const GROUP_MAY_WRITE = 0o020
const ANYBODY_MAY_WRITE = 0o002
const STICKY = 0o1000

export type ConfigText = Readonly<{ file: string; text: string }>

/**
 * The texts of the files that are named, or of the usual ones: `directory`/config.yaml, then `directory`/conf.d/*.yaml in the
 * order of their names. Rejects with config/missing or config/invalid, naming the file.
 */
export async function configTexts(
  paths: readonly string[] | null,
  directory = USUAL_DIRECTORY,
): Promise<ConfigText[]> {
  const files = paths ?? [join(directory, 'config.yaml'), ...(await confDir(join(directory, 'conf.d')))]
  if (files.length === 0) throw missing('no file', null)
  if (files.length > MAX_FILES)
    throw refuse(
      files[MAX_FILES] ?? '',
      `there are more than ${MAX_FILES} files of configuration`,
      'Name fewer.',
    )
  const seen = new Map<string, string>()
  const texts: ConfigText[] = []
  // one after the other: the first that is wrong is named, and descriptors are few
  for (const file of files) {
    const text = await textOf(file)
    const real = await realpath(file)
    const before = seen.get(real)
    if (before !== undefined) throw refuse(file, `${file} and ${before} are the same file`, 'Name it once.')
    seen.set(real, file)
    texts.push({ file, text })
  }
  return texts
}

/** Names that begin with a dot are those of editors. */
async function confDir(directory: string): Promise<string[]> {
  try {
    const names = await readdir(directory)
    return names
      .filter((name) => name.endsWith('.yaml') && !name.startsWith('.'))
      .toSorted()
      .map((name) => join(directory, name))
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return []
    throw unreadable(directory, thrown)
  }
}

async function textOf(file: string): Promise<string> {
  try {
    // without O_NONBLOCK a pipe that nobody writes to would be waited for
    await using handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
    await checkFile(handle, file)
    return decoded(await bytesOf(handle, file), file)
  } catch (thrown) {
    if (thrown instanceof SyncError) throw thrown
    if (errnoOf(thrown) === 'ENOENT') throw missing(file, thrown)
    throw unreadable(file, thrown)
  }
}

async function checkFile(handle: FileHandle, file: string): Promise<void> {
  const found = await handle.stat()
  if (found.isDirectory())
    throw refuse(
      file,
      `${file} is a directory`,
      `Name the files in it: --config ${join(file, 'config.yaml')}`,
    )
  if (!found.isFile()) throw refuse(file, `${file} is no regular file`, 'Name a file.')
  const uid = process.geteuid?.() ?? 0
  const gid = process.getegid?.() ?? 0
  if (found.uid !== 0 && found.uid !== uid)
    throw refuse(
      file,
      `${file} belongs to somebody else (uid ${found.uid}), and it names commands that are run`,
      `chown ${uid === 0 ? 'root' : uid} ${file}`,
    )
  const groupIsOther = found.gid !== 0 && found.gid !== gid
  if ((found.mode & ANYBODY_MAY_WRITE) !== 0 || ((found.mode & GROUP_MAY_WRITE) !== 0 && groupIsOther))
    throw refuse(
      file,
      `${file} may be written by others (mode ${(found.mode & 0o7777).toString(8)}), and it names commands that are run`,
      `chmod go-w ${file}`,
    )
  const directory = dirname(await realpath(file))
  const { mode } = await stat(directory)
  if ((mode & ANYBODY_MAY_WRITE) !== 0 && (mode & STICKY) === 0)
    throw refuse(
      file,
      `${file} is in ${directory}, where anybody may put another in its place`,
      `chmod o-w ${directory}`,
    )
}

async function bytesOf(handle: FileHandle, file: string): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(MAX_FILE_BYTES + 1)
  let length = 0
  while (length < bytes.length) {
    const { bytesRead } = await handle.read(bytes, length, bytes.length - length, length)
    if (bytesRead === 0) return bytes.subarray(0, length)
    length += bytesRead
  }
  throw refuse(
    file,
    `${file} is larger than ${MAX_FILE_BYTES} bytes`,
    `Divide its jobs over several files in ${join(USUAL_DIRECTORY, 'conf.d')}.`,
  )
}

function decoded(bytes: Buffer, file: string): string {
  const nul = bytes.indexOf(0)
  if (nul >= 0)
    throw refuse(
      file,
      `${file}:${lineAt(bytes, nul)}: a zero byte; this is no text file`,
      'Name a YAML file.',
    )
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (thrown) {
    if (!(thrown instanceof TypeError)) throw thrown
    const line = lineAt(bytes, firstBroken(bytes))
    throw refuse(file, `${file}:${line}: this is not UTF-8`, 'Save it as UTF-8.')
  }
}

/** Where text stops being what its bytes were: the first byte that is not UTF-8. */
function firstBroken(bytes: Buffer): number {
  const again = Buffer.from(bytes.toString('utf8'), 'utf8')
  const end = Math.min(bytes.length, again.length)
  for (let at = 0; at < end; at += 1) if (bytes[at] !== again[at]) return at
  return end
}

function lineAt(bytes: Buffer, byteOffset: number): number {
  return bytes.subarray(0, byteOffset).toString('latin1').split('\n').length
}

function missing(file: string, cause: unknown): SyncError {
  return new SyncError('config/missing', `${file} is not there; nothing was started`, {
    operand: file,
    hint: `Write a configuration to ${file}, with at least one job: docs/replicate-config.md begins with one. Or name another file with --config.`,
    cause,
  })
}

function unreadable(file: string, cause: unknown): SyncError {
  const errno = errnoOf(cause)
  if (errno === null) throw cause
  return refuse(
    file,
    `${file} cannot be read (${errno})`,
    errno === 'EACCES' ? 'Run it as the user whose file it is.' : 'Look at it with ls -l.',
    cause,
  )
}

function refuse(file: string, problem: string, hint: string, cause?: unknown): SyncError {
  return new SyncError('config/invalid', `${problem}; nothing was started`, { operand: file, hint, cause })
}
