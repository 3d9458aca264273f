// What a process knows of the state on its host: who the machine is, who its disks are, and what was recorded of them. A
// directory that cannot be used, or a record that cannot be written, is a sentence in `problems`; a run goes on without.

import type { BigIntStats } from 'node:fs'
import { stat } from 'node:fs/promises'
import { userInfo } from 'node:os'

import type { StableIdentity } from '../endpoint/endpoint.js'
import { stableNames } from '../endpoint/stable.js'
import { errnoOf } from '../errors.js'
import { printable } from '../printable.js'
import { packageVersion } from '../version.js'
import { openStateDirectory, type StateDirectory } from './directory.js'
import { forgetWritten, loadRecords, overtake, saveRecord } from './disk-records.js'
import { ownHostName, ownMachineId } from './machine.js'
import { fitOf } from './match.js'
import type { PairRecord, RunBy } from './record.js'

/** Records of one disk with one other that may be of use: the pair's own, and a few that do not fit any more. */
export const MAX_MATCHING = 4

export class HostState {
  /** Where it is, or would be. */
  readonly path: string
  readonly #machineId: string
  #prepared: Promise<StateDirectory> | null = null

  private constructor(path: string, machineId: string) {
    this.path = path
    this.#machineId = machineId
  }

  /** The state at `path` (statePath). Nothing is made there before it is needed. */
  static async open(path: string): Promise<HostState> {
    const machineId = await ownMachineId(async () => (await openStateDirectory(path, 'write')).path)
    return new HostState(path, machineId)
  }

  /** Makes and checks the directory, once; resolves with why it cannot be used, or null. */
  async prepare(): Promise<string | null> {
    this.#prepared ??= openStateDirectory(this.path, 'write')
    return (await this.#prepared).why
  }

  /** Who the disk is that `path` leads to; `facts` as of stableNames. */
  async identify(path: string, facts: BigIntStats | null): Promise<StableIdentity> {
    return { ...this.self, names: await stableNames(path, facts) }
  }

  /** The same before anything is opened, of whatever is there now. */
  async identifyPath(path: string): Promise<StableIdentity> {
    return await this.identify(path, await statIfThere(path))
  }

  /** This host in an identity without a disk. */
  get self(): Omit<StableIdentity, 'names'> {
    return { machineId: this.#machineId, hostName: ownHostName() }
  }

  /** What is recorded of `disk` and `peer`, also where the peer's disk no longer fits; last used first. */
  async recordsOf(
    disk: StableIdentity,
    peer: StableIdentity,
  ): Promise<Readonly<{ records: PairRecord[]; problems: string[] }>> {
    const directory = await openStateDirectory(this.path, 'read')
    if (directory.path === null) return { records: [], problems: directory.isMissing ? [] : [directory.why] }
    try {
      const { records, problems } = await loadRecords(this.path, disk)
      const matching = records.filter((record) => fitOf(record.peer.stable, peer).kind !== 'other')
      return { records: matching.slice(0, MAX_MATCHING), problems }
    } catch (error) {
      return { records: [], problems: [`pair records in ${this.path} cannot be read: ${reason(error)}`] }
    }
  }

  /** Writes a record; resolves with why it could not, or null. */
  async save(record: PairRecord, replaces: readonly string[] = []): Promise<string | null> {
    const why = await this.prepare()
    if (why !== null) return `${why}; no record of the pair is kept here`
    try {
      await saveRecord(this.path, record, replaces)
      return null
    } catch (error) {
      return `no pair record was written in ${this.path}: ${reason(error)}`
    }
  }

  /**
   * Before `disk` is written by who is not of `pairId` (null: by an undo): runs of others that did not finish are no longer
   * gone on with. Resolves with why that could not be marked, or null.
   */
  async overtake(disk: StableIdentity, pairId: string | null): Promise<string | null> {
    const directory = await openStateDirectory(this.path, 'read')
    if (directory.path === null) return directory.isMissing ? null : directory.why
    try {
      await overtake(this.path, disk, pairId)
      return null
    } catch (error) {
      return `the pair records in ${this.path} still say that an earlier run may go on: ${reason(error)}`
    }
  }

  /** Forgets the runs that wrote to `disk` since then, which were undone; resolves with why it could not, or null. */
  async forgetUndone(disk: StableIdentity, since: string): Promise<string | null> {
    const directory = await openStateDirectory(this.path, 'read')
    if (directory.path === null) return directory.isMissing ? null : directory.why
    try {
      await forgetWritten(this.path, disk, since)
      return null
    } catch (error) {
      return `the pair record in ${this.path} still names the run that was undone: ${reason(error)}`
    }
  }
}

/** Who runs this: as it stands in records. */
export function ownRunBy(): RunBy {
  return { user: ownUser(), host: ownHostName(), version: packageVersion() }
}

function ownUser(): string {
  try {
    return printable(userInfo().username).slice(0, 64)
  } catch (error) {
    // a uid without a name
    if (errnoOf(error) === null) throw error
    return `uid ${process.getuid?.() ?? '?'}`
  }
}

/** errno, or what a defect says. */
function reason(error: unknown): string {
  const errno = errnoOf(error)
  if (errno === null) throw error
  return errno
}

async function statIfThere(path: string): Promise<BigIntStats | null> {
  try {
    return await stat(path, { bigint: true })
  } catch (error) {
    if (errnoOf(error) === null) throw error
    return null
  }
}
