// Keeps the record of one disk that is open for a run, on the host that the disk is on: marked as being written before it
// is, and as done afterwards. The same at both ends. A record that cannot be written stops no run: it is told.

import type { Role } from '../endpoint/endpoint.js'
import { ownProcess } from './process.js'
import type { FinishedRun, PairEnd, PairRecord, PairStart } from './record.js'
import type { HostState } from './state.js'

/** A run that is done, as a record of this disk. */
export type PairFinish = Readonly<{
  pairId: string
  peer: PairEnd
  generation: number
  finished: FinishedRun
  replaces: readonly string[]
}>

export class PairKeeper {
  readonly #state: HostState
  readonly #disk: PairEnd
  readonly #role: Role
  readonly #known: readonly PairRecord[]
  /** A run that writes nothing does not wait for its mark, which may be slower than all of it. */
  #marked: Promise<string | null> = Promise.resolve(null)

  /** `known`: the records that this disk has by now. */
  constructor(state: HostState, disk: PairEnd, role: Role, known: readonly PairRecord[]) {
    this.#state = state
    this.#disk = disk
    this.#role = role
    this.#known = known
  }

  /** The mark is on stable storage when it resolves; with why it is not, or null. To be awaited before the first write. */
  async begin(start: PairStart): Promise<string | null> {
    this.#marked = this.#mark(start)
    return await this.#marked
  }

  async #mark({ pairId, runId, generation, peer, by }: PairStart): Promise<string | null> {
    const before = this.#known.find((record) => record.pairId === pairId)
    const { stable } = this.#disk
    const unmarked = await this.#state.overtake(stable, pairId)
    const why = await this.#state.save({
      pairId,
      role: this.#role,
      disk: this.#disk,
      peer,
      generation,
      // of a run in the other direction it would say something else
      finished: before?.role === this.#role ? before.finished : null,
      running: { runId, since: new Date().toISOString(), by, process: await ownProcess() },
    })
    // an old mark of the pair must not stay as that of the run that wrote last
    return why === null ? unmarked : ((await this.#state.overtake(stable, null)) ?? why)
  }

  /** The record is on stable storage when it resolves; with why it is not, or null. */
  async finish({ replaces, ...done }: PairFinish): Promise<string | null> {
    await this.#marked
    return await this.#state.save({ ...done, role: this.#role, disk: this.#disk, running: null }, replaces)
  }
}
