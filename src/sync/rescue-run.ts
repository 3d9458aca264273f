// A run over bad sectors (--rescue), as a whole: its map is looked at before anything is opened, written when the disk is
// done, and what could not be read becomes how the run ends. Refuses several disks.

import { SyncError } from '../errors.js'
import type { SyncOptions } from '../options.js'
import type { OpenPair } from './disk-pass.js'
import type { DiskPair, RunHooks, RunReport } from './report.js'
import type { RescueMap } from './rescue-map.js'

/** Null where a bad sector ends the run. Rejects with `usage` where the map cannot be written. */
export async function openRescue(
  { rescue }: SyncOptions,
  push: boolean,
  hooks: RunHooks,
): Promise<RescueRun | null> {
  if (rescue === null) return null
  const { RescueMap } = await import('./rescue-map.js')
  return new RescueRun(await RescueMap.open(rescue), push, hooks)
}

export class RescueRun {
  readonly #map: RescueMap
  readonly #push: boolean
  readonly #hooks: RunHooks

  constructor(map: RescueMap, push: boolean, hooks: RunHooks) {
    this.#map = map
    this.#push = push
    this.#hooks = hooks
  }

  /** Before anything is written. Throws `usage` where the map that is there is that of another disk. */
  check(open: OpenPair): void {
    const { path, earlier } = this.#map
    this.#map.check(open.pair.source.typed, this.#sourceBytes(open))
    if (earlier !== null)
      this.#hooks.onDetail?.(`${path}: ${earlier.badBytes} bytes were bad before; they are tried again`)
  }

  /** The disk is done: its map is on stable storage when it resolves. Rejects with rescue/write. */
  async done(open: OpenPair): Promise<void> {
    await this.#map.write({
      source: open.pair.source.typed,
      sizeBytes: this.#sourceBytes(open),
      lengthBytes: open.size.lengthBytes,
      unreadable: open.meter.report().unreadable?.ranges ?? [],
    })
  }

  #sourceBytes({ near, far }: OpenPair): number {
    return this.#push ? near.info.sizeBytes : far.sizeBytes
  }
}

/** A map is of one disk. */
export function checkRescue(pairs: readonly DiskPair[], { rescue }: SyncOptions): void {
  if (rescue === null || pairs.length === 1) return
  throw new SyncError(
    'usage',
    `--rescue is for one disk, and ${pairs.length} were named; nothing was opened`,
    {
      operand: '--rescue',
      hint: 'Run it once for each disk, with a map of its own.',
    },
  )
}

/** What ends a run that has done all that could be done: null where all of the source could be read. */
export function unreadable({ disks }: RunReport, { mode }: SyncOptions): SyncError | null {
  const disk = disks.find((each) => (each.unreadable?.bytes ?? 0) > 0)
  if (disk === undefined || disk.unreadable === null) return null
  const { bytes, ranges, mapfile } = disk.unreadable
  const places = ranges.length === 1 ? 'one place' : `${ranges.length} places`
  const instead =
    mode === 'write'
      ? `${disk.destination} keeps there what it had, and has all the rest`
      : 'they were not compared'
  return new SyncError(
    'source/unreadable',
    `${bytes} bytes of the source ${disk.source} could not be read, in ${places}: ${instead}`,
    {
      operand: disk.source,
      hint: `${mapfile} lists them, for ddrescue too. Run the same command again to try them once more.`,
    },
  )
}
