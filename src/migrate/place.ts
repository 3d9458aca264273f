// Where a copied disk goes: a path at the destination in, how it comes to be there out. Refuses what is too small, in use,
// protected or of another kind, and to make anything that nobody asked for.

import { posix } from 'node:path'

import type { FileFacts, Host } from '../host/host.js'
import { extentsBytes, fencedVolume, groupFacts, lvcreateArgv, volumeOf } from './lvm.js'
import type { OldFence } from './old-fence.js'
import type { Creation, PlanProblem } from './plan.js'

/** What --create says. */
export type Create =
  | Readonly<{ kind: 'none' }>
  | Readonly<{ kind: 'file' }>
  | Readonly<{ kind: 'lvm'; group: string }>

export type Wanted = Readonly<{
  target: string
  path: string
  sizeBytes: number
  /** `raw`: any file or device does; `image`: a file with an inside of its own, which has no room behind its end. */
  content: 'raw' | 'image'
  /** Live: libvirt copies only to exactly the same size. */
  fits: 'equal' | 'at least'
  create: Create
  /** A migration from there to here left it protected, and this one goes back; null where none did. */
  fence: OldFence | null
}>

export type Placed = Readonly<{
  creation: Creation | null
  kind: 'file' | 'block' | null
  problems: readonly PlanProblem[]
  warnings: readonly string[]
  /** What is on it and would be overwritten; null where nothing is found. */
  overwritten: string | null
}>

const LOOK_TIMEOUT_MS = 20_000

/** Looks only. `facts` is what is at the path, as it was found. Rejects only when the host cannot be asked. */
export async function placeDisk(wanted: Wanted, facts: FileFacts | null, host: Host): Promise<Placed> {
  if (facts !== null) return await placeOn(wanted, facts, host)
  if (wanted.fence !== null) {
    // where a file cannot be made immutable the fence has renamed it
    const renamed = await host.look(`${wanted.path}.moved-${wanted.fence.id}`)
    if (renamed !== null) return await placeOn(wanted, { ...renamed, isProtected: true }, host)
    // a volume it has deactivated
    const closed = await fencedVolume(wanted.path, wanted.fence.id, host)
    if (closed !== null) {
      const { sizeBytes } = closed
      const found = { kind: 'block', sizeBytes, allocatedBytes: sizeBytes, isProtected: true } as const
      return await placeOn(wanted, found, host)
    }
  }
  const volume = volumeOf(wanted.path)
  switch (wanted.create.kind) {
    case 'none':
      return refused(wanted, absent(wanted, host, volume))
    case 'file':
      return await placeFile(wanted, host)
    case 'lvm':
      return await placeVolume(wanted, wanted.create.group, host)
    default:
      return wanted.create satisfies never
  }
}

/** What is looked at of what is there. */
type Found = Pick<FileFacts, 'kind' | 'sizeBytes' | 'allocatedBytes' | 'isProtected'>

async function placeOn(wanted: Wanted, facts: Found, host: Host): Promise<Placed> {
  const { target, path, sizeBytes, content, fits, fence } = wanted
  const { kind } = facts
  const where = `${path} on ${host.name}`
  if (kind !== 'file' && kind !== 'block')
    return refused(wanted, {
      code: 'destination-kind',
      text: `${where} is no disk but ${kind === 'directory' ? 'a directory' : 'something else'}`,
      hint: `Give another path: --map ${target}=/path.`,
    })
  const problems: PlanProblem[] = []
  const warnings: string[] = []
  const add = (code: string, text: string, hint: string): void => {
    problems.push({ code, operand: path, text, hint })
  }
  if (content === 'image' && kind === 'block')
    add(
      'destination-kind',
      `${where} is a block device, and the image moves as a file, which grows`,
      `Give the path of a file: --map ${target}=/path.`,
    )
  else if (content === 'image') {
    // it may grow while it is copied, and so does its copy
    if (facts.sizeBytes > sizeBytes)
      add(
        'destination-size',
        `${where} has ${facts.sizeBytes} bytes, more than the image of ${sizeBytes}`,
        `Remove it there if nobody needs it: ssh ${host.name} rm ${path}`,
      )
  } else if (facts.sizeBytes < sizeBytes || (fits === 'equal' && facts.sizeBytes !== sizeBytes))
    add(
      'destination-size',
      `${where} has ${facts.sizeBytes} bytes, and ${target} has ${sizeBytes}` +
        (fits === 'equal' ? '; live wants exactly the same' : ''),
      `Make it ${fits === 'equal' ? '' : 'at least '}${sizeBytes} bytes long there, or give another path: --map ${target}=/path.`,
    )
  else if (facts.sizeBytes > sizeBytes)
    warnings.push(`${where} is larger than ${target}: the guest will see ${facts.sizeBytes} bytes`)
  if (facts.isProtected && fence === null)
    add(
      'protected',
      `${where} is protected against writing`,
      `Where nobody means it any more: ssh ${host.name} ${kind === 'block' ? 'blockdev --setrw' : 'chattr -i'} ${path}`,
    )
  const use = kind === 'block' ? await deviceUse(path, host) : await fileUse(path, host)
  if (use !== null)
    add(
      'in-use',
      `${where} is in use there: ${use}`,
      `Free it there, or give another path: --map ${target}=/path.`,
    )
  // its own old content, as long as nobody can have used the path for something else
  const isOwn = fence !== null && (fence.by === 'definition' || facts.isProtected)
  const isEmptyFile = kind === 'file' && facts.allocatedBytes === 0
  const overwritten = isOwn || isEmptyFile || use !== null ? null : await contentOf(path, host)
  return { creation: { kind: 'present' }, kind, problems, warnings, overwritten }
}

async function placeFile(wanted: Wanted, host: Host): Promise<Placed> {
  const { path, target } = wanted
  if (path.startsWith('/dev/') && !path.startsWith('/dev/shm/'))
    return refused(wanted, {
      code: 'no-file-there',
      text: `${path} on ${host.name} is not there, and a file is not made in /dev`,
      hint: `Make the device there, or give the path of a file: --map ${target}=/path.`,
    })
  const { directory, isWritable } = await host.space(path)
  if (!isWritable)
    return refused(wanted, {
      code: 'not-writable',
      text: `no file can be made in ${directory} on ${host.name}`,
      hint: `Give another path: --map ${target}=/path, or make that one writable.`,
    })
  const creation: Creation = { kind: 'file', directories: await missingDirectories(path, host) }
  return { creation, kind: 'file', problems: [], warnings: [], overwritten: null }
}

async function placeVolume(wanted: Wanted, group: string, host: Host): Promise<Placed> {
  const { path, target, sizeBytes, content, fits } = wanted
  const volume = volumeOf(path)
  if (content === 'image')
    return refused(wanted, {
      code: 'lvm-image',
      text: `${target} is an image file, which grows; a volume does not`,
      hint: `Write --create file, or make it raw first: qemu-img convert -O raw.`,
    })
  if (volume === null || volume.group !== group)
    return refused(wanted, {
      code: 'lvm-path',
      text: `${path} is no volume of ${group}`,
      hint: `Give one: --map ${target}=/dev/${group}/NAME.`,
    })
  const found = await groupFacts(group, host)
  if (found.kind === 'refused') return refused(wanted, found.problem)
  const roundedBytes = extentsBytes(sizeBytes, found)
  if (fits === 'equal' && roundedBytes !== sizeBytes)
    return refused(wanted, {
      code: 'destination-size',
      text: `a volume of ${group} would have ${roundedBytes} bytes, and ${target} has ${sizeBytes}; live wants exactly the same`,
      hint: 'Write --create file with a path of a file, or move it with --mode warm.',
    })
  const warnings =
    roundedBytes === sizeBytes
      ? []
      : [`${path} on ${host.name} will be larger than ${target}: the guest will see ${roundedBytes} bytes`]
  const creation: Creation = { kind: 'lvm', group, volume: volume.volume }
  return { creation, kind: 'block', problems: [], warnings, overwritten: null }
}

type Refusal = Omit<PlanProblem, 'operand'>

function refused({ path }: Wanted, problem: Refusal): Placed {
  return {
    creation: null,
    kind: null,
    problems: [{ operand: path, ...problem }],
    warnings: [],
    overwritten: null,
  }
}

function absent(
  { target, path, sizeBytes }: Wanted,
  { name }: Host,
  volume: Readonly<{ group: string; volume: string }> | null,
): Refusal {
  const text = `${path} is not there on ${name}`
  if (volume === null)
    return {
      code: 'destination-missing',
      text,
      hint: path.startsWith('/dev/')
        ? `Make it there, or give another path: --map ${target}=/path.`
        : `Write --create file to have it made, sparse, or give another path: --map ${target}=/path.`,
    }
  const { group } = volume
  const command = lvcreateArgv({ group, volume: volume.volume }, sizeBytes).join(' ')
  return {
    code: 'destination-missing',
    text,
    hint: `Write --create lvm:${group} to have it made, or type: ssh ${name} ${command}`,
  }
}

/** From the first one that is missing down to the one of the file. */
async function missingDirectories(path: string, host: Host): Promise<string[]> {
  const missing: string[] = []
  for (let at = posix.dirname(path); at !== '/' && (await host.look(at)) === null; at = posix.dirname(at))
    missing.unshift(at)
  return missing
}

/** Mounts, swap and whatever lies on a device; null where nothing does, or nobody can say. */
async function deviceUse(path: string, host: Host): Promise<string | null> {
  const argv = ['lsblk', '--json', '--output', 'NAME,TYPE,MOUNTPOINT', '--', path] as const
  const { exitStatus, stdout } = await host.run({ argv, timeoutMs: LOOK_TIMEOUT_MS })
  if (exitStatus !== 0) return null
  const found: string[] = []
  const walk = (nodes: unknown, depth: number): void => {
    for (const node of Array.isArray(nodes) ? nodes : []) {
      const { name, type, mountpoint, children } = node as Record<string, unknown>
      if (typeof mountpoint === 'string')
        found.push(mountpoint === '[SWAP]' ? 'swap' : `mounted on ${mountpoint}`)
      // a partition alone uses nothing
      else if (depth > 0 && type !== 'part') found.push(`${String(type)} ${String(name)} lies on it`)
      walk(children, depth + 1)
    }
  }
  walk(parsed(stdout)?.['blockdevices'], 0)
  return found.length === 0 ? null : [...new Set(found)].join(', ')
}

async function fileUse(path: string, host: Host): Promise<string | null> {
  const argv = ['losetup', '--noheadings', '--output', 'NAME', '--associated', path] as const
  const { exitStatus, stdout } = await host.run({ argv, timeoutMs: LOOK_TIMEOUT_MS })
  const devices = exitStatus === 0 ? stdout.split('\n').map((line) => line.trim()) : []
  const [device] = devices.filter((name) => name !== '')
  return device === undefined ? null : `the loop device ${device} stands on it`
}

/** What libblkid sees on it. */
async function contentOf(path: string, host: Host): Promise<string | null> {
  const argv = ['blkid', '--probe', '--output', 'export', '--', path] as const
  const { exitStatus, stdout } = await host.run({ argv, timeoutMs: LOOK_TIMEOUT_MS })
  // 8: more than one thing is on it
  if (exitStatus === 8) return 'content of several kinds'
  if (exitStatus !== 0) return null
  const fields = new Map(
    stdout.split('\n').map((line): [string, string] => {
      const at = line.indexOf('=')
      return [line.slice(0, Math.max(0, at)), line.slice(at + 1)]
    }),
  )
  const type = fields.get('TYPE')
  const label = fields.get('LABEL')
  if (type !== undefined) return label === undefined ? type : `${type} '${label}'`
  const table = fields.get('PTTYPE')
  return table === undefined ? 'some content' : `a partition table (${table})`
}

function parsed(text: string): Record<string, unknown> | null {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return null
    throw thrown
  }
}
