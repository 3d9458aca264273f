// Which machine this is, without telling its /etc/machine-id: that should not leave it (machine-id(5)). Where there is
// none, one is made and kept in the state directory; nothing else is written.

import { createHash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'

import { errnoOf } from '../errors.js'
import { printable } from '../printable.js'
import { readSmallFile, writeAtomically } from './atomic-file.js'

const MACHINE_ID_PATH = '/etc/machine-id'
const BOOT_ID_PATH = '/proc/sys/kernel/random/boot_id'

/** Fixed for ever: the ids in all pair records were made with it. */
const APPLICATION = 'blocksync machine 1\n'

/** A machine id is 16 bytes, and so is what is made of it. */
const ID_DIGITS = 32

/** A host name has at most 64 bytes in Linux (HOST_NAME_MAX). */
const MAX_HOST_NAME_UNITS = 64

/**
 * SHA-256 over a fixed text, the id and the host's name, its first 32 hex digits. The name, since hosts that were made from
 * one image often have one id, and a pair of disks of the same path would be taken for one disk.
 */
export function machineIdOf(text: string, hostName: string = ownHostName()): string {
  return createHash('sha256')
    .update(APPLICATION)
    .update(`${text}\n${hostName}\n`)
    .digest('hex')
    .slice(0, ID_DIGITS)
}

/** This host's name as people know it. */
export function ownHostName(): string {
  return printable(hostname()).slice(0, MAX_HOST_NAME_UNITS)
}

/**
 * The id of this machine. `stateDirectory` is asked where the system has none (a container without /etc/machine-id): one
 * is made and kept there; where that resolves with null, or cannot be written, the id holds until the next boot.
 */
export async function ownMachineId(
  stateDirectory: () => Promise<string | null>,
  systemPath: string = MACHINE_ID_PATH,
): Promise<string> {
  const own = await readId(systemPath)
  if (own !== null) return machineIdOf(own)
  const boot = `boot ${(await readId(BOOT_ID_PATH, /^[0-9a-f-]{36}$/)) ?? ''}`
  const statePath = await stateDirectory()
  if (statePath === null) return machineIdOf(boot)
  const path = `${statePath}/machine-id`
  const kept = await keptId(path)
  if (kept !== null) return machineIdOf(kept)
  const made = randomBytes(ID_DIGITS / 2).toString('hex')
  try {
    await writeAtomically(path, `${made}\n`)
    return machineIdOf(made)
  } catch (error) {
    if (errnoOf(error) === null) throw error
    return machineIdOf(boot)
  }
}

async function keptId(path: string): Promise<string | null> {
  const text = await readSmallFile(path)
  return text !== null && /^[0-9a-f]{32}\n$/.test(text) ? text.trim() : null
}

/** The id in a file; null where there is none, or something else ('uninitialized', systemd's word). */
async function readId(path: string, form: RegExp = /^[0-9a-f]{32}$/): Promise<string | null> {
  try {
    const text = (await readFile(path, 'utf8')).trim().toLowerCase()
    return form.test(text) ? text : null
  } catch (error) {
    if (errnoOf(error) === null) throw error
    return null
  }
}
