// Bytes of the undo journal: vectors that docs/undo.md shows, what a reader refuses, and every single damaged byte noticed.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { beforeAll, describe, expect, it } from 'vitest'

import type { Digester } from '../../src/digest/digester.js'
import { createDigester } from '../../src/digest/open.js'
import type { DigestItems, Entry, RecordHead } from '../../src/undo/format.js'
import {
  decodeHeader,
  decodeRecordHead,
  decodeRecordStart,
  encodeHeader,
  encodeRecordHead,
  isPayloadOf,
  MAX_RECORD_ENTRIES,
  recordHeadBytes,
  UNIT_BYTES,
} from '../../src/undo/format.js'

const LEAF_BYTES = 512
const SEED = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex')
const HEADER = { group: '00112233445566778899aabbccddeeff', run: 1, leafBytes: LEAF_BYTES, seed: SEED }
/** One leaf of old text at 1024, and 4 KiB of zeros at 8192. */
const ENTRIES: readonly Entry[] = [
  { offset: 1024, length: LEAF_BYTES, kind: 'data' },
  { offset: 8192, length: 4096, kind: 'zeros' },
]
const PAYLOAD = Buffer.from('old text of leaf 2............\n\n'.repeat(16))

let digester: Digester
let digest: DigestItems

beforeAll(async () => {
  const geometry = { blockBytes: 1 << 20, leafBytes: LEAF_BYTES }
  digester = await createDigester({ algorithm: 'xxh64x2', seed: SEED, geometry }, null)
  digest = digester.digestItems.bind(digester)
})

function record(position = UNIT_BYTES): Buffer {
  const leaves = Buffer.alloc(16)
  digester.digestLeaves(PAYLOAD, leaves)
  const { head, paddingBytes } = encodeRecordHead(position, 0, ENTRIES, [leaves], digest)
  return Buffer.concat([head, PAYLOAD, Buffer.alloc(paddingBytes)])
}

/** As the reader does it. */
function decode(bytes: Buffer, position = UNIT_BYTES): { head: RecordHead; payload: Buffer } | null {
  const start = decodeRecordStart(bytes, position, 0)
  if (start === null) return null
  const headBytes = recordHeadBytes(bytes, start, LEAF_BYTES)
  const head = headBytes === null ? null : decodeRecordHead(bytes, position, start, LEAF_BYTES, digest)
  if (head === null) return null
  const payload = bytes.subarray(head.payloadAt, head.payloadAt + head.payloadBytes)
  return isPayloadOf(payload, head, LEAF_BYTES, digest) ? { head, payload } : null
}

function hexOf(name: string): string {
  const text = readFileSync(join(import.meta.dirname, '../../docs/undo.md'), 'utf8')
  const block = new RegExp('```hex ' + name + '\\n([^`]*)```').exec(text)?.[1]
  if (block === undefined) throw new Error(`docs/undo.md has no bytes of ${name}`)
  return block.replaceAll(/#.*$/gm, '').replaceAll(/\s/g, '')
}

describe('the bytes of an undo journal', () => {
  it('are those of the document', () => {
    expect(encodeHeader(HEADER, digest).toString('hex', 0, 72)).toBe(hexOf('header'))
    expect(record().toString('hex', 0, 96)).toBe(hexOf('record'))
  })

  it('come back as they went in', () => {
    expect(decodeHeader(encodeHeader(HEADER, digest), digest)).toEqual({
      ...HEADER,
      seed: Uint8Array.from(SEED),
    })
    const found = decode(record())
    expect(found?.head.entries).toEqual(ENTRIES)
    expect(found?.payload.equals(PAYLOAD)).toBe(true)
    expect(found?.head.recordBytes).toBe(record().length)
    expect(record().length % UNIT_BYTES).toBe(0)
  })

  it('are refused with any one bit turned, but in the padding', () => {
    const header = encodeHeader(HEADER, digest)
    const whole = record()
    const wholeBytes = (decode(whole)?.head.payloadAt ?? 0) + PAYLOAD.length
    for (let at = 0; at < 72; at++) {
      const damaged = Buffer.from(header)
      damaged.writeUInt8(damaged.readUInt8(at) ^ (1 << (at % 8)), at)
      expect(decodeHeader(damaged, digest), `header byte ${at}`).toBeNull()
    }
    for (let at = 0; at < wholeBytes; at++) {
      const damaged = Buffer.from(whole)
      damaged.writeUInt8(damaged.readUInt8(at) ^ (1 << (at % 8)), at)
      expect(decode(damaged), `record byte ${at}`).toBeNull()
    }
  })

  it('are refused where they end early, or stand where they were not written', () => {
    for (let length = 0; length < 600; length += 7)
      expect(
        decode(record().subarray(0, Math.min(length, record().length - UNIT_BYTES))),
        `${length} bytes`,
      ).toBeNull()
    expect(decode(record(), 2 * UNIT_BYTES)).toBeNull()
    expect(decodeRecordStart(record(), UNIT_BYTES, 1)).toBeNull()
  })

  it('put a long payload where it can go around the page cache', () => {
    const long = [{ offset: 0, length: 1 << 18, kind: 'data' as const }]
    const leaves = [Buffer.alloc(((1 << 18) / LEAF_BYTES) * 16)]
    for (const position of [512, 4096, 5120]) {
      const { head } = encodeRecordHead(position, 0, long, leaves, digest)
      expect((position + head.length) % 4096).toBe(0)
    }
  })

  it('name no more than a reader takes memory for', () => {
    const fixed = Buffer.from(record().subarray(0, 32))
    fixed.writeUInt32BE(MAX_RECORD_ENTRIES + 1, 4)
    expect(decodeRecordStart(fixed, UNIT_BYTES, 0)).toBeNull()
    const huge = Buffer.from(record().subarray(0, 32))
    huge.writeBigUInt64BE(1n << 40n, 16)
    expect(decodeRecordStart(huge, UNIT_BYTES, 0)).toBeNull()
  })
})
