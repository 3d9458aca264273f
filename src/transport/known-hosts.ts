// Host keys against known_hosts, strictly: a key is accepted only if a file names it for this host. Format and matching
// follow sshd(8), SSH_KNOWN_HOSTS FILE FORMAT. Refuses revoked keys, changed keys and, without a word to the contrary, new keys.

import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { appendFile, mkdir, readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'

import { errnoOf, SyncError } from '../errors.js'

export type KnownHost = Readonly<{
  file: string
  /** Counted from 1, as editors and ssh do. */
  line: number
  marker: 'none' | 'revoked' | 'cert-authority'
  /** The host field: comma-separated patterns, or one hashed name. */
  hosts: string
  keyType: string
  key: Buffer
}>

export type Verdict =
  | { kind: 'trusted'; by: KnownHost }
  | { kind: 'revoked'; by: KnownHost }
  /** Other keys are known for this host; `known` is one of them, of the offered type where there is one. */
  | { kind: 'changed'; known: KnownHost }
  /** No key is known. `authority`: an entry that trusts a certificate authority, which is of no use for a plain key. */
  | { kind: 'unknown'; authority: KnownHost | null }

export type HostKeyAlgorithm =
  | 'ssh-ed25519'
  | 'ecdsa-sha2-nistp256'
  | 'ecdsa-sha2-nistp384'
  | 'ecdsa-sha2-nistp521'
  | 'rsa-sha2-512'
  | 'rsa-sha2-256'

/** What the ssh2 library can verify, best first; signatures over SHA-1 (ssh-rsa) are left out, as in OpenSSH. */
export const HOST_KEY_ALGORITHMS: readonly HostKeyAlgorithm[] = [
  'ssh-ed25519',
  'ecdsa-sha2-nistp256',
  'ecdsa-sha2-nistp384',
  'ecdsa-sha2-nistp521',
  'rsa-sha2-512',
  'rsa-sha2-256',
]

/** Sites that generate the file for thousands of hosts stay far below this. */
const MAX_FILE_BYTES = 32 << 20
const DEFAULT_SSH_PORT = 22

/**
 * The names to look for, best first: `host` on port 22, else `[host]:port` and then, as ssh does, the bare `host`. An alias
 * (HostKeyAlias) replaces all of them.
 */
export function hostKeyNames(host: string, port: number, alias: string | null): readonly string[] {
  if (alias !== null) return [alias.toLowerCase()]
  const name = host.toLowerCase()
  return port === DEFAULT_SSH_PORT ? [name] : [`[${name}]:${port}`, name]
}

/** Entries of one file's text. Lines that are no entries are skipped, as ssh does: they can trust nobody. */
export function parseKnownHosts(text: string, file: string): KnownHost[] {
  const entries: KnownHost[] = []
  text.split('\n').forEach((whole, index) => {
    const words = whole.trim().split(/[ \t]+/)
    const first = words[0] ?? ''
    if (first === '' || first.startsWith('#')) return
    let marker: KnownHost['marker'] = 'none'
    if (first.startsWith('@')) {
      if (first === '@revoked') marker = 'revoked'
      else if (first === '@cert-authority') marker = 'cert-authority'
      else return
      words.shift()
    }
    const [hosts, keyType, base64] = words
    if (hosts === undefined || keyType === undefined || base64 === undefined) return
    const key = Buffer.from(base64, 'base64')
    // The type stands in the key again; a line whose two disagree was not written by an ssh program.
    if (keyTypeOf(key) !== keyType) return
    entries.push({ file, line: index + 1, marker, hosts, keyType, key })
  })
  return entries
}

/** Entries of all files in order; missing files are empty. Rejects with connect/host-key where a file cannot be read. */
export async function readKnownHosts(files: readonly string[], operand: string): Promise<KnownHost[]> {
  const entries: KnownHost[] = []
  for (const file of files) {
    try {
      const { size } = await stat(file)
      if (size > MAX_FILE_BYTES) throw new Error(`larger than ${MAX_FILE_BYTES} bytes`)
      entries.push(...parseKnownHosts(await readFile(file, 'utf8'), file))
    } catch (error) {
      if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') continue
      throw new SyncError(
        'connect/host-key',
        `${operand}: ${file} could not be read (${error instanceof Error ? error.message : String(error)}); not connected`,
        {
          operand,
          hint: 'Without the file a revoked or changed host key would not be noticed. Make it readable.',
          cause: error,
        },
      )
    }
  }
  return entries
}

/** True where the entry's host field is for `name` (lower case, as from hostKeyNames). */
export function isFor(entry: KnownHost, name: string): boolean {
  if (entry.hosts.startsWith('|')) return hashedNameMatches(entry.hosts, name)
  let matched = false
  for (const pattern of entry.hosts.toLowerCase().split(',')) {
    if (pattern.startsWith('!')) {
      // A negated pattern that matches takes the whole entry out, wherever it stands.
      if (wildcardMatches(pattern.slice(1), name)) return false
    } else if (wildcardMatches(pattern, name)) matched = true
  }
  return matched
}

/**
 * Judges the key blob that a host offered under `names`. Revocation under any of the names counts before everything else;
 * then the first name that any plain entry is for decides, except that a bare name may confirm a key but not refute it.
 */
export function judgeHostKey(entries: readonly KnownHost[], names: readonly string[], key: Buffer): Verdict {
  const keyType = keyTypeOf(key)
  const relevant = entries.filter((entry) => names.some((name) => isFor(entry, name)))
  const revoked = relevant.find((entry) => entry.marker === 'revoked' && entry.key.equals(key))
  if (revoked !== undefined) return { kind: 'revoked', by: revoked }
  const plain = relevant.filter((entry) => entry.marker === 'none')
  const trusted = plain.find((entry) => entry.key.equals(key))
  if (trusted !== undefined) return { kind: 'trusted', by: trusted }
  const [best] = names
  const others = plain.filter((entry) => best !== undefined && isFor(entry, best))
  // Stricter than ssh, which calls a key of another type new: who can offer a new type can also replace the old one.
  const known = others.find((entry) => entry.keyType === keyType) ?? others[0]
  if (known !== undefined) return { kind: 'changed', known }
  return { kind: 'unknown', authority: relevant.find((entry) => entry.marker === 'cert-authority') ?? null }
}

/** HOST_KEY_ALGORITHMS with those first for which a key of the host is known, so that the host offers that key. */
export function orderHostKeyAlgorithms(
  entries: readonly KnownHost[],
  names: readonly string[],
): HostKeyAlgorithm[] {
  const types = new Set<string>()
  for (const name of names) {
    for (const entry of entries) if (entry.marker === 'none' && isFor(entry, name)) types.add(entry.keyType)
    // The bare name counts only where the one with the port is unknown, as in judgeHostKey.
    if (types.size > 0) break
  }
  const isKnown = (algorithm: HostKeyAlgorithm): boolean =>
    types.has(algorithm.startsWith('rsa-') ? 'ssh-rsa' : algorithm)
  return [
    ...HOST_KEY_ALGORITHMS.filter(isKnown),
    ...HOST_KEY_ALGORITHMS.filter((algorithm) => !isKnown(algorithm)),
  ]
}

/** As ssh prints it: `SHA256:` and the unpadded base64 of the digest of the key blob. */
export function fingerprint(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`
}

/** The type named inside a key blob (RFC 4253, 6.6), or '' where it is no key blob. */
export function keyTypeOf(key: Buffer): string {
  if (key.length < 4) return ''
  const length = key.readUInt32BE(0)
  return length > key.length - 4 ? '' : key.toString('latin1', 4, 4 + length)
}

/** Adds a line for a new host (StrictHostKeyChecking accept-new). Rejects with connect/host-key. */
export async function appendKnownHost(
  file: string,
  name: string,
  key: Buffer,
  operand: string,
): Promise<void> {
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    // A file that was edited by hand may lack its last line end.
    const before = await readFile(file, 'utf8').catch((error: unknown) => {
      if (errnoOf(error) === 'ENOENT') return ''
      throw error
    })
    const gap = before === '' || before.endsWith('\n') ? '' : '\n'
    await appendFile(file, `${gap}${name} ${keyTypeOf(key)} ${key.toString('base64')}\n`, { mode: 0o600 })
  } catch (error) {
    throw new SyncError(
      'connect/host-key',
      `${operand}: the new host key could not be added to ${file}; not connected`,
      {
        operand,
        hint: 'Make the file writable, or add the key by hand.',
        cause: error,
      },
    )
  }
}

function hashedNameMatches(field: string, name: string): boolean {
  const [, version, salt, digest] = field.split('|')
  if (version !== '1' || salt === undefined || digest === undefined) return false
  const expected = Buffer.from(digest, 'base64')
  const actual = createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest()
  return expected.length === actual.length && timingSafeEqual(expected, actual)
}

/** `*` and `?` as in ssh_config(5), PATTERNS; in time proportional to the product of the lengths, never exponential. */
function wildcardMatches(pattern: string, name: string): boolean {
  let patternIndex = 0
  let nameIndex = 0
  let starIndex = -1
  let retryIndex = 0
  while (nameIndex < name.length) {
    const symbol = pattern[patternIndex]
    if (symbol === '*') {
      starIndex = patternIndex++
      retryIndex = nameIndex
    } else if (symbol !== undefined && (symbol === '?' || symbol === name[nameIndex])) {
      patternIndex++
      nameIndex++
    } else if (starIndex >= 0) {
      patternIndex = starIndex + 1
      nameIndex = ++retryIndex
    } else return false
  }
  while (pattern[patternIndex] === '*') patternIndex++
  return patternIndex === pattern.length
}
