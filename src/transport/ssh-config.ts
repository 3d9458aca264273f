// What ssh_config says about a host, for the ssh2 transport: from `ssh -G` where an ssh client is installed, since only it
// knows Include, Match and defaults for certain, else from the file through the ssh-config package.
// Refuses settings that ssh2 cannot honour and that would make the check of the host key weaker.

import { readFile } from 'node:fs/promises'
import { homedir, hostname, userInfo } from 'node:os'
import { join } from 'node:path'

import { errnoOf, SyncError } from '../errors.js'
import { findProgram, run } from '../exec.js'

/** One host to pass through. */
export type Hop = Readonly<{ host: string; user: string | null; port: number | null }>

export type HostConfig = Readonly<{
  /** The name as asked for (an alias, maybe). */
  host: string
  hostName: string
  port: number
  user: string
  identityFiles: readonly string[]
  identitiesOnly: boolean
  /** Socket of the agent, or null for none. */
  agentSocket: string | null
  knownHostsFiles: readonly string[]
  hostKeyAlias: string | null
  /** Only what the config spells out as accept-new; `no` and `off` are read as strict. */
  newHostKeys: 'refuse' | 'accept-new'
  via: { kind: 'direct' } | { kind: 'jump'; hops: readonly Hop[] } | { kind: 'command'; line: string }
  connectTimeoutMs: number
  /** 0: no keepalive. */
  keepaliveIntervalMs: number
  keepaliveCountMax: number
}>

export type HostQuery = Readonly<{
  host: string
  user: string | null
  port: number | null
  identities: readonly string[]
  configFile: string | null
  /** The host as typed, for messages. */
  operand: string
}>

const SSH_G_TIMEOUT_MS = 10_000
/** ssh has none of its own; this is longer than any login takes and shorter than the kernel gives up (about 2 min). */
const DEFAULT_CONNECT_TIMEOUT_MS = 30_000
const DEFAULT_PORT = 22
const DEFAULT_IDENTITIES = ['~/.ssh/id_ed25519', '~/.ssh/id_ecdsa', '~/.ssh/id_rsa']
const DEFAULT_USER_KNOWN_HOSTS = ['~/.ssh/known_hosts', '~/.ssh/known_hosts2']
const DEFAULT_GLOBAL_KNOWN_HOSTS = ['/etc/ssh/ssh_known_hosts', '/etc/ssh/ssh_known_hosts2']

/** Keys in lower case; every value as it was given, lists unsplit. */
type Settings = ReadonlyMap<string, readonly string[]>

/**
 * The settings for a host. `onNotice` receives what was not read. Rejects with connect/failed where the file cannot be
 * read or is wrong, and for settings that only the system's ssh can honour.
 */
export async function resolveHostConfig(
  query: HostQuery,
  onNotice: (text: string) => void,
): Promise<HostConfig> {
  const settings =
    (await findProgram('ssh')) === null
      ? await settingsFromFile(query, onNotice)
      : await settingsFromSsh(query)
  return hostConfig(query, settings)
}

async function settingsFromSsh(query: HostQuery): Promise<Settings> {
  const { exitStatus, stdout, stderrTail } = await run({
    argv: [
      'ssh',
      '-G',
      ...(query.configFile === null ? [] : ['-F', query.configFile]),
      ...(query.user === null ? [] : ['-l', query.user]),
      ...(query.port === null ? [] : ['-p', String(query.port)]),
      ...query.identities.flatMap((file) => ['-i', file]),
      query.host,
    ],
    timeoutMs: SSH_G_TIMEOUT_MS,
    errorCode: 'connect/failed',
    operand: query.operand,
  })
  if (exitStatus !== 0) {
    throw failed(
      query,
      `the ssh configuration could not be read: ${stderrTail}`,
      'Correct the file that is named.',
    )
  }
  const settings = new Map<string, string[]>()
  for (const line of stdout.split('\n')) {
    const space = line.indexOf(' ')
    if (space > 0) addSetting(settings, line.slice(0, space), line.slice(space + 1))
  }
  return settings
}

/** Without an ssh client: the one file, without Include and without running anything that a Match names. */
export async function settingsFromFile(
  query: HostQuery,
  onNotice: (text: string) => void,
): Promise<Settings> {
  const file = query.configFile ?? join(homedir(), '.ssh', 'config')
  let text = ''
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' || query.configFile !== null) {
      throw failed(query, `${file} could not be read`, 'Name another file with -F.', error)
    }
  }
  const skipped = /^[ \t]*(?:include|match[ \t].*\bexec)\b/im.exec(text)
  if (skipped !== null)
    onNotice(`${file}: '${skipped[0].trim()}' is not followed, since no ssh client is installed here`)
  const settings = new Map<string, string[]>()
  const { SSHConfig } = await import('ssh-config')
  try {
    const computed = SSHConfig.parse(text).compute(
      query.user === null ? { Host: query.host } : { Host: query.host, User: query.user },
      { ignoreCase: true, matchExec: false },
    )
    for (const [key, value] of Object.entries(computed)) {
      if (typeof value === 'string') addSetting(settings, key, value)
      else if (/knownhostsfile$/i.test(key)) addSetting(settings, key, value.join(' '))
      else for (const item of value) addSetting(settings, key, item)
    }
  } catch (error) {
    throw failed(query, `${file} could not be understood`, 'Name another file with -F.', error)
  }
  // As on ssh's command line, what was given comes first.
  settings.set('identityfile', [...query.identities, ...(settings.get('identityfile') ?? [])])
  if (query.user !== null) settings.set('user', [query.user])
  if (query.port !== null) settings.set('port', [String(query.port)])
  return settings
}

function addSetting(settings: Map<string, string[]>, key: string, value: string): void {
  const values = settings.get(key.toLowerCase())
  if (values === undefined) settings.set(key.toLowerCase(), [value])
  else values.push(value)
}

function hostConfig(query: HostQuery, settings: Settings): HostConfig {
  const one = (key: string): string | null => {
    const value = settings.get(key)?.[0]
    return value === undefined || value.toLowerCase() === 'none' ? null : value
  }
  for (const key of ['revokedhostkeys', 'knownhostscommand']) {
    if (one(key) !== null) {
      throw failed(
        query,
        `the ssh configuration sets ${key}, which the ssh2 transport cannot honour`,
        'Use --ssh openssh.',
      )
    }
  }
  // 'none' means nothing special in these two.
  const user = settings.get('user')?.[0] ?? userInfo().username
  const port = portOf(query, one('port') ?? String(DEFAULT_PORT))
  const hostName = expandTokens(settings.get('hostname')?.[0] ?? '%h', { h: query.host })
  const tokens = { h: hostName, n: query.host, p: String(port), r: user }
  const path = (text: string): string => expandPath(text, tokens)
  const list = (key: string, defaults: readonly string[]): string[] => {
    const value = settings.get(key)?.[0]
    const words = value === undefined ? defaults : splitWords(value)
    return words.filter((word) => word.toLowerCase() !== 'none').map(path)
  }
  const identityFiles = (settings.get('identityfile') ?? []).filter((file) => file.toLowerCase() !== 'none')
  const agent = settings.get('identityagent')?.[0] ?? 'SSH_AUTH_SOCK'
  const alias = one('hostkeyalias')
  return {
    host: query.host,
    hostName,
    port,
    user,
    identityFiles: (identityFiles.length === 0 ? DEFAULT_IDENTITIES : identityFiles).map((file) =>
      path(unquote(file)),
    ),
    identitiesOnly: one('identitiesonly')?.toLowerCase() === 'yes',
    agentSocket: agentSocketOf(unquote(agent), path),
    knownHostsFiles: [
      ...list('userknownhostsfile', DEFAULT_USER_KNOWN_HOSTS),
      ...list('globalknownhostsfile', DEFAULT_GLOBAL_KNOWN_HOSTS),
    ],
    hostKeyAlias: alias === null ? null : expandTokens(alias, tokens),
    // `no` and `off` are not honoured: a disk goes over this connection, and who can take the host's place could take it or
    // give back another. Who wants new hosts to be learnt writes accept-new, which still refuses changed keys.
    newHostKeys: one('stricthostkeychecking')?.toLowerCase() === 'accept-new' ? 'accept-new' : 'refuse',
    via: viaOf(query, one('proxyjump'), one('proxycommand'), tokens),
    connectTimeoutMs: seconds(one('connecttimeout')) ?? DEFAULT_CONNECT_TIMEOUT_MS,
    keepaliveIntervalMs: seconds(one('serveraliveinterval')) ?? 0,
    keepaliveCountMax: Number(one('serveralivecountmax') ?? 3),
  }
}

function agentSocketOf(setting: string, path: (text: string) => string): string | null {
  if (setting.toLowerCase() === 'none') return null
  if (setting === 'SSH_AUTH_SOCK') return process.env['SSH_AUTH_SOCK'] ?? null
  return setting.startsWith('$') ? (process.env[setting.slice(1)] ?? null) : path(setting)
}

function viaOf(
  query: HostQuery,
  jump: string | null,
  command: string | null,
  tokens: Tokens,
): HostConfig['via'] {
  if (jump !== null)
    return { kind: 'jump', hops: jump.split(',').map((text) => parseHop(query, expandTokens(text, tokens))) }
  return command === null ? { kind: 'direct' } : { kind: 'command', line: expandTokens(command, tokens) }
}

/** `[user@]host[:port]`, `[user@][v6]:port` or `ssh://...`, as ssh_config(5), ProxyJump. */
function parseHop(query: HostQuery, text: string): Hop {
  const parts = /^(?:ssh:\/\/)?(?:([^@]+)@)?(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d+))?\/?$/.exec(text.trim())
  const host = parts?.[2] ?? parts?.[3]
  if (host === undefined || host.startsWith('-'))
    throw failed(query, `ProxyJump ${text} is not understood`, 'Correct it.')
  return { host, user: parts?.[1] ?? null, port: parts?.[4] === undefined ? null : portOf(query, parts[4]) }
}

function portOf(query: HostQuery, text: string): number {
  const port = Number(text)
  if (Number.isInteger(port) && port >= 1 && port <= 65535) return port
  throw failed(query, `${text} is not a port`, 'Ports are from 1 to 65535.')
}

function seconds(text: string | null): number | null {
  const value = text === null ? Number.NaN : Number(text)
  return Number.isFinite(value) && value > 0 ? value * 1000 : null
}

type Tokens = Readonly<Record<string, string>>

/** %-tokens of ssh_config(5), TOKENS, as far as they make sense here; others stay as they are. */
function expandTokens(text: string, tokens: Tokens): string {
  return text.replace(/%(.)/g, (whole, letter: string) => {
    switch (letter) {
      case '%':
        return '%'
      case 'd':
        return homedir()
      case 'u':
        return userInfo().username
      case 'i':
        return String(userInfo().uid)
      case 'l':
        return hostname()
      case 'L':
        return hostname().split('.')[0] ?? ''
      default:
        return tokens[letter] ?? whole
    }
  })
}

function expandPath(text: string, tokens: Tokens): string {
  const home = text === '~' || text.startsWith('~/') ? join(homedir(), text.slice(1)) : text
  return expandTokens(home, tokens).replace(
    /\$\{(\w+)\}/g,
    (whole, name: string) => process.env[name] ?? whole,
  )
}

function unquote(text: string): string {
  return text.length > 1 && text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1) : text
}

/** Words that may be in double quotes. */
function splitWords(text: string): string[] {
  return (text.match(/"[^"]*"|\S+/g) ?? []).map(unquote)
}

function failed(query: HostQuery, what: string, hint: string, cause?: unknown): SyncError {
  return new SyncError('connect/failed', `${query.operand}: ${what}; not connected`, {
    operand: query.operand,
    hint,
    cause,
  })
}
