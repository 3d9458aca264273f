// The text banners at the start of a session: who speaks, which protocol versions, what it can do. Skips what a shell's
// start-up files printed before the far end's banner; refuses versions that do not overlap and streams without a banner.

import { availableParallelism } from 'node:os'
import type { Readable } from 'node:stream'

import { CODEC_NAMES, type CodecName } from '../codec/codec.js'
import type { AlgorithmName } from '../digest/digester.js'
import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { packageVersion } from '../version.js'

/** Versions this program speaks. Raised only when an old peer could not understand a frame. */
export const PROTOCOL = { least: 2, most: 2 } as const

/** A banner line is readable in a packet capture and never long. */
export const MAX_BANNER_BYTES = 1024
/** What may stand before the far end's banner: messages of the day, shell start-up noise. */
export const MAX_NOISE_BYTES = 64 << 10
/** From the start of the transport to the far end's banner; a person may type a passphrase in between. */
export const HANDSHAKE_TIMEOUT_MS = 120_000

export type Side = 'client' | 'server'

export type Banner = Readonly<{
  side: Side
  least: number
  most: number
  /** Version of blocksync, for messages only. */
  program: string
  /** Version of Node.js, for messages only. */
  node: string
  native: boolean
  algorithms: readonly AlgorithmName[]
  /** What it can compress and decompress. */
  codecs: readonly CodecName[]
  /** Processors it may use; 1 where it does not say. */
  processors: number
  /** The process that speaks, in a name that others on its machine know it by (guard/holders.ts); null where it does not say. */
  process: string | null
  /** For how long nothing may be heard of either side (a client says so), 0 being for ever; null where it does not say. */
  timeoutMs: number | null
  /** Whether it understands `bond` and what follows it. */
  bonds: boolean
}>

/** Boot id, pid namespace, pid. */
const PROCESS_NAME = /^[0-9a-f-]{36}\.\d{1,20}\.\d{1,10}$/
const MAGIC = 'BLOCKSYNC'
const ALGORITHMS: readonly AlgorithmName[] = ['xxh3-128', 'xxh64x2', 'sha256']

/** What this program says of itself, on either side. */
export function ownBanner(
  side: Side,
  native: boolean,
  algorithms: readonly AlgorithmName[],
  codecs: readonly CodecName[] = [],
  processName: string | null = null,
  timeoutMs: number | null = null,
): Banner {
  const { least, most } = PROTOCOL
  const processors = availableParallelism()
  const program = packageVersion()
  return {
    side,
    least,
    most,
    program,
    node: process.version,
    native,
    algorithms,
    codecs,
    processors,
    process: processName,
    timeoutMs,
    bonds: true,
  }
}

/** The banner as it goes over the wire, newline included. */
export function encodeBanner(banner: Banner): string {
  const { side, least, most, program, node, native, algorithms, codecs, processors } = banner
  const { process: speaker, timeoutMs, bonds } = banner
  const more = [
    speaker === null ? '' : ` process=${speaker}`,
    timeoutMs === null ? '' : ` timeout=${timeoutMs}`,
    bonds ? ' bond=1' : '',
  ]
  const compresses = codecs.length === 0 ? '' : ` codecs=${codecs.join(',')}`
  return (
    `${MAGIC} ${side} ${least}-${most} program=${program} node=${node} native=${native ? 'yes' : 'no'} ` +
    `digests=${algorithms.join(',')}${compresses} cpus=${processors}${more.join('')}\n`
  )
}

/** A banner line (without newline) or null where the line is something else. Unknown capabilities are ignored. */
export function parseBanner(line: string): Banner | null {
  const match = /^BLOCKSYNC (client|server) (\d{1,5})-(\d{1,5})((?: [a-z0-9-]+=[^ \r]*)*)\r?$/.exec(line)
  if (match === null) return null
  const capabilities = new Map<string, string>()
  for (const word of (match[4] ?? '').split(' ')) {
    const equals = word.indexOf('=')
    if (equals > 0) capabilities.set(word.slice(0, equals), word.slice(equals + 1))
  }
  const digests = (capabilities.get('digests') ?? '').split(',')
  const codecs = (capabilities.get('codecs') ?? '').split(',')
  return {
    side: match[1] === 'client' ? 'client' : 'server',
    least: Number(match[2]),
    most: Number(match[3]),
    program: printable(capabilities.get('program') ?? 'unknown'),
    node: printable(capabilities.get('node') ?? 'unknown'),
    native: capabilities.get('native') === 'yes',
    algorithms: ALGORITHMS.filter((name) => digests.includes(name)),
    processors: /^\d{1,5}$/.test(capabilities.get('cpus') ?? '')
      ? Math.max(1, Number(capabilities.get('cpus')))
      : 1,
    codecs: CODEC_NAMES.filter((name) => codecs.includes(name)),
    process: PROCESS_NAME.exec(capabilities.get('process') ?? '')?.[0] ?? null,
    timeoutMs: /^\d{1,12}$/.test(capabilities.get('timeout') ?? '')
      ? Number(capabilities.get('timeout'))
      : null,
    bonds: (capabilities.get('bond') ?? '').split(',').includes('1'),
  }
}

/** The highest version both speak. Throws connect/version naming both ranges. */
export function agreeVersion(theirs: Banner, peerName: string): number {
  const version = Math.min(PROTOCOL.most, theirs.most)
  if (version < Math.max(PROTOCOL.least, theirs.least)) {
    throw new SyncError(
      'connect/version',
      `protocol versions do not overlap: ${PROTOCOL.least}-${PROTOCOL.most} here, ${theirs.least}-${theirs.most} ` +
        `on ${peerName} (blocksync ${theirs.program}); nothing was opened`,
      { operand: peerName, hint: 'Install the same version of blocksync on both hosts.' },
    )
  }
  return version
}

/** What was read up to the banner. `rest` is what came after its newline: the first bytes of frames. */
export type Greeting = { banner: Banner; noise: string; rest: Buffer }

/**
 * Reads the other side's banner. Resolves with null where the stream ended before one came (the transport then
 * explains why). Throws connect/garbage where MAX_NOISE_BYTES passed, or time ran out, without a banner.
 */
export async function readBanner(
  input: Readable,
  from: Side,
  peerName: string,
  timeoutMs: number = HANDSHAKE_TIMEOUT_MS,
): Promise<Greeting | null> {
  let received = Buffer.alloc(0)
  return await new Promise<Greeting | null>((resolve, reject) => {
    const settle = (act: () => void): void => {
      clearTimeout(timer)
      input.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onEnd)
      input.pause()
      act()
    }
    const timer = setTimeout(() => {
      settle(() => reject(noBanner(peerName, received, `no answer in ${timeoutMs / 1000} seconds`)))
    }, timeoutMs)
    const onEnd = (): void => settle(() => resolve(null))
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk])
      const greeting = findBanner(received, from)
      if (greeting !== null) settle(() => resolve(greeting))
      else if (received.length > MAX_NOISE_BYTES) {
        settle(() =>
          reject(noBanner(peerName, received, `${received.length} bytes that are not our protocol`)),
        )
      }
    }
    input.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onEnd)
    if (input.readableEnded || input.destroyed) onEnd()
  })
}

function findBanner(received: Buffer, from: Side): Greeting | null {
  const prefix = `${MAGIC} ${from} `
  for (let at = received.indexOf(prefix); at !== -1; at = received.indexOf(prefix, at + 1)) {
    // Noise without a final newline may stand right before the banner, so it need not begin a line.
    const length = received.subarray(at, at + MAX_BANNER_BYTES + 1).indexOf(0x0a)
    if (length === -1) continue
    const newline = at + length
    const banner = parseBanner(received.toString('latin1', at, newline))
    if (banner !== null)
      return { banner, noise: received.toString('latin1', 0, at), rest: received.subarray(newline + 1) }
  }
  return null
}

function noBanner(peerName: string, received: Buffer, what: string): SyncError {
  const firstLine = printable(received.toString('latin1', 0, 200).split('\n')[0] ?? '').slice(0, 80)
  return new SyncError(
    'connect/garbage',
    `${peerName} did not start the blocksync protocol: ${what}; nothing was opened`,
    {
      operand: peerName,
      hint:
        (firstLine === '' ? '' : `It began with "${firstLine}". `) +
        'Check --remote-command, and that the shell start-up files there print nothing for a command.',
    },
  )
}
