// Two hosts and their hypervisors as data: files, devices, programs and guests that a test lays out, and what was written.

import { posix } from 'node:path'

import { SyncError } from '../../src/errors.js'
import type {
  FileFacts,
  Host,
  HostFacts,
  JournalLine,
  JournalName,
  ProgramRequest,
  ProgramResult,
  SpaceFacts,
} from '../../src/host/host.js'
import type { Driver, Guest, GuestDisk, HostProblem, HypervisorKind } from '../../src/hypervisor/driver.js'
import { makePlan, type Planned, type PlanRequest } from '../../src/migrate/make-plan.js'
import type { OpenMigration } from '../../src/migrate/preflight.js'
import { NoDisks } from '../support/no-disks.js'

export const MIB = 1 << 20
export const GIB = 1 << 30

export type Entry = Partial<FileFacts> & { text?: string }

/** Entries are by path; directories exist where something is below them, and where they are named. */
export type Layout = {
  entries?: Record<string, Entry>
  /** By the program and its last word, or the program alone. */
  programs?: Record<string, Partial<ProgramResult>>
  facts?: Partial<HostFacts>
  space?: Partial<SpaceFacts>
  /** Directories whose files are those of the other host, too. */
  sharedWith?: FakeHost
  sharedDirectory?: string
  readOnly?: string[]
  /** Of the role source, by ID. */
  journals?: Record<string, JournalLine[]>
}

export class FakeHost extends NoDisks implements Host {
  readonly lost: AbortSignal = new AbortController().signal
  readonly name: string
  readonly kind: 'local' | 'remote'
  readonly entries = new Map<string, Entry>()
  /** Everything that was written or removed, in order. */
  readonly changes: string[] = []
  readonly ran: string[] = []
  readonly #layout: Layout

  constructor(name: string, kind: 'local' | 'remote', layout: Layout) {
    super()
    this.name = name
    this.kind = kind
    this.#layout = layout
    for (const [path, entry] of Object.entries(layout.entries ?? {})) this.entries.set(path, entry)
  }

  facts(): Promise<HostFacts> {
    return Promise.resolve({
      hostName: this.name,
      machineId: `machine of ${this.name}`,
      bootId: `boot of ${this.name}`,
      nowMs: 1_000_000,
      memoryBytes: 8 * GIB,
      availableMemoryBytes: 4 * GIB,
      processors: 2,
      blocksyncVersion: '0.1.0',
      isRoot: true,
      stateDirectory: '/var/lib/blocksync',
      clientAddress: null,
      ...this.#layout.facts,
    })
  }

  run({ argv }: ProgramRequest): Promise<ProgramResult> {
    this.ran.push(argv.join(' '))
    const { programs = {} } = this.#layout
    const known = programs[`${argv[0]} ${argv.at(-1) ?? ''}`] ?? programs[argv[0]]
    const missing = argv[0] === 'wc' ? {} : { exitStatus: 2 }
    return Promise.resolve({ exitStatus: 0, stdout: '', stderrTail: '', ...(known ?? missing) })
  }

  look(path: string): Promise<FileFacts | null> {
    const entry = this.#entryOf(path)
    const isDirectory =
      entry === undefined && [...this.entries.keys()].some((one) => one.startsWith(`${path}/`))
    if (entry === undefined && !isDirectory) return Promise.resolve(null)
    const sizeBytes = entry?.sizeBytes ?? entry?.text?.length ?? 0
    return Promise.resolve({
      kind: isDirectory ? 'directory' : 'file',
      realPath: path,
      sizeBytes,
      allocatedBytes: sizeBytes,
      identity: `8:1:${path}`,
      mode: 0o644,
      modifiedNs: '0',
      changedNs: '0',
      written: null,
      isProtected: false,
      ...entry,
    })
  }

  async space(path: string): Promise<SpaceFacts> {
    let directory = posix.dirname(path)
    while (directory !== '/' && (await this.look(directory)) === null) directory = posix.dirname(directory)
    const isWritable = !(this.#layout.readOnly ?? []).includes(directory)
    return {
      directory,
      fileSystemId: '8:1',
      freeBytes: 100 * GIB,
      fileSystem: 'ext4',
      isWritable,
      ...this.#layout.space,
    }
  }

  readText(path: string): Promise<string | null> {
    return Promise.resolve(this.#entryOf(path)?.text ?? null)
  }

  writeText(path: string, text: string): Promise<void> {
    if ((this.#layout.readOnly ?? []).includes(posix.dirname(path)))
      return Promise.reject(
        new SyncError('host/file', `${path} could not be written: the file system is read-only`),
      )
    this.changes.push(`write ${posix.dirname(path)}`)
    this.entries.set(path, { text })
    return Promise.resolve()
  }

  remove(path: string): Promise<void> {
    this.changes.push(`remove ${posix.dirname(path)}`)
    this.entries.delete(path)
    return Promise.resolve()
  }

  #entryOf(path: string): Entry | undefined {
    const { sharedWith, sharedDirectory = '' } = this.#layout
    if (sharedWith !== undefined && path.startsWith(`${sharedDirectory}/`))
      return sharedWith.entries.get(path)
    return this.entries.get(path)
  }

  listJournals(): Promise<readonly JournalName[]> {
    return Promise.resolve(Object.keys(this.#layout.journals ?? {}).map((id) => ({ id, role: 'source' })))
  }

  readJournal({ id }: JournalName): Promise<readonly JournalLine[] | null> {
    return Promise.resolve(this.#layout.journals?.[id] ?? null)
  }

  // whatever changes a host is not for a plan
  makeDirectories = refused
  makeFile = refused
  rename = refused
  protect = refused
  unprotect = refused
  openJournal = refused
  appendJournal = refused
  removeJournal = refused
  workDirectory = refused
  close = (): Promise<void> => Promise.resolve()
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

function refused(): Promise<never> {
  return Promise.reject(new Error('a plan changes nothing'))
}

export function disk(changes: Partial<GuestDisk> = {}): GuestDisk {
  return {
    target: 'vda',
    device: 'disk',
    source: { kind: 'file', path: '/srv/vm/a.img' },
    format: 'raw',
    isReadOnly: false,
    isShareable: false,
    cache: 'none',
    backing: [],
    ...changes,
  }
}

export function guest(changes: Partial<Guest> = {}): Guest {
  const definition = '<domain>\n  <name>web</name>\n  <disk path="/srv/vm/a.img"/>\n</domain>\n'
  return {
    name: 'web',
    uuid: 'aaaa',
    state: 'running',
    isPersistent: true,
    autostart: false,
    memoryBytes: 128 * MIB,
    vcpus: 1,
    machine: 'pc',
    disks: [disk()],
    nics: [],
    files: [],
    definition,
    persistentDefinition: definition,
    definitionPath: null,
    problems: [],
    ...changes,
  }
}

type Listed = Awaited<ReturnType<Driver['list']>>

export type DriverLayout = {
  kind?: HypervisorKind
  guest?: Guest
  guests?: Listed
  fences?: Awaited<ReturnType<Driver['fences']>>
  problems?: HostProblem[]
  live?: 'yes' | 'no'
}

export function fakeDriver(host: Host, layout: DriverLayout = {}): Driver {
  const { kind = 'libvirt' } = layout
  return {
    kind,
    host,
    facts: () =>
      Promise.resolve({
        version: '9.0.0',
        hypervisor: 'QEMU 7.2',
        uri: 'qemu:///system',
        freeMemoryBytes: 4 * GIB,
      }),
    describe: (name) => {
      if (layout.guest !== undefined && layout.guest.name === name) return Promise.resolve(layout.guest)
      return Promise.reject(
        new SyncError('migrate/guest', `there is no guest ${name}`, { operand: name, hint: 'There is web.' }),
      )
    },
    state: () => Promise.resolve('running'),
    list: () => Promise.resolve(layout.guests ?? []),
    retarget: (definition, { disks, networks, files }) => {
      let text = definition
      for (const [target, { path }] of disks)
        text = text.replace(/<disk path="[^"]*"/, `<disk path="${path}" target="${target}"`)
      for (const [from, to] of [...networks, ...files]) text = text.replaceAll(from, to)
      return text
    },
    checkFor: () => Promise.resolve(layout.problems ?? []),
    pause: refused,
    resume: refused,
    save: refused,
    restorePaused: refused,
    shutdown: refused,
    destroy: refused,
    start: refused,
    define: refused,
    undefine: refused,
    fence: refused,
    unfence: refused,
    fences: () => Promise.resolve(layout.fences ?? []),
    live: layout.live === 'no' ? null : { migrate: refused, abort: refused, downtimeMs: refused },
    words: (action, name) => [
      action === 'live'
        ? ['virsh', 'migrate', name, '<uri>', '--migrate-disks', '<disks>']
        : ['virsh', action, name],
    ],
  }
}

export type Stage = {
  guest?: Guest
  source?: Layout
  destination?: Layout
  sourceDriver?: DriverLayout
  destinationDriver?: DriverLayout
  request?: Partial<PlanRequest>
  open?: OpenMigration[]
  /** IDs of those that were put back, with something left at the destination. */
  leftBehind?: string[]
}

export function planRequest(changes: Partial<PlanRequest> = {}): PlanRequest {
  return {
    id: '20260102-aabbcc',
    guest: 'web',
    typedHost: 'root@host2',
    login: { host: 'host2', user: 'root', port: null },
    identity: null,
    connection: {},
    uriFromSource: null,
    mode: 'auto',
    chosen: { maps: [], networks: [], disks: null, shared: [] },
    create: { kind: 'none' },
    definition: null,
    bytesPerSecond: null,
    options: {
      maxRounds: 8,
      downtimeTargetMs: 5000,
      shutdownTimeoutMs: 180_000,
      forceOff: 'no',
      start: 'no',
      undefineSource: 'no',
      hooksDirectory: null,
    },
    ...changes,
  }
}

export type Played = Planned & { codes: string[]; source: FakeHost; destination: FakeHost }

/** The plan for a guest with one image of 64 MiB, which is on both hosts unless a test says otherwise. */
export async function played(stage: Stage = {}): Promise<Played> {
  const image = { '/srv/vm/a.img': { sizeBytes: 64 * MIB } }
  const source = new FakeHost('this host', 'local', { entries: image, ...stage.source })
  const there: Layout = {
    entries: { '/srv/vm/a.img': { sizeBytes: 64 * MIB, allocatedBytes: 0 } },
    ...stage.destination,
  }
  const destination = new FakeHost(
    'root@host2',
    'remote',
    there.sharedDirectory === undefined ? there : { ...there, sharedWith: source },
  )
  // the first measurement is of the way, the second of half a MiB: 1 MiB a second
  const times = [0, 100, 100, 700]
  const planned = await makePlan(planRequest(stage.request), {
    source,
    destination,
    sourceDriver: fakeDriver(source, { guest: stage.guest ?? guest(), ...stage.sourceDriver }),
    destinationDriver: fakeDriver(destination, stage.destinationDriver),
    openMigrations: (host) => Promise.resolve(host === source ? (stage.open ?? []) : []),
    leftBehind: (host) => Promise.resolve(host === source ? (stage.leftBehind ?? []) : []),
    clock: { nowMs: () => times.shift() ?? 0 },
  })
  return { ...planned, codes: planned.plan.problems.map(({ code }) => code), source, destination }
}
