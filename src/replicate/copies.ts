// Copies of a replica's disk as it is now, where the storage makes them at no cost: a reflink beside a file, a thin snapshot of a thin
// volume. What the storage cannot do is no error: undo journals lead to that generation then.

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import type { Host, ProgramResult } from '../host/host.js'
import { printable } from '../printable.js'
import type { GenerationCopy } from './record.js'

/** File systems whose files can share their blocks; others are not asked each time. */
const REFLINK_FILE_SYSTEMS = new Set(['btrfs', 'xfs', 'bcachefs', 'ocfs2'])
/** cp says so where a file system could, but does not: made without reflink=1, or a file without copy-on-write. */
const CANNOT = /not supported|Invalid argument|cross-device/i
/** A clone of a file with millions of extents takes seconds; LVM waits for its lock. */
const COPY_TIMEOUT_MS = 300_000
const COPY_MODE = '0400'
/** device-mapper's limit of the mapped name leaves so much for the volume in a group of a usual name (lvm(8)). */
const MAX_VOLUME_UNITS = 110
const VOLUME_NAME = /^[A-Za-z0-9+_.-]+$/

/** Where a copy of a file is: beside it, hidden. */
export function copyPath(path: string, generation: number): string {
  return posix.join(posix.dirname(path), `.${posix.basename(path)}.generation-${generation}`)
}

/**
 * Makes a copy of what is at `path`, on stable storage when it resolves, read-only; null where the storage cannot. Nobody may
 * write to the disk meanwhile. Rejects with host/program where it could and something is wrong (no room).
 */
export async function makeCopy(host: Host, path: string, generation: number): Promise<GenerationCopy | null> {
  const facts = await host.look(path)
  if (facts === null) return null
  if (facts.kind === 'file') return await reflink(host, facts.realPath, generation)
  return facts.kind === 'block' ? await thinSnapshot(host, path, generation) : null
}

/** Also of one that is gone already. */
export async function removeCopy(host: Host, copy: GenerationCopy): Promise<void> {
  if (copy.kind === 'reflink') await host.remove(copy.path)
  else if ((await listVolumes(host, copy.volume)).length > 0)
    await mustRun(host, ['lvremove', '--yes', copy.volume], copy.volume)
}

/**
 * Removes copies of the disk at `path` that are not among `kept`: those that are not wanted any more, and those that a killed
 * attempt left. Resolves with how many. Known by their names alone, which nobody else gives.
 */
export async function sweepCopies(
  host: Host,
  path: string,
  kept: readonly GenerationCopy[],
): Promise<number> {
  const facts = await host.look(path)
  if (facts?.kind === 'file') return await sweepFiles(host, facts.realPath, kept)
  return facts?.kind === 'block' ? await sweepVolumes(host, path, kept) : 0
}

async function sweepFiles(host: Host, path: string, kept: readonly GenerationCopy[]): Promise<number> {
  const directory = posix.dirname(path)
  const { exitStatus, stdout } = await host.run({
    argv: ['ls', '-1A', directory],
    timeoutMs: COPY_TIMEOUT_MS,
  })
  if (exitStatus !== 0) return 0
  const start = `.${posix.basename(path)}.generation-`
  const stays = new Set(kept.map((copy) => (copy.kind === 'reflink' ? copy.path : '')))
  let removed = 0
  for (const name of stdout.split('\n')) {
    const own = posix.join(directory, name)
    if (!name.startsWith(start) || !/^\d+(\.new)?$/.test(name.slice(start.length)) || stays.has(own)) continue
    await host.remove(own)
    removed += 1
  }
  return removed
}

async function sweepVolumes(host: Host, path: string, kept: readonly GenerationCopy[]): Promise<number> {
  const [origin] = await listVolumes(host, path)
  if (origin?.segmentType !== 'thin') return 0
  const start = `${origin.volume}-blocksync-g`
  const stays = new Set(kept.map((copy) => (copy.kind === 'lvm-thin' ? copy.volume : '')))
  let removed = 0
  for (const { group, volume } of await listVolumes(host, origin.group)) {
    const own = `${group}/${volume}`
    if (!volume.startsWith(start) || !/^\d+$/.test(volume.slice(start.length)) || stays.has(own)) continue
    await mustRun(host, ['lvremove', '--yes', own], path)
    removed += 1
  }
  return removed
}

async function reflink(host: Host, path: string, generation: number): Promise<GenerationCopy | null> {
  const { fileSystem } = await host.space(path)
  if (!REFLINK_FILE_SYSTEMS.has(fileSystem)) return null
  const to = copyPath(path, generation)
  // what a killed attempt, or a replica of that name before this one, left there
  const temporary = `${to}.new`
  await host.remove(temporary)
  const made = await host.run({
    argv: ['cp', '--reflink=always', '--', path, temporary],
    timeoutMs: COPY_TIMEOUT_MS,
  })
  if (made.exitStatus !== 0) {
    await host.remove(temporary)
    if (CANNOT.test(made.stderrTail)) return null
    throw failed(host, path, made)
  }
  await mustRun(host, ['chmod', COPY_MODE, temporary], path)
  await mustRun(host, ['sync', temporary], path)
  await host.remove(to)
  await host.rename(temporary, to)
  return { kind: 'reflink', path: to }
}

async function thinSnapshot(host: Host, path: string, generation: number): Promise<GenerationCopy | null> {
  const [origin] = await listVolumes(host, path)
  if (origin?.segmentType !== 'thin') return null
  const name = `${origin.volume}-blocksync-g${generation}`
  if (name.length > MAX_VOLUME_UNITS) return null
  const volume = `${origin.group}/${name}`
  // what a killed attempt, or a replica of that name before this one, left there
  if ((await listVolumes(host, volume)).length > 0) await mustRun(host, ['lvremove', '--yes', volume], path)
  await mustRun(
    host,
    [
      'lvcreate',
      '--yes',
      '--snapshot',
      '--permission',
      'r',
      '--setactivationskip',
      'y',
      '--activate',
      'n',
      '--name',
      name,
      `${origin.group}/${origin.volume}`,
    ],
    path,
  )
  return { kind: 'lvm-thin', volume }
}

type Listed = Readonly<{ group: string; volume: string; segmentType: string }>

/** Of a volume or of a group; none where it is not of LVM, or LVM is not installed. */
async function listVolumes(host: Host, which: string): Promise<readonly Listed[]> {
  const { exitStatus, stdout } = await host.run({
    argv: ['lvs', '--noheadings', '--separator', ' ', '--options', 'vg_name,lv_name,segtype', which],
    timeoutMs: COPY_TIMEOUT_MS,
  })
  if (exitStatus !== 0) return []
  return stdout
    .split('\n')
    .map((line) => line.trim().split(/ +/))
    .map(([group = '', volume = '', segmentType = '']) => ({ group, volume, segmentType }))
    .filter(({ group, volume }) => VOLUME_NAME.test(group) && VOLUME_NAME.test(volume))
}

async function mustRun(host: Host, argv: Argv, about: string): Promise<void> {
  const result = await host.run({ argv, timeoutMs: COPY_TIMEOUT_MS })
  if (result.exitStatus !== 0) throw failed(host, about, result)
}

function failed(host: Host, path: string, { exitStatus, stderrTail }: ProgramResult): SyncError {
  const said = printable(stderrTail.trim().split('\n').at(-1) ?? '')
  return new SyncError(
    'host/program',
    `no copy of ${printable(path)} on ${host.name}: ${said === '' ? `status ${exitStatus}` : said}`,
    { operand: printable(path), hint: 'Make room there, or keep fewer generations.' },
  )
}
