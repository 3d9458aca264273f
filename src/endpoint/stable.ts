// Which disk it is also after the next boot: names from /sys and udev's database, by what fstat said about a path. Nothing
// is opened but small text files; an absent entry means one name fewer. Refuses nothing: the path is always a name.

import { createHash } from 'node:crypto'
import type { BigIntStats } from 'node:fs'
import { open, realpath } from 'node:fs/promises'
import { resolve } from 'node:path'

import { errnoOf } from '../errors.js'
import { isSystemError } from './failures.js'
import { deviceKey, deviceNumber } from './sysfs.js'

/** Where the kernel and udev tell; a test gives its own. */
export type StableRoots = Readonly<{ sys: string; udev: string }>

const OWN_ROOTS: StableRoots = { sys: '/sys', udev: '/run/udev' }

/** A name crosses the wire in control frames, where several of them have to fit. */
export const MAX_NAME_UNITS = 512
/** One of each kind is five. */
export const MAX_NAMES = 8
/** What is read of a file of /sys or of udev's: a page is what /sys gives at most. */
const MAX_TEXT_BYTES = 16 << 10

/**
 * Names of the disk that `path` leads to, best first (StableIdentity). `facts` is what stat said of it, or null where
 * there is nothing yet: then its path is all there is.
 */
export async function stableNames(
  path: string,
  facts: BigIntStats | null,
  roots: StableRoots = OWN_ROOTS,
): Promise<string[]> {
  const real = await realPath(path)
  if (facts?.isBlockDevice() !== true) return [named('path', real)]
  return await deviceNames(deviceKey(deviceNumber(facts.rdev)), real, roots)
}

async function deviceNames(key: string, real: string, roots: StableRoots): Promise<string[]> {
  const directory = `${roots.sys}/dev/block/${key}`
  const text = (entry: string): Promise<string | null> => readText(`${directory}/${entry}`)
  const [dmUuid, dmName, partition, backing, udev] = await Promise.all([
    text('dm/uuid'),
    text('dm/name'),
    text('partition'),
    text('loop/backing_file'),
    readText(`${roots.udev}/data/b${key}`),
  ])
  const properties = parseProperties(udev)
  const names: string[] = []
  if (dmUuid !== null) names.push(named('dm', dmUuid))
  const md = (await text('md/uuid')) ?? properties.get('MD_UUID') ?? null
  if (md !== null && partition === null) names.push(named('md', md))
  const suffix = partition === null ? '' : `-part${partition}`
  // a partition's directory is inside its disk's
  const disk = partition === null ? '' : '../'
  const wwid =
    (await text(`${disk}device/wwid`)) ?? (await text(`${disk}wwid`)) ?? (await text(`${disk}serial`))
  // before the partition's own UUID: a copy of the whole disk, on this host too, has the same one
  if (wwid !== null) names.push(named('wwid', `${wwid}${suffix}`))
  if (partition !== null) {
    const uevent = parseProperties(await text('uevent'))
    const uuid = properties.get('ID_PART_ENTRY_UUID') ?? uevent.get('PARTUUID') ?? null
    const behind = await text('../loop/backing_file')
    if (behind !== null) return [named('path', `${behind}${suffix}`)]
    if (uuid !== null) names.push(named('part', uuid.toLowerCase()))
  }
  names.push(named('path', backing ?? (dmName === null ? real : `/dev/mapper/${dmName}`)))
  return names
}

/**
 * `KIND:TEXT` in printable ASCII without spaces at its ends; other bytes are written as %XX, and what is too long then
 * becomes its digest. So a name is safe to print, and short.
 */
function named(kind: string, text: string): string {
  const plain = Buffer.from(text.trim(), 'utf8')
    .reduce((parts, byte) => {
      const isPlain = byte > 0x20 && byte < 0x7f && byte !== 0x25
      parts.push(isPlain ? String.fromCharCode(byte) : `%${byte.toString(16).padStart(2, '0')}`)
      return parts
    }, new Array<string>())
    .join('')
  const name = `${kind}:${plain}`
  if (name.length <= MAX_NAME_UNITS) return name
  return `${kind}:sha256-${createHash('sha256').update(text.trim()).digest('hex')}`
}

/** udev's database and uevent files: KEY=VALUE, in the database behind 'E:'. */
function parseProperties(text: string | null): Map<string, string> {
  const properties = new Map<string, string>()
  for (const line of (text ?? '').split('\n')) {
    const pair = line.startsWith('E:') ? line.slice(2) : line
    const at = pair.indexOf('=')
    if (at > 0) properties.set(pair.slice(0, at), pair.slice(at + 1))
  }
  return properties
}

/** The path without symbolic links, also where its last part is not there yet. */
async function realPath(path: string): Promise<string> {
  const absolute = resolve(path)
  try {
    return await realpath(absolute)
  } catch (error) {
    if (!isSystemError(error)) throw error
    const above = resolve(absolute, '..')
    return above === absolute
      ? absolute
      : resolve(await realPath(above), absolute.slice(above.length).replace(/^\/+/, ''))
  }
}

/** The text of a small file without the newline at its end; null where there is none, or nothing in it. */
async function readText(path: string): Promise<string | null> {
  try {
    await using file = await open(path)
    const buffer = Buffer.alloc(MAX_TEXT_BYTES)
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0)
    return buffer.toString('utf8', 0, bytesRead).trim() || null
  } catch (error) {
    // not there, not ours to read, or a device that does not answer (EIO, EINVAL of some wwid files): a name fewer
    if (isSystemError(error) || errnoOf(error) !== null) return null
    throw error
  }
}
