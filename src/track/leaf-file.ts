// The leaf digests of one disk in a file: slabs go in and out by the number of their first leaf, and behind them lies what they
// are of. It is true only while it is sealed; who begins to change it breaks the seal first. Refuses one that is not sealed.

import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'

import type { Range } from '../digest/digester.js'
import { isObject } from '../json.js'

/** Another version of this program may have written it. */
const VERSION = 1
/** Behind the facts: their length in bytes and this word. */
const SEAL_WORD = 0x6c656166
const SEAL_BYTES = 8
/** Facts are a few hundred bytes, and at most so many ranges. */
const MAX_FACTS_BYTES = 1 << 20
/** Where more than this is not known, nothing is. */
export const MAX_UNKNOWN_RANGES = 4096
const MODE = 0o600

/** What the leaves in a file are of. */
export type LeafFacts = Readonly<{
  algorithm: string
  /** Hex. */
  seed: string
  leafBytes: number
  digestBytes: number
  lengthBytes: number
  /** The disk whose content they are: of a source device and inode number of the file, of a destination its stable name. */
  source: string
  /**
   * Of a source which copy it was, in the same way: only with that one may another be compared. Of a destination the root of
   * what was written: it is that generation.
   */
  copy: string
  /** Ranges whose digests are not in the file. */
  unknown: readonly Range[]
  /** Where the next sample begins. */
  sampleAtBytes: number
}>

export class LeafFile {
  readonly path: string
  readonly #handle: FileHandle
  /** What the seal says; null where there is none (any more). */
  #facts: LeafFacts | null
  #unsealing: Promise<void> = Promise.resolve()

  private constructor(path: string, handle: FileHandle, facts: LeafFacts | null) {
    this.path = path
    this.#handle = handle
    this.#facts = facts
  }

  /** An empty one, in place of what is there. Rejects with the system error. */
  static async create(path: string): Promise<LeafFile> {
    const { O_CREAT, O_RDWR, O_TRUNC, O_NOFOLLOW } = constants
    return new LeafFile(path, await open(path, O_CREAT | O_RDWR | O_TRUNC | O_NOFOLLOW, MODE), null)
  }

  /** One that is there, sealed or not; an empty one is made where there is none. Rejects with the system error. */
  static async openOrCreate(path: string): Promise<LeafFile> {
    const { O_CREAT, O_RDWR, O_NOFOLLOW } = constants
    await (await open(path, O_CREAT | O_RDWR | O_NOFOLLOW, MODE)).close()
    return await LeafFile.open(path)
  }

  /** One that is there, sealed or not. Rejects with the system error. */
  static async open(path: string): Promise<LeafFile> {
    const handle = await open(path, constants.O_RDWR | constants.O_NONBLOCK)
    try {
      return new LeafFile(path, handle, await readFacts(handle))
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** What its leaves are of; null where they are of nothing that can be trusted. */
  get facts(): LeafFacts | null {
    return this.#facts
  }

  /** Fills `out` with leaf digests from leaf `firstLeaf` on; zeros stand for leaves behind the end of the disk that it was. */
  async read(firstLeaf: number, digestBytes: number, out: Uint8Array): Promise<void> {
    for (let done = 0; done < out.length;) {
      const position = firstLeaf * digestBytes + done
      const { bytesRead } = await this.#handle.read(out, done, out.length - done, position)
      if (bytesRead === 0) {
        out.fill(0, done)
        return
      }
      done += bytesRead
    }
  }

  /** Digests from leaf `firstLeaf` on. The seal is broken before. */
  async write(firstLeaf: number, digestBytes: number, leaves: Uint8Array): Promise<void> {
    await this.unseal()
    for (let done = 0; done < leaves.length;) {
      const position = firstLeaf * digestBytes + done
      done += (await this.#handle.write(leaves, done, leaves.length - done, position)).bytesWritten
    }
  }

  /** From here on the file says nothing, until it is sealed. Many write at once, and none before this is done. */
  async unseal(): Promise<void> {
    const facts = this.#facts
    this.#facts = null
    if (facts !== null) this.#unsealing = this.#handle.truncate(endOfLeaves(facts))
    await this.#unsealing
  }

  /** What was written is what `facts` say, all of it. */
  async seal(facts: LeafFacts): Promise<void> {
    const text = Buffer.from(JSON.stringify({ version: VERSION, ...facts }))
    const foot = Buffer.alloc(SEAL_BYTES)
    foot.writeUInt32LE(text.length, 0)
    foot.writeUInt32LE(SEAL_WORD, 4)
    const at = endOfLeaves(facts)
    await this.#handle.truncate(at)
    await this.#handle.write(Buffer.concat([text, foot]), 0, text.length + SEAL_BYTES, at)
    this.#facts = facts
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

function endOfLeaves({ lengthBytes, leafBytes, digestBytes }: LeafFacts): number {
  return Math.ceil(lengthBytes / leafBytes) * digestBytes
}

async function readFacts(handle: FileHandle): Promise<LeafFacts | null> {
  const { size } = await handle.stat()
  if (size < SEAL_BYTES) return null
  const foot = Buffer.alloc(SEAL_BYTES)
  await handle.read(foot, 0, SEAL_BYTES, size - SEAL_BYTES)
  const factsBytes = foot.readUInt32LE(0)
  const from = size - SEAL_BYTES - factsBytes
  if (foot.readUInt32LE(4) !== SEAL_WORD || factsBytes > MAX_FACTS_BYTES || from < 0) return null
  const text = Buffer.alloc(factsBytes)
  await handle.read(text, 0, factsBytes, from)
  const facts = checkedFacts(text.toString())
  // digests may look like anything, but hardly like a seal in the right place
  return facts !== null && endOfLeaves(facts) === from ? facts : null
}

function checkedFacts(text: string): LeafFacts | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // it ends like a seal by chance, or the program that wrote it was killed in the middle
    return null
  }
  if (!isObject(value) || value['version'] !== VERSION) return null
  const { algorithm, seed, leafBytes, digestBytes, lengthBytes, source, copy, unknown, sampleAtBytes } = value
  if (typeof algorithm !== 'string' || typeof source !== 'string' || typeof copy !== 'string') return null
  if (typeof seed !== 'string' || !/^([0-9a-f]{2})+$/.test(seed)) return null
  if (!isCount(leafBytes) || leafBytes === 0 || !isCount(digestBytes) || digestBytes === 0) return null
  if (!isCount(lengthBytes) || !isCount(sampleAtBytes)) return null
  if (!Array.isArray(unknown) || unknown.length > MAX_UNKNOWN_RANGES) return null
  const ranges: Range[] = []
  for (const range of unknown as readonly unknown[]) {
    if (!isObject(range) || !isCount(range['offset']) || !isCount(range['length'])) return null
    ranges.push({ offset: range['offset'], length: range['length'] })
  }
  return {
    algorithm,
    seed,
    leafBytes,
    digestBytes,
    lengthBytes,
    source,
    copy,
    unknown: ranges,
    sampleAtBytes,
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
