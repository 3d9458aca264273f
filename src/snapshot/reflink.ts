// Image files cloned by their file system (FICLONE of btrfs, xfs and others): a file comes in, a file beside it that shares
// its blocks goes out. Refuses file systems that cannot do it, and what is no file.

import { basename, dirname, join } from 'node:path'

import { SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import type { FileFacts, Host, ProgramResult } from '../host/host.js'
import { all, alsoSaying, lastWords, runFor, snapshotFailure } from './failures.js'
import { isOfJob, jobPrefix, type OwnedJob, snapshotName } from './names.js'
import type { Cut, CutDisk, CutRequest, SnapshotMethod } from './snapshot.js'

/** Dirty data of a file is written out before its blocks are shared: minutes on a slow disk. */
const CLONE_TIMEOUT_MS = 600_000
/** One directory, not what is below it. */
const LIST_TIMEOUT_MS = 60_000
const ENDING = '.img'
/**
 * These hold all who write to a file from before its dirty data is written out until the clone is done (Linux: xfs_file_remap_range in
 * fs/xfs/xfs_file.c, btrfs_remap_file_range in fs/btrfs/reflink.c): what was written when the clone was done is in it. With many
 * extents that takes seconds.
 */
const HOLDS_WRITERS = new Set(['xfs', 'btrfs'])
/** Between the kernel's letting the writers go and our hearing of it, a busy host's scheduler included. */
const LET_GO_MS = 100
/** Nobody but this user reads it: the original may be closed to others by the directory it is in. */
const MODE = 0o600

/** Clones are taken one file after the other; the kernel takes each of them at one instant. */
export function reflinkSnapshots(): SnapshotMethod {
  return { kind: 'reflink', cut, check: () => Promise.resolve(), remove, removeOrphans }
}

async function cut(host: Host, request: CutRequest): Promise<Cut> {
  const files = await Promise.all(request.disks.map((disk) => imageFile(host, disk)))
  const disks = files.map(({ original, realPath }, index): CutDisk => {
    return { original, path: join(dirname(realPath), `.${snapshotName(request, index)}${ENDING}`) }
  })
  const asked = performance.now()
  const { nowMs } = await host.facts()
  const begun = performance.now()
  /** From `begun` until the first of them was done, and held what was written until then. */
  let heldMs = 0
  try {
    for (const [index, disk] of disks.entries()) {
      const { isHeld } = await clone(host, files[index]?.realPath ?? '', disk)
      // the answer to the question took one round over the line, as that to the program did
      const roundMs = begun - asked
      if (index === 0 && isHeld)
        heldMs = Math.max(0, Math.floor(performance.now() - begun - roundMs - LET_GO_MS))
    }
  } catch (error) {
    await all(
      disks.map(
        ({ path }) =>
          () =>
            host.remove(path),
      ),
    ).catch((left: unknown) => {
      throw alsoSaying(error, left)
    })
    throw error
  }
  const spreadMs = disks.length === 1 ? 0 : Math.ceil(performance.now() - begun - heldMs)
  const kind = disks.length === 1 ? 'one-instant' : 'near'
  return { kind, takenAtMs: nowMs + heldMs, spreadMs, quiesced: 'no', disks, warnings: [] }
}

async function remove(host: Host, request: CutRequest, { disks }: Cut): Promise<void> {
  await all(
    disks.map(({ path }) => async () => {
      // Nothing is removed by a path alone: it might be the disk's.
      if (!isClone(path, request)) throw new TypeError(`${path} is no snapshot of the job ${request.job}`)
      await removeFile(host, path)
    }),
  )
}

async function removeOrphans(host: Host, request: CutRequest): Promise<readonly string[]> {
  const { disks } = request
  const files = await Promise.all(disks.map((disk) => host.look(disk)))
  // A disk that is not there now has no directory that we know of but the one that was typed.
  const directories = new Set(disks.map((disk, index) => dirname(files[index]?.realPath ?? disk)))
  const found: string[] = []
  for (const directory of directories) {
    const names = await namesIn(host, directory, request)
    found.push(...names.map((name) => join(directory, name)).filter((path) => isClone(path, request)))
  }
  await all(found.map((path) => () => removeFile(host, path)))
  return found
}

type Image = Readonly<{ original: string }> & Pick<FileFacts, 'realPath'>

async function imageFile(host: Host, original: string): Promise<Image> {
  const facts = await host.look(original)
  if (facts === null)
    throw snapshotFailure(
      `nothing is at ${original} on ${host.name}; no snapshot was taken`,
      original,
      'See whether its file system is mounted, and whether the path in the configuration is right.',
    )
  if (facts.kind !== 'file')
    throw snapshotFailure(
      `${original} on ${host.name} is no file, and only files can be cloned`,
      original,
      'For a volume of LVM write: snapshot: lvm, or: snapshot: lvm-thin',
    )
  return { original, realPath: facts.realPath }
}

async function clone(host: Host, from: string, { original, path }: CutDisk): Promise<{ isHeld: boolean }> {
  await runChecked(original, host, () => host.makeFile(path, 0, MODE))
  const { fileSystem } = await host.space(path)
  if (fileSystem === 'btrfs') await keepUncopied(host, original, from, path)
  const argv: Argv = ['cp', '--reflink=always', '--', from, path]
  const result = await runFor(original, host, { argv, timeoutMs: CLONE_TIMEOUT_MS })
  if (result.exitStatus !== 0) throw await cloneFailure(host, original, from, result)
  return { isHeld: HOLDS_WRITERS.has(fileSystem) }
}

/**
 * btrfs shares blocks only between two files that are both without copy-on-write of their own (chattr +C, usual for images),
 * or both with it. A new file has what its directory has, which may be another.
 */
async function keepUncopied(host: Host, original: string, from: string, path: string): Promise<void> {
  const attributes = async (file: string): Promise<boolean | null> => {
    const argv: Argv = ['lsattr', '-d', '--', file]
    const { exitStatus, stdout } = await runFor(original, host, { argv, timeoutMs: LIST_TIMEOUT_MS })
    // without lsattr the clone itself tells whether they fit
    return exitStatus === 0 ? (stdout.split(' ')[0] ?? '').includes('C') : null
  }
  const [wanted, given] = [await attributes(from), await attributes(path)]
  if (wanted === null || given === null || wanted === given) return
  const argv: Argv = ['chattr', wanted ? '+C' : '-C', '--', path]
  const changed = await runFor(original, host, { argv, timeoutMs: LIST_TIMEOUT_MS })
  if (changed.exitStatus !== 0)
    throw snapshotFailure(
      `no clone of ${original} could be made on ${host.name}: ${lastWords(changed, 'chattr')}`,
      original,
      `Look at both with lsattr: ${from} and its directory.`,
    )
}

async function cloneFailure(
  host: Host,
  original: string,
  from: string,
  result: ProgramResult,
): Promise<SyncError> {
  const { fileSystem, directory, freeBytes } = await host.space(from)
  const words = lastWords(result, 'cp')
  const cannot = /Operation not supported|Inappropriate ioctl|Function not implemented|Invalid argument/
  if (cannot.test(words)) {
    const why = fileSystem === 'xfs' ? 'was made without reflink=1' : 'cannot share blocks between files'
    return snapshotFailure(
      `${original} is on ${fileSystem} at ${directory} on ${host.name}, which ${why}; no snapshot was taken`,
      original,
      'Move it to btrfs, or to xfs made with mkfs.xfs -m reflink=1; or write: snapshot: none (read while it changes)',
    )
  }
  if (/No space left/.test(words))
    return snapshotFailure(
      `${fileSystem} at ${directory} on ${host.name} has no room for a clone of ${original} (${freeBytes} bytes are free)`,
      original,
      `Make room: df ${directory}`,
    )
  return snapshotFailure(
    `${original} on ${host.name} could not be cloned: ${words}`,
    original,
    `Try it there: cp --reflink=always ${from} ${dirname(from)}/x`,
  )
}

async function namesIn(host: Host, directory: string, of: OwnedJob): Promise<readonly string[]> {
  const pattern = `.${jobPrefix(of)}*${ENDING}`
  const words = ['-mindepth', '1', '-maxdepth', '1', '-name', pattern, '-printf', '%f\\0']
  const argv: Argv = ['find', directory, ...words]
  const result = await runFor(directory, host, { argv, timeoutMs: LIST_TIMEOUT_MS })
  if (result.exitStatus === 0) return result.stdout.split('\0').filter((name) => name !== '')
  if ((await host.look(directory)) === null) return []
  throw snapshotFailure(
    `${directory} on ${host.name} could not be looked through for snapshots that were left: ${lastWords(result, 'find')}`,
    directory,
    `Try it there: ls -a ${directory}`,
  )
}

function isClone(path: string, of: OwnedJob): boolean {
  const name = basename(path)
  return name.startsWith('.') && name.endsWith(ENDING) && isOfJob(name.slice(1, -ENDING.length), of)
}

async function removeFile(host: Host, path: string): Promise<void> {
  await runChecked(path, host, () => host.remove(path))
}

/** Host operations on files fail with host/file; here that is a snapshot that is not there, or is there still. */
async function runChecked(operand: string, host: Host, act: () => Promise<void>): Promise<void> {
  try {
    await act()
  } catch (error) {
    if (!(error instanceof SyncError) || error.code !== 'host/file') throw error
    throw snapshotFailure(`on ${host.name}: ${error.message}`, operand, error.hint ?? '', error)
  }
}
