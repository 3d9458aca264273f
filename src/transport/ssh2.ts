// The far end through the ssh2 library, in this process: for hosts without an ssh client, and for embedding. Host keys are
// checked strictly on every hop, since the library by itself accepts any. Refuses what it cannot do and names --ssh openssh.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect as connectSocket } from 'node:net'
import { Duplex } from 'node:stream'

import ssh2 from 'ssh2'
import type { Client, ClientChannel } from 'ssh2'

import { SyncError } from '../errors.js'
import { hostKeyCheck } from './host-key-check.js'
import { remoteCommandLine } from './remote-command.js'
import { planAuth } from './ssh2-auth.js'
import { Ssh2Connection, type Route } from './ssh2-channel.js'
import { failed, login } from './ssh2-login.js'
import { resolveHostConfig, type HostConfig, type HostQuery, type Hop } from './ssh-config.js'
import { StderrTail } from './stderr-tail.js'
import type { Connection, StderrLine, TransportOptions, RemoteSide } from './transport.js'

/** A route of more hops than this is a loop in the configuration. */
const MAX_HOPS = 8
/** A peer that does not answer our goodbye within this is not waited for. */
const CLOSE_GRACE_MS = 1000

type OpenRoute = Route & { client: Client }

type RouteRequest = Readonly<{
  query: HostQuery
  /** Hops to use instead of what the configuration says, as `ssh -J`. */
  jumps: readonly Hop[] | null
  depth: number
  tail: StderrTail
  onNotice: StderrLine
}>

/** A byte stream to an SSH server that is not yet spoken to. */
type Carrier = Readonly<{ stream: Duplex; close: () => Promise<void> }>

/**
 * Connects, checks the host key of every hop, authenticates and starts the far program. Rejects with connect/host, refused,
 * host-key, auth or failed; a missing far program shows as its exit (status 127) and is named by `explain`.
 */
export async function connectSsh2(
  far: RemoteSide,
  options: TransportOptions,
  onStderrLine: StderrLine,
): Promise<Connection> {
  const commandLine = remoteCommandLine(options)
  const tail = new StderrTail(onStderrLine)
  const query: HostQuery = {
    host: far.host,
    user: far.user,
    port: far.port ?? options.port,
    identities: options.identities,
    configFile: options.configFile,
    operand: far.typed,
  }
  const route = await openRoute({ query, jumps: null, depth: 0, tail, onNotice: onStderrLine })
  try {
    const context = {
      kind: 'ssh2',
      peerName: far.typed,
      remoteCommand: options.remoteCommand,
      sudo: options.sudo,
    } as const
    return await exec(
      route.client,
      commandLine,
      far.typed,
      (channel) => new Ssh2Connection(channel, route, context, tail),
    )
  } catch (error) {
    await route.close()
    throw error
  }
}

async function openRoute(request: RouteRequest): Promise<OpenRoute> {
  const { query } = request
  if (request.depth >= MAX_HOPS) {
    throw new SyncError(
      'connect/failed',
      `${query.operand}: more than ${MAX_HOPS} jump hosts one after another; not connected`,
      {
        operand: query.operand,
        hint: 'Look for a ProxyJump that applies to the jump host itself.',
      },
    )
  }
  const config = await resolveHostConfig(query, request.onNotice)
  const check = await hostKeyCheck(config, query.operand)
  const plan = await planAuth(config, query.identities)
  const carrier = await openCarrier(config, request)
  let cipher: string | null = null
  const client = new ssh2.Client()
  client.on('handshake', (negotiated) => {
    cipher = negotiated.cs.cipher
  })
  let closed: Promise<void> | null = null
  const close = (): Promise<void> => (closed ??= closeClient(client, carrier))
  try {
    await login(client, config, carrier.stream, check, plan, query.operand)
  } catch (error) {
    await close()
    throw error
  }
  // From here on a break shows as the end of the channel; the reason is kept for the message.
  client.on('error', (error) => request.tail.push(Buffer.from(`ssh2: ${error.message}\n`)))
  return { client, cipher, stream: carrier.stream, close }
}

async function openCarrier(config: HostConfig, request: RouteRequest): Promise<Carrier> {
  const via = request.jumps === null ? config.via : ({ kind: 'jump', hops: request.jumps } as const)
  switch (via.kind) {
    case 'direct':
      return socketCarrier(config)
    case 'command':
      return commandCarrier(via.line)
    case 'jump':
      return await jumpCarrier(via.hops, config, request)
    default:
      return via satisfies never
  }
}

function socketCarrier(config: HostConfig): Carrier {
  const stream = connectSocket({ host: config.hostName, port: config.port, noDelay: true })
  return { stream, close: () => destroyed(stream) }
}

/** As ssh does it: the last hop is reached through the ones before it, or as the configuration says for it. -i is not for hops. */
async function jumpCarrier(
  hops: readonly Hop[],
  config: HostConfig,
  request: RouteRequest,
): Promise<Carrier> {
  const hop = hops.at(-1)
  if (hop === undefined) return socketCarrier(config)
  const earlier = hops.slice(0, -1)
  const route = await openRoute({
    ...request,
    query: { ...request.query, ...hop, identities: [] },
    jumps: earlier.length === 0 ? null : earlier,
    depth: request.depth + 1,
  })
  try {
    const stream = await new Promise<ClientChannel>((resolve, reject) => {
      route.client.forwardOut('127.0.0.1', 0, config.hostName, config.port, (error, channel) => {
        if (error) reject(error)
        else resolve(channel)
      })
    })
    return { stream, close: route.close }
  } catch (error) {
    await route.close()
    throw new SyncError(
      'connect/refused',
      `${request.query.operand}: ${hop.host} could not reach ${config.hostName} port ${config.port}; not connected`,
      {
        operand: request.query.operand,
        hint: 'Check the name and port as seen from the jump host, and that it allows forwarding.',
        cause: error,
      },
    )
  }
}

/** ProxyCommand is by its definition a line for a shell, written by the user in the ssh configuration. */
function commandCarrier(line: string): Carrier {
  const child = spawn('/bin/sh', ['-c', `exec ${line}`], { stdio: ['pipe', 'pipe', 'ignore'] })
  const exited = once(child, 'exit')
  // A shell that cannot be started fails the stream (below), and the login with it.
  exited.catch(() => {})
  const stream = Duplex.from({ readable: child.stdout, writable: child.stdin })
  child.once('error', (error) => stream.destroy(error))
  const close = async (): Promise<void> => {
    stream.destroy()
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), CLOSE_GRACE_MS)
    await exited
    clearTimeout(timer)
  }
  return { stream, close }
}

/**
 * Starts the command. `connect` gets the channel within the library's own callback: a command that ends at once may have
 * its exit status in the same packet, and that is told only to who listens by then.
 */
async function exec(
  client: Client,
  commandLine: string,
  operand: string,
  connect: (channel: ClientChannel) => Ssh2Connection,
): Promise<Ssh2Connection> {
  return await new Promise((resolve, reject) => {
    client.exec(commandLine, (error, channel) => {
      if (error) reject(failed(operand, `the server did not start the command (${error.message})`, error))
      else resolve(connect(channel))
    })
  })
}

/** Says goodbye, waits a bounded time for the answer, and leaves no socket open. */
async function closeClient(client: Client, carrier: Carrier): Promise<void> {
  // Errors of a connection that is being given up: its user has the reason already, or ended it.
  client.on('error', () => {})
  const { stream } = carrier
  stream.on('error', () => {})
  if (!stream.destroyed && stream.writable) {
    const farewell = new AbortController()
    const timer = setTimeout(() => farewell.abort(), CLOSE_GRACE_MS)
    // It rejects when the time is up; then the socket is destroyed below without a goodbye from the peer.
    const closed = once(client, 'close', { signal: farewell.signal }).catch(() => {})
    client.end()
    await closed
    clearTimeout(timer)
  }
  await carrier.close()
}

async function destroyed(stream: Duplex): Promise<void> {
  if (stream.closed) return
  const closed = new Promise<void>((resolve) => stream.once('close', () => resolve()))
  stream.destroy()
  await closed
}
