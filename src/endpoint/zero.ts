// Makes ranges of an open disk read as zeros: by the kernel (a hole, BLKZEROOUT) where that goes, by writing zeros
// where it does not. It never changes a file's size; ranges were checked before, system errors go to the caller.

import type { FileHandle } from 'node:fs/promises'

import type { Range } from '../digest/digester.js'
import { errnoOf } from '../errors.js'
import type { NativeCore } from '../native.js'
import type { EndpointInfo } from './endpoint.js'
import { rangePairs } from './pairs.js'

/** One buffer of zeros for all: a range of any length costs no more memory than this. */
const ZERO_CHUNK = Buffer.alloc(1 << 20)

/**
 * On a device only whole pages go to the kernel. A write to another sector of the same page reads the page, and if it does
 * that while the kernel zeroes its neighbour, the old neighbour is written back later. 4 KiB on x64; elsewhere up to 64 KiB.
 */
const PAGE_BYTES = process.arch === 'x64' ? 4096 : 65536

/** The kernel cannot do it for this file system, device or alignment; writing always can. */
const NOT_BY_KERNEL = new Set(['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'ENOTTY', 'EINVAL'])

type ZeroTarget = Pick<EndpointInfo, 'kind' | 'logicalSectorBytes'>

/** Zeros what the kernel can and resolves with what is left to be written. */
export async function zeroByKernel(
  native: NativeCore,
  handle: FileHandle,
  target: ZeroTarget,
  ranges: readonly Range[],
): Promise<readonly Range[]> {
  const unitBytes = target.kind === 'file' ? 1 : Math.max(PAGE_BYTES, target.logicalSectorBytes)
  // neighbours are joined first: a page that two of them share is then a whole one
  const split = mergeNeighbours(ranges).map((range) => splitAtUnits(range, unitBytes))
  const inner = split.map((each) => each.inner).filter(({ length }) => length > 0)
  const rest = split.flatMap((each) => each.rest)
  if (inner.length === 0) return rest
  try {
    await native.zeroRanges(handle.fd, rangePairs(inner))
    return rest
  } catch (error) {
    if (NOT_BY_KERNEL.has(errnoOf(error) ?? '')) return ranges
    throw error
  }
}

/** Ranges that follow each other without a gap as one. */
function mergeNeighbours(ranges: readonly Range[]): Range[] {
  const merged: Range[] = []
  for (const { offset, length } of ranges) {
    const last = merged.at(-1)
    if (last !== undefined && last.offset + last.length === offset) last.length += length
    else merged.push({ offset, length })
  }
  return merged
}

/**
 * Writes zeros in bounded pieces; resolves with the bytes written. A piece of a file that is zero already is left alone, so
 * that a hole stays one.
 */
export async function zeroByWriting(handle: FileHandle, target: ZeroTarget, range: Range): Promise<number> {
  let writtenBytes = 0
  const present =
    target.kind === 'file' ? Buffer.allocUnsafeSlow(Math.min(range.length, ZERO_CHUNK.length)) : null
  for (let done = 0; done < range.length;) {
    const byteOffset = range.offset + done
    const length = Math.min(ZERO_CHUNK.length, range.length - done)
    if (present !== null && (await isZero(handle, present.subarray(0, length), byteOffset))) {
      done += length
    } else {
      const { bytesWritten } = await handle.write(ZERO_CHUNK, 0, length, byteOffset)
      done += bytesWritten
      writtenBytes += bytesWritten
    }
  }
  return writtenBytes
}

async function isZero(handle: FileHandle, present: Buffer, byteOffset: number): Promise<boolean> {
  const { bytesRead } = await handle.read(present, 0, present.length, byteOffset)
  // a short read: the file ended here, and writing says what is wrong or makes it whole
  return bytesRead === present.length && present.equals(ZERO_CHUNK.subarray(0, present.length))
}

/** The whole units of a range, and what sticks out of them at either end. */
export function splitAtUnits(range: Range, unitBytes: number): { inner: Range; rest: Range[] } {
  const end = range.offset + range.length
  const innerStart = Math.ceil(range.offset / unitBytes) * unitBytes
  const innerEnd = Math.floor(end / unitBytes) * unitBytes
  if (innerEnd <= innerStart) return { inner: { offset: range.offset, length: 0 }, rest: [range] }
  const rest: Range[] = []
  if (innerStart > range.offset) rest.push({ offset: range.offset, length: innerStart - range.offset })
  if (end > innerEnd) rest.push({ offset: innerEnd, length: end - innerEnd })
  return { inner: { offset: innerStart, length: innerEnd - innerStart }, rest }
}
