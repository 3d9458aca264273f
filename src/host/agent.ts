// The far side of a host (`blocksync agent`): requests in over one stream, answers out over the other, several at once. It
// executes the same implementation that a host has in process. When the connection is gone, what runs is let run to its end.

import type { Readable, Writable } from 'node:stream'

import { EXIT, SyncError, toSyncError } from '../errors.js'
import type { NativeMode } from '../options.js'
import { SILENCE_TIMEOUT_MS } from '../wire/keepalive.js'
import {
  encodeError,
  MAX_ANSWER_BYTES,
  MAX_REQUEST_BYTES,
  MAX_UNDER_WAY,
  performOperation,
  takeRequest,
  type AgentRequest,
} from './agent-protocol.js'
import { sshClientAddress } from './facts.js'
import { encodeAgentBanner, Link, readAgentBanner } from './link.js'
import { LocalHost } from './local.js'

/** Until the controller has said its first line; it does so as soon as it has read ours. */
const BANNER_TIMEOUT_MS = 60_000
const CONTROLLER = 'the controller of the migration'

export type AgentOptions = Readonly<{
  stateDir: string | null
  native: NativeMode
  /** Aborted: as if the connection had ended. */
  signal: AbortSignal
}>

/**
 * Serves one controller; resolves with the exit status when its connection has ended and nothing that it started runs any
 * more: programs are bounded by their deadlines, and until then the locks of its journals stay. Rejects with what is wrong
 * with the other side.
 */
export async function serveAgent(input: Readable, output: Writable, options: AgentOptions): Promise<number> {
  const waits = new AbortController()
  await using host = new LocalHost({ ...options, signal: waits.signal, clientAddress: sshClientAddress })
  output.on('error', () => undefined) // shows as the end of the input
  output.write(encodeAgentBanner('agent', null))
  const greeting = await readAgentBanner(input, 'controller', CONTROLLER, BANNER_TIMEOUT_MS)
  if (greeting === null) return EXIT.lost
  const underWay = new Map<number, Promise<void>>()
  const failure = await new Promise<SyncError | null>((resolve) => {
    const link = new Link(input, output, {
      maxLineBytes: MAX_REQUEST_BYTES,
      timeoutMs: greeting.banner.timeoutMs ?? SILENCE_TIMEOUT_MS,
      peerName: CONTROLLER,
      rest: greeting.rest,
      onMessage: (message) => {
        const request = takeRequest(message)
        if (underWay.has(request.id) || underWay.size >= MAX_UNDER_WAY)
          throw new SyncError('session/protocol', `a request too many (id ${request.id})`)
        const done = answer(link, host, request).finally(() => underWay.delete(request.id))
        underWay.set(request.id, done)
      },
      onEnd: resolve,
    })
    link.start()
    const onAbort = (): void => {
      resolve(null)
      // nothing more is taken
      input.destroy()
    }
    options.signal.addEventListener('abort', onAbort, { once: true })
    if (options.signal.aborted) onAbort()
  })
  waits.abort()
  await Promise.all(underWay.values())
  if (failure !== null) throw failure
  return EXIT.ok
}

/** Never rejects: what fails is told. */
async function answer(link: Link, host: LocalHost, request: AgentRequest): Promise<void> {
  const { id } = request
  try {
    const value = await performOperation(host, request)
    // as long as the near end takes it
    if (Buffer.byteLength(JSON.stringify(value)) > MAX_ANSWER_BYTES)
      throw new SyncError('host/file', `the answer to ${request.op} is too long; what was asked for was done`)
    link.send({ id, value })
  } catch (error) {
    link.send({ id, error: encodeError(toSyncError(error)) })
  }
}
