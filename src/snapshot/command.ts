// Snapshots that a program of the user makes and removes: the disks go in by its environment, paths come out on its stdout.
// Refuses answers that are not one absolute path of a file or device for each disk. docs/replicate-config.md has the contract.

import type { Argv } from '../exec.js'
import type { Host, ProgramResult } from '../host/host.js'
import { alsoSaying, lastWords, runFor, snapshotFailure } from './failures.js'
import type { Cut, CutDisk, CutRequest, SnapshotMethod } from './snapshot.js'

export type SnapshotCommands = Readonly<{ create: Argv; remove: Argv; timeoutMs: number }>

/** A path has at most 4 KiB on Linux, and no job has so many disks. */
const MAX_PATHS_BYTES = 1 << 20

export function commandSnapshots(commands: SnapshotCommands): SnapshotMethod {
  const method: SnapshotMethod = {
    kind: 'command',
    cut: (host, request) => cut(commands, host, request),
    check: () => Promise.resolve(),
    remove: async (host, request, { disks }) => {
      const paths = disks.map(({ path }) => path)
      await runRemove(commands, host, request, { BLOCKSYNC_SNAPSHOTS: paths.join('\n') })
    },
    removeOrphans: (host, request) => removeOrphans(commands, host, request),
  }
  return method
}

async function cut(commands: SnapshotCommands, host: Host, request: CutRequest): Promise<Cut> {
  const takenAtMs = (await host.facts()).nowMs
  const begun = performance.now()
  let disks: readonly CutDisk[]
  try {
    const result = await ran(commands.create, commands, host, request, {})
    disks = await disksIn(result, commands.create, host, request)
  } catch (error) {
    // It may have made some of them: only the program itself knows which.
    await removeOrphans(commands, host, request).catch((left: unknown) => {
      throw alsoSaying(error, left)
    })
    throw error
  }
  const spreadMs = disks.length === 1 ? 0 : Math.ceil(performance.now() - begun)
  const kind = disks.length === 1 ? 'one-instant' : 'near'
  return { kind, takenAtMs, spreadMs, quiesced: 'no', disks, warnings: [] }
}

/** What it prints are the names of what it removed, one a line. */
async function removeOrphans(
  commands: SnapshotCommands,
  host: Host,
  request: CutRequest,
): Promise<readonly string[]> {
  const orphans = { BLOCKSYNC_SNAPSHOTS: '', BLOCKSYNC_ORPHANS: '1' }
  return linesOf(await runRemove(commands, host, request, orphans))
}

async function runRemove(
  commands: SnapshotCommands,
  host: Host,
  request: CutRequest,
  environment: Readonly<Record<string, string>>,
): Promise<ProgramResult> {
  const result = await ran(commands.remove, commands, host, request, environment)
  if (result.exitStatus !== 0)
    throw failed(commands.remove, host, request, `failed: ${lastWords(result, commands.remove[0])}`)
  return result
}

async function ran(
  argv: Argv,
  { timeoutMs }: SnapshotCommands,
  host: Host,
  { disks, job, owner, attempt }: CutRequest,
  more: Readonly<Record<string, string>>,
): Promise<ProgramResult> {
  const separated = disks.find((disk) => disk.includes('\n'))
  if (separated !== undefined)
    throw snapshotFailure(
      `${separated} has a line break in its path, and so cannot be told to ${argv[0]}`,
      separated,
      'Give that disk another path.',
    )
  const environment = {
    BLOCKSYNC_JOB: job,
    BLOCKSYNC_OWNER: owner,
    BLOCKSYNC_ATTEMPT: attempt,
    BLOCKSYNC_DISKS: disks.join('\n'),
    ...more,
  }
  // it may start what serves the snapshot: that must not keep the locks of this attempt
  const request = {
    argv,
    timeoutMs,
    environment,
    maxOutputBytes: MAX_PATHS_BYTES,
    leavesBehind: true,
  } as const
  return await runFor(disks[0] ?? job, host, request)
}

async function disksIn(
  result: ProgramResult,
  create: Argv,
  host: Host,
  request: CutRequest,
): Promise<readonly CutDisk[]> {
  if (result.exitStatus !== 0) throw failed(create, host, request, `failed: ${lastWords(result, create[0])}`)
  const paths = linesOf(result)
  if (paths.length !== request.disks.length)
    throw failed(create, host, request, `printed ${paths.length} paths for ${request.disks.length} disks`)
  const disks = request.disks.map((original, index) => ({ original, path: paths[index] ?? '' }))
  for (const { original, path } of disks) {
    if (!path.startsWith('/'))
      throw failed(create, host, request, `printed '${path}', which is no absolute path`)
    const facts = await host.look(path)
    if (facts?.kind !== 'file' && facts?.kind !== 'block')
      throw failed(create, host, request, `said that ${original} is at ${path}, where no file or device is`)
  }
  return disks
}

function linesOf({ stdout }: ProgramResult): readonly string[] {
  return stdout.split('\n').filter((line) => line !== '')
}

function failed(argv: Argv, host: Host, { disks }: CutRequest, what: string): Error {
  return snapshotFailure(
    `${argv[0]} on ${host.name} ${what}`,
    disks[0] ?? '',
    `Try it there with BLOCKSYNC_JOB, BLOCKSYNC_OWNER, BLOCKSYNC_ATTEMPT and BLOCKSYNC_DISKS set: ${argv.join(' ')}`,
  )
}
