// What a migration asks of a hypervisor on a host. One file per kind (libvirt.ts, xen.ts); open.ts chooses by what the host
// has. A driver knows guests and their definitions; it decides nothing about migrations and keeps no state.

import type { Host } from '../host/host.js'

export type HypervisorKind = 'libvirt' | 'xen'

/** `saving`: a save is under way; `absent`: no such guest is running or defined. */
export type GuestState = 'running' | 'paused' | 'saving' | 'stopping' | 'off' | 'crashed' | 'absent'

/** Where the content of a disk is. `passthrough`: a host device (PCI, SCSI LUN, mdev) that cannot move. */
export type DiskSource =
  | Readonly<{ kind: 'file' | 'block'; path: string }>
  | Readonly<{ kind: 'network'; protocol: string; name: string }>
  | Readonly<{ kind: 'volume'; pool: string; volume: string; path: string }>
  | Readonly<{ kind: 'empty' }>
  | Readonly<{ kind: 'passthrough'; what: string }>

export type GuestDisk = Readonly<{
  /** 'vda', 'xvda'. */
  target: string
  device: 'disk' | 'cdrom' | 'floppy' | 'lun'
  source: DiskSource
  /** As the definition has it: 'raw', 'qcow2'... */
  format: string
  isReadOnly: boolean
  isShareable: boolean
  /** 'none', 'writeback'...; null where the definition does not say. */
  cache: string | null
  /** Backing files of it, nearest first; empty where there are none. */
  backing: readonly string[]
}>

export type GuestNic = Readonly<{
  index: number
  kind: 'network' | 'bridge' | 'user' | 'direct' | 'other'
  name: string | null
  mac: string | null
}>

/** Files that belong to a guest beside its disks. */
export type GuestFile = Readonly<{ kind: 'nvram' | 'tpm'; path: string }>

/** Why a guest cannot be moved in a mode; `code` is for tests and JSON ('snapshots', 'passthrough', 'managed-save', ...). No modes: a warning. */
export type GuestProblem = Readonly<{
  code: string
  text: string
  hint: string
  modes: readonly MigrateMode[]
}>

export type MigrateMode = 'warm' | 'cold' | 'live'

export type Guest = Readonly<{
  name: string
  uuid: string
  state: GuestState
  /** It has a definition that outlives its run. */
  isPersistent: boolean
  autostart: boolean
  memoryBytes: number
  vcpus: number
  /** 'pc-i440fx-7.2'; 'pv', 'pvh', 'hvm' for Xen. */
  machine: string
  disks: readonly GuestDisk[]
  nics: readonly GuestNic[]
  files: readonly GuestFile[]
  /** Of the running guest where it runs, else the persistent one: XML, or xl configuration text. */
  definition: string
  /** The persistent one; null for a transient guest. */
  persistentDefinition: string | null
  /** Where the definition is a file of its own (xl), else null. */
  definitionPath: string | null
  problems: readonly GuestProblem[]
  /** libvirt, of a guest that sees the processor of its host as it is: that processor, as `virsh capabilities` has it. */
  hostCpu?: string
  /** Xen, of a guest that runs: the version of Xen, and the words of `hw_caps` in `xl info` (null where it has none). */
  platform?: Readonly<{ version: string; cpuFeatures: string | null }>
}>

/** What is different for the guest at its destination. */
export type DefinitionChanges = Readonly<{
  /** Target name -> path there, with its kind there. */
  disks: ReadonlyMap<string, Readonly<{ kind: 'file' | 'block'; path: string }>>
  /** Network or bridge name -> name there. */
  networks: ReadonlyMap<string, string>
  /** Path of nvram, tpm -> path there. */
  files: ReadonlyMap<string, string>
}>

/** One problem of a host for a guest that is to run there; all are asked at once. */
/** `weight` warning: it stands in nobody's way, and a person should know it; absent refuses. */
export type HostProblem = Readonly<{ code: string; text: string; hint: string; weight?: 'warning' }>

export type DriverFacts = Readonly<{
  /** '9.0.0' of libvirtd, '4.17' of Xen. */
  version: string
  /** 'QEMU 7.2.22', 'Xen'. */
  hypervisor: string
  uri: string | null
  freeMemoryBytes: number
}>

/** What a source host keeps of a guest that moved away; `unfence` takes it back. JSON, goes into the journal. */
export type Fence = Readonly<{
  id: string
  guest: string
  uuid: string
  /** The name under which the definition is left, null where there was none. */
  renamedTo: string | null
  autostart: boolean
  /** All that unfence needs: definitions, links, paths. */
  kept: Readonly<Record<string, string>>
}>

export type LiveRequest = Readonly<{
  guest: string
  /** Definitions for the destination: of the run, and the one that is to persist (null: transient stays transient). */
  definition: string
  persistentDefinition: string | null
  destinationUri: string
  /** Targets whose storage is copied. */
  copied: readonly string[]
  /** Shared disks were checked by us to be the same at both ends: libvirt need not know them as safe. */
  sharedChecked: boolean
  bandwidthBytes: number | null
  timeoutMs: number
}>

export type LiveProgress = Readonly<{ doneBytes: number; totalBytes: number; remainingBytes: number }>

/** Deadlines are the driver's own, named constants; all rejections are SyncErrors with migrate/hypervisor or migrate/guest. */
export interface Driver {
  readonly kind: HypervisorKind
  readonly host: Host

  /** Rejects with migrate/daemon when the hypervisor cannot be asked. */
  facts(): Promise<DriverFacts>
  /** By name or UUID. Rejects with migrate/guest where there is none, with the names there are as the hint. */
  describe(guest: string): Promise<Guest>
  state(guest: string): Promise<GuestState>
  /** Every guest that is defined or runs. */
  list(): Promise<
    readonly Readonly<{ name: string; uuid: string; state: GuestState; disks: readonly string[] }>[]
  >

  /** The definition for the destination; everything that is not changed stays as it is, comments too. */
  retarget(definition: string, changes: DefinitionChanges): string
  /** What would keep this guest from running on this host: CPU, machine type, memory, networks, names, emulator. */
  checkFor(guest: Guest, definition: string, changes: DefinitionChanges): Promise<readonly HostProblem[]>

  pause(guest: string): Promise<void>
  resume(guest: string): Promise<void>
  /** The guest is gone from memory when it resolves, and all of it is in the file, flushed. After a failure it runs on. */
  save(guest: string, statePath: string): Promise<void>
  /** Paused, from a saved state, with this definition. The state file stays. */
  restorePaused(statePath: string, guest: Guest, definition: string): Promise<void>
  /** Asks the guest to shut down and waits; rejects with migrate/shutdown when it does not within `timeoutMs`. */
  shutdown(guest: string, timeoutMs: number): Promise<void>
  /** Ends it at once, where it runs or is paused; nothing where it does not. The definition stays. */
  destroy(guest: string): Promise<void>
  /** Starts a guest by its persistent definition, or `definition` for one that has none. */
  start(guest: string, definition: string | null): Promise<void>
  /** Makes the definition persistent; for a guest that runs too. */
  define(definition: string, options: Readonly<{ name: string; autostart: boolean }>): Promise<void>
  /** Takes the persistent definition away, where there is one; disks, nvram and a running guest stay. */
  undefine(guest: string): Promise<void>

  /** The guest, which does not run here any more, cannot start here by accident. Again is no error. */
  fence(guest: Guest, id: string): Promise<Fence>
  unfence(fence: Fence): Promise<void>
  /** Fences that are on this host, by what they left there. */
  fences(): Promise<readonly Readonly<{ id: string; guest: string; uuid: string }>[]>

  /** Moves it running (libvirt). Null where this hypervisor has no such way yet. `abort` ends the job; the guest runs on here. */
  live: null | Readonly<{
    migrate(
      request: LiveRequest,
      onProgress: (progress: LiveProgress) => void,
      signal: AbortSignal,
    ): Promise<void>
    abort(guest: string): Promise<void>
    /** At the destination, when it has arrived: for how long it stood still; null where that is not known. */
    downtimeMs(guest: string): Promise<number | null>
  }>
  /** The words of the commands that an action runs, for the plan. */
  words(
    action:
      | 'save'
      | 'restorePaused'
      | 'resume'
      | 'shutdown'
      | 'start'
      | 'define'
      | 'undefine'
      | 'fence'
      | 'live',
    guest: string,
  ): readonly (readonly string[])[]
}
