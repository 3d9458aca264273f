// What is on a disk, by its signatures: bytes of a few places in, findings out, and words for people. Nothing is read here
// and nothing on the disk is believed further than a name in a message.

import type { Range } from '../digest/digester.js'
import type { Signature } from '../endpoint/endpoint.js'
import { MAX_PARTITIONS_SEEN, partitionTable, type PartitionTable } from './partition-table.js'
import { probeFormats } from './signature-formats.js'
import { DiskView, type Place } from './signature-view.js'

/** Findings of one disk at most; a hostile one could make up many. */
export const MAX_SIGNATURES = 32

/** Holds all that stands at the start of a disk: LVM's metadata, a ring, ends at 1 MiB by its default. */
const START_BYTES = 1 << 20
/** md 0.90 lies up to 128 KiB before the end. */
const END_BYTES = 128 << 10
/** Of each partition: up to the superblock of btrfs. */
const PARTITION_BYTES = 68 << 10

/** The places of a disk to read first: its start and its end, aligned to `grainBytes`. */
export function firstPlaces(sizeBytes: number, grainBytes: number): Range[] {
  const start = { offset: 0, length: Math.min(sizeBytes, START_BYTES) }
  if (sizeBytes <= START_BYTES + END_BYTES) return sizeBytes === 0 ? [] : [{ offset: 0, length: sizeBytes }]
  const offset = Math.floor((sizeBytes - END_BYTES) / grainBytes) * grainBytes
  return [start, { offset, length: sizeBytes - offset }]
}

/** What to read after that: where the partitions begin, as far as it was not read. */
export function partitionPlaces(places: readonly Place[], sizeBytes: number, grainBytes: number): Range[] {
  const view = new DiskView(places, sizeBytes)
  const table = partitionTable(view)
  const wanted: Range[] = []
  for (const { offsetBytes, sizeBytes: length } of (table?.seen ?? []).slice(0, MAX_PARTITIONS_SEEN)) {
    const offset = Math.floor(offsetBytes / grainBytes) * grainBytes
    const end = Math.min(sizeBytes, offsetBytes + Math.min(length, PARTITION_BYTES))
    const last = Math.min(sizeBytes, Math.ceil(end / grainBytes) * grainBytes)
    if (view.bytes(offset, last - offset) === null) wanted.push({ offset, length: last - offset })
  }
  return apart(wanted)
}

/** All that was found, the disk's own first; at most MAX_SIGNATURES. */
export function recognise(places: readonly Place[], sizeBytes: number): Signature[] {
  const view = new DiskView(places, sizeBytes)
  const own = signatures(view, null)
  const table = partitionTable(view)
  // a boot sector can pass for a table; what stands at the start of the disk says which it is
  if (table === null || (table.kind === 'mbr' && own.some(({ kind }) => BOOT_SECTORS.has(kind)))) return own
  const inside = table.seen.flatMap(({ number, offsetBytes, sizeBytes: length }) =>
    signatures(view.within(offsetBytes, length), number),
  )
  return [tableSignature(table), ...own, ...inside].slice(0, MAX_SIGNATURES)
}

const BOOT_SECTORS: ReadonlySet<string> = new Set(['fat', 'ntfs', 'exfat', 'bitlocker', 'xfs', 'lvm2-pv'])

function tableSignature({ kind, id, partitions, offsetBytes }: PartitionTable): Signature {
  return { kind, id, label: null, partitions, inPartition: null, offsetBytes }
}

function signatures(view: DiskView, inPartition: number | null): Signature[] {
  return probeFormats(view).map((found) => ({
    ...found,
    partitions: null,
    inPartition,
    offsetBytes: view.offsetBytes,
  }))
}

/** Ranges that overlap become one. */
function apart(ranges: readonly Range[]): Range[] {
  const sorted = ranges.toSorted((a, b) => a.offset - b.offset)
  const merged: { offset: number; length: number }[] = []
  for (const { offset, length } of sorted) {
    const before = merged.at(-1)
    if (before !== undefined && offset <= before.offset + before.length)
      before.length = Math.max(before.length, offset + length - before.offset)
    else merged.push({ offset, length })
  }
  return merged
}

/** How each kind is called, and what its label is a name of. */
const WORDS: Readonly<Record<string, string>> = {
  gpt: 'a GPT partition table',
  mbr: 'an MBR partition table',
  swap: 'a swap area',
  hibernation: 'a swap area with a suspended machine in it',
  'lvm2-pv': 'an LVM physical volume',
  luks1: 'a LUKS1 volume',
  luks2: 'a LUKS2 volume',
  bitlocker: 'a BitLocker volume',
  md: 'a member of a Linux RAID array',
  imsm: 'a member of an Intel RAID array',
  ddf: 'a member of a DDF RAID array',
  zfs: 'a member of a ZFS pool',
  drbd: 'DRBD metadata',
  bcache: 'a bcache device',
  stratis: 'a Stratis device',
  vdo: 'a VDO volume',
  bluestore: 'a Ceph BlueStore device',
  fat: 'a FAT file system',
  ntfs: 'an NTFS file system',
  iso9660: 'an ISO 9660 file system',
  udf: 'a UDF file system',
  xfs: 'an XFS file system',
  hfsplus: 'an HFS+ file system',
  apfs: 'an APFS container',
  ufs: 'a UFS file system',
  qcow2: 'a qcow2 image',
  qed: 'a QED image',
  vmdk: 'a VMDK image',
  vhd: 'a VHD image',
  vhdx: 'a VHDX image',
  vdi: 'a VDI image',
  'ext-journal': 'the journal of an ext file system',
}

/** 'an ext4 file system "root" (UUID 0123...) in partition 1': a phrase for messages. */
export function describeSignature({ kind, id, label, partitions, inPartition }: Signature): string {
  const article = /^(?:[aeiou]|f2)/.test(kind) ? 'an' : 'a'
  const what = Object.hasOwn(WORDS, kind) ? (WORDS[kind] ?? kind) : `${article} ${kind} file system`
  const count = partitions === null ? '' : ` with ${partitions} partition${partitions === 1 ? '' : 's'}`
  const named = label === null ? '' : kind === 'lvm2-pv' ? ` of volume group ${label}` : ` "${label}"`
  const isTable = kind === 'gpt' || kind === 'mbr'
  const unique = id === null || isTable ? '' : ` (UUID ${id})`
  return `${what}${count}${named}${unique}${inPartition === null ? '' : ` in partition ${inPartition}`}`
}

/** 'X, Y and Z', the first `most` of them. */
export function listSignatures(signatures: readonly Signature[], most = 4): string {
  const texts = signatures.slice(0, most).map((each) => describeSignature(each))
  if (signatures.length > most) texts.push(`${signatures.length - most} more`)
  const last = texts.pop() ?? 'nothing'
  return texts.length === 0 ? last : `${texts.join(', ')} and ${last}`
}
