// The proof of a replica: all of its disks is read and compared with what both ends agreed on, and on request a throw-away guest is
// started on them. Changes nothing on them but an attempt's half done work, which is taken back first.

import { posix } from 'node:path'

import type { BootChoice } from '../config/config.js'
import { SyncError, toSyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import { isReadOnly } from './access.js'
import { bootReplica, type Booted } from './boot.js'
import { bootDisks } from './disk-formats.js'
import type { JobState } from './job-state.js'
import { saveState } from './lead-back.js'
import { rootFits } from './proof.js'
import type { Generation, ReplicaRecord } from './record.js'
import { replicaDirectory } from './replica-file.js'
import { unstamped } from './replica-leaves.js'
import {
  generationFacts,
  type GenerationFacts,
  madeWhole,
  neededOnDisks,
  type ReplicaRequest,
  takeReplica,
} from './replicas.js'
import { changeJobState } from './state-file.js'

export type DrillRequest = ReplicaRequest &
  Readonly<{
    /** Null starts no guest. */
    boot: BootChoice | null
    /** Looked at between disks; a guest ends at its deadline. */
    signal: AbortSignal
    /** A clock that is not set back, ms. */
    clockMs: () => number
  }>

export type Drilled = Readonly<{
  job: string
  id: string
  host: string
  proved: GenerationFacts
  disks: readonly Readonly<{ path: string; algorithm: string; root: string }>[]
  /** Null where no guest was started. */
  boot: Booted | null
  durationMs: number
}>

/**
 * Holds the replica's lock: an attempt that is due meanwhile meets replicate/busy, and comes later. Rejects with
 * replicate/drill where a disk is not what the record says, or the guest does not come up; with replicate/refused for a
 * promoted replica, before the first generation, and for a disk that nobody says how to start from.
 */
export async function drill(request: DrillRequest): Promise<Drilled> {
  const { host, boot, signal, clockMs, onWarning } = request
  const startedMs = clockMs()
  const found = await takeReplica(request)
  const { job, id } = found
  if (found.state === 'promoted')
    throw new SyncError(
      'replicate/refused',
      `the replica of ${job} is promoted, and no copy of its source any more; nothing was read`,
      { operand: job, hint: `blocksync replicate reverse ${job} makes it the source of the job.` },
    )
  neededOnDisks(found, 'nothing was read')
  // an attempt that was killed left them writable; that is no news
  if (found.state === 'good') await sayWritable(host, found, onWarning)
  const { record, newest } = await madeWhole(request, found, 'read-only', 'nothing was proved')
  // what cannot be started is known before hours of reading
  const guestDisks = boot === null ? [] : await bootDisks(host, record, boot.format, onWarning)
  for (const [index, { path }] of record.disks.entries()) {
    signal.throwIfAborted()
    await prove(host, record, newest, path, index, onWarning)
  }
  signal.throwIfAborted()
  const booted =
    boot === null
      ? null
      : await bootReplica(
          {
            host,
            disks: guestDisks,
            boot,
            workDirectory: posix.join(await replicaDirectory(host, id), 'boot'),
          },
          clockMs,
        )
  return {
    job,
    id,
    host: host.name,
    proved: await generationFacts(host, newest),
    disks: record.disks.map(({ path }, index) => {
      const { algorithm = '', root = '' } = newest.disks[index]?.root ?? {}
      return { path, algorithm, root }
    }),
    boot: booted,
    durationMs: clockMs() - startedMs,
  }
}

async function prove(
  host: Host,
  record: ReplicaRecord,
  newest: Generation,
  path: string,
  index: number,
  onWarning: (text: string) => void,
): Promise<void> {
  const expected = newest.disks[index]?.root
  if (expected !== undefined && (await rootFits(host, path, expected))) return
  await forgetStamps(host, record, onWarning)
  throw new SyncError(
    'replicate/drill',
    `${printable(path)} on ${host.name} is not what generation ${newest.number} of ${record.job} was: ` +
      'somebody wrote to it, or its storage does not give back what it was given',
    {
      operand: printable(path),
      hint: `An attempt compares all of it and mends it: blocksync replicate run ${record.job} --now. Look for errors of that disk there (dmesg).`,
    },
  )
}

/** The next attempt is to read all of it, though nothing else says that it was written to. */
async function forgetStamps(
  host: Host,
  record: ReplicaRecord,
  onWarning: (text: string) => void,
): Promise<void> {
  const { nowMs } = await host.facts()
  try {
    await saveState(host, { ...record, disks: unstamped(record.disks) }, record.state, nowMs)
  } catch (thrown) {
    onWarning(`the next attempt may not compare all of it: ${toSyncError(thrown).message}`)
  }
}

/** Devices are writable again after a start of their host; that is mended, and it is worth knowing. */
async function sayWritable(
  host: Host,
  { disks }: ReplicaRecord,
  onWarning: (text: string) => void,
): Promise<void> {
  for (const { path } of disks)
    if ((await isReadOnly(host, path)) === false)
      onWarning(`${printable(path)} on ${host.name} was not marked read-only; it is now`)
}

/** What the controller keeps of a drill of its job, and of one that failed with replicate/drill. */
export async function recordDrill(
  stateDir: string,
  job: string,
  drilled: NonNullable<JobState['drill']>,
): Promise<void> {
  await changeJobState(stateDir, job, (state) => ({ ...state, drill: drilled }))
}
