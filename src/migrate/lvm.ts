// Logical volumes of the destination: names and sizes in, argument lists and free space out. Refuses names that LVM would
// not take, since they end in an argument list.

import type { Argv } from '../exec.js'
import { VOLUME_TAG_PREFIX, type Host, type ProtectedVolume } from '../host/host.js'

export type Volume = Readonly<{ group: string; volume: string }>

/** lvm(8): letters, digits and these, the first no hyphen; neither . nor .. */
const NAME = /^[A-Za-z0-9+_.][A-Za-z0-9+_.-]*$/
/** LVM keeps lists of all disks under a lock; a busy host takes its time. */
const LVM_TIMEOUT_MS = 60_000

export type GroupFacts =
  | Readonly<{ kind: 'group'; freeBytes: number; extentBytes: number }>
  | Readonly<{ kind: 'refused'; problem: Readonly<{ code: string; text: string; hint: string }> }>

export function isVolumeName(text: string): boolean {
  return NAME.test(text) && text !== '.' && text !== '..'
}

/** The volume that a path names: /dev/GROUP/VOLUME, or /dev/mapper/GROUP-VOLUME; null where it names none. */
export function volumeOf(path: string): Volume | null {
  const mapper = /^\/dev\/mapper\/((?:[^/-]|--)+)-((?:[^/-]|--)+)$/.exec(path)
  const [group = '', volume = ''] =
    mapper === null
      ? (/^\/dev\/([^/]+)\/([^/]+)$/.exec(path)?.slice(1) ?? [])
      : mapper.slice(1).map((part) => part.replaceAll('--', '-'))
  const isOther = ['mapper', 'disk', 'loop', 'shm', 'zvol', 'block', 'char', 'md'].includes(group)
  return isOther || !isVolumeName(group) || !isVolumeName(volume) ? null : { group, volume }
}

/** Zeroes its beginning, so that no old content is taken for something; what follows is made equal by the first pass. */
export function lvcreateArgv({ group, volume }: Volume, sizeBytes: number): Argv {
  return [
    'lvcreate',
    '--yes',
    '--zero',
    'y',
    '--wipesignatures',
    'y',
    '--name',
    volume,
    '--size',
    `${sizeBytes}b`,
    group,
  ]
}

export function lvremoveArgv({ group, volume }: Volume): Argv {
  return ['lvremove', '--yes', `${group}/${volume}`]
}

/** What a volume of so many bytes takes: LVM rounds up to its extents. */
export function extentsBytes(
  sizeBytes: number,
  { extentBytes }: Extract<GroupFacts, { kind: 'group' }>,
): number {
  return Math.ceil(sizeBytes / extentBytes) * extentBytes
}

/** Asks the host for the group. */
export async function groupFacts(group: string, host: Host): Promise<GroupFacts> {
  const argv: Argv = [
    'vgs',
    '--noheadings',
    '--nosuffix',
    '--units',
    'b',
    '--separator',
    ' ',
    '--options',
    'vg_free,vg_extent_size',
    group,
  ]
  const { exitStatus, stdout, stderrTail } = await host.run({ argv, timeoutMs: LVM_TIMEOUT_MS })
  if (exitStatus === 127)
    return refusal(
      'tools',
      `LVM is not installed on ${host.name}`,
      `Install lvm2 there, or write --create file.`,
    )
  const [freeBytes = Number.NaN, extentBytes = Number.NaN] = stdout.trim().split(/ +/).map(Number)
  if (exitStatus !== 0 || !Number.isSafeInteger(freeBytes) || !(extentBytes > 0))
    return refusal(
      'lvm-group',
      `${host.name} has no volume group ${group} that can be used: ${stderrTail.split('\n').at(-1) ?? ''}`,
      `See what is there: ssh ${host.name} vgs`,
    )
  return { kind: 'group', freeBytes, extentBytes }
}

export type FencedVolume = Readonly<{ volume: ProtectedVolume; sizeBytes: number }>

/** The volume that a path names, where the fence of that migration has deactivated it; else null. */
export async function fencedVolume(path: string, id: string, host: Host): Promise<FencedVolume | null> {
  const named = volumeOf(path)
  if (named === null) return null
  const name = `${named.group}/${named.volume}`
  const format = ['--noheadings', '--nosuffix', '--units', 'b', '--separator', ' ']
  const argv: Argv = ['lvs', ...format, '--options', 'lv_size,lv_tags', name]
  const { exitStatus, stdout } = await host.run({ argv, timeoutMs: LVM_TIMEOUT_MS })
  const [size = '', tags = ''] = stdout.trim().split(/ +/)
  const isOurs = exitStatus === 0 && tags.split(',').includes(`${VOLUME_TAG_PREFIX}${id}`)
  const sizeBytes = Number(size)
  if (!isOurs || !Number.isSafeInteger(sizeBytes)) return null
  // how it was before is known to the journal alone; volumes come up unless they were told not to
  return { volume: { name, skipped: 'no' }, sizeBytes }
}

export function isSameVolume(path: string, { name }: ProtectedVolume): boolean {
  const named = volumeOf(path)
  return named !== null && `${named.group}/${named.volume}` === name
}

function refusal(code: string, text: string, hint: string): GroupFacts {
  return { kind: 'refused', problem: { code, text, hint } }
}
