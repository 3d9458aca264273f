// Bytes of an undo journal file: what was to be preserved goes in, a header and records come out, and the other way round.
// Everything read is checked before it is believed: magic, place, counts, and a digest over each part. See docs/undo.md.

import type { Range } from '../digest/digester.js'

/** Digests of the journal are xxh64x2: with and without the native core, 128 bits, seeded for each file. */
export const JOURNAL_ALGORITHM = 'xxh64x2'
const DIGEST_BYTES = 16
const MAGIC = Buffer.from('blocksync undo\0\x01', 'latin1')
/** `bsUR` at the start of a record. */
const RECORD_MAGIC = 0x62735552
/** Header and records begin at multiples of it: what a disk writes as one. */
export const UNIT_BYTES = 512
const HEADER_FIELDS_BYTES = 72
export const RECORD_FIXED_BYTES = 32
const ENTRY_BYTES = 16
/** The largest leaf: zeros and damage are told apart at this fineness. */
export const MAX_LEAF_BYTES = 4096
const MIN_LEAF_BYTES = 512
/** What one record may hold of old content; a reader takes no more memory than this and the tables of it. */
export const MAX_RECORD_PAYLOAD_BYTES = 16 << 20
/** One for each leaf of a full record twice over: data, zeros, data... */
export const MAX_RECORD_ENTRIES = 1 << 16
/** The longest run of zeros in one entry. */
export const MAX_ENTRY_BYTES = 1 << 30

/** From this much payload on it begins at a multiple of PAGE_BYTES of the file, so that it can be written around the page cache. */
export const ALIGNED_PAYLOAD_BYTES = 128 << 10
const PAGE_BYTES = 4096

/** `data`: the old content is in the payload. `zeros`: it read as zeros. */
export type Entry = Range & { kind: 'data' | 'zeros' }

/** What a file says of itself. */
export type FileHeader = Readonly<{
  /** 16 random bytes of the group that it belongs to, in hex. */
  group: string
  /** Which run of the group wrote it, from 1. */
  run: number
  leafBytes: number
  /** Of all digests in the file: 16 random bytes. */
  seed: Uint8Array
}>

/** Makes digests of memory with the seed of one file: one of `itemBytes` each, the last may be short. */
export type DigestItems = (data: Uint8Array, itemBytes: number, out: Uint8Array) => void

/** The head of a record: everything but the payload. `leaves` are the digests of the payload's leaves. */
export type RecordHead = Readonly<{
  entries: readonly Entry[]
  leaves: Buffer
  payloadBytes: number
  /** Where the payload begins, counted from the start of the record. */
  payloadAt: number
  /** Of all of it, up to where the next record begins. */
  recordBytes: number
}>

/** The file header, UNIT_BYTES long. `digest` is that of the seed in `header`. */
export function encodeHeader(header: FileHeader, digest: DigestItems): Buffer {
  const bytes = Buffer.alloc(UNIT_BYTES)
  MAGIC.copy(bytes)
  Buffer.from(header.group, 'hex').copy(bytes, 16)
  bytes.set(header.seed, 32)
  bytes.writeUInt32BE(header.run, 48)
  bytes.writeUInt32BE(header.leafBytes, 52)
  digest(bytes.subarray(0, 56), 56, bytes.subarray(56, HEADER_FIELDS_BYTES))
  return bytes
}

/** What a header says before its digest is checked, or null where it is none: `seed` is needed to check it. */
export function headerSeed(bytes: Buffer): Uint8Array | null {
  if (bytes.length < UNIT_BYTES || !bytes.subarray(0, 16).equals(MAGIC)) return null
  return Uint8Array.from(bytes.subarray(32, 48))
}

/** The header, or null where the digest or a field is not right. */
export function decodeHeader(bytes: Buffer, digest: DigestItems): FileHeader | null {
  const seed = headerSeed(bytes)
  if (seed === null || !isDigestOf(bytes.subarray(0, 56), bytes.subarray(56, HEADER_FIELDS_BYTES), digest))
    return null
  const leafBytes = bytes.readUInt32BE(52)
  const isLeaf =
    leafBytes >= MIN_LEAF_BYTES && leafBytes <= MAX_LEAF_BYTES && Number.isInteger(Math.log2(leafBytes))
  if (!isLeaf) return null
  return { group: bytes.toString('hex', 16, 32), run: bytes.readUInt32BE(48), leafBytes, seed }
}

/** How many leaves the data of these entries has. */
export function leafCount(entries: readonly Entry[], leafBytes: number): number {
  return entries.reduce(
    (sum, { kind, length }) => sum + (kind === 'data' ? Math.ceil(length / leafBytes) : 0),
    0,
  )
}

/**
 * The head of a record that begins at byte `position` of its file. `leaves` are the digests of all leaves of its data
 * entries, packed. `head` includes the zeros before the payload; behind it, zeros up to a multiple of UNIT_BYTES follow
 * (`paddingBytes`).
 */
export function encodeRecordHead(
  position: number,
  sequence: number,
  entries: readonly Entry[],
  leaves: readonly Uint8Array[],
  digest: DigestItems,
): { head: Buffer; payloadBytes: number; paddingBytes: number } {
  const leavesBytes = leaves.reduce((sum, { length }) => sum + length, 0)
  const digestAt = RECORD_FIXED_BYTES + entries.length * ENTRY_BYTES + leavesBytes
  const payloadBytes = entries.reduce((sum, { kind, length }) => sum + (kind === 'data' ? length : 0), 0)
  const head = Buffer.alloc(payloadOffset(position, digestAt + DIGEST_BYTES, payloadBytes))
  let at = RECORD_FIXED_BYTES
  for (const { offset, length, kind } of entries) {
    head.writeBigUInt64BE(BigInt(offset), at)
    head.writeUInt32BE(length, at + 8)
    head.writeUInt8(kind === 'data' ? 1 : 2, at + 12)
    at += ENTRY_BYTES
  }
  for (const slab of leaves) {
    head.set(slab, at)
    at += slab.length
  }
  head.writeUInt32BE(RECORD_MAGIC, 0)
  head.writeUInt32BE(entries.length, 4)
  head.writeBigUInt64BE(BigInt(sequence), 8)
  head.writeBigUInt64BE(BigInt(payloadBytes), 16)
  head.writeBigUInt64BE(BigInt(position), 24)
  digest(head.subarray(0, digestAt), digestAt, head.subarray(digestAt, digestAt + DIGEST_BYTES))
  return { head, payloadBytes, paddingBytes: padding(head.length + payloadBytes) }
}

/** Length of a head from its first RECORD_FIXED_BYTES and its entries, in two steps: null is "no record here". */
export type RecordStart = Readonly<{ entryCount: number; payloadBytes: number; tableBytes: number }>

/** The fixed part of a record that should be number `sequence` and at `position`, or null. */
export function decodeRecordStart(
  bytes: Buffer,
  position: number,
  sequence: number | null,
): RecordStart | null {
  if (bytes.length < RECORD_FIXED_BYTES || bytes.readUInt32BE(0) !== RECORD_MAGIC) return null
  const entryCount = bytes.readUInt32BE(4)
  const payloadBytes = bytes.readBigUInt64BE(16)
  if (bytes.readBigUInt64BE(24) !== BigInt(position)) return null
  if (sequence !== null && bytes.readBigUInt64BE(8) !== BigInt(sequence)) return null
  if (entryCount === 0 || entryCount > MAX_RECORD_ENTRIES) return null
  if (payloadBytes > BigInt(MAX_RECORD_PAYLOAD_BYTES)) return null
  return { entryCount, payloadBytes: Number(payloadBytes), tableBytes: entryCount * ENTRY_BYTES }
}

/** Bytes of a whole head: `bytes` holds its fixed part and its table. Null where the table is none. */
export function recordHeadBytes(bytes: Buffer, start: RecordStart, leafBytes: number): number | null {
  const entries = decodeTable(bytes, start)
  if (entries === null) return null
  return RECORD_FIXED_BYTES + start.tableBytes + (leafCount(entries, leafBytes) + 1) * DIGEST_BYTES
}

/** A whole head, checked, or null: torn or damaged. */
export function decodeRecordHead(
  bytes: Buffer,
  position: number,
  start: RecordStart,
  leafBytes: number,
  digest: DigestItems,
): RecordHead | null {
  const entries = decodeTable(bytes, start)
  if (entries === null) return null
  const leavesAt = RECORD_FIXED_BYTES + start.tableBytes
  const digestAt = leavesAt + leafCount(entries, leafBytes) * DIGEST_BYTES
  const headBytes = digestAt + DIGEST_BYTES
  if (bytes.length < headBytes) return null
  if (!isDigestOf(bytes.subarray(0, digestAt), bytes.subarray(digestAt, headBytes), digest)) return null
  const payloadAt = payloadOffset(position, headBytes, start.payloadBytes)
  const bodyBytes = payloadAt + start.payloadBytes
  return {
    entries,
    leaves: Buffer.from(bytes.subarray(leavesAt, digestAt)),
    payloadBytes: start.payloadBytes,
    payloadAt,
    recordBytes: bodyBytes + padding(bodyBytes),
  }
}

/** True where the payload is what the head says: every leaf of every data entry. */
export function isPayloadOf(
  payload: Uint8Array,
  { entries, leaves }: RecordHead,
  leafBytes: number,
  digest: DigestItems,
): boolean {
  const found = Buffer.alloc(leaves.length)
  let at = 0
  let leafAt = 0
  for (const { kind, length } of entries) {
    if (kind !== 'data') continue
    const leavesBytes = Math.ceil(length / leafBytes) * DIGEST_BYTES
    digest(payload.subarray(at, at + length), leafBytes, found.subarray(leafAt, leafAt + leavesBytes))
    at += length
    leafAt += leavesBytes
  }
  return found.equals(leaves)
}

function decodeTable(bytes: Buffer, { entryCount, payloadBytes }: RecordStart): Entry[] | null {
  if (bytes.length < RECORD_FIXED_BYTES + entryCount * ENTRY_BYTES) return null
  const entries: Entry[] = []
  let dataBytes = 0
  for (let index = 0; index < entryCount; index++) {
    const at = RECORD_FIXED_BYTES + index * ENTRY_BYTES
    const offset = bytes.readBigUInt64BE(at)
    const length = bytes.readUInt32BE(at + 8)
    const kind = bytes.readUInt8(at + 12)
    if (length === 0 || length > MAX_ENTRY_BYTES || (kind !== 1 && kind !== 2)) return null
    if (offset + BigInt(length) > BigInt(Number.MAX_SAFE_INTEGER)) return null
    if (kind === 1) dataBytes += length
    entries.push({ offset: Number(offset), length, kind: kind === 1 ? 'data' : 'zeros' })
  }
  return dataBytes === payloadBytes ? entries : null
}

function isDigestOf(data: Uint8Array, expected: Uint8Array, digest: DigestItems): boolean {
  const found = Buffer.alloc(DIGEST_BYTES)
  digest(data, data.length, found)
  return found.equals(expected)
}

/** Where the payload begins in a record at `position` whose head without the zeros behind it is `headBytes` long. */
function payloadOffset(position: number, headBytes: number, payloadBytes: number): number {
  if (payloadBytes < ALIGNED_PAYLOAD_BYTES) return headBytes
  return Math.ceil((position + headBytes) / PAGE_BYTES) * PAGE_BYTES - position
}

function padding(bytes: number): number {
  return (UNIT_BYTES - (bytes % UNIT_BYTES)) % UNIT_BYTES
}
