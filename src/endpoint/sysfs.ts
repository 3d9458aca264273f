// What the kernel says about a block device: number, size, sector, backing file, what it lies on. Text of /sys comes in,
// plain facts go out. It opens no device, and an absent entry is an answer (null, none), not an error.

import type { BigIntStats } from 'node:fs'
import { readFile, readdir, readlink, stat } from 'node:fs/promises'

import { errnoOf } from '../errors.js'

/** Major and minor number of a device, as in /sys/dev/block/MAJOR:MINOR. */
export type DeviceNumber = Readonly<{ major: number; minor: number }>

/** Sectors in /sys are of this size whatever the device's own is (Documentation/ABI/stable/sysfs-block). */
const SYSFS_SECTOR_BYTES = 512

/** errno of an entry that is not there: a device without that property, or one that has just gone. */
const ABSENT = new Set([
  'ENOENT',
  'ENOTDIR',
  'ENODEV',
  'ENXIO',
  'EINVAL',
  'EACCES',
  'EPERM',
  'ELOOP',
  'ENAMETOOLONG',
  'ESRCH',
])

/** Splits st_rdev or st_dev the way the C library's gnu_dev_major and gnu_dev_minor do. */
export function deviceNumber(dev: bigint): DeviceNumber {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n)
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n)
  return { major: Number(major), minor: Number(minor) }
}

export function deviceKey(device: DeviceNumber): string {
  return `${device.major}:${device.minor}`
}

/** The number in a `dev` entry of /sys ('8:1'), or null. */
export function parseDevice(text: string | null): DeviceNumber | null {
  const [, major, minor] = /^(\d+):(\d+)$/.exec(text ?? '') ?? []
  return major === undefined || minor === undefined ? null : { major: Number(major), minor: Number(minor) }
}

/** What the facts are about, on this machine and until its next boot: 'block:MAJ:MIN' or 'file:DEV:INO'. */
export function nodeKey(facts: BigIntStats): string {
  if (facts.isBlockDevice()) return `block:${deviceKey(deviceNumber(facts.rdev))}`
  return `file:${facts.dev}:${facts.ino}`
}

/** Size and logical sector of a block device in bytes, or null where /sys does not know it. */
export async function deviceGeometry(
  device: DeviceNumber,
): Promise<{ sizeBytes: number; logicalSectorBytes: number } | null> {
  const directory = sysDirectory(device)
  const sectors = await readText(`${directory}/size`)
  if (sectors === null) return null
  // a partition has no queue of its own: its disk is the directory above the one that the link leads to
  const sector =
    (await readText(`${directory}/queue/logical_block_size`)) ??
    (await readText(`${directory}/../queue/logical_block_size`))
  const sizeBytes = Number(sectors) * SYSFS_SECTOR_BYTES
  const logicalSectorBytes = sector === null ? SYSFS_SECTOR_BYTES : Number(sector)
  if (!Number.isSafeInteger(sizeBytes) || !Number.isSafeInteger(logicalSectorBytes) || logicalSectorBytes < 1)
    return null
  return { sizeBytes, logicalSectorBytes }
}

/** True for a device that the kernel lets nobody write. */
export async function isReadOnlyDevice(device: DeviceNumber): Promise<boolean> {
  return (await readText(`${sysDirectory(device)}/ro`)) === '1'
}

/** The path of the file or device behind a loop device, or null for any other device. */
export async function loopBackingPath(device: DeviceNumber): Promise<string | null> {
  return readText(`${sysDirectory(device)}/loop/backing_file`)
}

/** The devices that a device is a part of or lies on, directly: a partition's disk, what a mapped or RAID device uses. */
export async function devicesBelow(device: DeviceNumber): Promise<DeviceNumber[]> {
  const directory = sysDirectory(device)
  const slaves = await readNames(`${directory}/slaves`)
  const entries = slaves.map((name) => `${directory}/slaves/${name}/dev`)
  // a partition's directory is inside its disk's
  if ((await readText(`${directory}/partition`)) !== null) entries.push(`${directory}/../dev`)
  const below: DeviceNumber[] = []
  for (const entry of entries) {
    const device = parseDevice(await readText(entry))
    if (device !== null) below.push(device)
  }
  return below
}

function sysDirectory(device: DeviceNumber): string {
  return `/sys/dev/block/${deviceKey(device)}`
}

/** A file's text without its last newline, or null where it is not there. */
export async function readText(path: string): Promise<string | null> {
  const text = await absentAsNull(readFile(path, 'utf8'))
  return text === null ? null : text.replace(/\n$/, '')
}

/** The names in a directory; none where it is not there. */
export async function readNames(directory: string): Promise<string[]> {
  return (await absentAsNull(readdir(directory))) ?? []
}

/** Where a symbolic link points, or null for what is none. */
export async function linkTarget(path: string): Promise<string | null> {
  return absentAsNull(readlink(path))
}

/** What the path leads to, or null where it leads nowhere. */
export async function statOrNull(path: string): Promise<BigIntStats | null> {
  return absentAsNull(stat(path, { bigint: true }))
}

/** The answer, or null where what was asked about is not there or not for us. */
export async function absentAsNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer
  } catch (error) {
    if (ABSENT.has(errnoOf(error) ?? '')) return null
    throw error
  }
}
