// Where the disks of a job are in the direction that it goes now. A job and a direction in, operands and sides out; refuses
// nothing: the configuration was checked.

import type { Job } from '../config/config.js'
import type { DiskPair, Operand } from '../sync/report.js'
import type { LeafTrack } from '../track/track.js'
import type { FarSide } from '../transport/transport.js'
import type { JobState } from './job-state.js'

export type Places = Readonly<{
  pairs: readonly DiskPair[]
  sourceSide: FarSide
  destinationSide: FarSide
  /** Both on one host: it is opened once. */
  isOneHost: boolean
}>

/** All sources of a job are on one host, and so are its destinations. */
export function placesOf(job: Job, direction: JobState['direction']): Places {
  const pairs = job.disks.map(({ source, destination }) =>
    direction === 'forward' ? { source, destination } : { source: destination, destination: source },
  )
  const [first] = pairs
  if (first === undefined) throw new RangeError('a job without disks')
  return {
    pairs,
    sourceSide: first.source.at,
    destinationSide: first.destination.at,
    isOneHost: first.source.at.kind === 'local' && first.destination.at.kind === 'local',
  }
}

/** The operand that is read: the snapshot, in whose name records are kept of the disk that it is of, and what is known of it. */
export function readAs(original: Operand, path: string, track: LeafTrack | null): Operand {
  if (path === original.path) return original
  return { ...original, path, standsFor: original.path, ...(track === null ? {} : { track }) }
}
