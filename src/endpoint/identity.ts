// Which disk an open descriptor is, in names that two openers on one machine can compare. It takes what fstat said and
// looks only at /proc and /sys and at the file behind a loop device.

import type { BigIntStats } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'

import { errnoOf } from '../errors.js'
import type { DiskIdentity } from './endpoint.js'
import { deviceKey, deviceNumber, devicesBelow, loopBackingPath, nodeKey } from './sysfs.js'
import type { DeviceNumber } from './sysfs.js'

/** New at every boot and the same for all on one kernel: containers included, guests not (random(4)). */
const BOOT_ID_PATH = '/proc/sys/kernel/random/boot_id'

/** A loop device over a loop device over ... ends here; the kernel itself allows few. */
const MAX_DEPTH = 8

/** The identity of what `facts` (fstat, bigint) describes. Rejects with the system error where /proc is not there. */
export async function diskIdentity(facts: BigIntStats): Promise<DiskIdentity> {
  const machine = (await readFile(BOOT_ID_PATH, 'utf8')).trim()
  const aliases = await aliasesOf(facts)
  if (!facts.isBlockDevice()) return { machine, aliases }
  const within = new Set<string>()
  await addBelow(deviceNumber(facts.rdev), within, 0)
  return within.size === 0 ? { machine, aliases } : { machine, aliases, within: [...within] }
}

/** The disk's own name, and those of what is behind it where it is a loop device. */
async function aliasesOf(facts: BigIntStats): Promise<string[]> {
  const aliases: string[] = []
  let next: BigIntStats | null = facts
  for (let depth = 0; next !== null && depth < MAX_DEPTH; depth++) {
    aliases.push(nodeKey(next))
    next = next.isBlockDevice() ? await backingFacts(deviceNumber(next.rdev)) : null
  }
  return aliases
}

/** A logical volume lies on a partition, that on a disk, that may be a loop device over a file. */
async function addBelow(device: DeviceNumber, within: Set<string>, depth: number): Promise<void> {
  if (depth === MAX_DEPTH) return
  for (const below of await devicesBelow(device)) {
    within.add(`block:${deviceKey(below)}`)
    const backing = await backingFacts(below)
    if (backing !== null) for (const name of await aliasesOf(backing)) within.add(name)
    await addBelow(below, within, depth + 1)
  }
}

async function backingFacts(device: DeviceNumber): Promise<BigIntStats | null> {
  const path = await loopBackingPath(device)
  if (path === null) return null
  try {
    return await stat(path, { bigint: true })
  } catch (error) {
    // deleted, or in another mount namespace: it has no name here that anyone could give us as the other operand
    const errno = errnoOf(error)
    if (errno === 'ENOENT' || errno === 'ENOTDIR' || errno === 'EACCES') return null
    throw error
  }
}
