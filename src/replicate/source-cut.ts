// The source of one attempt as it was at one instant: cut, with what is known of it, and taken away again whatever becomes of the
// attempt; or left to the daemon, which reads less the next time. Refuses nothing: what it removes has the job's name and owner.

import type { Job } from '../config/config.js'
import { toSyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import type { Cut, CutRequest } from '../snapshot/snapshot.js'
import type { LeafTrack } from '../track/track.js'
import type { AttemptContext } from './context.js'
import type { TrackedDisk } from './events.js'
import { askDefinition, type Definition } from './guest.js'
import type { Tracking } from './tracking.js'

export class SourceCut implements AsyncDisposable {
  readonly cut: Cut
  /** By our own clock: ISO 8601, UTC. */
  readonly takenAt: string
  readonly #context: AttemptContext
  readonly #host: Host
  readonly #request: CutRequest
  readonly #warn: (text: string) => void
  #tracking: Tracking | null = null
  #isGivenAway = false

  private constructor(
    context: AttemptContext,
    host: Host,
    request: CutRequest,
    { cut, takenAt }: Readonly<{ cut: Cut; takenAt: string }>,
    warn: (text: string) => void,
  ) {
    this.#context = context
    this.#host = host
    this.#request = request
    this.#warn = warn
    this.cut = cut
    this.takenAt = takenAt
  }

  /** Removes what an attempt before left, then cuts. Rejects with replicate/snapshot or replicate/quiesce; nothing is left then. */
  static async take(
    { quiesce }: Job,
    context: AttemptContext,
    host: Host,
    request: CutRequest,
    warn: (text: string) => void,
  ): Promise<SourceCut> {
    const { snapshots, nowMs, signal } = context
    const orphans = await snapshots.removeOrphans(host, request)
    if (orphans.length > 0) warn(`removed what an attempt before left on ${host.name}: ${orphans.join(', ')}`)
    signal.throwIfAborted()
    const fromMs = nowMs()
    const cut = await context.cutQuiesced(host, quiesce, snapshots, request)
    for (const warning of cut.warnings) warn(warning)
    // by our own clock, since lag is told by it: that of the source's host may be another
    const takenAtMs = Math.min(Math.max(cut.takenAtMs, fromMs), Math.max(fromMs, nowMs()))
    const taken = { cut, takenAt: new Date(takenAtMs).toISOString() }
    return new SourceCut(context, host, request, taken, warn)
  }

  /** The guest's definition at that time, where the job names its guest. */
  async definition({ quiesce }: Job): Promise<Definition | null> {
    return await askDefinition(this.#host, quiesce, this.#warn)
  }

  /** What is known of its disks, in their order; nothing where all of them is read. `seed` as of BeginTracking. To be asked once. */
  async tracks(seed: Uint8Array | null): Promise<readonly LeafTrack[]> {
    const { track, syncHooks } = this.#context
    if (track === null || this.#host.kind !== 'local') return []
    try {
      this.#tracking = await track(this.cut, seed, (text) => syncHooks.onDetail?.(text))
    } catch (thrown) {
      // a directory that cannot be written: the attempt itself needs none of it
      this.#warn(`all of the source is read: ${toSyncError(thrown).message}`)
    }
    return this.#tracking?.tracks ?? []
  }

  /** Rejects with replicate/snapshot where what was read did not stay what it was. */
  async check(): Promise<void> {
    await this.#context.snapshots.check(this.#host, this.#request, this.cut)
  }

  /** When what was read is a generation: a daemon gets it, where one keeps such. Never rejects. */
  async giveAway(): Promise<void> {
    const { job, attempt } = this.#request
    let disks: readonly TrackedDisk[] | null = null
    try {
      disks = (await this.#tracking?.seal(this.cut)) ?? null
    } catch (thrown) {
      this.#warn(`the next attempt reads all of the source: ${toSyncError(thrown).message}`)
    }
    if (disks === null) return
    this.#context.hooks.onEvent({ event: 'tracked', job, attempt, disks })
    this.#isGivenAway = true
  }

  /** What stays behind is an orphan that the next attempt removes: nothing fails for it. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#tracking?.[Symbol.asyncDispose]()
      if (!this.#isGivenAway) await this.#context.snapshots.remove(this.#host, this.#request, this.cut)
    } catch (thrown) {
      this.#warn(toSyncError(thrown).message)
    }
  }
}
