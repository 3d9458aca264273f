// The two journals of a migration: their lines as types, and what they come to. Lines as a host has them come in, a state
// that other files decide by goes out; refuses the journal of another version and lines that are not ours.

import { SyncError } from '../errors.js'
import type { JournalLine, Protection } from '../host/host.js'
import type { Fence, Guest } from '../hypervisor/driver.js'
import type { Plan } from './plan.js'

/** In the order in which a migration has them; no procedure has all of them (steps.ts). */
export const STEP_NAMES = [
  'prepare',
  'rounds',
  'before-save',
  'save',
  'shutdown',
  'live',
  'final',
  'restore',
  'check',
  'fence',
  'go',
  'define',
  'resume',
  'start',
  'after-restore',
  'finish',
] as const

export type StepName = (typeof STEP_NAMES)[number]

/** How a guest is moved: a guest that is off has a way of its own, whatever mode was asked for. */
export type Procedure = 'warm' | 'cold' | 'off' | 'live'

/** The digest of a disk as the engine agreed on it, and all that is needed to make it again. */
export type RootFacts = Readonly<{
  algorithm: 'xxh3-128' | 'xxh64x2' | 'sha256'
  /** 16 bytes, hex. */
  seed: string
  blockBytes: number
  leafBytes: number
  lengthBytes: number
  root: string
}>

/** Of each moved disk, by its target name, what changes when it is written to (stamps.ts). */
export type Stamps = Readonly<Record<string, string>>

export type RoundFacts = Readonly<{
  sentBytes: number
  wireBytes: number
  durationMs: number
  forecastDowntimeMs: number
}>

/** What is made or changed at the destination before the guest stops; taken back in the opposite order. */
export type Made =
  | Readonly<{ kind: 'directory'; path: string }>
  | Readonly<{ kind: 'file'; path: string; sizeBytes: number }>
  | Readonly<{ kind: 'volume'; group: string; volume: string }>
  /** A file that the last pass makes: it was not there before. */
  | Readonly<{ kind: 'copy'; path: string }>
  /** A disk there had been protected when the guest moved away from there. */
  | Readonly<{ kind: 'unprotected'; protection: Protection }>
  /** The definition that was left there when the guest moved away; it gives way to the guest. `guest` is as it was then. */
  | Readonly<{ kind: 'old-fence'; id: string; guest: Guest; renamedTo: string }>

/** What the 'done' of each step has to tell to later steps, or to a recovery. */
export type FactsOf = {
  prepare: Readonly<Record<string, never>>
  rounds: Readonly<{ rounds: readonly RoundFacts[] }>
  'before-save': Readonly<{ ran: boolean }>
  /** Of the source's disks, right after the guest had stopped. */
  save: Readonly<{ stamps: Stamps }>
  shutdown: Readonly<{ forced: boolean }>
  live: Readonly<Record<string, never>>
  final: Readonly<{ roots: Readonly<Record<string, RootFacts>>; sizes: Readonly<Record<string, number>> }>
  restore: Readonly<Record<string, never>>
  /** Of the destination's disks, while its guest is paused. */
  check: Readonly<{ stamps: Stamps }>
  /** `stamps`: of the source's disks as they are protected. */
  fence: Readonly<{ fence: Fence; protections: readonly Protection[]; stamps: Stamps }>
  go: Readonly<Record<string, never>>
  define: Readonly<{ isDefined: boolean }>
  resume: Readonly<Record<string, never>>
  start: Readonly<Record<string, never>>
  'after-restore': Readonly<{ ran: boolean }>
  finish: Readonly<{ left: Left; undefined: boolean }>
}

/** What still has to be cleaned up when the other host can be asked again. */
export type Left = 'nothing' | 'destination'

export type JournalRecord =
  | Readonly<{ type: 'begin'; version: 1; plan: Plan; bootId: string }>
  | Readonly<{ type: 'intent'; step: StepName; bootId: string }>
  | Readonly<{ type: 'done'; step: StepName; facts: FactsOf[StepName] }>
  | Readonly<{ type: 'making'; made: Made }>
  | Readonly<{ type: 'made'; made: Made }>
  /** It was certainly not made. */
  | Readonly<{ type: 'unmade'; made: Made }>
  | Readonly<{ type: 'round'; round: RoundFacts }>
  /** Destination only: the guest may run there. After 'aborted' never written. */
  | Readonly<{ type: 'go' }>
  /** Destination only: the guest may never run there by this migration. After 'go' never written. */
  | Readonly<{ type: 'aborted' }>
  /** Source only: from here on everything is put back. Behind FENCED only where the destination has 'aborted', or by hand. */
  | Readonly<{ type: 'rollback'; why: string; by: 'itself' | 'hand' }>
  | Readonly<{ type: 'undone'; step: StepName; stamps: Stamps | null }>
  | Readonly<{ type: 'ended'; how: 'moved' | 'back'; runsOn: RunsOn; left: Left }>

export type RunsOn = 'source' | 'destination' | 'nowhere'

const RECORD_TYPES: readonly string[] = [
  'begin',
  'intent',
  'done',
  'making',
  'made',
  'unmade',
  'round',
  'go',
  'aborted',
  'rollback',
  'undone',
  'ended',
] satisfies JournalRecord['type'][]

/** What a journal comes to. */
export type JournalState = {
  plan: Plan | null
  /** Step -> the boot in which its latest intent was written. */
  readonly intents: Map<StepName, string>
  readonly done: Map<StepName, FactsOf[StepName]>
  readonly undone: Set<StepName>
  /** In the order in which they were begun; `finished` where that is known. */
  readonly made: { made: Made; finished: 'yes' | 'unknown' }[]
  readonly rounds: RoundFacts[]
  /** The source's FENCED: 'done fence' is on its disk. From then on the destination may have been told to go. */
  isFenced: boolean
  hasGo: boolean
  isAborted: boolean
  rollback: Readonly<{ why: string; by: 'itself' | 'hand' }> | null
  /** Of the source's disks, after a fence was taken away again. */
  unfencedStamps: Stamps | null
  ended: Readonly<{ how: 'moved' | 'back'; runsOn: RunsOn; left: Left }> | null
  /** Wall clock of the first and the last line, ms since 1970; 0 where there is none. */
  beganMs: number
  lastMs: number
  /** Wall clock of the intent of each step. */
  readonly intentMs: Map<StepName, number>
}

export function emptyState(): JournalState {
  return {
    plan: null,
    intents: new Map(),
    done: new Map(),
    undone: new Set(),
    made: [],
    rounds: [],
    isFenced: false,
    hasGo: false,
    isAborted: false,
    rollback: null,
    unfencedStamps: null,
    ended: null,
    beganMs: 0,
    lastMs: 0,
    intentMs: new Map(),
  }
}

/** The facts of a step that is done; null where it is not. */
export function factsOf<Name extends StepName>(state: JournalState, step: Name): FactsOf[Name] | null {
  const facts = state.done.get(step)
  // what is written under a step's name are that step's facts
  return facts === undefined ? null : (facts as FactsOf[Name])
}

/** A step whose act may have had an effect that is not taken back. */
export function isStanding(state: JournalState, step: StepName): boolean {
  return state.intents.has(step) && !state.undone.has(step)
}

/** Makes `state` what it is after one more record. */
export function fold(state: JournalState, record: JournalRecord, atMs: number): void {
  if (state.beganMs === 0) state.beganMs = atMs
  state.lastMs = atMs
  switch (record.type) {
    case 'begin':
      state.plan = record.plan
      return
    case 'intent':
      state.intents.set(record.step, record.bootId)
      state.intentMs.set(record.step, atMs)
      state.done.delete(record.step)
      state.undone.delete(record.step)
      return
    case 'done':
      state.done.set(record.step, record.facts)
      if (record.step === 'fence') state.isFenced = true
      return
    case 'making':
      state.made.push({ made: record.made, finished: 'unknown' })
      return
    case 'made':
      state.made.splice(-1, 1, { made: record.made, finished: 'yes' })
      return
    case 'unmade':
      state.made.pop()
      return
    case 'round':
      state.rounds.push(record.round)
      return
    case 'go':
      state.hasGo = true
      return
    case 'aborted':
      state.isAborted = true
      return
    case 'rollback':
      state.rollback = { why: record.why, by: record.by }
      return
    case 'undone':
      state.undone.add(record.step)
      if (record.stamps !== null) state.unfencedStamps = record.stamps
      return
    case 'ended':
      state.ended = { how: record.how, runsOn: record.runsOn, left: record.left }
      return
    default:
      throw new Error(`unknown record ${String(record satisfies never)}`)
  }
}

/** Reads a journal. Rejects (by throwing) with migrate/stuck where it is of another version or no journal of ours. */
export function readState(lines: readonly JournalLine[], where: string): JournalState {
  const state = emptyState()
  for (const line of lines) {
    const atMs = typeof line['at'] === 'number' ? line['at'] : 0
    fold(state, recordOf(line, where), atMs)
  }
  return state
}

function recordOf(line: JournalLine, where: string): JournalRecord {
  const { type, step, version } = line
  const isKnown = typeof type === 'string' && RECORD_TYPES.includes(type)
  const hasStep = step === undefined || (STEP_NAMES as readonly unknown[]).includes(step)
  if (!isKnown || !hasStep || (type === 'begin' && version !== 1))
    throw new SyncError('migrate/stuck', `the journal ${where} is not one that this version understands`, {
      operand: where,
      hint: 'Continue it with the version of blocksync that began it.',
    })
  // written by this program, flushed whole or cut off: nobody else writes there
  return line as JournalRecord
}

export function procedureOf(plan: Plan): Procedure {
  if (plan.guest.state === 'off') return 'off'
  return plan.options.mode
}
