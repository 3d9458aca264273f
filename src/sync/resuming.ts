// Whether a run goes on from the checkpoint of one that did not finish, and where it keeps its own: the small part of it that
// every run loads. What finds and proves a checkpoint (resume.ts) is loaded where any may be.

import { stat } from 'node:fs/promises'
import { join } from 'node:path'

import type { Digester } from '../digest/digester.js'
import { SECTION_BYTES } from '../digest/root.js'
import { errnoOf } from '../errors.js'
import type { SyncOptions } from '../options.js'
import { stateUnusable } from '../state/directory.js'
import type { KnownDisk } from '../state/record.js'
import type { HostState } from '../state/state.js'
import { type CheckpointSink, Checkpoints, type DoneBefore } from './checkpoint.js'
import type { OpenPair, PassContext } from './disk-pass.js'
import type { Lanes } from './lanes.js'
import type { Paired, Pairing } from './pairing.js'
import type { RunHooks } from './report.js'
import type { Session } from './session.js'

/** As MAX_CHECKPOINT_SECTIONS of state/resume-file.ts, which is not loaded for it. */
const MAX_BYTES = 2 ** 20 * SECTION_BYTES

/** What a run goes on with: the digester of that run, and what it did. */
export type Resumed = Readonly<{ digester: Digester; before: DoneBefore; verified: 'none' | 'written' }>

/** A disk of the run with what is known of both its ends. */
export type ResumeCase = Readonly<{
  open: OpenPair
  paired: Paired
  source: KnownDisk
  destination: KnownDisk
}>

export type ResumeContext = PassContext & Readonly<{ lanes: Lanes }>

export class Resuming {
  readonly #push: boolean
  readonly #options: SyncOptions
  readonly #hooks: RunHooks
  readonly #state: Promise<HostState>
  readonly #pairing: Pairing
  /** Disks that are gone on with. */
  readonly #resumed = new Map<number, Resumed>()

  constructor(
    push: boolean,
    options: SyncOptions,
    hooks: RunHooks,
    state: Promise<HostState>,
    pairing: Pairing,
  ) {
    this.#push = push
    this.#options = options
    this.#hooks = hooks
    this.#state = state
    this.#pairing = pairing
  }

  /** Before anything is opened. Rejects with state/unusable where checkpoints are asked for and cannot be kept. */
  async check(): Promise<void> {
    if (this.#options.resume !== 'yes') return
    const why = await (await this.#state).prepare()
    if (why !== null) throw stateUnusable(why, '--resume', 'nothing was opened')
  }

  /** Whether the first disk may be gone on with, as far as is known before there is a far end; `isFrozen`: of the source here. */
  async isLikely(isFrozen: boolean): Promise<boolean> {
    return this.#mayResume(isFrozen) && (await this.#hasAny())
  }

  /** What this disk is gone on with, proven at both ends, or null: then no checkpoint of the pair is left. */
  async find(session: Session, open: OpenPair, context: ResumeContext): Promise<Resumed | null> {
    if (this.#options.mode !== 'write') return null
    const found = this.#caseOf(open)
    const mayResume = this.#mayResume(found?.source.frozen ?? false)
    const isAsked = this.#options.resume === 'yes'
    if (found === null || !(await this.#hasAny())) {
      if (isAsked) this.#hooks.onNote?.(`--resume: ${nothing(open)}`)
      return null
    }
    const { path } = await this.#state
    const { goOn } = await import('./resume.js')
    const wish = mayResume ? (isAsked ? 'asked' : 'frozen') : this.#options.resume === 'no' ? 'no' : 'unasked'
    const resumed = await goOn(session, found, context, { state: path, wish, hooks: this.#hooks })
    if (resumed === null) return null
    this.#pairing.goOnWith(open, resumed.runId)
    this.#resumed.set(open.disk, resumed)
    return resumed
  }

  /** Where checkpoints of this disk go; null where none are kept. */
  async sink(open: OpenPair, { parameters }: Digester): Promise<CheckpointSink | null> {
    const { mode, rescue, verify, checkpointEveryMs: everyMs } = this.#options
    const found = this.#caseOf(open)
    const { lengthBytes, destinationBytes } = open.size
    if (mode !== 'write' || rescue !== null || found === null || lengthBytes > MAX_BYTES) return null
    // what is equal to this copy need not be equal to the next one
    if (open.pair.source.standsFor !== undefined) return null
    const resumed = this.#resumed.get(open.disk) ?? null
    const { pairId, runId } = found.paired
    const isVerified = verify !== 'none' && resumed?.verified !== 'none'
    const { algorithm, seed, geometry } = parameters
    const facts = {
      pairId,
      runId,
      source: { stable: found.source.stable, stamp: found.source.stamp },
      destination: { stable: found.destination.stable, stamp: found.destination.stamp },
      lengthBytes,
      destinationBytes,
      algorithm,
      seed: Buffer.from(seed).toString('hex'),
      ...geometry,
      verified: isVerified ? 'written' : 'none',
    } as const
    const { path } = await this.#state
    const { onWarning, onNote } = this.#hooks
    const voice = { warn: (text: string) => onWarning?.(text), note: (text: string) => onNote?.(text) }
    return new Checkpoints(facts, { state: path, everyMs, isKept: resumed !== null }, voice)
  }

  #mayResume(isFrozen: boolean): boolean {
    const { mode, resume, rescue } = this.#options
    if (mode !== 'write' || rescue !== null) return false
    return resume === 'yes' || (resume === 'auto' && isFrozen)
  }

  #caseOf(open: OpenPair): ResumeCase | null {
    const paired = this.#pairing.of(open)
    const [source, destination] = this.#push ? [open.known, open.far.known] : [open.far.known, open.known]
    return paired === null || source === null || destination === null
      ? null
      : { open, paired, source, destination }
  }

  async #hasAny(): Promise<boolean> {
    try {
      return (await stat(join((await this.#state).path, 'resume'))).isDirectory()
    } catch (error) {
      // what cannot be looked at cannot be gone on with either
      if (errnoOf(error) === null) throw error
      return false
    }
  }
}

/** That there is no checkpoint, for people. */
export function nothing({ pair: { source, destination } }: OpenPair): string {
  return `there is no checkpoint of a run from ${source.typed} to ${destination.typed}; all of it is compared`
}
