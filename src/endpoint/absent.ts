// A destination that a real run would make, for a run that writes nothing: it reads as one hole of the size it would
// get. Nothing is on the disk for it; every write is refused.

import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'

import { errnoOf, SyncError } from '../errors.js'
import type { Endpoint, EndpointInfo, Extent, OpenRequest } from './endpoint.js'
import { misuse } from './failures.js'

/** What a dry run with --create has where the destination is missing or empty. Rejects where the real run would. */
export async function absentEndpoint(request: OpenRequest): Promise<Endpoint> {
  const { path, createSizeBytes: sizeBytes } = request
  const directory = dirname(path)
  try {
    await stat(directory)
  } catch (cause) {
    throw new SyncError(
      'destination/open',
      `cannot make the destination ${path}: ${errnoOf(cause) ?? 'error'} for ${directory}; nothing was written`,
      {
        operand: path,
        cause,
        hint: `Make the directory first: mkdir -p ${directory}`,
      },
    )
  }
  const info: EndpointInfo = {
    path,
    kind: 'file',
    sizeBytes,
    logicalSectorBytes: 512,
    created: true,
    direct: false,
    identity: { machine: '', aliases: [] },
  }
  const refused = async (): Promise<never> => {
    throw misuse(path, 'a destination that does not exist was to be read or written')
  }
  return {
    info,
    async *extents(range): AsyncGenerator<Extent> {
      if (range.length > 0) yield { ...range, kind: 'hole' }
    },
    digestSpan: refused,
    readDigested: refused,
    write: refused,
    zero: refused,
    grow: refused,
    grownBytes: async () => 0,
    takeBack: async () => undefined,
    readFromDevice: refused,
    flush: async () => undefined,
    close: async () => undefined,
    [Symbol.asyncDispose]: async () => undefined,
  }
}
