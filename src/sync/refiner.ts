// Finds which leaves of a block differ: asks the destination for the group digests of blocks, then for the leaves of the
// groups that differ. Many blocks are asked for at once and nobody waits for one; answers come in the order of questions.

import type { Digester } from '../digest/digester.js'
import type { RefineItem, RefineLevel } from '../wire/bodies.js'
import { decodeDetail, encodeRefine } from '../wire/bodies.js'
import type { Channel } from '../wire/channel.js'
import { FRAME, MAX_REFINE_ITEMS, MAX_SLAB_BYTES, protocolError } from '../wire/frame.js'
import { GROUP_LEAVES, type PassGeometry } from './geometry.js'

/** What a run over bad sectors needs of a block. `bad`: one byte a leaf, 1 where it could not be read; null where all was. */
export type RescuedBlock = Readonly<{ bad: Uint8Array | null }>

/** A block that differs: its leaf digests here, and (when the answers are in) a flag for each leaf that differs. */
export class RefinedBlock {
  readonly block: number
  /** Those of bad leaves become the destination's, so that they do not differ. */
  readonly leaves: Buffer
  readonly different: Uint8Array
  /** Leaves that could not be read; null is none. */
  readonly bad: Uint8Array | null
  /** The destination's digests of the leaves that differ, for those that cannot be read when they are to be sent; or null. */
  readonly theirs: Buffer | null
  groupsLeft = 0
  #ready = false
  #abandoned = false
  #wake: (() => void) | null = null

  /** `rescue` is null where a bad sector ends the pass. */
  constructor(block: number, leaves: Buffer, leafCount: number, rescue: RescuedBlock | null = null) {
    this.block = block
    this.leaves = leaves
    this.different = new Uint8Array(leafCount)
    this.bad = rescue?.bad ?? null
    this.theirs = rescue === null ? null : Buffer.alloc(leaves.length)
  }

  get isReady(): boolean {
    return this.#ready
  }

  /** Resolves when `different` is complete. A failed channel never completes it: the pass ends then anyway. */
  async ready(): Promise<void> {
    if (this.#ready || this.#abandoned) return
    await new Promise<void>((resolve) => {
      this.#wake = resolve
    })
  }

  settle(): void {
    this.#ready = true
    this.#wake?.()
  }

  /** Ends the wait of a pass that has failed. */
  abandon(): void {
    this.#abandoned = true
    this.#wake?.()
  }
}

type Question = { level: RefineLevel; items: { target: RefinedBlock; group: number }[] }

export class Refiner {
  readonly #channel: Channel
  readonly #disk: number
  readonly #digester: Digester
  readonly #geometry: PassGeometry
  readonly #asked: Question[] = []

  constructor(channel: Channel, disk: number, digester: Digester, geometry: PassGeometry) {
    this.#channel = channel
    this.#disk = disk
    this.#digester = digester
    this.#geometry = geometry
  }

  /** Asks about blocks, given by their leaf digests here. */
  ask(targets: readonly RefinedBlock[]): void {
    if (this.#geometry.leavesPerBlock > GROUP_LEAVES) {
      this.#post(
        'groups',
        targets.map((target) => ({ target, group: 0 })),
      )
      return
    }
    for (const target of targets) target.groupsLeft = 1
    this.#post(
      'leaves',
      targets.map((target) => ({ target, group: 0 })),
    )
  }

  /** An answer. Throws session/protocol where it is not the answer to the oldest question. */
  answer(body: Buffer): void {
    const { level, itemCount, slab } = decodeDetail(body)
    // It stays among the asked until it is answered well: whoever waits for it is woken by `abandon` otherwise.
    const question = this.#asked[0]
    if (question === undefined || question.level !== level || question.items.length !== itemCount) {
      throw protocolError('detail frame that answers no question')
    }
    const groups: { target: RefinedBlock; group: number }[] = []
    let at = 0
    for (const { target, group } of question.items) {
      const length =
        (level === 'groups' ? this.#geometry.groupCount(target.block) : this.#groupLeaves(target, group)) *
        this.#digester.digestBytes
      if (at + length > slab.length) throw protocolError('detail frame shorter than its answers')
      const theirs = slab.subarray(at, at + length)
      at += length
      if (level === 'groups') groups.push(...this.#differentGroups(target, theirs))
      else this.#compareLeaves(target, group, theirs)
    }
    if (at !== slab.length) throw protocolError('detail frame longer than its answers')
    this.#asked.shift()
    if (groups.length > 0) this.#post('leaves', groups)
  }

  /** Wakes whoever waits for answers that will not come. */
  abandon(): void {
    for (const { items } of this.#asked) for (const { target } of items) target.abandon()
  }

  #differentGroups(target: RefinedBlock, theirs: Buffer): { target: RefinedBlock; group: number }[] {
    const { digestBytes } = this.#digester
    const ours = Buffer.allocUnsafe(theirs.length)
    this.#digester.digestItems(target.leaves, GROUP_LEAVES * digestBytes, ours)
    const found: { target: RefinedBlock; group: number }[] = []
    const different = new Uint8Array(theirs.length / digestBytes)
    markDifferent(ours, theirs, digestBytes, different)
    // the digests of its leaves are wanted, whatever they are
    target.bad?.forEach((bad, leaf) => {
      if (bad === 1) different[Math.floor(leaf / GROUP_LEAVES)] = 1
    })
    for (let group = different.indexOf(1); group !== -1; group = different.indexOf(1, group + 1))
      found.push({ target, group })
    target.groupsLeft = found.length
    if (found.length === 0) target.settle()
    return found
  }

  #compareLeaves(target: RefinedBlock, group: number, theirs: Buffer): void {
    const { digestBytes } = this.#digester
    const first = group * GROUP_LEAVES
    const own = target.leaves.subarray(first * digestBytes, first * digestBytes + theirs.length)
    markDifferent(own, theirs, digestBytes, target.different.subarray(first))
    if (target.theirs !== null) takeOver(target, target.theirs, first, theirs, digestBytes)
    target.groupsLeft -= 1
    if (target.groupsLeft === 0) target.settle()
  }

  #groupLeaves(target: RefinedBlock, group: number): number {
    return Math.min(GROUP_LEAVES, this.#geometry.leafCount(target.block) - group * GROUP_LEAVES)
  }

  #post(level: RefineLevel, items: { target: RefinedBlock; group: number }[]): void {
    const answerBytes =
      level === 'groups' ? Math.ceil(this.#geometry.leavesPerBlock / GROUP_LEAVES) : GROUP_LEAVES
    const limit = Math.min(
      MAX_REFINE_ITEMS,
      Math.floor(MAX_SLAB_BYTES / (answerBytes * this.#digester.digestBytes)),
    )
    for (let at = 0; at < items.length; at += limit) {
      const part = items.slice(at, at + limit)
      this.#asked.push({ level, items: part })
      const wire: RefineItem[] = part.map(({ target, group }) => ({ block: target.block, group }))
      this.#channel.post(FRAME.refine, this.#disk, encodeRefine(level, wire))
    }
  }
}

/** Keeps the destination's digests from leaf `first` on, and makes them those of bad leaves here. */
function takeOver(
  target: RefinedBlock,
  kept: Buffer,
  first: number,
  theirs: Buffer,
  digestBytes: number,
): void {
  theirs.copy(kept, first * digestBytes)
  if (target.bad === null) return
  for (let leaf = first; leaf < first + theirs.length / digestBytes; leaf += 1) {
    if (target.bad[leaf] !== 1) continue
    kept.copy(target.leaves, leaf * digestBytes, leaf * digestBytes, (leaf + 1) * digestBytes)
    target.different[leaf] = 0
  }
}

/**
 * Sets `flags[index]` where digest `index` of two slabs of the same length is not equal. There are millions of these
 * comparisons, and four numbers are compared in less time than a call takes.
 */
function markDifferent(ours: Buffer, theirs: Buffer, digestBytes: number, flags: Uint8Array): void {
  const ownWords = wordsOf(ours)
  const theirWords = wordsOf(theirs)
  const words = digestBytes / WORD_BYTES
  for (let at = 0, index = 0; at < ownWords.length; at += words, index += 1) {
    for (let word = at; word < at + words; word += 1) {
      if (ownWords[word] === theirWords[word]) continue
      flags[index] = 1
      break
    }
  }
}

/** Every digest is a multiple of it. */
const WORD_BYTES = Int32Array.BYTES_PER_ELEMENT

/** The same bytes as numbers; copied only where they do not begin on a word. */
function wordsOf({ buffer, byteOffset, length }: Buffer): Int32Array {
  if (byteOffset % WORD_BYTES === 0) return new Int32Array(buffer, byteOffset, length / WORD_BYTES)
  return new Int32Array(buffer.slice(byteOffset, byteOffset + length))
}
