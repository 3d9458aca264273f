// The daemon's server of HTTP, on a TCP address or a unix socket: takes connections, answers what answer.ts says, and lets nobody
// hold it up. Refuses too many connections, headers that are too long, and clients that are too slow.

import { chmod, lstat, unlink } from 'node:fs/promises'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { isIP } from 'node:net'

import { errnoOf, SyncError, toSyncError } from '../errors.js'
import { connects } from '../rate/place.js'
import type { ListenAddress } from '../config/config.js'
import { answer, SECURITY_HEADERS } from './answer.js'
import type { Names } from './answer.js'
import type { Log } from './log.js'
import type { DaemonView } from './view.js'

/** Some browsers, a scraper and a monitor; each browser has up to six. */
const MAX_CONNECTIONS = 64
const MAX_HEADER_BYTES = 8 << 10
const MAX_HEADERS = 64

/** From the first byte to the end of the headers, and of the request. */
const REQUEST_TIMEOUT_MS = 5000
/** A page asks every two seconds and so keeps its connection. */
const KEEP_ALIVE_MS = 10_000
/** Without a byte in either direction. */
const IDLE_TIMEOUT_MS = 20_000
const CHECK_EVERY_MS = 2500

/** Who may connect to the socket file: its owner and group, which is who may read the state anyway. */
const SOCKET_MODE = 0o660

/** `port` is the one that was taken where 0 was asked for; null for a unix socket. Disposing it takes a socket file away. */
export type HttpServer = AsyncDisposable & Readonly<{ port: number | null }>

/** Resolves when connections are taken. Rejects with config/invalid where the address is not to be had. */
export async function openHttp(address: ListenAddress, view: DaemonView, log: Log): Promise<HttpServer> {
  const names = address.kind === 'unix' ? null : [address.host.toLowerCase()]
  const server = createServer({
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: REQUEST_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: CHECK_EVERY_MS,
  })
  server.maxConnections = MAX_CONNECTIONS
  server.maxHeadersCount = MAX_HEADERS
  server.setTimeout(IDLE_TIMEOUT_MS)
  server.on('request', (request, response) => {
    respond(request, response, names, view).catch((thrown: unknown) => {
      log('error', null, `${request.url ?? ''} was not answered: ${toSyncError(thrown).message}`)
      if (response.headersSent) response.destroy()
      else
        send(response, {
          status: 500,
          type: 'text/plain; charset=utf-8',
          body: 'not answered; see the log\n',
        })
    })
  })
  try {
    await listen(server, address)
  } catch (thrown) {
    throw notListening(thrown, address)
  }
  server.on('error', (error) => log('warning', null, `HTTP: ${error.message}`))
  const taken = server.address()
  return {
    port: typeof taken === 'object' && taken !== null ? taken.port : null,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      // also takes the file of a unix socket away
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

/** As people write it in the configuration. */
export function addressText(address: ListenAddress): string {
  if (address.kind === 'unix') return address.path
  return isIP(address.host) === 6 ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  names: Names,
  view: DaemonView,
): Promise<void> {
  const { method = '', url = '/', headers } = request
  const length = headers['content-length'] ?? '0'
  const hasBody = headers['transfer-encoding'] !== undefined || length !== '0'
  send(response, await answer({ method, url, host: headers.host, hasBody }, names, view))
}

function send(
  response: ServerResponse,
  {
    status,
    type,
    body,
    headers = {},
  }: Readonly<{ status: number; type: string; body: string; headers?: Readonly<Record<string, string>> }>,
): void {
  response.writeHead(status, {
    ...SECURITY_HEADERS,
    ...headers,
    'content-type': type,
    'content-length': Buffer.byteLength(body),
  })
  // of an answer to HEAD the body is left out by Node
  response.end(body)
}

async function listen(server: Server, address: ListenAddress): Promise<void> {
  if (address.kind === 'unix') await removeStale(address.path)
  const listening = once(server, 'listening')
  if (address.kind === 'tcp') server.listen({ host: address.host, port: address.port })
  else server.listen({ path: address.path })
  await listening
  if (address.kind === 'unix') await chmod(address.path, SOCKET_MODE)
}

/** A socket of ours that nobody listens on any more; anything else of that name stays, and is in the way. */
async function removeStale(path: string): Promise<void> {
  try {
    const found = await lstat(path)
    if (!found.isSocket() || found.uid !== process.geteuid?.() || (await connects(path))) return
    await unlink(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

function notListening(thrown: unknown, address: ListenAddress): SyncError {
  const operand = addressText(address)
  const said = thrown instanceof Error ? thrown.message : String(thrown)
  const why =
    errnoOf(thrown) === 'EADDRINUSE'
      ? 'is in use already'
      : `cannot be listened on (${errnoOf(thrown) ?? said})`
  const find = address.kind === 'unix' ? `ss -lxp src ${address.path}` : `ss -ltnp sport = :${address.port}`
  return new SyncError(
    'config/invalid',
    `${operand} of metrics.listen ${why}; status and metrics are not served`,
    {
      operand,
      hint: `See who has it with: ${find} ; or give metrics.listen another address.`,
      cause: thrown,
    },
  )
}
