// The proof of a replica's disks: all of each is read, and its root compared with the one that both ends agreed on when the
// generation was made. Changes nothing; the drill, restore and take-back rest on it.

import type { Host } from '../host/host.js'
import type { Generation, ReplicaRecord, RootRecord } from './record.js'

export type Proof = Readonly<{ path: string; expected: RootRecord; found: string }>

/** What is read of `path` has that root. Rejects with what reading rejects with; guard/size where it is shorter. */
export async function rootFits(host: Host, path: string, { root, ...how }: RootRecord): Promise<boolean> {
  return (await host.digest({ path, ...how })) === root
}

/** The first disk that is not what the generation says; null where all are. One after the other: it is one disk often. */
export async function differingDisk(
  host: Host,
  { disks }: ReplicaRecord,
  generation: Generation,
  signal?: AbortSignal,
): Promise<Readonly<{ path: string }> | null> {
  for (const [index, { path }] of disks.entries()) {
    signal?.throwIfAborted()
    const expected = generation.disks[index]?.root
    if (expected === undefined || !(await rootFits(host, path, expected))) return { path }
  }
  return null
}
