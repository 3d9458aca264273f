// Private directories of runs among the temporary files: a name that tells whose one is, and the removal of those whose run was
// killed. Touches only what is this user's own, is no link, was not used for an hour and belongs to no process that is there.

import { lstat, readdir, rmdir, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { unlessDenied } from '../errors.js'
import { isRunning, ownProcess } from '../state/process.js'

/** What is in such a directory: the socket that ssh forwards. */
export const SOCKET_NAME = 'bond'

/** A run uses its directory while it connects. So what another container's process, not seen from here, still needs is safe. */
const MIN_AGE_MS = 60 * 60 * 1000
/** Looked at in one run; the next one sees to the others. */
const MAX_LOOKED_AT = 32

/** `blocksync-PID-START-`, and what mkdtemp(3) puts behind it. */
const FORM = /^blocksync-(\d{1,10})-(\d{1,20})-[A-Za-z0-9]{6}$/

/** What the name of a private directory of this process begins with; mkdtemp adds six characters. */
export async function privatePrefix(): Promise<string> {
  const [, pid, start] = (await ownProcess()).split(' ')
  return `blocksync-${pid ?? ''}-${start ?? ''}-`
}

/**
 * Takes away what killed runs left in `directory`; resolves with how many that were. Never rejects for what the system says:
 * what cannot be looked at, or has something else in it, stays.
 */
export async function removeAbandoned(nowMs: number, directory: string = tmpdir()): Promise<number> {
  const found = (await unlessDenied(readdir(directory))) ?? []
  const ours = found.filter((name) => FORM.test(name)).slice(0, MAX_LOOKED_AT)
  if (ours.length === 0) return 0
  const own = await ownProcess()
  // where processes cannot be seen, none is known to be gone
  if (!(await isRunning(own))) return 0
  const [boot = ''] = own.split(' ')
  let removed = 0
  for (const name of ours) if (await removeIfAbandoned(join(directory, name), boot, nowMs)) removed++
  return removed
}

async function removeIfAbandoned(path: string, boot: string, nowMs: number): Promise<boolean> {
  const [, pid, start] = FORM.exec(path.slice(path.lastIndexOf('/') + 1)) ?? []
  const facts = await unlessDenied(lstat(path))
  if (facts?.isDirectory() !== true || facts.uid !== process.geteuid?.()) return false
  if (nowMs - facts.mtimeMs < MIN_AGE_MS || (await isRunning(`${boot} ${pid ?? ''} ${start ?? ''}`)))
    return false
  // by name, and not what else may be there: nothing of anybody else's goes, whatever happens to the path meanwhile
  await unlessDenied(unlink(join(path, SOCKET_NAME)))
  return (await unlessDenied(rmdir(path).then(() => true))) ?? false
}
