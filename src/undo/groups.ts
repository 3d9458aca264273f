// The groups of undo journals of one disk, in directories that count up: found, begun, changed and removed, each step so
// that a crash leaves the state before or after it. Refuses groups whose manifest is damaged.

import { randomBytes } from 'node:crypto'

import { SyncError } from '../errors.js'
import type { JournalFiles } from './files.js'
import { isJournalName, loadManifest, removeManifest, saveManifest } from './manifest.js'
import type { Group, GroupState, Manifest } from './manifest.js'

const GROUP_NAME = /^g(\d{8})$/
/** Being removed: the name says that nothing in it counts any more. */
const REMOVED_NAME = /^removed-g\d{8}$/
const ID_BYTES = 16

/** The groups of a disk, the newest first. `directory` is STATE/undo/KEY. Rejects with undo/broken. */
export async function listGroups(files: JournalFiles, directory: string): Promise<Group[]> {
  const names = (await files.list(directory)) ?? []
  const groups: Group[] = []
  for (const name of names.filter((each) => GROUP_NAME.test(each)).toReversed()) {
    const manifest = await loadManifest(files, `${directory}/${name}`)
    // the crash came between the directory and its manifest: nothing had been written by then
    if (manifest !== null) groups.push({ directory: `${directory}/${name}`, manifest })
  }
  return groups
}

/** Renames groups whose manifest is damaged, so that they are not used and not lost; a sentence about each. */
export async function setBrokenAside(files: JournalFiles, directory: string): Promise<string[]> {
  const warnings: string[] = []
  for (const name of (await files.list(directory)) ?? []) {
    if (!GROUP_NAME.test(name)) continue
    try {
      await loadManifest(files, `${directory}/${name}`)
    } catch (error) {
      if (!(error instanceof SyncError) || error.code !== 'undo/broken') throw error
      const aside = `${directory}/broken-${name}`
      await files.rename(`${directory}/${name}`, aside)
      await files.syncDirectory(directory)
      warnings.push(`a damaged undo journal was set aside as ${aside}`)
    }
  }
  return warnings
}

/** What a new group is made with; the rest follows from it. */
export type NewGroup = Pick<Manifest, 'stable' | 'path' | 'kind' | 'sizeBytes' | 'made'>

/**
 * Makes a group, open, with nothing in it yet; it is on stable storage when this resolves. `directory` is STATE/undo/KEY,
 * below `base`, which is there; `filesBase` is where the old content goes instead, or null.
 */
export async function makeGroup(
  files: JournalFiles,
  base: string,
  directory: string,
  filesBase: string | null,
  about: NewGroup,
): Promise<Group> {
  await makeBelow(files, base, directory)
  const taken = ((await files.list(directory)) ?? []).map((name) => Number(/g(\d{8})$/.exec(name)?.[1] ?? 0))
  const name = `g${String(Math.max(0, ...taken) + 1).padStart(8, '0')}`
  const own = `${directory}/${name}`
  const id = randomBytes(ID_BYTES).toString('hex')
  await makeBelow(files, directory, own)
  let filesIn = own
  if (filesBase !== null) {
    filesIn = `${filesBase}/blocksync-undo-${id}`
    await makeBelow(files, filesBase, filesIn)
  }
  const now = new Date().toISOString()
  const manifest: Manifest = {
    ...about,
    group: id,
    state: 'open',
    filesIn,
    runs: 1,
    startedAt: now,
    changedAt: now,
    files: [],
  }
  await saveManifest(files, { directory: own, manifest })
  return { directory: own, manifest }
}

/** The same group in another state, on stable storage when it resolves. */
export async function changeGroup(
  files: JournalFiles,
  { directory, manifest }: Group,
  change: { state: GroupState; runs?: number; files?: Manifest['files'] },
): Promise<Group> {
  const changed = {
    directory,
    manifest: { ...manifest, files: [], ...change, changedAt: new Date().toISOString() },
  }
  await saveManifest(files, changed)
  return changed
}

/** Names of the files with old content, the newest run first. */
export async function journalNames(files: JournalFiles, { manifest }: Group): Promise<string[]> {
  const names = (await files.list(manifest.filesIn)) ?? []
  return names.filter(isJournalName).toSorted((a, b) => b.slice(0, 6).localeCompare(a.slice(0, 6)))
}

/** Removes the old content of a group, and leaves its manifest. */
export async function removeContent(files: JournalFiles, group: Group): Promise<void> {
  const { filesIn } = group.manifest
  for (const name of await journalNames(files, group)) await files.remove(`${filesIn}/${name}`)
  if (filesIn !== group.directory) await files.removeDirectory(filesIn)
}

/** Removes a group. By its first step it does not count any more; the rest is only room on the disk. */
export async function removeGroup(files: JournalFiles, group: Group): Promise<void> {
  const { directory, manifest } = group
  const at = directory.lastIndexOf('/')
  const parent = directory.slice(0, at)
  const removed = `${parent}/removed-${directory.slice(at + 1)}`
  await files.rename(directory, removed)
  await files.syncDirectory(parent)
  const filesIn = manifest.filesIn === directory ? removed : manifest.filesIn
  await removeContent(files, { directory: removed, manifest: { ...manifest, filesIn } })
  await removeManifest(files, removed)
  await files.removeDirectory(removed)
}

/** Ends removals that a crash interrupted, and takes away directories in which no group was begun. */
export async function sweep(files: JournalFiles, directory: string): Promise<void> {
  for (const name of (await files.list(directory)) ?? []) {
    const own = `${directory}/${name}`
    if (GROUP_NAME.test(name)) {
      if ((await loadManifest(files, own)) !== null) continue
    } else if (!REMOVED_NAME.test(name)) continue
    const manifest = await loadManifest(files, own)
    const moved = manifest === null || manifest.filesIn.startsWith(`${directory}/`)
    for (const inside of (await files.list(own)) ?? [])
      if (isJournalName(inside)) await files.remove(`${own}/${inside}`)
    if (manifest !== null && !moved) await removeContent(files, { directory: own, manifest })
    await removeManifest(files, own)
    await files.removeDirectory(own)
  }
}

/** Makes the directories from `base` (which is there) down to `directory`; each is on stable storage when it resolves. */
async function makeBelow(files: JournalFiles, base: string, directory: string): Promise<void> {
  let at = base
  for (const part of directory.slice(base.length + 1).split('/')) {
    await files.makeDirectory(`${at}/${part}`)
    await files.syncDirectory(at)
    at = `${at}/${part}`
  }
}

/** True for a group whose runs, or whose undoing, did not come to their end. */
export function isUnfinished({ manifest: { state } }: Group): boolean {
  return state === 'open' || state === 'undoing'
}

/** After it the group is known to fit no longer; its old content is gone. */
export async function voidGroup(files: JournalFiles, group: Group): Promise<void> {
  await removeContent(files, await changeGroup(files, group, { state: 'void' }))
}
