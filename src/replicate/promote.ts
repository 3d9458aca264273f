// A replica is given to people: led back to its newest generation where an attempt did not finish, marked, and made writable. Works
// on its host without a configuration. Refuses while an attempt has it, while the source lives, and before the first generation.

import { SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import { printable } from '../printable.js'
import { setWritable } from './access.js'
import { sourceLife, type Knock, type SourceLife } from './alive.js'
import { writeDefinition } from './definition.js'
import { saveState } from './lead-back.js'
import type { ReplicaRecord } from './record.js'
import {
  type Agree,
  generationFacts,
  type GenerationFacts,
  madeWhole,
  neededOnDisks,
  type ReplicaRequest,
  takeReplica,
} from './replicas.js'

export type PromoteRequest = ReplicaRequest &
  Readonly<{
    /** `force`: also where the source answers, or cannot be asked. */
    sourceAlive: 'refuse' | 'force'
    agree: Agree
    /** Of the host that this process runs on: which the source may be. */
    ownMachineId: string
    /** For tests; absent is TCP. */
    knock?: Knock
  }>

export type Promoted = Readonly<{
  job: string
  id: string
  host: string
  /** `promoted`: it was before. What had been left undone then is done now; nothing else is. */
  was: 'replica' | 'promoted'
  newest: GenerationFacts
  disks: readonly string[]
  /** Where the guest's definition for this host is; null where none is known. */
  definition: string | null
  /** Programs to type, in order: none where no guest is known. */
  commands: readonly Argv[]
}>

const NOT_PROMOTED = 'it was not promoted'

/**
 * Order: what was written by half is taken back, then the record says `promoted`, then the disks become writable. Whenever it
 * ends in between, no attempt writes to disks that a person was told of, and typing it again goes on.
 * Rejects with replicate/unknown, replicate/busy, replicate/refused, and with what taking back rejects with.
 */
export async function promote(request: PromoteRequest): Promise<Promoted> {
  const { host, onWarning } = request
  const found = await takeReplica(request)
  const newest = neededOnDisks(found, NOT_PROMOTED)
  const facts = await generationFacts(host, newest)
  const was = found.state === 'promoted' ? 'promoted' : 'replica'
  if (was === 'replica') {
    await refuseLiving(request, found)
    await request.agree(
      [
        `${found.job} on ${host.name}: generation ${facts.generation}, taken ${facts.takenAt}, ${facts.consistency}`,
        `what the source wrote in the ${facts.ageSeconds} s since then is not in it`,
        ...found.disks.map(({ path }) => `  ${path}`),
      ],
      `Promote the replica of ${found.job}? No attempt writes to it any more then.`,
    )
    const { record } = await madeWhole(request, found, 'read-only', NOT_PROMOTED)
    const { nowMs } = await host.facts()
    await saveState(host, record, 'promoted', nowMs)
  }
  for (const { path } of found.disks) {
    if ((await host.look(path)) === null) onWarning(`${printable(path)} is not there`)
    await setWritable(host, path)
  }
  const { path, commands } = await writeDefinition(host, found, onWarning)
  return {
    job: found.job,
    id: found.id,
    host: host.name,
    was,
    newest: facts,
    disks: found.disks.map((disk) => disk.path),
    definition: path,
    commands,
  }
}

/** Two guests of one would write from then on, and one of them would lose what it wrote. */
async function refuseLiving(request: PromoteRequest, { job, source }: ReplicaRecord): Promise<void> {
  const { sourceAlive, ownMachineId, knock, onWarning } = request
  const life = await sourceLife({ source, ownMachineId, ...(knock === undefined ? {} : { knock }) })
  if (life.is === 'dead') return
  if (sourceAlive === 'force') {
    onWarning(`the source ${life.why}: nothing may write to it any more`)
    return
  }
  throw new SyncError('replicate/refused', `the source ${life.why}; ${job} was not promoted`, {
    operand: job,
    hint: hintFor(life, job),
  })
}

function hintFor({ is }: SourceLife, job: string): string {
  const then = `type --force-source-alive when nothing writes to its disks any more`
  return is === 'alive'
    ? `Stop the guest there, let a last attempt run (blocksync replicate run ${job} --now), and ${then}.`
    : `Make sure that it is down, and ${then}.`
}
