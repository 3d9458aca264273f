// Bodies of the binary frames: digests, refine, detail, data, mark, credit, rate. Everything read here is checked against its
// limit and against the end of the body; offsets become plain numbers here, once.

import { CODEC_ID, type CodecId } from '../codec/codec.js'
import {
  MAX_DATA_PAYLOAD_BYTES,
  MAX_DATA_RECORDS,
  MAX_DIGEST_RUNS,
  MAX_REFINE_ITEMS,
  MAX_ZERO_RECORD_BYTES,
  protocolError,
} from './frame.js'

/** What the destination has in a run of blocks: digests of data, or nothing but zeros (read, or a hole). */
export type WireRun =
  | { kind: 'data'; blockCount: number; blocks: Buffer }
  | { kind: 'zero' | 'hole'; blockCount: number }

const RUN_DATA = 1
const RUN_ZERO = 2
const RUN_HOLE = 3
const RUN_HEADER_BYTES = 8

/** Reads a u64 that must be a safe integer. Throws session/protocol. */
function readUint64(body: Buffer, at: number): number {
  const value = body.readBigUInt64BE(at)
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw protocolError(`64-bit value ${value} is out of range`)
  return Number(value)
}

/** digests: first block u64, then runs: kind u8, zero u8[3], block count u32, and for data the digests. */
export function encodeDigests(firstBlock: number, runs: readonly WireRun[]): Buffer[] {
  const parts: Buffer[] = []
  const first = Buffer.alloc(8)
  first.writeBigUInt64BE(BigInt(firstBlock), 0)
  parts.push(first)
  for (const run of runs) {
    const header = Buffer.alloc(RUN_HEADER_BYTES)
    header.writeUInt8(run.kind === 'data' ? RUN_DATA : run.kind === 'zero' ? RUN_ZERO : RUN_HOLE, 0)
    header.writeUInt32BE(run.blockCount, 4)
    parts.push(header)
    if (run.kind === 'data') parts.push(run.blocks)
  }
  return parts
}

/** The reverse of encodeDigests. Runs are views into `body`. Throws session/protocol. */
export function decodeDigests(body: Buffer, digestBytes: number): { firstBlock: number; runs: WireRun[] } {
  if (body.length < 8) throw protocolError('digests frame without its first block')
  const firstBlock = readUint64(body, 0)
  const runs: WireRun[] = []
  let at = 8
  while (at < body.length) {
    if (body.length - at < RUN_HEADER_BYTES) throw protocolError('digests frame cut inside a run')
    const kind = body.readUInt8(at)
    const blockCount = body.readUInt32BE(at + 4)
    at += RUN_HEADER_BYTES
    if (blockCount === 0) throw protocolError('digests frame with an empty run')
    if (runs.length === MAX_DIGEST_RUNS)
      throw protocolError(`digests frame with more than ${MAX_DIGEST_RUNS} runs`)
    if (kind === RUN_DATA) {
      const slabBytes = blockCount * digestBytes
      if (slabBytes > body.length - at) throw protocolError('digests frame shorter than its run')
      runs.push({ kind: 'data', blockCount, blocks: body.subarray(at, at + slabBytes) })
      at += slabBytes
    } else if (kind === RUN_ZERO || kind === RUN_HOLE) {
      runs.push({ kind: kind === RUN_ZERO ? 'zero' : 'hole', blockCount })
    } else {
      throw protocolError(`digests frame with run kind ${kind}`)
    }
  }
  return { firstBlock, runs }
}

/** What is asked for: the group digests of a block, or the leaf digests of one group of a block. */
export type RefineItem = { block: number; group: number }
export type RefineLevel = 'groups' | 'leaves'

const LEVEL_GROUPS = 1
const LEVEL_LEAVES = 2

/** refine: level u8, zero u8[3], item count u32, then items: block u64, group u32 (0 at the level of groups). */
export function encodeRefine(level: RefineLevel, items: readonly RefineItem[]): Buffer {
  const body = Buffer.alloc(8 + items.length * 12)
  body.writeUInt8(level === 'groups' ? LEVEL_GROUPS : LEVEL_LEAVES, 0)
  body.writeUInt32BE(items.length, 4)
  let at = 8
  for (const item of items) {
    body.writeBigUInt64BE(BigInt(item.block), at)
    body.writeUInt32BE(item.group, at + 8)
    at += 12
  }
  return body
}

/** The reverse of encodeRefine. Throws session/protocol. */
export function decodeRefine(body: Buffer): { level: RefineLevel; items: RefineItem[] } {
  if (body.length < 8) throw protocolError('refine frame too short')
  const level = decodeLevel(body.readUInt8(0))
  const count = body.readUInt32BE(4)
  if (count === 0 || count > MAX_REFINE_ITEMS) throw protocolError(`refine frame with ${count} items`)
  if (body.length !== 8 + count * 12)
    throw protocolError('refine frame whose length is not that of its items')
  const items: RefineItem[] = []
  for (let at = 8; at < body.length; at += 12) {
    items.push({ block: readUint64(body, at), group: body.readUInt32BE(at + 8) })
  }
  return { level, items }
}

function decodeLevel(value: number): RefineLevel {
  if (value === LEVEL_GROUPS) return 'groups'
  if (value === LEVEL_LEAVES) return 'leaves'
  throw protocolError(`refine level ${value}`)
}

/** detail: level u8, zero u8[3], item count u32, then the digests asked for, in the order of the refine frame. */
export function encodeDetail(
  level: RefineLevel,
  itemCount: number,
  slabs: readonly Uint8Array[],
): Uint8Array[] {
  const head = Buffer.alloc(8)
  head.writeUInt8(level === 'groups' ? LEVEL_GROUPS : LEVEL_LEAVES, 0)
  head.writeUInt32BE(itemCount, 4)
  return [head, ...slabs]
}

/** The reverse of encodeDetail; `slab` is a view into `body`. Throws session/protocol. */
export function decodeDetail(body: Buffer): { level: RefineLevel; itemCount: number; slab: Buffer } {
  if (body.length < 8) throw protocolError('detail frame too short')
  return { level: decodeLevel(body.readUInt8(0)), itemCount: body.readUInt32BE(4), slab: body.subarray(8) }
}

/** One change to the destination. `zero` has no payload. Both start at a multiple of the leaf size. */
export type DataRecord = { kind: 'data' | 'zero'; offset: number; length: number }

const RECORD_DATA = 1
const RECORD_ZERO = 2
const RECORD_BYTES = 16

/**
 * data: record count u32, codec u8, zero u8[3], then records: kind u8, zero u8[3], length u32, offset u64; then the
 * payload, which is the data records' bytes in order, compressed as one piece where `codec` is not none.
 */
export function encodeData(records: readonly DataRecord[], codec: CodecId = CODEC_ID.none): Buffer {
  const head = Buffer.alloc(8 + records.length * RECORD_BYTES)
  head.writeUInt32BE(records.length, 0)
  head.writeUInt8(codec, 4)
  let at = 8
  for (const record of records) {
    head.writeUInt8(record.kind === 'data' ? RECORD_DATA : RECORD_ZERO, at)
    head.writeUInt32BE(record.length, at + 4)
    head.writeBigUInt64BE(BigInt(record.offset), at + 8)
    at += RECORD_BYTES
  }
  return head
}

/** What a data frame says. `rawBytes` is the length of the payload before it was compressed: that of its data records. */
export type DataBody = { records: DataRecord[]; codec: CodecId; payload: Buffer; rawBytes: number }

/** The reverse of encodeData; `payload` is a view into `body`, as it came. Throws session/protocol. */
export function decodeData(body: Buffer): DataBody {
  if (body.length < 8) throw protocolError('data frame too short')
  const count = body.readUInt32BE(0)
  if (count === 0 || count > MAX_DATA_RECORDS) throw protocolError(`data frame with ${count} records`)
  const codec = decodeCodec(body.readUInt8(4))
  if (body.readUIntBE(5, 3) !== 0) throw protocolError('data frame with reserved bytes set')
  const payloadAt = 8 + count * RECORD_BYTES
  if (payloadAt > body.length) throw protocolError('data frame shorter than its records')
  const records: DataRecord[] = []
  let rawBytes = 0
  for (let at = 8; at < payloadAt; at += RECORD_BYTES) {
    const kind = body.readUInt8(at)
    const length = body.readUInt32BE(at + 4)
    const offset = readUint64(body, at + 8)
    if (kind !== RECORD_DATA && kind !== RECORD_ZERO) throw protocolError(`data record of kind ${kind}`)
    if (length === 0) throw protocolError('data record of no length')
    if (length > MAX_ZERO_RECORD_BYTES) throw protocolError(`data record of ${length} bytes`)
    if (kind === RECORD_DATA) rawBytes += length
    records.push({ kind: kind === RECORD_DATA ? 'data' : 'zero', offset, length })
  }
  const payload = body.subarray(payloadAt)
  // A compressed payload is shorter, or it would not have been compressed; so there is at least one byte of data.
  const fits = codec === CODEC_ID.none ? payload.length === rawBytes : payload.length < rawBytes
  if (rawBytes > MAX_DATA_PAYLOAD_BYTES || !fits || (codec !== CODEC_ID.none && payload.length === 0)) {
    const kind = codec === CODEC_ID.none ? '' : `compressed (${codec}) `
    throw protocolError(`data frame with ${payload.length} bytes of ${kind}payload for ${rawBytes} announced`)
  }
  return { records, codec, payload, rawBytes }
}

function decodeCodec(value: number): CodecId {
  for (const id of Object.values(CODEC_ID)) if (id === value) return id
  throw protocolError(`data frame with codec ${value}`)
}

/** mark: block u64; everything below it is decided. */
export function encodeMark(block: number): Buffer {
  const body = Buffer.alloc(8)
  body.writeBigUInt64BE(BigInt(block), 0)
  return body
}

export function decodeMark(body: Buffer): number {
  if (body.length !== 8) throw protocolError('mark frame of a wrong length')
  return readUint64(body, 0)
}

/** credit: frames u32, bytes u32; given back for credited frames that were dealt with. */
export function encodeCredit(frames: number, bytes: number): Buffer {
  const body = Buffer.alloc(8)
  body.writeUInt32BE(frames, 0)
  body.writeUInt32BE(bytes, 4)
  return body
}

export function decodeCredit(body: Buffer): { frames: number; bytes: number } {
  if (body.length !== 8) throw protocolError('credit frame of a wrong length')
  return { frames: body.readUInt32BE(0), bytes: body.readUInt32BE(4) }
}

/** rate: bytes a second u64; 0 is no limit, which is null here. */
export function encodeRate(bytesPerSecond: number | null): Buffer {
  const body = Buffer.alloc(8)
  body.writeBigUInt64BE(BigInt(bytesPerSecond ?? 0), 0)
  return body
}

/** The reverse of encodeRate: null, or at least 1. Throws session/protocol. */
export function decodeRate(body: Buffer): number | null {
  if (body.length !== 8) throw protocolError('rate frame of a wrong length')
  return readUint64(body, 0) || null
}
