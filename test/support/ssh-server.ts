// A small SSH server on loopback (the ssh2 library's), with throw-away keys, that runs what the client asks for as a child:
// for tests, and for a demonstration on machines without sshd. It accepts one key only and listens on 127.0.0.1 only.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'

import ssh2 from 'ssh2'
import type { Connection, Server, ServerChannel } from 'ssh2'

export type EmbeddedSshServer = {
  readonly port: number
  /** For -F: host `far` is this server, with its key, its known_hosts and strict checking. */
  readonly clientConfigPath: string
  readonly knownHostsPath: string
  readonly identityPath: string
  /** Ids of the commands that run now. */
  readonly commandPids: () => number[]
  /** Breaks all connections as a failing network does, without a goodbye. */
  readonly breakConnections: () => void
  readonly stop: () => Promise<void>
}

export type EmbeddedSshServerOptions = {
  /** An existing or new directory for the client's key, known_hosts and ssh_config; the caller removes it. */
  readonly directory: string
  /** Further variables for the commands, such as a PATH on which blocksync is found. */
  readonly environment?: Record<string, string>
}

/** Starts the server on a free port. Its host key lives in memory only. */
export async function startSshServer(options: EmbeddedSshServerOptions): Promise<EmbeddedSshServer> {
  const hostKey = ssh2.utils.generateKeyPairSync('ed25519')
  const clientKey = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'blocksync-throw-away' })
  const accepted = ssh2.utils.parseKey(clientKey.public)
  if (accepted instanceof Error) throw accepted
  const children = new Set<ChildProcess>()
  const clients = new Set<Connection>()
  const sockets = new Set<{ destroy: () => void }>()
  const environment = { ...process.env, ...options.environment }

  const server: Server = new ssh2.Server({ hostKeys: [hostKey.private] }, (client) => {
    clients.add(client)
    // A client that goes away in the middle is an everyday event here.
    client.on('error', () => {})
    client.on('close', () => clients.delete(client))
    client.on('authentication', (context) => {
      const known = context.method === 'publickey' && context.key.data.equals(accepted.getPublicSSH())
      if (!known) context.reject(['publickey'])
      else if (context.signature === undefined || context.blob === undefined) context.accept()
      else if (accepted.verify(context.blob, context.signature, context.hashAlgo)) context.accept()
      else context.reject(['publickey'])
    })
    client.on('session', (acceptSession) => {
      acceptSession().on('exec', (acceptExec, _reject, { command }) => {
        const child = runCommand(acceptExec(), command, environment)
        children.add(child)
        child.once('close', () => children.delete(child))
        // A channel that is blocked never closes; that its connection has gone says the same.
        client.once('close', () => child.kill('SIGTERM'))
      })
    })
  })
  // The library's server is a net.Server inside; its sockets are needed to break connections on purpose.
  const netServer = (server as unknown as { _srv: NodeJS.EventEmitter })._srv
  netServer.on(
    'connection',
    (socket: { destroy: () => void; once: (event: string, listener: () => void) => void }) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    },
  )
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }

  mkdirSync(options.directory, { recursive: true })
  const identityPath = join(options.directory, 'embedded_identity')
  const knownHostsPath = join(options.directory, 'embedded_known_hosts')
  const clientConfigPath = join(options.directory, 'embedded_ssh_config')
  const [keyType, keyText] = hostKey.public.split(' ')
  writeFileSync(identityPath, clientKey.private, { mode: 0o600 })
  writeFileSync(knownHostsPath, `[127.0.0.1]:${port} ${keyType} ${keyText}\n`)
  writeFileSync(
    clientConfigPath,
    [
      'Host far',
      '  HostName 127.0.0.1',
      `  Port ${port}`,
      `  User ${userInfo().username}`,
      `  IdentityFile ${identityPath}`,
      '  IdentitiesOnly yes',
      `  UserKnownHostsFile ${knownHostsPath}`,
      '  GlobalKnownHostsFile none',
      '  StrictHostKeyChecking yes',
      '',
    ].join('\n'),
  )
  return {
    port,
    clientConfigPath,
    knownHostsPath,
    identityPath,
    commandPids: () => [...children].flatMap((child) => (child.pid === undefined ? [] : [child.pid])),
    breakConnections: () => {
      for (const socket of sockets) socket.destroy()
    },
    stop: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const client of clients) client.end()
      for (const socket of sockets) socket.destroy()
      for (const child of children) child.kill('SIGKILL')
      await closed
    },
  }
}

/** The command runs under /bin/sh, as sshd runs it under the login shell; its streams are the channel's. */
function runCommand(channel: ServerChannel, command: string, environment: NodeJS.ProcessEnv): ChildProcess {
  const child = spawn('/bin/sh', ['-c', command], { stdio: ['pipe', 'pipe', 'pipe'], env: environment })
  for (const stream of [channel, child.stdin, child.stdout, child.stderr]) stream.on('error', () => {})
  channel.pipe(child.stdin)
  child.stdout.pipe(channel, { end: false })
  child.stderr.pipe(channel.stderr, { end: false })
  child.once('error', () => channel.close())
  child.once('close', (status, signal) => {
    if (signal !== null) channel.exit(signal.replace(/^SIG/, ''))
    else channel.exit(status ?? 1)
    channel.end()
  })
  // The client is gone: its command sees the end of its input, and a signal if that is not enough.
  channel.once('close', () => {
    child.stdin.end()
    child.kill('SIGTERM')
  })
  return child
}
