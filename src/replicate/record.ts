// What is known of a replica on its own host: STATE/replica/ID/replica.json, replaced whole or not at all. It tells which complete
// generations there are and how to get to each; the commit of a generation is one write of this file.

import type { CutKind } from '../snapshot/snapshot.js'

export const REPLICA_RECORD_VERSION = 1

/**
 * `empty`: what is on the disks is no generation: there was none yet, or somebody else wrote to them (older ones may be there as
 * copies); `good`: what is on the disks is the newest generation; `writing`: an attempt writes, or did not
 * finish: the undo journals lead back to the newest generation; `back`: it is being led back; `promoted`: given to people, and
 * no attempt may write it.
 */
export type ReplicaState = 'empty' | 'good' | 'writing' | 'back' | 'promoted'

/**
 * What was on the disks before the attempt that writes, and what they are led back to: the newest generation; nothing that is
 * worth it, and no undo journal is kept; or, after `reverse`, what had been the source until then.
 */
export type ReplicaBase = 'generation' | 'nothing' | 'old-source'

/** The root of a disk, and what it takes to compute it again (as migrate has it). */
export type RootRecord = Readonly<{
  algorithm: string
  root: string
  seed: string
  blockBytes: number
  leafBytes: number
  lengthBytes: number
}>

/** A copy of one disk of an older generation, where the storage can make one at no cost. */
export type GenerationCopy =
  | Readonly<{ kind: 'reflink'; path: string }>
  | Readonly<{ kind: 'lvm-thin'; volume: string }>

export type GenerationDisk = Readonly<{
  /** What both ends agreed on. */
  root: RootRecord
  /**
   * Undo groups of this disk that lead from this generation to the one before it in the record, oldest first. Empty where nothing
   * changed, and where nothing older is reached through them.
   */
  undo: readonly string[]
  /** Null where this generation is reached through undo journals. */
  copy: GenerationCopy | null
}>

export type Generation = Readonly<{
  number: number
  /** When it was cut at the source: ISO 8601, UTC. Lag counts from here. */
  takenAt: string
  completedAt: string
  cut: CutKind
  quiesced: 'yes' | 'no'
  spreadMs: number
  /** Payload that was sent for it. */
  sentBytes: number
  attempt: string
  /** In the order of the record's disks. */
  disks: readonly GenerationDisk[]
}>

export type ReplicaDisk = Readonly<{
  /** On this host. */
  path: string
  /** On the source's host, of the original disk. */
  sourcePath: string
  /** The newest undo group that was given up: it and those before it lead nowhere any more, and may not be removed yet. */
  droppedUndo: string | null
  /** Of the disk as the newest generation left it (diskStamp of host/host.ts); null (absent) where it is not known. */
  stamp?: string | null
}>

export type ReplicaRecord = Readonly<{
  version: typeof REPLICA_RECORD_VERSION
  /** JOB, a dot, and 8 hex digits of the machine that the job's configuration is on. */
  id: string
  job: string
  /** Whose configuration it is. */
  controller: Readonly<{ hostName: string; machineId: string }>
  /**
   * Where the data comes from; `address` is what this host could ask whether it is alive (from SSH_CONNECTION), or null. `port` is
   * that of its ssh, where attempts connect to it and another than the usual one was named.
   */
  source: Readonly<{ hostName: string; machineId: string; address: string | null; port: number | null }>
  state: ReplicaState
  base: ReplicaBase
  /** Of the attempt that writes or wrote last; null before the first. */
  attempt: string | null
  /** When the state was set: ISO 8601, UTC. */
  changedAt: string
  disks: readonly ReplicaDisk[]
  /** The next one gets this number; numbers are never used twice. */
  nextGeneration: number
  /** Oldest first; the last one is the newest complete one. */
  generations: readonly Generation[]
  /** The guest's definition as of the newest generation (a file beside the record), where a job names its domain. */
  guest: Readonly<{ domain: string; hypervisor: 'libvirt'; definition: string }> | null
}>
