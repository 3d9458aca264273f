// Options of a run: their types, the one table of defaults and the one validator. Inside, options are total and readonly.
// What is refused here is refused before anything is opened (exit status 2).

import type { AlgorithmName } from './digest/digester.js'
import { SyncError } from './errors.js'
import { isRateSchedule } from './rate/schedule.js'
import type { RateSchedule } from './rate/schedule.js'
import type { TransportOptions } from './transport/transport.js'

export type NativeMode = 'auto' | 'require' | 'off'
export type SizePolicy = 'strict' | 'grow' | 'min'
/** `best`: the best codec that both ends have, always tried; `auto`: that one, where it makes the run faster. */
export type CompressChoice = 'none' | 'auto' | 'best' | 'zstd' | 'brotli'

/** `write` makes the destination equal; `dry-run` and `verify` open it read-only and write nothing. */
export type RunMode = 'write' | 'dry-run' | 'verify'

export type SyncOptions = Readonly<{
  mode: RunMode
  blockBytes: number
  granularityBytes: number
  /** `auto`: xxh3-128 where both ends have the native core, else xxh64x2. */
  digest: AlgorithmName | 'auto'
  native: NativeMode
  size: SizePolicy
  create: 'never' | 'if-missing'
  /** Upper bound of payload bytes a second by local time, over all lanes and disks of the run; null is unlimited. */
  bwlimit: RateSchedule | null
  /** What the source does with the payload it sends. Nothing is sent in the other modes. */
  compress: CompressChoice
  /** Connections of the run, each with a far process of its own; `auto`: more than one where the link wants it. */
  streams: number | 'auto'
  transport: TransportOptions
}>

export const SYNC_DEFAULTS: SyncOptions = {
  mode: 'write',
  blockBytes: 1 << 20,
  granularityBytes: 4096,
  digest: 'auto',
  native: 'auto',
  size: 'strict',
  create: 'never',
  bwlimit: null,
  compress: 'none',
  streams: 'auto',
  transport: {
    ssh: 'auto',
    rsh: null,
    port: null,
    identities: [],
    configFile: null,
    sudo: 'never',
    remoteCommand: 'blocksync',
    serveArguments: [],
    lane: 'first',
  },
}

/** More only make more to encrypt on the same processors; sshd admits ten connections that are not authenticated yet. */
export const MAX_STREAMS = 16
/** Below this the digests outweigh the data they stand for. */
export const MIN_BLOCK_BYTES = 4096
/** A block must fit into the window and into memory several times. */
export const MAX_BLOCK_BYTES = 16 << 20
/** The smallest sector there is. */
export const MIN_GRANULARITY_BYTES = 512
/** A leaf is the unit that is sent, and fits into one data frame (MAX_DATA_PAYLOAD_BYTES). */
export const MAX_GRANULARITY_BYTES = 1 << 20
/** Leaf digests of one block must fit into one frame. */
export const MAX_LEAVES_PER_BLOCK = 16384

/** The given options over the defaults, checked. Rejects with `usage`, naming the option. */
export function syncOptions(given: Partial<SyncOptions>): SyncOptions {
  const options = { ...SYNC_DEFAULTS, ...given }
  const { blockBytes, granularityBytes } = options
  if (!isPowerOfTwo(blockBytes, MIN_BLOCK_BYTES) || blockBytes > MAX_BLOCK_BYTES) {
    throw usage(
      '--block-size',
      `must be a power of two from ${MIN_BLOCK_BYTES} to ${MAX_BLOCK_BYTES} bytes, not ${blockBytes}`,
    )
  }
  const finest = MIN_GRANULARITY_BYTES
  const coarsest = Math.min(blockBytes, MAX_GRANULARITY_BYTES)
  if (!isPowerOfTwo(granularityBytes, finest) || granularityBytes > coarsest) {
    throw usage(
      '--granularity',
      `must be a power of two from ${finest} to ${coarsest} bytes, not ${granularityBytes}`,
    )
  }
  if (blockBytes / granularityBytes > MAX_LEAVES_PER_BLOCK) {
    throw usage(
      '--granularity',
      `${granularityBytes} is too fine for blocks of ${blockBytes}: at most ${MAX_LEAVES_PER_BLOCK} leaves a block`,
    )
  }
  const { streams } = options
  if (streams !== 'auto' && !(Number.isInteger(streams) && streams >= 1 && streams <= MAX_STREAMS))
    throw usage('--streams', `is auto or a number from 1 to ${MAX_STREAMS}, not ${streams}`)
  if (options.bwlimit !== null && !isRateSchedule(options.bwlimit)) {
    throw usage('--bwlimit', 'must be rates of at least 1 byte a second, in the order of the week')
  }
  return options
}

function isPowerOfTwo(value: number, least: number): boolean {
  return Number.isSafeInteger(value) && value >= least && Number.isInteger(Math.log2(value))
}

function usage(option: string, message: string): SyncError {
  return new SyncError('usage', `${option} ${message}; nothing was opened`, { operand: option })
}
