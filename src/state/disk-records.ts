// The pair records of the disks of this host: one JSON file for each pair in the directory of its disk, so that two runs
// never change one file. A file that is broken or not ours is set aside and said, never used.

import { createHash } from 'node:crypto'
import { readdir, unlink } from 'node:fs/promises'
import { join } from 'node:path'

import type { StableIdentity } from '../endpoint/endpoint.js'
import { errnoOf } from '../errors.js'
import { readSmallFile, removeLeftBehind, setAside, syncDirectory, writeAtomically } from './atomic-file.js'
import { subdirectory } from './directory.js'
import { RecordError } from './fields.js'
import { checkedRecord, isPairId, type PairRecord, RECORD_VERSION } from './record.js'

/** Pairs that a disk may be part of; beyond it the one that was used longest ago is forgotten. */
export const MAX_PAIRS = 64
/** Disks that `status` looks at. */
const MAX_DISKS_LISTED = 4096
/** Files that are read of one disk: a few more than it may have, since several runs may end at once. */
const MAX_FILES_READ = 4 * MAX_PAIRS

const DISKS = 'disks'
const SUFFIX = '.json'

/** `problems`: sentences about files that were not used. */
export type LoadedRecords = Readonly<{ records: PairRecord[]; problems: string[] }>

/**
 * The name of a disk's directory here: the first 32 hex digits of SHA-256 over its host and its best name. The host, since
 * several may have one state directory (a shared home).
 */
export function diskKey({ machineId, names }: StableIdentity): string {
  return createHash('sha256')
    .update(`${machineId}\n${names[0] ?? ''}`)
    .digest('hex')
    .slice(0, 32)
}

/** When a record was last true: what sorts records, as ISO texts do. */
export function lastUsed({ running, finished }: PairRecord): string {
  return [running?.since ?? '', finished?.finishedAt ?? ''].reduce((a, b) => (a > b ? a : b))
}

/** The records of one disk, last used first. Rejects with the system's error but where there is nothing. */
export async function loadRecords(state: string, disk: StableIdentity): Promise<LoadedRecords> {
  return await loadDirectory(join(state, DISKS, diskKey(disk)))
}

/** The records of all disks of this host, last used first. */
export async function loadAllRecords(state: string): Promise<LoadedRecords> {
  const records: PairRecord[] = []
  const problems: string[] = []
  const keys = (await namesIn(join(state, DISKS))).filter((name) => /^[0-9a-f]{32}$/.test(name))
  for (const key of keys.slice(0, MAX_DISKS_LISTED)) {
    const loaded = await loadDirectory(join(state, DISKS, key))
    records.push(...loaded.records)
    problems.push(...loaded.problems)
  }
  if (keys.length > MAX_DISKS_LISTED)
    problems.push(`only ${MAX_DISKS_LISTED} of ${keys.length} disks are listed`)
  return { records: records.toSorted(byLastUse), problems }
}

/**
 * Writes a record; when it resolves it lasts. Those of `replaces`, and the oldest beyond MAX_PAIRS, are removed then.
 * Rejects with the system's error; the record is as it was then.
 */
export async function saveRecord(
  state: string,
  record: PairRecord,
  replaces: readonly string[] = [],
): Promise<void> {
  const key = diskKey(record.disk.stable)
  const isNew = !(await namesIn(join(state, DISKS))).includes(key)
  const directory = await subdirectory(state, DISKS, key)
  if (isNew) for (const above of [join(state, DISKS), state]) await syncDirectory(above)
  await writeAtomically(
    join(directory, `${record.pairId}${SUFFIX}`),
    `${JSON.stringify({ version: RECORD_VERSION, ...record }, null, 2)}\n`,
  )
  await removeLeftBehind(directory, Date.now())
  const names = await namesIn(directory)
  const surplus = names.length > MAX_PAIRS ? (await loadDirectory(directory)).records.slice(MAX_PAIRS) : []
  const gone = new Set([...replaces, ...surplus.map(({ pairId }) => pairId)])
  gone.delete(record.pairId)
  for (const pairId of gone) if (names.includes(`${pairId}${SUFFIX}`)) await remove(directory, pairId)
}

/**
 * Removes what is recorded of runs that wrote to `disk` since `since` (ISO 8601) and are taken back: of their last result
 * nothing is left, and what was before them is not known here. The newest such record goes in any case: it is the one of
 * the runs that are undone, whatever the clock said then. Resolves with how many were removed.
 */
export async function forgetWritten(state: string, disk: StableIdentity, since: string): Promise<number> {
  const { records } = await loadRecords(state, disk)
  const written = records.filter(({ role }) => role === 'destination')
  const gone = written.filter((record, index) => index === 0 || lastUsed(record) >= since)
  if (gone.length === 0) return 0
  const directory = join(state, DISKS, diskKey(disk))
  for (const { pairId } of gone) await remove(directory, pairId)
  await syncDirectory(directory)
  return gone.length
}

/**
 * Marks the runs that wrote to `disk` and did not finish as overtaken, but for those of `pairId`: somebody else is about to
 * write to it. A record that cannot be changed is removed, so that it says nothing that is not true any more. When it resolves
 * this lasts; rejects with the system's error.
 */
export async function overtake(state: string, disk: StableIdentity, pairId: string | null): Promise<void> {
  const { records } = await loadRecords(state, disk)
  for (const record of records) {
    const { running, role } = record
    if (role !== 'destination' || running === null || running.overtaken === true) continue
    if (record.pairId === pairId) continue
    try {
      await saveRecord(state, { ...record, running: { ...running, overtaken: true } })
    } catch (error) {
      if (errnoOf(error) === null) throw error
      const directory = join(state, DISKS, diskKey(disk))
      await remove(directory, record.pairId)
      await syncDirectory(directory)
    }
  }
}

async function loadDirectory(directory: string): Promise<LoadedRecords> {
  const names = (await namesIn(directory)).filter(
    (name) => name.endsWith(SUFFIX) && isPairId(name.slice(0, -SUFFIX.length)),
  )
  const records: PairRecord[] = []
  const problems: string[] = []
  const loaded = await Promise.all(names.slice(0, MAX_FILES_READ).map((name) => loadFile(directory, name)))
  for (const each of loaded) {
    if (typeof each === 'string') problems.push(each)
    else if (each !== null) records.push(each)
  }
  return { records: records.toSorted(byLastUse), problems }
}

/** A record, null where it is gone again, or why it cannot be used. */
async function loadFile(directory: string, name: string): Promise<PairRecord | string | null> {
  const path = join(directory, name)
  try {
    const text = await readSmallFile(path)
    if (text === null) return null
    const record = parseRecord(text)
    const isInPlace = `${record.pairId}${SUFFIX}` === name && directory.endsWith(diskKey(record.disk.stable))
    if (!isInPlace) throw new RecordError('it is the record of another pair')
    return record
  } catch (error) {
    if (error instanceof NewerVersion) return `the pair record ${path} is not used: ${error.message}`
    if (!(error instanceof RecordError || error instanceof RangeError)) throw error
    const to = await setAside(path)
    const where = to === null ? 'it could not be set aside' : `it is ${to} now`
    return `the pair record ${path} is broken and not used (${error.message}); ${where}`
  }
}

/** Of a later blocksync: left where it is. */
class NewerVersion extends RecordError {}

/** Throws RecordError. */
export function parseRecord(text: string): PairRecord {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw new RecordError('it is not JSON', { cause })
  }
  const version = typeof parsed === 'object' && parsed !== null && 'version' in parsed ? parsed.version : null
  if (typeof version === 'number' && version > RECORD_VERSION)
    throw new NewerVersion(`a later blocksync wrote it (version ${version})`)
  if (version !== RECORD_VERSION) throw new RecordError('it has no version')
  return checkedRecord(parsed)
}

async function remove(directory: string, pairId: string): Promise<void> {
  try {
    await unlink(join(directory, `${pairId}${SUFFIX}`))
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).toSorted()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

function byLastUse(a: PairRecord, b: PairRecord): number {
  return lastUsed(a) < lastUsed(b) ? 1 : lastUsed(a) > lastUsed(b) ? -1 : 0
}
