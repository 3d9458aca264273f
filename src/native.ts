// Loads native/ (auto, require, off) and says which is in use. The native core is a faster twin of what digest/ and
// endpoint/ also do in JavaScript, guard/ where it looks at other processes, undo/ where it writes long runs, and daemon/ where it tells systemd.

import { closeSync, existsSync, openSync, readSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

import { SyncError } from './errors.js'
import type { NativeMode } from './options.js'

/** Algorithms the core knows, by wire id: xxh3-128 is 1, xxh64x2 is 2. */
export type NativeAlgorithm = 1 | 2

/**
 * What native/blocksync.c exports. Offsets and lengths are bytes. `ranges` are pairs (offset, length).
 * Asynchronous calls run on the thread pool; they reject with an Error whose `code` is the errno name and whose
 * `offset` is where on the disk it happened. Reads through a descriptor opened with O_DIRECT need no alignment from
 * the caller: the core reads into its own aligned memory. The buffers passed stay referenced until the call settles.
 */
export interface NativeCore {
  readonly version: number
  /** The instruction set the digests run on, as xxHash's dispatch chose it ('avx512', 'avx2', 'sse2', 'scalar', ...). */
  readonly simd: string
  /** `directFd` is another descriptor of the same file, opened with O_DIRECT, or -1: see CoreReadCount. */
  digestSpan(
    fd: number,
    directFd: number,
    offset: number,
    length: number,
    blockBytes: number,
    leafBytes: number,
    algorithm: NativeAlgorithm,
    seed: Uint8Array,
    leaves: Uint8Array,
    blocks: Uint8Array,
    zeroLeaves: Uint8Array,
    zeroBlocks: Uint8Array,
  ): Promise<CoreReadCount>
  readDigested(
    fd: number,
    directFd: number,
    ranges: Float64Array,
    leafBytes: number,
    algorithm: NativeAlgorithm,
    seed: Uint8Array,
    into: Uint8Array,
    leaves: Uint8Array,
    zeroLeaves: Uint8Array,
  ): Promise<CoreReadCount>
  /** Synchronous, in memory: one digest for each `itemBytes` of `data` (the last may be short). */
  digestItems(
    algorithm: NativeAlgorithm,
    seed: Uint8Array,
    data: Uint8Array,
    itemBytes: number,
    out: Uint8Array,
  ): void
  /**
   * Writes every byte of `from` (packed) or rejects. Runs of adjacent ranges of 128 KiB and more go through `directFd` (the
   * same disk opened with O_DIRECT, or -1), all else through `fd`. `fresh` is empty, or gets a 1 for each range that made
   * pages in the page cache where there were none before.
   */
  writeRanges(
    fd: number,
    directFd: number,
    ranges: Float64Array,
    from: Uint8Array,
    fresh: Uint8Array,
  ): Promise<CoreWriteCount>
  /** Begins to write what is dirty in the page cache (sync_file_range). Rejects with ENOSYS where that is not allowed. */
  startWriteBack(fd: number, offset: number, length: number): Promise<void>
  /**
   * Waits until that is written, and drops the ranges of `drop` from the page cache. A failure is told only here: a later
   * fsync of the same descriptor would succeed.
   */
  finishWriteBack(fd: number, offset: number, length: number, drop: Float64Array): Promise<void>
  /**
   * Fills `out` with triples (offset, length, kind: 0 hole, 1 data) that cover the range from its start without a gap,
   * as many as fit; resolves with how many. A descriptor that knows no holes gives one data extent.
   */
  extents(fd: number, offset: number, length: number, out: Float64Array): Promise<number>
  /**
   * Where the file system has the content of a regular file: fills `out` with rows of four numbers (logical byte, physical byte,
   * length in bytes, flags as FIEMAP_EXTENT_* of linux/fiemap.h), ascending and clipped to the range, as many as fit; resolves
   * with how many. What no row covers is a hole. The range has no more where fewer came than fit. With offset 0 what is dirty is written
   * out first. FIEMAP_EXTENT_UNKNOWN is set where the places are not on the file system's main device. Rejects with
   * EOPNOTSUPP where the file system has no maps, with ENOTTY on what is no file, with EOVERFLOW on 2^53 bytes and more.
   */
  extentMap(fd: number, offset: number, length: number, out: Float64Array): Promise<number>
  /**
   * Holes in a file (its size stays), BLKZEROOUT on a block device. Rejects with EOPNOTSUPP where
   * neither is possible, at the first range that fails.
   */
  zeroRanges(fd: number, ranges: Float64Array): Promise<void>
  geometry(fd: number): {
    sizeBytes: number
    logicalSectorBytes: number
    physicalSectorBytes: number
    isBlockDevice: boolean
  }
  /** Drops clean cached pages of the file or device. */
  dropCache(fd: number): Promise<void>
  /**
   * Fills `out` with rows of five numbers (pid, descriptor, 1 for a block device or 0 for a regular file, its device number
   * or that of the file's file system, inode or 0), of the processes whose id leaves `slice` when divided by `slices`, our own left
   * out. Resolves with how many rows there are, which may be more than fit.
   */
  openDescriptors(slice: number, slices: number, out: Float64Array): Promise<number>
  /**
   * flock(2), without waiting: true when the lock is on the open file description of `fd` now, false when another one has a
   * lock that does not go with it. Throws an Error with an errno name as its `code` (EOPNOTSUPP, ENOLCK, ENOSYS, EBADF)
   * where that is not possible.
   */
  lock(fd: number, isExclusive: boolean): boolean
  /**
   * One datagram to a unix socket, without waiting. `address` is its path, or a zero byte and an abstract name, of at most 108
   * bytes. Throws an Error with an errno name as its `code` (ENOENT, ECONNREFUSED, EAGAIN where the receiver's queue is full).
   */
  sendDatagram(address: Uint8Array, data: Uint8Array): void
  /**
   * A pipe of 1 MiB, or of what the kernel grants. Programs started later do not inherit it unless they are given it.
   * Who calls it closes both descriptors. Throws an Error with an errno name as its `code` (EMFILE, ENFILE).
   */
  openPipe(): { readFd: number; writeFd: number }
}

/**
 * What a read found. Bytes that are in the page cache are taken from there, others are read through the direct descriptor,
 * which leaves the cache as it was: `coldBytes` counts those. Without a direct descriptor nobody asks, and it is 0.
 */
export type CoreReadCount = Readonly<{ bytes: number; coldBytes: number }>

/** `bufferedBytes` went through the page cache. `isDirectRefused`: the direct descriptor takes no direct writes after all. */
export type CoreWriteCount = Readonly<{ bufferedBytes: number; isDirectRefused: boolean }>

/** What `doctor` says about the core. `path` is where it was looked for; `reason` says why it is not loaded. */
export type NativeStatus = Readonly<{
  loaded: boolean
  path: string
  reason: string | null
  simd: string | null
}>

/** An attempt to load a core: the core, or why there is none. */
export type NativeAttempt =
  | Readonly<{ core: NativeCore; path: string }>
  | Readonly<{ core: null; path: string; reason: string; cause: unknown }>

/** CORE_VERSION of native/blocksync.c that the interface above describes; any other core is not used. */
const NATIVE_VERSION = 6
/** The path of an executable's loader stands right behind its program headers. */
const ELF_HEAD_BYTES = 4096

const requireFile = createRequire(import.meta.url)
let attempt: NativeAttempt | null = null

/**
 * The loaded core, or null where it is off, absent or not loadable. Throws native/required, with the cause, where
 * `require` cannot be met. The file is looked for once in each process (and each worker thread).
 */
export function loadNative(mode: NativeMode): NativeCore | null {
  switch (mode) {
    case 'off':
      return null
    case 'auto':
      return attemptOnce().core
    case 'require':
      return requireCore(attemptOnce())
    default:
      throw new TypeError(`unknown native mode ${String(mode satisfies never)}`)
  }
}

/** Whether the core can be loaded on this machine, from where, why not, and the instruction set it uses. */
export function nativeStatus(): NativeStatus {
  const { path, ...tried } = attemptOnce()
  if (tried.core === null) return { loaded: false, path, reason: tried.reason, simd: null }
  return { loaded: true, path, reason: null, simd: tried.core.simd }
}

/** Loads the core at `path` without remembering it. Never throws: what went wrong is in the attempt. */
export function attemptNative(path: string): NativeAttempt {
  if (!existsSync(path)) return { core: null, path, reason: `there is no ${path}`, cause: null }
  let loaded: unknown
  try {
    loaded = requireFile(path)
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    return { core: null, path, reason: `${path} could not be loaded: ${message}`, cause }
  }
  const version =
    typeof loaded === 'object' && loaded !== null && 'version' in loaded ? loaded.version : 'none'
  if (version !== NATIVE_VERSION) {
    const reason = `${path} is version ${String(version)}, and this blocksync needs version ${NATIVE_VERSION}`
    return { core: null, path, reason, cause: null }
  }
  return { core: loaded as NativeCore, path }
}

/** The core of an attempt; throws native/required where there is none. */
export function requireCore(tried: NativeAttempt): NativeCore {
  if (tried.core !== null) return tried.core
  throw new SyncError(
    'native/required',
    `the native core is required and not usable: ${tried.reason}; nothing was opened`,
    {
      operand: '--native',
      hint: 'Build it with npm run build (needs a C compiler), install the package for this platform, or use --native auto.',
      cause: tried.cause ?? undefined,
    },
  )
}

/** Where the core for this machine would be: the package root is one up from src/ and from dist/ alike. */
export function nativePath(): string {
  const flavour = `${process.platform}-${process.arch}${isMusl() ? '-musl' : ''}`
  return fileURLToPath(new URL(`../native/prebuilds/${flavour}/blocksync.node`, import.meta.url))
}

function attemptOnce(): NativeAttempt {
  attempt ??= attemptNative(nativePath())
  return attempt
}

/** True where this Node runs on musl: its loader is called ld-musl-*. The same test as in native/build.js. */
function isMusl(): boolean {
  if (process.platform !== 'linux') return false
  const head = Buffer.alloc(ELF_HEAD_BYTES)
  const fd = openSync(process.execPath, 'r')
  try {
    readSync(fd, head, 0, ELF_HEAD_BYTES, 0)
  } finally {
    closeSync(fd)
  }
  return head.includes('/ld-musl-')
}
