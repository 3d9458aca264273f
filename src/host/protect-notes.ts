// How disks were before they were protected, on disk before anything is done to them: STATE/protected/TAG.json. A run that
// was killed asks again, and then gets what it would have been told. Refuses a file that is not one of these.

import { unlink } from 'node:fs/promises'
import { join } from 'node:path'

import { errnoOf } from '../errors.js'
import { readSmallFile, syncDirectory, writeAtomically } from '../state/atomic-file.js'
import { fileFailure, fileRefusal } from './failures.js'
import type { ProtectedVolume, Protection } from './host.js'

export type ProtectNote = Readonly<{
  /** The path as it was asked for; it may lead through links that lead nowhere once the file is renamed. */
  asked: string
  path: string
  before: Protection['before']
  /** How a volume of LVM was before it was deactivated. */
  volume?: ProtectedVolume
}>

export class ProtectNotes {
  readonly #directory: () => Promise<string>
  /** One change after the other; never rejects. */
  #last: Promise<unknown> = Promise.resolve()

  /** `directory` resolves with where they are. */
  constructor(directory: () => Promise<string>) {
    this.#directory = directory
  }

  /** By the path as it was asked for, or the one that it led to. */
  async find(tag: string, path: string): Promise<ProtectNote | null> {
    const notes = await this.#read(await this.#pathOf(tag))
    return notes.find((note) => note.asked === path || note.path === path) ?? null
  }

  /** On stable storage when it resolves. */
  async put(tag: string, note: ProtectNote): Promise<void> {
    await this.#change(tag, (notes) => [...notes.filter(({ path }) => path !== note.path), note])
  }

  async forget(tag: string, path: string): Promise<void> {
    await this.#change(tag, (notes) => notes.filter((note) => note.path !== path))
  }

  async #change(
    tag: string,
    change: (notes: readonly ProtectNote[]) => readonly ProtectNote[],
  ): Promise<void> {
    const changed = this.#last.then(async () => {
      const path = await this.#pathOf(tag)
      const notes = change(await this.#read(path))
      try {
        await (notes.length === 0 ? remove(path) : writeAtomically(path, `${JSON.stringify(notes)}\n`))
      } catch (error) {
        throw fileFailure(path, 'written', error)
      }
    })
    this.#last = changed.catch(() => undefined) // told to whoever asked for it
    await changed
  }

  async #pathOf(tag: string): Promise<string> {
    return join(await this.#directory(), `${tag}.json`)
  }

  async #read(path: string): Promise<readonly ProtectNote[]> {
    try {
      const text = await readSmallFile(path)
      const notes: unknown = text === null ? [] : JSON.parse(text)
      if (Array.isArray(notes) && notes.every(isNote)) return notes
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof RangeError))
        throw fileFailure(path, 'read', error)
    }
    throw fileRefusal(
      path,
      `${path} does not say how disks were before they were protected`,
      'Move it away; then what is protected now counts as protected before.',
    )
  }
}

function isNote(value: unknown): value is ProtectNote {
  if (typeof value !== 'object' || value === null) return false
  const { asked, path, before, volume } = value as Record<string, unknown>
  return (
    typeof asked === 'string' &&
    typeof path === 'string' &&
    (before === 'writable' || before === 'protected') &&
    (volume === undefined || isVolume(volume))
  )
}

function isVolume(value: unknown): value is ProtectedVolume {
  if (typeof value !== 'object' || value === null) return false
  const { name, skipped } = value as Record<string, unknown>
  return typeof name === 'string' && (skipped === 'yes' || skipped === 'no')
}

async function remove(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return
    throw error
  }
  await syncDirectory(join(path, '..'))
}
