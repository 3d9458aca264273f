// No snapshot: the disks themselves are read, while they may change. Says so each time; refuses nothing.

import type { CutRequest, SnapshotMethod } from './snapshot.js'

/** Nothing is made, so nothing is removed. */
export function noSnapshots(): SnapshotMethod {
  return {
    kind: 'none',
    cut: async (host, request) => ({
      kind: 'none',
      takenAtMs: (await host.facts()).nowMs,
      spreadMs: 0,
      quiesced: 'no',
      disks: request.disks.map((original) => ({ original, path: original })),
      warnings: [warningFor(request)],
    }),
    check: () => Promise.resolve(),
    remove: () => Promise.resolve(),
    removeOrphans: () => Promise.resolve([]),
  }
}

function warningFor({ disks }: CutRequest): string {
  const what = disks.length === 1 ? `${disks[0]} is` : `${disks.join(' and ')} are`
  return `${what} read without a snapshot: the replica is not crash-consistent where it is written to meanwhile`
}
