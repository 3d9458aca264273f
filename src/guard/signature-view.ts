// Bytes of a few places of a disk, read as fields. Content of the disk is hostile: whatever is not there, or would lie
// outside of what was read, is null; text is bounded and harmless on a terminal.

import { printable } from '../printable.js'

/** A place that was read: its bytes, and where on the disk they begin. */
export type Place = Readonly<{ offset: number; bytes: Buffer }>

/** Longest label that is kept: message and frame have to hold several. */
export const MAX_LABEL_UNITS = 64

/** Fields of a disk, or of a partition, as far as they were read. Offsets count from its beginning. */
export class DiskView {
  readonly sizeBytes: number
  /** Where it begins on the disk. */
  readonly offsetBytes: number
  readonly #places: readonly Place[]

  constructor(places: readonly Place[], sizeBytes: number, offsetBytes = 0) {
    this.#places = places
    this.sizeBytes = sizeBytes
    this.offsetBytes = offsetBytes
  }

  /** A part of it, for what is inside a partition. */
  within(offset: number, length: number): DiskView {
    return new DiskView(this.#places, length, this.offsetBytes + offset)
  }

  bytes(offset: number, length: number): Buffer | null {
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > this.sizeBytes) return null
    const from = this.offsetBytes + offset
    for (const place of this.#places) {
      const at = from - place.offset
      if (at >= 0 && at + length <= place.bytes.length) return place.bytes.subarray(at, at + length)
    }
    return null
  }

  /** True where those bytes stand there; a text is taken as Latin-1. */
  has(offset: number, magic: string | readonly number[]): boolean {
    const wanted = typeof magic === 'string' ? Buffer.from(magic, 'latin1') : Buffer.from(magic)
    return this.bytes(offset, wanted.length)?.equals(wanted) === true
  }

  u8(offset: number): number {
    return this.bytes(offset, 1)?.readUInt8() ?? 0
  }

  u16(offset: number): number {
    return this.bytes(offset, 2)?.readUInt16LE() ?? 0
  }

  u32(offset: number): number {
    return this.bytes(offset, 4)?.readUInt32LE() ?? 0
  }

  u32be(offset: number): number {
    return this.bytes(offset, 4)?.readUInt32BE() ?? 0
  }

  /** Null where it is not there or no number of ours. */
  u64(offset: number): number | null {
    const value = this.bytes(offset, 8)?.readBigUInt64LE()
    return value === undefined || value > BigInt(Number.MAX_SAFE_INTEGER) ? null : Number(value)
  }

  /** A UUID whose bytes stand in the order of its digits; null where all are zero. */
  uuid(offset: number): string | null {
    return uuidText(this.bytes(offset, 16))
  }

  /** A UUID as Microsoft and EFI write it: the first three groups little-endian. */
  guid(offset: number): string | null {
    const bytes = this.bytes(offset, 16)
    if (bytes === null) return null
    const turned = Buffer.from(bytes)
    turned.subarray(0, 4).reverse()
    turned.subarray(4, 6).reverse()
    turned.subarray(6, 8).reverse()
    return uuidText(turned)
  }

  /** Text up to a zero byte, without blanks around it; null where nothing is left. */
  text(offset: number, length: number, encoding: 'utf8' | 'latin1' | 'utf16le' = 'utf8'): string | null {
    const text = (this.bytes(offset, length)?.toString(encoding) ?? '').split('\0')[0] ?? ''
    const label = printable(text).trim().slice(0, MAX_LABEL_UNITS)
    return label === '' ? null : printable(label)
  }

  /** `length` bytes as hex digits; null where all are zero. */
  hex(offset: number, length: number, order: 'as-is' | 'reversed' = 'as-is'): string | null {
    const bytes = this.bytes(offset, length)
    if (bytes === null || bytes.every((byte) => byte === 0)) return null
    return (order === 'as-is' ? bytes : Buffer.from(bytes).reverse()).toString('hex')
  }
}

function uuidText(bytes: Buffer | null): string | null {
  if (bytes === null || bytes.every((byte) => byte === 0)) return null
  const digits = bytes.toString('hex')
  return [
    [0, 8],
    [8, 12],
    [12, 16],
    [16, 20],
    [20, 32],
  ]
    .map(([from, to]) => digits.slice(from, to))
    .join('-')
}
