// Keeps everybody on this host from writing to a disk, and takes that back: a device is set read-only and, of LVM, deactivated;
// a file immutable, or renamed where that cannot be. What was protected before stays so: how it was is noted on disk before anything is done.

import { open } from 'node:fs/promises'

import type { Argv } from '../exec.js'
import { printable } from '../printable.js'
import { asFileFailure, fileRefusal } from './failures.js'
import { renameEntry } from './files.js'
import type { FileFacts, ProgramResult, ProtectedVolume, Protection } from './host.js'
import { isJournalId } from './journals.js'
import { lookAt } from './look.js'
import type { ProtectNote, ProtectNotes } from './protect-notes.js'
import { closeVolume, reopenVolume, volumeBefore, type VolumeParts } from './volumes.js'

/** blockdev and chattr are one system call each, and LVM waits 5 s for a volume in use; more is a device that hangs. */
export const PROTECT_TIMEOUT_MS = 30_000
/** LVM complains of descriptors that it inherits; ours have the locks of journals (lvm(8)). */
export const PROTECT_ENVIRONMENT = { LVM_SUPPRESS_FD_WARNINGS: '1' } as const

export type ProtectParts = VolumeParts & Readonly<{ notes: ProtectNotes }>
type Outcome = Pick<Protection, 'by' | 'why' | 'volume'>

/** Host.protect. */
export async function protectDisk(path: string, tag: string, parts: ProtectParts): Promise<Protection> {
  if (!isJournalId(tag))
    throw fileRefusal(path, `'${tag}' is no tag for a name`, 'Use the id of a migration.')
  const noted = await parts.notes.find(tag, path)
  const facts = await lookAt(path)
  if (facts === null) {
    const closed = noted === null ? null : await closeAgain(noted, tag, parts)
    if (closed !== null) return closed
    // a run that was killed may have renamed it
    const moved = noted === null ? null : await lookAt(movedPath(noted.path, tag))
    if (noted === null || moved === null)
      throw fileRefusal(path, `${path} is not there; it was not protected`, 'Correct the path.')
    return { by: 'rename', path: noted.path, why: null, before: noted.before, tag }
  }
  const before = noted?.before ?? (facts.isProtected ? 'protected' : 'writable')
  // a device keeps the name it was given: the number behind a link is another one after the next boot
  const ownPath = facts.kind === 'block' ? path : facts.realPath
  const active = facts.kind === 'block' ? await parts.volumeAt(path) : null
  const volume = active === null ? null : (noted?.volume ?? (await volumeBefore(active, parts)))
  const note = { asked: path, path: ownPath, before }
  await parts.notes.put(tag, volume === null || typeof volume === 'string' ? note : { ...note, volume })
  const outcome = await apply(ownPath, tag, facts, parts)
  const whole = volume === null ? outcome : await applyToVolume(ownPath, volume, tag, outcome, parts)
  return { ...whole, path: ownPath, before, tag }
}

/** Host.unprotect. Again is no error. */
export async function unprotectDisk(protection: Protection, parts: ProtectParts): Promise<void> {
  const { by, path, before, tag, volume } = protection
  if (volume !== undefined) await reopenVolume(path, volume, tag, parts)
  if (before === 'writable') await takeBack(by, path, tag, parts)
  // read-only is a word to the device, and this is a new one
  else if (volume !== undefined) await setReadOnly(path, parts)
  if (isJournalId(tag)) await parts.notes.forget(tag, path)
}

async function apply(path: string, tag: string, facts: FileFacts, { run }: ProtectParts): Promise<Outcome> {
  switch (facts.kind) {
    case 'block': {
      if (facts.isProtected) return { by: 'device', why: null }
      const why = await whyNot(run(['blockdev', '--setro', path]), path, true)
      return why === null ? { by: 'device', why } : { by: 'none', why }
    }
    case 'file': {
      if (facts.isProtected) return { by: 'immutable', why: null }
      const why = await whyNot(run(['chattr', '+i', '--', path]), path, true)
      if (why === null) {
        await flush(path)
        return { by: 'immutable', why }
      }
      return await renameAway(path, tag, why)
    }
    case 'directory':
    case 'other':
      throw fileRefusal(path, `${path} is no disk; it was not protected`, 'Name a file or a block device.')
    default:
      return facts.kind satisfies never
  }
}

/** A volume may be closed where it could not be set read-only, and the other way round. */
async function applyToVolume(
  path: string,
  volume: ProtectedVolume | string,
  tag: string,
  readOnly: Outcome,
  parts: ProtectParts,
): Promise<Outcome> {
  const { isClosed, why } =
    typeof volume === 'string'
      ? { isClosed: false, why: volume }
      : await closeVolume(path, volume, tag, parts)
  if (isClosed && typeof volume !== 'string') return { by: 'device', why, volume }
  return { by: readOnly.by, why: readOnly.why === null ? why : `${readOnly.why}; ${why ?? ''}` }
}

/** Of a run that was killed: it was deactivated, and perhaps no more. Null where it is not that. */
async function closeAgain(
  { path, before, volume }: ProtectNote,
  tag: string,
  parts: ProtectParts,
): Promise<Protection | null> {
  if (volume === undefined) return null
  const { isClosed, why } = await closeVolume(path, volume, tag, parts)
  return isClosed ? { by: 'device', path, why, before, tag, volume } : null
}

async function renameAway(path: string, tag: string, why: string): Promise<Outcome> {
  try {
    await renameEntry(path, movedPath(path, tag))
    return { by: 'rename', why }
  } catch (error) {
    if (!(error instanceof Error)) throw error
    return { by: 'none', why: `${why}; ${error.message}` }
  }
}

async function takeBack(
  by: Protection['by'],
  path: string,
  tag: string,
  { run }: ProtectParts,
): Promise<void> {
  switch (by) {
    case 'none':
      return
    case 'device':
    case 'immutable': {
      const facts = await lookAt(path)
      if (facts === null) throw fileRefusal(path, `${path} is not there; it is still protected`, 'Attach it.')
      if (!facts.isProtected) return
      const argv: Argv = by === 'device' ? ['blockdev', '--setrw', path] : ['chattr', '-i', '--', path]
      const why = await whyNot(run(argv), path, false)
      if (why !== null)
        throw fileRefusal(path, `${path} could not be made writable again: ${why}`, `Type ${argv.join(' ')}`)
      if (by === 'immutable') await flush(path)
      return
    }
    case 'rename': {
      const moved = movedPath(path, tag)
      if ((await lookAt(moved)) !== null) return await renameEntry(moved, path)
      if ((await lookAt(path)) !== null) return
      throw fileRefusal(path, `neither ${path} nor ${moved} is there`, 'Where was the disk moved to?')
    }
    default:
      return by satisfies never
  }
}

async function setReadOnly(path: string, { run }: ProtectParts): Promise<void> {
  const argv: Argv = ['blockdev', '--setro', path]
  const why = await whyNot(run(argv), path, true)
  if (why !== null)
    throw fileRefusal(path, `${path} could not be made read-only as it was: ${why}`, `Type ${argv.join(' ')}`)
}

/** Null where it is as it should be now: the kernel's word counts, not the program's. */
async function whyNot(
  running: Promise<ProgramResult>,
  path: string,
  shouldBeProtected: boolean,
): Promise<string | null> {
  const { exitStatus, stderrTail } = await running
  const facts = await lookAt(path)
  if (facts?.isProtected === shouldBeProtected) return null
  return printable(stderrTail === '' ? `it has no effect here (status ${exitStatus})` : stderrTail)
}

function movedPath(path: string, tag: string): string {
  return `${path}.moved-${tag}`
}

/** Of attributes too, where the file system writes them with the file. */
async function flush(path: string): Promise<void> {
  await asFileFailure(
    path,
    'flushed',
    (async () => {
      await using file = await open(path, 'r')
      await file.sync()
    })(),
  )
}
