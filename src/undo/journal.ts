// The undo journal of one disk of a run, on the host of the destination: begun before the first write, continued by the next
// run where this one does not finish, closed at its end. Refuses to begin where there is no room for it.

import { createHash } from 'node:crypto'

import type { DiskInfo } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { journalFailure, noRoom } from './failures.js'
import type { JournalFiles } from './files.js'
import {
  changeGroup,
  journalNames,
  listGroups,
  makeGroup,
  isUnfinished,
  removeGroup,
  setBrokenAside,
  sweep,
  voidGroup,
} from './groups.js'
import type { DigesterOf } from './journal-file.js'
import type { Group, Made } from './manifest.js'
import { directoryBytes, openPreserver } from './preserver.js'
import type { OldContent, Preserver } from './preserver.js'

/** Below it a journal is not begun: room for two records, so that the first windows of a run can be kept. */
export const LEAST_FREE_BYTES = 32 << 20

const KEY_HEX_DIGITS = 32

export type UndoPlace = Readonly<{
  files: JournalFiles
  /** The state directory; it is there. */
  stateDirectory: string
  /** `one`: a run that overwrites something removes the groups before it; `chain`: they stay until somebody drops them. */
  keep: 'one' | 'chain'
  /** Where the old content goes instead; it is there. */
  filesBase: string | null
  maxBytes: number | null
  digesterOf: DigesterOf
}>

/** The disk as it was opened. `made` is what the opening did to it. */
export type UndoDisk = Readonly<{
  info: Pick<DiskInfo, 'path' | 'kind' | 'sizeBytes' | 'stable'>
  made: Made
}>

/** What a user hears of the journal. */
export type UndoReport = Readonly<{ group: string; path: string; freeBytes: number; continues: boolean }>

/** The journal of one disk, for as long as it is open. */
export interface DiskUndo extends AsyncDisposable {
  readonly warnings: readonly string[]
  /** Null where none is kept. */
  readonly report: UndoReport | null
  /** Before the first pass that may write; also before the disk is made longer. */
  begin(): Promise<void>
  /** For one pass with leaves of `leafBytes`; null where none is kept. */
  preserver(disk: OldContent, leafBytes: number): Preserver | null
  /**
   * Everything of this disk is written and flushed, in all lanes. Resolves with why the journal could not be closed, or null:
   * it leads back all the same, and the next run goes on with it.
   */
  finish(): Promise<string | null>
}

/**
 * Where the groups of a disk are: by its best stable name alone (docs/undo.md). Not by the key of pair records
 * (state/disk-records.ts), which has the host in it: journals that are there already are to be found.
 */
export function undoDirectory(stateDirectory: string, names: readonly string[]): string {
  const [best] = names
  if (best === undefined) throw new RangeError('a disk without a name')
  const key = createHash('sha256').update(best).digest('hex').slice(0, KEY_HEX_DIGITS)
  return `${stateDirectory}/undo/${key}`
}

/**
 * For the first lane of a run with --undo: finds or makes the group. Rejects with destination/undo and
 * destination/undo-space; nothing was written then.
 */
export async function keepUndo(disk: UndoDisk, place: UndoPlace): Promise<DiskUndo> {
  const { files, stateDirectory, filesBase } = place
  const { path, stable } = disk.info
  const directory = undoDirectory(stateDirectory, stable.names)
  try {
    const warnings = await setBrokenAside(files, directory)
    await sweep(files, directory)
    const { group, isNew, older, warning } = await findGroup(disk, place, directory)
    if (warning !== null) warnings.push(warning)
    const freeBytes = await files.freeBytes(group.manifest.filesIn)
    if (freeBytes < LEAST_FREE_BYTES) {
      if (isNew) await removeGroup(files, group)
      throw noRoom(
        path,
        `${freeBytes} bytes are free in ${filesBase ?? stateDirectory}, and ${LEAST_FREE_BYTES} have to be`,
      )
    }
    return new KeptUndo(disk, place, group, { isNew, older, warnings, freeBytes })
  } catch (error) {
    throw journalFailure(path, directory, error)
  }
}

/** For a further lane of such a run: the group that the first one found or made. */
export async function joinUndo(disk: UndoDisk, place: UndoPlace): Promise<DiskUndo> {
  const { path, stable } = disk.info
  const directory = undoDirectory(place.stateDirectory, stable.names)
  const [group] = await listGroups(place.files, directory)
  if (group?.manifest.state !== 'open')
    throw new SyncError(
      'destination/undo',
      `the first connection keeps no undo journal of ${path}; nothing was written`,
      {
        operand: path,
      },
    )
  return new KeptUndo(disk, place, group, null)
}

type Found = { group: Group; isNew: boolean; older: readonly Group[]; warning: string | null }

async function findGroup(disk: UndoDisk, place: UndoPlace, directory: string): Promise<Found> {
  const { files, stateDirectory, filesBase } = place
  const { info, made } = disk
  let [newest, ...older] = await listGroups(files, directory)
  let warning: string | null = null
  if (newest !== undefined && isUnfinished(newest)) {
    const why = misfit(disk, newest)
    if (why !== null) {
      await voidGroup(files, newest)
      warning = `the undo journal of ${info.path} of ${newest.manifest.startedAt} no longer fits (${why}): there is no way back to before that run`
    } else if (await isBegun(files, newest, info.sizeBytes)) {
      const { runs, files: exact } = newest.manifest
      const group = await changeGroup(files, newest, { state: 'open', runs: runs + 1, files: exact })
      return { group, isNew: false, older, warning }
    } else {
      await removeGroup(files, newest)
      ;[newest, ...older] = older
    }
  }
  const about = {
    stable: info.stable,
    path: info.path,
    kind: info.kind,
    sizeBytes: made === 'nothing' ? info.sizeBytes : 0,
    made,
  }
  const group = await makeGroup(files, stateDirectory, directory, filesBase, about)
  return { group, isNew: true, older: newest === undefined ? older : [newest, ...older], warning }
}

/** Why a group that is not finished is not of this disk as it is, or null. */
function misfit({ info, made }: UndoDisk, { manifest }: Group): string | null {
  if (manifest.stable.machineId !== info.stable.machineId) return `it was kept on ${manifest.stable.hostName}`
  if (manifest.kind !== info.kind) return `it is of a ${manifest.kind}`
  if (info.sizeBytes < manifest.sizeBytes) return `the disk had ${manifest.sizeBytes} bytes`
  return made !== 'nothing' && manifest.made === 'nothing' ? 'the file was removed or emptied since' : null
}

/** True where the runs of a group may have changed the disk. */
async function isBegun(files: JournalFiles, group: Group, sizeBytes: number): Promise<boolean> {
  const { manifest } = group
  if (manifest.made !== 'nothing' || sizeBytes !== manifest.sizeBytes) return true
  return (await journalNames(files, group)).length > 0
}

class KeptUndo implements DiskUndo {
  readonly warnings: string[]
  readonly report: UndoReport
  readonly #disk: UndoDisk
  readonly #place: UndoPlace
  #older: readonly Group[]
  readonly #isFirst: boolean
  /** Made here and not begun: it goes when the disk is closed. */
  #isUnused: boolean
  #group: Group
  #isGrown = false

  constructor(
    disk: UndoDisk,
    place: UndoPlace,
    group: Group,
    first: { isNew: boolean; older: readonly Group[]; warnings: string[]; freeBytes: number } | null,
  ) {
    this.#disk = disk
    this.#place = place
    this.#group = group
    this.#older = place.keep === 'chain' ? [] : (first?.older ?? [])
    this.#isFirst = first !== null
    this.#isUnused = first?.isNew ?? false
    this.warnings = first?.warnings ?? []
    this.report = {
      group: group.manifest.group,
      path: group.manifest.filesIn,
      freeBytes: first?.freeBytes ?? 0,
      continues: first?.isNew === false,
    }
  }

  async begin(): Promise<void> {
    this.#isUnused = false
    return Promise.resolve()
  }

  preserver(disk: OldContent, leafBytes: number): Preserver {
    const { files, maxBytes, digesterOf } = this.#place
    const { group, runs, filesIn, sizeBytes } = this.#group.manifest
    this.#isGrown ||= disk.info.sizeBytes > sizeBytes
    return openPreserver(disk, leafBytes, {
      files,
      directory: filesIn,
      group,
      run: runs,
      sizeBytes,
      maxBytes,
      digesterOf,
      onFirst: () => this.#removeOlder(),
    })
  }

  async finish(): Promise<string | null> {
    if (!this.#isFirst) return null
    try {
      await this.#finish()
      return null
    } catch (error) {
      const { path } = this.#disk.info
      return `the undo journal of ${path} stays open: ${journalFailure(path, this.#group.directory, error).message}`
    }
  }

  async #finish(): Promise<void> {
    const { files } = this.#place
    const { manifest } = this.#group
    const names = await journalNames(files, this.#group)
    if (names.length === 0 && manifest.made === 'nothing' && !this.#isGrown) {
      // nothing was changed: what an older group leads back to is still one step away
      await removeGroup(files, this.#group)
      return
    }
    const exact = [...manifest.files]
    const prefix = `${String(manifest.runs).padStart(6, '0')}-`
    for (const name of names.filter((each) => each.startsWith(prefix)))
      exact.push({ name, bytes: await this.#sizeOf(name) })
    this.#group = await changeGroup(files, this.#group, { state: 'finished', files: exact })
    await this.#removeOlder()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isUnused) return
    this.#isUnused = false
    await removeGroup(this.#place.files, this.#group)
  }

  async #sizeOf(name: string): Promise<number> {
    const file = await this.#place.files.open(`${this.#group.manifest.filesIn}/${name}`)
    try {
      return (await file?.sizeBytes()) ?? 0
    } finally {
      await file?.close()
    }
  }

  /** One step back is kept; the groups before are only room on the disk now. In a chain there is none to be removed here. */
  async #removeOlder(): Promise<void> {
    const older = this.#older
    this.#older = []
    for (const group of older) await removeGroup(this.#place.files, group)
  }
}

/** Bytes that the files of a group take. */
export async function groupBytes(files: JournalFiles, { manifest }: Group): Promise<number> {
  return await directoryBytes(files, manifest.filesIn)
}
