// Where this user's state is kept on this host: found, made where it is missing, and checked. Refuses a directory that
// somebody else could change: what is in it decides whether a disk may be overwritten.

import { constants } from 'node:fs'
import { access, lstat, mkdir, realpath } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'

import { errnoOf, SyncError } from '../errors.js'

/** Set, it is the default in place of the usual directory. */
export const STATE_VARIABLE = 'BLOCKSYNC_STATE_DIR'

/** What root uses, whoever called sudo. */
const SYSTEM_PATH = '/var/lib/blocksync'

const OTHERS_MAY_WRITE = 0o022
const ANYBODY_MAY_WRITE = 0o002
const STICKY = 0o1000

/** `path`: it is there and ours. `why`: it cannot be used, a phrase for people that names it. */
export type StateDirectory = Readonly<
  { path: string; why: null } | { path: null; why: string; isMissing: boolean }
>

/** Where the state is: as given, or by the environment, or the place for this user. An absolute path. */
export function statePath(given: string | null, environment: NodeJS.ProcessEnv, uid: number): string {
  const named = given ?? (environment[STATE_VARIABLE] || null)
  if (named !== null) return resolve(named)
  if (uid === 0) return SYSTEM_PATH
  const base = environment['XDG_STATE_HOME']
  // the specification of XDG directories has relative paths ignored
  if (base?.startsWith('/') === true) return join(base, 'blocksync')
  return join(environment['HOME'] || homedir(), '.local/state/blocksync')
}

/** The same for this process. */
export function ownStatePath(given: string | null): string {
  return statePath(given, process.env, ownUid())
}

/**
 * Makes the directory (mode 0700) where it is missing and checks that it is ours alone to change. With `read` it asks for
 * no more than reading, and makes nothing. Never rejects for what the system says: that is the answer's `why`.
 */
export async function openStateDirectory(path: string, mode: 'read' | 'write'): Promise<StateDirectory> {
  try {
    if (mode === 'write') await makeDirectory(path)
    const why = await whyUnsafe(path, ownUid())
    if (why !== null) return { path: null, why: `the state directory ${why}`, isMissing: false }
    await access(path, mode === 'write' ? constants.W_OK | constants.X_OK : constants.R_OK | constants.X_OK)
    return { path, why: null }
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === null) throw error
    const why = `the state directory ${path} cannot be ${mode === 'write' ? 'written' : 'read'} (${errno})`
    return { path: null, why, isMissing: errno === 'ENOENT' }
  }
}

/** For who cannot do without: the refusal that says why. */
export function stateUnusable(why: string, operand: string, notDone: string): SyncError {
  return new SyncError('state/unusable', `${why}; ${notDone}`, {
    operand,
    hint: 'Name another directory with --state-dir DIR: it is to be yours, and nobody else may write to it.',
  })
}

/** A subdirectory, made where it is missing. Rejects with the system's error. */
export async function subdirectory(state: string, ...names: string[]): Promise<string> {
  const path = join(state, ...names)
  await makeDirectory(path)
  return path
}

/**
 * Makes a directory, and those above it. By steps of our own: `mkdir` of node:fs with `recursive` asks again and again for
 * ever where a directory that is there gives ENOENT (/proc does, and file systems that are mounted wrongly).
 */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return
    const above = dirname(path)
    if (errnoOf(error) !== 'ENOENT' || above === path) throw error
    await makeDirectory(above)
    await mkdirUnlessThere(path)
  }
}

/** Somebody else may make it at the same time. */
async function mkdirUnlessThere(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 })
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error
  }
}

/**
 * The directory belongs to us, is no link and nobody else may write to it; what leads there belongs to us or to root and
 * is not for everybody to rename in (but where the sticky bit forbids that, as in /tmp).
 */
async function whyUnsafe(path: string, uid: number): Promise<string | null> {
  const found = await lstat(path)
  if (found.isSymbolicLink()) return `${path} is a symbolic link`
  if (!found.isDirectory()) return `${path} is not a directory`
  if (found.uid !== uid) return `${path} belongs to somebody else (uid ${found.uid})`
  if ((found.mode & OTHERS_MAY_WRITE) !== 0)
    return `${path} may be written by others (mode ${modeText(found.mode)})`
  let above = dirname(await realpath(path))
  for (;;) {
    const { uid: owner, mode } = await lstat(above)
    if (owner !== uid && owner !== 0)
      return `${path} is inside ${above}, which belongs to somebody else (uid ${owner})`
    if ((mode & ANYBODY_MAY_WRITE) !== 0 && (mode & STICKY) === 0)
      return `${path} is inside ${above}, which anybody may write to`
    if (above === '/') return null
    above = dirname(above)
  }
}

function modeText(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0')
}

function ownUid(): number {
  return process.geteuid?.() ?? -1
}
