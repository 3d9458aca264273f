// A run without --undo over a disk that has an undo journal: it says what is given up, and marks the journal as void before
// the first write. Refuses nothing but to write where that could not be marked.

import { journalFailure } from './failures.js'
import type { JournalFiles } from './files.js'
import { isUnfinished, listGroups, setBrokenAside, sweep, voidGroup } from './groups.js'
import { type DiskUndo, undoDirectory, type UndoDisk, type UndoPlace } from './journal.js'
import type { Group } from './manifest.js'

/** For a run without --undo: null where there is no journal that it would make useless. */
export async function voidUndo(disk: UndoDisk, place: UndoPlace): Promise<DiskUndo | null> {
  const { files, stateDirectory } = place
  const directory = undoDirectory(stateDirectory, disk.info.stable.names)
  const warnings = await setBrokenAside(files, directory)
  // old content of a group that was being removed when the machine or the process stopped takes room
  await sweep(files, directory)
  const groups = (await listGroups(files, directory)).filter(({ manifest }) => manifest.state !== 'void')
  if (groups.length === 0 && warnings.length === 0) return null
  return new VoidedUndo(disk, files, groups, warnings)
}

class VoidedUndo implements DiskUndo {
  readonly warnings: readonly string[]
  readonly report = null
  readonly #files: JournalFiles
  readonly #path: string
  #groups: readonly Group[]

  constructor(
    { info }: UndoDisk,
    files: JournalFiles,
    groups: readonly Group[],
    warnings: readonly string[],
  ) {
    this.#files = files
    this.#path = info.path
    this.#groups = groups
    const unfinished = groups.find(isUnfinished)
    const [newest] = groups
    const lost =
      unfinished === undefined
        ? `to before the run of ${newest?.manifest.startedAt ?? 'before'}`
        : `to before the run of ${unfinished.manifest.startedAt}, which did not finish`
    this.warnings =
      newest === undefined
        ? warnings
        : [
            ...warnings,
            `${info.path} has an undo journal; this run keeps none, so the way back ${lost} is given up`,
          ]
  }

  async begin(): Promise<void> {
    const groups = this.#groups
    this.#groups = []
    try {
      for (const group of groups) await voidGroup(this.#files, group)
    } catch (error) {
      throw journalFailure(this.#path, 'its directory', error)
    }
  }

  preserver(): null {
    return null
  }

  async finish(): Promise<null> {
    return Promise.resolve(null)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve()
  }
}
