// The engine's part of an attempt: pairs and options of one run for all disks, and what came of it. Rejects with the engine's error,
// and with destination/undo where the way back of a disk was not closed.

import type { Job } from '../config/config.js'
import { SyncError } from '../errors.js'
import { syncOptions, type SyncOptions } from '../options.js'
import type { Cut } from '../snapshot/snapshot.js'
import type { DiskPair, DiskReport } from '../sync/report.js'
import { Totals } from '../sync/totals.js'
import type { LeafTrack } from '../track/track.js'
import type { AttemptContext } from './context.js'
import type { Found } from './lead-back.js'
import { readAs, type Places } from './places.js'
import type { GenerationDisk, ReplicaRecord, RootRecord } from './record.js'
import type { ReplicaLeaves } from './replica-leaves.js'

const STATE_WORD = '--state-dir='

export type Transferred = Readonly<{
  roots: readonly RootRecord[]
  sentBytes: number
  wireBytes: number
}>

/** What it sent is told also where it failed. */
export type Counted = (sentBytes: number, wireBytes: number) => void

/** What is known of the disks of both ends, in their order: what need not be read. */
export type Known = Readonly<{ tracks: readonly LeafTrack[]; leaves: ReplicaLeaves | null }>

/** Makes the disks equal to the cut, on stable storage. */
export async function transfer(
  job: Job,
  context: AttemptContext,
  places: Places,
  record: ReplicaRecord,
  cut: Cut,
  { tracks, leaves }: Known,
  extraWaitMs: number,
  counted: Counted,
  onWarning: (text: string) => void,
): Promise<Transferred> {
  const pairs = places.pairs.map(({ source, destination }, index) => ({
    source: readAs(source, cut.disks[index]?.path ?? source.path, tracks[index] ?? null),
    destination,
    ...leavesWish(leaves, index),
    // a person typed `reverse`, and read then what is overwritten
    ...(record.base === 'old-source' ? { turned: 'on-purpose' as const } : {}),
  }))
  const totals = new Totals(pairs.length, (sum) =>
    context.hooks.onEvent({ event: 'progress', job: job.name, ...sum }),
  )
  const { disks, error } = await context.runSync(
    pairs,
    optionsOf(job.options, context, places, record, extraWaitMs),
    {
      ...context.syncHooks,
      signal: context.signal,
      onWarning,
      onProgress: (progress) => totals.update(progress),
    },
  )
  let sentBytes = 0
  let wireBytes = 0
  for (const disk of disks) {
    sentBytes += disk.sentBytes
    wireBytes += disk.wireBytesSent + disk.wireBytesReceived
  }
  counted(sentBytes, wireBytes)
  if (error !== null) throw forReplica(error)
  return { roots: disks.map(rootOf), sentBytes, wireBytes }
}

function leavesWish(leaves: ReplicaLeaves | null, index: number): Pick<DiskPair, 'leaves'> {
  const wish = leaves?.[index]
  return wish === undefined ? {} : { leaves: wish }
}

/** What the engine says to type is for a run by hand, which leads nothing back by itself. */
function forReplica(error: SyncError): SyncError {
  const { code, message, operand } = error
  if (code !== 'destination/undo-space' && code !== 'destination/no-space') return error
  return new SyncError(code, message, {
    ...(operand === null ? {} : { operand }),
    hint: 'The replica stays what its newest generation is. Make room on that host, or keep fewer generations.',
    cause: error,
  })
}

function optionsOf(
  given: SyncOptions,
  context: AttemptContext,
  { isOneHost }: Places,
  { base }: ReplicaRecord,
  extraWaitMs: number,
): SyncOptions {
  const { transport } = given
  // a far end on this host keeps its journals where this process looks for them
  const serveArguments = isOneHost
    ? [
        ...transport.serveArguments.filter((word) => !word.startsWith(STATE_WORD)),
        `${STATE_WORD}${context.stateDir}`,
      ]
    : transport.serveArguments
  const limits = given.undo ?? { directory: null, maxBytes: null }
  return syncOptions({
    ...given,
    stateDir: context.stateDir,
    transport: { ...transport, serveArguments },
    mode: 'write',
    size: 'grow',
    // what is read is another snapshot each time
    resume: 'no',
    rescue: null,
    create: base === 'nothing' ? 'if-missing' : 'never',
    undo:
      base === 'nothing' ? null : { directory: limits.directory, maxBytes: limits.maxBytes, keep: 'chain' },
    force: [...new Set([...given.force, ...context.force])],
    lockWaitMs: Math.max(given.lockWaitMs, extraWaitMs),
  })
}

function rootOf({ digest, sizeBytes, destination }: DiskReport): RootRecord {
  if (digest === null) throw new Error(`the engine gave no root of ${destination}`)
  const { algorithm, root, seed, blockBytes, leafBytes } = digest
  return { algorithm, root, seed, blockBytes, leafBytes, lengthBytes: sizeBytes }
}

/** What the commit says of each disk: its root, and the steps that lead back from it. */
export function generationDisks(
  roots: readonly RootRecord[],
  { base }: ReplicaRecord,
  found: Found,
  job: string,
): GenerationDisk[] {
  return roots.map((root, index) => {
    const { extra = [], broken = null } = found.chains[index] ?? {}
    if (base === 'nothing') return { root, undo: [], copy: null }
    const open = extra.find(({ state }) => state !== 'finished')
    // the next run would go on with it, and this generation would be no step of its own
    if (broken !== null || open !== undefined)
      throw new SyncError(
        'destination/undo',
        `the undo journal of disk ${index + 1} of ${job} ${broken ?? 'could not be closed'}; the generation was not committed`,
        {
          operand: job,
          hint: 'See what is wrong with the state directory of the destination, and its room.',
        },
      )
    return { root, undo: extra.map(({ group }) => group), copy: null }
  })
}
