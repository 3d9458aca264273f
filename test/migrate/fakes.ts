// Hosts, drivers and a copier over the two machines of world.ts, as the code under test is given them.

import { SyncError } from '../../src/errors.js'
import type {
  FileFacts,
  Host,
  HostFacts,
  JournalLine,
  JournalName,
  ProgramRequest,
  ProgramResult,
  Protection,
  SpaceFacts,
} from '../../src/host/host.js'
import type {
  Driver,
  Fence,
  Guest,
  GuestState,
  LiveProgress,
  LiveRequest,
} from '../../src/hypervisor/driver.js'
import type { MigrateContext, MigrateEvent } from '../../src/migrate/context.js'
import type { Copier, CopyDisk, CopyHooks, PassResult } from '../../src/migrate/copier.js'
import type { RootFacts } from '../../src/migrate/journal.js'
import {
  diskPaths,
  type CallSession,
  type FakeDefinition,
  type FakeFile,
  type Machine,
  type World,
} from './world.js'
import { NoDisks } from '../support/no-disks.js'

const LOST = { hint: 'look at the line' }

export class FakeHost extends NoDisks implements Host, CallSession {
  readonly name: string
  readonly kind: 'local' | 'remote'
  readonly epoch: number
  readonly machine: Machine
  readonly world: World
  readonly #lost = new AbortController()
  loseDestination: () => void = () => undefined

  constructor(world: World, machine: Machine) {
    super()
    this.world = world
    this.machine = machine
    this.epoch = world.epoch
    this.name = machine.role === 'source' ? 'this host' : 'host2'
    this.kind = machine.role === 'source' ? 'local' : 'remote'
    if (machine.role === 'destination') this.loseDestination = () => void this.lose()
  }

  get lost(): AbortSignal {
    return this.#lost.signal
  }

  get isLost(): boolean {
    return this.#lost.signal.aborted
  }

  lose(): SyncError {
    const error = new SyncError('host/lost', `${this.name} cannot be asked any more`, LOST)
    if (!this.isLost) this.#lost.abort(error)
    return error
  }

  async #call<T>(name: string, kind: 'program' | 'file', effect: () => T): Promise<T> {
    return await this.world.call(this, name, kind, effect)
  }

  async facts(): Promise<HostFacts> {
    const { machine, world } = this
    return await this.#call('facts', 'file', () => ({
      hostName: this.name,
      machineId: machine.role,
      bootId: machine.bootId,
      nowMs: world.nowMs,
      memoryBytes: 1 << 30,
      availableMemoryBytes: 1 << 30,
      processors: 2,
      blocksyncVersion: '0',
      isRoot: true,
      stateDirectory: '/state',
      clientAddress: null,
    }))
  }

  async run(request: ProgramRequest): Promise<ProgramResult> {
    return await this.#call(`run ${request.argv.join(' ')}`, 'program', () => this.#program(request))
  }

  #program({ argv, environment }: ProgramRequest): ProgramResult {
    const { machine, world } = this
    const [program] = argv
    const ok = { exitStatus: 0, stdout: '', stderrTail: '' }
    const failed = (stderrTail: string): ProgramResult => ({ exitStatus: 5, stdout: '', stderrTail })
    if (program === 'lvcreate') {
      const group = argv.at(-1) ?? ''
      const path = `/dev/${group}/${argv[argv.indexOf('--name') + 1] ?? ''}`
      if (machine.files.has(path)) return failed('it exists already')
      machine.files.set(
        path,
        world.newFile('block', Number.parseInt(argv[argv.indexOf('--size') + 1] ?? '', 10)),
      )
      return ok
    }
    if (program === 'lvremove')
      return machine.files.delete(`/dev/${argv.at(-1) ?? ''}`) ? ok : failed('no such volume')
    if (program.startsWith('/hooks/')) {
      this.hooksRun.push({ program, environment: environment ?? {} })
      return this.hookStatus === 0 ? ok : { exitStatus: this.hookStatus, stdout: '', stderrTail: 'no way' }
    }
    return { exitStatus: 127, stdout: '', stderrTail: '' }
  }

  readonly hooksRun: { program: string; environment: Readonly<Record<string, string>> }[] = []
  hookStatus = 0

  async look(path: string): Promise<FileFacts | null> {
    return await this.#call(`look ${path}`, 'file', () => this.#facts(path))
  }

  #facts(path: string): FileFacts | null {
    const file = this.machine.files.get(path)
    if (file === undefined) return null
    const { kind, sizeBytes, allocatedBytes, version, mode, protectedBy, inode } = file
    return {
      kind,
      realPath: path,
      sizeBytes,
      allocatedBytes,
      identity: String(inode),
      mode,
      modifiedNs: `${version}000000`,
      changedNs: `${version}${protectedBy === null ? '0' : '1'}`,
      written: kind === 'block' ? { bootId: this.machine.bootId, sectors: String(version) } : null,
      isProtected: protectedBy !== null,
    }
  }

  async space(path: string): Promise<SpaceFacts> {
    return await this.#call('space', 'file', () => ({
      directory: path,
      fileSystemId: '1',
      freeBytes: 1 << 30,
      fileSystem: 'ext4',
      isWritable: true,
    }))
  }

  async readText(): Promise<string | null> {
    return await this.#call('readText', 'file', () => null)
  }

  async writeText(): Promise<void> {
    await this.#call('writeText', 'file', () => undefined)
  }

  async makeDirectories(path: string): Promise<readonly string[]> {
    return await this.#call(`mkdir ${path}`, 'file', () => {
      this.machine.files.set(path, this.world.newFile('directory', 0))
      return [path]
    })
  }

  async makeFile(path: string, sizeBytes: number, mode: number): Promise<void> {
    await this.#call(`makeFile ${path}`, 'file', () => {
      if (this.machine.files.has(path)) throw new SyncError('host/file', `${path} is there already`)
      this.machine.files.set(path, this.world.newFile('file', sizeBytes, mode))
    })
  }

  async remove(path: string): Promise<void> {
    await this.#call(`remove ${path}`, 'file', () => {
      const inside = [...this.machine.files.keys()].some((other) => other.startsWith(`${path}/`))
      if (inside) throw new SyncError('host/file', `${path} is not empty`)
      this.machine.files.delete(path)
    })
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#call(`rename ${from}`, 'file', () => {
      this.machine.files.set(to, this.machine.file(from))
      this.machine.files.delete(from)
    })
  }

  async protect(path: string, tag: string): Promise<Protection> {
    return await this.#call(`protect ${path}`, 'program', () => {
      const { machine, world } = this
      const isRenamed = path === world.renames
      if (isRenamed) {
        const moved = `${path}.moved-${tag}`
        const file = machine.files.get(moved) ?? machine.file(path)
        file.protectedBy = tag
        machine.files.set(moved, file)
        machine.files.delete(path)
        return { by: 'rename', path, why: null, before: 'writable', tag }
      }
      if (path === world.closes) {
        const file = machine.closed.get(path) ?? machine.file(path)
        file.protectedBy = tag
        machine.closed.set(path, file)
        machine.files.delete(path)
        const volume = { name: path.replace('/dev/', ''), skipped: 'no' } as const
        return { by: 'device', path, why: null, before: 'writable', tag, volume }
      }
      const file = machine.file(path)
      file.protectedBy = tag
      return { by: file.kind === 'block' ? 'device' : 'immutable', path, why: null, before: 'writable', tag }
    })
  }

  async unprotect({ by, path, tag }: Protection): Promise<void> {
    await this.#call(`unprotect ${path}`, 'program', () => {
      const { machine } = this
      const moved = machine.files.get(`${path}.moved-${tag}`)
      if (by === 'rename' && moved !== undefined) {
        machine.files.set(path, moved)
        machine.files.delete(`${path}.moved-${tag}`)
      }
      const closed = machine.closed.get(path)
      if (closed !== undefined) {
        // another device, which has counted nothing yet
        closed.inode = this.world.newFile('block', 0).inode
        machine.files.set(path, closed)
        machine.closed.delete(path)
      }
      machine.file(path).protectedBy = null
    })
  }

  async openJournal(name: JournalName, mode: 'create' | 'continue'): Promise<readonly JournalLine[]> {
    return await this.#call(`openJournal ${name.role}`, 'file', () => {
      const { world, machine } = this
      const key = `${name.id} ${name.role}`
      if (!machine.journals.has(key)) {
        if (mode === 'continue') throw new SyncError('migrate/unknown', `no journal ${key}`)
        machine.journals.set(key, { lines: [], heldBy: null })
      }
      const journal = machine.journals.get(key)
      if (journal === undefined) throw new Error('it was just made')
      // waiting for the lock is waiting for what is at work
      world.finishJobs()
      if (journal.heldBy !== null && journal.heldBy !== this && world.isAlive(journal.heldBy))
        throw new SyncError('migrate/busy', `${key} is under way`)
      journal.heldBy = this
      return [...journal.lines]
    })
  }

  async appendJournal(name: JournalName, line: JournalLine): Promise<void> {
    const what = `append ${name.role} ${String(line['type'])} ${typeof line['step'] === 'string' ? line['step'] : ''}`
    await this.#call(what, 'file', () => {
      const journal = this.world.journalOf(this.machine, name)
      if (journal?.heldBy !== this) throw new Error(`${name.role} is appended to without being held`)
      if (this.machine.isFull) throw new SyncError('host/file', `no space is left for the journal`)
      journal.lines.push(JSON.parse(JSON.stringify(line)) as JournalLine)
    })
  }

  async readJournal(name: JournalName): Promise<readonly JournalLine[] | null> {
    return await this.#call(`readJournal ${name.role}`, 'file', () => {
      const journal = this.world.journalOf(this.machine, name)
      return journal === undefined ? null : [...journal.lines]
    })
  }

  async listJournals(): Promise<readonly JournalName[]> {
    return await this.#call('listJournals', 'file', () =>
      [...this.machine.journals.keys()].map((key) => {
        const [id = '', role = ''] = key.split(' ')
        return { id, role: role === 'source' ? 'source' : 'destination' }
      }),
    )
  }

  async removeJournal({ id, role }: JournalName): Promise<void> {
    await this.#call(`removeJournal ${role}`, 'file', () => this.machine.journals.delete(`${id} ${role}`))
  }

  async workDirectory({ id, role }: JournalName): Promise<string> {
    return await this.#call('workDirectory', 'file', () => `/state/migrate/${id}/${role}.d`)
  }

  async close(): Promise<void> {
    await Promise.resolve()
    for (const journal of this.machine.journals.values()) if (journal.heldBy === this) journal.heldBy = null
    if (this.kind === 'remote') this.lose()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** A definition is the JSON of name, UUID and disks. */
export function definitionText(name: string, uuid: string, role: Machine['role']): string {
  return JSON.stringify({ name, uuid, disks: diskPaths(role) })
}

type Parsed = { name: string; uuid: string; disks: string[] }

export class FakeDriver implements Driver {
  readonly kind = 'libvirt'
  readonly host: FakeHost
  readonly live: Driver['live']
  readonly #peer: Machine

  constructor(host: FakeHost) {
    this.host = host
    this.#peer = host.world.destination
    this.live = {
      migrate: async (request, onProgress, signal) => await this.#migrate(request, onProgress, signal),
      abort: async () => await this.#call('abort', () => undefined),
      downtimeMs: async () => Promise.resolve(120),
    }
  }

  async #call<T>(name: string, effect: () => T): Promise<T> {
    const { world, machine } = this.host
    return await world.call(this.host, name, 'program', () => {
      if (!machine.hasDaemon)
        throw new SyncError('migrate/daemon', `the hypervisor on the ${machine.role} does not answer`)
      return effect()
    })
  }

  get #machine(): Machine {
    return this.host.machine
  }

  async facts(): ReturnType<Driver['facts']> {
    return await this.#call('facts', () => ({
      version: '9',
      hypervisor: 'QEMU',
      uri: null,
      freeMemoryBytes: 1 << 30,
    }))
  }

  #stateOf(name: string): GuestState {
    const guest = this.#machine.guests.get(name)
    if (guest !== undefined) return guest.state
    return this.#machine.definitions.has(name) ? 'off' : 'absent'
  }

  async state(name: string): Promise<GuestState> {
    return await this.#call('state', () => this.#stateOf(name))
  }

  async describe(name: string): Promise<Guest> {
    return await this.#call('describe', () => {
      const guest = this.#machine.guests.get(name)
      const disks = guest?.disks ?? this.#machine.definitions.get(name)?.disks
      if (disks === undefined) throw new SyncError('migrate/guest', `no guest ${name}`)
      return guestOf(name, 'u1', this.#machine.role, this.#stateOf(name), disks)
    })
  }

  async list(): ReturnType<Driver['list']> {
    return await this.#call('list', () => [])
  }

  retarget(definition: string): string {
    return definition
  }

  async checkFor(): ReturnType<Driver['checkFor']> {
    return await this.#call('checkFor', () => [])
  }

  async pause(name: string): Promise<void> {
    await this.#call('pause', () => {
      this.#inMemory(name).state = 'paused'
    })
  }

  #inMemory(name: string): { state: string; memory: number; disks: readonly string[] } {
    const guest = this.#machine.guests.get(name)
    if (guest === undefined) throw new SyncError('migrate/hypervisor', `${name} is not in memory`)
    return guest
  }

  async resume(name: string): Promise<void> {
    await this.#call('resume', () => {
      const guest = this.#inMemory(name)
      const { world } = this.host
      for (const path of guest.disks) {
        const { count } = this.#machine.file(path)
        if (count !== guest.memory)
          world.violations.push(
            `MISMATCH ${path}: disk ${count}, memory ${guest.memory}, highest ${world.highest}`,
          )
      }
      if (guest.memory < world.highest)
        world.violations.push(`an old guest goes on: ${guest.memory} of ${world.highest}`)
      guest.state = 'running'
    })
  }

  async save(name: string, statePath: string): Promise<void> {
    await this.#call('save', () => {
      const { memory } = this.#inMemory(name)
      const file = this.host.world.newFile('file', 1000)
      file.saved = { memory, complete: true }
      this.#machine.files.set(statePath, file)
      this.#machine.guests.delete(name)
    })
  }

  async restorePaused(statePath: string, guest: Guest, definition: string): Promise<void> {
    await this.#call('restorePaused', () => {
      const saved = this.#machine.files.get(statePath)?.saved ?? null
      if (saved === null || !saved.complete)
        throw new SyncError('migrate/hypervisor', `${statePath} is no saved state`)
      const { name, uuid, disks } = JSON.parse(definition) as Parsed
      if (this.#machine.guests.has(guest.name))
        throw new SyncError('migrate/hypervisor', `${name} is there already`)
      const other = [...this.#machine.definitions.values()].find(
        (each) => each.uuid === uuid && each.name !== name,
      )
      if (other !== undefined) throw new SyncError('migrate/hypervisor', `${other.name} has the same UUID`)
      this.#refuseProtected(disks)
      this.#machine.guests.set(name, { state: 'paused', memory: saved.memory, disks })
    })
  }

  #refuseProtected(disks: readonly string[]): void {
    for (const path of disks)
      if (this.#machine.file(path).protectedBy !== null)
        throw new SyncError('migrate/hypervisor', `${path} is read-only`)
  }

  async shutdown(name: string): Promise<void> {
    await this.#call('shutdown', () => {
      if (this.ignoresShutdown) throw new SyncError('migrate/shutdown', `${name} did not shut down`)
      this.#inMemory(name)
      this.#machine.guests.delete(name)
    })
  }

  ignoresShutdown = false

  async destroy(name: string): Promise<void> {
    await this.#call('destroy', () => {
      if (isRunning(this.#machine, name) && this.#machine.role === 'destination')
        this.host.world.violations.push('a guest that runs at the destination is ended')
      this.#machine.guests.delete(name)
    })
  }

  async start(name: string, definition: string | null): Promise<void> {
    await this.#call('start', () => {
      const known = this.#machine.definitions.get(name)
      const disks = definition === null ? known?.disks : (JSON.parse(definition) as Parsed).disks
      if (disks === undefined) throw new SyncError('migrate/hypervisor', `no guest ${name}`)
      if (this.#machine.guests.has(name)) throw new SyncError('migrate/hypervisor', `${name} runs already`)
      this.#refuseProtected(disks)
      this.host.world.bootGuest(this.#machine, { name, uuid: 'u1', autostart: false, disks, movedBy: null })
    })
  }

  async define(definition: string, { name, autostart }: { name: string; autostart: boolean }): Promise<void> {
    await this.#call('define', () => {
      const { uuid, disks } = JSON.parse(definition) as Parsed
      this.#machine.definitions.set(name, { name, uuid, autostart, disks, movedBy: null })
    })
  }

  async undefine(name: string): Promise<void> {
    await this.#call('undefine', () => this.#machine.definitions.delete(name))
  }

  async fence(guest: Guest, id: string): Promise<Fence> {
    return await this.#call('fence', () => {
      const renamedTo = `${guest.name}.moved-${id}`
      if (this.#machine.guests.has(guest.name))
        throw new SyncError('migrate/hypervisor', `${guest.name} runs`)
      const fence = { id, guest: guest.name, uuid: guest.uuid, autostart: guest.autostart, kept: {} }
      if (guest.persistentDefinition === null) return { ...fence, renamedTo: null }
      const definition: FakeDefinition = this.#machine.definitions.get(guest.name) ?? {
        name: guest.name,
        uuid: guest.uuid,
        autostart: false,
        disks: (JSON.parse(guest.persistentDefinition) as Parsed).disks,
        movedBy: null,
      }
      this.#machine.definitions.delete(guest.name)
      this.#machine.definitions.set(renamedTo, {
        ...definition,
        name: renamedTo,
        autostart: false,
        movedBy: id,
      })
      return { ...fence, renamedTo }
    })
  }

  async unfence({ guest, renamedTo, autostart }: Fence): Promise<void> {
    await this.#call('unfence', () => {
      if (renamedTo === null) return
      const fenced = this.#machine.definitions.get(renamedTo) ?? this.#machine.definitions.get(guest)
      if (fenced === undefined) throw new SyncError('migrate/hypervisor', `${renamedTo} is not there`)
      this.#machine.definitions.delete(renamedTo)
      this.#machine.definitions.set(guest, { ...fenced, name: guest, autostart, movedBy: null })
    })
  }

  async fences(): ReturnType<Driver['fences']> {
    return await this.#call('fences', () =>
      [...this.#machine.definitions.values()].flatMap(({ movedBy, uuid, name }) =>
        movedBy === null ? [] : [{ id: movedBy, guest: name.replace(/\.moved-.*$/, ''), uuid }],
      ),
    )
  }

  async #migrate(
    request: LiveRequest,
    onProgress: (progress: LiveProgress) => void,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted()
    onProgress({ doneBytes: 1, totalBytes: 2, remainingBytes: 1 })
    await this.#call('live', () => {
      const { world } = this.host
      const to = this.#peer
      const guest = this.#inMemory(request.guest)
      if (!world.linkIsUp || !to.isUp)
        throw new SyncError('migrate/hypervisor', 'the other libvirt cannot be reached')
      const { name, uuid, disks } = JSON.parse(request.definition) as Parsed
      disks.forEach((path, index) => {
        world.write(to.file(path), this.#machine.file(guest.disks[index] ?? '').count)
      })
      this.#machine.guests.delete(name)
      to.guests.set(name, { state: 'running', memory: guest.memory, disks })
      if (request.persistentDefinition !== null)
        to.definitions.set(name, { name, uuid, autostart: false, disks, movedBy: null })
    })
  }

  words(): readonly (readonly string[])[] {
    return []
  }
}

function isRunning(machine: Machine, name: string): boolean {
  return machine.guests.get(name)?.state === 'running'
}

export function guestOf(
  name: string,
  uuid: string,
  role: Machine['role'],
  state: GuestState,
  disks: readonly string[],
): Guest {
  const definition = definitionText(name, uuid, role)
  return {
    name,
    uuid,
    state,
    isPersistent: true,
    autostart: true,
    memoryBytes: 1 << 20,
    vcpus: 1,
    machine: 'pc',
    disks: disks.map((path, index) => ({
      target: `vd${'ab'[index] ?? '?'}`,
      device: 'disk',
      source: { kind: path.startsWith('/dev/') ? 'block' : 'file', path },
      format: 'raw',
      isReadOnly: false,
      isShareable: false,
      cache: 'none',
      backing: [],
    })),
    nics: [],
    files: [],
    definition,
    persistentDefinition: definition,
    definitionPath: null,
    problems: [],
  }
}

/** Copies counts from machine to machine, one disk after the other. */
export class FakeCopier implements Copier {
  readonly #session: () => FakeHost
  readonly #world: World

  constructor(world: World, session: () => FakeHost) {
    this.#world = world
    this.#session = session
  }

  async #call<T>(name: string, effect: () => T): Promise<T> {
    return await this.#world.call(this.#session(), name, 'program', effect)
  }

  async pass(disks: readonly CopyDisk[], { signal, onProgress }: CopyHooks): Promise<PassResult> {
    const startMs = this.#world.nowMs
    const roots: Record<string, RootFacts> = {}
    const sizes: Record<string, number> = {}
    for (const { target, sourcePath, destinationPath } of disks) {
      await this.#call(`pass ${target}`, () => {
        signal.throwIfAborted()
        const from = this.#world.source.file(sourcePath)
        this.#copy(from, destinationPath)
        roots[target] = rootOf(from)
        sizes[target] = from.sizeBytes
      })
      onProgress({ doneBytes: 1, totalBytes: 1, sentBytes: 1 })
    }
    const sentBytes = 4096 * disks.length
    return {
      sentBytes,
      wireBytes: sentBytes,
      durationMs: this.#world.nowMs - startMs,
      bytesPerSecond: 1e8,
      roots,
      sizes,
    }
  }

  #copy(from: FakeFile, destinationPath: string): void {
    const { destination, linkIsUp } = this.#world
    if (!linkIsUp || !destination.isUp) throw new SyncError('session/lost', 'the connection broke')
    const to = destination.file(destinationPath)
    if (to.protectedBy !== null) throw new SyncError('destination/open', `${destinationPath} is read-only`)
    for (const guest of destination.guests.values())
      if (guest.disks.includes(destinationPath))
        throw new SyncError('guard/guest', `${destinationPath} is in use`)
    if (to.sizeBytes < from.sizeBytes) {
      if (to.kind === 'block') throw new SyncError('guard/size', 'too small')
      to.sizeBytes = from.sizeBytes
    }
    this.#world.write(to, from.count)
  }

  async copyFile(
    sourcePath: string,
    destinationPath: string,
    { signal }: CopyHooks,
  ): ReturnType<Copier['copyFile']> {
    return await this.#call(`copyFile ${destinationPath}`, () => {
      signal.throwIfAborted()
      const { source, destination, linkIsUp } = this.#world
      if (!linkIsUp || !destination.isUp) throw new SyncError('session/lost', 'the connection broke')
      const from = source.file(sourcePath)
      const to = this.#world.newFile('file', from.sizeBytes)
      to.saved = from.saved
      to.count = from.count
      destination.files.set(destinationPath, to)
      return { sentBytes: 1, wireBytes: 1, durationMs: 1 }
    })
  }

  prepare(): void {
    // connections of the engine; the fakes have none
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  async digest(path: string, _facts: RootFacts): Promise<string> {
    return await this.#call(`digest ${path}`, () => rootOf(this.#world.source.file(path)).root)
  }
}

function rootOf({ count, sizeBytes }: FakeFile): RootFacts {
  return {
    algorithm: 'sha256',
    seed: '00',
    blockBytes: 1,
    leafBytes: 1,
    lengthBytes: sizeBytes,
    root: `${count} in ${sizeBytes}`,
  }
}

export type Contexts = Readonly<{
  context: MigrateContext
  host: FakeHost
  events: MigrateEvent[]
  interrupt: AbortController
}>

/** What one controller is given. */
export function contextOf(world: World): Contexts {
  const host = new FakeHost(world, world.source)
  const events: MigrateEvent[] = []
  const interrupt = new AbortController()
  let there: FakeHost | null = null
  host.loseDestination = () => void there?.lose()
  const context: MigrateContext = {
    source: host,
    openDestination: async () => {
      const opened = new FakeHost(world, world.destination)
      await world.call(host, 'connect', 'file', () => {
        if (!world.linkIsUp || !world.destination.isUp)
          throw new SyncError('connect/refused', 'host2 does not answer')
      })
      there = opened
      return opened
    },
    driverFor: async (at) => {
      await Promise.resolve()
      if (!(at instanceof FakeHost)) throw new Error('not one of ours')
      return new FakeDriver(at)
    },
    copier: new FakeCopier(world, () => host),
    clock: {
      nowMs: () => world.nowMs,
      wallMs: () => world.nowMs,
      sleep: async (durationMs) => {
        await Promise.resolve()
        world.nowMs += durationMs
        world.finishJobs()
      },
    },
    onEvent: (event) => void events.push(event),
    signal: interrupt.signal,
  }
  return { context, host, events, interrupt }
}
