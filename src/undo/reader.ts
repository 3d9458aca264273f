// A file of an undo journal, read: every record is checked before anything of it is handed out. A torn end is what a crash
// leaves and is skipped; damage before a record that is whole is refused (undo/broken).

import type { Digester } from '../digest/digester.js'
import { broken } from './failures.js'
import type { JournalFile, JournalFiles } from './files.js'
import type { Entry, FileHeader, RecordHead } from './format.js'
import {
  decodeHeader,
  decodeRecordHead,
  decodeRecordStart,
  headerSeed,
  isPayloadOf,
  RECORD_FIXED_BYTES,
  recordHeadBytes,
  UNIT_BYTES,
} from './format.js'
import { journalDigester } from './journal-file.js'
import type { DigesterOf } from './journal-file.js'
import type { Manifest } from './manifest.js'

/** Looked through at once for a whole record behind a torn one. */
const SEARCH_BYTES = 1 << 20

export type UndoRecord = Readonly<{ entries: readonly Entry[]; payload: Buffer }>

/** Where a record that was checked begins. */
type Place = Readonly<{ position: number; sequence: number }>

/** A file that was checked from its start to its end. Who opens it closes it. */
export interface CheckedFile {
  readonly name: string
  readonly run: number
  /** From the first to the last. */
  readonly places: readonly Place[]
  readonly dataBytes: number
  readonly zeroBytes: number
  /** A record, checked once more. Rejects with undo/broken. */
  read(place: Place): Promise<UndoRecord>
  close(): Promise<void>
}

/** Opens a file of a group and checks all of it; null where a crash came before its first record. Rejects with undo/broken. */
export async function openChecked(
  files: JournalFiles,
  manifest: Manifest,
  name: string,
  digesterOf: DigesterOf,
): Promise<CheckedFile | null> {
  const path = `${manifest.filesIn}/${name}`
  const file = await files.open(path)
  if (file === null) throw broken(manifest.path, `${path} is missing`)
  try {
    const exactBytes = manifest.files.find((each) => each.name === name)?.bytes ?? null
    const sizeBytes = await file.sizeBytes()
    if (exactBytes !== null && sizeBytes !== exactBytes)
      throw broken(manifest.path, `${path} has ${sizeBytes} bytes and should have ${exactBytes}`)
    const opened = await openHeader(file, digesterOf)
    if (opened === null) {
      // the header is on stable storage before the first record is written
      if (exactBytes !== null || sizeBytes > UNIT_BYTES) throw broken(manifest.path, `the start of ${path}`)
      await file.close()
      return null
    }
    if (opened.header.group !== manifest.group) throw broken(manifest.path, `${path} is of another journal`)
    const reader = new Reader(file, name, path, manifest, opened.header, opened.digester)
    await reader.check(sizeBytes, exactBytes === null ? 'may-be-torn' : 'whole')
    return reader
  } catch (error) {
    await file.close()
    throw error
  }
}

async function openHeader(
  file: JournalFile,
  digesterOf: DigesterOf,
): Promise<{ header: FileHeader; digester: Digester } | null> {
  const bytes = Buffer.alloc(UNIT_BYTES)
  if ((await file.read(bytes, 0)) < UNIT_BYTES) return null
  const seed = headerSeed(bytes)
  if (seed === null) return null
  // the leaf of this one is not used: the header's fields are one item
  const anyLeaf = await journalDigester(digesterOf, seed, UNIT_BYTES)
  const header = decodeHeader(bytes, anyLeaf.digestItems.bind(anyLeaf))
  if (header === null) return null
  return { header, digester: await journalDigester(digesterOf, seed, header.leafBytes) }
}

class Reader implements CheckedFile {
  readonly name: string
  readonly run: number
  readonly places: Place[] = []
  dataBytes = 0
  zeroBytes = 0
  readonly #file: JournalFile
  readonly #path: string
  readonly #manifest: Manifest
  readonly #leafBytes: number
  readonly #digest: Digester['digestItems']

  constructor(
    file: JournalFile,
    name: string,
    path: string,
    manifest: Manifest,
    { run, leafBytes }: FileHeader,
    digester: Digester,
  ) {
    this.#file = file
    this.name = name
    this.run = run
    this.#path = path
    this.#manifest = manifest
    this.#leafBytes = leafBytes
    this.#digest = digester.digestItems.bind(digester)
  }

  async check(sizeBytes: number, end: 'whole' | 'may-be-torn'): Promise<void> {
    let position = UNIT_BYTES
    for (let sequence = 0; position < sizeBytes; sequence += 1) {
      const found = await this.#record(position, sequence)
      if (found === null) {
        if (end === 'whole' || (await this.#isRecordBehind(position, sizeBytes)))
          throw broken(this.#manifest.path, `${this.#path} at byte ${position}`)
        return
      }
      for (const { kind, offset, length } of found.head.entries) {
        if (offset + length > this.#manifest.sizeBytes)
          throw broken(
            this.#manifest.path,
            `${this.#path} at byte ${position} is about what the disk never had`,
          )
        if (kind === 'data') this.dataBytes += length
        else this.zeroBytes += length
      }
      this.places.push({ position, sequence })
      position += found.head.recordBytes
    }
  }

  async read({ position, sequence }: Place): Promise<UndoRecord> {
    const found = await this.#record(position, sequence)
    if (found === null)
      throw broken(this.#manifest.path, `${this.#path} at byte ${position}, which was whole before`)
    return { entries: found.head.entries, payload: found.payload }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  async #record(
    position: number,
    sequence: number | null,
  ): Promise<{ head: RecordHead; payload: Buffer } | null> {
    const fixed = await this.#bytes(position, RECORD_FIXED_BYTES)
    const start = fixed === null ? null : decodeRecordStart(fixed, position, sequence)
    if (start === null) return null
    const table = await this.#bytes(position, RECORD_FIXED_BYTES + start.tableBytes)
    const headBytes = table === null ? null : recordHeadBytes(table, start, this.#leafBytes)
    if (headBytes === null) return null
    const headOnly = await this.#bytes(position, headBytes)
    const head =
      headOnly === null ? null : decodeRecordHead(headOnly, position, start, this.#leafBytes, this.#digest)
    if (head === null) return null
    const payload = await this.#bytes(position + head.payloadAt, head.payloadBytes)
    if (payload === null || !isPayloadOf(payload, head, this.#leafBytes, this.#digest)) return null
    return { head, payload }
  }

  /** Null where the file ends before. */
  async #bytes(position: number, length: number): Promise<Buffer | null> {
    const bytes = Buffer.allocUnsafeSlow(length)
    return (await this.#file.read(bytes, position)) === length ? bytes : null
  }

  /** A record is begun when the one before it is on stable storage: a whole one behind a torn one is damage. */
  async #isRecordBehind(position: number, sizeBytes: number): Promise<boolean> {
    const bytes = Buffer.allocUnsafeSlow(SEARCH_BYTES)
    for (let from = position + UNIT_BYTES; from < sizeBytes; from += SEARCH_BYTES) {
      const read = await this.#file.read(bytes, from)
      for (let at = 0; at + RECORD_FIXED_BYTES <= read; at += UNIT_BYTES) {
        const start = decodeRecordStart(bytes.subarray(at, at + RECORD_FIXED_BYTES), from + at, null)
        if (start !== null && (await this.#record(from + at, null)) !== null) return true
      }
    }
    return false
  }
}
