// What becomes of a disk that both hosts see, or that is only read: a planned disk and what was found out about it in, its
// fate out. Refuses to take a disk for shared that is shown to be another one.

import type { FileFacts, Host } from '../host/host.js'
import type { GuestDisk, MigrateMode } from '../hypervisor/driver.js'
import type { Choices } from './map.js'
import type { OldFence } from './old-fence.js'
import { placeDisk, type Create } from './place.js'
import type { PlanProblem, PlannedDisk } from './plan.js'
import { beginsDifferently, type Sameness } from './shared.js'

export type Ground = Readonly<{
  source: Host
  destination: Host
  bootIds: Readonly<{ source: string; destination: string }>
  mode: MigrateMode
  choices: Choices
  create: Create
  /** The fence that this guest left at the destination when it came from there; null where it did not. */
  fence: OldFence | null
}>

export type Classified = Readonly<{
  disk: PlannedDisk
  problems: readonly PlanProblem[]
  warnings: readonly string[]
  /** Content at the destination that would be overwritten; null where there is none. */
  overwritten: string | null
}>

/** Live: what another host may have cached of a shared disk must not be older than what is on it. */
const COHERENT_CACHES: readonly string[] = ['none', 'directsync']

/** The user says that both hosts see it: what can be found out has to agree. */
export async function vouchedFor(
  base: PlannedDisk,
  disk: GuestDisk,
  same: Sameness,
  there: FileFacts | null,
  ground: Ground,
): Promise<Classified> {
  const { target, destinationPath: to, sourcePath: path } = base
  const { source, destination, bootIds } = ground
  const denied = (text: string): Classified =>
    refused(base, [
      problem(
        'not-shared',
        target,
        text,
        `Leave ${target} out of --shared to have it copied, or give its path there: --map ${target}=/path.`,
      ),
    ])
  if (there === null) return denied(`${to ?? ''} is not there on ${destination.name}`)
  if (same.kind === 'other')
    return denied(`${to ?? ''} on ${destination.name} is another disk than ${path ?? ''} here: ${same.why}`)
  if (same.kind === 'same') return seenByBoth(base, disk, same, ground)
  const here = await source.look(path ?? '')
  const differs =
    here === null
      ? true
      : await beginsDifferently(
          { host: source, bootId: bootIds.source, path: path ?? '', facts: here },
          { host: destination, bootId: bootIds.destination, path: to ?? '', facts: there },
        )
  if (differs === true)
    return denied(`${to ?? ''} on ${destination.name} begins with other content than ${path ?? ''} here`)
  const { warnings, ...rest } = seenByBoth(base, disk, same, ground)
  return {
    ...rest,
    warnings: [
      ...warnings,
      `${target} is taken as shared because --shared says so: ${same.why}${differs === null ? '' : '; sizes and first bytes are equal'}`,
    ],
  }
}

/** Stays where it is; the definition names its path there. */
export function seenByBoth(
  base: PlannedDisk,
  disk: GuestDisk,
  same: Sameness,
  { mode, choices }: Ground,
): Classified {
  const { target } = base
  const problems: PlanProblem[] = []
  if (choices.copied?.has(target))
    problems.push(
      problem(
        'same-disk',
        target,
        `${target} cannot be copied to itself: ${same.why}`,
        `Leave it out of --disks, or give another path: --map ${target}=/path.`,
      ),
    )
  if (
    mode === 'live' &&
    !disk.isReadOnly &&
    disk.device !== 'cdrom' &&
    !COHERENT_CACHES.includes(disk.cache ?? '')
  )
    problems.push(
      problem(
        'cache',
        target,
        `${target} is shared and its cache mode is ${disk.cache ?? 'the default'}, so a guest that moves live might see old content`,
        `Set cache='none' in its definition, or move it with --mode warm.`,
      ),
    )
  const fileSystem = same.kind === 'same' ? same.fileSystem : null
  const fate = problems.length === 0 ? 'shared' : 'refused'
  const kind = base.destinationKind === 'block' ? 'shared block' : sharedKind(fileSystem)
  return { disk: { ...base, kind, fate }, problems, warnings: [], overwritten: null }
}

/** An ISO, or a disk that is only read: the other host has to have it, and gets it only where files may be made. */
export async function readOnly(
  base: PlannedDisk,
  there: FileFacts | null,
  ground: Ground,
): Promise<Classified> {
  const { target, destinationPath: to, sizeBytes } = base
  const { destination, mode, create } = ground
  if (there !== null && there.sizeBytes === sizeBytes && (there.kind === 'file' || there.kind === 'block'))
    return {
      disk: { ...base, destinationKind: there.kind, fate: 'read-only' },
      problems: [],
      warnings: [`${to ?? ''} on ${destination.name} is taken for a copy of ${target}: it has the same size`],
      overwritten: null,
    }
  const eject = `or take it out of the guest: virsh change-media GUEST ${target} --eject`
  if (there !== null)
    return refused(base, [
      problem(
        'read-only-differs',
        target,
        `${to ?? ''} on ${destination.name} is not the same as ${base.sourcePath ?? ''} here: its size differs`,
        `Give its path there: --map ${target}=/path, ${eject}`,
      ),
    ])
  if (create.kind !== 'file' || mode === 'live' || base.destinationKind === 'block')
    return refused(base, [
      problem(
        'read-only-missing',
        target,
        `${to ?? ''}, which ${target} reads, is not there on ${destination.name}`,
        `Copy it: blocksync --create ${base.sourcePath ?? ''} ${destination.name}:${to ?? ''}, ${eject}`,
      ),
    ])
  const placed = await placeDisk(
    { target, path: to ?? '', sizeBytes, content: 'raw', fits: 'equal', create, fence: null },
    null,
    destination,
  )
  return {
    disk: { ...base, fate: placed.creation === null ? 'refused' : 'copied', creation: placed.creation },
    problems: placed.problems,
    warnings: placed.warnings,
    overwritten: null,
  }
}

function sharedKind(fileSystem: string | null): string {
  const name = fileSystem ?? ''
  if (name.startsWith('nfs')) return 'nfs'
  const known = ['ceph', 'gluster', 'gfs2', 'ocfs2', 'cifs'].find((word) => name.includes(word))
  return known ?? 'shared file'
}

export function refused(disk: PlannedDisk, problems: readonly PlanProblem[]): Classified {
  return { disk: { ...disk, fate: 'refused' }, problems, warnings: [], overwritten: null }
}

export function problem(code: string, operand: string, text: string, hint: string): PlanProblem {
  return { code, operand, text, hint }
}
