// `blocksync status [DISK|HOST:DISK...]`: the pairs that are recorded on this host. Only reads. Exit status 1 where a disk
// was named and nothing is known of it.

import type { StableIdentity } from '../endpoint/endpoint.js'
import { EXIT } from '../errors.js'
import type { PairEnd, PairRecord } from '../state/record.js'
import type { CommandContext } from './context.js'
import { parseOperand, type ParsedOperand, refuse } from './operand.js'
import { formatBytes } from './units.js'

/** What the command asks of the rest of the program. */
export type StatusEngine = Readonly<{
  /** All records of this host, last used first. Rejects with state/unusable. */
  records: (
    stateDir: string | null,
  ) => Promise<Readonly<{ path: string; records: PairRecord[]; problems: string[] }>>
  /** Who the disk is that a path here leads to. */
  identify: (path: string, stateDir: string | null) => Promise<StableIdentity>
  /** Whether the process of a mark runs on this host. */
  isRunning: (process: string) => Promise<boolean>
}>

export type StatusFlags = { json?: true; stateDir?: string }

/** What the last run is. A mark is on the destination's host, and so is the process that it names. */
type RunState = 'finished' | 'running' | 'interrupted' | 'none'

type Row = Readonly<{ record: PairRecord; state: RunState }>

/** Lists; resolves with 0, or 1 where a disk is named of which nothing is known. Rejects with `usage` and state/unusable. */
export async function statusCommand(
  disks: readonly string[],
  flags: StatusFlags,
  context: CommandContext,
): Promise<number> {
  const { output } = context
  const stateDir = flags.stateDir ?? null
  const operands = disks.map((typed) => parseOperand(typed, context.names))
  const engine = await context.loadStatus()
  const { path, records, problems } = await engine.records(stateDir)
  for (const problem of problems) output.note(`blocksync: warning: ${problem}`)
  const filters = await Promise.all(operands.map((operand) => filterOf(operand, engine, stateDir)))
  const unknown = operands.filter((_, index) => !records.some((record) => filters[index]?.(record) === true))
  const chosen =
    filters.length === 0 ? records : records.filter((record) => filters.some((fits) => fits(record)))
  const rows = await Promise.all(
    onePerPair(chosen).map(async (record): Promise<Row> => ({
      record,
      state: await stateOf(record, engine),
    })),
  )
  if (flags.json === true) output.json({ event: 'status', stateDir: path, pairs: rows.map(jsonOf) })
  else {
    for (const row of rows) for (const line of linesOf(row)) output.line(line)
    if (rows.length === 0 && filters.length === 0) output.line(`no pair of disks is recorded in ${path}`)
  }
  for (const { typed } of unknown) output.note(`blocksync: no record of ${typed} in ${path}`)
  return unknown.length === 0 ? EXIT.ok : EXIT.different
}

type Filter = (record: PairRecord) => boolean

/** A local disk by its names or its path, also where it is gone; a far one by its host and path. */
async function filterOf(
  operand: ParsedOperand,
  engine: StatusEngine,
  stateDir: string | null,
): Promise<Filter> {
  const { at, path, typed } = operand
  if (path === null) throw refuse(typed, 'this is a host', `Write ${typed}:/path for a disk there.`)
  if (at.kind === 'remote') {
    const { host } = at
    return ({ peer }) => peer.stable.hostName.split('.')[0] === host.split('.')[0] && hasPath(peer, path)
  }
  const { machineId, names } = await engine.identify(path, stateDir)
  const isDisk = (end: PairEnd): boolean =>
    end.stable.machineId === machineId && (end.path === path || names.includes(end.stable.names[0] ?? ''))
  return ({ disk, peer }) => isDisk(disk) || isDisk(peer)
}

function hasPath({ path, stable }: PairEnd, wanted: string): boolean {
  return path === wanted || stable.names.includes(`path:${wanted}`)
}

/** Of two disks of this host both ends are here: the destination's record knows more. */
function onePerPair(records: readonly PairRecord[]): PairRecord[] {
  return records.filter(
    (record) =>
      record.role === 'destination' ||
      !records.some(({ pairId, role }) => pairId === record.pairId && role === 'destination'),
  )
}

async function stateOf({ finished, running }: PairRecord, { isRunning }: StatusEngine): Promise<RunState> {
  if (running !== null) return (await isRunning(running.process)) ? 'running' : 'interrupted'
  return finished === null ? 'none' : 'finished'
}

function ends({ role, disk, peer }: PairRecord): Readonly<{ source: string; destination: string }> {
  const isHere = disk.stable.machineId === peer.stable.machineId
  const here = disk.path
  const there = isHere ? peer.path : `${peer.stable.hostName}:${peer.path}`
  return role === 'source' ? { source: here, destination: there } : { source: there, destination: here }
}

function linesOf({ record, state }: Row): string[] {
  const { source, destination } = ends(record)
  const { finished, running, generation } = record
  const lines = [`${source} -> ${destination}`]
  if (finished !== null) {
    const { finishedAt, by, lengthBytes, algorithm, root } = finished
    lines.push(
      `  generation ${generation}, ${timeText(finishedAt)}, ${formatBytes(lengthBytes)}, by ${by.user}@${by.host} (${by.version})`,
      `  root ${root} (${algorithm})`,
    )
  }
  if (running !== null) {
    const { since, by } = running
    const what = state === 'running' ? 'running since' : 'interrupted: a run did not finish that began'
    lines.push(`  ${what} ${timeText(since)}, by ${by.user}@${by.host} (${by.version})`)
  }
  return lines
}

function jsonOf({ record, state }: Row): object {
  const { pairId, role, disk, peer, generation, finished, running } = record
  const { source, destination } = ends(record)
  return {
    pairId,
    source,
    destination,
    role,
    state,
    generation,
    disk: endOf(disk),
    peer: endOf(peer),
    finished,
    running: running === null ? null : { runId: running.runId, since: running.since, by: running.by },
  }
}

function endOf({ path, stable: { hostName, machineId, names } }: PairEnd): object {
  return { path, hostName, machineId, names }
}

/** Seconds of UTC. */
function timeText(iso: string): string {
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`
}
