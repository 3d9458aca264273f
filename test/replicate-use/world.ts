// A host with a replica as attempts leave it: disks with generations and their undo journals, and the record of them. And a host of
// which any one call fails. What was made read-only is writable again before it is taken away.

import { readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'

import type { Host } from '../../src/host/host.js'
import { LocalHost } from '../../src/host/local.js'
import { setReadOnly, setWritable } from '../../src/replicate/access.js'
import { groupsOf } from '../../src/replicate/generations.js'
import type { Generation, GenerationDisk, ReplicaRecord } from '../../src/replicate/record.js'
import { readReplica, saveReplica } from '../../src/replicate/replica-file.js'
import { runOver, type Change } from '../host/runs.js'
import { randomBytes, type Scratch } from '../support/disks.js'

export const DISK_BYTES = 2 << 20
export const ID = 'web.0123abcd'
const ROOT_HOW = {
  algorithm: 'sha256',
  seed: '00112233445566778899aabbccddeeff',
  blockBytes: 1 << 20,
  leafBytes: 4096,
}
/** Long ago: of a source that nobody here is. */
export const TAKEN_MS = Date.UTC(2026, 0, 2, 3, 4, 5)

let number = 0

export type World = Readonly<{
  stateDir: string
  disks: readonly string[]
  /** Opens the host anew, as another session; closed with the scratch at the latest. */
  open: () => LocalHost
  record: () => Promise<ReplicaRecord>
  /** contents[generation][disk]; nothing at 0. */
  contents: readonly (readonly Buffer[])[]
}>

export type WorldRequest = Readonly<{
  generations: number
  /** Files at these paths, or devices; absent is two new files. */
  disks?: readonly string[]
  change?: Partial<ReplicaRecord>
  /** Content of the first generation; absent is random. */
  first?: Buffer
}>

/** A replica that is good, or empty where it has no generations. */
export async function makeWorld(scratch: Scratch, request: WorldRequest): Promise<World> {
  const { generations: count, change = {}, first } = request
  number += 1
  const stateDir = scratch.path(`replica-state-${number}`)
  const disks = request.disks ?? [1, 2].map((each) => scratch.path(`replica-${number}-${each}.img`))
  const opened: LocalHost[] = []
  const open = (): LocalHost => {
    const host = new LocalHost({ stateDir, native: 'auto' })
    opened.push(host)
    return host
  }
  scratch.onClose(async () => {
    const host = new LocalHost({ stateDir, native: 'auto' })
    for (const path of disks) await setWritable(host, path)
    for (const each of [...opened, host]) await each.close()
  })
  const host = open()
  const contents: Buffer[][] = [[]]
  const generations: Generation[] = []
  for (let at = 1; at <= count; at++) {
    const own: GenerationDisk[] = []
    for (const [index, path] of disks.entries()) {
      const undo = at === 1 ? null : await runOver({ path, stateDir, changes: changesOf(at, index) })
      if (at === 1) await writeFile(path, first ?? randomBytes(DISK_BYTES))
      own.push({ root: await rootNow(host, path), undo: undo === null ? [] : [undo], copy: null })
    }
    contents.push(await Promise.all(disks.map((path) => readFile(path))))
    generations.push(generationOf(at, own))
  }
  const record: ReplicaRecord = {
    version: 1,
    id: ID,
    job: 'web',
    controller: { hostName: 'kvm1', machineId: '0123abcd'.repeat(4) },
    source: { hostName: 'kvm1', machineId: '0123abcd'.repeat(4), address: '192.0.2.1', port: null },
    state: count === 0 ? 'empty' : 'good',
    base: count === 0 ? 'nothing' : 'generation',
    attempt: count === 0 ? null : 'attempt',
    changedAt: new Date(TAKEN_MS).toISOString(),
    disks: disks.map((path) => ({ path, sourcePath: `/dev/vg/${basename(path)}`, droppedUndo: null })),
    nextGeneration: count + 1,
    generations,
    guest: null,
    ...change,
  }
  await saveReplica(host, record)
  for (const path of disks) await setReadOnly(host, path)
  return {
    stateDir,
    disks,
    open,
    contents,
    record: async () => {
      const read = await readReplica(host, record.id)
      if (read === null) throw new Error('the record is gone')
      return read
    },
  }
}

function changesOf(generation: number, disk: number): Change[] {
  return [
    { offset: generation * 64 * 1024, bytes: randomBytes(256 * 1024) },
    { offset: 1024 * 1024 + disk * 4096, zeros: 128 * 1024 },
  ]
}

function generationOf(number: number, disks: readonly GenerationDisk[]): Generation {
  const at = new Date(TAKEN_MS + number * 60_000).toISOString()
  return {
    number,
    takenAt: at,
    completedAt: at,
    cut: 'one-instant',
    quiesced: 'no',
    spreadMs: 0,
    sentBytes: 1,
    attempt: `attempt-${number}`,
    disks,
  }
}

async function rootNow(host: Host, path: string): Promise<GenerationDisk['root']> {
  const how = { ...ROOT_HOW, lengthBytes: DISK_BYTES }
  return { ...how, root: await host.digest({ path, ...how }) }
}

/** An attempt began to write, and was killed. */
export async function killAttempt({ disks, stateDir, open, record }: World): Promise<void> {
  const host = open()
  await saveReplica(host, { ...(await record()), state: 'writing', attempt: 'killed' })
  for (const path of disks.slice(0, 1)) {
    await setWritable(host, path)
    await runOver({ path, stateDir, changes: [{ offset: 4096, bytes: randomBytes(65536) }], end: 'stopped' })
  }
}

/** Somebody writes to a disk, and nobody keeps what was there. */
export async function scribble({ open }: World, path: string): Promise<void> {
  const host = open()
  await setWritable(host, path)
  const content = await readFile(path)
  content.fill('scribbled', 8192, 9000)
  await writeFile(path, content)
}

/** Every generation gets copies of its disks, and nothing is reached by undo any more. */
export async function giveCopies(world: World): Promise<void> {
  const { disks, contents, open, record } = world
  const host = open()
  const was = await record()
  const generations = await Promise.all(
    was.generations.map(async (generation) => ({
      ...generation,
      disks: await Promise.all(
        generation.disks.map(async (disk, index) => {
          const path = join(
            disks[index] ?? '',
            '..',
            `.${basename(disks[index] ?? '')}.generation-${generation.number}`,
          )
          await writeFile(path, contents[generation.number]?.[index] ?? '')
          return { ...disk, undo: [], copy: { kind: 'reflink', path } as const }
        }),
      ),
    })),
  )
  const dropped = was.disks.map((disk, index) => ({
    ...disk,
    droppedUndo: groupsOf(was, index).at(-1) ?? null,
  }))
  await saveReplica(host, { ...was, generations, disks: dropped })
}

export async function isContent(world: World, generation: number): Promise<boolean> {
  const now = await Promise.all(world.disks.map((path) => readFile(path)))
  return now.every((content, index) => content.equals(world.contents[generation]?.[index] ?? Buffer.alloc(0)))
}

export class Killed extends Error {}

/** Change nothing: dying behind one of these is dying behind the call before it. */
const LOOKS = ['facts', 'look', 'space', 'readText', 'takeLock', 'undoSteps', 'digest']

/** The host, of which the change of that number (from 0) is the last: it is made, and nobody learns that it was. */
export function dyingHost(host: Host, at: number): Host {
  let calls = 0
  return new Proxy(host, {
    get(target, name): unknown {
      const value: unknown = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return async (...given: unknown[]): Promise<unknown> => {
        const own = LOOKS.includes(String(name)) ? calls - 0.5 : calls++
        if (own > at) throw new Killed(String(name))
        const answer: unknown = await Reflect.apply(value, target, given)
        if (own === at) throw new Killed(String(name))
        return answer
      }
    },
  })
}
