// A plan: what a migration would do, step by step, and what would refuse it. Made from facts of both hosts (make-plan.ts),
// printed (cli), written into the journal, and run as it is (run.ts).

import type { Guest, HypervisorKind, MigrateMode } from '../hypervisor/driver.js'

/** What happens to a disk. `refused` names why in the plan's problems. */
export type DiskFate = 'copied' | 'shared' | 'left-empty' | 'read-only' | 'refused'

/** How a destination comes to be; `present`: something of the right size is there and will be overwritten. */
export type Creation =
  | Readonly<{ kind: 'present' }>
  | Readonly<{ kind: 'file'; directories: readonly string[] }>
  | Readonly<{ kind: 'lvm'; group: string; volume: string }>

export type PlannedDisk = Readonly<{
  target: string
  /** 'file', 'block', 'qcow2', 'nfs', 'ceph', 'rbd', 'iscsi', 'empty cdrom', 'passthrough'...: for people and JSON. */
  kind: string
  fate: DiskFate
  sourcePath: string | null
  destinationPath: string | null
  destinationKind: 'file' | 'block' | null
  format: string
  /** As a guest sees a raw disk; the size of the whole file where a qcow2 file moves as it is. */
  sizeBytes: number
  allocatedBytes: number
  creation: Creation | null
}>

/** nvram, TPM state: moved as files after the guest has stopped. */
export type PlannedFile = Readonly<{
  kind: 'nvram' | 'tpm'
  sourcePath: string
  destinationPath: string
  sizeBytes: number
}>

export type PlanProblem = Readonly<{ code: string; text: string; hint: string; operand: string }>

export type PlannedCommand = Readonly<{ on: 'source' | 'destination'; argv: readonly string[]; why: string }>

export type Estimate = Readonly<{
  bytes: number
  /** Null where no rate is known yet. */
  durationMs: number | null
  downtimeMs: number | null
}>

export type MigrateOptions = Readonly<{
  mode: MigrateMode
  maxRounds: number
  downtimeTargetMs: number
  shutdownTimeoutMs: number
  /** Cold: pulls the plug where the guest does not shut down in time. */
  forceOff: 'yes' | 'no'
  /** Of a guest that is off: start it at the destination. */
  start: 'yes' | 'no'
  undefineSource: 'yes' | 'no'
  hooksDirectory: string | null
}>

export type PlannedConnection = Readonly<Record<string, string | number | boolean | readonly string[]>>

export type Plan = Readonly<{
  version: 1
  id: string
  hypervisor: HypervisorKind
  guest: Guest
  options: MigrateOptions
  from: Readonly<{ host: string; machineId: string; uri: string | null }>
  to: Readonly<{
    host: string
    typed: string
    machineId: string
    /** Of the hypervisor there, as its own host asks it. */
    uri: string | null
    /** The same as virsh on the source takes it, for a live migration; null without libvirt. */
    uriFromSource: string | null
  }>
  /**
   * How the destination is reached, as it was typed: options of the command line. --continue and --abort go by them where
   * nothing else is typed. Absent in journals of versions before.
   */
  connection?: PlannedConnection
  disks: readonly PlannedDisk[]
  files: readonly PlannedFile[]
  /** Saved states, on either host; null where nothing is saved (cold, live). */
  sourceStatePath: string | null
  destinationStatePath: string | null
  destinationDefinition: string
  destinationPersistentDefinition: string | null
  /** A unified diff of the two definitions. */
  definitionDiff: string
  commands: readonly PlannedCommand[]
  estimate: Estimate
  /** Any of these refuses the migration. */
  problems: readonly PlanProblem[]
  warnings: readonly string[]
}>
