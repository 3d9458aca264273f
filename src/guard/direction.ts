// The direction of a pair: what both ends have recorded of their runs, against what is asked for now. Refuses to overwrite
// the disk that the last run read from (guard/direction); a record of other disks is explained and used for nothing.

import type { Role, StableIdentity } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { fitOf } from '../state/match.js'
import type { PairRecord, RunBy } from '../state/record.js'

/** One end of a pair as it is now, and what was recorded there of it and the other one. */
export type PairSide = Readonly<{
  /** The operand as typed. */
  name: string
  stable: StableIdentity
  records: readonly PairRecord[]
}>

/** What the records say. */
export type PairHistory = Readonly<{
  /** A record names this pair: its id, and how many runs of it finished. */
  pairId: string | null
  generation: number
  /** The last run of the pair was from what is the destination now. */
  isReversed: boolean
  /** The last run of the pair: when it finished, or when it began where it did not. */
  last: LastRun | null
  /** Records that are of other disks, by where they are: they are removed when the run is done. */
  replaces: Readonly<{ source: readonly string[]; destination: readonly string[] }>
  /** Sentences: why a record was not used. */
  notes: readonly string[]
}>

export type LastRun = Readonly<{ state: 'finished' | 'unfinished'; at: string; by: RunBy }>

/** A record that fits, as a statement about the pair. `towards`: the end of now that it says is written to. */
type Statement = Readonly<{ record: PairRecord; towards: Role }>

/** Reads the records of both ends. */
export function pairHistory(source: PairSide, destination: PairSide): PairHistory {
  const statements: Statement[] = []
  const replaces = { source: new Array<string>(), destination: new Array<string>() }
  const notes: string[] = []
  const ends = [
    { side: source, other: destination, role: 'source' },
    { side: destination, other: source, role: 'destination' },
  ] as const
  for (const { side, other, role } of ends) {
    for (const record of side.records) {
      const fit = fitOf(record.peer.stable, other.stable)
      if (fit.kind === 'same') {
        const towards = record.role === 'destination' ? role : otherRole(role)
        statements.push({ record, towards })
        continue
      }
      replaces[role].push(record.pairId)
      if (fit.kind === 'misfit')
        notes.push(
          `the record of ${side.name} and ${other.name}${dated(record)} is of another disk and not used: ${fit.why}`,
        )
    }
  }
  const newest = statements.reduce<Statement | null>(
    (best, each) => (best === null || isNewer(each.record, best.record) ? each : best),
    null,
  )
  if (newest === null) return { pairId: null, generation: 0, isReversed: false, last: null, replaces, notes }
  const { pairId } = newest.record
  for (const { record } of statements) {
    if (record.pairId === pairId) continue
    replaces.source.push(record.pairId)
    replaces.destination.push(record.pairId)
  }
  return {
    pairId,
    generation: newest.record.generation,
    isReversed: newest.towards === 'source',
    last: lastRun(newest.record),
    replaces,
    notes,
  }
}

function otherRole(role: Role): Role {
  return role === 'source' ? 'destination' : 'source'
}

/** By what was finished, then by what was begun behind it: the clocks of two hosts decide last. */
function isNewer(a: PairRecord, b: PairRecord): boolean {
  if (a.generation !== b.generation) return a.generation > b.generation
  if ((a.running === null) !== (b.running === null)) return a.running !== null
  return (lastRun(a)?.at ?? '') > (lastRun(b)?.at ?? '')
}

function lastRun({ running, finished }: PairRecord): LastRun | null {
  if (running !== null) return { state: 'unfinished', at: running.since, by: running.by }
  return finished === null ? null : { state: 'finished', at: finished.finishedAt, by: finished.by }
}

/** When the last run was, for people: minutes of UTC. */
export function minuteText(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`
}

function dated(record: PairRecord): string {
  const last = lastRun(record)
  return last === null ? '' : ` of ${minuteText(last.at)}`
}

/** The refusal to reverse a pair, or null where the direction is that of the last run. */
export function directionRefusal(
  source: PairSide,
  destination: PairSide,
  { isReversed, last }: PairHistory,
): SyncError | null {
  if (!isReversed) return null
  const when = last === null ? 'in its last run' : `on ${minuteText(last.at)}`
  const by = last === null ? '' : ` by ${last.by.user}@${last.by.host}`
  const whole =
    last?.state === 'unfinished'
      ? `; that run did not finish, so ${source.name} may be half old and half new`
      : ''
  return new SyncError(
    'guard/direction',
    `${when} ${destination.name} was synced to ${source.name}${by}, and now it would be overwritten with that${whole}; nothing was written`,
    {
      operand: destination.name,
      hint: `Are the two swapped? Type them the other way round; type --force-direction if it is to be reversed.`,
    },
  )
}
