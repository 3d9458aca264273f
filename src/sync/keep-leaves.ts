// The leaf digests of a destination, kept on its own host from one run to the next: a wish and the open disk come in, an endpoint that
// need not read what they are of goes out. Refuses leaves of another disk, another digest or another root; without room, all is read.

import { createHash } from 'node:crypto'
import { readdir, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'

import type { Digester } from '../digest/digester.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { errnoOf } from '../errors.js'
import { subdirectory } from '../state/directory.js'
import type { HostState } from '../state/state.js'
import { LeafFile } from '../track/leaf-file.js'
import { LeafTrack } from '../track/track.js'
import type { LeavesWish } from '../wire/leaves.js'
import type { OpenDisk } from './open-disk.js'

/** Below the state directory. */
const DIRECTORY = 'leaves'
const KEY_HEX_DIGITS = 32
/** Those of a disk that was not written for so long are of no use any more: a job that is gone, or a disk. */
const MOST_AGE_MS = 30 * 86_400_000

export interface KeptLeaves {
  /** The disk, read through what is known of it. */
  readonly endpoint: Endpoint
  /** When the disk is written and flushed, and both ends have that root. Rejects with no system error: nothing is kept then. */
  seal(root: string): Promise<void>
  close(): Promise<void>
}

/** Null where the state directory cannot be used: then nothing is kept, and all of the disk is read. */
export async function openLeaves(
  { root }: LeavesWish,
  digester: Digester,
  { endpoint, stable }: Pick<OpenDisk, 'endpoint' | 'stable'>,
  state: HostState,
): Promise<KeptLeaves | null> {
  const [name] = stable.names
  if (name === undefined || (await state.prepare()) !== null) return null
  const file = await unlessSystemError(async () => {
    const directory = await subdirectory(state.path, DIRECTORY)
    const own = createHash('sha256').update(name).digest('hex').slice(0, KEY_HEX_DIGITS)
    await removeOld(directory, own)
    return await LeafFile.openOrCreate(join(directory, own))
  })
  if (file === null) return null
  const isOfRoot = root !== null && file.facts?.copy === root
  const { seed } = digester.parameters
  const changed = Promise.resolve(isOfRoot ? [] : null)
  const track = new LeafTrack({ role: 'destination', file, seed, source: name, changed })
  try {
    // from here on the disk may be another
    await file.unseal()
  } catch (error) {
    await file.close()
    if (errnoOf(error) === null) throw error
    return null
  }
  return {
    endpoint: track.over(endpoint, digester),
    async seal(reached) {
      const facts = track.facts(reached)
      if (facts !== null) await unlessSystemError(async () => file.seal(facts))
    },
    close: async () => file.close(),
  }
}

async function removeOld(directory: string, own: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const path = join(directory, name)
    if (name !== own && Date.now() - (await stat(path)).mtimeMs > MOST_AGE_MS) await unlink(path)
  }
}

async function unlessSystemError<T>(act: () => Promise<T>): Promise<T | null> {
  try {
    return await act()
  } catch (error) {
    if (errnoOf(error) === null) throw error
    return null
  }
}
