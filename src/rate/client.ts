// The shell's end of `blocksync bwlimit`: which runs of this user go on, and a request to one of them. Takes away sockets
// of dead runs that it meets. Refuses sockets that somebody else made.

import { lstat } from 'node:fs/promises'
import { once } from 'node:events'
import { createConnection } from 'node:net'

import { errnoOf, SyncError } from '../errors.js'
import { parseReply, readLine } from './message.js'
import type { ControlRequest, RunStatus } from './message.js'
import { controlDirectories, removeIfStale, socketsIn } from './place.js'
import type { FoundSocket, Whereabouts } from './place.js'

/** A run answers between two pieces of work; one that does not is stopped. */
const REPLY_TIMEOUT_MS = 5000

/** A run that answers, or one that is there and does not (`why`). */
export type FoundRun = Readonly<{ path: string; pid: number }> &
  (Readonly<{ status: RunStatus }> | Readonly<{ status: null; why: string }>)

/** All runs of this user, by directory and ascending pid. */
export async function findRuns(whereabouts: Whereabouts): Promise<FoundRun[]> {
  const { uid } = whereabouts
  const inDirectories = await Promise.all(
    controlDirectories(whereabouts).map((directory) => socketsIn(directory, uid)),
  )
  const runs = await Promise.all(inDirectories.flat().map((found) => look(found, uid)))
  return runs.filter((run) => run !== null)
}

/**
 * Asks one run; resolves with the run as it is afterwards. Rejects with `connect/failed` where it does not answer, and
 * with what it says where it refuses.
 */
export async function askRun({ pid, path }: FoundSocket, request: ControlRequest): Promise<RunStatus> {
  const socket = createConnection(path)
  try {
    socket.setTimeout(REPLY_TIMEOUT_MS, () => socket.destroy(new Error('it does not answer')))
    const reading = readLine(socket)
    await Promise.all([once(socket, 'connect'), reading, ask(socket, request)])
    const reply = parseReply((await reading) ?? '')
    if (reply === null) throw new Error('it does not answer as a run of this version does')
    if (!reply.ok) throw new Error(reply.message)
    return reply.run
  } catch (thrown) {
    if (!(thrown instanceof Error)) throw thrown
    throw new SyncError('connect/failed', `the run with pid ${pid} could not be asked: ${thrown.message}`, {
      operand: String(pid),
      hint: 'Type blocksync bwlimit for the runs that go on now.',
      cause: thrown,
    })
  } finally {
    socket.destroy()
  }
}

async function ask(socket: NodeJS.WritableStream, request: ControlRequest): Promise<void> {
  await new Promise<void>((resolve) => {
    // an error comes to the reader of the answer as well, who reports it
    socket.write(`${JSON.stringify(request)}\n`, () => resolve())
  })
}

/** Null where it is left over or not ours. */
async function look(found: FoundSocket, uid: number): Promise<FoundRun | null> {
  try {
    const { uid: owner } = await lstat(found.path)
    if (owner !== uid || (await removeIfStale(found))) return null
    return { ...found, status: await askRun(found, { command: 'show' }) }
  } catch (thrown) {
    // it has ended in between
    if (errnoOf(thrown) === 'ENOENT') return null
    if (!(thrown instanceof SyncError)) throw thrown
    if (['ENOENT', 'ECONNREFUSED'].includes(errnoOf(thrown.cause) ?? '')) return null
    return { ...found, status: null, why: thrown.message }
  }
}
