// The way of one attempt through its phases: connect, recover, snapshot, copy, commit, clean, keep. It may be killed between any two
// calls: the record of the replica says before each change of the disks what leads back. Refuses a replica that is not this job's.

import { realpath } from 'node:fs/promises'

import type { Job } from '../config/config.js'
import { type SyncError, toSyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import type { CutRequest } from '../snapshot/snapshot.js'
import { setReadOnly, setWritable } from './access.js'
import type { AttemptContext } from './context.js'
import type { Phase } from './events.js'
import { newestOf } from './generations.js'
import { type Definition, writeGuest } from './guest.js'
import type { JobState } from './job-state.js'
import { copyNewest, dropLeftOver, keepWanted } from './keep.js'
import { leadBack, lookAtSteps, saveState } from './lead-back.js'
import { factsOf, ownReplica } from './own-replica.js'
import type { Places } from './places.js'
import type { Generation, ReplicaRecord } from './record.js'
import { readReplica, snapshotOwner } from './replica-file.js'
import { leavesOf, stamped } from './replica-leaves.js'
import { SourceCut } from './source-cut.js'
import { generationDisks, transfer, type Transferred } from './transfer.js'

/** Who is told how far it is. */
export interface Progressing {
  phase(phase: Phase): void
  warn(text: string): void
  sent(sentBytes: number, wireBytes: number): void
  taken(takenAt: string): void
  /** The newest generation of the replica's record; `isNew`: this attempt made it. */
  newest(newest: JobState['newest'], isNew: boolean): void
}

export type GenerationRequest = Readonly<{
  attempt: string
  direction: JobState['direction']
  places: Places
  /** The attempt before did not come to its end, or not without a warning. */
  isUnclean: boolean
  /** How long the replica, and disks, may be held by somebody else. */
  lockWaitMs: number
  tell: Progressing
}>

/** True for what is no failure of the job: the replica is in use, and nothing was begun. */
export function isSkipped({ code }: SyncError): boolean {
  return code === 'replicate/busy'
}

/** Makes the next generation. Rejects with what ended it; the replica is the newest generation then, or will be led back to it. */
export async function makeGeneration(
  job: Job,
  context: AttemptContext,
  request: GenerationRequest,
): Promise<void> {
  const { places, tell } = request
  tell.phase('connect')
  await using source = await context.openHost(places.sourceSide)
  if (places.isOneHost) {
    await new Making(job, context, request, source, source).run()
    return
  }
  context.signal.throwIfAborted()
  await using destination = await context.openHost(places.destinationSide)
  await new Making(job, context, request, source, destination).run()
}

class Making {
  readonly #job: Job
  readonly #context: AttemptContext
  readonly #request: GenerationRequest
  readonly #source: Host
  readonly #destination: Host
  readonly #warn: (text: string) => void

  constructor(
    job: Job,
    context: AttemptContext,
    request: GenerationRequest,
    source: Host,
    destination: Host,
  ) {
    this.#job = job
    this.#context = context
    this.#request = request
    this.#source = source
    this.#destination = destination
    this.#warn = (text) => request.tell.warn(text)
  }

  async run(): Promise<void> {
    const { tell } = this.#request
    const found = await ownReplica(this.#job, this.#context, this.#request, this.#source, this.#destination)
    this.#mayGoOn()
    tell.phase('recover')
    const record = await this.#recover(found)
    this.#mayGoOn()
    tell.phase('snapshot')
    const next = await this.#generation(record)
    tell.phase('keep')
    await this.#keep(next)
  }

  /** A person, or a signal, may end it between two steps; what is begun is led back. */
  #mayGoOn(): void {
    this.#context.signal.throwIfAborted()
  }

  /** The disks are the newest generation, or nothing worth keeping, and the record says so. */
  async #recover(found: ReplicaRecord): Promise<ReplicaRecord> {
    const host = this.#destination
    const nowMs = this.#context.nowMs()
    const { tell, isUnclean } = this.#request
    let record = found
    let steps = await lookAtSteps(host, record)
    const isHalf = record.state === 'writing' || record.state === 'back'
    const isForeign = record.base !== 'nothing' && steps.chains.some(({ extra }) => extra.length > 0)
    if (isHalf || isForeign || steps.broken !== null) {
      if (!isHalf && isForeign && steps.broken === null)
        this.#warn(`somebody wrote to the replica of ${record.job} and kept a way back: that was taken`)
      record = await leadBack(host, record, 'read-only', nowMs, this.#warn)
      steps = await lookAtSteps(host, record)
      tell.newest(record.base === 'generation' ? factsOf(newestOf(record)) : null, false)
    }
    // an attempt before this one may have ended right behind its commit
    if (record.base !== 'generation') return record
    await dropLeftOver(host, record, steps, this.#warn)
    record = await copyNewest(host, record, this.#job.keep, nowMs, this.#warn)
    return isUnclean ? await keepWanted(host, record, this.#job.keep, true, nowMs, this.#warn) : record
  }

  /** What of the source there is now becomes a generation. */
  async #generation(record: ReplicaRecord): Promise<ReplicaRecord> {
    const { tell } = this.#request
    const context = this.#context
    await using source = await SourceCut.take(
      this.#job,
      context,
      this.#source,
      await this.#cutRequest(),
      this.#warn,
    )
    tell.taken(source.takenAt)
    const definition = await source.definition(this.#job)
    this.#mayGoOn()
    const { record: writing, transferred } = await this.#copy(record, source)
    tell.phase('commit')
    const committed = await this.#commit(writing, transferred, source, definition)
    await source.giveAway()
    return committed
  }

  async #cutRequest(): Promise<CutRequest> {
    const { places, attempt } = this.#request
    // one of the two is the controller's, which is this host
    const { machineId } = await (this.#source.kind === 'local' ? this.#source : this.#destination).facts()
    return {
      disks: places.pairs.map(({ source }) => source.path),
      job: this.#job.name,
      // it may be typed in two ways
      owner: snapshotOwner(machineId, await realpath(this.#context.stateDir)),
      attempt,
    }
  }

  /** From the first change of the disks to all of them written, flushed and read-only again. */
  async #copy(
    found: ReplicaRecord,
    source: SourceCut,
  ): Promise<Readonly<{ record: ReplicaRecord; transferred: Transferred }>> {
    const { tell, places, attempt, lockWaitMs } = this.#request
    const { nowMs } = this.#context
    const host = this.#destination
    tell.phase('copy')
    // a mark that comes and goes changes what tells whether somebody wrote to it
    const leaves = await leavesOf(host, found, this.#job)
    const tracks = await source.tracks(leaves?.[0]?.seed ?? null)
    const record = await saveState(host, { ...found, attempt }, 'writing', nowMs())
    return await this.#orBack(record, async () => {
      for (const { path } of record.disks) await setWritable(host, path)
      const transferred = await transfer(
        this.#job,
        this.#context,
        places,
        record,
        source.cut,
        { tracks, leaves },
        lockWaitMs,
        (sentBytes, wireBytes) => tell.sent(sentBytes, wireBytes),
        this.#warn,
      )
      await source.check()
      for (const { path } of record.disks) await setReadOnly(host, path)
      return { record: { ...record, disks: await stamped(host, record.disks) }, transferred }
    })
  }

  async #commit(
    writing: ReplicaRecord,
    { roots, sentBytes }: Transferred,
    { cut, takenAt }: SourceCut,
    definition: Definition | null,
  ): Promise<ReplicaRecord> {
    const host = this.#destination
    const { tell, attempt } = this.#request
    const number = writing.nextGeneration
    const committed = await this.#orBack(writing, async () => {
      const disks = generationDisks(roots, writing, await lookAtSteps(host, writing), this.#job.name)
      const guest = await writeGuest(host, writing, definition, number, this.#warn)
      this.#mayGoOn()
      const generation: Generation = {
        number,
        takenAt,
        completedAt: new Date(this.#context.nowMs()).toISOString(),
        cut: cut.kind,
        quiesced: cut.quiesced,
        spreadMs: Math.round(cut.spreadMs),
        sentBytes,
        attempt,
        disks,
      }
      return {
        ...writing,
        base: 'generation' as const,
        nextGeneration: number + 1,
        generations: [...writing.generations, generation],
        guest,
      }
    })
    const saved = await this.#save(writing, committed)
    tell.newest(factsOf(newestOf(saved)), true)
    tell.phase('clean')
    if (writing.guest !== null && writing.guest.definition !== saved.guest?.definition)
      await this.#orWarn(async () => host.remove(writing.guest?.definition ?? ''))
    return saved
  }

  /** The commit: one write. Where it fails, what is there tells whether it was done; where nobody can be asked the next attempt asks. */
  async #save(writing: ReplicaRecord, committed: ReplicaRecord): Promise<ReplicaRecord> {
    const host = this.#destination
    try {
      return await saveState(host, committed, 'good', this.#context.nowMs())
    } catch (thrown) {
      const error = toSyncError(thrown)
      if (host.lost.aborted) throw error
      const there = await readReplica(host, writing.id)
      if (there !== null && there.nextGeneration === committed.nextGeneration) return there
      return await this.#orBack(writing, async () => Promise.reject(error))
    }
  }

  /** Behind the commit nothing fails the attempt: the next one does again what was not done. */
  async #keep(record: ReplicaRecord): Promise<void> {
    const nowMs = this.#context.nowMs()
    const { keep } = this.#job
    await this.#orWarn(async () => {
      const copied = await copyNewest(this.#destination, record, keep, nowMs, this.#warn)
      await keepWanted(this.#destination, copied, keep, false, nowMs, this.#warn)
    })
  }

  async #orWarn(act: () => Promise<void>): Promise<void> {
    try {
      await act()
    } catch (thrown) {
      this.#warn(toSyncError(thrown).message)
    }
  }

  /** Takes back right away what `act` did to the disks when it fails: a full disk is free again, and the replica is good. */
  async #orBack<T>(record: ReplicaRecord, act: () => Promise<T>): Promise<T> {
    try {
      return await act()
    } catch (thrown) {
      const error = toSyncError(thrown)
      if (!this.#destination.lost.aborted)
        await this.#orWarn(async () => {
          await leadBack(this.#destination, record, 'read-only', this.#context.nowMs(), this.#warn)
        })
      throw error
    }
  }
}
