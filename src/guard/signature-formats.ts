// What file systems, volumes and images are known by: where each keeps its magic, its id and its name. Fields come in, a
// finding goes out, or null; a magic alone is enough, since to ask once too often costs a word, and not to ask a disk.

import type { DiskView } from './signature-view.js'

export type Found = Readonly<{ kind: string; id: string | null; label: string | null }>

/** Looks for one format, or one family of them. */
type Probe = (view: DiskView) => Found | null

const KIB = 1024

/** A magic at one of some places; `fields` says where id and label are. */
function magic(
  kind: string,
  places: readonly (readonly [offset: number, magic: string | readonly number[]])[],
  fields: (view: DiskView) => Partial<Found> = () => ({}),
): Probe {
  return (view) =>
    places.some(([offset, bytes]) => view.has(offset, bytes))
      ? { kind, id: null, label: null, ...fields(view) }
      : null
}

/**
 * The formats. Sources: the headers of the Linux kernel (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h,
 * include/uapi/linux/btrfs_tree.h, include/linux/swap.h, include/uapi/linux/raid/md_p.h, fs/f2fs, fs/erofs, fs/jfs,
 * fs/reiserfs, drivers/md/bcache), LVM2's lib/format_text/layout.h, the LUKS on-disk format specifications 1 and 2,
 * Microsoft's FAT and exFAT specifications, ECMA-119 and ECMA-167, OpenZFS's vdev_impl.h, Apple's APFS reference,
 * DRBD's drbd_int.h, QEMU's docs/interop, the VHD, VHDX and VDI headers.
 */
const PROBES: readonly Probe[] = [
  ext,
  magic('xfs', [[0, 'XFSB']], (view) => ({ id: view.uuid(32), label: view.text(108, 12) })),
  magic('btrfs', [[64 * KIB + 64, '_BHRfS_M']], (view) => ({
    id: view.uuid(64 * KIB + 32),
    label: view.text(64 * KIB + 299, 256),
  })),
  swap,
  lvm,
  luks,
  md,
  zfs,
  fat,
  magic('ntfs', [[3, 'NTFS    ']], (view) => ({ id: view.hex(72, 8, 'reversed') })),
  magic('exfat', [[3, 'EXFAT   ']], (view) => ({ id: view.hex(100, 4, 'reversed') })),
  magic('bitlocker', [[3, '-FVE-FS-']]),
  magic('iso9660', [[32 * KIB + 1, 'CD001']], (view) => ({ label: view.text(32 * KIB + 40, 32, 'latin1') })),
  magic('udf', [
    [34 * KIB + 1, 'NSR02'],
    [34 * KIB + 1, 'NSR03'],
    [36 * KIB + 1, 'NSR02'],
    [36 * KIB + 1, 'NSR03'],
  ]),
  magic('f2fs', [[KIB, [0x10, 0x20, 0xf5, 0xf2]]], (view) => ({
    id: view.uuid(KIB + 108),
    label: view.text(KIB + 124, 512, 'utf16le'),
  })),
  magic('erofs', [[KIB, [0xe2, 0xe1, 0xf5, 0xe0]]], (view) => ({
    id: view.uuid(KIB + 48),
    label: view.text(KIB + 64, 16),
  })),
  magic('squashfs', [[0, 'hsqs']]),
  magic(
    'reiserfs',
    [
      [64 * KIB + 52, 'ReIsErFs'],
      [64 * KIB + 52, 'ReIsEr2Fs'],
      [64 * KIB + 52, 'ReIsEr3Fs'],
    ],
    (view) => ({
      id: view.uuid(64 * KIB + 84),
      label: view.text(64 * KIB + 100, 16),
    }),
  ),
  magic('jfs', [[32 * KIB, 'JFS1']], (view) => ({
    id: view.uuid(32 * KIB + 136),
    label: view.text(32 * KIB + 152, 16),
  })),
  magic('ocfs2', [
    [KIB, 'OCFSV2'],
    [2 * KIB, 'OCFSV2'],
    [4 * KIB, 'OCFSV2'],
    [8 * KIB, 'OCFSV2'],
  ]),
  magic('gfs2', [[64 * KIB, [0x01, 0x16, 0x19, 0x70, 0, 0, 0, 1]]]),
  magic('ufs', [
    [8 * KIB + 1372, [0x19, 0x01, 0x54, 0x19]],
    [64 * KIB + 1372, [0x19, 0x01, 0x54, 0x19]],
  ]),
  magic('hfsplus', [
    [KIB, [0x48, 0x2b, 0, 4]],
    [KIB, [0x48, 0x58, 0, 5]],
  ]),
  magic('apfs', [[32, 'NXSB']], (view) => ({ id: view.uuid(72) })),
  magic('bcache', [[4 * KIB + 24, [0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca]]], (view) => ({
    id: view.uuid(4 * KIB + 40),
    label: view.text(4 * KIB + 72, 32),
  })),
  magic('bcachefs', [[4 * KIB + 24, [0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9]]], (view) => ({
    id: view.uuid(4 * KIB + 56),
    label: view.text(4 * KIB + 72, 32),
  })),
  magic('stratis', [[512 + 4, [0x21, 0x53, 0x74, 0x72, 0x61, 0x30, 0x74, 0x69, 0x73]]]),
  magic('vdo', [[0, 'dmvdo001']]),
  magic('bluestore', [[0, 'bluestore block device']], (view) => ({ id: view.text(23, 36, 'latin1') })),
  drbd,
  magic('qcow2', [[0, [0x51, 0x46, 0x49, 0xfb]]]),
  magic('qed', [[0, [0x51, 0x45, 0x44, 0]]]),
  magic('vmdk', [
    [0, 'KDMV'],
    [0, '# Disk DescriptorFile'],
  ]),
  magic('vhdx', [[0, 'vhdxfile']]),
  magic('vdi', [[64, [0x7f, 0x10, 0xda, 0xbe]]], (view) => ({ id: view.guid(392) })),
  vhd,
  imsm,
]

/** All formats found in one view, in the order of the table. */
export function probeFormats(view: DiskView): Found[] {
  return PROBES.map((probe) => probe(view)).filter((found) => found !== null)
}

/** The three share a magic; their feature words tell them apart. */
function ext(view: DiskView): Found | null {
  const at = KIB
  if (!view.has(at + 56, [0x53, 0xef]) || view.u32(at + 24) > 6) return null
  const [compat, incompat, readOnlyCompat] = [view.u32(at + 92), view.u32(at + 96), view.u32(at + 100)]
  const isJournal = (incompat & 0x8) !== 0
  // extents, 64-bit, flexible groups...: what only ext4 has
  const isExt4 = (incompat & 0x3c0) !== 0 || (readOnlyCompat & 0x478) !== 0
  const kind = isJournal ? 'ext-journal' : isExt4 ? 'ext4' : (compat & 0x4) !== 0 ? 'ext3' : 'ext2'
  return { kind, id: view.uuid(at + 104), label: view.text(at + 120, 16) }
}

/** The magic is the end of the first page, and pages have several sizes. */
function swap(view: DiskView): Found | null {
  for (const pageBytes of [4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB]) {
    const isSwap = ['SWAPSPACE2', 'SWAP-SPACE'].some((text) => view.has(pageBytes - 10, text))
    if (isSwap) return { kind: 'swap', id: view.uuid(KIB + 12), label: view.text(KIB + 28, 16) }
    // a suspended machine lies in it: more than a swap area
    if (view.has(pageBytes - 10, 'S1SUSPEND'))
      return { kind: 'hibernation', id: view.uuid(KIB + 12), label: null }
  }
  return null
}

/** The label is in one of the first four sectors; the name of the group is in the text of the first metadata area. */
function lvm(view: DiskView): Found | null {
  for (const at of [0, 512, 1024, 1536]) {
    if (!view.has(at, 'LABELONE') || !view.has(at + 24, 'LVM2 001')) continue
    const header = at + view.u32(at + 20)
    const id = view.text(header, 32, 'latin1')
    return { kind: 'lvm2-pv', id: id === null ? null : dashed(id), label: volumeGroup(view, header + 40) }
  }
  return null
}

/** How LVM itself writes its ids. */
function dashed(id: string): string {
  if (!/^[A-Za-z0-9]{32}$/.test(id)) return id
  const parts = [0, 6, 10, 14, 18, 22, 26, 32]
  return parts
    .slice(1)
    .map((end, index) => id.slice(parts[index], end))
    .join('-')
}

/** Lists of data and of metadata areas, each of pairs (offset, size) and ended by zeros. */
function volumeGroup(view: DiskView, listAt: number): string | null {
  const areas: number[][] = [[], []]
  let at = listAt
  for (const list of areas) {
    // more than a few is no label of ours to read on
    for (let entry = 0; entry < 8; entry++, at += 16) {
      const offset = view.u64(at)
      if (offset === null) return null
      if (offset === 0 && view.u64(at + 8) === 0) break
      list.push(offset)
    }
    at += 16
  }
  const area = areas[1]?.[0]
  if (area === undefined || !view.has(area + 4, ' LVM2 x[5A%r0N*>')) return null
  const start = view.u64(area + 24)
  const offset = view.u64(area + 40)
  if (start === null || offset === null || offset === 0) return null
  const text = view.text(start + offset, 128, 'latin1') ?? ''
  return /^([A-Za-z0-9+_.-]{1,127}) \{/.exec(text)?.[1] ?? null
}

function luks(view: DiskView): Found | null {
  const suffix = [0xba, 0xbe]
  const first = view.has(0, [...Buffer.from('LUKS'), ...suffix])
  // the second header of version 2, where the first one is damaged
  const at = first
    ? 0
    : [16, 32, 64, 128, 256, 512]
        .map((kib) => kib * KIB)
        .find((place) => view.has(place, [...Buffer.from('SKUL'), ...suffix]))
  if (at === undefined) return null
  const isFirst = (view.bytes(at + 6, 2)?.readUInt16BE() ?? 0) === 1
  return {
    kind: isFirst ? 'luks1' : 'luks2',
    id: view.text(at + 168, 40, 'latin1'),
    label: isFirst ? null : view.text(at + 24, 48),
  }
}

/** Version 1 at three places, version 0.90 at its own near the end. */
function md(view: DiskView): Found | null {
  const magicBytes = [0xfc, 0x4e, 0x2b, 0xa9]
  const sectors = Math.floor(view.sizeBytes / 512)
  const nearEnd = Math.floor((sectors - 16) / 8) * 8 * 512
  for (const at of [4 * KIB, 0, nearEnd]) {
    if (view.has(at, magicBytes) && view.u32(at + 4) === 1)
      return { kind: 'md', id: view.uuid(at + 16), label: view.text(at + 32, 32) }
  }
  const old = Math.floor(view.sizeBytes / (64 * KIB)) * 64 * KIB - 64 * KIB
  if (!view.has(old, magicBytes) || view.u32(old + 4) !== 0) return null
  const parts = [20, 52, 56, 60].map((offset) => view.hex(old + offset, 4, 'reversed') ?? '00000000')
  return { kind: 'md', id: parts.join(':'), label: null }
}

/** The label's name-value list, in XDR, has the name and the id of the pool; the ring of uberblocks follows it. */
function zfs(view: DiskView): Found | null {
  const ring = 128 * KIB
  const marks = [
    [0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0, 0xba, 0xb1, 0x0c],
  ]
  const isPool = Array.from({ length: 128 }, (_, slot) => ring + slot * KIB).some((at) =>
    marks.some((mark) => view.has(at, mark)),
  )
  if (!isPool) return null
  const list = 16 * KIB
  const text = view.bytes(list, 64 * KIB)?.toString('latin1') ?? ''
  // length and text of the name, padded to four bytes; type 9 is a text, 8 a u64; one element
  const nameAt = text.indexOf('\0\0\0\x04name\0\0\0\x09\0\0\0\x01')
  const idAt = text.indexOf('\0\0\0\x09pool_guid\0\0\0\0\0\0\x08\0\0\0\x01')
  const labelBytes = nameAt < 0 ? 0 : Math.min(256, view.u32be(list + nameAt + 16))
  return {
    kind: 'zfs',
    id:
      idAt < 0
        ? null
        : (view
            .bytes(list + idAt + 24, 8)
            ?.readBigUInt64BE()
            .toString() ?? null),
    label: nameAt < 0 ? null : view.text(list + nameAt + 20, labelBytes),
  }
}

function fat(view: DiskView): Found | null {
  if (!view.has(510, [0x55, 0xaa])) return null
  const isWide = view.has(82, 'FAT32   ')
  if (!isWide && !['FAT12   ', 'FAT16   ', 'FAT     '].some((text) => view.has(54, text))) return null
  const label = view.text(isWide ? 71 : 43, 11, 'latin1')
  return {
    kind: 'fat',
    id: view.hex(isWide ? 67 : 39, 4, 'reversed'),
    label: label === 'NO NAME' ? null : label,
  }
}

/** Metadata inside the device: the last 4 KiB of it. */
function drbd(view: DiskView): Found | null {
  const at = Math.floor(view.sizeBytes / (4 * KIB)) * 4 * KIB - 4 * KIB
  const isKnown = [0x6b, 0x6c, 0x6d].some((version) => view.has(at + 60, [0x83, 0x74, 0x02, version]))
  return isKnown ? { kind: 'drbd', id: view.hex(at + 40, 8), label: null } : null
}

/** A footer, and a copy of it in front of an image that grows. */
function vhd(view: DiskView): Found | null {
  const at = [0, view.sizeBytes - 512].find((place) => view.has(place, 'conectix'))
  return at === undefined ? null : { kind: 'vhd', id: view.uuid(at + 68), label: null }
}

/** RAID of the firmware, near the end: Intel's, and SNIA's DDF. */
function imsm(view: DiskView): Found | null {
  if (view.has(view.sizeBytes - 1024, 'Intel Raid ISM Cfg Sig. '))
    return { kind: 'imsm', id: null, label: null }
  if (view.has(view.sizeBytes - 512, [0xde, 0x11, 0xde, 0x11])) return { kind: 'ddf', id: null, label: null }
  return null
}
