// Replica disks are read-only between attempts, so that nobody starts one by accident: a device by blockdev, a file immutable or,
// where its file system cannot do that, mode 0400. What is not there is left alone; a device that stays writable is refused.

import { SyncError } from '../errors.js'
import type { FileFacts, Host } from '../host/host.js'
import { printable } from '../printable.js'

const PROGRAM_TIMEOUT_MS = 30_000
const READ_ONLY_MODE = 0o400
const WRITABLE_MODE = 0o600
const ANYBODY_MAY_WRITE = 0o222

/** Whether a disk's mark is set, as `status` and `drill` say it; null where nothing is at the path. */
export async function isReadOnly(host: Host, path: string): Promise<boolean | null> {
  const facts = await host.look(path)
  if (facts === null) return null
  return facts.isProtected || (facts.kind === 'file' && (facts.mode & ANYBODY_MAY_WRITE) === 0)
}

/** Sets the mark; the same again is no error. Rejects with host/program and host/file. */
export async function setReadOnly(host: Host, path: string): Promise<void> {
  const facts = await host.look(path)
  if (facts === null || facts.isProtected) return
  if (facts.kind === 'block') {
    await blockdev(host, '--setro', path)
    return
  }
  if (facts.kind !== 'file') throw neither(host, path, facts)
  const { exitStatus } = await host.run({
    argv: ['chattr', '+i', facts.realPath],
    timeoutMs: PROGRAM_TIMEOUT_MS,
  })
  if (exitStatus !== 0) await chmod(host, facts, READ_ONLY_MODE)
}

/** Takes it away; the same again is no error. */
export async function setWritable(host: Host, path: string): Promise<void> {
  const facts = await host.look(path)
  if (facts === null) return
  if (facts.kind === 'block') {
    if (facts.isProtected) await blockdev(host, '--setrw', path)
    return
  }
  if (facts.kind !== 'file') throw neither(host, path, facts)
  if (facts.isProtected) {
    const { exitStatus, stderrTail } = await host.run({
      argv: ['chattr', '-i', facts.realPath],
      timeoutMs: PROGRAM_TIMEOUT_MS,
    })
    if (exitStatus !== 0) throw failed(host, path, 'chattr -i', stderrTail)
  }
  if ((facts.mode & ANYBODY_MAY_WRITE) === 0) await chmod(host, facts, WRITABLE_MODE)
}

async function blockdev(host: Host, word: string, path: string): Promise<void> {
  const { exitStatus, stderrTail } = await host.run({
    argv: ['blockdev', word, path],
    timeoutMs: PROGRAM_TIMEOUT_MS,
  })
  if (exitStatus !== 0) throw failed(host, path, `blockdev ${word}`, stderrTail)
}

async function chmod(host: Host, { realPath, mode }: FileFacts, to: number): Promise<void> {
  if (mode === to) return
  const word = to.toString(8).padStart(4, '0')
  const { exitStatus, stderrTail } = await host.run({
    argv: ['chmod', word, realPath],
    timeoutMs: PROGRAM_TIMEOUT_MS,
  })
  if (exitStatus !== 0) throw failed(host, realPath, `chmod ${word}`, stderrTail)
}

function failed(host: Host, path: string, what: string, stderrTail: string): SyncError {
  const said = stderrTail.trim().split('\n').at(-1) ?? ''
  const why = said === '' ? '' : `: ${printable(said)}`
  return new SyncError('host/program', `${what} ${printable(path)} failed on ${host.name}${why}`, {
    operand: printable(path),
    hint: `Try it there by hand: ${what} ${printable(path)}`,
  })
}

function neither(host: Host, path: string, { kind }: FileFacts): SyncError {
  return new SyncError(
    'host/file',
    `${printable(path)} on ${host.name} is neither a file nor a block device (${kind})`,
    {
      operand: printable(path),
      hint: 'Name a disk image or a block device as the destination.',
    },
  )
}
