// Whole frames in hex, by name, with what they say. Written by hand from docs/protocol.md, not printed by the encoder:
// a change of the wire shows here first.

import type { FrameType } from '../../src/wire/frame.js'
import { FRAME } from '../../src/wire/frame.js'

export type Vector = Readonly<{
  name: string
  meaning: string
  type: FrameType
  disk: number
  body: string
  header: string
}>

/** Digests of 16 bytes that are easy to see in a dump. */
const A = 'a0a1a2a3a4a5a6a7a8a9aaabacadaeaf'
const B = 'b0b1b2b3b4b5b6b7b8b9babbbcbdbebf'

export const VECTORS: readonly Vector[] = [
  {
    name: 'open',
    meaning: '{"a":1}: the codec does not look into it',
    type: FRAME.open,
    disk: 0,
    header: '0100000000000007',
    body: '7b2261223a317d',
  },
  { name: 'opened', meaning: '{}', type: FRAME.opened, disk: 1, header: '0200000100000002', body: '7b7d' },
  {
    name: 'start',
    meaning: '{} for the last disk number there is',
    type: FRAME.start,
    disk: 4095,
    header: '03000fff00000002',
    body: '7b7d',
  },
  {
    name: 'digests',
    meaning: 'from block 5: two blocks of data, three of zeros, a hole of 2^32 - 1 blocks',
    type: FRAME.digests,
    disk: 2,
    header: '0400000200000040',
    body: `0000000000000005 0100000000000002 ${A}${B} 0200000000000003 03000000ffffffff`,
  },
  {
    name: 'digests, none',
    meaning: 'from block 2^53 - 1, no run',
    type: FRAME.digests,
    disk: 0,
    header: '0400000000000008',
    body: '001fffffffffffff',
  },
  {
    name: 'refine groups',
    meaning: 'the group digests of blocks 7 and 9',
    type: FRAME.refine,
    disk: 0,
    header: '0500000000000020',
    body: '01000000 00000002 0000000000000007 00000000 0000000000000009 00000000',
  },
  {
    name: 'refine leaves',
    meaning: 'the leaves of group 3 of block 2^32',
    type: FRAME.refine,
    disk: 0,
    header: '0500000000000014',
    body: '02000000 00000001 0000000100000000 00000003',
  },
  {
    name: 'detail groups',
    meaning: 'two digests that answer one item',
    type: FRAME.detail,
    disk: 0,
    header: '0600000000000028',
    body: `01000000 00000001 ${A}${B}`,
  },
  {
    name: 'detail leaves',
    meaning: 'one digest that answers one item',
    type: FRAME.detail,
    disk: 258,
    header: '0600010200000018',
    body: `02000000 00000001 ${B}`,
  },
  {
    name: 'data',
    meaning: 'three bytes at 4096, zeros for 512 bytes at 8192, one byte at 2^53 - 1',
    type: FRAME.data,
    disk: 0,
    header: '070000000000003c',
    body:
      '00000003 00000000 01000000 00000003 0000000000001000 02000000 00000200 0000000000002000 ' +
      '01000000 00000001 001fffffffffffff c0c1c2 d0',
  },
  {
    name: 'data, compressed',
    meaning: 'eight bytes at 4096, that brotli made five of; the codec of bodies does not look into them',
    type: FRAME.data,
    disk: 0,
    header: '070000000000001d',
    body: '00000001 02000000 01000000 00000008 0000000000001000 c0c1c2c3c4',
  },
  {
    name: 'mark',
    meaning: 'everything below block 258 is decided',
    type: FRAME.mark,
    disk: 0,
    header: '0800000000000008',
    body: '0000000000000102',
  },
  { name: 'finish', meaning: '{}', type: FRAME.finish, disk: 0, header: '0900000000000002', body: '7b7d' },
  {
    name: 'finished',
    meaning: '{}',
    type: FRAME.finished,
    disk: 0,
    header: '0a00000000000002',
    body: '7b7d',
  },
  {
    name: 'credit',
    meaning: '32 frames, 2 MiB given back',
    type: FRAME.credit,
    disk: 0,
    header: '0b00000000000008',
    body: '00000020 00200000',
  },
  { name: 'error', meaning: '{}', type: FRAME.error, disk: 0, header: '0c00000000000002', body: '7b7d' },
  { name: 'bye', meaning: 'no body', type: FRAME.bye, disk: 0, header: '0d00000000000000', body: '' },
  {
    name: 'ping',
    meaning: 'eight bytes to come back',
    type: FRAME.ping,
    disk: 0,
    header: '0e00000000000008',
    body: '0123456789abcdef',
  },
  {
    name: 'pong, empty',
    meaning: 'a ping without a body has such an answer',
    type: FRAME.pong,
    disk: 0,
    header: '0f00000000000000',
    body: '',
  },
  {
    name: 'rate',
    meaning: '20 MiB a second from now on',
    type: FRAME.rate,
    disk: 0,
    header: '1000000000000008',
    body: '0000000001400000',
  },
  {
    name: 'rate, none',
    meaning: 'no limit from now on',
    type: FRAME.rate,
    disk: 0,
    header: '1000000000000008',
    body: '0000000000000000',
  },
  {
    name: 'limit',
    meaning: 'the pass over disk 1 is to end at block 1024',
    type: FRAME.limit,
    disk: 1,
    header: '1100000100000008',
    body: '0000000000000400',
  },
  {
    name: 'limited',
    meaning: 'it will end at block 1088',
    type: FRAME.limited,
    disk: 1,
    header: '1200000100000008',
    body: '0000000000000440',
  },
  { name: 'invite', meaning: 'no body', type: FRAME.invite, disk: 0, header: '1300000000000000', body: '' },
  {
    name: 'invited',
    meaning: '{"lane":"x"}',
    type: FRAME.invited,
    disk: 0,
    header: '140000000000000c',
    body: '7b226c616e65223a2278227d',
  },
  {
    name: 'record',
    meaning:
      '{"pairId":"01234567-89ab-4cde-8f01-23456789abcd","peer":{"stable":{"machineId":"000102030405060708090a0b0c0d0e0f","hostName":"host1","names":["path:/a"]},"path":"/a"},"generation":4,"finished":{"runId":"11234567-89ab-4cde-8f01-23456789abcd","finishedAt":"2026-11-20T12:00:00.000Z","by":{"user":"anna","host":"host1","version":"0.1.0"},"lengthBytes":4096,"root":"abababababababababababababababababababababababababababababababab","algorithm":"sha256","seed":"00000000000000000000000000000000","blockBytes":4096,"leafBytes":512},"replaces":[]}',
    type: FRAME.record,
    disk: 1,
    header: '150000010000021c',
    body: '7b22706169724964223a2230313233343536372d383961622d346364652d386630312d323334353637383961626364222c2270656572223a7b22737461626c65223a7b226d616368696e654964223a223030303130323033303430353036303730383039306130623063306430653066222c22686f73744e616d65223a22686f737431222c226e616d6573223a5b22706174683a2f61225d7d2c2270617468223a222f61227d2c2267656e65726174696f6e223a342c2266696e6973686564223a7b2272756e4964223a2231313233343536372d383961622d346364652d386630312d323334353637383961626364222c2266696e69736865644174223a22323032362d31312d32305431323a30303a30302e3030305a222c226279223a7b2275736572223a22616e6e61222c22686f7374223a22686f737431222c2276657273696f6e223a22302e312e30227d2c226c656e6774684279746573223a343039362c22726f6f74223a2261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162616261626162222c22616c676f726974686d223a22736861323536222c2273656564223a223030303030303030303030303030303030303030303030303030303030303030222c22626c6f636b4279746573223a343039362c226c6561664279746573223a3531327d2c227265706c61636573223a5b5d7d',
  },
  {
    name: 'recorded',
    meaning: '{"failure":null}',
    type: FRAME.recorded,
    disk: 1,
    header: '1600000100000010',
    body: '7b226661696c757265223a6e756c6c7d',
  },
  {
    name: 'bond',
    meaning: '{"name":"000102030405060708090a0b0c0d0e0f","secret":"101112131415161718191a1b1c1d1e1f"}',
    type: FRAME.bond,
    disk: 0,
    header: '1700000000000057',
    body: '7b226e616d65223a223030303130323033303430353036303730383039306130623063306430653066222c22736563726574223a223130313131323133313431353136313731383139316131623163316431653166227d',
  },
  {
    name: 'bonding',
    meaning: '{"members":8}',
    type: FRAME.bonding,
    disk: 0,
    header: '180000000000000d',
    body: '7b226d656d62657273223a387d',
  },
  {
    name: 'bonded',
    meaning: '{"members":4}',
    type: FRAME.bonded,
    disk: 0,
    header: '190000000000000d',
    body: '7b226d656d62657273223a347d',
  },
]

export function fromHex(hex: string): Buffer {
  const digits = hex.replaceAll(/\s/g, '')
  if (digits.length % 2 !== 0 || !/^[0-9a-f]*$/.test(digits)) throw new Error(`not hex: ${hex}`)
  return Buffer.from(digits, 'hex')
}

export function bodyOf(name: string): Buffer {
  const vector = VECTORS.find((candidate) => candidate.name === name)
  if (vector === undefined) throw new Error(`no vector ${name}`)
  return fromHex(vector.body)
}

export function bytesOf(vector: Vector): Buffer {
  return fromHex(vector.header + vector.body)
}
