// A machine in memory that can lose its power: a file system for the journal and the disk that is written. Every change and
// every flush is recorded; what is left after a power loss at any of them is built from that record.

import type { Digester, Range } from '../../src/digest/digester.js'
import type { Extent } from '../../src/endpoint/endpoint.js'
import type { UndoTarget } from '../../src/undo/apply.js'
import type { JournalFile, JournalFiles } from '../../src/undo/files.js'
import type { OldContent } from '../../src/undo/preserver.js'
import { isZero } from '../support/memory-disk.js'

const SECTOR_BYTES = 512
export const DISK_PATH = '/images/disk.img'

/** A number from 0 to 1, exclusive; the same ones for the same seed (mulberry32, a public-domain generator). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** `covers`: a flush makes the changes before that place in the record stable, those it is about. */
type Change =
  | { kind: 'make'; path: string; node: number | 'directory' }
  | { kind: 'move'; from: string; to: string }
  | { kind: 'drop'; path: string }
  | { kind: 'data'; node: number; at: number; bytes: Buffer }
  | { kind: 'length'; node: number; bytes: number }
type Flush =
  | { kind: 'flush-data'; node: number; covers: number }
  | { kind: 'flush-names'; directory: string; covers: number }
export type Op = Change | Flush

/** The disk is node 0 and named like a file; its data is flushed as any file's. */
const DISK_NODE = 0

/** What is on a machine: names, and the bytes of each file. */
type Stored = { names: Map<string, number | 'directory'>; content: Map<number, Buffer> }

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/'
}

function systemError(code: string): Error {
  return Object.assign(new Error(code), { code })
}

function apply(stored: Stored, change: Change): void {
  const { names, content } = stored
  switch (change.kind) {
    case 'make':
      names.set(change.path, change.node)
      if (typeof change.node === 'number' && !content.has(change.node))
        content.set(change.node, Buffer.alloc(0))
      return
    case 'move':
      for (const [path, node] of names) {
        if (path !== change.from && !path.startsWith(`${change.from}/`)) continue
        names.delete(path)
        names.set(change.to + path.slice(change.from.length), node)
      }
      return
    case 'drop':
      names.delete(change.path)
      return
    case 'data': {
      const old = content.get(change.node) ?? Buffer.alloc(0)
      const end = change.at + change.bytes.length
      const grown = end > old.length ? Buffer.concat([old, Buffer.alloc(end - old.length)]) : Buffer.from(old)
      change.bytes.copy(grown, change.at)
      content.set(change.node, grown)
      return
    }
    case 'length': {
      const old = content.get(change.node) ?? Buffer.alloc(0)
      const sized = Buffer.alloc(change.bytes)
      old.copy(sized)
      content.set(change.node, sized)
      return
    }
    default:
      throw new Error(String(change satisfies never))
  }
}

function copyOf({ names, content }: Stored): Stored {
  return { names: new Map(names), content: new Map(content) }
}

export class Machine {
  /** All that happened since it was started, in order. */
  readonly ops: Op[] = []
  readonly #start: Stored
  readonly #now: Stored
  readonly #random: () => number
  #nextNode: number
  /** Bytes that files of the journal may still take. */
  freeBytes = 1 << 30

  constructor(stored: Stored, random: () => number) {
    this.#start = copyOf(stored)
    this.#now = copyOf(stored)
    this.#random = random
    this.#nextNode = Math.max(0, ...stored.content.keys()) + 1
  }

  /** A machine with a disk and an empty state directory. */
  static withDisk(content: Buffer, random: () => number): Machine {
    const names = new Map<string, number | 'directory'>([
      ['/state', 'directory'],
      ['/images', 'directory'],
      [DISK_PATH, DISK_NODE],
    ])
    return new Machine({ names, content: new Map([[DISK_NODE, content]]) }, random)
  }

  /** What the disk reads as, or null where it is not there. */
  get disk(): Buffer | null {
    return this.#now.names.has(DISK_PATH) ? (this.#now.content.get(DISK_NODE) ?? null) : null
  }

  get paths(): string[] {
    return [...this.#now.names.keys()].filter((path) => path.startsWith('/state/'))
  }

  /** Where things of the disk begin in the record. */
  isDiskChange(op: Op): boolean {
    return (op.kind === 'data' || op.kind === 'length') && op.node === DISK_NODE
  }

  /**
   * The machine as it comes up after its power was lost behind the first `count` operations. What no flush covered is kept
   * with the given probability, data sector by sector.
   */
  afterPowerLoss(count: number, keptShare: number, random: () => number): Machine {
    const ops = this.ops.slice(0, count)
    const stable = ops.map(() => false)
    ops.forEach((flush) => {
      if (flush.kind === 'flush-data' || flush.kind === 'flush-names')
        for (let index = 0; index < flush.covers; index++) stable[index] ||= covers(flush, ops[index])
    })
    const stored = copyOf(this.#start)
    ops.forEach((op, index) => {
      if (op.kind === 'flush-data' || op.kind === 'flush-names') return
      if (stable[index] === true || (op.kind !== 'data' && random() < keptShare)) return apply(stored, op)
      if (op.kind !== 'data') return
      for (let at = 0; at < op.bytes.length;) {
        const length = Math.min(SECTOR_BYTES - ((op.at + at) % SECTOR_BYTES), op.bytes.length - at)
        if (random() < keptShare)
          apply(stored, { ...op, at: op.at + at, bytes: op.bytes.subarray(at, at + length) })
        at += length
      }
    })
    // what lies in a directory that never came to be is not there either
    for (const path of stored.names.keys())
      for (let up = parentOf(path); up !== '/'; up = parentOf(up))
        if (!stored.names.has(up)) stored.names.delete(path)
    return new Machine(stored, random)
  }

  files(): JournalFiles {
    const now = this.#now
    const exists = (path: string): boolean => now.names.has(path)
    return {
      list: async (directory) => {
        await this.#turn()
        if (!exists(directory)) return null
        const inside = [...now.names.keys()].filter((path) => parentOf(path) === directory)
        return inside.map((path) => path.slice(directory.length + 1)).toSorted()
      },
      makeDirectory: async (directory) => {
        await this.#turn()
        if (!exists(parentOf(directory))) throw systemError('ENOENT')
        if (!exists(directory)) this.#do({ kind: 'make', path: directory, node: 'directory' })
      },
      create: async (path) => {
        await this.#turn()
        if (!exists(parentOf(path))) throw systemError('ENOENT')
        if (exists(path)) throw systemError('EEXIST')
        const node = this.#nextNode++
        this.#do({ kind: 'make', path, node })
        return this.#file(node)
      },
      open: async (path) => {
        await this.#turn()
        const node = now.names.get(path)
        return typeof node === 'number' ? this.#file(node) : null
      },
      rename: async (from, to) => {
        await this.#turn()
        if (!exists(from)) throw systemError('ENOENT')
        this.#do({ kind: 'move', from, to })
      },
      remove: async (path) => {
        await this.#turn()
        if (exists(path)) this.#do({ kind: 'drop', path })
      },
      removeDirectory: async (path) => {
        await this.#turn()
        if ([...now.names.keys()].some((each) => parentOf(each) === path)) throw systemError('ENOTEMPTY')
        if (exists(path)) this.#do({ kind: 'drop', path })
      },
      syncDirectory: async (directory) => {
        const covered = this.ops.length
        await this.#turn()
        this.ops.push({ kind: 'flush-names', directory, covers: covered })
      },
      freeBytes: async () => Promise.resolve(this.freeBytes),
    }
  }

  /** The disk as a run's destination and as what is brought back. */
  target(): UndoTarget & OldContent & { grow: (sizeBytes: number) => Promise<void> } {
    const content = (): Buffer => this.disk ?? Buffer.alloc(0)
    const set = (at: number, bytes: Buffer): void => this.#do({ kind: 'data', node: DISK_NODE, at, bytes })
    const flush = async (): Promise<void> => {
      const covered = this.ops.length
      await this.#turn()
      this.ops.push({ kind: 'flush-data', node: DISK_NODE, covers: covered })
    }
    const size = async (bytes: number): Promise<void> => {
      this.#do({ kind: 'length', node: DISK_NODE, bytes })
      await this.#turn()
    }
    return {
      get info() {
        return {
          path: DISK_PATH,
          kind: 'file' as const,
          sizeBytes: content().length,
          logicalSectorBytes: SECTOR_BYTES,
          created: false,
          direct: false,
          identity: { machine: 'memory', aliases: ['memory:0'] },
        }
      },
      async *extents({ offset, length }): AsyncGenerator<Extent> {
        for (let at = offset; at < offset + length; at += SECTOR_BYTES) {
          const bytes = Math.min(SECTOR_BYTES, offset + length - at)
          yield {
            offset: at,
            length: bytes,
            kind: isZero(content().subarray(at, at + bytes)) ? 'hole' : 'data',
          }
        }
      },
      readDigested: async (ranges, digester, into, leaves, zeroLeaves) => {
        await this.#turn()
        readInto(content(), ranges, digester, into, leaves, zeroLeaves)
      },
      write: async (ranges, from) => {
        let at = 0
        for (const { offset, length } of ranges) {
          set(offset, Buffer.from(from.subarray(at, at + length)))
          at += length
          await this.#turn()
        }
      },
      zero: async (ranges) => {
        for (const { offset, length } of ranges) {
          set(offset, Buffer.alloc(length))
          await this.#turn()
        }
      },
      flush,
      grow: size,
      cut: async (bytes) => {
        await size(bytes)
        await flush()
      },
      remove: async () => {
        this.#do({ kind: 'drop', path: DISK_PATH })
        const covered = this.ops.length
        await this.#turn()
        this.ops.push({ kind: 'flush-names', directory: parentOf(DISK_PATH), covers: covered })
      },
    }
  }

  #file(node: number): JournalFile {
    const content = (): Buffer => this.#now.content.get(node) ?? Buffer.alloc(0)
    return {
      write: async (parts, position) => {
        const bytes = Buffer.concat(parts)
        await this.#turn()
        this.freeBytes -= bytes.length
        if (this.freeBytes < 0) {
          // what still went in is torn
          this.#do({ kind: 'data', node, at: position, bytes: bytes.subarray(0, bytes.length >> 1) })
          throw systemError('ENOSPC')
        }
        this.#do({ kind: 'data', node, at: position, bytes })
      },
      read: async (into, position) => {
        await this.#turn()
        return content().copy(into, 0, position)
      },
      sizeBytes: async () => Promise.resolve(content().length),
      sync: async () => {
        const covered = this.ops.length
        await this.#turn()
        this.ops.push({ kind: 'flush-data', node, covers: covered })
      },
      close: async () => Promise.resolve(),
    }
  }

  #do(change: Change): void {
    this.ops.push(change)
    apply(this.#now, change)
  }

  /** Everything takes a while, and nobody knows how long. */
  async #turn(): Promise<void> {
    for (let left = Math.floor(this.#random() * 6); left > 0; left--) await Promise.resolve()
  }
}

function covers(flush: Flush, change: Op | undefined): boolean {
  if (change === undefined) return false
  if (flush.kind === 'flush-data')
    return (change.kind === 'data' || change.kind === 'length') && change.node === flush.node
  const { directory } = flush
  if (change.kind === 'make' || change.kind === 'drop') return parentOf(change.path) === directory
  return change.kind === 'move' && (parentOf(change.from) === directory || parentOf(change.to) === directory)
}

function readInto(
  content: Buffer,
  ranges: readonly Range[],
  digester: Digester,
  into: Uint8Array,
  leaves: Uint8Array,
  zeroLeaves: Uint8Array,
): void {
  const { leafBytes } = digester.parameters.geometry
  let at = 0
  let leaf = 0
  for (const { offset, length } of ranges) {
    if (offset % leafBytes !== 0) throw new Error(`a read of ${length} at ${offset} is off the grid`)
    const data = content.subarray(offset, offset + length)
    if (data.length !== length) throw new Error(`a read of ${length} at ${offset} is beyond the end`)
    into.set(data, at)
    digester.digestLeaves(data, leaves.subarray(leaf * digester.digestBytes))
    for (let done = 0; done < length; done += leafBytes, leaf += 1)
      zeroLeaves[leaf] = isZero(data.subarray(done, done + leafBytes)) ? 1 : 0
    at += length
  }
}
