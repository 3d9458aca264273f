// A run's end of `blocksync bwlimit`: a unix socket that shows the run and takes another limit. Does not keep the process
// alive, is gone when the run is, and where it cannot be made the run goes on without. Refuses what is no request.

import { chmodSync, unlinkSync } from 'node:fs'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { Server, Socket } from 'node:net'

import { errnoOf } from '../errors.js'
import { MAX_SHOWN_DISKS, parseRequest, readLine } from './message.js'
import type { ControlReply, ControlRequest, RunDisk, RunStatus } from './message.js'
import {
  connects,
  controlDirectories,
  prepareDirectory,
  removeIfStale,
  removeSocket,
  socketPath,
  socketsIn,
} from './place.js'
import type { Whereabouts } from './place.js'
import type { RateControl } from './control.js'

/** What the run is: its disks as they were typed. `pid` is this process's. */
export type RunDescription = Readonly<{ disks: readonly RunDisk[]; pid: number }>

/** Who connects asks at once; who does not is not waited for. */
const REQUEST_TIMEOUT_MS = 5000

/** People at shells; more at once is a mistake. */
const MAX_CONNECTIONS = 16

/** Disposing it takes the socket away. `why` is why there is none (`path` null), for people who want to know. */
export type RunControl = AsyncDisposable &
  (Readonly<{ path: string; why: null }> | Readonly<{ path: null; why: string }>)

/**
 * Makes the socket, in the first directory that works, and takes away what dead runs have left there. Meant to run beside
 * the connecting of the session. Never rejects: what keeps it from being made is its `why`.
 */
export async function openControl(
  description: RunDescription,
  rate: RateControl,
  whereabouts: Whereabouts,
): Promise<RunControl> {
  const reasons: string[] = []
  for (const directory of controlDirectories(whereabouts)) {
    try {
      return await openIn(directory, description, rate, whereabouts)
    } catch (thrown) {
      reasons.push(thrown instanceof Error ? thrown.message : String(thrown))
    }
  }
  return { path: null, why: reasons.join('; '), [Symbol.asyncDispose]: () => Promise.resolve() }
}

/** Rejects with why there can be no socket in this directory. */
async function openIn(
  directory: string,
  description: RunDescription,
  rate: RateControl,
  whereabouts: Whereabouts,
): Promise<RunControl> {
  const why = await prepareDirectory(directory, whereabouts)
  if (why !== null) throw new Error(why)
  const path = socketPath(directory, description.pid)
  if (path === null) throw new Error(`${directory} is too long a path for a socket`)
  for (const found of await socketsIn(directory, whereabouts.uid)) {
    if (found.pid !== description.pid) await removeIfStale(found)
  }
  return await listen(path, (request) => answer(request, description, rate))
}

function answer(
  request: ControlRequest | null,
  { disks, pid }: RunDescription,
  rate: RateControl,
): ControlReply {
  if (request === null) return { ok: false, message: 'this run does not know that request' }
  if (request.command === 'bwlimit') rate.set(request.schedule)
  const run: RunStatus = {
    pid,
    disks: disks.slice(0, MAX_SHOWN_DISKS),
    diskCount: disks.length,
    schedule: rate.schedule,
    bytesPerSecond: rate.bytesPerSecond,
  }
  return { ok: true, run }
}

async function listen(
  path: string,
  reply: (request: ControlRequest | null) => ControlReply,
): Promise<RunControl> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.unref()
    socket.setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy())
    readLine(socket).then(
      (line) => socket.end(`${JSON.stringify(reply(line === null ? null : parseRequest(line)))}\n`),
      // who asked is gone: there is nobody to answer
      () => socket.destroy(),
    )
  })
  server.maxConnections = MAX_CONNECTIONS
  // before it listens, so that it does not keep the process alive for a moment either
  server.unref()
  await bind(server, path)
  // accept(2) failing, for want of descriptors: whoever asked asks again, the run is not to suffer
  server.on('error', () => undefined)
  // the directory keeps others out already
  chmodSync(path, 0o600)
  // the second Ctrl-C ends the process without disposing anything
  const onExit = (): void => unlinkHere(path)
  process.once('exit', onExit)
  return {
    path,
    why: null,
    [Symbol.asyncDispose]: async () => {
      process.removeListener('exit', onExit)
      for (const socket of sockets) socket.destroy()
      const closed = once(server, 'close')
      // also unlinks it
      server.close()
      await closed
    },
  }
}

/** Listens; a socket that a dead process with our pid has left is taken away first. Rejects with the system's error. */
async function bind(server: Server, path: string): Promise<void> {
  try {
    await listening(server, path)
  } catch (thrown) {
    // in a container that shares the directory, another live run may have our pid
    if (errnoOf(thrown) !== 'EADDRINUSE' || (await connects(path))) throw thrown
    await removeSocket(path)
    await listening(server, path)
  }
}

async function listening(server: Server, path: string): Promise<void> {
  const heard = once(server, 'listening')
  server.listen(path)
  await heard
}

function unlinkHere(path: string): void {
  try {
    unlinkSync(path)
  } catch (thrown) {
    // gone already, or the directory is: there is nothing left to do at the end of a process
    if (errnoOf(thrown) === null) throw thrown
  }
}
