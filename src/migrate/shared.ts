// Whether a path here and a path there are one disk: two paths in, yes, no or unknown with the reason out. A file system is
// proven by a file that is made beside the disk and looked for there; nothing else is written, and nothing is believed of names.

import { randomBytes } from 'node:crypto'
import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { FileFacts, Host } from '../host/host.js'

export type Sameness =
  | Readonly<{ kind: 'same'; why: string; fileSystem: string | null }>
  | Readonly<{ kind: 'other'; why: string }>
  /** `suspicion`: whether something speaks for one disk, so that copying might be copying it onto itself. */
  | Readonly<{ kind: 'unknown'; why: string; suspicion: 'same' | 'none' }>

/** One end of the question. */
export type Place = Readonly<{ host: Host; bootId: string; path: string; facts: FileFacts }>

const PROBE_PREFIX = '.blocksync-probe-'
const MAX_PROBE_BYTES = 256
/** One disk of these may be seen by many hosts, and it has no number of its own. */
const NETWORK_DEVICE = /^\/dev\/(drbd|rbd|nbd)/
/** Names of a LUN are short lines. */
const MAX_WWID_BYTES = 4096
const READ_TIMEOUT_MS = 20_000
/** Holds partition tables and the superblocks of most file systems; as text from od it stays below what a program may print. */
const COMPARED_BYTES = 256 << 10

/** Never rejects for what cannot be found out: that is `unknown`. */
export async function isSameDisk(source: Place, destination: Place): Promise<Sameness> {
  const kinds = [source.facts.kind, destination.facts.kind]
  if (kinds.every((kind) => kind === 'block')) return await isSameDevice(source, destination)
  if (kinds.every((kind) => kind === 'file')) return await isSameFile(source, destination)
  return { kind: 'other', why: 'one is a file and the other a block device' }
}

async function isSameFile(source: Place, destination: Place): Promise<Sameness> {
  const here = source.facts.realPath
  const there = destination.facts.realPath
  if (source.facts.sizeBytes !== destination.facts.sizeBytes)
    return { kind: 'other', why: 'their sizes differ' }
  if (posix.basename(here) !== posix.basename(there))
    return source.bootId === destination.bootId && source.facts.identity === destination.facts.identity
      ? { kind: 'same', why: 'the same file under two names', fileSystem: null }
      : { kind: 'other', why: 'their names differ' }
  const name = `${PROBE_PREFIX}${randomBytes(8).toString('hex')}`
  const secret = randomBytes(16).toString('hex')
  const probe = posix.join(posix.dirname(here), name)
  try {
    await source.host.writeText(probe, secret, { mode: 0o600, existing: 'refuse' })
  } catch (thrown) {
    if (!(thrown instanceof SyncError)) throw thrown
    const why = `no file can be made beside it on this host to look for there: ${thrown.message}`
    return { kind: 'unknown', why, suspicion: 'same' }
  }
  try {
    const seen = await destination.host.readText(posix.join(posix.dirname(there), name), MAX_PROBE_BYTES)
    if (seen !== secret)
      return { kind: 'other', why: 'a file that was made beside it on this host is not seen there' }
  } finally {
    await source.host.remove(probe)
  }
  const { fileSystem } = await source.host.space(here)
  return { kind: 'same', why: 'a file that was made beside it on this host was seen there', fileSystem }
}

async function isSameDevice(source: Place, destination: Place): Promise<Sameness> {
  if (source.facts.sizeBytes !== destination.facts.sizeBytes)
    return { kind: 'other', why: 'their sizes differ' }
  // one kernel (containers, tests): its number is the device
  if (source.bootId === destination.bootId) {
    return source.facts.identity === destination.facts.identity
      ? { kind: 'same', why: 'it is the same device of one kernel', fileSystem: null }
      : { kind: 'other', why: 'they are two devices of one kernel' }
  }
  const [here, there] = await Promise.all([namesOf(source), namesOf(destination)])
  if (here.hardware !== null && there.hardware !== null) {
    return here.hardware === there.hardware
      ? { kind: 'same', why: `both have the hardware number ${here.hardware}`, fileSystem: null }
      : { kind: 'other', why: `their hardware numbers differ: ${here.hardware} and ${there.hardware}` }
  }
  if (here.mapper !== null && here.mapper === there.mapper)
    return { kind: 'unknown', why: `both have the UUID ${here.mapper}`, suspicion: 'same' }
  if (NETWORK_DEVICE.test(source.facts.realPath) && NETWORK_DEVICE.test(destination.facts.realPath))
    return { kind: 'unknown', why: 'both are devices of a network, which may be one', suspicion: 'same' }
  return { kind: 'unknown', why: 'they have no hardware number to go by', suspicion: 'none' }
}

type Names = Readonly<{ hardware: string | null; mapper: string | null }>

/**
 * What the hardware calls itself, or multipath calls it, and what device mapper does. The UUID of a logical volume is
 * copied with its volume group, so it proves nothing; that of a multipath map is the number of the LUN.
 */
async function namesOf({ host, facts }: Place): Promise<Names> {
  const directory = `/sys/dev/block/${facts.identity}`
  const paths = ['wwid', 'device/wwid', 'dm/uuid', 'partition', '../wwid', '../device/wwid']
  const texts = await Promise.all(paths.map((path) => readOrNull(host, `${directory}/${path}`)))
  const [plain, scsi, uuid, partition, diskPlain, diskScsi] = texts
  const multipath = uuid?.startsWith('mpath-') === true ? uuid.slice('mpath-'.length) : null
  const disk = diskPlain ?? diskScsi ?? null
  const part =
    partition === null || partition === undefined || disk === null ? null : `${disk} part ${partition}`
  return {
    hardware: part ?? plain ?? scsi ?? multipath ?? null,
    mapper: multipath === null ? (uuid ?? null) : null,
  }
}

async function readOrNull(host: Host, path: string): Promise<string | null> {
  try {
    const text = (await host.readText(path, MAX_WWID_BYTES))?.trim() ?? ''
    return text === '' ? null : text
  } catch (thrown) {
    // some drivers answer EINVAL or EIO for a name that they do not have
    if (thrown instanceof SyncError) return null
    throw thrown
  }
}

/** Whether the beginnings differ, so that they cannot be one disk. Null where that cannot be said. */
export async function beginsDifferently(source: Place, destination: Place): Promise<boolean | null> {
  const before = await beginning(source)
  const there = await beginning(destination)
  const after = await beginning(source)
  // a guest that writes there just now makes any two reads differ
  if (before === null || there === null || before !== after) return null
  return before !== there
}

async function beginning({ host, path }: Place): Promise<string | null> {
  const argv = ['od', '-An', '-v', '-tx8', '-w32', '-N', String(COMPARED_BYTES), '--', path] as const
  const { exitStatus, stdout } = await host.run({ argv, timeoutMs: READ_TIMEOUT_MS })
  return exitStatus === 0 ? stdout : null
}
