// A private OpenSSH sshd on loopback with throw-away keys, for tests: nothing of the machine's own sshd, keys or known
// hosts is read or written. Refuses to start where sshd or ssh-keygen are missing (ask sshdSkipReason first).
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'

import { descendantsOf, isRunning } from './processes.js'

export type KeyType = 'ed25519' | 'ecdsa' | 'rsa'

export type SshdOptions = Readonly<{
  hostKeyTypes?: readonly KeyType[]
  /** Run instead of what the client asks for, as a shell line; $SSH_ORIGINAL_COMMAND holds that. */
  forceCommand?: string
  /** Further lines of sshd_config. */
  config?: readonly string[]
}>

export type Sshd = Readonly<{
  port: number
  pid: () => number
  directory: string
  /** For -F: hosts `far` and `far2` (both this sshd), strict, with the throw-away identity and known_hosts. */
  clientConfigPath: string
  knownHostsPath: string
  identityPath: string
  /** A key that the sshd does not accept. */
  strangerPath: string
  hostKeyPath: (type: KeyType) => string
  /** Writes the config again with further lines for `Host far far2`. */
  configure: (lines: readonly string[]) => void
  /** Starts again with new host keys; known_hosts still holds the old ones. */
  changeHostKeys: () => Promise<void>
  /** Ids of the processes that serve connections now, and what they run. */
  sessionPids: () => number[]
  stop: () => Promise<void>
}>

const START_TIMEOUT_MS = 10_000

/** Why tests with sshd cannot run here (also printed), or null where they can. Throws where nothing may be skipped. */
export function sshdSkipReason(): string | null {
  const reason = missingForSshd()
  if (reason === null) return null
  if (process.env['BLOCKSYNC_TEST_REQUIRE_ALL'] === '1')
    throw new Error(`needed by a test and missing: ${reason}`)
  console.warn(`skipped for want of: ${reason}`)
  return reason
}

function missingForSshd(): string | null {
  if (sshdPath() === null) return 'sshd is not installed (openssh-server)'
  if (!['/usr/bin', '/bin', '/usr/local/bin'].some((directory) => existsSync(`${directory}/ssh-keygen`))) {
    return 'ssh-keygen is not installed (openssh-client)'
  }
  return null
}

export async function startSshd(options: SshdOptions = {}): Promise<Sshd> {
  const program = sshdPath()
  if (program === null) throw new Error('sshd is not installed')
  const directory = mkdtempSync(join(tmpdir(), 'blocksync-sshd-'))
  const hostKeyTypes = options.hostKeyTypes ?? ['ed25519']
  const hostKeyPath = (type: KeyType): string => join(directory, `host_${type}`)
  const identityPath = join(directory, 'identity')
  const strangerPath = join(directory, 'stranger')
  const knownHostsPath = join(directory, 'known_hosts')
  const clientConfigPath = join(directory, 'ssh_config')
  let daemon: ChildProcess | null = null

  const makeHostKeys = (): void => {
    for (const type of hostKeyTypes) {
      rmSync(hostKeyPath(type), { force: true })
      rmSync(`${hostKeyPath(type)}.pub`, { force: true })
      makeKey(hostKeyPath(type), type)
    }
  }
  const configure = (lines: readonly string[]): void =>
    writeFileSync(
      clientConfigPath,
      [
        'Host far far2',
        ...lines,
        '  HostName 127.0.0.1',
        `  Port ${port}`,
        `  User ${userInfo().username}`,
        `  IdentityFile ${identityPath}`,
        '  IdentitiesOnly yes',
        `  UserKnownHostsFile ${knownHostsPath}`,
        '  GlobalKnownHostsFile none',
        '  StrictHostKeyChecking yes',
        '  LogLevel ERROR',
        '',
      ].join('\n'),
    )
  const start = async (): Promise<void> => {
    // sshd only starts under its absolute path (it runs itself again for each connection); -e: text to stderr.
    const child = spawn(program, ['-D', '-e', '-f', join(directory, 'sshd_config')], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    daemon = child
    await listening(child)
  }
  const stopDaemon = async (): Promise<void> => {
    const child = daemon
    daemon = null
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const sessions = descendantsOf(child.pid)
    const exited = once(child, 'exit')
    child.kill('SIGTERM')
    await exited
    for (const pid of sessions) if (isRunning(pid)) killIfThere(pid)
  }

  const port = await freePort()
  try {
    // The privilege separation directory of Debian's sshd; made at boot by the service, which may not run here.
    if (userInfo().uid === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
    makeHostKeys()
    makeKey(identityPath, 'ed25519')
    makeKey(strangerPath, 'ed25519')
    writeFileSync(join(directory, 'authorized_keys'), readFileSync(`${identityPath}.pub`))
    writeFileSync(
      join(directory, 'sshd_config'),
      [
        `Port ${port}`,
        'ListenAddress 127.0.0.1',
        'AddressFamily inet',
        ...hostKeyTypes.map((type) => `HostKey ${hostKeyPath(type)}`),
        `AuthorizedKeysFile ${join(directory, 'authorized_keys')}`,
        'PidFile none',
        'StrictModes no',
        'UsePAM no',
        'PasswordAuthentication no',
        'KbdInteractiveAuthentication no',
        'PermitRootLogin prohibit-password',
        'AllowTcpForwarding yes',
        'MaxStartups 50:30:100',
        'UseDNS no',
        'PrintMotd no',
        // far ends keep their records where those of this test are (state-directory.ts)
        `SetEnv BLOCKSYNC_STATE_DIR=${process.env['BLOCKSYNC_STATE_DIR'] ?? join(directory, 'state')}`,
        ...(options.forceCommand === undefined ? [] : [`ForceCommand ${options.forceCommand}`]),
        ...(options.config ?? []),
        '',
      ].join('\n'),
    )
    writeFileSync(
      knownHostsPath,
      hostKeyTypes.map((type) => knownHostLine(`[127.0.0.1]:${port}`, hostKeyPath(type))).join(''),
    )
    configure([])
    await start()
  } catch (error) {
    await stopDaemon()
    rmSync(directory, { recursive: true, force: true })
    throw error
  }
  return {
    port,
    pid: () => daemon?.pid ?? -1,
    directory,
    clientConfigPath,
    knownHostsPath,
    identityPath,
    strangerPath,
    hostKeyPath,
    configure,
    changeHostKeys: async () => {
      await stopDaemon()
      makeHostKeys()
      await start()
    },
    sessionPids: () => (daemon?.pid === undefined ? [] : descendantsOf(daemon.pid)),
    stop: async () => {
      await stopDaemon()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** A known_hosts line for `name` with the public half of the key at `keyPath`. */
export function knownHostLine(name: string, keyPath: string): string {
  const [type, key] = readFileSync(`${keyPath}.pub`, 'utf8').split(' ')
  return `${name} ${type} ${key?.trim()}\n`
}

/** Makes a key pair without a passphrase (or with one). */
export function makeKey(path: string, type: KeyType, passphrase = ''): void {
  const bits = type === 'rsa' ? ['-b', '2048'] : []
  execFileSync('ssh-keygen', ['-q', '-t', type, ...bits, '-N', passphrase, '-C', 'test', '-f', path], {
    timeout: 30_000,
  })
}

/** A loopback port that nothing listens on just now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

function sshdPath(): string | null {
  return ['/usr/sbin/sshd', '/usr/local/sbin/sshd', '/usr/bin/sshd'].find((path) => existsSync(path)) ?? null
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It ended by itself in between.
  }
}

async function listening(child: ChildProcess): Promise<void> {
  let text = ''
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`sshd did not start: ${text}`)), START_TIMEOUT_MS)
    child.stderr?.on('data', (chunk: Buffer) => {
      text = (text + chunk.toString()).slice(-4096)
      if (!/Server listening on/.test(text)) return
      clearTimeout(timer)
      resolve()
    })
    child.once('exit', (status) => {
      clearTimeout(timer)
      reject(new Error(`sshd ended with status ${status}: ${text}`))
    })
  })
}
