// What the records of both ends, and the content of both disks, say about a run before a byte of it is written; and the
// record of it afterwards. Refuses a pair that is the wrong way round, and content that nobody agreed to overwrite.

import { randomUUID } from 'node:crypto'

import type { StableIdentity } from '../endpoint/endpoint.js'
import { type SyncError, toSyncError } from '../errors.js'
import {
  contentQuestion,
  contentRefusal,
  contentText,
  type ForeignContent,
  foreignContent,
} from '../guard/content.js'
import {
  directionRefusal,
  minuteText,
  type PairHistory,
  pairHistory,
  type PairSide,
} from '../guard/direction.js'
import type { GuardName } from '../guard/guard-name.js'
import type { SyncOptions } from '../options.js'
import type { KnownDisk, PairEnd, PairStart, RunBy } from '../state/record.js'
import { ownRunBy } from '../state/state.js'
import type { OpenPair } from './disk-pass.js'
import type { DiskPair, RunHooks } from './report.js'
import type { Session } from './session.js'

/** The pair of one disk of the run: its id, its history, and both ends as records name them. */
export type Paired = Readonly<{
  pairId: string
  history: PairHistory
  near: PairEnd
  far: PairEnd
  /** The run that the disk is marked with: this one, or the one that this goes on with. */
  runId: string
}>

export class Pairing {
  readonly #push: boolean
  readonly #options: SyncOptions
  readonly #hooks: RunHooks
  readonly #runId = randomUUID()
  readonly #by: RunBy = ownRunBy()
  readonly #paired = new Map<number, Paired>()

  constructor(push: boolean, options: SyncOptions, hooks: RunHooks) {
    this.#push = push
    this.#options = options
    this.#hooks = hooks
  }

  /**
   * Asks the guards for all disks of the run, and the user once where content would be lost. Rejects with guard/direction
   * or guard/content. A dry run is told what a real one would refuse; `verify` is told nothing.
   */
  async check(disks: readonly OpenPair[]): Promise<void> {
    const foreign: ForeignContent[] = []
    for (const open of disks) {
      const { source, destination } = this.#sides(open)
      if (source === null || destination === null) continue
      const history = this.#remember(open, source, destination)
      if (this.#options.mode === 'verify') continue
      for (const note of history.notes) this.#hooks.onWarning?.(note)
      if (isCreated(open, this.#push)) continue
      this.#checkDirection(open.pair, source, destination, history)
      if (history.pairId !== null) continue
      const content = foreignContent(source.known.content, destination.known.content)
      if (content.length > 0)
        foreign.push({ sourceName: source.name, destinationName: destination.name, content })
    }
    await this.#checkContent(foreign)
  }

  /** What a destination is marked with before it is written; null where nothing is. */
  startOf(open: OpenPair): PairStart | null {
    const paired = this.#paired.get(open.disk)
    if (paired === undefined || this.#options.mode !== 'write') return null
    const { pairId, history, near, far, runId } = paired
    const peer = this.#push ? near : far
    return { pairId, runId, generation: history.generation, peer, by: this.#by }
  }

  /** The pair of a disk, after `check`; null where an end keeps no records. */
  of({ disk }: OpenPair): Paired | null {
    return this.#paired.get(disk) ?? null
  }

  /** From now on the disk is written by that earlier run, which did not finish: its mark stays true. */
  goOnWith({ disk }: OpenPair, runId: string): void {
    const paired = this.#paired.get(disk)
    if (paired !== undefined) this.#paired.set(disk, { ...paired, runId })
  }

  /** Has both ends record that the disk is done, at the same time: both know that it is. Never rejects for a record that could not be kept. */
  async finish(session: Session, { disk, keeper, undo, size, pair, meter }: OpenPair): Promise<void> {
    const unclosed = (await undo?.finish()) ?? null
    if (unclosed !== null) this.#hooks.onWarning?.(unclosed)
    const paired = this.#paired.get(disk)
    const { digest } = meter.report()
    if (paired === undefined || digest === null || this.#options.mode !== 'write') return
    const { pairId, history, near, far, runId } = paired
    const generation = history.generation + 1
    const finished = {
      runId,
      finishedAt: new Date().toISOString(),
      by: this.#by,
      lengthBytes: size.lengthBytes,
      ...digest,
    }
    const { source, destination } = history.replaces
    const [here, there] = this.#push ? [source, destination] : [destination, source]
    const done = { pairId, generation, finished }
    const [atFar, atNear] = await Promise.all([
      session.record(disk, { ...done, peer: near, replaces: there }),
      keeper.finish({ ...done, peer: far, replaces: here }),
    ])
    const [nearName, farName] = this.#push
      ? [pair.source.typed, pair.destination.typed]
      : [pair.destination.typed, pair.source.typed]
    if (atFar !== null) this.#hooks.onWarning?.(`${farName}: ${atFar}`)
    if (atNear !== null && atNear !== atFar) this.#hooks.onWarning?.(`${nearName}: ${atNear}`)
    if (atFar === null || atNear === null) meter.recorded({ pairId, generation })
  }

  #sides(open: OpenPair): Readonly<{ source: KnownSide | null; destination: KnownSide | null }> {
    const { pair, known, far } = open
    const near = side(this.#push ? pair.source.typed : pair.destination.typed, known)
    const other = side(this.#push ? pair.destination.typed : pair.source.typed, far.known)
    return this.#push ? { source: near, destination: other } : { source: other, destination: near }
  }

  #remember(open: OpenPair, source: KnownSide, destination: KnownSide): PairHistory {
    const history = pairHistory(source, destination)
    const [near, far] = this.#push ? [source, destination] : [destination, source]
    // the disk, and not the copy of it that is read this time
    const { standsFor } = open.pair.source
    this.#paired.set(open.disk, {
      pairId: history.pairId ?? randomUUID(),
      history,
      near: endOf(near.stable, (this.#push ? standsFor : undefined) ?? open.near.info.path),
      far: endOf(far.stable, (this.#push ? undefined : standsFor) ?? open.far.path),
      runId: this.#runId,
    })
    return history
  }

  #checkDirection({ turned }: DiskPair, source: PairSide, destination: PairSide, history: PairHistory): void {
    const { last } = history
    const refusal = directionRefusal(source, destination, history)
    if (refusal !== null) {
      if (turned === 'on-purpose') return
      if (!this.#isForced('direction')) this.#refuse(refusal)
      else this.#hooks.onWarning?.(`${withoutEnd(refusal)}; --force-direction: it is reversed`)
    } else if (last?.state === 'unfinished') {
      this.#hooks.onWarning?.(
        `the last run from ${source.name} to ${destination.name}, of ${minuteText(last.at)}, did not finish; this one goes on from what is there`,
      )
    }
  }

  async #checkContent(foreign: readonly ForeignContent[]): Promise<void> {
    if (foreign.length === 0) return
    if (this.#isForced('content')) this.#hooks.onDetail?.(`${contentText(foreign)}; it is overwritten`)
    else if (this.#options.mode !== 'write' || !(await this.#confirm(foreign)))
      this.#refuse(contentRefusal(foreign))
  }

  /** A person's answer; no where there is nobody to ask. */
  async #confirm(foreign: readonly ForeignContent[]): Promise<boolean> {
    const { confirm, signal } = this.#hooks
    if (confirm === undefined) return false
    const answer = await confirm(contentQuestion(foreign))
    if (signal?.aborted === true) throw toSyncError(signal.reason)
    return answer
  }

  #isForced(guard: GuardName): boolean {
    return this.#options.force.includes(guard)
  }

  #refuse(refusal: SyncError): void {
    if (this.#options.mode === 'write') throw refusal
    this.#hooks.onWarning?.(`${withoutEnd(refusal)}: a run that writes would be refused`)
  }
}

type KnownSide = PairSide & Readonly<{ known: KnownDisk }>

function side(name: string, known: KnownDisk | null): KnownSide | null {
  return known === null ? null : { name, stable: known.stable, records: known.pairs, known }
}

/** A path that is not absolute means something only where it was typed: then the disk's own name has it. */
function endOf(stable: StableIdentity, path: string): PairEnd {
  return { stable, path: path.startsWith('/') ? path : (stable.names.at(-1) ?? '').replace(/^path:/, '') }
}

function isCreated({ near, far }: OpenPair, push: boolean): boolean {
  return push ? far.created : near.info.created
}

function withoutEnd({ message }: SyncError): string {
  return message.replace(/; nothing was written$/, '')
}
