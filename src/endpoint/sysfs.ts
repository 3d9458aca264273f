// What the kernel says about a block device: size, sector, backing file, and who claims it. Text of /sys and /proc comes
// in, plain facts go out. It opens no device, and an absent entry is an answer (null, none), not an error.

import { readFile, readdir, readlink, realpath, stat } from 'node:fs/promises'

import { errnoOf } from '../errors.js'

/** Major and minor number of a device, as in /sys/dev/block/MAJOR:MINOR. */
export type DeviceNumber = Readonly<{ major: number; minor: number }>

/** Sectors in /sys are of this size whatever the device's own is (Documentation/ABI/stable/sysfs-block). */
const SYSFS_SECTOR_BYTES = 512

/** Bind mounts can make hundreds; a message needs a few. */
const MAX_CLAIMS = 4

/** errno of an entry that is not there: a device without that property, or one that has just gone. */
const ABSENT = new Set(['ENOENT', 'ENOTDIR', 'ENODEV', 'ENXIO', 'EINVAL', 'EACCES', 'EPERM'])

/** Splits st_rdev or st_dev the way the C library's gnu_dev_major and gnu_dev_minor do. */
export function deviceNumber(dev: bigint): DeviceNumber {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n)
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n)
  return { major: Number(major), minor: Number(minor) }
}

export function deviceKey(device: DeviceNumber): string {
  return `${device.major}:${device.minor}`
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
    const [major, minor] = ((await readText(entry)) ?? '').split(':').map(Number)
    if (major !== undefined && minor !== undefined) below.push({ major, minor })
  }
  return below
}

/** Loop devices (as /dev/loopN) that are set up over the file with these numbers. */
export async function loopDevicesOver(dev: bigint, ino: bigint): Promise<string[]> {
  const found: string[] = []
  for (const name of await readNames('/sys/block')) {
    if (!name.startsWith('loop')) continue
    const path = await readText(`/sys/block/${name}/loop/backing_file`)
    const facts = path === null ? null : await absentAsNull(stat(path, { bigint: true }))
    if (facts !== null && facts.dev === dev && facts.ino === ino) found.push(`/dev/${name}`)
  }
  return found
}

/**
 * Who claims a device or one of its partitions: phrases such as 'mounted on /srv' or 'held by dm-0 (vg-root)'.
 * Empty where the kernel does not tell (another program holds it, or a mount in another namespace).
 */
export async function deviceClaims(path: string, device: DeviceNumber): Promise<string[]> {
  const claims: string[] = []
  const mounts = parseMounts((await readText('/proc/self/mountinfo')) ?? '')
  const swaps = parseSwaps((await readText('/proc/swaps')) ?? '')
  for (const part of await deviceAndPartitions(path, device)) {
    const prefix = part.name === null ? '' : `its partition ${part.name} is `
    const key = deviceKey(part.device)
    const on = mounts.filter(
      (mount) => mount.deviceKey === key || (part.path !== null && mount.source === part.path),
    )
    for (const mount of on) claims.push(`${prefix}mounted on ${mount.mountPoint}`)
    if (part.path !== null && swaps.includes(part.path)) claims.push(`${prefix}in use as swap`)
    for (const holder of await readNames(`${sysDirectory(part.device)}/holders`)) {
      const name = await readText(`/sys/class/block/${holder}/dm/name`)
      claims.push(`${prefix}held by ${holder}${name === null ? '' : ` (${name})`}`)
    }
  }
  return claims.length <= MAX_CLAIMS
    ? claims
    : [...claims.slice(0, MAX_CLAIMS), `and ${claims.length - MAX_CLAIMS} more`]
}

/** Rows of /proc/self/mountinfo (proc_pid_mountinfo(5)): device number, mount point and source. */
export function parseMounts(text: string): Array<{ deviceKey: string; mountPoint: string; source: string }> {
  const mounts = []
  for (const line of text.split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const fields = before.split(' ')
    const key = fields[2]
    const mountPoint = fields[4]
    if (key === undefined || mountPoint === undefined) continue
    mounts.push({
      deviceKey: key,
      mountPoint: unescapeOctal(mountPoint),
      source: unescapeOctal(after.split(' ')[1] ?? ''),
    })
  }
  return mounts
}

function parseSwaps(text: string): string[] {
  const rows = text.split('\n').slice(1)
  return rows.map((row) => unescapeOctal(row.split(/\s+/)[0] ?? '')).filter((name) => name !== '')
}

/** Space, tab, newline and backslash are written as \040 and so on. */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

type Part = { name: string | null; path: string | null; device: DeviceNumber }

async function deviceAndPartitions(path: string, device: DeviceNumber): Promise<Part[]> {
  const parts: Part[] = [{ name: null, path: await absentAsNull(realpath(path)), device }]
  const directory = sysDirectory(device)
  for (const name of await readNames(directory)) {
    if ((await readText(`${directory}/${name}/partition`)) === null) continue
    const [major, minor] = ((await readText(`${directory}/${name}/dev`)) ?? '').split(':').map(Number)
    if (major !== undefined && minor !== undefined)
      parts.push({ name, path: `/dev/${name}`, device: { major, minor } })
  }
  return parts
}

function sysDirectory(device: DeviceNumber): string {
  return `/sys/dev/block/${deviceKey(device)}`
}

async function readText(path: string): Promise<string | null> {
  const text = await absentAsNull(readFile(path, 'utf8'))
  return text === null ? null : text.replace(/\n$/, '')
}

async function readNames(directory: string): Promise<string[]> {
  return (await absentAsNull(readdir(directory))) ?? []
}

/** Where a symbolic link points, or null for what is none. */
export async function linkTarget(path: string): Promise<string | null> {
  return absentAsNull(readlink(path))
}

async function absentAsNull<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer
  } catch (error) {
    if (ABSENT.has(errnoOf(error) ?? '')) return null
    throw error
  }
}
