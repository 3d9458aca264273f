// The disks of the kill matrix: random content from a seed, and an older version of it that differs in pieces of many
// sizes, in zeros, and not at all in places.

import { createCipheriv } from 'node:crypto'

import { randomFrom } from '../undo/power.js'

const MIB = 1 << 20
export const DISK_BYTES = 12 * MIB
const SECTOR_BYTES = 512

/** The same bytes for the same seed; they look like nothing that is recognised. */
export function noise(seed: number, bytes: number): Buffer {
  const key = Buffer.alloc(16)
  key.writeUInt32LE(seed >>> 0)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(bytes))
}

/** What the source has, and what the destination had before. Neither looks like anything that is recognised. */
export function contentOf(seed: number): { fresh: Buffer; old: Buffer } {
  const random = randomFrom(seed)
  const fresh = noise(seed, DISK_BYTES)
  const other = noise(seed + 1, DISK_BYTES)
  for (const at of [3 * MIB, 7 * MIB]) fresh.fill(0, at, at + MIB / 2)
  const old = Buffer.from(fresh)
  for (let pieces = 0; pieces < 60; pieces += 1) {
    const length = Math.min(DISK_BYTES, SECTOR_BYTES << Math.floor(random() * 10))
    const at = Math.floor(random() * ((DISK_BYTES - length) / SECTOR_BYTES)) * SECTOR_BYTES
    if (random() < 0.15) old.fill(0, at, at + length)
    else other.copy(old, at, at, at + length)
  }
  other.copy(old, 8 * MIB, 8 * MIB, 11 * MIB)
  // no boot signature by chance
  for (const content of [fresh, old]) content.fill(1, 0, 4096)
  return { fresh, old }
}

/** The first sector that is neither of the two, or null. */
export function strangeSector(found: Buffer, one: Buffer, other: Buffer): number | null {
  if (found.length !== one.length) return found.length
  for (let at = 0; at < found.length; at += SECTOR_BYTES) {
    const end = at + SECTOR_BYTES
    if (found.compare(one, at, end, at, end) !== 0 && found.compare(other, at, end, at, end) !== 0) return at
  }
  return null
}
