// What a start message asks for, checked before a pass begins: its range, its digest, the length of the destination. Refuses
// numbers that no disk or digest of ours has; the only thing it changes is the length of a file that is to grow.

import type { Digester, Range } from '../digest/digester.js'
import { createDigester } from '../digest/open.js'
import { SECTION_BYTES } from '../digest/root.js'
import { type Endpoint, MAX_DISK_BYTES } from '../endpoint/endpoint.js'
import { SyncError, toSyncError } from '../errors.js'
import type { NativeCore } from '../native.js'
import { syncOptions } from '../options.js'
import type { StartMessage } from '../wire/control.js'
import { protocolError } from '../wire/frame.js'

/** The range of a start message. Throws session/protocol where it does not begin a section. */
export function startRange({ offsetBytes: offset, lengthBytes: length }: StartMessage): Range {
  if (offset % SECTION_BYTES !== 0 || offset + length > MAX_DISK_BYTES)
    throw protocolError(`start frame for ${offset}+${length}, not from a section on`)
  return { offset, length }
}

/** The digester a start message asks for, its numbers checked. */
export async function sessionDigester(start: StartMessage, native: NativeCore | null): Promise<Digester> {
  const { algorithm, seed, blockBytes, leafBytes } = start
  try {
    syncOptions({ blockBytes, granularityBytes: leafBytes })
  } catch (thrown) {
    throw protocolError(`start frame: ${toSyncError(thrown).message}`)
  }
  return await createDigester({ algorithm, seed, geometry: { blockBytes, leafBytes } }, native)
}

/**
 * Lengthens the destination where that was agreed, but not before `permitted`, and refuses a pass over more than it has.
 */
export async function prepareDestination(
  endpoint: Endpoint,
  start: StartMessage,
  permitted: Promise<unknown>,
): Promise<void> {
  const { sizeBytes, path } = endpoint.info
  const { mode, destinationBytes, offsetBytes, lengthBytes } = start
  if (mode === 'write' && destinationBytes > sizeBytes) {
    await permitted
    await endpoint.grow(destinationBytes)
  }
  const endBytes = offsetBytes + lengthBytes
  if (endBytes > (mode === 'write' ? destinationBytes : sizeBytes)) {
    throw new SyncError(
      'guard/size',
      `${path} has ${sizeBytes} bytes, ${endBytes} were to be written; nothing was written`,
      {
        operand: path,
      },
    )
  }
}
