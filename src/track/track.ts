// What is known of a disk before it is read: digests of what it was, and where it may differ from that. The engine reads, and writes,
// through `over`; what it reads and writes becomes what is known. Refuses to say anything of a disk that was read with another digest.

import type { Digester, DigestParameters, Range } from '../digest/digester.js'
import type { Endpoint, Role } from '../endpoint/endpoint.js'
import { errnoOf } from '../errors.js'
import { type LeafFacts, type LeafFile, MAX_UNKNOWN_RANGES } from './leaf-file.js'
import { onGrid, RangeSet } from './range-set.js'
import { TrackedEndpoint } from './tracked-endpoint.js'

/** A part of the disk is read each time though nothing is said to have changed there: after so many runs all of it was. */
export const SAMPLE_SHARE = 64

export type TrackRequest = Readonly<{
  role: Role
  /** Its leaves are used where they fit, and become those of this disk. Who gives it closes it. */
  file: LeafFile
  /** With which both ends digest in this run. */
  seed: Uint8Array
  /** Which disk it is, as LeafFacts has it. */
  source: string
  /** Where it may differ from what the leaves of `file` are of; null: everywhere. Asked for the grid of the leaves. */
  changed: Promise<readonly Range[] | null>
}>

/** What is to be read of a disk, and what of that is only looked at again. */
export type ReadPlan = Readonly<{
  /** Content that may have changed, or is not known. */
  changed: RangeSet
  /** Of these all but what is in `changed` has to be as it was. */
  sample: RangeSet
}>

/** Of one disk, for one run. */
export class LeafTrack {
  readonly seed: Uint8Array
  readonly role: Role
  readonly file: LeafFile
  /** What was read of it in this run, or is a hole. */
  readonly covered = new RangeSet()
  readonly #request: TrackRequest
  #parameters: DigestParameters | null = null
  #lengthBytes = 0
  #digestBytes = 0
  #sampleAtBytes = 0
  #plan: Promise<ReadPlan | null> | null = null
  /** What the file said before this run. */
  readonly #then: LeafFacts | null
  /** The file takes no more: there is no room, or its disk fails. Nothing is kept then, and nothing fails for it. */
  #isLost = false

  constructor(request: TrackRequest) {
    this.seed = request.seed
    this.role = request.role
    this.file = request.file
    this.#request = request
    this.#then = request.file.facts
    request.changed.catch(() => undefined) // whoever reads first hears of it
  }

  /** The disk as the engine is to read it; with `digester`, what is written is digested by that. */
  over(endpoint: Endpoint, digester: Digester | null = null): Endpoint {
    return new TrackedEndpoint(endpoint, this, digester)
  }

  /** Leaf digests of `range`, which begins on the grid. */
  async keep(range: Range, { parameters, digestBytes }: Digester, leaves: Uint8Array): Promise<void> {
    if (this.#isLost) return
    try {
      await this.file.write(range.offset / parameters.geometry.leafBytes, digestBytes, leaves)
      this.covered.add(range)
    } catch (error) {
      if (errnoOf(error) === null) throw error
      this.#isLost = true
    }
  }

  /** True for the digests that are kept here: those with our seed, and of them those that were asked for first. */
  isOf(parameters: DigestParameters, digestBytes: number, lengthBytes: number): boolean {
    // what looks for signatures, or verifies, has one of its own
    if (Buffer.compare(this.seed, parameters.seed) !== 0) return false
    if (this.#parameters === null) {
      this.#parameters = parameters
      this.#digestBytes = digestBytes
      this.#lengthBytes = lengthBytes
    }
    return isSame(this.#parameters, parameters)
  }

  /** Null where all of it is to be read. To be asked after isOf. */
  async plan(): Promise<ReadPlan | null> {
    return await (this.#plan ??= this.#makePlan())
  }

  /** What the leaves are of (`copy`: see LeafFacts), when all of the disk was gone over; null where too much is missing. */
  facts(copy: string): LeafFacts | null {
    const parameters = this.#parameters
    if (parameters === null || this.#isLost) return null
    const lengthBytes = this.#lengthBytes
    const unknown = this.covered.missing({ offset: 0, length: lengthBytes })
    if (unknown.length > MAX_UNKNOWN_RANGES) return null
    const next = this.#sampleAtBytes + sampleBytes(lengthBytes, parameters.geometry.blockBytes)
    return {
      algorithm: parameters.algorithm,
      seed: Buffer.from(parameters.seed).toString('hex'),
      leafBytes: parameters.geometry.leafBytes,
      digestBytes: this.#digestBytes,
      lengthBytes,
      source: this.#request.source,
      copy,
      unknown,
      sampleAtBytes: next >= lengthBytes ? 0 : next,
    }
  }

  async #makePlan(): Promise<ReadPlan | null> {
    const { source, changed } = this.#request
    const then = this.#then
    const parameters = this.#parameters
    if (then === null || parameters === null || !isUsable(then, parameters, source)) return null
    this.#sampleAtBytes = then.sampleAtBytes
    const found = await changed
    if (found === null) return null
    const { leafBytes, blockBytes } = parameters.geometry
    const lengthBytes = this.#lengthBytes
    const read = onGrid(
      [...found, ...then.unknown, ...tails(then.lengthBytes, lengthBytes)],
      leafBytes,
      lengthBytes,
    )
    const from = Math.min(then.sampleAtBytes, lengthBytes)
    const length = Math.min(sampleBytes(lengthBytes, blockBytes), lengthBytes - from)
    // blocks are on the grid of leaves
    return { changed: read, sample: new RangeSet([{ offset: from, length }]) }
  }
}

function isSame(a: DigestParameters, b: DigestParameters): boolean {
  return (
    a.algorithm === b.algorithm &&
    a.geometry.leafBytes === b.geometry.leafBytes &&
    a.geometry.blockBytes === b.geometry.blockBytes
  )
}

function isUsable(then: LeafFacts, { algorithm, seed, geometry }: DigestParameters, source: string): boolean {
  return (
    then.algorithm === algorithm &&
    then.seed === Buffer.from(seed).toString('hex') &&
    then.leafBytes === geometry.leafBytes &&
    then.source === source
  )
}

/** The last leaf of the shorter one is another in the longer one, and what is behind it was never digested. */
function tails(thenBytes: number, nowBytes: number): Range[] {
  if (thenBytes === nowBytes) return []
  const from = Math.max(0, Math.min(thenBytes, nowBytes) - 1)
  return [{ offset: from, length: Math.max(0, nowBytes - from) }]
}

function sampleBytes(lengthBytes: number, blockBytes: number): number {
  return Math.ceil(lengthBytes / SAMPLE_SHARE / blockBytes) * blockBytes
}
