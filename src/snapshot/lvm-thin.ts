// Snapshots of thin volumes: they share blocks with their origin in the pool and need no size. Refuses volumes that are not
// thin, and to vouch for one whose pool failed.

import type { SnapshotMethod } from './snapshot.js'
import { VolumeSnapshots, type Volume } from './volumes.js'

export function thinSnapshots(): SnapshotMethod {
  return new VolumeSnapshots({
    kind: 'lvm-thin',
    refusal: ({ pool }) =>
      pool === '' ? { why: 'is no thin volume', hint: 'For a thick volume write: snapshot: lvm' } : null,
    // thin snapshots are left out at activation unless that is said (lvcreate(8), --setactivationskip)
    lvcreateWords: () => ['--setactivationskip', 'n', '--activate', 'y'],
    roomHint: 'Give the pool room: lvextend; lvs shows how full its data and metadata are.',
    spoiltHint: 'Look at the pool: lvs --all; then at the log of the kernel.',
    spoiltBy,
  })
}

function spoiltBy({ health, device }: Volume): string | null {
  // A pool without room fails writes; what its volumes hold already stays as it was.
  if (health === 'failed' || health === 'partial') return `is damaged (${health})`
  return device === null ? 'is not active any more' : null
}
