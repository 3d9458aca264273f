// The record of a pair of disks: what one end remembers of the runs between its disk and another one. Types, and the
// strict check of what was read from a file or came over the wire; refuses every field that is not what it should be.

import type { AlgorithmName } from '../digest/digester.js'
import type { Role, Signature, StableIdentity } from '../endpoint/endpoint.js'
import {
  countOf,
  type Fields,
  listOf,
  objectOf,
  oneOf,
  plainOf,
  RecordError,
  textOf,
  timeOf,
} from './fields.js'

/** One end of a pair: the disk for ever, and the path by which the last run named it. */
export type PairEnd = Readonly<{ stable: StableIdentity; path: string }>

/** Who ran it: the user and host of the near end, and its version of blocksync. */
export type RunBy = Readonly<{ user: string; host: string; version: string }>

/** The last run that ended with equal disks. */
export type FinishedRun = Readonly<{
  runId: string
  /** ISO 8601, UTC, by the clock of the near end. */
  finishedAt: string
  by: RunBy
  /** How much was made equal, from the start of both disks. */
  lengthBytes: number
  root: string
  algorithm: AlgorithmName
  seed: string
  blockBytes: number
  leafBytes: number
}>

/** A run that began to write and has not said that it is done. */
export type RunningMark = Readonly<{
  runId: string
  since: string
  by: RunBy
  /** The process on the destination's host (ownProcess of src/state/process.ts): tells a run under way from a dead one. */
  process: string
  /** Somebody else (another pair's run, an undo) has begun to write to the disk since: what the run had done counts no more. */
  overtaken?: true
}>

/** What the disk on this host was in its last run with the peer's disk. Both ends keep one, with the same `pairId`. */
export type PairRecord = Readonly<{
  pairId: string
  role: Role
  disk: PairEnd
  peer: PairEnd
  /** Finished runs of the pair, in either direction. */
  generation: number
  finished: FinishedRun | null
  running: RunningMark | null
}>

/** What the near end tells a destination of the pair when a pass begins: enough to mark it as running. */
export type PairStart = Readonly<{
  pairId: string
  runId: string
  /** Finished runs until now. */
  generation: number
  peer: PairEnd
  by: RunBy
}>

/** What an end of a run knows of its disk: who it is for ever, what is on it, and its records with the peer's disk. */
export type KnownDisk = Readonly<{
  stable: StableIdentity
  content: readonly Signature[]
  pairs: readonly PairRecord[]
  /**
   * Of a file: changes with every change of it (a source), or when it is replaced by another one (a destination). Null where
   * nothing is known: a device has none.
   */
  stamp: string | null
  /** It is known that nobody can change it: a snapshot that is read-only. */
  frozen: boolean
}>

/** Of the JSON files; another one is not read. */
export const RECORD_VERSION = 1

const MAX_PATH_UNITS = 4096
/** Generations beyond this are a mistake: one a second would take 136 years. */
const MAX_GENERATION = 2 ** 32
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** True for an id as `newPairId` makes it: it becomes the name of a file. */
export function isPairId(value: unknown): value is string {
  return typeof value === 'string' && UUID.test(value)
}

/** A value that is meant to be a PairRecord, every field checked. Throws RecordError. */
export function checkedRecord(value: unknown): PairRecord {
  const fields = objectOf(value, 'record')
  return {
    pairId: uuid(fields, 'pairId'),
    role: oneOf(fields, 'role', ['source', 'destination']),
    disk: checkedEnd(fields['disk']),
    peer: checkedEnd(fields['peer']),
    generation: countOf(fields, 'generation', MAX_GENERATION),
    finished: fields['finished'] === null ? null : checkedFinished(fields['finished']),
    running: fields['running'] === null ? null : checkedRunning(fields['running']),
  }
}

/** Throws RecordError. */
export function checkedStart(value: unknown): PairStart {
  const fields = objectOf(value, 'pair')
  return {
    pairId: uuid(fields, 'pairId'),
    runId: uuid(fields, 'runId'),
    generation: countOf(fields, 'generation', MAX_GENERATION),
    peer: checkedEnd(fields['peer']),
    by: checkedBy(fields['by']),
  }
}

/** Throws RecordError. */
export function checkedStable(value: unknown): StableIdentity {
  const fields = objectOf(value, 'stable')
  const names = listOf(fields, 'names', MAX_NAMES, (name) => textOf({ name }, 'name', NAME))
  if (names.length === 0) throw new RecordError('names is empty')
  return {
    machineId: textOf(fields, 'machineId', /^[0-9a-f]{32}$/),
    hostName: plainOf(fields, 'hostName', MAX_HOST_UNITS),
    names,
  }
}

/** A kind and what stands behind it, in printable ASCII (stableNames of src/endpoint/stable.ts). */
const NAME = /^[a-z0-9]{1,16}:[\x21-\x7e]{1,510}$/
const MAX_NAMES = 8
const MAX_HOST_UNITS = 64
const MAX_USER_UNITS = 64
const MAX_VERSION_UNITS = 64

/** Throws RecordError. */
export function checkedEnd(value: unknown): PairEnd {
  const fields = objectOf(value, 'end')
  return { stable: checkedStable(fields['stable']), path: plainOf(fields, 'path', MAX_PATH_UNITS) }
}

function checkedBy(value: unknown): RunBy {
  const fields = objectOf(value, 'by')
  return {
    user: plainOf(fields, 'user', MAX_USER_UNITS),
    host: plainOf(fields, 'host', MAX_HOST_UNITS),
    version: plainOf(fields, 'version', MAX_VERSION_UNITS),
  }
}

/** Throws RecordError. */
export function checkedFinished(value: unknown): FinishedRun {
  const fields = objectOf(value, 'finished')
  return {
    runId: uuid(fields, 'runId'),
    finishedAt: timeOf(fields, 'finishedAt'),
    by: checkedBy(fields['by']),
    lengthBytes: countOf(fields, 'lengthBytes'),
    root: textOf(fields, 'root', /^[0-9a-f]{64}$/),
    algorithm: oneOf(fields, 'algorithm', ['xxh3-128', 'xxh64x2', 'sha256']),
    seed: textOf(fields, 'seed', /^[0-9a-f]{32}$/),
    blockBytes: countOf(fields, 'blockBytes'),
    leafBytes: countOf(fields, 'leafBytes'),
  }
}

function checkedRunning(value: unknown): RunningMark {
  const fields = objectOf(value, 'running')
  return {
    runId: uuid(fields, 'runId'),
    since: timeOf(fields, 'since'),
    by: checkedBy(fields['by']),
    process: plainOf(fields, 'process', 80),
    ...(fields['overtaken'] === true ? { overtaken: true } : {}),
  }
}

function uuid(fields: Fields, name: string): string {
  return textOf(fields, name, UUID)
}
