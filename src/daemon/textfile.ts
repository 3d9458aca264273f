// The metrics as a file for node_exporter's textfile collector: there as a whole or not at all, readable by everybody. Refuses to
// stop anything: what keeps it from being written is said once, and again after it could be written in between.

import { randomBytes } from 'node:crypto'
import { open, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

import { errnoOf } from '../errors.js'
import { metricsText } from './metrics.js'
import type { Log } from './log.js'
import type { DaemonView } from './view.js'

/** The exporter runs as somebody else. */
const MODE = 0o644

/** Collectors read it every quarter of a minute; hundreds of jobs change more often than once a second. */
const LEAST_BETWEEN_MS = 1000

export type Textfile = AsyncDisposable &
  Readonly<{
    /** Resolves when what was so at the call is in the file, or was not to be written. Never rejects for the system. */
    write: () => Promise<void>
  }>

/**
 * Writes at once, and then whenever something changed, at most once a second, one write at a time. Disposing it writes what is
 * still owed; the file stays.
 */
export function openTextfile(path: string, view: DaemonView, log: Log): Textfile {
  let isWarned = false
  let isAgain = false
  let running: Promise<void> | null = null
  let pause: NodeJS.Timeout | null = null
  let isOwed = false

  async function once(): Promise<void> {
    try {
      await replace(path, metricsText(await view.metrics()))
      isWarned = false
    } catch (error) {
      if (!isWarned) log('warning', null, `the metrics were not written to ${path}: ${reason(error, path)}`)
      isWarned = true
    }
  }

  async function untilDone(): Promise<void> {
    do {
      isAgain = false
      await once()
    } while (isAgain)
    running = null
  }

  function request(): Promise<void> {
    isAgain = running !== null
    running ??= untilDone()
    return running
  }

  // neither waited for nor able to reject: once() says what happens
  const changed = (): void => {
    isOwed = pause !== null
    if (isOwed) return
    pause = setTimeout(() => {
      pause = null
      if (isOwed) changed()
    }, LEAST_BETWEEN_MS).unref()
    request().catch((error: unknown) => log('error', null, String(error)))
  }
  const forget = view.onChange(changed)
  changed()
  return {
    write: request,
    async [Symbol.asyncDispose]() {
      forget()
      if (pause !== null) clearTimeout(pause)
      await (isOwed ? request() : running)
    },
  }
}

/**
 * Not on stable storage before it is renamed: after a crash the next write mends it, and a flush of each would wake a disk all
 * day. The name beside begins with a dot and does not end in .prom, so the collector does not read it.
 */
async function replace(path: string, text: string): Promise<void> {
  const beside = join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString('hex')}`)
  try {
    {
      await using file = await open(beside, 'wx', MODE)
      // whatever the umask of a service is
      await file.chmod(MODE)
      await file.writeFile(text)
    }
    await rename(beside, path)
  } catch (error) {
    await removeIfThere(beside)
    throw error
  }
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (errnoOf(error) === null) throw error
  }
}

function reason(error: unknown, path: string): string {
  if (errnoOf(error) === 'ENOENT') return `the directory ${dirname(path)} is not there`
  return error instanceof Error ? error.message : String(error)
}
