// Hosts, snapshots and the engine over a World, as an attempt is given them.

import { SyncError, toSyncError } from '../../src/errors.js'
import type {
  FileFacts,
  Host,
  HostFacts,
  ProgramRequest,
  ProgramResult,
  UndoneSteps,
} from '../../src/host/host.js'
import type { AttemptContext, RunSync } from '../../src/replicate/context.js'
import type { Cut, SnapshotMethod } from '../../src/snapshot/snapshot.js'
import type { DiskReport } from '../../src/sync/report.js'
import { LOST, type World } from './world.js'

export const STATE = '/state'
const OK: ProgramResult = { exitStatus: 0, stdout: '', stderrTail: '' }

function bad(why: string): ProgramResult {
  return { exitStatus: 1, stdout: '', stderrTail: why }
}

/** `here`: the controller's host. Locks of dead sessions are let go at once. */
export function fakeHost(world: World, kind: 'local' | 'remote'): Host {
  const where = kind === 'local' ? 'here' : 'there'
  const call = async <T>(name: string, act: () => T): Promise<T> => world.call(name, where, act)
  const unexpected = async (): Promise<never> => Promise.reject(new Error('nobody asks for that'))
  const look = (path: string): FileFacts | null => {
    const disk = world.disks.get(path)
    if (disk === undefined) return null
    return {
      kind: 'file',
      realPath: path,
      sizeBytes: disk.bytes.length,
      allocatedBytes: disk.bytes.length,
      identity: path,
      mode: disk.mode,
      modifiedNs: '0',
      changedNs: '0',
      written: null,
      isProtected: disk.isProtected,
    }
  }
  const host: Host = {
    name: kind === 'local' ? 'this host' : 'kvm2',
    kind,
    lost: kind === 'local' ? new AbortController().signal : world.lost.signal,
    facts: async () => call(`${kind} facts`, () => factsOf(world, kind)),
    run: async (request) => call(`run ${request.argv.slice(0, 2).join(' ')}`, () => run(world, request)),
    look: async (path) => call('look', () => look(path)),
    space: async (path) =>
      call('space', () => ({
        directory: '/r',
        fileSystemId: '1',
        freeBytes: 1,
        fileSystem: world.disk(path).fileSystem,
        isWritable: true,
      })),
    readText: async (path) => call('readText', () => world.texts.get(path) ?? null),
    writeText: async (path, text) =>
      call('writeText', () => {
        if (world.isFull === 'all' && text.length > (world.texts.get(path)?.length ?? 0))
          throw new SyncError('host/file', 'no space is left there')
        world.texts.set(path, text)
      }),
    makeDirectories: async () => call('makeDirectories', () => []),
    makeFile: unexpected,
    remove: async (path) =>
      call('remove', () => {
        world.copies.delete(path)
        world.texts.delete(path)
      }),
    rename: async (from, to) =>
      call('rename', () => {
        const copy = world.copies.get(from)
        if (copy === undefined || world.copies.has(to))
          throw new SyncError('host/file', `cannot rename ${from}`)
        world.copies.delete(from)
        world.copies.set(to, copy)
      }),
    protect: unexpected,
    unprotect: unexpected,
    openJournal: unexpected,
    appendJournal: unexpected,
    readJournal: unexpected,
    listJournals: unexpected,
    removeJournal: unexpected,
    workDirectory: unexpected,
    takeLock: async () => call('takeLock', () => undefined),
    undoSteps: async (path) => call('undoSteps', () => world.disk(path).groups.map(({ step }) => step)),
    undoBack: async (path, through) => undoBack(world, path, through, call),
    dropUndo: async (path, through) => {
      // each by itself, the oldest first
      const last = world.disk(path).groups.findIndex(({ step }) => step.group === through)
      for (let left = last + 1; left > 0; left -= 1)
        await call('dropUndo', () => {
          world.disk(path).groups.shift()
        })
    },
    digest: unexpected,
    writeOut: unexpected,
    close: async () => Promise.resolve(),
    [Symbol.asyncDispose]: async () => Promise.resolve(),
  }
  return host
}

function factsOf(world: World, kind: 'local' | 'remote'): HostFacts {
  return {
    hostName: kind === 'local' ? 'kvm1' : 'kvm2',
    machineId: (kind === 'local' ? 'a' : 'b').repeat(32),
    bootId: 'boot',
    nowMs: world.nowMs,
    memoryBytes: 1,
    availableMemoryBytes: 1,
    processors: 1,
    blocksyncVersion: '0',
    isRoot: true,
    stateDirectory: STATE,
    clientAddress: kind === 'local' ? null : '10.0.0.1',
  }
}

function run(world: World, { argv }: ProgramRequest): ProgramResult {
  const [program, ...words] = argv
  const path = words.at(-1) ?? ''
  switch (program) {
    case 'chattr':
      // ext4 and xfs can; the second disk stands for a file system that cannot
      if (!path.endsWith('vda')) return bad('Operation not supported')
      world.disk(path).isProtected = words[0] === '+i'
      return OK
    case 'chmod':
      if (world.disks.has(path)) world.disk(path).mode = Number.parseInt(words[0] ?? '', 8)
      return OK
    case 'cp': {
      const [, , from = '', to = ''] = words
      const disk = world.disk(from)
      if (world.copies.has(to)) throw new Error(`${to} is there`)
      world.copies.set(to, { bytes: [...disk.bytes], isComplete: true })
      return OK
    }
    case 'sync':
      return OK
    case 'ls': {
      const inside = [...world.copies.keys()].filter((each) => each.startsWith(`${path}/`))
      return { ...OK, stdout: inside.map((each) => each.slice(path.length + 1)).join('\n') }
    }
    default:
      throw new Error(`nobody runs ${argv.join(' ')}`)
  }
}

type Call = <T>(name: string, act: () => T) => Promise<T>

async function undoBack(
  world: World,
  path: string,
  through: string | null,
  call: Call,
): Promise<UndoneSteps> {
  const { groups } = world.disk(path)
  const at = groups.findIndex(({ step }) => step.group === through)
  if (through !== null && at === -1) throw new SyncError('undo/missing', `there is no step ${through}`)
  if (groups.slice(at + 1).some(({ step }) => step.state === 'void'))
    throw new SyncError('undo/missing', 'there is no way back')
  const steps = groups.length - at - 1
  for (const group of groups.slice(at + 1).toReversed()) {
    await call('undoBack begins', () => world.setState(group, 'undoing'))
    const entries = [...group.old]
    for (const [index, [offset, value]] of entries.entries()) {
      if (index % 3 === 0) await call('undoBack writes', () => world.put(path, offset, value))
      else world.put(path, offset, value)
    }
    await call('undoBack ends', () => {
      world.disk(path).bytes.length = group.sizeBytes
      world.disk(path).groups.splice(world.disk(path).groups.indexOf(group), 1)
    })
  }
  return { steps, restoredBytes: 0, zeroedBytes: 0 }
}

export function fakeSnapshots(world: World): SnapshotMethod {
  const nameOf = (job: string, attempt: string, path: string): string => `${path}.snap-${job}-${attempt}`
  return {
    kind: 'reflink',
    cut: async (_, { disks, job, attempt }): Promise<Cut> =>
      world.call('cut', 'here', () => {
        world.cuts.set(
          attempt,
          disks.map((path) => [...(world.source.get(path) ?? [])]),
        )
        for (const path of disks)
          world.snapshots.set(nameOf(job, attempt, path), [...(world.source.get(path) ?? [])])
        return {
          kind: 'near',
          takenAtMs: world.nowMs,
          spreadMs: 1,
          quiesced: 'no',
          disks: disks.map((path) => ({ original: path, path: nameOf(job, attempt, path) })),
          warnings: [],
        }
      }),
    remove: async (_, __, cut) =>
      world.call('remove snapshot', 'here', () => {
        for (const { path } of cut.disks) world.snapshots.delete(path)
      }),
    check: async () => world.call('check snapshot', 'here', () => undefined),
    removeOrphans: async (_, { job }) =>
      world.call('removeOrphans', 'here', () => {
        const ours = [...world.snapshots.keys()].filter((path) => path.includes(`.snap-${job}-`))
        for (const path of ours) world.snapshots.delete(path)
        return ours
      }),
  }
}

/** As sync(): compares byte for byte, keeps old content before it writes, never rejects. */
export function fakeEngine(world: World): RunSync {
  return async (pairs, options, hooks) => {
    const reports: DiskReport[] = []
    let failure: SyncError | null = null
    for (const { source, destination } of pairs) {
      const report = emptyReport(source.typed, destination.typed)
      reports.push(report)
      if (failure !== null) continue
      try {
        await syncDisk(world, source.path, destination.path, options, hooks.signal ?? null, report)
      } catch (thrown) {
        failure = world.lost.signal.aborted ? LOST : toSyncError(thrown)
      }
    }
    return { disks: reports, error: failure }
  }
}

async function syncDisk(
  world: World,
  from: string,
  to: string,
  options: Parameters<RunSync>[1],
  signal: AbortSignal | null,
  report: DiskReport,
): Promise<void> {
  const content = world.snapshots.get(from)
  if (content === undefined) throw new Error(`${from} was not cut`)
  const call: Call = async (name, act) => world.call(name, 'there', act)
  await call('sync opens', () => {
    if (!world.disks.has(to)) {
      if (options.create === 'never') throw new SyncError('guard/missing', `${to} is not there`)
      world.disks.set(to, {
        bytes: [],
        isProtected: false,
        mode: 0o600,
        fileSystem: world.newFileSystem,
        groups: [],
      })
    }
  })
  const disk = world.disk(to)
  if (options.undo === null) {
    const last = disk.groups.at(-1)
    if (last !== undefined) world.setState(last, 'void')
  } else if (options.undo.keep !== 'chain') throw new Error('not in a chain')
  const grown = content.length > disk.bytes.length
  const differing = content.flatMap((value, offset) => (disk.bytes[offset] === value ? [] : [offset]))
  if (grown || differing.length > 0) {
    const group = options.undo === null ? null : await call('sync keeps', () => world.newGroup(disk))
    if (grown) while (disk.bytes.length < content.length) disk.bytes.push(0)
    for (const [index, offset] of differing.entries()) {
      signal?.throwIfAborted()
      const write = (): void => {
        if (world.isFull !== 'no' && index > 1) throw new SyncError('destination/undo-space', 'no room')
        if (group !== null && offset < group.sizeBytes) group.old.set(offset, disk.bytes[offset] ?? 0)
        world.put(to, offset, content[offset] ?? 0)
        report.sentBytes += 1
      }
      if (index % 3 === 0) await call('sync writes', write)
      else write()
    }
    if (group !== null) await call('sync closes', () => world.setState(group, 'finished'))
  }
  await call('sync ends', () => undefined)
  report.state = 'done'
  report.sizeBytes = content.length
  report.digest = {
    algorithm: 'sha256',
    root: 'ab'.repeat(32),
    seed: 'cd'.repeat(16),
    blockBytes: 4096,
    leafBytes: 512,
  }
}

function emptyReport(source: string, destination: string): DiskReport {
  return {
    source,
    destination,
    state: 'not-started',
    different: false,
    created: false,
    sizeBytes: 0,
    blockBytes: 4096,
    totalBlocks: 1,
    sentBytes: 0,
    zeroedBytes: 0,
    readBytes: { source: 0, destination: 0 },
    wireBytesSent: 0,
    wireBytesReceived: 0,
    durationMs: 0,
    digest: null,
    resumedBytes: 0,
    verified: 'none',
    pair: null,
    verifiedBytes: 0,
    undo: null,
    native: { source: false, destination: false },
    transport: 'local',
    cipher: null,
    lanes: 1,
    compression: null,
    unreadable: null,
    differing: [],
    evidence: null,
    sameBlocks: 0,
    differentBlocks: 0,
    zeroBlocks: 0,
    skippedBlocks: 0,
  }
}

export function fakeContext(world: World, stateDir: string, attempt: string): AttemptContext {
  return {
    stateDir,
    nowMs: () => world.nowMs,
    newId: () => attempt,
    chance: () => 0,
    signal: world.stop.signal,
    openHost: async (side) =>
      world.call('openHost', side.kind === 'local' ? 'here' : 'there', () => fakeHost(world, side.kind)),
    snapshots: fakeSnapshots(world),
    cutQuiesced: async (host, _, method, request) => method.cut(host, request),
    track: null,
    runSync: fakeEngine(world),
    syncHooks: {},
    hooks: {
      onEvent: () => undefined,
      runHook: async (name) => world.call(`hook ${name}`, 'here', () => undefined),
    },
    force: [],
    trigger: 'regular',
  }
}
