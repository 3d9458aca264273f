// Whether a disk is as it was: a stamp of a file, which changes when it does, and whether a device is one that nobody can
// change. What fstat said and text of /sys come in. Refuses to call frozen what is only read-only here.

import type { BigIntStats } from 'node:fs'

import type { EndpointInfo, Role } from '../endpoint/endpoint.js'
import { deviceKey, deviceNumber, readNames, readText } from '../endpoint/sysfs.js'

/** LVM's own ends of the uuid of what a snapshot lies on: the pool of a thin volume, the changes of an old one. */
const BELOW_SNAPSHOT = /^LVM-.*-(tpool|cow)$/

/**
 * What KnownDisk calls a stamp. Of a source: inode, size and both times. Of a destination the inode alone: a run changes the
 * rest itself. `facts` is what stat said before it was opened; null where it was made then.
 */
export function stampOf(role: Role, info: EndpointInfo, facts: BigIntStats | null): string | null {
  if (info.kind !== 'file') return null
  if (role === 'source')
    return facts === null ? null : `${facts.ino}.${facts.size}.${facts.mtimeNs}.${facts.ctimeNs}`
  const [, ino] = /^file:\d+:(\d+)$/.exec(info.identity.aliases[0] ?? '') ?? []
  return ino ?? null
}

/**
 * True for a snapshot of LVM that is read-only: its uuid is its own, and what it lies on changes nothing of it. Any other
 * device that is read-only is that on this host: a loop device's file, a LUN or the disk of another host may change below it.
 */
export async function isFrozen(facts: BigIntStats, sys = '/sys'): Promise<boolean> {
  if (!facts.isBlockDevice()) return false
  const directory = `${sys}/dev/block/${deviceKey(deviceNumber(facts.rdev))}`
  if ((await readText(`${directory}/ro`)) !== '1') return false
  if ((await readText(`${directory}/dm/uuid`))?.startsWith('LVM-') !== true) return false
  const below = await readNames(`${directory}/slaves`)
  const uuids = await Promise.all(below.map((name) => readText(`${directory}/slaves/${name}/dm/uuid`)))
  return uuids.some((uuid) => uuid !== null && BELOW_SNAPSHOT.test(uuid))
}
