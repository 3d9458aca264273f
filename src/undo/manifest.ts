// What is known of one group of undo journals, as a small JSON file: whose disk, how long it was, which runs. It is written
// whole or not at all; what was read is checked field by field, and anything that is not right is refused (undo/broken).

import type { StableIdentity } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { isObject } from '../json.js'
import type { JournalFiles } from './files.js'

const MANIFEST_VERSION = 1
const MANIFEST_NAME = 'group.json'
/** Names and paths of one disk, and the files of one run: far more than these ever are. */
const MAX_MANIFEST_BYTES = 1 << 20
/** Files that one run may leave: one for each pass, of which the stripes of a further lane are at least 64 MiB. */
const MAX_LISTED_FILES = 4096
const MAX_TEXT = 4096
const MAX_NAMES = 64

/**
 * `open`: a run writes, or did not finish. `finished`: the last one did. `undoing`: it is being taken back, and may be half
 * way. `void`: the disk was written by a run that kept no journal, so what is here no longer fits.
 */
export type GroupState = 'open' | 'finished' | 'undoing' | 'void'

/** What a run did before the first write: `file`: made the file; `length`: gave an empty file its length. */
export type Made = 'nothing' | 'length' | 'file'

export type Manifest = Readonly<{
  /** 16 random bytes in hex: in every file of the group. */
  group: string
  state: GroupState
  stable: StableIdentity
  path: string
  kind: 'file' | 'block-device'
  /** Before the first run of the group. */
  sizeBytes: number
  made: Made
  /** Where the files with the old content are. */
  filesIn: string
  /** Runs so far: 1 for the first. */
  runs: number
  startedAt: string
  /** Of the last change of `state`. */
  changedAt: string
  /** The files of a finished run, as long as they have to be; empty otherwise. */
  files: readonly { name: string; bytes: number }[]
}>

/** A group and the directory that its manifest is in. */
export type Group = Readonly<{ directory: string; manifest: Manifest }>

/** Replaces the manifest: after a crash the old one or the new one is there. */
export async function saveManifest(files: JournalFiles, { directory, manifest }: Group): Promise<void> {
  const bytes = Buffer.from(`${JSON.stringify({ version: MANIFEST_VERSION, ...manifest }, null, 2)}\n`)
  const temporary = `${directory}/${MANIFEST_NAME}.new`
  await files.remove(temporary)
  const file = await files.create(temporary)
  try {
    await file.write([bytes], 0)
    await file.sync()
  } finally {
    await file.close()
  }
  await files.rename(temporary, `${directory}/${MANIFEST_NAME}`)
  await files.syncDirectory(directory)
}

/** The manifest in a directory, or null where there is none yet. Rejects with undo/broken where it is not one of ours. */
export async function loadManifest(files: JournalFiles, directory: string): Promise<Manifest | null> {
  const file = await files.open(`${directory}/${MANIFEST_NAME}`)
  if (file === null) return null
  let text: string
  try {
    const bytes = Buffer.alloc(Math.min(await file.sizeBytes(), MAX_MANIFEST_BYTES))
    text = bytes.toString('utf8', 0, await file.read(bytes, 0))
  } finally {
    await file.close()
  }
  const manifest = parseManifest(text)
  if (manifest !== null) return manifest
  throw new SyncError('undo/broken', `${directory}/${MANIFEST_NAME} is damaged; nothing was written`, {
    operand: directory,
    hint: `If its content is not needed any more, remove it: rm -r ${directory}`,
  })
}

/** Removes the manifest's own files from a directory. */
export async function removeManifest(files: JournalFiles, directory: string): Promise<void> {
  await files.remove(`${directory}/${MANIFEST_NAME}.new`)
  await files.remove(`${directory}/${MANIFEST_NAME}`)
}

/** A manifest, or null where the text is none. */
export function parseManifest(text: string): Manifest | null {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null // said by the caller, who knows the file
  }
  if (!isObject(value) || value['version'] !== MANIFEST_VERSION) return null
  const { group, state, stable, path, kind, sizeBytes, made, filesIn, runs, startedAt, changedAt, files } =
    value
  if (typeof group !== 'string' || !/^[0-9a-f]{32}$/.test(group)) return null
  if (state !== 'open' && state !== 'finished' && state !== 'undoing' && state !== 'void') return null
  if (kind !== 'file' && kind !== 'block-device') return null
  if (made !== 'nothing' && made !== 'length' && made !== 'file') return null
  if (!isStable(stable) || !isText(path) || !isText(filesIn) || !isText(startedAt) || !isText(changedAt))
    return null
  if (!isCount(sizeBytes) || !isCount(runs) || runs < 1 || !filesIn.startsWith('/')) return null
  if (!Array.isArray(files) || files.length > MAX_LISTED_FILES || !files.every(isListed)) return null
  const { machineId, hostName, names } = stable
  return {
    group,
    state,
    stable: { machineId, hostName, names: [...names] },
    path,
    kind,
    sizeBytes,
    made,
    filesIn,
    runs,
    startedAt,
    changedAt,
    files: files.map(({ name, bytes }) => ({ name, bytes })),
  }
}

/** The name of a journal file: the run, and eight hex digits. */
export function isJournalName(name: string): boolean {
  return /^\d{6}-[0-9a-f]{8}\.undo$/.test(name)
}

function isStable(value: unknown): value is StableIdentity {
  if (!isObject(value)) return false
  const { machineId, hostName, names } = value
  if (!isText(machineId) || typeof hostName !== 'string' || hostName.length > MAX_TEXT) return false
  return Array.isArray(names) && names.length > 0 && names.length <= MAX_NAMES && names.every(isText)
}

function isListed(value: unknown): value is { name: string; bytes: number } {
  return isObject(value) && isText(value['name']) && isJournalName(value['name']) && isCount(value['bytes'])
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= MAX_TEXT
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
