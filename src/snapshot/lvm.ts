// Snapshots of thick volumes: an area of the group takes the old content of what is written meanwhile. Refuses to vouch for
// one whose area ran full: its content is gone from that moment on.

import type { SnapshotMethod } from './snapshot.js'
import { VolumeSnapshots, type Volume } from './volumes.js'

/** Of each snapshot: bytes, or a share of the volume in percent. LVM rounds up to its extents. */
export type ThickSize = Readonly<{ bytes: number }> | Readonly<{ percent: number }>

/** lvcreate takes no parts of them. */
const SECTOR_BYTES = 512

export function thickSnapshots(size: ThickSize): SnapshotMethod {
  return new VolumeSnapshots({
    kind: 'lvm',
    refusal: () => null,
    lvcreateWords: () => sizeWords(size),
    roomHint: 'Give the group room (vgextend), or write a smaller snapshot_size; vgs shows what is free.',
    spoiltHint: 'Write a larger snapshot_size, or run the job when less is written.',
    spoiltBy,
  })
}

function sizeWords(size: ThickSize): readonly string[] {
  if ('percent' in size) return ['--extents', `${Math.ceil(size.percent)}%ORIGIN`]
  return ['--size', `${Math.ceil(size.bytes / SECTOR_BYTES) * SECTOR_BYTES}b`]
}

function spoiltBy({ isInvalid, device }: Volume): string | null {
  if (isInvalid === true) return 'ran full: more was written meanwhile than snapshot_size has room for'
  // the kernel tells only of a device that is there
  return device === null || isInvalid === null ? 'is not active any more' : null
}
