// What stands between a pass and the first byte it overwrites: ranges come in, their old content is read, goes to the
// journal and to stable storage, and only then the call resolves. Many calls share one flush. Refuses everything after a
// failure, so that nothing is overwritten that could not be kept.

import type { Range } from '../digest/digester.js'
import type { Endpoint } from '../endpoint/endpoint.js'
import { journalFailure, noRoom } from './failures.js'
import type { JournalFiles } from './files.js'
import type { Entry } from './format.js'
import { MAX_LEAF_BYTES, MAX_RECORD_ENTRIES, MAX_RECORD_PAYLOAD_BYTES } from './format.js'
import { JournalWriter } from './journal-file.js'
import type { DigesterOf, Kept } from './journal-file.js'
import { holesOnly, type Piece, PieceMemory, piecesOf, withoutZeros } from './pieces.js'

/** The disk whose old content is kept. */
export type OldContent = Pick<Endpoint, 'info' | 'extents' | 'readDigested'>

/** Keeps old content for one pass. Who opens it closes it. */
export interface Preserver {
  /** Resolves when the old content of all ranges is on stable storage. Ranges of one pass do not overlap. */
  before(ranges: readonly Range[]): Promise<void>
  /** Bytes of journal that this pass wrote. */
  readonly bytes: number
  /** Resolves when nothing is read or written any more, and the file is closed. */
  close(): Promise<void>
}

export type PreserverPlace = Readonly<{
  files: JournalFiles
  /** Where the file goes. */
  directory: string
  group: string
  run: number
  /** What is beyond it was not there before, and is cut off by undoing. */
  sizeBytes: number
  /** The most that all files of the group may take, or null. */
  maxBytes: number | null
  digesterOf: DigesterOf
  /** Called once, when the first record is safe. */
  onFirst: () => Promise<void>
}>

/** A preserver for a pass with leaves of `leafBytes`: ranges begin at a multiple of that. No file is made before the first call. */
export function openPreserver(disk: OldContent, leafBytes: number, place: PreserverPlace): Preserver {
  return new JournalPreserver(disk, Math.min(leafBytes, MAX_LEAF_BYTES), place)
}

/** A piece that waits to be written. */
type Waiting = Kept & { payloadBytes: number; resolve: () => void; reject: (error: unknown) => void }

class JournalPreserver implements Preserver {
  readonly #disk: OldContent
  readonly #leafBytes: number
  readonly #place: PreserverPlace
  readonly #memory = new PieceMemory()
  #opening: Promise<JournalWriter> | null = null
  #writer: JournalWriter | null = null
  #waiting: Waiting[] = []
  #committing: Promise<void> | null = null
  #isFirst = true
  #failure: { error: unknown } | null = null
  readonly #underWay = new Set<Promise<void>>()

  constructor(disk: OldContent, leafBytes: number, place: PreserverPlace) {
    this.#disk = disk
    this.#leafBytes = leafBytes
    this.#place = place
  }

  get bytes(): number {
    return this.#writer?.bytes ?? 0
  }

  before(ranges: readonly Range[]): Promise<void> {
    const keeping = this.#keep(ranges).finally(() => this.#underWay.delete(keeping))
    this.#underWay.add(keeping)
    return keeping
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#underWay)
    await this.#committing
    const writer = await this.#opening?.catch(() => null) // who waited for it was told
    await writer?.close()
  }

  async #keep(ranges: readonly Range[]): Promise<void> {
    const { sizeBytes } = this.#place
    const old = ranges
      .map(({ offset, length }) => ({ offset, length: Math.min(length, sizeBytes - offset) }))
      .filter(({ length }) => length > 0)
    this.#refuseAfterFailure()
    if (old.length === 0) return
    const pieces: Promise<void>[] = []
    try {
      const writer = await this.#open()
      for await (const piece of piecesOf(this.#disk, old, this.#leafBytes)) {
        const kept = this.#keepPiece(writer, piece, await this.#memory.take(piece.data))
        kept.catch(() => undefined) // awaited below
        pieces.push(kept)
      }
    } catch (error) {
      this.#fail(error)
    }
    await Promise.allSettled(pieces)
    this.#refuseAfterFailure()
  }

  #refuseAfterFailure(): void {
    if (this.#failure !== null) throw this.#failure.error
  }

  async #open(): Promise<JournalWriter> {
    const { files, directory, group, run, digesterOf } = this.#place
    this.#opening ??= JournalWriter.create(
      files,
      directory,
      { group, run, leafBytes: this.#leafBytes },
      digesterOf,
    ).then(
      (writer) => (this.#writer = writer),
      (error: unknown) => {
        throw journalFailure(this.#disk.info.path, directory, error)
      },
    )
    return await this.#opening
  }

  async #keepPiece(writer: JournalWriter, piece: Piece, memory: Buffer | null): Promise<void> {
    try {
      const kept = memory === null ? holesOnly(piece) : await this.#read(writer, piece, memory)
      this.#refuseAfterFailure()
      await new Promise<void>((resolve, reject) => {
        const payloadBytes = kept.chunks.reduce((sum, chunk) => sum + chunk.length, 0)
        this.#waiting.push({ ...kept, payloadBytes, resolve, reject })
        this.#committing ??= this.#commit(writer)
      })
    } catch (error) {
      this.#fail(error)
      throw error
    } finally {
      if (memory !== null) this.#memory.give(memory)
    }
  }

  async #read({ digester }: JournalWriter, { data, holes, bytes }: Piece, memory: Buffer): Promise<Kept> {
    const leafBytes = this.#leafBytes
    const count = data.reduce((sum, { length }) => sum + Math.ceil(length / leafBytes), 0)
    const leaves = Buffer.allocUnsafeSlow(count * digester.digestBytes)
    const zeroLeaves = new Uint8Array(count)
    const content = memory.subarray(0, bytes)
    await this.#disk.readDigested(data, digester, content, leaves, zeroLeaves)
    const zeros = holes.map((hole): Entry => ({ ...hole, kind: 'zeros' }))
    if (!zeroLeaves.includes(1)) {
      const entries = [...data.map((range): Entry => ({ ...range, kind: 'data' })), ...zeros]
      return { entries, leaves, chunks: [content] }
    }
    const kept = withoutZeros(data, content, leaves, zeroLeaves, leafBytes)
    return { ...kept, entries: [...kept.entries, ...zeros] }
  }

  /** Writes what waits, record after record, until nothing does. Never rejects: who waits is told. */
  async #commit(writer: JournalWriter): Promise<void> {
    // whatever else was read in this turn shares the flush
    await Promise.resolve()
    while (this.#waiting.length > 0 && this.#failure === null) {
      const batch = this.#nextBatch()
      try {
        await this.#checkRoom(batch)
        await writer.append(batch)
        if (this.#isFirst) await this.#place.onFirst()
        this.#isFirst = false
        for (const { resolve } of batch) resolve()
      } catch (error) {
        const failure = journalFailure(this.#disk.info.path, this.#place.directory, error)
        this.#fail(failure)
        for (const { reject } of batch) reject(failure)
      }
    }
    this.#committing = null
  }

  #nextBatch(): Waiting[] {
    let payloadBytes = 0
    let entries = 0
    let count = 0
    for (const waiting of this.#waiting) {
      payloadBytes += waiting.payloadBytes
      entries += waiting.entries.length
      if (payloadBytes > MAX_RECORD_PAYLOAD_BYTES || entries > MAX_RECORD_ENTRIES) break
      count += 1
    }
    return this.#waiting.splice(0, count)
  }

  /** Where there is a bound, the files of all lanes count. */
  async #checkRoom(batch: readonly Waiting[]): Promise<void> {
    const { maxBytes, files, directory } = this.#place
    if (maxBytes === null) return
    const wantedBytes = batch.reduce((sum, { payloadBytes }) => sum + payloadBytes, 0)
    const usedBytes = await directoryBytes(files, directory)
    if (usedBytes + wantedBytes <= maxBytes) return
    throw noRoom(this.#disk.info.path, `--undo-max is ${maxBytes} bytes, and ${usedBytes} are used`)
  }

  #fail(error: unknown): void {
    this.#failure ??= { error }
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }
}

/** Bytes of all files in a directory. */
export async function directoryBytes(files: JournalFiles, directory: string): Promise<number> {
  let bytes = 0
  for (const name of (await files.list(directory)) ?? []) {
    if (!name.endsWith('.undo')) continue
    const file = await files.open(`${directory}/${name}`)
    if (file === null) continue
    try {
      bytes += await file.sizeBytes()
    } finally {
      await file.close()
    }
  }
  return bytes
}
