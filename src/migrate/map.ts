// What --map, --disks, --shared and --network say, laid over the disks of a guest. Refuses what is no OLD=NEW; what names
// nothing of this guest, or one thing twice, becomes a problem of the plan.

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { Guest, GuestDisk } from '../hypervisor/driver.js'
import type { PlanProblem } from './plan.js'

export type Mapping = Readonly<{ from: string; to: string }>

/** Where the disks and files of a guest go, as far as somebody said so. */
export type Choices = Readonly<{
  /** Target name -> path at the destination. */
  paths: ReadonlyMap<string, string>
  /** Path of nvram or TPM state -> path at the destination. */
  files: ReadonlyMap<string, string>
  /** Targets that --shared names. */
  shared: ReadonlySet<string>
  /** Targets that --disks names; null where all are meant. */
  copied: ReadonlySet<string> | null
  networks: ReadonlyMap<string, string>
  problems: readonly PlanProblem[]
}>

export type Chosen = Readonly<{
  maps: readonly Mapping[]
  networks: readonly Mapping[]
  disks: readonly string[] | null
  shared: readonly string[]
}>

/** OLD=NEW of an option; the first = divides. `path`: NEW is an absolute path. Rejects with `usage`. */
export function parseMapping(option: string, text: string, kind: 'path' | 'name'): Mapping {
  const at = text.indexOf('=')
  const from = text.slice(0, Math.max(0, at))
  const to = text.slice(at + 1)
  const example = kind === 'path' ? 'vda=/dev/vg1/web' : 'br0=br1'
  if (at < 0 || from === '' || to === '')
    throw new SyncError('usage', `'${text}' is not OLD=NEW; nothing was opened`, {
      operand: option,
      hint: `Write for example ${option} ${example}.`,
    })
  if (kind === 'path' && !to.startsWith('/'))
    throw new SyncError('usage', `${to} is not an absolute path; nothing was opened`, {
      operand: `${option} ${text}`,
      hint: `Write for example ${option} ${example}.`,
    })
  return { from, to }
}

/** The path under which a disk's content is found on the source; null where it has none. */
export function sourcePathOf({ source }: GuestDisk): string | null {
  switch (source.kind) {
    case 'file':
    case 'block':
    case 'volume':
      return source.path
    case 'network':
    case 'empty':
    case 'passthrough':
      return null
    default:
      return source satisfies never
  }
}

/** The options over this guest. Never throws: what does not fit is among the problems. */
export function choicesFor(guest: Guest, { maps, networks, disks, shared }: Chosen): Choices {
  const problems: PlanProblem[] = []
  const known = (option: string, targets: readonly string[]): Set<string> => {
    for (const target of targets) {
      if (!guest.disks.some((disk) => disk.target === target))
        problems.push(noSuchDisk(guest, option, target))
    }
    return new Set(targets)
  }
  const { paths, files } = mapped(guest, maps, problems)
  const choices = {
    paths,
    files,
    shared: known('--shared', shared),
    copied: disks === null ? null : known('--disks', disks),
    networks: mappedNetworks(guest, networks, problems),
  }
  return { ...choices, problems }
}

function mapped(
  guest: Guest,
  maps: readonly Mapping[],
  problems: PlanProblem[],
): Readonly<{ paths: Map<string, string>; files: Map<string, string> }> {
  const paths = new Map<string, string>()
  const files = new Map<string, string>()
  for (const { from, to } of maps) {
    const operand = `--map ${from}=${to}`
    const disk = guest.disks.find((one) => one.target === from || sourcePathOf(one) === from)
    const file = guest.files.find(({ path }) => path === from)
    if (disk === undefined && file === undefined) {
      problems.push(noSuchDisk(guest, operand, from))
      continue
    }
    const source = disk === undefined ? (file?.path ?? '') : sourcePathOf(disk)
    if (source === null) {
      problems.push({
        code: 'map-pathless',
        operand,
        text: `${from} has no path on this host that could be another one there`,
        hint: `Leave ${operand} away.`,
      })
      continue
    }
    const [known, name] = disk === undefined ? [files, from] : [paths, disk.target]
    if (known.has(name))
      problems.push({
        code: 'map-twice',
        operand,
        text: `${name} is mapped twice`,
        hint: 'Give one --map for each disk.',
      })
    // as with sync: a slash at the end is a directory, and the name in it stays
    known.set(name, posix.normalize(to.endsWith('/') ? `${to}${posix.basename(source)}` : to))
  }
  return { paths, files }
}

function mappedNetworks(
  { nics, name }: Guest,
  networks: readonly Mapping[],
  problems: PlanProblem[],
): Map<string, string> {
  const there = [...new Set(nics.flatMap((nic) => nic.name ?? []))]
  const found = new Map<string, string>()
  for (const { from, to } of networks) {
    const operand = `--network ${from}=${to}`
    if (!there.includes(from))
      problems.push({
        code: 'no-such-network',
        operand,
        text: `${name} has no interface on ${from}`,
        hint: there.length === 0 ? `Leave ${operand} away.` : `It is on ${there.join(', ')}.`,
      })
    else if (found.has(from))
      problems.push({
        code: 'map-twice',
        operand,
        text: `${from} is mapped twice`,
        hint: 'Give one --network for each network.',
      })
    found.set(from, to)
  }
  return found
}

function noSuchDisk({ name, disks }: Guest, operand: string, what: string): PlanProblem {
  const listed = disks.map((disk) => {
    const path = sourcePathOf(disk)
    return path === null ? disk.target : `${disk.target} (${path})`
  })
  return {
    code: 'no-such-disk',
    operand,
    text: `${name} has no disk ${what}`,
    hint: listed.length === 0 ? 'It has no disks.' : `It has ${listed.join(', ')}.`,
  }
}
