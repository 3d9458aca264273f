// `serve --restrict-to`: what a client asks for and what its key is allowed go in, a permit for one disk comes out. Refuses
// all that is not named there, under whatever name, in words that do not tell whether it exists.

import type { BigIntStats } from 'node:fs'
import { lstat, open, readlink } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'

import type { EndpointInfo, OpenRequest } from '../endpoint/endpoint.js'
import { nodeKey } from '../endpoint/sysfs.js'
import { errnoOf, SyncError } from '../errors.js'

/** What a key is allowed: absolute paths of disks and of directories of disks; `only` to read them, or only to write. */
export type Restriction = Readonly<{ paths: readonly string[]; only: 'read' | 'write' | null }>

/** What a path leads to: both are of the same thing, whatever happens to the names meanwhile. */
export type Found = Readonly<{ path: string; facts: BigIntStats }>

/** What is asked of this host. */
export type RestrictLookups = Readonly<{
  /** Where relative paths begin. */
  directory: string
  /** Follows links; null where there is nothing, or nothing that may be looked at. */
  look(path: string): Promise<Found | null>
  /** The name itself, unfollowed; null as above. */
  lookAtName(path: string): Promise<BigIntStats | null>
}>

/** `man 2 open`: names a file without opening it, so that no device wakes up and no fifo blocks. Node has no name for it. */
const O_PATH = 0x200000
/** PATH_MAX of Linux. */
const MAX_PATH_BYTES = 4096
const OTHERS_MAY_WRITE = 0o022n
/** A pass of a write-only key ends at a multiple of this, or with the disk: see checkRange. */
const END_GRID_BYTES = 512

export const thisHost: RestrictLookups = {
  directory: process.cwd(),
  async look(path) {
    try {
      await using handle = await open(path, O_PATH)
      // the kernel's own word for where that is
      return {
        facts: await handle.stat({ bigint: true }),
        path: await readlink(`/proc/self/fd/${handle.fd}`),
      }
    } catch (error) {
      if (errnoOf(error) === null) throw error
      return null
    }
  },
  async lookAtName(path) {
    try {
      return await lstat(path, { bigint: true })
    } catch (error) {
      if (errnoOf(error) === null) throw error
      return null
    }
  },
}

/** That one disk may be opened: what it is was looked at, and has to be the same when it is open. */
export class Permit {
  readonly #path: string
  readonly #lookups: RestrictLookups
  /** As nodeKey has it; null where nothing was there. */
  readonly #key: string | null
  /** Where a new file comes to be, by its real name; null where none may be made. */
  readonly #newPath: string | null

  constructor(path: string, lookups: RestrictLookups, key: string | null, newPath: string | null) {
    this.#path = path
    this.#lookups = lookups
    this.#key = key
    this.#newPath = newPath
  }

  /** Refuses what the path leads to now, if it is not what was allowed. */
  checkFound(facts: BigIntStats): void {
    if (this.#key !== nodeKey(facts)) throw restricted(this.#path)
  }

  /** Refuses what was opened, if it is not what was allowed. */
  async checkOpened({ identity }: EndpointInfo): Promise<void> {
    const [key] = identity.aliases
    if (key === undefined || key === this.#key) return // nothing was opened where there is no file yet (a dry run)
    const made = this.#newPath === null ? null : await this.#lookups.lookAtName(this.#newPath)
    if (this.#key !== null || made === null || nodeKey(made) !== key) throw restricted(this.#path)
  }
}

/** The permit to open what is asked for. Rejects with guard/restricted. */
export async function permit(
  restriction: Restriction,
  { path, role, access, create }: Pick<OpenRequest, 'path' | 'role' | 'access' | 'create'>,
  lookups: RestrictLookups = thisHost,
): Promise<Permit> {
  if (restriction.only === 'read' && access === 'write')
    throw restricted(path, 'the key may only read disks there')
  if (restriction.only === 'write' && role === 'source')
    throw restricted(path, 'the key may only write disks there')
  const absolute = plainPath(path, lookups.directory)
  if (absolute === null) throw restricted(path)
  const allowed = await Promise.all(
    restriction.paths.map(async (written) => ({ written, found: await lookups.look(written) })),
  )
  // Nothing is looked up that is not below an allowed name: the answer's time would tell whether it is there. Other names
  // of an allowed device are in /dev, where that is no secret.
  const isNamed = allowed.some(
    ({ written, found }) => isWithin(absolute, written) || (found !== null && isWithin(absolute, found.path)),
  )
  if (!isNamed && !isWithin(absolute, '/dev')) throw restricted(path)
  const found = await lookups.look(absolute)
  const entries = allowed.flatMap((entry) => (entry.found === null ? [] : [entry.found]))
  if (found !== null) {
    if (!(await isAllowed(found, absolute, isNamed ? entries : entries.filter(isDevice), lookups)))
      throw restricted(path)
    return new Permit(path, lookups, nodeKey(found.facts), null)
  }
  // an allowed disk that is not there may be said to be missing
  if (create === 'never' && restriction.paths.includes(absolute)) return new Permit(path, lookups, null, null)
  const newPath = isNamed ? await placeForNew(absolute, entries, lookups) : null
  if (newPath === null) throw restricted(path)
  return new Permit(path, lookups, null, newPath)
}

/**
 * Refuses a pass of a key that may only write, over a range that ends where it likes: the digest of one byte says what it
 * is, and that of the next byte too. `sizeBytes` is that of the destination as the pass has it.
 */
export function checkRange({ only }: Restriction, path: string, endBytes: number, sizeBytes: number): void {
  if (only !== 'write' || endBytes % END_GRID_BYTES === 0 || endBytes === sizeBytes) return
  throw restricted(path, `the key may only write disks there, and byte ${endBytes} is inside a sector`)
}

/** Absolute; null for what no honest client asks for. `..` would tell whether the directory in front of it exists. */
function plainPath(path: string, directory: string): string | null {
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (path === '' || Buffer.byteLength(path) > MAX_PATH_BYTES || /[\u0000-\u001f\u007f]/.test(path))
    return null
  return path.split('/').includes('..') ? null : resolve(directory, path)
}

async function isAllowed(
  { path, facts }: Found,
  absolute: string,
  entries: readonly Found[],
  lookups: RestrictLookups,
): Promise<boolean> {
  // the same file or device under any name
  if (entries.some((entry) => !entry.facts.isDirectory() && nodeKey(entry.facts) === nodeKey(facts)))
    return true
  const directories = entries.filter((entry) => entry.facts.isDirectory())
  if (!facts.isBlockDevice()) return directories.some((directory) => isWithin(path, directory.path))
  // A name in a directory of /dev in which root alone makes names: udev's links lead to devices that lie elsewhere.
  const parent = await lookups.look(dirname(absolute))
  if (parent === null || !isWithin(parent.path, '/dev') || !isWithin(path, '/dev')) return false
  return (
    directories.some((directory) => isWithin(parent.path, directory.path)) &&
    (await isRootsAlone(parent.path, lookups))
  )
}

/** The real name of a file that is not there, in an allowed directory; null where it is not in one, or is a link. */
async function placeForNew(
  absolute: string,
  entries: readonly Found[],
  lookups: RestrictLookups,
): Promise<string | null> {
  const parent = await lookups.look(dirname(absolute))
  if (parent === null || !parent.facts.isDirectory()) return null
  if (!entries.some((entry) => entry.facts.isDirectory() && isWithin(parent.path, entry.path))) return null
  const real = join(parent.path, basename(absolute))
  return (await lookups.lookAtName(real)) === null ? real : null
}

/** The directory and all above it belong to root, and nobody else may write to them. */
async function isRootsAlone(directory: string, lookups: RestrictLookups): Promise<boolean> {
  for (let at = directory; ; at = dirname(at)) {
    const found = await lookups.look(at)
    if (found === null || found.facts.uid !== 0n || (found.facts.mode & OTHERS_MAY_WRITE) !== 0n) return false
    if (at === '/') return true
  }
}

function isDevice({ facts }: Found): boolean {
  return facts.isBlockDevice()
}

/** Both absolute and without `.` and `..`. */
function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`)
}

function restricted(path: string, why = 'the key that was used is not allowed to open it'): SyncError {
  return new SyncError('guard/restricted', `${path}: ${why}; nothing was opened`, {
    operand: path,
    hint: 'What a key may open is said in authorized_keys on that host: blocksync serve --restrict-to PATH...',
  })
}
