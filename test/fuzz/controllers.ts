// Who leads a session against a half under test: a client that opens disks and begins passes, or a server that answers.

import type { Digester } from '../../src/digest/digester.js'
import type { Role } from '../../src/endpoint/endpoint.js'
import { encodeCredit, encodeMark, encodeRate } from '../../src/wire/bodies.js'
import { encodeControl } from '../../src/wire/control.js'
import { FRAME, type Frame } from '../../src/wire/frame.js'
import type { DiskShape } from './disk.js'
import { DestinationPeer, frameOf, type PassPeer, type PassShape, SourcePeer } from './peers.js'
import type { Random } from './random.js'

/** A disk that many sessions use: what is the same in all of them is worked out once. */
export type Known = Readonly<{
  shape: DiskShape
  digester: Digester
  /** Digests of all blocks. */
  blocks: Buffer
  /** Roots of ranges, as compare passes tell them. */
  roots: Map<string, string>
}>

export const SEED = Buffer.from('00112233445566778899aabbccddeeff', 'hex')
export const SECTION = 64 << 20
const ID = '01234567-89ab-cdef-0123-456789abcdef'

/** Leads a session; `role` is that of the half under test. */
export interface Controller {
  next(): Buffer | null
  heard(frame: Frame): void
  /** The disk holds something else by now: no root is to be learned. */
  isChanged: () => boolean
}

function peerFor(
  pass: PassShape,
  halfRole: Role,
  known: Known,
  random: Random,
  isChanged: () => boolean,
): PassPeer {
  if (halfRole === 'source') return new DestinationPeer(pass, known.digester, known.blocks, random)
  const key = `${pass.range.offset}+${pass.range.length}`
  const learn = (root: string): void => {
    if (!isChanged() && pass.mode === 'compare') known.roots.set(key, root)
  }
  return new SourcePeer(pass, known.roots.get(key) ?? null, learn, random)
}

export class ClientController implements Controller {
  isChanged = (): boolean => false
  readonly #random: Random
  readonly #role: Role
  readonly #known: Known
  #pass: PassPeer | null = null
  #disk = -1
  #state: 'closed' | 'opening' | 'open' | 'bye' = 'closed'
  #isWaitingForLimit = false

  constructor(role: Role, known: Known, random: Random) {
    this.#role = role
    this.#known = known
    this.#random = random
  }

  heard(frame: Frame): void {
    if (frame.type === FRAME.opened) this.#state = 'open'
    else if (frame.type === FRAME.limited) this.#isWaitingForLimit = false
    else this.#pass?.heard(frame)
  }

  next(): Buffer | null {
    if (this.#state === 'bye') return null
    if (this.#random.once(14)) return this.#aside()
    if (this.#pass !== null && !this.#pass.isOver) return this.#pass.next()
    if (this.#state === 'opening') return null
    if (this.#state === 'closed' || this.#random.once(100)) return this.#open()
    if (this.#random.once(300)) {
      this.#state = 'bye'
      return frameOf(FRAME.bye, 0)
    }
    return this.#start()
  }

  #open(): Buffer {
    this.#state = 'opening'
    this.#disk += 1
    this.#pass = null
    const access = this.#role === 'destination' ? 'write' : 'read'
    const open = { role: this.#role, path: '/fuzz/disk', access, create: 'never', createSizeBytes: 0 }
    return frameOf(FRAME.open, this.#disk, encodeControl(open))
  }

  #start(): Buffer {
    const { shape, roots } = this.#known
    const random = this.#random
    const from = shape.sizeBytes > 2 * SECTION && random.once(2) ? SECTION : 0
    const range = { offset: from, length: shape.sizeBytes - from }
    const isKnown = roots.has(`${range.offset}+${range.length}`)
    const mode = isKnown && random.int(3) > 0 ? 'write' : 'compare'
    this.#pass = peerFor({ shape, range, mode, disk: this.#disk }, this.#role, this.#known, random, () =>
      this.isChanged(),
    )
    const start = {
      mode,
      offsetBytes: range.offset,
      lengthBytes: range.length,
      destinationBytes: shape.sizeBytes,
      blockBytes: shape.blockBytes,
      leafBytes: shape.leafBytes,
      algorithm: 'xxh64x2',
      seed: SEED.toString('hex'),
      ...(random.once(6) ? { verify: 'written' } : {}),
    }
    return frameOf(FRAME.start, this.#disk, encodeControl(start))
  }

  #aside(): Buffer {
    const random = this.#random
    const { sizeBytes, blockBytes } = this.#known.shape
    switch (random.int(6)) {
      case 0:
        return frameOf(FRAME.rate, 0, encodeRate(random.once(2) ? null : 1e12))
      case 1:
        return frameOf(FRAME.credit, 0, encodeCredit(0, 0))
      case 2:
        if (this.#role !== 'source' || this.#pass === null || this.#isWaitingForLimit) break
        this.#isWaitingForLimit = true
        return frameOf(FRAME.limit, this.#disk, encodeMark(random.int(Math.ceil(sizeBytes / blockBytes) + 2)))
      case 3:
        if (this.#pass?.isOver !== true) break
        return frameOf(FRAME.record, this.#disk, encodeControl(recordOf(sizeBytes)))
      default:
    }
    return frameOf(FRAME.ping, 0, random.bytes(8))
  }
}

/** Answers what a near half asks. */
export class ServerController implements Controller {
  isChanged = (): boolean => false
  readonly #random: Random
  readonly #role: Role
  readonly #known: Known
  readonly #answers: Buffer[] = []
  #pass: PassPeer | null = null

  constructor(role: Role, known: Known, random: Random) {
    this.#role = role
    this.#known = known
    this.#random = random
  }

  heard(frame: Frame): void {
    const { type, disk, body } = frame
    const { shape } = this.#known
    if (type === FRAME.open)
      this.#answers.push(frameOf(FRAME.opened, disk, encodeControl(openedOf(shape.sizeBytes))))
    else if (type === FRAME.start) {
      const start = JSON.parse(body.toString()) as {
        mode: 'write' | 'compare'
        offsetBytes: number
        lengthBytes: number
      }
      const range = { offset: start.offsetBytes, length: start.lengthBytes }
      const pass = { shape, range, mode: start.mode, disk }
      this.#pass = peerFor(pass, this.#role, this.#known, this.#random, () => this.isChanged())
    } else if (type === FRAME.ping) this.#answers.push(frameOf(FRAME.pong, 0, Buffer.from(body)))
    else if (type === FRAME.invite)
      this.#answers.push(frameOf(FRAME.invited, 0, encodeControl({ lane: 'x' })))
    else if (type === FRAME.limit) this.#answers.push(frameOf(FRAME.limited, disk, Buffer.from(body)))
    else if (type === FRAME.record)
      this.#answers.push(frameOf(FRAME.recorded, disk, encodeControl({ failure: null })))
    else this.#pass?.heard(frame)
  }

  next(): Buffer | null {
    const answer = this.#answers.shift()
    if (answer !== undefined) return answer
    if (this.#random.once(14)) return frameOf(FRAME.ping, 0, this.#random.bytes(8))
    return this.#pass?.next() ?? null
  }
}

const STABLE = { machineId: '0123456789abcdef'.repeat(2), hostName: 'far', names: ['path:/far'] }

function openedOf(sizeBytes: number): object {
  return {
    path: '/far',
    kind: 'file',
    sizeBytes,
    logicalSectorBytes: 512,
    created: false,
    direct: false,
    identity: { machine: 'far', aliases: ['file:1:1'] },
    warnings: ['a warning'],
    stable: STABLE,
    content: [{ kind: 'ext4', id: ID, label: 'root', partitions: null, inPartition: null, offsetBytes: 0 }],
  }
}

function recordOf(sizeBytes: number): object {
  const finished = {
    root: '0'.repeat(64),
    algorithm: 'xxh64x2',
    seed: SEED.toString('hex'),
    blockBytes: 4096,
    leafBytes: 512,
    sizeBytes,
    lengthBytes: sizeBytes,
    runId: ID,
    finishedAt: '2026-01-01T00:00:00.000Z',
    by: { user: 'x', host: 'y', version: '0.1.0' },
  }
  return { pairId: ID, peer: { stable: STABLE, path: '/x' }, generation: 1, finished, replaces: [] }
}
