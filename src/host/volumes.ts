// Volumes of LVM, taken out of service and brought back: a path comes in, what lvs and lvchange did goes out. Xen's back end
// writes to a device that is set read-only; one that is not active nobody opens. Refuses names that LVM would not give.

import type { Argv } from '../exec.js'
import { deviceKey, deviceNumber, readText, statOrNull } from '../endpoint/sysfs.js'
import { printable } from '../printable.js'
import { fileRefusal } from './failures.js'
import { VOLUME_TAG_PREFIX, type ProgramResult, type ProtectedVolume } from './host.js'

export type VolumeParts = Readonly<{
  run: (argv: Argv) => Promise<ProgramResult>
  /** The active volume that a path leads to; null where it leads to none. */
  volumeAt: (path: string) => Promise<ActiveVolume | null>
}>

export type ActiveVolume = Readonly<{
  /** GROUP/VOLUME. */ name: string
  /** As in /sys, without hyphens. */ uuid: string
}>

/**
 * As LVM names what it maps (dm_build_dm_uuid): the ids of group and volume, 32 characters each. What follows behind a hyphen
 * are its inner parts (a pool's data, the origin below a snapshot).
 */
const UUID = /^LVM-[A-Za-z0-9]{64}$/
/** GROUP-VOLUME; a hyphen of either name is written twice. */
const MAPPED_NAME = /^((?:[^-]|--)+)-((?:[^-]|--)+)$/
/** lvm(8): letters, digits and these, the first no hyphen. */
const NAME = /^[A-Za-z0-9+_.][A-Za-z0-9+_.-]*\/[A-Za-z0-9+_.][A-Za-z0-9+_.-]*$/

/** Reads /sys only. */
export async function volumeAt(path: string): Promise<ActiveVolume | null> {
  const facts = await statOrNull(path)
  if (facts?.isBlockDevice() !== true) return null
  const directory = `/sys/dev/block/${deviceKey(deviceNumber(facts.rdev))}/dm`
  return volumeOfMapping(await readText(`${directory}/uuid`), await readText(`${directory}/name`))
}

/** The volume of a mapped device with this uuid and name (dm/uuid and dm/name in /sys); null where it is none of LVM. */
export function volumeOfMapping(uuid: string | null, mappedName: string | null): ActiveVolume | null {
  const [, group, volume] = MAPPED_NAME.exec(mappedName ?? '') ?? []
  if (uuid === null || !UUID.test(uuid) || group === undefined || volume === undefined) return null
  const name = `${group.replaceAll('--', '-')}/${volume.replaceAll('--', '-')}`
  return NAME.test(name) ? { name, uuid } : null
}

/** How it is before it is closed, or a phrase that says why nobody knows. */
export async function volumeBefore(
  { name, uuid }: ActiveVolume,
  { run }: VolumeParts,
): Promise<ProtectedVolume | string> {
  const options = ['--noheadings', '--binary', '--separator', ' ', '--options', 'lv_uuid,lv_skip_activation']
  const { exitStatus, stdout, stderrTail } = await run(['lvs', ...options, name])
  const [id = '', skip] = stdout.trim().split(/\s+/)
  if (exitStatus !== 0) return reason(stderrTail, `lvs ended with status ${exitStatus}`)
  if (!uuid.endsWith(id.replaceAll('-', '')) || (skip !== '0' && skip !== '1'))
    return `lvs does not know ${name}`
  return { name, skipped: skip === '1' ? 'yes' : 'no' }
}

/**
 * Deactivates it, and marks it so that it stays so when the host starts again. `isClosed`: nobody can open it now; `why`
 * says what of this could not be had. LVM itself waits 5 s for whoever still has it open. Again is no error.
 */
export async function closeVolume(
  path: string,
  { name }: ProtectedVolume,
  tag: string,
  { run, volumeAt: lookUp }: VolumeParts,
): Promise<Readonly<{ isClosed: boolean; why: string | null }>> {
  const off = await run(['lvchange', '--activate', 'n', name])
  if (off.exitStatus !== 0 || (await lookUp(path)) !== null) {
    const words = reason(off.stderrTail, `lvchange ended with status ${off.exitStatus}`)
    return { isClosed: false, why: `the volume ${name} could not be deactivated: ${words}` }
  }
  const marked = await run([
    'lvchange',
    '--setactivationskip',
    'y',
    '--addtag',
    `${VOLUME_TAG_PREFIX}${tag}`,
    name,
  ])
  if (marked.exitStatus === 0) return { isClosed: true, why: null }
  const words = reason(marked.stderrTail, `lvchange ended with status ${marked.exitStatus}`)
  return { isClosed: true, why: `the volume ${name} comes up again with this host: ${words}` }
}

/** Brings it back as it was. Again is no error; rejects with host/file where it does not come up. */
export async function reopenVolume(
  path: string,
  { name, skipped }: ProtectedVolume,
  tag: string,
  { run, volumeAt: lookUp }: VolumeParts,
): Promise<void> {
  if (!NAME.test(name))
    throw fileRefusal(path, `'${printable(name)}' is no volume; ${path} is still protected`, 'Look at: lvs')
  const unskip = skipped === 'no' ? ['--setactivationskip', 'n'] : []
  const commands: readonly Argv[] = [
    ['lvchange', '--activate', 'y', '--ignoreactivationskip', name],
    ['lvchange', ...unskip, '--deltag', `${VOLUME_TAG_PREFIX}${tag}`, name],
  ]
  for (const argv of commands) {
    const { exitStatus, stderrTail } = await run(argv)
    if (exitStatus === 0) continue
    const words = reason(stderrTail, `lvchange ended with status ${exitStatus}`)
    throw fileRefusal(path, `the volume ${name} could not be given back: ${words}`, `Type ${argv.join(' ')}`)
  }
  if ((await lookUp(path))?.name === name) return
  throw fileRefusal(
    path,
    `the volume ${name} is active again, and ${path} does not lead to it`,
    'See where it is: lvs',
  )
}

/** The last line is the one that says it; those before are warnings. */
function reason(stderrTail: string, otherwise: string): string {
  const last = stderrTail.trim().split('\n').at(-1) ?? ''
  return last === '' ? otherwise : printable(last.trim())
}
