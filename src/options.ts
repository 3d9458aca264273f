// Options of a run: their types, the one table of defaults and the one validator. Inside, options are total and readonly.
// What is refused here is refused before anything is opened (exit status 2).

import type { AlgorithmName } from './digest/digester.js'
import { SyncError } from './errors.js'
import type { TransportOptions } from './transport/transport.js'

export type NativeMode = 'auto' | 'require' | 'off'
export type SizePolicy = 'strict' | 'grow' | 'min'

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
  /** Upper bound of payload bytes a second, over all disks of the run; null is unlimited. */
  bwlimitBytesPerSecond: number | null
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
  bwlimitBytesPerSecond: null,
  transport: {
    ssh: 'auto',
    rsh: null,
    port: null,
    identities: [],
    configFile: null,
    sudo: 'never',
    remoteCommand: 'blocksync',
    serveArguments: [],
  },
}

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
  if (options.bwlimitBytesPerSecond !== null && !(options.bwlimitBytesPerSecond >= 1)) {
    throw usage('--bwlimit', 'must be at least 1 byte a second')
  }
  return options
}

function isPowerOfTwo(value: number, least: number): boolean {
  return Number.isSafeInteger(value) && value >= least && Number.isInteger(Math.log2(value))
}

function usage(option: string, message: string): SyncError {
  return new SyncError('usage', `${option} ${message}; nothing was opened`, { operand: option })
}
