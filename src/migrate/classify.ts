// What each disk of a guest is and what becomes of it: a disk and both hosts in, a planned disk and its problems out.
// Refuses passthrough, backing chains, formats that are no plain files, and to guess whether a disk is shared.

import { posix } from 'node:path'

import type { FileFacts } from '../host/host.js'
import type { GuestDisk } from '../hypervisor/driver.js'
import { problem, readOnly, refused, seenByBoth, vouchedFor, type Classified, type Ground } from './fates.js'
import type { Choices } from './map.js'
import { placeDisk } from './place.js'
import type { PlanProblem, PlannedDisk } from './plan.js'
import { isSameDisk, type Sameness } from './shared.js'

/** Looks at one disk. Rejects only where a host cannot be asked. */
export async function classifyDisk(disk: GuestDisk, ground: Ground): Promise<Classified> {
  const { target, source, device } = disk
  const { choices } = ground
  switch (source.kind) {
    case 'empty':
      return withoutPath(disk, `empty ${device}`, 'left-empty', named(target, choices, 'is empty'))
    case 'network':
      return withoutPath(
        disk,
        source.protocol,
        'shared',
        choices.copied?.has(target)
          ? [
              problem(
                'not-copied',
                target,
                `${target} is a ${source.protocol} disk, which stays where it is`,
                'Leave it out of --disks.',
              ),
            ]
          : [],
      )
    case 'passthrough':
      return withoutPath(disk, 'passthrough', 'refused', [
        problem(
          'passthrough',
          target,
          `${target} is a device of this host (${source.what}), which cannot move`,
          'Detach it from the guest first, and attach one of the other host there.',
        ),
      ])
    case 'file':
    case 'block':
    case 'volume':
      return await classifyPath(disk, source.path, ground)
    default:
      return source satisfies never
  }
}

async function classifyPath(disk: GuestDisk, path: string, ground: Ground): Promise<Classified> {
  const { target } = disk
  const here = await ground.source.look(path)
  if (here === null || (here.kind !== 'file' && here.kind !== 'block')) {
    const what = here === null ? 'is not there' : 'is no disk'
    return {
      ...withoutPath(disk, 'missing', 'refused', [
        problem(
          'source-missing',
          target,
          `${path} of ${target} ${what}`,
          'Repair the definition of the guest first.',
        ),
      ]),
    }
  }
  const to = destinationPath(disk, path, ground)
  const there = await ground.destination.look(to)
  const base = plannedBase(disk, path, to, here)
  const same = await sameness(path, here, to, there, ground)
  if (ground.choices.shared.has(target)) return await vouchedFor(base, disk, same, there, ground)
  if (same.kind === 'same') return seenByBoth(base, disk, same, ground)
  if (disk.isReadOnly || disk.device === 'cdrom') return await readOnly(base, there, ground)
  if (same.kind === 'unknown' && same.suspicion === 'same')
    return refused(base, [
      problem(
        'shared-unknown',
        target,
        `whether ${to} on ${ground.destination.name} is the same disk as ${path} here cannot be found out: ${same.why}`,
        `Say so with --shared ${target}, or give another path: --map ${target}=/path.`,
      ),
    ])
  return await copied(base, disk, there, ground)
}

/** Copied, into what is there or is made, unless something about it is in the way. */
async function copied(
  base: PlannedDisk,
  disk: GuestDisk,
  there: FileFacts | null,
  ground: Ground,
): Promise<Classified> {
  const { target, sizeBytes } = base
  const path = base.destinationPath ?? ''
  const problems = [...notCopyable(base, disk, ground)]
  const isImage = base.format !== 'raw' && base.kind === 'qcow2'
  const placed = await placeDisk(
    {
      target,
      path,
      sizeBytes,
      content: isImage ? 'image' : 'raw',
      fits: ground.mode === 'live' ? 'equal' : 'at least',
      create: ground.create,
      fence: ground.fence,
    },
    there,
    ground.destination,
  )
  const { creation, kind, warnings, overwritten } = placed
  problems.push(...placed.problems)
  const isCopied = problems.length === 0
  return {
    disk: { ...base, fate: isCopied ? 'copied' : 'refused', destinationKind: kind, creation },
    problems,
    warnings: disk.isShareable
      ? [...warnings, `${target} may be used by several guests; this copy goes with this one`]
      : warnings,
    overwritten,
  }
}

/** What of the disk itself keeps it from being copied. */
function notCopyable(base: PlannedDisk, disk: GuestDisk, { mode, choices }: Ground): PlanProblem[] {
  const { target, format, sourcePath } = base
  const problems: PlanProblem[] = []
  const add = (code: string, text: string, hint: string): void => {
    problems.push(problem(code, target, text, hint))
  }
  if (choices.copied !== null && !choices.copied.has(target))
    add(
      'not-named',
      `${target} is not shared, and --disks does not name it, so the guest would not have it there`,
      `Name it: --disks ${[...choices.copied, target].join(',')}, or --shared ${target} where both hosts see it.`,
    )
  if (disk.device === 'lun')
    add(
      'lun',
      `${target} is a SCSI LUN that the guest commands itself, and is not seen there as the same one`,
      `Give the other host the same LUN, and name it with --shared ${target}.`,
    )
  if (format !== 'raw' && format !== 'qcow2')
    add(
      'format',
      `${target} is ${format}, which may consist of several files`,
      `Make it qcow2 or raw first: qemu-img convert -O qcow2 ${sourcePath ?? ''} NEW`,
    )
  const [backing] = disk.backing
  if (backing !== undefined)
    add(
      'backing',
      `${target} rests on another image, ${backing}, without which it is worth nothing`,
      `With the guest off make it one file: qemu-img rebase -b '' ${sourcePath ?? ''} (or qemu-img commit); while it runs: virsh blockpull.`,
    )
  if (mode === 'live' && format !== 'raw')
    add('live-format', `${target} is ${format}, and live copies raw disks only`, 'Move it with --mode warm.')
  return problems
}

/** The same path, unless it is mapped or becomes a volume. */
function destinationPath(disk: GuestDisk, path: string, { choices, create }: Ground): string {
  const mapped = choices.paths.get(disk.target)
  if (mapped !== undefined) return mapped
  const isCopied = !choices.shared.has(disk.target) && !disk.isReadOnly && disk.device === 'disk'
  if (create.kind !== 'lvm' || !isCopied || disk.format !== 'raw' || path.startsWith(`/dev/${create.group}/`))
    return path
  return `/dev/${create.group}/${posix.basename(path).replace(/\.(img|raw|bin)$/, '')}`
}

function plannedBase(disk: GuestDisk, path: string, to: string, here: FileFacts): PlannedDisk {
  const isImage = disk.format !== 'raw' && disk.device !== 'cdrom'
  return {
    target: disk.target,
    kind: isImage ? disk.format : here.kind,
    fate: 'refused',
    sourcePath: path,
    destinationPath: to,
    destinationKind: here.kind === 'block' ? 'block' : 'file',
    format: disk.format,
    sizeBytes: here.sizeBytes,
    allocatedBytes: here.allocatedBytes,
    creation: null,
  }
}

async function sameness(
  path: string,
  here: FileFacts,
  to: string,
  there: FileFacts | null,
  { source, destination, bootIds }: Ground,
): Promise<Sameness> {
  if (there === null) return { kind: 'other', why: 'nothing is there' }
  return await isSameDisk(
    { host: source, bootId: bootIds.source, path, facts: here },
    { host: destination, bootId: bootIds.destination, path: to, facts: there },
  )
}

function withoutPath(
  { target, format }: GuestDisk,
  kind: string,
  fate: PlannedDisk['fate'],
  problems: readonly PlanProblem[],
): Classified {
  const disk: PlannedDisk = {
    target,
    kind,
    fate: problems.length === 0 ? fate : 'refused',
    sourcePath: null,
    destinationPath: null,
    destinationKind: null,
    format,
    sizeBytes: 0,
    allocatedBytes: 0,
    creation: null,
  }
  return { disk, problems, warnings: [], overwritten: null }
}

/** An option that names a disk which it cannot be about. */
function named(target: string, { copied, shared: vouched }: Choices, why: string): PlanProblem[] {
  const option = copied?.has(target) === true ? '--disks' : vouched.has(target) ? '--shared' : null
  return option === null
    ? []
    : [
        problem(
          'not-copied',
          target,
          `${target} ${why}, and ${option} names it`,
          `Leave it out of ${option}.`,
        ),
      ]
}
