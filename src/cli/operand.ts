// What SOURCE and DESTINATION mean: text in, a path here or a path on a host out. Nothing is opened; the only look at
// the file system is whether a bare word is also a local file. Refuses empty and unclear operands, control characters,
// and hosts or users that ssh could take for options.

import { SyncError } from '../errors.js'
import type { FarSide, RemoteSide } from '../transport/transport.js'
import { portNumber } from './units.js'
import { hasControlCharacter } from './words.js'

/** What is asked of this machine about names. Paths are absolute or relative to `cwd`. */
export type LocalNames = Readonly<{
  cwd: string
  /** True where the path exists and is not a directory. */
  isFile: (path: string) => boolean
}>

/**
 * One operand, understood. `path` null: the path of the other operand is meant. `names` says whether the path is a
 * disk or (it ends in a slash) a directory to put disks into.
 */
export type ParsedOperand =
  | Readonly<{
      at: Extract<FarSide, { kind: 'local' }>
      path: string
      names: 'disk' | 'directory'
      typed: string
    }>
  | Readonly<{ at: RemoteSide; path: string | null; names: 'disk' | 'directory'; typed: string }>

/** PATH_MAX of Linux, and room for a host before it. */
const MAX_OPERAND = 4096 + 512

/** Letters, digits, `.`, `_`, `-`; the first is no `-` (an option to ssh) and no `.` (a directory here). */
const HOST = /^[\p{L}\p{N}_][\p{L}\p{N}._-]*$/u
const IPV6 = /^[0-9a-f:.]*:[0-9a-f:.]*(?:%[a-z0-9._-]+)?$/i
/** ssh refuses the shell's own characters in a user name since 9.6; we refuse them with every ssh. */
const USER = /^[^-\s'"`$;&<>|(){}/:][^\s'"`;&<>|(){}/:]*$/u

const URL_FORM = /^ssh:\/\/(?:([^@/]*)@)?(\[[^\]]*\]|[^:/[\]]*)(?::([^/]*))?(\/.*)?$/i

/**
 * The path of a disk of this host, for a command that takes no other. `what` goes behind 'this command', `command` is what
 * to type on the other host. Rejects with `usage`.
 */
export function localDisk(
  typed: string,
  names: LocalNames,
  { what, command }: Readonly<{ what: string; command: string }>,
): string {
  const { at, path, names: named } = parseOperand(typed, names)
  if (at.kind === 'local' && path !== null && named === 'disk') return path
  if (at.kind === 'local') throw refuse(typed, 'this is a directory', 'Name an image file or a device.')
  throw refuse(
    typed,
    `this command ${what}`,
    `Run it there: ssh ${at.host} ${command} ... (write ./${typed} for a file here).`,
  )
}

/** Understands one operand. Rejects with `usage`; the hint says how to write what may have been meant. */
export function parseOperand(typed: string, names: LocalNames): ParsedOperand {
  checkText(typed)
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(typed)) return parseUrl(typed)
  if (typed.startsWith('/') || typed.startsWith('./') || typed.startsWith('../')) return localOperand(typed)

  const bracketed = /^(?:([^@/]*)@)?\[([^\]]*)\](?::(.*))?$/u.exec(typed)
  if (bracketed !== null) {
    const at = remoteSide(typed, bracketed[2] ?? '', bracketed[1] ?? null, null)
    return remoteOperand(at, typed, bracketed[3] ?? '')
  }

  const colon = typed.indexOf(':')
  const slash = typed.indexOf('/')
  if (colon < 0) {
    if (slash >= 0) return localOperand(typed)
    return bareWord(typed, names)
  }
  if (slash >= 0 && slash < colon) {
    throw refuse(
      typed,
      'a path with a colon is not clear: the part before the colon could be a host',
      `Write ./${typed} for the file here.`,
    )
  }
  const path = typed.slice(colon + 1)
  if (path.startsWith(':')) {
    throw refuse(typed, 'host::module is for an rsync daemon, which this is not', 'Write host:/path/to/disk.')
  }
  const { user, host } = splitLogin(typed.slice(0, colon))
  if (host === '') {
    const hint =
      colon === 0 && path.includes(':')
        ? `An IPv6 address needs brackets: [::1]:/dev/x`
        : 'Write host:/path/to/disk.'
    throw refuse(typed, 'there is no host before the colon', hint)
  }
  return remoteOperand(remoteSide(typed, host, user, null), typed, path)
}

/** A host alone, as `doctor` takes it: `[user@]host`, with or without a colon, or ssh://. Rejects with `usage`. */
export function parseHost(typed: string): RemoteSide {
  checkText(typed)
  const parsed = /[/:[]/.test(typed)
    ? parseOperand(typed, { cwd: '/', isFile: () => false })
    : bareHost(typed)
  if (parsed.at.kind === 'local')
    throw refuse(typed, 'this is a path, not a host', 'Write host or user@host.')
  return parsed.at
}

/** `[user@]host[:port]`: the far side as a user would write it before a path. */
export function hostPrefix(at: RemoteSide): string {
  const host = at.host.includes(':') ? `[${at.host}]` : at.host
  const login = at.user === null ? host : `${at.user}@${host}`
  return at.port === null ? `${login}:` : `ssh://${login}:${at.port}`
}

function bareWord(typed: string, names: LocalNames): ParsedOperand {
  if (typed === '.' || typed === '..')
    throw refuse(typed, 'this is a directory, not a disk', 'Name an image file or a block device.')
  if (names.isFile(typed)) {
    throw refuse(
      typed,
      'this could be the file here or a host of that name',
      `Write ./${typed} for the file, or ${typed}: for the host.`,
    )
  }
  return bareHost(typed)
}

function bareHost(typed: string): ParsedOperand {
  const { user, host } = splitLogin(typed)
  return { at: remoteSide(typed, host, user, null), path: null, names: 'disk', typed }
}

function parseUrl(typed: string): ParsedOperand {
  const match = URL_FORM.exec(typed)
  if (match === null) {
    throw refuse(
      typed,
      'this is not a URL that we know',
      'Write ssh://user@host:22/path/to/disk, or /path/to/disk for a disk here.',
    )
  }
  const [, user, hostText = '', portText, pathText = ''] = match
  if (user?.includes(':')) {
    throw refuse(
      typed.replace(/:[^@]*@/, ':...@'),
      'a password does not belong on a command line',
      'Use a key or the ssh agent.',
    )
  }
  const host = hostText.startsWith('[') ? hostText.slice(1, -1) : hostText
  const port = portText === undefined ? null : portNumber(portText)
  if (portText !== undefined && port === null) {
    throw refuse(typed, `'${portText}' is not a port from 1 to 65535`, 'Write ssh://host:22/path/to/disk.')
  }
  if (host.includes(':') && !hostText.startsWith('['))
    throw refuse(typed, 'an IPv6 address needs brackets', 'Write ssh://[::1]/dev/x.')
  let path: string
  try {
    path = decodeURIComponent(pathText)
  } catch (cause) {
    throw refuse(
      typed,
      'the path holds a % that no two digits follow',
      'Write %25 for a percent sign in a URL, or host:/path.',
      cause,
    )
  }
  if (hasControlCharacter(path))
    throw refuse(typed, 'the path contains a control character', 'Name the disk by a plain path.')
  return remoteOperand(remoteSide(typed, host, user ?? null, port), typed, path)
}

function localOperand(typed: string): ParsedOperand {
  return { at: { kind: 'local' }, path: typed, names: pathNames(typed), typed }
}

function remoteOperand(at: RemoteSide, typed: string, pathText: string): ParsedOperand {
  // the far end starts in the login's home, and no shell sees the path: ~/x is x there
  const path = pathText.startsWith('~/') ? pathText.slice(2) : pathText
  if (path.startsWith('~')) {
    throw refuse(
      typed,
      'the home of another user is not looked up on the far side',
      'Write the whole path: host:/home/name/disk.img',
    )
  }
  if (path === '' && pathText !== '')
    throw refuse(typed, 'this is a directory, not a disk', 'Write host:~/disk.img')
  return { at, path: path === '' ? null : path, names: pathNames(path), typed }
}

function pathNames(path: string): 'disk' | 'directory' {
  return path.endsWith('/') ? 'directory' : 'disk'
}

function splitLogin(login: string): { user: string | null; host: string } {
  const at = login.lastIndexOf('@')
  return at < 0 ? { user: null, host: login } : { user: login.slice(0, at), host: login.slice(at + 1) }
}

function remoteSide(typed: string, host: string, user: string | null, port: number | null): RemoteSide {
  if (host.startsWith('-') || user?.startsWith('-')) {
    throw refuse(
      typed,
      'a host or user that begins with - would be taken for an option',
      'Name the host in ssh_config under another name.',
    )
  }
  if (!HOST.test(host) && !IPV6.test(host)) {
    throw refuse(
      typed,
      host === '' ? 'there is no host' : `'${host}' is not the name of a host`,
      'Write host:/path/to/disk, or ./name for a file here.',
    )
  }
  if (user !== null && !USER.test(user)) {
    throw refuse(
      typed,
      user === '' ? 'there is no user before the @' : `'${user}' is not the name of a user`,
      'Write user@host:/path/to/disk.',
    )
  }
  return { kind: 'remote', host, user, port, typed: hostTyped(typed, host, user) }
}

/** The host as typed, without the path: what messages about the connection name. */
function hostTyped(typed: string, host: string, user: string | null): string {
  if (/^ssh:\/\//i.test(typed)) return /^ssh:\/\/[^/]*/i.exec(typed)?.[0] ?? typed
  return user === null ? host : `${user}@${host}`
}

function checkText(typed: string): void {
  if (typed === '') {
    throw refuse("''", 'an operand is empty', 'Was a shell variable empty? Write a path, or host:/path.')
  }
  if (typed.length > MAX_OPERAND)
    throw refuse(
      `${typed.slice(0, 40)}...`,
      `an operand is longer than ${MAX_OPERAND} characters`,
      'Write a path, or host:/path.',
    )
  if (hasControlCharacter(typed))
    throw refuse(typed, 'the operand contains a control character', 'Name the disk by a plain path.')
}

export function refuse(operand: string, problem: string, hint: string, cause?: unknown): SyncError {
  return new SyncError('usage', `${problem}; nothing was opened`, { operand, hint, cause })
}
