// Which failed reads are a matter of one place of a disk, and which place: the first bad sector of a range is looked for
// before the failure is told. Reads only.

import { SEED_BYTES, type Range } from '../digest/digester.js'
import { createDigester } from '../digest/open.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { errnoOf, SyncError } from '../errors.js'

/**
 * What Linux answers for a place that cannot be read while others can: EIO, and what the block layer makes of a medium
 * error, a failed check of integrity, an error of the target and a time that ran out; EBADMSG and EUCLEAN are those of file
 * systems that have checksums. A device that is gone (ENXIO, ENODEV) is none.
 */
const BAD_SECTOR = new Set(['EIO', 'ENODATA', 'EILSEQ', 'EREMOTEIO', 'ETIMEDOUT', 'EBADMSG', 'EUCLEAN'])

/** Read at once while the place is looked for. */
const STEP_BYTES = 1 << 20
/** A disk tries a bad sector for seconds each time; then the place is told as far as it is known. */
const LOOK_TIMEOUT_MS = 20_000

/** True for a failed read of a disk of which other places may be readable. */
export function isBadSector(error: unknown): error is SyncError {
  return (
    error instanceof SyncError &&
    (error.code === 'source/read' || error.code === 'destination/read') &&
    BAD_SECTOR.has(errnoOf(error.cause) ?? '')
  )
}

/**
 * The error to tell after a read of `ranges` (in ascending order) has failed with `error`: one that names the first bad
 * sector, where there is one that can be found in LOOK_TIMEOUT_MS; else `error`. `isOver`: nobody waits for it any more.
 */
export async function placed(
  error: unknown,
  ranges: readonly Range[],
  endpoint: Endpoint,
  isOver: () => boolean,
): Promise<unknown> {
  if (!isBadSector(error)) return error
  const { logicalSectorBytes: sectorBytes } = endpoint.info
  const geometry = { blockBytes: STEP_BYTES, leafBytes: sectorBytes }
  const digester = await createDigester(
    { algorithm: 'sha256', seed: Buffer.alloc(SEED_BYTES), geometry },
    null,
  )
  const into = Buffer.allocUnsafeSlow(STEP_BYTES)
  const leaves = Buffer.alloc((STEP_BYTES / sectorBytes) * digester.digestBytes)
  const zeroLeaves = new Uint8Array(STEP_BYTES / sectorBytes)
  const endMs = performance.now() + LOOK_TIMEOUT_MS
  const mayLook = (): boolean => !isOver() && performance.now() < endMs
  const failureOf = async (from: number, to: number): Promise<SyncError | null> => {
    try {
      await endpoint.readDigested([{ offset: from, length: to - from }], digester, into, leaves, zeroLeaves)
      return null
    } catch (thrown) {
      if (isBadSector(thrown)) return thrown
      throw thrown
    }
  }
  try {
    for (const [from, to] of steps(ranges)) {
      if (!mayLook()) return error
      let found = await failureOf(from, to)
      if (found === null) continue
      // something of [low, high) cannot be read, and `found` is of a read that began at `low`
      for (let low = from, high = to; high - low > sectorBytes && mayLook();) {
        const middle = low + Math.ceil((high - low) / 2 / sectorBytes) * sectorBytes
        const lower = await failureOf(low, middle)
        if (lower !== null) high = middle
        else low = middle
        const narrower = lower ?? (await failureOf(low, high))
        // a sector that could be read this time
        if (narrower === null) break
        found = narrower
      }
      return found
    }
  } catch {
    // something else went wrong meanwhile: the failure that was asked about is the one to tell
  }
  return error
}

function* steps(ranges: readonly Range[]): Generator<[number, number]> {
  for (const { offset, length } of ranges) {
    for (let done = 0; done < length; done += STEP_BYTES)
      yield [offset + done, offset + Math.min(length, done + STEP_BYTES)]
  }
}
