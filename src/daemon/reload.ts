// The configuration in force: read, checked, and kept as copies that attempts are started with, so that a file somebody is just
// writing to breaks none. Refuses what cannot be loaded; then the one before stays.

import { mkdir, readdir, realpath, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'

import type { Config } from '../config/config.js'
import { errnoOf, SyncError } from '../errors.js'
import { openSchedule, type NextRun } from '../replicate/schedule.js'
import { readPlainFile, syncDirectory, writeAtomically } from '../state/atomic-file.js'
import { stateUnusable, subdirectory } from '../state/directory.js'

/** Below the state of replicate; one directory for each configuration that was in force. A job's name cannot begin with a dot. */
const COPIES = '.config'
/** As the loader has it. */
const MAX_CONFIG_FILE_BYTES = 1 << 20
/** An attempt that was just started may still read the copies of the configuration before. */
const KEPT_COPIES = 2

export type LoadConfig = (paths: readonly string[] | null) => Promise<Config>

export type Loaded = Readonly<{
  config: Config
  /** To be given to attempts, in order. */
  files: readonly string[]
  next: NextRun
  /** ISO 8601, UTC. */
  loadedAt: string
}>

/**
 * Reads the configuration and copies its files. What is copied is loaded once more, so what attempts get is what was checked.
 * Rejects with config/* and state/unusable; then nothing has changed.
 */
export async function loadAndKeep(
  paths: readonly string[] | null,
  load: LoadConfig,
  stateDir: string,
  nowMs: number,
): Promise<Loaded> {
  const original = await load(paths)
  const files = await copies(original.files, stateDir)
  const config = await load(files)
  await removeOld(stateDir)
  const loadedAt = new Date(nowMs).toISOString()
  return {
    config: { ...config, files: original.files },
    files,
    next: await openSchedule(config.jobs),
    loadedAt,
  }
}

async function copies(files: readonly string[], stateDir: string): Promise<string[]> {
  const base = join(stateDir, 'replicate', COPIES)
  try {
    await subdirectory(stateDir, 'replicate', COPIES)
    const last = Math.max(0, ...(await numbers(base)))
    const directory = join(base, String(last + 1))
    await mkdir(directory, { mode: 0o700 })
    const paths: string[] = []
    for (const [index, path] of files.entries()) {
      // many administrators have links in /etc; what they lead to is read
      const text = await readPlainFile(await realpath(path), MAX_CONFIG_FILE_BYTES)
      if (text === null) throw changed(path)
      const copy = join(directory, `${String(index).padStart(2, '0')}-${basename(path)}`)
      await writeAtomically(copy, text)
      paths.push(copy)
    }
    await syncDirectory(base)
    return paths
  } catch (error) {
    if (error instanceof RangeError) throw changed(error.message)
    if (error instanceof SyncError || errnoOf(error) === null) throw error
    throw stateUnusable(
      `${base} cannot be written (${errnoOf(error)})`,
      base,
      'the configuration was not taken over',
    )
  }
}

async function removeOld(stateDir: string): Promise<void> {
  const base = join(stateDir, 'replicate', COPIES)
  const old = (await numbers(base)).toSorted((a, b) => b - a).slice(KEPT_COPIES)
  for (const number of old) await rm(join(base, String(number)), { recursive: true, force: true })
}

async function numbers(base: string): Promise<number[]> {
  return (await readdir(base)).flatMap((name) => (/^[1-9]\d{0,14}$/.test(name) ? [Number(name)] : []))
}

function changed(what: string): SyncError {
  return new SyncError(
    'config/invalid',
    `${what} was changed while it was read; the configuration was not taken over`,
    {
      operand: what,
      hint: 'Reload it again.',
    },
  )
}
