// Writes packed bytes to ranges of an open disk, all of them or it throws. Lengths and bounds were checked before; a
// failure says at which byte of which disk it happened.

import type { FileHandle } from 'node:fs/promises'

import type { Range } from '../digest/digester.js'
import type { NativeCore } from '../native.js'
import { isSystemError, writeFailure } from './failures.js'

/** Writes `from` to `ranges` of the disk called `path`. Rejects with destination/write or destination/no-space. */
export async function writeRanges(
  path: string,
  handle: FileHandle,
  native: NativeCore | null,
  ranges: readonly Range[],
  from: Uint8Array,
): Promise<void> {
  if (native === null) return writePlainly(path, handle, ranges, from)
  try {
    await native.writeRanges(handle.fd, rangePairs(ranges), from)
  } catch (error) {
    throw isSystemError(error) ? writeFailure(path, ranges[0]?.offset ?? 0, error) : error
  }
}

function rangePairs(ranges: readonly Range[]): Float64Array {
  const pairs = new Float64Array(ranges.length * 2)
  ranges.forEach((range, index) => pairs.set([range.offset, range.length], index * 2))
  return pairs
}

async function writePlainly(
  path: string,
  handle: FileHandle,
  ranges: readonly Range[],
  from: Uint8Array,
): Promise<void> {
  let taken = 0
  for (const range of ranges) {
    for (let done = 0; done < range.length;) {
      const byteOffset = range.offset + done
      try {
        done += (await handle.write(from, taken + done, range.length - done, byteOffset)).bytesWritten
      } catch (error) {
        throw isSystemError(error) ? writeFailure(path, byteOffset, error) : error
      }
    }
    taken += range.length
  }
}
