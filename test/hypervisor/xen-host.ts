// A host with a Xen of our own making: domains in a table, files and links in memory, and the programs that the driver runs.
// Refuses (by throwing) every program and every request that no real one of those would answer.

import { posix } from 'node:path'

import { SyncError } from '../../src/errors.js'
import type { FileFacts, Host, HostFacts, ProgramRequest, ProgramResult } from '../../src/host/host.js'
import { XlConfig } from '../../src/hypervisor/xl-config.js'
import { domainTable, INFO, liveJson, type LiveJson } from './xen-fixtures.js'
import { NoDisks } from '../support/no-disks.js'

export type FakeDomain = { name: string; id: number; flags: string; uuid: string; live: LiveJson }

/** What the next run of a program does instead; the key is its first words ('xl save'). */
export type Fault = (host: XenHost, request: ProgramRequest) => Partial<ProgramResult>

const FACTS: HostFacts = {
  hostName: 'xen1',
  machineId: 'm1',
  bootId: 'b1',
  nowMs: 0,
  memoryBytes: 1 << 30,
  availableMemoryBytes: 1 << 29,
  processors: 1,
  blocksyncVersion: '0.1.0',
  isRoot: true,
  stateDirectory: '/var/lib/blocksync',
  clientAddress: null,
}

export class XenHost extends NoDisks implements Host {
  readonly name = 'xen1'
  readonly kind = 'remote'
  readonly lost: AbortSignal = new AbortController().signal
  readonly files = new Map<string, string>()
  readonly links = new Map<string, string>()
  /** Devices and directories that are there. */
  readonly devices = new Set<string>(['/dev/vg0/web-root', '/dev/vg1/web-root'])
  readonly directories = new Set<string>(['/etc/xen', '/etc/xen/auto', '/sys/class/net/xenbr0'])
  readonly domains: FakeDomain[] = []
  readonly faults = new Map<string, Fault>()
  readonly ran: ProgramRequest[] = []
  info = INFO
  #nextId = 1

  get lines(): readonly string[] {
    return this.ran.map(({ argv }) => argv.join(' '))
  }

  /** Lines of programs that change something. */
  get acts(): readonly string[] {
    return this.lines.filter((line) => !/^(xl (list|info)|ls) /.test(`${line} `))
  }

  addDomain(name: string, uuid: string, flags = '-b----'): FakeDomain {
    const id = this.#nextId++
    const domain = { name, id, flags, uuid, live: liveJson(id, name, uuid) }
    this.domains.push(domain)
    return domain
  }

  removeDomain(word: string): boolean {
    const index = this.domains.findIndex(({ name, id }) => name === word || String(id) === word)
    if (index >= 0) this.domains.splice(index, 1)
    return index >= 0
  }

  async run(request: ProgramRequest): Promise<ProgramResult> {
    this.ran.push(request)
    await Promise.resolve()
    const key = request.argv.slice(0, 2).join(' ')
    const fault = this.faults.get(key)
    this.faults.delete(key)
    const result = fault === undefined ? this.#answer(request) : fault(this, request)
    return { exitStatus: 0, stdout: '', stderrTail: '', ...result }
  }

  #answer({ argv, leavesBehind }: ProgramRequest): Partial<ProgramResult> {
    const [program, verb = '', ...words] = argv
    if (program === 'ls') return { stdout: this.#names(words[0] ?? '') }
    if (program === 'sync') return {}
    if (program === 'ln' && verb === '-sfn') {
      this.links.set(words[1] ?? '', words[0] ?? '')
      return {}
    }
    if (program === 'qemu-img') return { exitStatus: 127, stderrTail: 'not found' }
    if (program !== 'xl') throw new Error(`no such program: ${argv.join(' ')}`)
    if ((verb === 'create' || verb === 'restore') !== (leavesBehind === true)) throw new Error('leavesBehind')
    switch (verb) {
      case 'info':
        return { stdout: this.info }
      case 'list':
        if (words[0] === '-v' || argv[2] === '-v') return { stdout: domainTable(this.domains) }
        return {
          stdout: JSON.stringify([
            { domid: 0, config: { c_info: { name: 'Domain-0' } } },
            ...this.domains.map(({ live }) => live),
          ]),
        }
      case 'save':
        if (!this.removeDomain(words[0] ?? ''))
          return { exitStatus: 2, stderrTail: 'invalid domain identifier' }
        this.files.set(words[1] ?? '', 'state')
        return {}
      case 'restore':
        return this.#boot(words[1] ?? '', '--p---', this.files.has(words[2] ?? ''))
      case 'create':
        return this.#boot(words[1] ?? '', '-b----', true)
      case 'destroy':
        return this.removeDomain(words[0] ?? '') ? {} : { exitStatus: 1, stderrTail: 'invalid domain' }
      case 'pause':
      case 'unpause': {
        const domain = this.domains.find(({ name, id }) => name === words[0] || String(id) === words[0])
        if (domain === undefined)
          return { exitStatus: 1, stderrTail: `${words[0] ?? ''} is an invalid domain identifier (rc=-6)` }
        domain.flags = verb === 'pause' ? '--p---' : '-b----'
        return {}
      }
      case 'shutdown':
        this.removeDomain(words[1] ?? '')
        return {}
      default:
        throw new Error(`no such xl: ${argv.join(' ')}`)
    }
  }

  #boot(path: string, flags: string, hasState: boolean): Partial<ProgramResult> {
    const text = this.files.get(path)
    if (text === undefined || !hasState) return { exitStatus: 1, stderrTail: 'cannot read' }
    const config = XlConfig.parse(text, path)
    this.addDomain(
      config.string('name') ?? '',
      config.string('uuid') ?? '11111111-2222-3333-4444-555555555555',
      flags,
    )
    return {}
  }

  #names(directory: string): string {
    const all = [...this.files.keys(), ...this.links.keys()].filter(
      (path) => posix.dirname(path) === directory,
    )
    return all.map((path) => `${posix.basename(path)}\n`).join('')
  }

  async facts(): Promise<HostFacts> {
    return await Promise.resolve(FACTS)
  }

  async look(path: string): Promise<FileFacts | null> {
    await Promise.resolve()
    const realPath = this.links.get(path) ?? path
    const kind = this.files.has(realPath)
      ? 'file'
      : this.devices.has(realPath)
        ? 'block'
        : this.directories.has(realPath)
          ? 'directory'
          : null
    if (kind === null) return null
    const zero = {
      sizeBytes: 0,
      allocatedBytes: 0,
      mode: 0,
      modifiedNs: '0',
      changedNs: '0',
      written: null,
      isProtected: false,
    }
    return { ...zero, kind, realPath, identity: realPath }
  }

  async readText(path: string, maxBytes: number): Promise<string | null> {
    await Promise.resolve()
    const text = this.files.get(this.links.get(path) ?? path) ?? null
    if (text !== null && text.length > maxBytes) throw new SyncError('host/file', `${path} is too large`)
    return text
  }

  async writeText(
    path: string,
    text: string,
    options: Readonly<{ mode: number; existing: 'replace' | 'refuse' }>,
  ): Promise<void> {
    await Promise.resolve()
    if (options.existing === 'refuse' && this.files.has(path))
      throw new SyncError('host/file', `${path} is there`)
    this.files.set(path, text)
  }

  async makeDirectories(path: string): Promise<readonly string[]> {
    this.directories.add(path)
    return await Promise.resolve([])
  }

  async remove(path: string): Promise<void> {
    await Promise.resolve()
    if (!this.links.delete(path)) this.files.delete(path)
  }

  async rename(from: string, to: string): Promise<void> {
    await Promise.resolve()
    const text = this.files.get(from)
    if (text === undefined || this.files.has(to))
      throw new SyncError('host/file', `${from} cannot be renamed to ${to}`)
    this.files.delete(from)
    this.files.set(to, text)
  }

  space = neverAsked
  makeFile = neverAsked
  protect = neverAsked
  unprotect = neverAsked
  openJournal = neverAsked
  appendJournal = neverAsked
  readJournal = neverAsked
  listJournals = neverAsked
  removeJournal = neverAsked
  workDirectory = neverAsked

  async close(): Promise<void> {
    await Promise.resolve()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

async function neverAsked(): Promise<never> {
  return await Promise.reject(new Error('a driver has no business with this'))
}
