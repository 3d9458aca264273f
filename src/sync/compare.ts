// Own runs against the destination's, block by block in order: what comes out is one decision for each run of blocks.
// Sends nothing but questions; never reads the disk itself.

import type { Digester } from '../digest/digester.js'
import type { ZeroDigests } from '../digest/zero.js'
import type { WireRun } from '../wire/bodies.js'
import { protocolError } from '../wire/frame.js'
import type { PassGeometry } from './geometry.js'
import { RefinedBlock, type Refiner } from './refiner.js'
import type { DamagedRun, DataRun, Run } from './scan.js'

/** What happens to a run of blocks (or one block). */
export type Decision =
  /** Equal. `digests` are the blocks' (null: zeros). `skipped`: a hole at both ends, never read. */
  | { kind: 'same'; firstBlock: number; blockCount: number; digests: Buffer | null; skipped: boolean }
  /** Zeros here, something else there. */
  | { kind: 'zero'; firstBlock: number; blockCount: number }
  /** One block whose `target.different` leaves are sent; zero leaves among them (`zeroLeaves`) become zero records. */
  | {
      kind: 'leaves'
      firstBlock: number
      blockCount: 1
      /** Null where it depends on what the destination keeps in place of bad leaves. */
      digest: Buffer | null
      zeroLeaves: Uint8Array
      target: RefinedBlock
    }
  /** One block that is zeros there: what is not zero here is sent. Without `known` it has not been read yet. */
  | {
      kind: 'fill'
      firstBlock: number
      blockCount: 1
      known: { digest: Buffer; leaves: Buffer; zeroLeaves: Uint8Array } | null
    }

/** Bytes of leaf digests a decision keeps alive. */
export function slabBytesOf(decision: Decision): number {
  if (decision.kind === 'leaves') return decision.target.leaves.length + (decision.target.theirs?.length ?? 0)
  return decision.kind === 'fill' ? (decision.known?.leaves.length ?? 0) : 0
}

/** The part of a decision that lies below `endBlock`, where it reaches beyond it. */
export function clip(decision: Decision, endBlock: number, digestBytes: number): Decision {
  const blockCount = endBlock - decision.firstBlock
  if (decision.blockCount <= blockCount || decision.kind === 'leaves' || decision.kind === 'fill')
    return decision
  if (decision.kind === 'zero') return { ...decision, blockCount }
  return { ...decision, blockCount, digests: decision.digests?.subarray(0, blockCount * digestBytes) ?? null }
}

/** The destination's runs of one digests frame, with where they are. */
export type TheirRun = WireRun & { firstBlock: number }

/** Decisions for the blocks [from, to), which lie inside both `own` and `their`. Questions are asked before they are given out. */
export function decide(
  own: Run,
  their: TheirRun,
  from: number,
  to: number,
  context: CompareContext,
): Decision[] {
  const blockCount = to - from
  const theyAreZero = their.kind !== 'data'
  if (own.kind === 'zero' || own.kind === 'hole') {
    if (!theyAreZero) return [{ kind: 'zero', firstBlock: from, blockCount }]
    return [
      {
        kind: 'same',
        firstBlock: from,
        blockCount,
        digests: null,
        skipped: own.kind === 'hole' && their.kind === 'hole',
      },
    ]
  }
  if (own.kind === 'unread') {
    if (!theyAreZero) throw protocolError('a run that was announced as zeros came as data')
    return perBlock(from, to, (block) => ({ kind: 'fill', firstBlock: block, blockCount: 1, known: null }))
  }
  if (own.kind === 'damaged') return [context.damaged(own, theyAreZero)]
  if (theyAreZero) {
    return perBlock(from, to, (block) => ({
      kind: 'fill',
      firstBlock: block,
      blockCount: 1,
      known: context.ownBlock(own, block),
    }))
  }
  return compareData(own, their, from, to, context)
}

export class CompareContext {
  readonly digester: Digester
  readonly geometry: PassGeometry
  readonly refiner: Refiner
  readonly #zeros: ZeroDigests
  readonly #badSectors: 'stop' | 'skip'

  constructor(
    digester: Digester,
    geometry: PassGeometry,
    refiner: Refiner,
    zeros: ZeroDigests,
    badSectors: 'stop' | 'skip',
  ) {
    this.digester = digester
    this.geometry = geometry
    this.refiner = refiner
    this.#zeros = zeros
    this.#badSectors = badSectors
  }

  /** A block that differs from theirs, to be asked about. `bad`: leaves of it that could not be read, or null. */
  target(block: number, leaves: Buffer, bad: Uint8Array | null): RefinedBlock {
    const rescue = this.#badSectors === 'skip' ? { bad } : null
    return new RefinedBlock(block, leaves, this.geometry.leafCount(block), rescue)
  }

  /** A block with bad leaves: there the destination keeps what it has, so its digests of them count. */
  damaged({ firstBlock, leaves, zeroLeaves, bad }: DamagedRun, theyAreZero: boolean): Decision {
    if (!theyAreZero) {
      const target = this.target(firstBlock, leaves, bad)
      this.refiner.ask([target])
      return { kind: 'leaves', firstBlock, blockCount: 1, digest: null, zeroLeaves, target }
    }
    const { digestBytes } = this.digester
    const zeros = this.#zeros.leaves(firstBlock)
    bad.forEach((isBad, leaf) => {
      if (isBad !== 1) return
      zeros.copy(leaves, leaf * digestBytes, leaf * digestBytes, (leaf + 1) * digestBytes)
      zeroLeaves[leaf] = 1
    })
    const digest = Buffer.alloc(digestBytes)
    this.digester.digestItems(leaves, leaves.length, digest)
    return { kind: 'fill', firstBlock, blockCount: 1, known: { digest, leaves, zeroLeaves } }
  }

  ownBlock(own: DataRun, block: number): { digest: Buffer; leaves: Buffer; zeroLeaves: Uint8Array } {
    const { digestBytes } = this.digester
    const index = block - own.firstBlock
    const firstLeaf = index * this.geometry.leavesPerBlock
    const endLeaf = firstLeaf + this.geometry.leafCount(block)
    return {
      digest: own.digests.blocks.subarray(index * digestBytes, (index + 1) * digestBytes),
      leaves: own.digests.leaves.subarray(firstLeaf * digestBytes, endLeaf * digestBytes),
      zeroLeaves: own.digests.zeroLeaves.subarray(firstLeaf, endLeaf),
    }
  }
}

function compareData(
  own: DataRun,
  their: TheirRun & { kind: 'data' },
  from: number,
  to: number,
  context: CompareContext,
): Decision[] {
  const { digestBytes } = context.digester
  const ours = own.digests.blocks.subarray(
    (from - own.firstBlock) * digestBytes,
    (to - own.firstBlock) * digestBytes,
  )
  const theirs = their.blocks.subarray(
    (from - their.firstBlock) * digestBytes,
    (to - their.firstBlock) * digestBytes,
  )
  const same = (first: number, end: number): Decision => ({
    kind: 'same',
    firstBlock: first,
    blockCount: end - first,
    digests: ours.subarray((first - from) * digestBytes, (end - from) * digestBytes),
    skipped: false,
  })
  if (ours.equals(theirs)) return [same(from, to)]
  const decisions: Decision[] = []
  const targets: RefinedBlock[] = []
  let sameFrom = from
  for (let block = from; block < to; block += 1) {
    const at = (block - from) * digestBytes
    if (ours.compare(theirs, at, at + digestBytes, at, at + digestBytes) === 0) continue
    if (sameFrom < block) decisions.push(same(sameFrom, block))
    sameFrom = block + 1
    const { digest, leaves, zeroLeaves } = context.ownBlock(own, block)
    const target = context.target(block, leaves, null)
    targets.push(target)
    decisions.push({ kind: 'leaves', firstBlock: block, blockCount: 1, digest, zeroLeaves, target })
  }
  if (sameFrom < to) decisions.push(same(sameFrom, to))
  context.refiner.ask(targets)
  return decisions
}

function perBlock(from: number, to: number, make: (block: number) => Decision): Decision[] {
  return Array.from({ length: to - from }, (_, index) => make(from + index))
}
