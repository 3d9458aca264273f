// One frame into what a hostile or broken peer might send in its place: other numbers, lengths, types, text; parts of two
// frames; the frame twice, or not at all.

import { FRAME, HEADER_BYTES, MAX_CONTROL_BYTES } from '../../src/wire/frame.js'
import type { Random } from './random.js'

const NUMBERS_32 = [0, 1, 2, 15, 16, 255, 256, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff]
const NUMBERS_64 = [
  0n,
  1n,
  2n,
  (1n << 26n) - 1n,
  1n << 26n,
  (1n << 32n) - 1n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 64n) - 1n,
]
const VALUES: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1,
  0.5,
  511,
  4096,
  2 ** 26,
  2 ** 31,
  2 ** 53 - 1,
  2 ** 53,
  1e308,
  '',
  'write',
  'compare',
  'destination',
  '\u001b[2J\u202e\ud800',
  '/'.repeat(5000),
  [],
  {},
  [[[[]]]],
  ['x', 'y'],
  { aliases: [] },
]
const TEXTS = ['{', '[]', 'null', '{"__proto__":{"role":"source"}}', '{"a":'.repeat(1000), '\u0000', '1e999']

/** What goes out instead of `frame`. `other` is another one, of this session. */
export function mutate(frame: Buffer, other: Buffer, random: Random): Buffer[] {
  const copy = Buffer.from(frame)
  const body = copy.subarray(HEADER_BYTES)
  switch (random.int(16)) {
    case 0: // any byte
      copy[random.int(copy.length)] = random.next()
      return [copy]
    case 1: // a bit
      return [withOtherBit(copy, random)]
    case 2: // the length alone
      copy.writeUInt32BE(
        random.once(2) ? random.pick(NUMBERS_32) : Math.max(0, body.length + random.between(-9, 9)),
        4,
      )
      return [copy]
    case 3: // the type, of what there is or is not
      copy.writeUInt8(random.once(4) ? random.int(256) : random.between(1, Object.keys(FRAME).length), 0)
      return [copy]
    case 4: // another disk
      copy.writeUInt16BE(random.pick([0, 1, 2, 4095, 4096, 65535]), 2)
      return [copy]
    case 5: // cut, with the length that it then has
      return [sized(copy.subarray(0, HEADER_BYTES + random.int(body.length + 1)))]
    case 6: // longer, with that length
      return [sized(Buffer.concat([copy, random.bytes(random.between(1, 64))]))]
    case 7: // twice
      return [copy, copy]
    case 8: // left out
      return []
    case 9: // in the other order
      return [other, copy]
    case 10: // half of one and half of another
      return [
        Buffer.concat([
          copy.subarray(0, random.int(copy.length + 1)),
          other.subarray(random.int(other.length + 1)),
        ]),
      ]
    case 11: // a number of 32 bits
      if (body.length >= 4) body.writeUInt32BE(random.pick(NUMBERS_32), random.int(body.length >> 2) * 4)
      return [copy]
    case 12: // a number of 64 bits
      if (body.length >= 8)
        body.writeBigUInt64BE(random.pick(NUMBERS_64), random.int((body.length >> 2) - 1) * 4)
      return [copy]
    case 13: // bytes that are no frame
      return [copy, random.bytes(random.between(1, 40))]
    case 14: // the body of another frame
      return [sized(Buffer.concat([copy.subarray(0, HEADER_BYTES), other.subarray(HEADER_BYTES)]))]
    default:
      return [body[0] === 0x7b ? withOtherFields(copy, random) : copy]
  }
}

function withOtherBit(frame: Buffer, random: Random): Buffer {
  const at = random.int(frame.length)
  frame[at] = (frame[at] ?? 0) ^ (1 << random.int(8))
  return frame
}

/** A JSON body with one field changed, left out, or given twice. */
function withOtherFields(frame: Buffer, random: Random): Buffer {
  const text = frame.toString('utf8', HEADER_BYTES)
  const parsed: unknown = JSON.parse(text)
  const entries = Object.entries(parsed as object)
  const at = random.int(entries.length + 1)
  const name = entries[at]?.[0] ?? 'more'
  let json = ''
  if (random.once(6)) json = random.pick(TEXTS)
  else if (random.once(5))
    json = JSON.stringify(Object.fromEntries(entries.filter((_, index) => index !== at)))
  else json = JSON.stringify({ ...(parsed as object), [name]: random.pick(VALUES) })
  const body = Buffer.from(json).subarray(0, MAX_CONTROL_BYTES)
  return sized(Buffer.concat([frame.subarray(0, HEADER_BYTES), body]))
}

function sized(frame: Buffer): Buffer {
  const copy = Buffer.from(frame)
  if (copy.length >= HEADER_BYTES) copy.writeUInt32BE(copy.length - HEADER_BYTES, 4)
  return copy
}
