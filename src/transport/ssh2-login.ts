// Logging in to one SSH server with the ssh2 library: a byte stream and a plan in, a client that is ready out. Refuses a
// host key that was not accepted, and turns what the library says into the error a user sees.

import type { Duplex } from 'node:stream'

import type { CipherAlgorithm, Client, ClientErrorExtensions } from 'ssh2'

import { errnoOf, SyncError } from '../errors.js'
import type { HostKeyCheck } from './host-key-check.js'
import type { HostConfig } from './ssh-config.js'
import type { AuthPlan } from './ssh2-auth.js'

/** AES-GCM first: with AES instructions it is the fastest by far. Nothing here that OpenSSH does not offer by default. */
const CIPHERS: CipherAlgorithm[] = [
  'aes128-gcm@openssh.com',
  'aes256-gcm@openssh.com',
  'chacha20-poly1305@openssh.com',
  'aes128-ctr',
  'aes192-ctr',
  'aes256-ctr',
]
/**
 * Logs in over `stream` once the host key is accepted. Rejects with connect/host, refused, host-key, auth or failed; the
 * client is the caller's to close.
 */
export async function login(
  client: Client,
  config: HostConfig,
  stream: Duplex,
  check: HostKeyCheck,
  plan: AuthPlan,
  operand: string,
): Promise<void> {
  const methods = [...plan.methods]
  await new Promise<void>((resolve, reject) => {
    client.once('ready', resolve)
    client.once('close', () =>
      reject(check.refusal() ?? failed(operand, 'the connection was closed before the login was done')),
    )
    client.on('error', (error) => {
      // An agent that does not answer is one method less, not the end.
      if (error.level !== 'agent') reject(check.refusal() ?? loginError(error, config, plan, operand))
    })
    client.connect({
      sock: stream,
      username: config.user,
      readyTimeout: config.connectTimeoutMs,
      keepaliveInterval: config.keepaliveIntervalMs,
      keepaliveCountMax: config.keepaliveCountMax,
      hostVerifier: check.verify,
      algorithms: { serverHostKey: check.algorithms, cipher: CIPHERS },
      // The library takes false for 'no more methods', which its types leave out.
      authHandler: (_left, _partial, next) => next(methods.shift() ?? (false as unknown as 'none')),
    })
  })
}

/** A name server that does not answer, a host that starts again; a name that does not exist stays so. */
const PASSING = new Set(['EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'])

function loginError(
  error: Error & ClientErrorExtensions,
  config: HostConfig,
  plan: AuthPlan,
  operand: string,
): SyncError {
  const where = `${config.hostName} port ${config.port}`
  const fail = (
    code: 'connect/host' | 'connect/refused' | 'connect/auth',
    what: string,
    hint: string,
  ): SyncError =>
    new SyncError(code, `${operand}: ${what}; nothing was written`, {
      operand,
      hint,
      cause: error,
      ...(PASSING.has(errnoOf(error) ?? '') ? { passing: true } : {}),
    })
  switch (errnoOf(error)) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EAI_NONAME':
      return fail('connect/host', `the name ${config.hostName} could not be resolved`, 'Check the name.')
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return fail('connect/host', `there is no route to ${where}`, 'Check the name and the network.')
    case 'ECONNREFUSED':
    case 'ECONNRESET':
    case 'EPIPE':
    case 'ETIMEDOUT':
      return fail(
        'connect/refused',
        `${where} refused the connection or did not answer (${errnoOf(error)})`,
        'Check that sshd runs there, the port (-p) and firewalls.',
      )
    default:
  }
  if (error.level === 'client-timeout') {
    return fail(
      'connect/refused',
      `${where} did not answer within ${config.connectTimeoutMs / 1000} s`,
      'Check the port (-p) and firewalls.',
    )
  }
  if (/Connection lost before handshake/.test(error.message)) {
    return fail(
      'connect/refused',
      `${where} closed the connection without a word`,
      'Check that it is an sshd, and its MaxStartups.',
    )
  }
  if (error.level === 'client-authentication' || /authentication failures/i.test(error.message)) {
    const notes = plan.notes.length === 0 ? '' : ` (${plan.notes.join('; ')})`
    const what =
      plan.methods.length === 0
        ? 'there is no key to offer'
        : `no key that was offered is accepted for ${config.user}`
    return fail(
      'connect/auth',
      `${what}${notes}`,
      'Name a key with -i or load one with ssh-add; a password is only asked for with --ssh openssh.',
    )
  }
  return failed(operand, error.message, error)
}

/** What has no name of its own. */
export function failed(operand: string, what: string, cause?: unknown): SyncError {
  return new SyncError('connect/failed', `${operand}: ${what}; nothing was written`, {
    operand,
    hint: 'The built-in ssh2 knows fewer methods than the system ssh; try --ssh openssh.',
    cause,
  })
}
