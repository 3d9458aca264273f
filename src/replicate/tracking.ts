// What an attempt knows of its source from the one before: a clone and leaf digests that the daemon holds come in, a track for each
// disk goes to the engine, and what it read is sealed for the next attempt. Where anything is missing, all is read; it refuses nothing.

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import type { Job } from '../config/config.js'
import type { Range } from '../digest/digester.js'
import { SEED_BYTES } from '../digest/digester.js'
import { errnoOf } from '../errors.js'
import { loadNative, type NativeCore } from '../native.js'
import type { Cut } from '../snapshot/snapshot.js'
import { changedRanges, trackable } from '../track/changed-ranges.js'
import { type LeafFacts, LeafFile } from '../track/leaf-file.js'
import { LeafTrack } from '../track/track.js'
import type { TrackedDisk } from './events.js'
import type { GivenBase } from './given-base.js'
import { jobDirectory } from './state-file.js'

/** Of all disks of an attempt. */
export interface Tracking extends AsyncDisposable {
  /** In the order of the disks of the cut. */
  readonly tracks: readonly LeafTrack[]
  /** When all was read and the generation is committed: what the daemon is to take; null where too much is missing. */
  seal(cut: Cut): Promise<readonly TrackedDisk[] | null>
}

/**
 * Null where nothing can be tracked: then the cut is not to be kept. `seed` is that of what is known of the replica, for where
 * nothing is known of the source; `note` is told why all is read where it is.
 */
export type BeginTracking = (
  cut: Cut,
  seed: Uint8Array | null,
  note: (text: string) => void,
) => Promise<Tracking | null>

/** For a job of which the daemon gave `given`; `stateDir` is where new leaf files are made. */
export function trackingOf(job: Job, stateDir: string, given: GivenBase): BeginTracking {
  return async (cut, seedThere, note) => {
    const native = loadNative(job.options.native)
    if (native === null) return null
    const directory = jobDirectory(stateDir, job.name)
    const disks: Tracked[] = []
    try {
      for (const [index, disk] of cut.disks.entries()) {
        const now = await open(disk.path, 'r')
        disks.push(new Tracked(now))
        if (!(await trackable(now.fd))) {
          await closeAll(disks)
          return null
        }
        await disks[index]?.find(given.disks[index] ?? null, join(directory, `leaves-${index}`), note)
      }
      const seeds = disks.flatMap(({ facts }) => (facts === null ? [] : [Buffer.from(facts.seed, 'hex')]))
      const seed = seeds[0] ?? seedThere ?? randomBytes(SEED_BYTES)
      const tracks: LeafTrack[] = []
      for (const [index, { original }] of cut.disks.entries()) {
        const tracked = disks[index]
        if (tracked === undefined) throw new RangeError('a disk of the cut was not opened')
        tracks.push(await tracked.track(native, seed, original, note))
      }
      return new AttemptTracking(tracks, disks)
    } catch (error) {
      await closeAll(disks)
      throw error
    }
  }
}

class AttemptTracking implements Tracking {
  readonly tracks: readonly LeafTrack[]
  readonly #disks: readonly Tracked[]

  constructor(tracks: readonly LeafTrack[], disks: readonly Tracked[]) {
    this.tracks = tracks
    this.#disks = disks
  }

  async seal(cut: Cut): Promise<readonly TrackedDisk[] | null> {
    const sealed: TrackedDisk[] = []
    for (const [index, track] of this.tracks.entries()) {
      const disk = this.#disks[index]
      const facts = track.facts((await disk?.copy()) ?? '')
      if (facts === null) return null
      await track.file.seal(facts)
      const clone = cut.disks[index]?.path ?? ''
      sealed.push({ clone, leaves: disk?.isNew === true ? track.file.path : null })
    }
    return sealed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await closeAll(this.#disks)
  }
}

/** One disk: its clone of now, that of then where there is one, and the leaf file of both. */
class Tracked {
  /** The leaf file has a name, and nobody holds it yet. */
  isNew = false
  readonly #now: FileHandle
  #base: FileHandle | null = null
  #baseIs = ''
  #file: LeafFile | null = null
  #changed: Promise<unknown> = Promise.resolve()

  constructor(now: FileHandle) {
    this.#now = now
  }

  /** What the leaves are of; null where the clone of then is not there, or not the one that they are of. */
  get facts(): LeafFacts | null {
    const facts = this.#file?.facts ?? null
    return facts?.copy === this.#baseIs ? facts : null
  }

  /** Which copy is read now. */
  async copy(): Promise<string> {
    return await identityOf(this.#now)
  }

  /** Opens what the daemon holds, or makes a leaf file at `path`. */
  async find(given: GivenBase['disks'][number], path: string, note: (text: string) => void): Promise<void> {
    if (given !== null && (await this.#open(given))) return
    if (given !== null) note('nothing is known of the source by now: all of it is read')
    await this.#closeGiven()
    await mkdir(dirname(path), { recursive: true })
    this.#file = await LeafFile.create(path)
    this.isNew = true
  }

  /**
   * True where both are there, and the leaves are of that clone. Else the daemon gave them up meanwhile, for want of room or at
   * its end, and the descriptors may be those of other files by now: nothing is written there.
   */
  async #open({ clone, leaves }: NonNullable<GivenBase['disks'][number]>): Promise<boolean> {
    try {
      // what may be anything by now is not waited for
      this.#base = await open(clone, constants.O_RDONLY | constants.O_NONBLOCK)
      this.#baseIs = await identityOf(this.#base)
      this.#file = await LeafFile.open(leaves)
      return this.facts !== null
    } catch (error) {
      if (errnoOf(error) === null) throw error
      return false
    }
  }

  async track(
    native: NativeCore,
    seed: Uint8Array,
    original: string,
    note: (text: string) => void,
  ): Promise<LeafTrack> {
    const file = this.#file
    if (file === null) throw new TypeError('a disk without its leaf file')
    const source = await identityOf(original)
    const changed = this.#compare(native).catch((error: unknown) => {
      const errno = errnoOf(error)
      if (errno === null) throw error
      note(`what changed in the source is not known (${errno}): all of it is read`)
      return null
    })
    this.#changed = changed.catch(() => undefined) // whoever reads first hears of it
    return new LeafTrack({ role: 'source', file, seed, source, changed })
  }

  async close(): Promise<void> {
    await this.#changed
    await this.#closeGiven()
    await this.#now.close()
  }

  async #closeGiven(): Promise<void> {
    const [base, file] = [this.#base, this.#file]
    this.#base = null
    this.#file = null
    await Promise.all([base?.close(), file?.close()])
  }

  /** Null where there is nothing to compare with. */
  async #compare(native: NativeCore): Promise<readonly Range[] | null> {
    const { facts } = this
    if (facts === null || this.#base === null) return null
    const { size } = await this.#now.stat()
    return await changedRanges(native, this.#base.fd, this.#now.fd, {
      lengthBytes: size,
      grainBytes: facts.leafBytes,
    })
  }
}

/** Nobody else has it as long as the file is there, or open. */
async function identityOf(file: string | FileHandle): Promise<string> {
  const { dev, ino } = await (typeof file === 'string'
    ? stat(file, { bigint: true })
    : file.stat({ bigint: true }))
  return `${dev}.${ino}`
}

async function closeAll(disks: readonly Tracked[]): Promise<void> {
  await Promise.all(disks.map((disk) => disk.close()))
}
