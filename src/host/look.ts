// What a path leads to and what its file system has left, without opening it for writing and without running a program.
// Refuses nothing but what cannot be looked at.

import type { BigIntStats } from 'node:fs'
import { access, constants, realpath, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'

import {
  deviceGeometry,
  deviceKey,
  deviceNumber,
  isReadOnlyDevice,
  readText,
  type DeviceNumber,
} from '../endpoint/sysfs.js'
import { errnoOf } from '../errors.js'
import { asFileFailure, fileRefusal } from './failures.js'
import { checkPath, nothingAsNull } from './files.js'
import type { FileFacts, SpaceFacts } from './host.js'

/** st_blocks counts in these, whatever the file system's own blocks are (stat(2)). */
const STAT_BLOCK_BYTES = 512
/** Columns of /sys/dev/block/M:N/stat (Documentation/block/stat.rst): sectors written, sectors discarded. */
const WRITTEN_COLUMN = 6
const DISCARDED_COLUMN = 13
const BOOT_ID_PATH = '/proc/sys/kernel/random/boot_id'

/** Host.look. */
export async function lookAt(path: string): Promise<FileFacts | null> {
  checkPath(path)
  return await asFileFailure(path, 'looked at', look(path))
}

async function look(path: string): Promise<FileFacts | null> {
  const realPath = await nothingAsNull(realpath(path))
  if (realPath === null) return null
  const facts = await nothingAsNull(stat(realPath, { bigint: true }))
  if (facts === null) return null
  const common = {
    realPath,
    mode: Number(facts.mode & 0o7777n),
    modifiedNs: String(facts.mtimeNs),
    changedNs: String(facts.ctimeNs),
  }
  if (facts.isBlockDevice()) return { ...common, ...(await deviceFacts(path, facts)) }
  return {
    ...common,
    kind: facts.isFile() ? 'file' : facts.isDirectory() ? 'directory' : 'other',
    sizeBytes: Number(facts.size),
    allocatedBytes: Number(facts.blocks) * STAT_BLOCK_BYTES,
    identity: `${deviceKey(deviceNumber(facts.dev))}:${facts.ino}`,
    written: null,
    isProtected: await isImmutable(realPath),
  }
}

type DeviceFacts = Pick<
  FileFacts,
  'kind' | 'sizeBytes' | 'allocatedBytes' | 'identity' | 'written' | 'isProtected'
>

async function deviceFacts(path: string, facts: BigIntStats): Promise<DeviceFacts> {
  const device = deviceNumber(facts.rdev)
  const geometry = await deviceGeometry(device)
  if (geometry === null)
    throw fileRefusal(
      path,
      `${path} is a device that the kernel does not know (${deviceKey(device)})`,
      'Is it attached? lsblk shows the devices there are.',
    )
  return {
    kind: 'block',
    sizeBytes: geometry.sizeBytes,
    allocatedBytes: geometry.sizeBytes,
    identity: deviceKey(device),
    written: await sectorsWritten(device),
    isProtected: await isReadOnlyDevice(device),
  }
}

/** Null where the kernel does not count. */
async function sectorsWritten(device: DeviceNumber): Promise<FileFacts['written']> {
  const directory = `/sys/dev/block/${deviceKey(device)}`
  const counts = ((await readText(`${directory}/stat`)) ?? '').trim().split(/\s+/)
  // a partition has no queue of its own: its disk's is above it
  const isCounted =
    (await readText(`${directory}/queue/iostats`)) ?? (await readText(`${directory}/../queue/iostats`))
  const written = counts[WRITTEN_COLUMN]
  if (isCounted === '0' || written === undefined) return null
  const sectors = BigInt(written) + BigInt(counts[DISCARDED_COLUMN] ?? '0')
  return { bootId: await bootId(), sectors: String(sectors) }
}

/** The id of this boot; empty where the kernel does not say. */
export async function bootId(): Promise<string> {
  return (await readText(BOOT_ID_PATH)) ?? ''
}

/**
 * access(2) asks the kernel's own permission check, and that answers EPERM for an immutable inode alone, to root too
 * (inode_permission in fs/namei.c); what is missing in rights is EACCES.
 */
export async function isImmutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.W_OK)
    return false
  } catch (error) {
    const errno = errnoOf(error)
    if (errno === null) throw error
    return errno === 'EPERM'
  }
}

/** Host.space. */
export async function spaceAt(path: string): Promise<SpaceFacts> {
  checkPath(path)
  return await asFileFailure(path, 'looked at', space(path))
}

async function space(path: string): Promise<SpaceFacts> {
  const directory = await nearestDirectory(path)
  const { bavail, bsize } = await statfs(directory, { bigint: true })
  const { dev } = await stat(directory, { bigint: true })
  return {
    directory,
    fileSystemId: deviceKey(deviceNumber(dev)),
    freeBytes: Number(bavail * bsize),
    fileSystem: fileSystemOf(directory, (await readText('/proc/self/mountinfo')) ?? ''),
    isWritable: await isOpenTo(directory),
  }
}

async function nearestDirectory(path: string): Promise<string> {
  for (let above = dirname(path); ; above = dirname(above)) {
    const real = await nothingAsNull(realpath(above))
    if (real !== null && (await stat(real)).isDirectory()) return real
  }
}

/** The type of the mount that a directory (links resolved) is in: of the longest mount point, the one mounted last. */
export function fileSystemOf(directory: string, mountInfo: string): string {
  let found = { point: '', type: 'unknown' }
  for (const line of mountInfo.split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const point = unescapeOctal(before.split(' ')[4] ?? '')
    const [type = ''] = after.split(' ')
    const isAbove = point === '/' || point === directory || directory.startsWith(`${point}/`)
    if (point !== '' && type !== '' && isAbove && point.length >= found.point.length) found = { point, type }
  }
  return found.type
}

/** Blank, tab, newline and backslash are written as \040 and so on (proc_pid_mountinfo(5)). */
function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

async function isOpenTo(directory: string): Promise<boolean> {
  try {
    await access(directory, constants.W_OK | constants.X_OK)
    return true
  } catch (error) {
    if (errnoOf(error) === null) throw error
    return false
  }
}
