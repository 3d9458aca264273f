// Whether disks are as they were: stamps of them are taken when the guest has stopped, and compared before its saved state
// is used. A saved guest holds no lock, and memory that does not fit its disks destroys both. Refuses what may not fit.

import { SyncError } from '../errors.js'
import { diskStamp, type FileFacts, type Host } from '../host/host.js'
import type { Copier } from './copier.js'
import type { RootFacts, Stamps } from './journal.js'

/** `volume`: its fence has deactivated it, and nothing is to be found at the path as long as that holds. */
export type StampedDisk = Readonly<{ target: string; path: string; volume?: string }>

/** As diskStamp has it; a device that does not count what is written has times, which say little. */
export function stampOf(facts: FileFacts): string {
  const { kind, identity, sizeBytes, modifiedNs, changedNs } = facts
  return diskStamp(facts) ?? `${kind} ${identity} ${sizeBytes} ${modifiedNs} ${changedNs}`
}

/** Rejects with migrate/stopped where a disk is not there. */
export async function takeStamps(host: Host, disks: readonly StampedDisk[]): Promise<Stamps> {
  const stamps = await Promise.all(
    disks.map(async (disk) => [disk.target, (await stampNow(host, disk)).stamp] as const),
  )
  return Object.fromEntries(stamps)
}

/** What is not active cannot be written to: that is its stamp. LVM does not count how often it was, so nor do we. */
async function stampNow(
  host: Host,
  { path, volume }: StampedDisk,
): Promise<{ stamp: string; facts: FileFacts | null }> {
  if (volume !== undefined && (await host.look(path)) === null)
    return { stamp: `inactive ${volume}`, facts: null }
  const facts = await lookAt(host, path)
  return { stamp: stampOf(facts), facts }
}

export async function lookAt(host: Host, path: string): Promise<FileFacts> {
  const facts = await host.look(path)
  if (facts === null)
    throw new SyncError('migrate/stopped', `${path} on ${host.name} is not there any more`, { operand: path })
  return facts
}

/** Targets whose stamps are not those of before; all where nothing of before is known. */
export async function changedSince(
  host: Host,
  disks: readonly StampedDisk[],
  before: Stamps | null,
): Promise<StampedDisk[]> {
  const now = await takeStamps(host, disks)
  return disks.filter(({ target }) => before === null || before[target] !== now[target])
}

export type FitRequest = Readonly<{
  source: Host
  copier: Copier
  disks: readonly StampedDisk[]
  stamps: Stamps | null
  roots: Readonly<Record<string, RootFacts>>
  /** Of the saved state: where no stamp could be taken, no file may be younger. Null where there is none. */
  savedNs: string | null
  /** The host has been up since the guest stopped. */
  sameBoot: boolean
}>

/** File times come from a clock that ticks every few ms; a guest writes nothing any more while its memory is written. */
const CLOCK_TICK_NS = 20_000_000n

/**
 * Rejects with migrate/stuck where a disk here was, or may have been, written to since the guest stopped. Where its stamp
 * differs (a protection that came and went changes it, too) its digest is compared with the root of the last pass.
 * Without stamps, since the run ended in the instant between the save and its record, files are judged by their times;
 * devices have none, and are believed in the boot in which the guest was saved.
 */
export async function checkDisksFit(request: FitRequest): Promise<void> {
  const { source, copier, disks, stamps, roots, savedNs, sameBoot } = request
  const never = new AbortController().signal
  for (const disk of disks) {
    const { stamp, facts } = await stampNow(source, disk)
    if (stamps?.[disk.target] === stamp) continue
    if (facts === null)
      throw unfit(disk, 'it is a volume that is not active, and was not when that was noted')
    const root = roots[disk.target]
    if (root !== undefined) {
      if (facts.sizeBytes === root.lengthBytes && (await copier.digest(disk.path, root, never)) === root.root)
        continue
      throw unfit(disk, 'its content is not what it was')
    }
    if (stamps !== null) throw unfit(disk, 'it was touched since, and no digest of it is known')
    const isOlder =
      facts.written === null
        ? savedNs !== null && BigInt(facts.modifiedNs) <= BigInt(savedNs) + CLOCK_TICK_NS
        : sameBoot
    if (!isOlder) throw unfit(disk, 'it may have been written to since')
  }
}

function unfit({ target, path }: StampedDisk, why: string): SyncError {
  return new SyncError(
    'migrate/stuck',
    `the saved memory of the guest does not fit its disk ${target} (${path}) any more: ${why}; nothing was started`,
    {
      operand: path,
      hint: 'Who wrote to it? Start the guest by hand to boot it from its disks; its saved memory is lost then.',
    },
  )
}
