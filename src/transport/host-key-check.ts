// One host's key check for the ssh2 transport: known_hosts in, yes or no out, and the sentence that explains a no.
// Refuses an unknown, a changed and a revoked key; a new one is learnt only where the config spells out accept-new.

import { SyncError } from '../errors.js'
import {
  appendKnownHost,
  fingerprint,
  hostKeyNames,
  judgeHostKey,
  keyTypeOf,
  orderHostKeyAlgorithms,
  readKnownHosts,
  type HostKeyAlgorithm,
  type KnownHost,
} from './known-hosts.js'
import type { HostConfig } from './ssh-config.js'

export type HostKeyCheck = Readonly<{
  /** For ssh2's `algorithms.serverHostKey`: those of known keys first. */
  algorithms: HostKeyAlgorithm[]
  /** For ssh2's `hostVerifier`. */
  verify: (key: Buffer, answer: (valid: boolean) => void) => void
  /** Why the key was refused, or null while it was not. */
  refusal: () => SyncError | null
}>

/** Reads the known_hosts files of the host; rejects with connect/host-key where one cannot be read. */
export async function hostKeyCheck(config: HostConfig, operand: string): Promise<HostKeyCheck> {
  const names = hostKeyNames(config.hostName, config.port, config.hostKeyAlias)
  const entries = await readKnownHosts(config.knownHostsFiles, operand)
  let refusal: SyncError | null = null
  const verify = (key: Buffer, answer: (valid: boolean) => void): void => {
    const verdict = judgeHostKey(entries, names, key)
    if (verdict.kind === 'trusted') {
      answer(true)
      return
    }
    const file = config.knownHostsFiles[0]
    const name = names[0]
    if (
      verdict.kind === 'unknown' &&
      config.newHostKeys === 'accept-new' &&
      file !== undefined &&
      name !== undefined
    ) {
      appendKnownHost(file, name, key, operand).then(
        () => answer(true),
        (error: SyncError) => {
          refusal = error
          answer(false)
        },
      )
      return
    }
    switch (verdict.kind) {
      case 'revoked':
        refusal = revoked(verdict.by, key, operand)
        break
      case 'changed':
        refusal = changed(verdict.known, key, name ?? config.host, operand)
        break
      case 'unknown':
        refusal = unknown(verdict.authority, key, config, operand)
        break
      default:
        verdict satisfies never
    }
    answer(false)
  }
  return { algorithms: orderHostKeyAlgorithms(entries, names), verify, refusal: () => refusal }
}

function revoked(by: KnownHost, key: Buffer, operand: string): SyncError {
  return new SyncError(
    'connect/host-key',
    `${operand}: the host key ${fingerprint(key)} is marked @revoked in ${by.file}:${by.line}; not connected`,
    {
      operand,
      hint: 'A revoked key may be in the hands of others. Give the host a new key, then make that one known.',
    },
  )
}

function changed(known: KnownHost, key: Buffer, name: string, operand: string): SyncError {
  return new SyncError(
    'connect/host-key',
    `${operand}: the host key is not the one that is known. Offered: ${keyTypeOf(key)} ${fingerprint(key)}; ` +
      `known from ${known.file}:${known.line}: ${known.keyType} ${fingerprint(known.key)}; not connected`,
    {
      operand,
      hint: `If you know why it changed: ssh-keygen -R '${name}' -f ${known.file}, then ssh ${operand} once, and compare the fingerprint.`,
    },
  )
}

function unknown(authority: KnownHost | null, key: Buffer, config: HostConfig, operand: string): SyncError {
  const certificate =
    authority === null
      ? ''
      : ` (the @cert-authority of ${authority.file}:${authority.line} does not count: the ssh2 transport knows no certificates)`
  const file = config.knownHostsFiles[0] ?? '~/.ssh/known_hosts'
  const type = keyTypeOf(key).replace(/^ssh-|-sha2-.*$/g, '')
  return new SyncError(
    'connect/host-key',
    `${operand}: the host key ${keyTypeOf(key)} ${fingerprint(key)} is not known here${certificate}; not connected`,
    {
      operand,
      hint:
        `Run ssh ${operand} once, or ssh-keyscan -p ${config.port} -t ${type} ${config.hostName} >> ${file}, ` +
        'and compare the fingerprint with that of the host (ssh-keygen -lf on it).' +
        (authority === null ? '' : ' Or use --ssh openssh, which knows certificates.'),
    },
  )
}
