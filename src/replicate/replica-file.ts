// The record of a replica on its own host: STATE/replica/ID/replica.json, read with every field checked, replaced whole or not at all.
// Refuses a record that is damaged or of another version: a disk may hang on it.

import { createHash } from 'node:crypto'
import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import { MAX_INPUT_BYTES, type Host } from '../host/host.js'
import { RecordError } from '../state/fields.js'
import { checkedReplica } from './record-check.js'
import type { ReplicaRecord } from './record.js'

/** What a machine is called by in the id of a replica. */
const MACHINE_DIGITS = 8
/** Two owners that are one by chance would have to have a job of one name and disks side by side, too. */
const OWNER_DIGITS = 8
const ID = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$/
const RECORD_MODE = 0o600
const LIST_TIMEOUT_MS = 30_000

/** Of the job of the machine that its configuration is on. A reversed one is on another host, and may not be the same one here. */
export function replicaId(job: string, machineId: string, direction: 'forward' | 'reversed'): string {
  return `${job}.${machineId.slice(0, MACHINE_DIGITS)}${direction === 'reversed' ? '.reversed' : ''}`
}

/**
 * Whose the snapshots of a job are, 8 hex digits: of the controller's machine, as replicas are called by it, and of its state
 * directory (absolute, symbolic links resolved), where the locks of its jobs are.
 */
export function snapshotOwner(machineId: string, stateDir: string): string {
  return createHash('sha256').update(`${machineId}\0${stateDir}`).digest('hex').slice(0, OWNER_DIGITS)
}

/** What an attempt, and whoever else uses a replica, takes on its host (Host.takeLock). */
export function replicaLock(id: string): string {
  return `replica-${id}`
}

/** Where the record of a replica and the definitions of its guest are; it need not be there. */
export async function replicaDirectory(host: Host, id: string): Promise<string> {
  return posix.join((await host.facts()).stateDirectory, 'replica', id)
}

/** Null where there is none. Rejects with replicate/record where it cannot be used. */
export async function readReplica(host: Host, id: string): Promise<ReplicaRecord | null> {
  const path = posix.join(await replicaDirectory(host, id), 'replica.json')
  const text = await host.readText(path, MAX_INPUT_BYTES)
  if (text === null) return null
  try {
    return checkedReplica(parsed(text), id)
  } catch (error) {
    if (!(error instanceof RecordError)) throw error
    throw new SyncError(
      'replicate/record',
      `the record of the replica ${id} on ${host.name} cannot be used: ${error.message}; nothing was written`,
      {
        operand: id,
        hint: `Look at ${path} there. Moved away, the next attempt begins anew, and older generations are lost to it.`,
      },
    )
  }
}

/** On stable storage when it resolves; its directory is made where it is missing. */
export async function saveReplica(host: Host, record: ReplicaRecord): Promise<void> {
  const directory = await replicaDirectory(host, record.id)
  await host.makeDirectories(directory)
  const path = posix.join(directory, 'replica.json')
  await host.writeText(path, `${JSON.stringify(record)}\n`, { mode: RECORD_MODE, existing: 'replace' })
}

/** Ids of all that are on this host. */
export async function listReplicas(host: Host): Promise<readonly string[]> {
  const directory = posix.join((await host.facts()).stateDirectory, 'replica')
  if ((await host.look(directory)) === null) return []
  const { exitStatus, stdout, stderrTail } = await host.run({
    argv: ['ls', '-1', directory],
    timeoutMs: LIST_TIMEOUT_MS,
  })
  if (exitStatus !== 0)
    throw new SyncError(
      'host/program',
      `${directory} on ${host.name} could not be listed: ${stderrTail.trim()}`,
      {
        operand: directory,
        hint: `Look there: ls -l ${directory}`,
      },
    )
  return stdout.split('\n').filter((name) => ID.test(name))
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new RecordError('it is no JSON', { cause: error })
  }
}
