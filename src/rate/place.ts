// Where the control sockets of this user's runs are, and which of them are left over. Refuses a directory that somebody
// else owns or that is a symbolic link: whoever can write there could answer in our name.

import { readdirSync } from 'node:fs'
import { chmod, lstat, mkdir, stat, unlink } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

import { errnoOf } from '../errors.js'

/** Of this process; a test gives its own. */
export type Whereabouts = Readonly<{
  uid: number
  /** XDG_RUNTIME_DIR, where it is set. */
  runtimeDirectory: string | null
  /** What is there also for cron and sudo. */
  systemDirectory: string
  temporaryDirectory: string
}>

/** sun_path of unix(7) has 108 bytes with the zero at its end; a longer name would be cut without a word. */
const MAX_SOCKET_PATH_BYTES = 107

/** Larger than any pid of Linux (PID_MAX_LIMIT is 2^22). */
const MAX_PID = 2 ** 22

/** A run answers a connection at once or is stopped (SIGSTOP); the kernel connects also then. */
const CONNECT_TIMEOUT_MS = 1000

export function ownWhereabouts(environment: NodeJS.ProcessEnv): Whereabouts {
  const uid = process.getuid?.() ?? -1
  return {
    uid,
    runtimeDirectory: environment['XDG_RUNTIME_DIR'] || null,
    systemDirectory: uid === 0 ? '/run' : `/run/user/${uid}`,
    temporaryDirectory: tmpdir(),
  }
}

/**
 * Directories for control sockets, best first: a run makes its socket in the first that works, and one who looks for runs
 * looks into all of them, since cron, sudo and a login see different environments.
 */
export function controlDirectories(whereabouts: Whereabouts): string[] {
  const { uid, runtimeDirectory, systemDirectory, temporaryDirectory } = whereabouts
  const directories = [
    ...(runtimeDirectory?.startsWith('/') === true ? [join(runtimeDirectory, 'blocksync')] : []),
    join(systemDirectory, 'blocksync'),
    join(temporaryDirectory, `blocksync-${uid}`),
  ]
  return Array.from(new Set(directories))
}

/** The socket of a run, or null where the path would be too long for one. */
export function socketPath(directory: string, pid: number): string | null {
  const path = join(directory, `${pid}.sock`)
  return Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES ? path : null
}

/** Why the directory is not one of our own, or null where it is. Rejects with the system's error, ENOENT too. */
export async function whyNotOurs(directory: string, uid: number): Promise<string | null> {
  const found = await lstat(directory)
  if (!found.isDirectory()) return `${directory} is not a directory`
  if (found.uid !== uid) return `${directory} belongs to somebody else (uid ${found.uid})`
  return null
}

/**
 * Makes the directory with mode 0700; resolves with why it cannot be used, or null. Never rejects for what the system says.
 * Beside temporary files the directory above has to be ours too: sudo may leave us the XDG_RUNTIME_DIR of another user.
 */
export async function prepareDirectory(directory: string, whereabouts: Whereabouts): Promise<string | null> {
  const { uid, temporaryDirectory } = whereabouts
  try {
    const above = dirname(directory)
    if (above !== temporaryDirectory && (await stat(above)).uid !== uid)
      return `${above} belongs to somebody else`
    await mkdir(directory, { mode: 0o700 }).catch((thrown: unknown) => {
      if (errnoOf(thrown) !== 'EEXIST') throw thrown
    })
    const why = await whyNotOurs(directory, uid)
    if (why !== null) return why
    // ours, but made by other hands or with another umask
    await chmod(directory, 0o700)
    return null
  } catch (thrown) {
    if (errnoOf(thrown) === null || !(thrown instanceof Error)) throw thrown
    return thrown.message
  }
}

export type FoundSocket = Readonly<{ pid: number; path: string }>

/** Sockets in the directory by ascending pid, ours or left over; none where there is no directory of ours. */
export async function socketsIn(directory: string, uid: number): Promise<FoundSocket[]> {
  try {
    if ((await whyNotOurs(directory, uid)) !== null) return []
    return readdirSync(directory)
      .flatMap((name) => {
        const pid = Number(/^([1-9][0-9]{0,6})\.sock$/.exec(name)?.[1] ?? 0)
        return pid > 0 && pid <= MAX_PID ? [{ pid, path: join(directory, name) }] : []
      })
      .toSorted((a, b) => a.pid - b.pid)
  } catch (thrown) {
    // ENOENT: nobody has made it; EACCES and the like: then nothing in it is for us
    if (errnoOf(thrown) !== null) return []
    throw thrown
  }
}

/** Takes the socket away where its process is gone and nobody listens; resolves with whether it was left over. */
export async function removeIfStale({ pid, path }: FoundSocket): Promise<boolean> {
  // A pid of another container looks dead from here, so a socket that still answers stays in any case.
  if (isAlive(pid) || (await connects(path))) return false
  await removeSocket(path)
  return true
}

/** Takes a socket away; it may be gone already. */
export async function removeSocket(path: string): Promise<void> {
  await unlink(path).catch((thrown: unknown) => {
    if (errnoOf(thrown) !== 'ENOENT') throw thrown
  })
}

/** True where somebody listens there. */
export async function connects(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = createConnection(path)
    const settle = (answer: boolean): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => settle(true))
    socket.once('connect', () => settle(true))
    // what is refused for another reason (EAGAIN, EACCES) is not ours to take away
    socket.once('error', (error) => settle(!['ECONNREFUSED', 'ENOENT'].includes(errnoOf(error) ?? '')))
  })
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return errnoOf(thrown) !== 'ESRCH'
  }
}
