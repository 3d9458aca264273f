// Options of a run: their types, the one table of defaults and the one validator. Inside, options are total and readonly.
// What is refused here is refused before anything is opened (exit status 2).

import type { AlgorithmName } from './digest/digester.js'
import { SyncError } from './errors.js'
import { isGuardName, type GuardName } from './guard/guard-name.js'
import { isRateSchedule } from './rate/schedule.js'
import type { RateSchedule } from './rate/schedule.js'
import type { TransportOptions } from './transport/transport.js'

export type NativeMode = 'auto' | 'require' | 'off'
export type SizePolicy = 'strict' | 'grow' | 'min'
/** `best`: the best codec that both ends have, always tried; `auto`: that one, where it makes the run faster. */
export type CompressChoice = 'none' | 'auto' | 'best' | 'zstd' | 'brotli'

/** What is read back before a run is called done: nothing, what it wrote, or all of both disks. */
export type VerifyChoice = 'none' | 'written' | 'all'

/**
 * Whether a run goes on from the checkpoint of one that did not finish: `auto` where the source is known not to have changed,
 * `yes` where the user knows it, `no` never.
 */
export type ResumeChoice = 'auto' | 'yes' | 'no'

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
  /** Read back from the device and compared, after the flush. Only `none` in the modes that write nothing. */
  verify: VerifyChoice
  /** Guards that are overridden. Only in a run that writes, or a dry run of one. */
  force: readonly GuardName[]
  /** Where this host keeps records of pairs; null is the usual place (src/state/directory.ts). */
  stateDir: string | null
  /** How long nothing may be heard of the far end before it is given up; 0 is for ever. */
  timeoutMs: number
  /** How long another run that has a disk locked is waited for. */
  lockWaitMs: number
  /** How often a run whose connection failed is tried again. */
  retries: number
  /**
   * Old content is kept on the destination's host before it is overwritten: in `directory` there, or null for the state
   * directory, and at most `maxBytes` of it, or null for no bound. `keep`: `one` gives the way back of the run before up, with
   * `chain` it stays, and this run is a further step. Null keeps nothing. Only in a run that writes.
   */
  undo: Readonly<{ keep: 'one' | 'chain'; directory: string | null; maxBytes: number | null }> | null
  resume: ResumeChoice
  /** How long a run goes on between two checkpoints, at least; tests have it shorter. */
  checkpointEveryMs: number
  /** Go on where the source cannot be read, and write the map of that to this file here; null ends the run there. */
  rescue: string | null
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
  verify: 'none',
  force: [],
  stateDir: null,
  timeoutMs: 60_000,
  lockWaitMs: 0,
  retries: 0,
  undo: null,
  resume: 'auto',
  // short beside what is lost with it, long beside the moment in which nothing is under way
  checkpointEveryMs: 20_000,
  rescue: null,
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
/** Shorter, and a busy machine would be taken for a dead one. */
export const MIN_TIMEOUT_MS = 1000
/** Of --timeout and --lock-wait: what a timer can wait for is a little more. */
export const MAX_WAIT_MS = 20 * 86_400_000
/** With a pause of a minute between them this is most of a day. */
export const MAX_RETRIES = 1000
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
  if (options.stateDir !== null && !options.stateDir.startsWith('/'))
    throw usage('--state-dir', `must be an absolute path, not '${options.stateDir}'`)
  const { streams, timeoutMs, lockWaitMs, retries } = options
  if (streams !== 'auto' && !(Number.isInteger(streams) && streams >= 1 && streams <= MAX_STREAMS))
    throw usage('--streams', `is auto or a number from 1 to ${MAX_STREAMS}, not ${streams}`)
  if (timeoutMs !== 0 && !isCount(timeoutMs, MIN_TIMEOUT_MS, MAX_WAIT_MS))
    throw usage('--timeout', 'is 0 (listen for ever) or from 1 second to 20 days')
  if (!isCount(lockWaitMs, 0, MAX_WAIT_MS)) throw usage('--lock-wait', 'is from 0 (do not wait) to 20 days')
  if (!isCount(retries, 0, MAX_RETRIES)) throw usage('--retries', `is a number from 0 to ${MAX_RETRIES}`)
  if (options.verify !== 'none' && options.mode !== 'write')
    throw usage('--verify', 'reads back what was written, and nothing is written')
  const unknown = options.force.find((name) => !isGuardName(name))
  if (unknown !== undefined) throw usage('force', `knows no guard called ${String(unknown)}`)
  if (options.force.length > 0 && options.mode === 'verify')
    throw usage('force', 'overrides what refuses a write, and verify writes nothing')
  if (options.resume === 'yes') checkResume(options)
  if (options.rescue !== null) checkRescue(options.rescue, options.verify)
  if (!isCount(options.checkpointEveryMs, 1, MAX_WAIT_MS))
    throw usage('checkpointEveryMs', 'is from 1 ms to 20 days')
  if (options.undo !== null) checkUndo(options.undo, options.mode)
  if (options.bwlimit !== null && !isRateSchedule(options.bwlimit)) {
    throw usage('--bwlimit', 'must be rates of at least 1 byte a second, in the order of the week')
  }
  return options
}

/** Less is used up by the first frame that arrives. */
export const MIN_UNDO_BYTES = 1 << 20

function checkUndo({ keep, directory, maxBytes }: NonNullable<SyncOptions['undo']>, mode: RunMode): void {
  if (keep !== 'one' && keep !== 'chain') throw usage('undo', "keeps 'one' step or a 'chain'")
  if (mode !== 'write') throw usage('--undo', 'keeps what is overwritten, and nothing is written')
  if (maxBytes !== null && !(Number.isSafeInteger(maxBytes) && maxBytes >= MIN_UNDO_BYTES))
    throw usage('--undo-max', `is at least ${MIN_UNDO_BYTES} bytes, not ${maxBytes}`)
  if (directory !== null && !/^\/[A-Za-z0-9_@%+=:,./-]*$/.test(directory))
    throw usage(
      '--undo-dir',
      `is an absolute path of letters, digits and _@%+=:,./- on the destination's host, not '${directory}'`,
    )
}

function checkResume({ mode, rescue }: SyncOptions): void {
  if (mode !== 'write') throw usage('--resume', 'goes on with a run that writes, and nothing is written')
  if (rescue !== null)
    throw usage('--resume', 'leaves parts of the source unread, and the map of --rescue is of all of it')
}

function checkRescue(path: string, verify: VerifyChoice): void {
  if (path === '' || path.includes('\0')) throw usage('--rescue', 'needs the name of a file')
  if (verify === 'all')
    throw usage(
      '--rescue',
      'leaves parts of the source unread, and --verify=all compares all of both; --verify=written goes with it',
    )
}

function isCount(value: number, least: number, most: number): boolean {
  return Number.isSafeInteger(value) && value >= least && value <= most
}

function isPowerOfTwo(value: number, least: number): boolean {
  return Number.isSafeInteger(value) && value >= least && Number.isInteger(Math.log2(value))
}

function usage(option: string, message: string): SyncError {
  return new SyncError('usage', `${option} ${message}; nothing was opened`, { operand: option })
}
