// What is recognised on a disk: real file systems where their programs are here, the others made by hand from the sources
// that signature-formats.ts names; and hostile content, which must not throw, hang or say too much.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

import type { Signature } from '../../src/endpoint/endpoint.js'
import { contentQuestion, contentRefusal, foreignContent } from '../../src/guard/content.js'
import {
  describeSignature,
  firstPlaces,
  listSignatures,
  MAX_SIGNATURES,
  partitionPlaces,
  recognise,
} from '../../src/guard/signature.js'
import type { Place } from '../../src/guard/signature-view.js'

const KIB = 1024
const MIB = 1 << 20
const UUID = '00112233-4455-6677-8899-aabbccddeeff'
const UUID_BYTES = Buffer.from(UUID.replaceAll('-', ''), 'hex')

/** What a run would read of a disk of this content, and what it finds there. */
function look(disk: Buffer): Signature[] {
  const read = ({ offset, length }: { offset: number; length: number }): Place => ({
    offset,
    bytes: disk.subarray(offset, offset + length),
  })
  const places = firstPlaces(disk.length, 4096).map(read)
  places.push(...partitionPlaces(places, disk.length, 4096).map(read))
  return recognise(places, disk.length)
}

type Piece = readonly [offset: number, bytes: string | readonly number[] | Buffer]

/** A disk of zeros with these pieces in it; an offset below zero counts from the end. */
function disk(pieces: readonly Piece[], sizeBytes = 4 * MIB): Buffer {
  const bytes = Buffer.alloc(sizeBytes)
  for (const [offset, piece] of pieces)
    Buffer.from(piece as Buffer).copy(bytes, offset < 0 ? sizeBytes + offset : offset)
  return bytes
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

/** A table of GPT at a sector, with partitions of [first, last] sectors. */
function gpt(at: number, tableSector: number, partitions: readonly (readonly [number, number])[]): Piece[] {
  return [
    [at, 'EFI PART'],
    [at + 56, UUID_BYTES],
    [at + 72, u64(tableSector)],
    [at + 80, u32(128)],
    [at + 84, u32(128)],
    ...partitions.flatMap(([first, last], index): Piece[] => {
      const entry = tableSector * 512 + index * 128
      return [
        [entry, UUID_BYTES],
        [entry + 32, u64(first)],
        [entry + 40, u64(last)],
      ]
    }),
  ]
}

const lvmId = 'AbcdefGhijKlmnOpqrStuvWxyz012345'
const LVM: Piece[] = [
  [512, 'LABELONE'],
  [512 + 20, u32(32)],
  [512 + 24, 'LVM2 001'],
  [512 + 32, lvmId],
  [512 + 72, Buffer.concat([u64(MIB), u64(0), u64(0), u64(0), u64(4096), u64(MIB - 4096)])],
  [4096 + 4, ' LVM2 x[5A%r0N*>'],
  [4096 + 24, u64(4096)],
  [4096 + 40, u64(2048)],
  [4096 + 2048, 'vg-data {\nid = "x"\n'],
]

function xdr(name: string, type: number, value: Buffer): Buffer {
  const be = (number: number): Buffer => u32(number).reverse()
  const padded = Buffer.alloc(Math.ceil(name.length / 4) * 4)
  padded.write(name)
  return Buffer.concat([be(0), be(0), be(name.length), padded, be(type), be(1), value])
}

const ZFS: Piece[] = [
  [128 * KIB + 3 * KIB, [0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0]],
  [
    16 * KIB,
    Buffer.concat([
      Buffer.from([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
      xdr('name', 9, Buffer.from([0, 0, 0, 4, ...Buffer.from('tank')])),
      xdr('pool_guid', 8, Buffer.from([0, 0, 0, 0, 0, 0, 1, 2])),
    ]),
  ],
]

const MADE_BY_HAND: [kind: string, pieces: Piece[], text: string][] = [
  [
    'xfs',
    [
      [0, 'XFSB'],
      [32, UUID_BYTES],
      [108, 'data'],
    ],
    `an XFS file system "data" (UUID ${UUID})`,
  ],
  [
    'btrfs',
    [
      [64 * KIB + 64, '_BHRfS_M'],
      [64 * KIB + 32, UUID_BYTES],
      [64 * KIB + 299, 'pool'],
    ],
    `a btrfs file system "pool" (UUID ${UUID})`,
  ],
  [
    'lvm2-pv',
    LVM,
    'an LVM physical volume of volume group vg-data (UUID Abcdef-Ghij-Klmn-Opqr-Stuv-Wxyz-012345)',
  ],
  [
    'luks1',
    [
      [0, 'LUKS'],
      [4, [0xba, 0xbe, 0, 1]],
      [168, UUID],
    ],
    `a LUKS1 volume (UUID ${UUID})`,
  ],
  [
    'luks2',
    [
      [0, 'LUKS'],
      [4, [0xba, 0xbe, 0, 2]],
      [24, 'vault'],
      [168, UUID],
    ],
    `a LUKS2 volume "vault" (UUID ${UUID})`,
  ],
  [
    'luks2',
    [
      [16 * KIB, 'SKUL'],
      [16 * KIB + 4, [0xba, 0xbe, 0, 2]],
      [16 * KIB + 168, UUID],
    ],
    `a LUKS2 volume (UUID ${UUID})`,
  ],
  [
    'ntfs',
    [
      [3, 'NTFS    '],
      [72, [8, 7, 6, 5, 4, 3, 2, 1]],
    ],
    'an NTFS file system (UUID 0102030405060708)',
  ],
  [
    'exfat',
    [
      [3, 'EXFAT   '],
      [100, u32(0xabcd)],
    ],
    'an exfat file system (UUID 0000abcd)',
  ],
  [
    'fat',
    [
      [510, [0x55, 0xaa]],
      [82, 'FAT32   '],
      [67, u32(0x12345678)],
      [71, 'BOOT       '],
    ],
    'a FAT file system "BOOT" (UUID 12345678)',
  ],
  [
    'fat',
    [
      [510, [0x55, 0xaa]],
      [54, 'FAT16   '],
      [43, 'NO NAME    '],
    ],
    'a FAT file system',
  ],
  [
    'iso9660',
    [
      [32 * KIB + 1, 'CD001'],
      [32 * KIB + 40, 'DEBIAN_13    '],
    ],
    'an ISO 9660 file system "DEBIAN_13"',
  ],
  [
    'md',
    [
      [4 * KIB, [0xfc, 0x4e, 0x2b, 0xa9, 1]],
      [4 * KIB + 16, UUID_BYTES],
      [4 * KIB + 32, 'host:0'],
    ],
    `a member of a Linux RAID array "host:0" (UUID ${UUID})`,
  ],
  ['md', [[-8 * KIB, [0xfc, 0x4e, 0x2b, 0xa9, 1]]], 'a member of a Linux RAID array'],
  [
    'md',
    [
      [-64 * KIB, [0xfc, 0x4e, 0x2b, 0xa9, 0]],
      [-64 * KIB + 20, u32(1)],
    ],
    'a member of a Linux RAID array (UUID 00000001:00000000:00000000:00000000)',
  ],
  ['zfs', ZFS, 'a member of a ZFS pool "tank" (UUID 258)'],
  [
    'f2fs',
    [
      [KIB, [0x10, 0x20, 0xf5, 0xf2]],
      [KIB + 124, Buffer.from('data', 'utf16le')],
    ],
    'an f2fs file system "data"',
  ],
  ['erofs', [[KIB, [0xe2, 0xe1, 0xf5, 0xe0]]], 'an erofs file system'],
  ['bcache', [[4 * KIB + 24, Buffer.from('c68573f64e1a45ca8265f57f48ba6d81', 'hex')]], 'a bcache device'],
  [
    'bcachefs',
    [[4 * KIB + 24, Buffer.from('c68573f666ce90a9d96a60cf803df7ef', 'hex')]],
    'a bcachefs file system',
  ],
  ['drbd', [[-4 * KIB + 60, [0x83, 0x74, 0x02, 0x6d]]], 'DRBD metadata'],
  ['qcow2', [[0, [0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]]], 'a qcow2 image'],
  ['vmdk', [[0, 'KDMV']], 'a VMDK image'],
  ['vhdx', [[0, 'vhdxfile']], 'a VHDX image'],
  [
    'vhd',
    [
      [-512, 'conectix'],
      [-512 + 68, UUID_BYTES],
    ],
    `a VHD image (UUID ${UUID})`,
  ],
  ['vdi', [[64, [0x7f, 0x10, 0xda, 0xbe]]], 'a VDI image'],
  ['imsm', [[-KIB, 'Intel Raid ISM Cfg Sig. 1.3.00']], 'a member of an Intel RAID array'],
  ['ddf', [[-512, [0xde, 0x11, 0xde, 0x11]]], 'a member of a DDF RAID array'],
  ['hibernation', [[4086, 'S1SUSPEND']], 'a swap area with a suspended machine in it'],
  ['ext2', [[KIB + 56, [0x53, 0xef]]], 'an ext2 file system'],
  [
    'ext3',
    [
      [KIB + 56, [0x53, 0xef]],
      [KIB + 92, u32(4)],
    ],
    'an ext3 file system',
  ],
  [
    'ext-journal',
    [
      [KIB + 56, [0x53, 0xef]],
      [KIB + 96, u32(8)],
    ],
    'the journal of an ext file system',
  ],
  ['reiserfs', [[64 * KIB + 52, 'ReIsEr2Fs']], 'a reiserfs file system'],
  ['jfs', [[32 * KIB, 'JFS1']], 'a jfs file system'],
  ['squashfs', [[0, 'hsqs']], 'a squashfs file system'],
  ['apfs', [[32, 'NXSB']], 'an APFS container'],
  ['hfsplus', [[KIB, [0x48, 0x2b, 0, 4]]], 'an HFS+ file system'],
  ['bluestore', [[0, `bluestore block device\n${UUID}\n`]], `a Ceph BlueStore device (UUID ${UUID})`],
]

describe('recognise', () => {
  it.each(MADE_BY_HAND)('%s', (kind, pieces, text) => {
    const found = look(disk(pieces))
    expect(found.map((each) => each.kind)).toEqual([kind])
    expect(listSignatures(found)).toBe(text)
  })

  it('finds nothing on a blank disk, nor on one of a few bytes', () => {
    for (const sizeBytes of [0, 1, 511, 512, 4096, 100_000, 4 * MIB])
      expect(look(Buffer.alloc(sizeBytes))).toEqual([])
  })

  it('finds what is written with holes: a random image of text', () => {
    expect(look(Buffer.alloc(2 * MIB, 'just some text, as a log file may have it\n'))).toEqual([])
  })

  it('looks into the partitions of a GPT', () => {
    const pieces = gpt(512, 2, [
      [2048, 4095],
      [4096, 8191],
      [8192, 8192],
    ])
    const found = look(
      disk(
        [
          [510, [0x55, 0xaa]],
          [446 + 4, [0xee]],
          [446 + 8, u32(1)],
          [446 + 12, u32(8191)],
          ...pieces,
          [2048 * 512, 'XFSB'],
          [2048 * 512 + 108, 'boot'],
          [4096 * 512 + 64 * KIB + 64, '_BHRfS_M'],
        ],
        6 * MIB,
      ),
    )
    expect(found.map(({ kind, inPartition }) => [kind, inPartition])).toEqual([
      ['gpt', null],
      ['xfs', 1],
      ['btrfs', 2],
    ])
    expect(listSignatures(found)).toBe(
      'a GPT partition table with 3 partitions, an XFS file system "boot" in partition 1 and a btrfs file system in partition 2',
    )
    expect(found[0]?.id).toBe('33221100-5544-7766-8899-aabbccddeeff')
  })

  it('finds the GPT at the end where the one at the start is gone', () => {
    const sizeBytes = 4 * MIB
    const found = look(disk(gpt(sizeBytes - 512, sizeBytes / 512 - 33, [[2048, 4095]]), sizeBytes))
    expect(found).toMatchObject([{ kind: 'gpt', partitions: 1, offsetBytes: sizeBytes - 512 }])
  })

  it('reads an MBR, and does not take a boot sector for one', () => {
    const table: Piece[] = [
      [440, u32(0x1234)],
      [510, [0x55, 0xaa]],
      [446, [0x80]],
      [450, [0x83]],
      [454, u32(2048)],
      [458, u32(2048)],
    ]
    expect(look(disk(table))).toMatchObject([{ kind: 'mbr', id: '00001234', partitions: 1 }])
    expect(look(disk([...table, [82, 'FAT32   ']])).map(({ kind }) => kind)).toEqual(['fat'])
    expect(look(disk([...table, [462, [0x12]]]))).toEqual([])
  })

  const hostile: [name: string, pieces: Piece[]][] = [
    ['a GPT of 2^32 entries', [...gpt(512, 2, [[2048, 4095]]), [512 + 80, u32(0xffffffff)]]],
    [
      'entries beyond the disk',
      gpt(512, 2, [
        [2 ** 40, 2 ** 41],
        [4095, 1],
        [0, 2 ** 50],
      ]),
    ],
    ['entries at 2^64', [...gpt(512, 2, []), [512 + 72, [255, 255, 255, 255, 255, 255, 255, 255]]]],
    ['LVM whose areas are anywhere', [...LVM, [512 + 72, Buffer.alloc(256, 0xff)]]],
    ['LVM whose text is beyond', [...LVM, [4096 + 40, u64(2 ** 50)]]],
    ['LVM whose header is beyond', [...LVM, [512 + 20, u32(0xfffffff0)]]],
    ['ZFS with a long name', [...ZFS, [16 * KIB + 32, Buffer.alloc(200, 0xff)]]],
  ]
  it.each(hostile)('survives %s', (_, pieces) => {
    const found = look(disk(pieces))
    expect(found.length).toBeGreaterThan(0)
    expect(found.length).toBeLessThanOrEqual(MAX_SIGNATURES)
  })

  it('makes labels harmless and short', () => {
    const [found] = look(
      disk([
        [0, 'XFSB'],
        [108, Buffer.from('\u001b]0;x\u0007\u202e')],
      ]),
    )
    expect(describeSignature(found as Signature)).toBe('an XFS file system "?]0;x??"')
    const [long] = look(
      disk([
        [64 * KIB + 64, '_BHRfS_M'],
        [64 * KIB + 299, 'x'.repeat(256)],
      ]),
    )
    expect(long?.label).toHaveLength(64)
  })

  it('names no more than it has room for', () => {
    const many = Array.from(
      { length: 16 },
      (_, index) => [2048 + index * 512, 2047 + (index + 1) * 512] as const,
    )
    const everywhere: Piece[] = many.flatMap(([first]): Piece[] => [
      [first * 512, 'XFSB'],
      [first * 512 + 3, 'NTFS    '],
      [first * 512 + KIB + 56, [0x53, 0xef]],
    ])
    const found = look(disk([...gpt(512, 2, many), ...everywhere], 16 * MIB))
    expect(found).toHaveLength(MAX_SIGNATURES)
    expect(listSignatures(found)).toMatch(/ and 28 more$/)
  })

  it('never throws and stays bounded, whatever is on the disk', () => {
    const marks = MADE_BY_HAND.flatMap(([, pieces]) => pieces)
    const places = fc.array(fc.tuple(fc.nat(marks.length - 1), fc.nat(255), fc.nat(20)), { maxLength: 12 })
    fc.assert(
      fc.property(places, fc.integer({ min: 0, max: 300_000 }), (chosen, sizeBytes) => {
        const bytes = disk(
          chosen
            .map(([index]): Piece => marks[index] ?? [0, ''])
            .filter(([offset]) => Math.abs(offset) < sizeBytes),
          sizeBytes,
        )
        for (const [index, value, step] of chosen) {
          const at = (marks[index]?.[0] ?? 0) + step
          if (at >= 0 && at < sizeBytes) bytes[at] = value
        }
        for (const found of look(bytes)) {
          expect(describeSignature(found)).toMatch(/^[ -~\u00a0-\uffff]{1,300}$/)
        }
      }),
      { numRuns: 300 },
    )
  })
})

function has(program: string): boolean {
  return (
    spawnSync('/bin/sh', ['-c', `command -v ${program}`], { env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } })
      .status === 0
  )
}

/** What a real program makes, on a file of 16 MiB. */
function made(argv: readonly string[]): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'blocksync-signature-'))
  try {
    const path = join(directory, 'disk')
    writeFileSync(path, '')
    truncateSync(path, 16 * MIB)
    const [program = '', ...words] = argv
    const { status, stderr } = spawnSync(program, [...words, path], {
      encoding: 'utf8',
      timeout: 20_000,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    })
    if (status !== 0) throw new Error(`${program}: ${stderr}`)
    return readFileSync(path)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

describe('real file systems', () => {
  const real: [name: string, argv: string[], text: string][] = [
    ['mkfs.ext4', ['-q', '-F', '-L', 'root', '-U', UUID], `an ext4 file system "root" (UUID ${UUID})`],
    ['mkfs.ext3', ['-q', '-F', '-U', UUID], `an ext3 file system (UUID ${UUID})`],
    ['mkfs.ext2', ['-q', '-F', '-U', UUID], `an ext2 file system (UUID ${UUID})`],
    ['mkswap', ['-L', 'sleep', '-U', UUID], `a swap area "sleep" (UUID ${UUID})`],
    ['mkfs.vfat', ['-i', '12345678', '-n', 'BOOT'], 'a FAT file system "BOOT" (UUID 12345678)'],
    ['mkfs.btrfs', ['-q', '-M', '-L', 'pool', '-U', UUID], `a btrfs file system "pool" (UUID ${UUID})`],
  ]
  for (const [program, argv, text] of real) {
    if (!has(program)) console.warn(`skipped for want of: ${program}`)
    it.runIf(has(program))(`of ${program}`, () => {
      expect(listSignatures(look(made([program, ...argv])))).toBe(text)
    })
  }
})

describe('foreign content', () => {
  const ext = (id: string | null, label: string | null = null): Signature => ({
    kind: 'ext4',
    id,
    label,
    partitions: null,
    inPartition: null,
    offsetBytes: 0,
  })

  it('is what the source has not, by kind and id', () => {
    expect(foreignContent([ext('1')], [ext('1'), ext('2')])).toEqual([ext('2')])
    expect(foreignContent([ext('1', 'a')], [ext('1', 'b')])).toEqual([])
    expect(foreignContent([ext(null, 'a')], [ext(null, 'b')])).toEqual([ext(null, 'b')])
    expect(foreignContent([{ ...ext('1'), kind: 'xfs' }], [ext('1')])).toEqual([ext('1')])
    expect(foreignContent([ext('1')], [])).toEqual([])
  })

  it('is asked about and refused in one message for all disks', () => {
    const one = {
      sourceName: '/dev/vg/web',
      destinationName: 'host2:/dev/vg/web',
      content: [ext('1', 'data')],
    }
    expect(contentQuestion([one])).toBe(
      'host2:/dev/vg/web holds an ext4 file system "data" (UUID 1). Overwrite it with /dev/vg/web? [y/N] ',
    )
    expect(contentRefusal([one])).toMatchObject({
      code: 'guard/content',
      exitStatus: 3,
      operand: 'host2:/dev/vg/web',
      message:
        'host2:/dev/vg/web holds an ext4 file system "data" (UUID 1), which the source has not; nothing was written',
      hint: 'Is it the right disk? To overwrite it, type --yes, or --force-content.',
    })
    const many = Array.from({ length: 6 }, () => one)
    expect(contentQuestion(many)).toMatch(/; and so do 2 more\. Overwrite all 6 of them\? \[y\/N\] $/)
  })
})
