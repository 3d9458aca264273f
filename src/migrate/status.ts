// What a host's journals say of its migrations: which there are, how far they came, and what to type. Takes no journal and
// changes nothing; a journal that cannot be understood is listed as such.

import { toSyncError, type SyncError } from '../errors.js'
import type { Host, JournalRole } from '../host/host.js'
import type { MigrateMode } from '../hypervisor/driver.js'
import { readState, type JournalState, type Left, type RunsOn, STEP_NAMES, type StepName } from './journal.js'

/** `handed-over`: the destination was told to run it, or this host is fenced. */
export type Phase = 'moving' | 'handed-over' | 'being put back' | 'moved' | 'put back' | 'unreadable'

export type MigrationStatus = Readonly<{
  id: string
  role: JournalRole
  phase: Phase
  guest: string
  uuid: string
  mode: MigrateMode | null
  from: string
  to: string
  /** The latest step that was begun, and whether it is done. */
  step: StepName | null
  stepState: 'begun' | 'done' | null
  /** Ms since 1970; 0 where the journal is empty. */
  beganMs: number
  lastMs: number
  runsOn: RunsOn | null
  left: Left
  /** FENCED is on the disk here, or 'go' is on the disk there. */
  isFenced: boolean
  hasGo: boolean
  /** What can be done with it, as command lines; none where there is nothing. */
  commands: readonly string[]
  problem: string | null
}>

/** All migrations that this host has journals of, the latest first. */
export async function migrationsOf(host: Host): Promise<MigrationStatus[]> {
  const found: MigrationStatus[] = []
  for (const { id, role } of await host.listJournals()) {
    try {
      const lines = await host.readJournal({ id, role })
      // it was removed between the two questions, or nothing had begun
      if (lines === null || lines.length === 0) continue
      found.push(statusOf(id, role, readState(lines, `${id} on ${host.name}`)))
    } catch (thrown) {
      const error = toSyncError(thrown)
      if (error.code === 'host/lost') throw error
      found.push(unreadable(id, role, error))
    }
  }
  const latestFirst = found.toSorted((one, other) => other.beganMs - one.beganMs)
  return latestFirst.map((each) =>
    each.phase === 'moved' && movedSince(latestFirst, each) !== null && each.left === 'nothing'
      ? { ...each, commands: [] }
      : each,
  )
}

/** The migration that brought the guest of `which` back to this host, or away from it once more, after that; else null. */
export function movedSince(all: readonly MigrationStatus[], which: MigrationStatus): MigrationStatus | null {
  const isLater = ({ id, role, guest, uuid, phase, beganMs }: MigrationStatus): boolean =>
    id !== which.id &&
    beganMs > which.beganMs &&
    // a guest of Xen that is off may have no UUID
    guest === which.guest &&
    uuid === which.uuid &&
    (phase === 'moved' || phase === 'handed-over' || (role === 'source' && phase === 'moving'))
  return all.find(isLater) ?? null
}

/** A migration that is not over, as a preflight asks for it. */
export type OpenMigration = Readonly<{ id: string; role: JournalRole; uuid: string; phase: string }>

/** Those that are not over, in words. Of one that was put back only leftovers may be there: it stands in nobody's way. */
export async function openMigrations(host: Host): Promise<OpenMigration[]> {
  const all = await migrationsOf(host)
  return all
    .filter(({ phase, role }) => !isOver(phase, role))
    .map(({ id, role, uuid, phase, step, stepState, problem }) => ({
      id,
      role,
      uuid,
      phase: problem ?? (step === null ? 'just begun' : `${phase}, ${step} is ${stepState ?? 'begun'}`),
    }))
}

/** IDs of those that were put back on this host while the destination could not be cleaned up: --abort does that. */
export async function leftBehind(host: Host): Promise<string[]> {
  const all = await migrationsOf(host)
  return all
    .filter(({ role, phase, left }) => role === 'source' && phase === 'put back' && left === 'destination')
    .map(({ id }) => id)
}

/** What was aborted at the destination never runs there by it; what is left of it is cleaned up from the source. */
function isOver(phase: Phase, role: JournalRole): boolean {
  return phase === 'moved' || phase === 'put back' || (role === 'destination' && phase === 'being put back')
}

function statusOf(id: string, role: JournalRole, state: JournalState): MigrationStatus {
  const { plan, ended, isFenced, hasGo, beganMs, lastMs } = state
  const step = STEP_NAMES.findLast((name) => state.intents.has(name)) ?? null
  const left = ended?.left ?? 'nothing'
  return {
    id,
    role,
    phase: phaseOf(role, state),
    guest: plan?.guest.name ?? '',
    uuid: plan?.guest.uuid ?? '',
    mode: plan?.options.mode ?? null,
    from: plan?.from.host ?? '',
    to: plan?.to.typed ?? '',
    step,
    stepState: step === null ? null : state.done.has(step) ? 'done' : 'begun',
    beganMs,
    lastMs,
    runsOn: ended?.runsOn ?? null,
    left,
    isFenced,
    hasGo,
    commands: role === 'source' ? commandsFor(id, state) : [],
    problem: null,
  }
}

function phaseOf(
  role: JournalRole,
  { ended, rollback, isAborted, isFenced, hasGo, done }: JournalState,
): Phase {
  // the other end tells whether it is over; what there was to do here is done
  if (role === 'destination' && done.has('finish')) return 'moved'
  if (ended !== null) return ended.how === 'back' ? 'put back' : 'moved'
  if (rollback !== null || isAborted) return 'being put back'
  return isFenced || hasGo ? 'handed-over' : 'moving'
}

function commandsFor(id: string, state: JournalState): string[] {
  const { ended, rollback, isFenced } = state
  const type = (option: string): string => `blocksync migrate --${option} ${id}`
  if (ended !== null) {
    if (ended.left !== 'nothing') return [type('abort')]
    return ended.how === 'moved' && isFenced ? [type('unfence')] : []
  }
  if (rollback !== null) return [type('abort')]
  if (state.done.has('go')) return [type('continue')]
  return [type('continue'), type('abort')]
}

function unreadable(id: string, role: JournalRole, error: SyncError): MigrationStatus {
  return {
    id,
    role,
    phase: 'unreadable',
    guest: '',
    uuid: '',
    mode: null,
    from: '',
    to: '',
    step: null,
    stepState: null,
    beganMs: 0,
    lastMs: 0,
    runsOn: null,
    left: 'nothing',
    isFenced: false,
    hasGo: false,
    commands: [],
    problem: error.message,
  }
}
