// Partition tables: GPT at the start or, where that is damaged, at the end; and the table of a master boot record. Hostile
// numbers in, the table's id and a bounded list of places on the disk out.

import type { DiskView } from './signature-view.js'

/** How many partitions are looked into; the number of all is told. */
export const MAX_PARTITIONS_SEEN = 16

export type Partition = Readonly<{ number: number; offsetBytes: number; sizeBytes: number }>

export type PartitionTable = Readonly<{
  kind: 'gpt' | 'mbr'
  id: string | null
  partitions: number
  /** At most MAX_PARTITIONS_SEEN, all of them on the disk. */
  seen: readonly Partition[]
  offsetBytes: number
}>

/** Entries that the table of UEFI has room for by its default, and that we count. */
const MAX_ENTRIES = 128
const ENTRY_BYTES = 128

/** The table of a disk, or null (UEFI specification, chapter 5). */
export function partitionTable(view: DiskView): PartitionTable | null {
  for (const sectorBytes of [512, 4096]) {
    for (const at of [sectorBytes, view.sizeBytes - sectorBytes]) {
      if (view.has(at, 'EFI PART')) return gpt(view, at, sectorBytes)
    }
  }
  return mbr(view)
}

function gpt(view: DiskView, at: number, sectorBytes: number): PartitionTable {
  const entryBytes = view.u32(at + 84)
  const entries = entryBytes === ENTRY_BYTES ? Math.min(MAX_ENTRIES, view.u32(at + 80)) : 0
  const from = (view.u64(at + 72) ?? 0) * sectorBytes
  const seen: Partition[] = []
  let partitions = 0
  for (let index = 0; index < entries; index++) {
    const entry = from + index * ENTRY_BYTES
    if (view.guid(entry) === null) continue
    partitions += 1
    const first = view.u64(entry + 32)
    const last = view.u64(entry + 40)
    if (first === null || last === null) continue
    add(view, seen, index + 1, first * sectorBytes, (last - first + 1) * sectorBytes)
  }
  return { kind: 'gpt', id: view.guid(at + 56), partitions, seen, offsetBytes: at }
}

/** A boot sector of a file system ends in the same two bytes: its entries are no table. */
function mbr(view: DiskView): PartitionTable | null {
  if (!view.has(510, [0x55, 0xaa])) return null
  const seen: Partition[] = []
  let partitions = 0
  for (let index = 0; index < 4; index++) {
    const at = 446 + index * 16
    const isActive = view.u8(at)
    if (isActive !== 0 && isActive !== 0x80) return null
    const sectors = view.u32(at + 12)
    if (view.u8(at + 4) === 0 || sectors === 0) continue
    partitions += 1
    add(view, seen, index + 1, view.u32(at + 8) * 512, sectors * 512)
  }
  if (partitions === 0) return null
  return { kind: 'mbr', id: view.hex(440, 4, 'reversed'), partitions, seen, offsetBytes: 0 }
}

function add(
  view: DiskView,
  seen: Partition[],
  number: number,
  offsetBytes: number,
  sizeBytes: number,
): void {
  const isOnDisk = offsetBytes > 0 && sizeBytes > 0 && offsetBytes + sizeBytes <= view.sizeBytes
  if (isOnDisk && seen.length < MAX_PARTITIONS_SEEN) seen.push({ number, offsetBytes, sizeBytes })
}
