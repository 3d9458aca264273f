// Whether the host that a replica is of still lives: promoting beside a source that runs makes two guests of one. Nothing is sent
// to it but an echo request; a connection that is accepted or refused is an answer of a living host, and so is the echo. Refuses
// nothing: promote.ts decides.

import { createConnection } from 'node:net'

import { errnoOf, SyncError } from '../errors.js'
import { run } from '../exec.js'
import { printable } from '../printable.js'
import type { ReplicaRecord } from './record.js'

/** Where a host that can be a source listens, where nobody named another port; that it refuses is an answer too. */
const SSH_PORT = 22
/** A host in the same network answers within milliseconds, one behind a bad line within a second or two. */
const ALIVE_TIMEOUT_MS = 5000
/** One round over the same network; a firewall that drops connections often lets this through. */
const ECHO_TIMEOUT_MS = 2000
/** Behind that, for a name that is slow to be found. */
const ECHO_GRACE_MS = 3000

/** `unknown`: there was no way to ask. `why` is a phrase for people that goes on behind "the source". */
export type SourceLife = Readonly<{ is: 'alive' | 'dead' | 'unknown'; why: string }>

/** What is asked: a port of TCP, or for an ICMP echo. */
export type Door = number | 'echo'

/**
 * How it ended: `open`, the system's error (ECONNREFUSED...), or `timeout`. Of an echo anything but `open` says nothing: many hosts
 * do not answer it.
 */
export type Knock = (address: string, door: Door, timeoutMs: number) => Promise<string>

export type AliveQuestion = Readonly<{
  source: ReplicaRecord['source']
  /** Of the host that this process runs on. */
  ownMachineId: string
  knock?: Knock
}>

/** Asks the source's host, from this one. Takes 10 s at most; never rejects for what a network says. */
export async function sourceLife(question: AliveQuestion): Promise<SourceLife> {
  const { source, ownMachineId, knock = knockHost } = question
  const name = printable(source.hostName)
  if (source.machineId === ownMachineId) return { is: 'alive', why: `is this host (${name})` }
  if (source.address === null)
    return { is: 'unknown', why: `(${name}) cannot be asked: no address of it was ever seen here` }
  const at = `${name} at ${printable(source.address)}`
  const answer = await knock(source.address, source.port ?? SSH_PORT, ALIVE_TIMEOUT_MS)
  const life = lifeBy(answer, at)
  if (life.is === 'alive' || (await knock(source.address, 'echo', ECHO_TIMEOUT_MS)) !== 'open') return life
  return { is: 'alive', why: `(${at}) answers a ping` }
}

function lifeBy(answer: string, at: string): SourceLife {
  switch (answer) {
    case 'open':
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return { is: 'alive', why: `(${at}) answers` }
    case 'timeout':
    case 'ETIMEDOUT':
    case 'EHOSTUNREACH':
    case 'EHOSTDOWN':
      return { is: 'dead', why: `(${at}) does not answer` }
    default:
      // without a network of its own (ENETUNREACH) it is this host that is cut off, and the other one may be well
      return { is: 'unknown', why: `(${at}) cannot be asked from here (${answer})` }
  }
}

export const knockHost: Knock = async (address, door, timeoutMs) =>
  door === 'echo' ? await knockEcho(address, timeoutMs) : await knockTcp(address, door, timeoutMs)

/** The system's ping, since echo requests take a right that this process need not have. `absent` where it is not installed. */
async function knockEcho(address: string, timeoutMs: number): Promise<string> {
  try {
    const { exitStatus } = await run({
      argv: ['ping', '-n', '-c', '1', '-W', String(Math.ceil(timeoutMs / 1000)), '--', address],
      timeoutMs: timeoutMs + ECHO_GRACE_MS,
      errorCode: 'host/program',
      operand: address,
    })
    return exitStatus === 0 ? 'open' : 'timeout'
  } catch (error) {
    if (!(error instanceof SyncError)) throw error
    return errnoOf(error.cause) === 'ENOENT' ? 'absent' : 'timeout'
  }
}

/** A TCP connection that is closed at once. */
export async function knockTcp(address: string, port: number, timeoutMs: number): Promise<string> {
  return await new Promise((resolve) => {
    const socket = createConnection({ host: address, port })
    const settle = (answer: string): void => {
      clearTimeout(deadline)
      socket.destroy()
      resolve(answer)
    }
    // of our own: it bounds the question for an address of that name too
    const deadline = setTimeout(() => settle('timeout'), timeoutMs)
    socket.once('connect', () => settle('open'))
    socket.once('error', (error) => settle(errnoOf(error) ?? error.message))
  })
}
