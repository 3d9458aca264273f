// What a pass wrote, in a form small enough to keep: where, and for each MiB one digest of what arrived. Data records come
// in and are forgotten; entries to read back come out. Refuses nothing: what comes in was checked (destination.ts).

import type { Digester, Range } from '../digest/digester.js'
import type { DataRecord } from '../wire/bodies.js'

/** The unit that one digest is kept for, and that is read back at once: a multiple of every leaf (MAX_GRANULARITY_BYTES). */
export const CHUNK_BYTES = 1 << 20
/** A log that is longer is read back before more is written: 8 MiB are some 400 GiB in one piece, or 1 GiB in single leaves. */
export const MAX_LOG_BYTES = 8 << 20

/** `data`: all in one chunk, `digest` over the digests of their leaves. `zero`: reads as zeros, however long. */
export type WrittenEntry =
  | Readonly<{ kind: 'data'; ranges: readonly Range[]; digest: Buffer }>
  | Readonly<{ kind: 'zero'; ranges: readonly [Range] }>

/** The data written to the chunk that is being filled. */
type OpenChunk = { index: number; runs: Range[]; leafCount: number }

/** Ascending records of one pass. The digester has another seed than the pass and CHUNK_BYTES blocks. */
export class WrittenLog {
  /** What `entries` gives: data and zeros written. */
  readonly bytes = { data: 0, zero: 0 }
  readonly #digester: Digester
  readonly #leafBytes: number
  readonly #leaves: Buffer
  readonly #data = new Numbers()
  readonly #zeros = new Numbers()
  #open: OpenChunk | null = null

  constructor(digester: Digester) {
    const { leafBytes } = digester.parameters.geometry
    this.#digester = digester
    this.#leafBytes = leafBytes
    this.#leaves = Buffer.alloc((CHUNK_BYTES / leafBytes) * digester.digestBytes)
  }

  /** Memory that the log takes. */
  get weightBytes(): number {
    return this.#data.length + this.#zeros.length
  }

  /** Records of a data frame, on the leaf grid, and the bytes of those of kind `data`. */
  add(records: readonly DataRecord[], payload: Uint8Array): void {
    let payloadAt = 0
    for (const { kind, offset, length } of records) {
      this.bytes[kind] += length
      if (kind === 'zero') {
        this.#zeros.put(offset)
        this.#zeros.put(length)
        continue
      }
      this.#addData(offset, payload.subarray(payloadAt, payloadAt + length))
      payloadAt += length
    }
  }

  /** Everything that was added, once; the log is empty when the iteration ends. Nothing is added meanwhile. */
  *entries(): Generator<WrittenEntry> {
    this.#close()
    const { digestBytes } = this.#digester
    for (const data = this.#data; !data.isRead;) {
      const runs: Range[] = []
      for (let left = data.take(); left > 0; left -= 1)
        runs.push({ offset: data.take(), length: data.take() })
      yield { kind: 'data', ranges: runs, digest: data.takeBytes(digestBytes) }
    }
    for (const zeros = this.#zeros; !zeros.isRead;)
      yield { kind: 'zero', ranges: [{ offset: zeros.take(), length: zeros.take() }] }
    this.#data.clear()
    this.#zeros.clear()
  }

  #addData(offset: number, data: Uint8Array): void {
    const { digestBytes } = this.#digester
    for (let done = 0; done < data.length;) {
      const at = offset + done
      const index = Math.floor(at / CHUNK_BYTES)
      const length = Math.min(data.length - done, (index + 1) * CHUNK_BYTES - at)
      if (this.#open?.index !== index) this.#close()
      const open = (this.#open ??= { index, runs: [], leafCount: 0 })
      this.#digester.digestLeaves(
        data.subarray(done, done + length),
        this.#leaves.subarray(open.leafCount * digestBytes),
      )
      open.leafCount += Math.ceil(length / this.#leafBytes)
      const last = open.runs.at(-1)
      if (last !== undefined && last.offset + last.length === at) last.length += length
      else open.runs.push({ offset: at, length })
      done += length
    }
  }

  #close(): void {
    const open = this.#open
    if (open === null) return
    this.#open = null
    this.#data.put(open.runs.length)
    for (const { offset, length } of open.runs) {
      this.#data.put(offset)
      this.#data.put(length)
    }
    const leaves = this.#leaves.subarray(0, open.leafCount * this.#digester.digestBytes)
    const digest = Buffer.alloc(this.#digester.digestBytes)
    this.#digester.digestItems(leaves, leaves.length, digest)
    this.#data.putBytes(digest)
  }
}

/** The first piece of memory that a list takes. */
const FIRST_BYTES = 4096

/** Numbers end to end, 7 bits a byte, low ones first: offsets and lengths are mostly round, so a shift goes before them. */
class Numbers {
  length = 0
  #bytes = Buffer.alloc(0)
  #at = 0

  get isRead(): boolean {
    return this.#at >= this.length
  }

  put(value: number): void {
    let shift = 0
    for (; value > 0 && shift < MAX_SHIFT && value % 2 === 0; shift += 1) value /= 2
    this.#room(9)
    this.#bytes[this.length++] = shift
    for (; value >= 128; value = Math.floor(value / 128)) this.#bytes[this.length++] = 128 | (value % 128)
    this.#bytes[this.length++] = value
  }

  putBytes(bytes: Uint8Array): void {
    this.#room(bytes.length)
    this.#bytes.set(bytes, this.length)
    this.length += bytes.length
  }

  take(): number {
    let shift = this.#bytes[this.#at++] ?? 0
    let value = 0
    for (let unit = 1; ; unit *= 128) {
      const byte = this.#bytes[this.#at++] ?? 0
      value += (byte % 128) * unit
      if (byte < 128) break
    }
    for (; shift > 0; shift -= 1) value *= 2
    return value
  }

  takeBytes(length: number): Buffer {
    const bytes = Buffer.from(this.#bytes.subarray(this.#at, this.#at + length))
    this.#at += length
    return bytes
  }

  clear(): void {
    this.length = 0
    this.#at = 0
  }

  #room(length: number): void {
    if (this.length + length <= this.#bytes.length) return
    const larger = Buffer.alloc(Math.max(FIRST_BYTES, this.#bytes.length * 2, this.length + length))
    larger.set(this.#bytes.subarray(0, this.length))
    this.#bytes = larger
  }
}

/** What a byte in front of a number can say, and no more than a u64 has. */
const MAX_SHIFT = 53
