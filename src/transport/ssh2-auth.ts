// Which keys the ssh2 transport offers, and in which order. Keys come from the agent and from identity files; a key behind
// a passphrase is only used through the agent, and passwords are never asked for.

import { readFile } from 'node:fs/promises'

import ssh2 from 'ssh2'
import type {
  AnyAuthMethod,
  IdentityCallback,
  ParsedKey,
  PublicKeyEntry,
  SignCallback,
  SigningRequestOptions,
} from 'ssh2'

import { errnoOf } from '../errors.js'
import type { HostConfig } from './ssh-config.js'

export type AuthPlan = Readonly<{
  methods: readonly AnyAuthMethod[]
  /** Sentences about what could not be offered, for the message when all methods fail. */
  notes: readonly string[]
}>

/** A private key file is a few KiB; more is some other file. */
const MAX_KEY_FILE_BYTES = 1 << 20

/**
 * As ssh: with `-i` or IdentitiesOnly the named keys come first (servers count every offer as a try), else the agent's. An
 * agent's keys are limited to the named ones by IdentitiesOnly. `explicitFiles` are those the user named with -i.
 */
export async function planAuth(config: HostConfig, explicitFiles: readonly string[]): Promise<AuthPlan> {
  const notes: string[] = []
  const fileMethods: AnyAuthMethod[] = []
  const namedKeys: Buffer[] = []
  // ssh -G leaves out what does not exist, so what the user named is looked at by itself.
  for (const file of explicitFiles) {
    if ((await readIdentity(file)).kind === 'missing') notes.push(`${file} does not exist`)
  }
  for (const file of config.identityFiles) {
    const identity = await readIdentity(file)
    switch (identity.kind) {
      case 'private':
        namedKeys.push(identity.key.getPublicSSH())
        fileMethods.push({ type: 'publickey', username: config.user, key: identity.key })
        break
      case 'public':
        namedKeys.push(identity.blob)
        break
      case 'missing':
        break
      case 'unusable': {
        const publicHalf = await readIdentity(`${file}.pub`)
        if (publicHalf.kind === 'public') namedKeys.push(publicHalf.blob)
        notes.push(`${file} ${identity.why}`)
        break
      }
      default:
        identity satisfies never
    }
  }
  const agentMethods: AnyAuthMethod[] = []
  if (config.agentSocket !== null) {
    const all = new ssh2.OpenSSHAgent(config.agentSocket)
    const agent = config.identitiesOnly ? new LimitedAgent(all, namedKeys) : all
    agentMethods.push({ type: 'agent', username: config.user, agent })
  }
  const namedFirst = explicitFiles.length > 0
  return {
    methods: namedFirst ? [...fileMethods, ...agentMethods] : [...agentMethods, ...fileMethods],
    notes,
  }
}

type Identity =
  | { kind: 'private'; key: ParsedKey }
  | { kind: 'public'; blob: Buffer }
  | { kind: 'missing' }
  | { kind: 'unusable'; why: string }

async function readIdentity(file: string): Promise<Identity> {
  let data: Buffer
  try {
    data = await readFile(file)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return { kind: 'missing' }
    return { kind: 'unusable', why: `could not be read (${errnoOf(error) ?? String(error)})` }
  }
  if (data.length > MAX_KEY_FILE_BYTES) return { kind: 'unusable', why: 'is too large to be a key' }
  // The types leave out that a file may hold several keys; then the first one counts.
  const parsed: ParsedKey | Error | readonly ParsedKey[] = ssh2.utils.parseKey(data)
  const key: ParsedKey | Error | undefined = isList(parsed) ? parsed[0] : parsed
  if (key === undefined) return { kind: 'unusable', why: 'holds no key' }
  if (key instanceof Error) {
    return /passphrase|encrypted/i.test(key.message)
      ? { kind: 'unusable', why: `is protected by a passphrase: load it with ssh-add ${file}` }
      : { kind: 'unusable', why: `is of a kind that the ssh2 transport cannot use (${key.message})` }
  }
  return key.isPrivateKey() ? { kind: 'private', key } : { kind: 'public', blob: key.getPublicSSH() }
}

function isList(parsed: ParsedKey | Error | readonly ParsedKey[]): parsed is readonly ParsedKey[] {
  return Array.isArray(parsed)
}

function keyOf({ pubKey }: PublicKeyEntry): ParsedKey | Buffer | string {
  return 'getPublicSSH' in pubKey ? pubKey : pubKey.pubKey
}

/** An agent of which only some keys may be offered (IdentitiesOnly). */
class LimitedAgent extends ssh2.BaseAgent<ParsedKey> {
  readonly #agent: ssh2.OpenSSHAgent
  readonly #allowed: readonly Buffer[]

  constructor(agent: ssh2.OpenSSHAgent, allowed: readonly Buffer[]) {
    super()
    this.#agent = agent
    this.#allowed = allowed
  }

  override getIdentities(callback: IdentityCallback<ParsedKey>): void {
    this.#agent.getIdentities((error, keys) => {
      if (error) {
        callback(error)
        return
      }
      const allowed: ParsedKey[] = []
      for (const entry of keys ?? []) {
        const key = 'getPublicSSH' in entry ? entry : ssh2.utils.parseKey(keyOf(entry))
        // A key of a kind that the library cannot parse cannot be offered by it either.
        if (!(key instanceof Error) && this.#allowed.some((blob) => blob.equals(key.getPublicSSH())))
          allowed.push(key)
      }
      callback(undefined, allowed)
    })
  }

  override sign(
    publicKey: ParsedKey,
    data: Buffer,
    options: SigningRequestOptions | SignCallback,
    callback?: SignCallback,
  ): void {
    if (typeof options === 'function') this.#agent.sign(publicKey, data, options)
    else this.#agent.sign(publicKey, data, options, callback)
  }
}
