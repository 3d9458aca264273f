// What the record of a replica becomes: pure functions of it. The way back to a generation is kept as long as the record has it;
// refuses nothing, but says what can no longer be reached.

import type { UndoStep } from '../host/host.js'
import { MAX_INPUT_BYTES } from '../host/host.js'
import type { Generation, ReplicaRecord } from './record.js'

/** Steps of undo on a disk: an attempt looks at each of them. What needs more of them wants storage that makes copies. */
export const MAX_STEPS = 2000
/** A record is written to a host in one request; some room is left for the next change. */
export const MAX_RECORD_BYTES = MAX_INPUT_BYTES - (128 << 10)

/** The newest complete generation, whose content the disks have when all is well; null where there is none. */
export function newestOf(record: ReplicaRecord): Generation | null {
  return record.generations.at(-1) ?? null
}

/** Undo groups of a disk that the record rests on, the oldest first. */
export function groupsOf(record: ReplicaRecord, disk: number): readonly string[] {
  return record.generations.flatMap(({ disks }) => disks[disk]?.undo ?? [])
}

/** Groups to take back on a disk to get to a generation from the newest, the newest first. */
export function wayBack(record: ReplicaRecord, number: number, disk: number): readonly string[] {
  return record.generations
    .filter((generation) => generation.number > number)
    .flatMap(({ disks }) => disks[disk]?.undo ?? [])
    .toReversed()
}

/** The undo groups that really are on a disk, held against those of the record. */
export type Chain = Readonly<{
  /** What is given up already, and still there: to be dropped through this group. */
  leftover: string | null
  /** Newer than all of the record: of an attempt that did not finish, or of somebody else. */
  extra: readonly UndoStep[]
  /** The step that the newest generation of the record ends with: what is newer is taken back. Null: there is none. */
  through: string | null
  /** Why the record's older generations, and the newest one, cannot be reached by it; null where they can. */
  broken: string | null
}>

/** To take back what is newer than the newest generation use leadBack of lead-back.ts, which asks for the steps first. */
export function chainOf(record: ReplicaRecord, disk: number, steps: readonly UndoStep[]): Chain {
  const dropped = record.disks[disk]?.droppedUndo ?? null
  const at = steps.findIndex(({ group }) => group === dropped)
  const leftover = at === -1 ? null : dropped
  const rest = steps.slice(at + 1)
  const expected = groupsOf(record, disk)
  const extra = rest.slice(expected.length)
  const through = expected.at(-1) ?? leftover
  const missing = expected.findIndex((group, index) => rest[index]?.group !== group)
  const broken =
    missing !== -1
      ? 'steps of its undo journal are gone: somebody else wrote to it or took something back'
      : rest.some(({ state }) => state === 'void')
        ? 'its undo journal was given up: somebody else wrote to it'
        : rest.slice(0, expected.length).some(({ state }) => state !== 'finished')
          ? 'somebody began to take back a step of its undo journal'
          : null
  return { leftover, extra, through, broken }
}

/**
 * The record after that: nothing is known of what is on the disks. Generations of which every disk has a copy stay;
 * `steps` are those of each disk, which lead nowhere now.
 */
export function withoutChain(record: ReplicaRecord, steps: readonly (readonly UndoStep[])[]): ReplicaRecord {
  return {
    ...record,
    base: 'nothing',
    disks: record.disks.map((disk, index) => ({
      ...disk,
      droppedUndo: steps[index]?.at(-1)?.group ?? disk.droppedUndo,
    })),
    generations: record.generations
      .filter(({ disks }) => disks.every(({ copy }) => copy !== null))
      .map((generation) => ({
        ...generation,
        disks: generation.disks.map((disk) => ({ ...disk, undo: [] })),
      })),
  }
}

export type Pruned = Readonly<{
  record: ReplicaRecord
  /** Numbers of generations that would be wanted and had to go, since there is no room for the way to them. */
  sacrificed: readonly number[]
}>

/**
 * The record with the wanted generations only, and with the undo groups only by which one of them is reached: those of a step
 * that is left out go to the next newer generation. The newest always stays.
 */
export function prune(record: ReplicaRecord, wanted: ReadonlySet<number>): Pruned {
  const sacrificed: number[] = []
  let next = keepOnly(record, wanted)
  while (next.generations.length > 1 && isTooLarge(next)) {
    const [oldest] = next.generations
    if (oldest === undefined) break
    sacrificed.push(oldest.number)
    next = keepOnly(next, new Set(next.generations.slice(1).map(({ number }) => number)))
  }
  return { record: next, sacrificed }
}

function keepOnly(record: ReplicaRecord, wanted: ReadonlySet<number>): ReplicaRecord {
  const newest = newestOf(record)
  const disks = record.disks.map((disk) => ({ ...disk }))
  // of each disk the groups of steps that were left out, on their way to the next one that stays
  const carried: string[][] = disks.map(() => [])
  const generations: Generation[] = []
  for (const generation of record.generations) {
    generation.disks.forEach(({ undo }, disk) => carried[disk]?.push(...undo))
    if (!wanted.has(generation.number) && generation !== newest) continue
    generations.push({
      ...generation,
      disks: generation.disks.map((each, disk) => ({ ...each, undo: carried[disk]?.splice(0) ?? [] })),
    })
  }
  disks.forEach((disk, index) => {
    // nothing before the oldest one that has no copy of this disk is reached by undo
    const first = generations.findIndex(({ disks: of }) => of[index]?.copy === null)
    const upTo = first === -1 ? generations.length - 1 : first
    for (const [at, generation] of generations.entries()) {
      const own = generation.disks[index]
      if (at > upTo || own === undefined || own.undo.length === 0) continue
      disk.droppedUndo = own.undo.at(-1) ?? disk.droppedUndo
      generations[at] = {
        ...generation,
        disks: generation.disks.map((each, other) => (other === index ? { ...each, undo: [] } : each)),
      }
    }
  })
  return { ...record, disks, generations }
}

function isTooLarge(record: ReplicaRecord): boolean {
  return (
    record.disks.some((_, disk) => groupsOf(record, disk).length > MAX_STEPS) ||
    Buffer.byteLength(JSON.stringify(record)) > MAX_RECORD_BYTES
  )
}

/**
 * For `reverse` back: the record of a replica whose disks were in use as a source meanwhile. Nothing leads back from what is on
 * them to an older generation but copies; the first attempt keeps what it overwrites.
 */
export function turned(
  record: ReplicaRecord,
  steps: readonly (readonly UndoStep[])[],
  changedAt: string,
): ReplicaRecord {
  return { ...withoutChain(record, steps), base: 'old-source', state: 'empty', changedAt }
}
