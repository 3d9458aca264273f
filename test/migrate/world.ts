// Two machines with durable disks and journals, guests that count, and a controller that may be killed: every call of the
// code under test passes through `call`, where a fault may wait for it. Watches that there are never two and never none.

import { SyncError } from '../../src/errors.js'
import type { JournalLine, JournalName } from '../../src/host/host.js'

export const FAULTS = [
  'fails before',
  'fails after',
  'hangs',
  'killed before',
  'killed in the middle',
  'killed after',
  'link drops before',
  'link drops after',
  'link flaps before',
  'link flaps after',
  'destination dies',
  'destination dies after',
  'source daemon dies',
] as const
export type Fault = (typeof FAULTS)[number]

/** What is at a path. `count`: of a disk, what the guest wrote last. */
export type FakeFile = {
  kind: 'file' | 'block' | 'directory'
  sizeBytes: number
  allocatedBytes: number
  count: number
  version: number
  mode: number
  protectedBy: string | null
  inode: number
  saved: { memory: number; complete: boolean } | null
}

export type FakeGuest = {
  state: 'running' | 'paused' | 'saving' | 'stopping'
  memory: number
  disks: readonly string[]
}

export type FakeDefinition = {
  name: string
  uuid: string
  autostart: boolean
  disks: readonly string[]
  movedBy: string | null
}

type Journal = { lines: JournalLine[]; heldBy: object | null }

/** Work that goes on though who asked for it is gone. */
type Job = { at: Machine; finish: () => void }

export class Machine {
  readonly role: 'source' | 'destination'
  bootNumber = 1
  isUp = true
  hasDaemon = true
  /** Appending to a journal fails from this call on. */
  isFull = false
  readonly files = new Map<string, FakeFile>()
  /** Volumes that are not active, by the path that they have when they are. */
  readonly closed = new Map<string, FakeFile>()
  readonly journals = new Map<string, Journal>()
  readonly guests = new Map<string, FakeGuest>()
  readonly definitions = new Map<string, FakeDefinition>()

  constructor(role: Machine['role']) {
    this.role = role
  }

  get bootId(): string {
    return `${this.role} boot ${this.bootNumber}`
  }

  file(path: string): FakeFile {
    const file = this.files.get(path)
    if (file === undefined) throw new SyncError('host/file', `${path} is not there`, { operand: path })
    return file
  }
}

export class World {
  readonly source = new Machine('source')
  readonly destination = new Machine('destination')
  linkIsUp = true
  /** Of the controller that lives; calls of an earlier one never come back. */
  epoch = 1
  calls = 0
  nowMs = 1_000_000
  /** The highest number that a guest wrote anywhere. */
  highest = 0
  readonly faults = new Map<number, Fault>()
  /** Calls of this name fail whenever they are made. */
  failing: string | null = null
  readonly trace: string[] = []
  readonly violations: string[] = []
  /** Live moves have an instant in which the definition that is left could be started. */
  watchesDefinitions: boolean
  /** A file that cannot be made immutable: protecting it renames it. */
  renames: string | null = null
  /** A volume of LVM: protecting it deactivates it, and then there is nothing at its path. */
  closes: string | null = null
  #jobs: Job[] = []
  #inodes = 100
  #killed: () => void = () => undefined
  whenKilled: Promise<void> = Promise.resolve()

  constructor(watchesDefinitions = true) {
    this.watchesDefinitions = watchesDefinitions
    this.revive()
  }

  /** A new controller may begin. */
  revive(): void {
    this.whenKilled = new Promise((resolve) => (this.#killed = resolve))
  }

  kill(): void {
    this.epoch += 1
    for (const machine of [this.source, this.destination]) this.#freeLocks(machine)
    this.#killed()
  }

  #freeLocks(machine: Machine): void {
    const isBusy = this.#jobs.some(({ at }) => at === machine)
    for (const journal of machine.journals.values()) if (!isBusy) journal.heldBy = null
  }

  newFile(kind: FakeFile['kind'], sizeBytes: number, mode = 0o600): FakeFile {
    this.#inodes += 1
    return {
      kind,
      sizeBytes,
      allocatedBytes: 0,
      count: 0,
      version: this.nowMs,
      mode,
      protectedBy: null,
      inode: this.#inodes,
      saved: null,
    }
  }

  cutLink(): void {
    this.linkIsUp = false
    this.#freeLocks(this.destination)
  }

  /** Power is gone: memory too, disks and journals stay. */
  crash(machine: Machine): void {
    machine.isUp = false
    machine.guests.clear()
    machine.bootNumber += 1
    this.#jobs = this.#jobs.filter(({ at }) => at !== machine)
    for (const file of machine.files.values()) if (file.kind === 'block') file.protectedBy = null
    for (const journal of machine.journals.values()) journal.heldBy = null
  }

  boot(machine: Machine): void {
    if (machine.isUp) return
    machine.isUp = true
    for (const definition of machine.definitions.values()) {
      const isFree = definition.disks.every((path) => machine.files.get(path)?.protectedBy === null)
      if (definition.autostart && definition.movedBy === null && isFree) this.bootGuest(machine, definition)
    }
  }

  /** From its disks, as after a power cut. */
  bootGuest(machine: Machine, { name, disks }: FakeDefinition): void {
    const counts = disks.map((path) => machine.file(path).count)
    const memory = Math.max(...counts)
    if (Math.min(...counts) !== memory)
      this.violations.push(`boots from disks that are not of one moment: ${counts.join()}`)
    if (memory < this.highest) this.violations.push(`boots an old copy: ${memory} of ${this.highest}`)
    machine.guests.set(name, { state: 'running', memory, disks })
    this.check(`boot on the ${machine.role}`)
  }

  /** What was at work without its controller comes to its end. */
  finishJobs(): void {
    const jobs = this.#jobs
    this.#jobs = []
    for (const { finish } of jobs) finish()
    if (jobs.length > 0) for (const machine of [this.source, this.destination]) this.#freeStale(machine)
  }

  #freeStale(machine: Machine): void {
    for (const journal of machine.journals.values())
      if (journal.heldBy !== null && !this.isAlive(journal.heldBy)) journal.heldBy = null
  }

  isAlive(session: object): boolean {
    return (
      'epoch' in session && session.epoch === this.epoch && !('isLost' in session && session.isLost === true)
    )
  }

  journalOf(machine: Machine, { id, role }: JournalName): Journal | undefined {
    return machine.journals.get(`${id} ${role}`)
  }

  /** Every guest that runs writes its next number to all of its disks. */
  tick(): void {
    this.nowMs += 1
    for (const machine of [this.source, this.destination]) {
      for (const guest of machine.guests.values()) {
        if (guest.state !== 'running') continue
        guest.memory += 1
        for (const path of guest.disks) this.write(machine.file(path), guest.memory)
        this.highest = Math.max(this.highest, guest.memory)
      }
    }
  }

  write(file: FakeFile, count: number): void {
    file.count = count
    file.version = this.nowMs
    file.allocatedBytes = file.sizeBytes
  }

  /** Somebody else, another guest or a person, writes to a disk that nobody has open. */
  foreignWrite(machine: Machine, path: string): void {
    const file = machine.files.get(path)
    const isOpen = [...machine.guests.values()].some(({ disks }) => disks.includes(path))
    if (file === undefined || isOpen || file.protectedBy !== null) return
    this.nowMs += 60_000
    this.highest += 1
    for (const disk of diskPaths(machine.role)) {
      const other = machine.files.get(disk)
      if (other !== undefined) this.write(other, this.highest)
    }
  }

  /**
   * One call of the code under test: `effect` is what it does, `half` what of it is done when its controller dies meanwhile
   * (null: nothing), `job` whether it then goes on by itself.
   */
  async call<T>(session: CallSession, name: string, kind: 'program' | 'file', effect: () => T): Promise<T> {
    await Promise.resolve()
    if (session.epoch !== this.epoch) return await never()
    const { machine } = session
    const index = this.calls
    this.calls += 1
    this.trace.push(`${machine.role}: ${name}`)
    const fault = this.faults.get(index) ?? null
    const isRemote = machine.role === 'destination'
    const failed = (): SyncError =>
      new SyncError(
        kind === 'program' ? 'migrate/hypervisor' : 'host/file',
        `${name} on the ${machine.role} failed`,
      )
    this.tick()
    if (isRemote && (session.isLost || !this.linkIsUp || !machine.isUp)) throw session.lose()
    const act = (): T => {
      const result = effect()
      this.check(name)
      return result
    }
    if (`${machine.role}: ${name}` === this.failing) throw failed()
    switch (fault) {
      case null:
        return act()
      case 'fails before':
        throw failed()
      case 'fails after':
        act()
        throw failed()
      case 'hangs':
        this.nowMs += 3_600_000
        throw new SyncError('host/program', `${name} did not end in time`)
      case 'killed before':
        this.kill()
        return await never()
      case 'killed in the middle':
        if (kind === 'program') this.#jobs.push({ at: machine, finish: () => ignoreFailure(act) })
        this.kill()
        return await never()
      case 'killed after':
        act()
        this.kill()
        return await never()
      case 'link drops before':
      case 'link flaps before':
        this.cutLink()
        session.loseDestination()
        if (fault === 'link flaps before') this.linkIsUp = true
        if (isRemote) throw session.lose()
        return act()
      case 'link drops after':
      case 'link flaps after': {
        const result = act()
        this.cutLink()
        session.loseDestination()
        if (fault === 'link flaps after') this.linkIsUp = true
        if (isRemote) throw session.lose()
        return result
      }
      case 'destination dies':
        this.crash(this.destination)
        session.loseDestination()
        if (isRemote) throw session.lose()
        return act()
      case 'destination dies after': {
        const result = act()
        this.crash(this.destination)
        session.loseDestination()
        if (isRemote) throw session.lose()
        return result
      }
      case 'source daemon dies':
        this.source.hasDaemon = false
        return act()
      default:
        throw new Error(`unknown fault ${String(fault satisfies never)}`)
    }
  }

  /** Never two that run or could be started by accident; and somewhere all disks have all that was ever written. */
  check(when: string): void {
    const machines = [this.source, this.destination]
    const running = machines.filter((machine) => isRunningOn(machine))
    if (running.length > 1) this.violations.push(`${when}: it runs on both`)
    if (this.watchesDefinitions && machines.every((machine) => isRunnableOn(machine)))
      this.violations.push(`${when}: it could run on both`)
    for (const { lines } of this.destination.journals.values())
      if (lines.some(({ type }) => type === 'go') && lines.some(({ type }) => type === 'aborted'))
        this.violations.push(`${when}: go and aborted in one journal`)
    if (!machines.some((machine) => this.hasAll(machine)))
      this.violations.push(`${when}: nobody has all that was written`)
  }

  hasAll(machine: Machine): boolean {
    const disks = diskPaths(machine.role)
    return disks.every((path) => {
      const file =
        machine.files.get(path) ??
        machine.closed.get(path) ??
        [...machine.files.entries()].find(([at]) => at.startsWith(`${path}.moved-`))?.[1]
      return file?.count === this.highest
    })
  }
}

export type CallSession = {
  machine: Machine
  epoch: number
  isLost: boolean
  /** The connection of this session ends; the error of it. */
  lose: () => SyncError
  loseDestination: () => void
}

export function diskPaths(role: Machine['role']): readonly string[] {
  return role === 'source' ? ['/a/vda.img', '/dev/vg/vdb'] : ['/b/vda.img', '/dev/vg2/vdb']
}

export function isRunningOn(machine: Machine): boolean {
  return [...machine.guests.values()].some(({ state }) => state === 'running')
}

function isRunnableOn(machine: Machine): boolean {
  if (isRunningOn(machine)) return true
  return [...machine.definitions.values()].some(
    ({ movedBy, disks }) =>
      movedBy === null && disks.every((path) => machine.files.get(path)?.protectedBy === null),
  )
}

async function never<T>(): Promise<T> {
  return await new Promise<T>(() => undefined)
}

function ignoreFailure(act: () => unknown): void {
  try {
    act()
  } catch (error) {
    // nobody is left to hear of it
    if (!(error instanceof SyncError)) throw error
  }
}
