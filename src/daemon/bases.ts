// What the next attempt of each job begins with: descriptors of the clones that the last one read, and of their leaf digests. Neither
// has a name, so that both are gone with this process. Refuses to hold what takes room that the file system does not have.

import { constants } from 'node:fs'
import { type FileHandle, lstat, open, stat, statfs, unlink } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'

import pLimit from 'p-limit'

import type { Job } from '../config/config.js'
import { errnoOf } from '../errors.js'
import type { TrackedDisk } from '../replicate/events.js'
import { BASE_VARIABLE, type GivenBase } from '../replicate/given-base.js'
import type { Log } from './log.js'
import type { JobView } from './scheduler-parts.js'

/** The last descriptor of a clone with many extents takes a thread of the pool for seconds: states of jobs are read by the others. */
const CLOSES_AT_ONCE = 1
/** At the end nobody else needs them; as many as the pool has unless somebody said otherwise. */
const CLOSES_AT_END = 4
/** The room on a file system is looked at no more often, however many attempts begin and end. */
const LOOK_EVERY_MS = 30_000

const { O_RDONLY, O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants

/** Blocks that a file system has left for those who are not root, and their size; as statfs(2) has it. */
export type FreeBlocks = Readonly<{ bavail: number; bsize: number }>

export type BasesContext = Readonly<{
  log: Log
  steadyMs: () => number
  /** Of the file system of a path; the real one by default. */
  statfs?: (path: string) => Promise<FreeBlocks>
}>

/** One disk of an attempt as it was told, opened, its names gone. */
type Taken = Readonly<{ clone: FileHandle; leaves: FileHandle | null; lengthBytes: number; device: bigint }>
type Held = Taken & Readonly<{ leaves: FileHandle }>
/** `job` as it was when its attempt began. */
type Base = Readonly<{ job: Job; disks: readonly Held[] }>

/** Whether attempts of a job may read only what changed: clones of a file system of this host, and nobody said no. */
export function isTrackable({ snapshot, track, disks }: Job): boolean {
  return (
    snapshot.kind === 'reflink' && track === 'auto' && disks.every(({ source }) => source.at.kind === 'local')
  )
}

/** As another process of this user reaches it. */
function pathOf({ fd }: FileHandle): string {
  return `/proc/${process.pid}/fd/${fd}`
}

function handlesOf({ clone, leaves }: Taken): FileHandle[] {
  return leaves === null ? [clone] : [clone, leaves]
}

/** Where it stands in its file is nobody's business; that file is another one after each reading. */
function isSameJob(one: Job, other: Job): boolean {
  return one === other || isDeepStrictEqual({ ...one, place: null }, { ...other, place: null })
}

function idOf({ dev, ino }: Readonly<{ dev: bigint; ino: bigint }>): string {
  return `${dev}.${ino}`
}

/** Those of this host that are there: nothing is removed by a path alone, it might be the disk's. */
async function diskFiles({ disks }: Job): Promise<ReadonlySet<string>> {
  const ids = new Set<string>()
  for (const { at, path } of disks.flatMap(({ source, destination }) => [source, destination])) {
    if (at.kind !== 'local') continue
    try {
      ids.add(idOf(await stat(path, { bigint: true })))
    } catch (error) {
      // one that is not there, or that we cannot reach, is none that was told of
      if (errnoOf(error) === null) throw error
    }
  }
  return ids
}

/** Opens what was told, and takes the names away. Rejects where one of them is not as it has to be; then nothing is open. */
async function take({ clone, leaves }: TrackedDisk, disks: ReadonlySet<string>): Promise<Taken> {
  const opened: Opened[] = []
  const wrong: unknown[] = []
  const files: [string, number][] =
    leaves === null
      ? [[clone, O_RDONLY]]
      : [
          [clone, O_RDONLY],
          [leaves, O_RDWR],
        ]
  for (const [path, access] of files) {
    try {
      opened.push(await takeFile(path, access, disks))
    } catch (error) {
      wrong.push(error)
    }
  }
  const [cloned, leaved] = opened
  if (wrong.length === 0 && cloned !== undefined)
    return {
      clone: cloned.handle,
      leaves: leaved?.handle ?? null,
      lengthBytes: cloned.sizeBytes,
      device: cloned.device,
    }
  for (const { handle } of opened) await handle.close()
  throw wrong[0]
}

type Opened = Readonly<{ handle: FileHandle; sizeBytes: number; device: bigint }>

async function takeFile(path: string, access: number, disks: ReadonlySet<string>): Promise<Opened> {
  const named = await lstat(path, { bigint: true })
  if (!named.isFile() || disks.has(idOf(named)))
    throw new Error(`${path} is none that an attempt makes, and was left alone`)
  let handle: FileHandle | null = null
  try {
    // a FIFO that came in between would have us wait for somebody who writes
    handle = await open(path, access | O_NOFOLLOW | O_NONBLOCK)
    const { size, dev, ino } = await handle.stat({ bigint: true })
    if (idOf({ dev, ino }) !== idOf(named)) throw new Error(`${path} was replaced while it was opened`)
    await unlink(path)
    return { handle, sizeBytes: Number(size), device: dev }
  } catch (error) {
    await handle?.close()
    if (handle === null) await unlink(path)
    throw error
  }
}

export class Bases {
  readonly #log: Log
  readonly #steadyMs: () => number
  readonly #statfs: (path: string) => Promise<FreeBlocks>
  readonly #bases = new Map<string, Base>()
  /** Jobs of which was said that there is no room. */
  readonly #saidOf = new Set<string>()
  readonly #limit = pLimit(CLOSES_AT_ONCE)
  #closed: Promise<void> = Promise.resolve()
  #looking: Promise<void> | null = null
  #lookedMs = -Infinity
  #state: 'open' | 'ended' = 'open'

  constructor({ log, steadyMs, statfs: given }: BasesContext) {
    this.#log = log
    this.#steadyMs = steadyMs
    this.#statfs = given ?? statfs
  }

  /** What an attempt finds in its environment; null where it is to keep nothing for the next one. */
  environmentFor(job: Job): Readonly<Record<string, string>> | null {
    if (this.#state === 'ended' || !isTrackable(job)) return null
    const base = this.#bases.get(job.name)
    if (base !== undefined && !isSameJob(base.job, job)) this.drop(job.name)
    const disks = this.#bases.get(job.name)?.disks ?? []
    const given: GivenBase = {
      disks: disks.map(({ clone, leaves }) => ({ clone: pathOf(clone), leaves: pathOf(leaves) })),
    }
    return { [BASE_VARIABLE]: JSON.stringify(given) }
  }

  /**
   * Takes over what an attempt of `job` left that has ended well, in place of what was held. The names are gone behind it, in any
   * case. Never rejects: where something fails a line of the log says so, and nothing is held.
   */
  async adopt(job: Job, told: readonly TrackedDisk[]): Promise<void> {
    const { name } = job
    const disks = await diskFiles(job)
    const taken: Taken[] = []
    const wrong: string[] = []
    for (const disk of told) {
      try {
        taken.push(await take(disk, disks))
      } catch (error) {
        wrong.push(error instanceof Error ? error.message : String(error))
      }
    }
    if (told.length !== job.disks.length)
      wrong.push(`it told of ${told.length} disks, and has ${job.disks.length}`)
    // from here on nothing is waited for: what was held may have been given up meanwhile, with the leaves that were to go on
    const before = this.#bases.get(name)?.disks ?? []
    const held = taken.flatMap((disk, index): Held[] => {
      const leaves = disk.leaves ?? before[index]?.leaves ?? null
      return leaves === null ? [] : [{ ...disk, leaves }]
    })
    const isWhole = wrong.length === 0 && held.length === job.disks.length
    if (!isWhole || this.#state === 'ended') {
      const [why] = wrong
      if (why === undefined)
        this.#log('debug', name, 'what was held for its next attempt was given up meanwhile')
      else this.#log('warning', name, `its next attempt reads all of the source: ${why}`)
      this.drop(name)
      this.#letGo(name, taken.flatMap(handlesOf))
      return
    }
    const kept = new Set(held.flatMap(handlesOf))
    const base: Base = { job, disks: held }
    this.#bases.set(name, base)
    this.#letGo(
      name,
      before.flatMap(handlesOf).filter((handle) => !kept.has(handle)),
    )
    await this.#lookAt(base)
  }

  /** Holds nothing more for that job. Its descriptors are closed behind this. */
  drop(jobName: string): void {
    const base = this.#bases.get(jobName)
    this.#bases.delete(jobName)
    if (base !== undefined) this.#letGo(jobName, base.disks.flatMap(handlesOf))
  }

  /** The same for jobs that are gone, are others now, are paused, or go the other way; called when a state may have changed. */
  keepOnly(views: readonly Pick<JobView, 'job' | 'state'>[]): void {
    const known = new Map(views.map((view) => [view.job.name, view]))
    for (const [name, { job }] of this.#bases) {
      const view = known.get(name)
      const isKept =
        view !== undefined &&
        view.state.paused === null &&
        view.state.direction === 'forward' &&
        isSameJob(job, view.job)
      if (!isKept) this.drop(name)
    }
  }

  /** Gives up what is too much for its file system; called at least once a minute, and goes on behind this. */
  lookForRoom(): void {
    const nowMs = this.#steadyMs()
    if (this.#state === 'ended' || nowMs - this.#lookedMs < LOOK_EVERY_MS) return
    this.#lookedMs = nowMs
    this.#looking ??= this.#lookAtAll().finally(() => {
      this.#looking = null
    })
  }

  /** The end: nothing is held behind it, nor taken over any more. Never rejects. */
  async dropAll(): Promise<void> {
    this.#state = 'ended'
    this.#limit.concurrency = CLOSES_AT_END
    for (const name of this.#bases.keys()) this.drop(name)
    await this.#looking
    await this.#closed
  }

  async #lookAtAll(): Promise<void> {
    for (const base of Array.from(this.#bases.values())) await this.#lookAt(base)
  }

  /** What changes in the source from here on takes new room, as long as the clones are there: at most as much as they are long. */
  async #lookAt(base: Base): Promise<void> {
    const { name } = base.job
    const why = await this.#whyNoRoom(base)
    // it may have been given up meanwhile, and its descriptors be those of other files
    if (this.#bases.get(name) !== base) return
    if (why === null) {
      this.#saidOf.delete(name)
      return
    }
    if (!this.#saidOf.has(name))
      this.#log('info', name, `nothing is held for its next attempt, which reads all of the source: ${why}`)
    this.#saidOf.add(name)
    this.drop(name)
  }

  async #whyNoRoom({ disks }: Base): Promise<string | null> {
    for (const device of new Set(disks.map((disk) => disk.device))) {
      const there = disks.filter((disk) => disk.device === device)
      const lengthBytes = there.reduce((sum, disk) => sum + disk.lengthBytes, 0)
      const [first] = there
      if (first === undefined) continue
      try {
        const { bavail, bsize } = await this.#statfs(pathOf(first.clone))
        const freeBytes = bavail * bsize
        if (freeBytes < lengthBytes)
          return `the clones are ${lengthBytes} bytes long, and ${freeBytes} are free on their file system`
      } catch (error) {
        return `the room on the file system of the clones is not known (${errnoOf(error) ?? String(error)})`
      }
    }
    return null
  }

  /** Closes them one after the other, and waits for none. */
  #letGo(job: string, handles: readonly FileHandle[]): void {
    const closing = handles.map(
      async (handle) => await this.#limit(async () => await this.#close(job, handle)),
    )
    const before = this.#closed
    // without what they resolve with: a chain of results would grow with each attempt
    this.#closed = (async () => {
      await before
      await Promise.all(closing)
    })()
  }

  async #close(job: string, handle: FileHandle): Promise<void> {
    try {
      await handle.close()
    } catch (error) {
      const why = errnoOf(error) ?? String(error)
      this.#log('warning', job, `what was held for its next attempt could not be closed: ${why}`)
    }
  }
}
