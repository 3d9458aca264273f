// From what was typed and what both hosts say to a plan that can be printed, written down and run. Looks at both hosts and
// changes nothing on either; whatever would refuse the migration is in the plan, and only unanswered questions reject.

import { randomBytes } from 'node:crypto'
import { posix } from 'node:path'

import type { Host } from '../host/host.js'
import type { DefinitionChanges, Driver, DriverFacts, Guest, MigrateMode } from '../hypervisor/driver.js'
import { classifyDisk } from './classify.js'
import type { Classified } from './fates.js'
import { commandsOf } from './commands.js'
import { unifiedDiff } from './diff.js'
import { estimate, measureRate, type Clock } from './estimate.js'
import { sshUri, type Login } from './live-uri.js'
import { choicesFor, type Choices, type Chosen } from './map.js'
import { oldFenceOf, type OldFence } from './old-fence.js'
import type { Create } from './place.js'
import type { MigrateOptions, Plan, PlannedConnection, PlannedFile, PlanProblem } from './plan.js'
import { preflight, type Ends, type OpenMigration } from './preflight.js'
import { isSameDisk } from './shared.js'

export type PlanRequest = Readonly<{
  /** Of newMigrationId. */
  id: string
  guest: string
  /** The destination as it was typed, for messages. */
  typedHost: string
  login: Login
  /** Options of the command line about the way there, for later. */
  connection: PlannedConnection
  /** A private key for it that virsh is to use, too. */
  identity: string | null
  /** How virsh here reaches the destination, where somebody said so. */
  uriFromSource: string | null
  /** `auto`: warm for a guest that runs, cold for one that is off. */
  mode: MigrateMode | 'auto'
  chosen: Chosen
  create: Create
  /** Takes the place of the guest's own definition; null where its own is meant. */
  definition: string | null
  /** Most bytes a second; null where there is no limit. */
  bytesPerSecond: number | null
  options: Omit<MigrateOptions, 'mode'>
}>

export type PlanParts = Readonly<{
  source: Host
  destination: Host
  sourceDriver: Driver
  destinationDriver: Driver
  /** What journals of a host say of migrations that are not over. */
  openMigrations: (host: Host) => Promise<readonly OpenMigration[]>
  /** IDs of those that left something at a destination that could not be asked. */
  leftBehind: (host: Host) => Promise<readonly string[]>
  clock: Clock
}>

/** Content at the destination that the migration would overwrite: who runs it has to agree. */
export type Overwrite = Readonly<{ target: string; path: string; what: string }>

/**
 * `cameFromThere`: the destination keeps the fence of this guest's move from there to here. `leftovers`: migrations of the
 * guest that were put back here, and that the destination has not heard of yet; they are cleaned up before this one begins.
 */
export type Planned = Readonly<{
  plan: Plan
  overwrites: readonly Overwrite[]
  cameFromThere: 'yes' | 'no'
  leftovers: readonly string[]
}>

const ID_RANDOM_BYTES = 3

/** A name that sorts by day and is short enough to type: '20260102-4f09ac'. */
export function newMigrationId(now: Date): string {
  return `${now.toISOString().slice(0, 10).replaceAll('-', '')}-${randomBytes(ID_RANDOM_BYTES).toString('hex')}`
}

/**
 * Plans one migration. Rejects with migrate/guest where there is no such guest, migrate/daemon where a hypervisor cannot be
 * asked, host/* where a host cannot; everything else is among the plan's problems.
 */
export async function makePlan(request: PlanRequest, parts: PlanParts): Promise<Planned> {
  const { source, destination, sourceDriver, destinationDriver } = parts
  const [guest, hypervisors] = await Promise.all([
    sourceDriver.describe(request.guest),
    Promise.all([sourceDriver.facts(), destinationDriver.facts()]),
  ])
  const ends = await endsOf(parts)
  const options: MigrateOptions = { ...request.options, mode: modeOf(request.mode, guest) }
  const choices = choicesFor(guest, request.chosen)
  const [fencesHere, fence] = await Promise.all([
    sourceDriver.fences(),
    oldFenceOf(destination, destinationDriver, guest.uuid),
  ])
  const ground = {
    source,
    destination,
    bootIds: { source: ends.facts.source.bootId, destination: ends.facts.destination.bootId },
    mode: options.mode,
    choices,
    create: request.create,
    fence,
  }
  const disks: Classified[] = []
  for (const disk of guest.disks) disks.push(await classifyDisk(disk, ground))
  // live, QEMU hands them over itself
  const { files, problems: fileProblems } =
    options.mode === 'live' ? { files: [], problems: [] } : await plannedFiles(guest, choices, fence, ends)
  const changes = changesOf(guest, disks, choices, request.definition)
  const definitions = definitionsOf(guest, changes, request, sourceDriver)
  const hostProblems = await destinationDriver.checkFor(guest, definitions.running, changes)
  const open = uniqueOpen((await Promise.all([source, destination].map(parts.openMigrations))).flat())
  const behind = await parts.leftBehind(source)
  const leftovers = open
    .filter(({ id, uuid }) => uuid === guest.uuid && behind.includes(id))
    .map(({ id }) => id)
  const statePaths = statePathsOf(request.id, ends)
  const found = await preflight({
    guest,
    options,
    hasLive: sourceDriver.live === null ? 'no' : 'yes',
    ends,
    disks,
    files,
    hostProblems,
    open,
    leftovers,
    leftHere:
      fencesHere.find(({ uuid, guest: name }) => uuid === guest.uuid && guest.name !== name)?.id ?? null,
    statePaths,
  })
  const measured = await measureRate(destination, parts.clock)
  const planned = disks.map(({ disk }) => disk)
  const isSaved = options.mode === 'warm'
  const body: Omit<Plan, 'commands'> = {
    version: 1,
    id: request.id,
    hypervisor: sourceDriver.kind,
    guest,
    options,
    from: end(ends.facts.source, hypervisors[0]),
    to: destinationEnd(request, ends, hypervisors[1]),
    connection: request.connection,
    disks: planned,
    files,
    sourceStatePath: isSaved ? statePaths.source : null,
    destinationStatePath: isSaved ? statePaths.destination : null,
    destinationDefinition: definitions.running,
    destinationPersistentDefinition: definitions.persistent,
    definitionDiff: unifiedDiff(
      `${guest.name} on ${source.name}`,
      `${guest.name} on ${request.typedHost}`,
      guest.definition,
      definitions.running,
    ),
    estimate: estimate({
      mode: options.mode,
      state: guest.state,
      disks: planned,
      files,
      memoryBytes: guest.memoryBytes,
      bytesPerSecond: slower(measured, request.bytesPerSecond),
    }),
    problems: [
      ...choices.problems,
      ...disks.flatMap(({ problems }) => problems),
      ...fileProblems,
      ...found.problems,
    ],
    warnings: [...disks.flatMap(({ warnings }) => warnings), ...found.warnings],
  }
  const plan: Plan = { ...body, commands: commandsOf(body, sourceDriver, destinationDriver) }
  return { plan, overwrites: overwritesOf(disks), cameFromThere: fence === null ? 'no' : 'yes', leftovers }
}

function modeOf(asked: PlanRequest['mode'], { state }: Guest): MigrateMode {
  if (asked !== 'auto') return asked
  return state === 'off' ? 'cold' : 'warm'
}

async function endsOf({ source, destination, sourceDriver, destinationDriver }: PlanParts): Promise<Ends> {
  const before = await source.facts()
  const there = await destination.facts()
  const here = await source.facts()
  const [mine, theirs] = await Promise.all([sourceDriver.list(), destinationDriver.list()])
  return {
    source,
    destination,
    facts: { source: here, destination: there },
    skew: {
      aheadMs: there.nowMs - (before.nowMs + here.nowMs) / 2,
      withinMs: (here.nowMs - before.nowMs) / 2,
    },
    guests: { source: mine, destination: theirs },
  }
}

/** nvram and TPM state, where they are there: they come to be with the first start of a guest. */
async function plannedFiles(
  guest: Guest,
  choices: Choices,
  fence: OldFence | null,
  { source, destination, facts }: Ends,
): Promise<Readonly<{ files: PlannedFile[]; problems: PlanProblem[] }>> {
  const files: PlannedFile[] = []
  const problems: PlanProblem[] = []
  for (const { kind, path } of guest.files) {
    const here = await source.look(path)
    if (here === null) continue
    const to = choices.files.get(path) ?? path
    const refuse = (code: string, text: string, hint: string): void => {
      problems.push({ code, operand: path, text, hint })
    }
    if (here.kind !== 'file') {
      refuse('file-kind', `${path} (${kind}) is no file`, `Repair the definition of ${guest.name} first.`)
      continue
    }
    const there = await destination.look(to)
    if (there !== null) {
      const same = await isSameDisk(
        { host: source, bootId: facts.source.bootId, path, facts: here },
        { host: destination, bootId: facts.destination.bootId, path: to, facts: there },
      )
      // both hosts see this very file
      if (same.kind === 'same') continue
      if (fence === null)
        refuse(
          'taken',
          `${to} (${kind}) is on ${destination.name} already`,
          `Remove it there if nobody needs it: ssh ${destination.name} rm ${to}; or give another path: --map ${path}=/path.`,
        )
    }
    files.push({ kind, sourcePath: path, destinationPath: to, sizeBytes: here.sizeBytes })
  }
  return { files, problems }
}

/** What becomes different. With a definition of the user's every path is set, so that it names what was checked. */
function changesOf(
  guest: Guest,
  disks: readonly Classified[],
  choices: Choices,
  own: string | null,
): DefinitionChanges {
  const changes = new Map<string, Readonly<{ kind: 'file' | 'block'; path: string }>>()
  for (const { disk } of disks) {
    const { target, sourcePath, destinationPath: path, destinationKind: kind } = disk
    const source = guest.disks.find((one) => one.target === target)?.source
    if (path === null || kind === null || source === undefined) continue
    if (own !== null || path !== sourcePath || kind !== source.kind) changes.set(target, { kind, path })
  }
  return { disks: changes, networks: choices.networks, files: choices.files }
}

function definitionsOf(
  guest: Guest,
  changes: DefinitionChanges,
  { definition }: PlanRequest,
  driver: Driver,
): Readonly<{ running: string; persistent: string | null }> {
  const persistent = guest.persistentDefinition === null ? null : (definition ?? guest.persistentDefinition)
  return {
    running: driver.retarget(definition ?? guest.definition, changes),
    persistent: persistent === null ? null : driver.retarget(persistent, changes),
  }
}

function end(facts: Ends['facts']['source'], { uri }: DriverFacts): Plan['from'] {
  return { host: facts.hostName, machineId: facts.machineId, uri }
}

function destinationEnd(
  { typedHost, login, identity, uriFromSource }: PlanRequest,
  { facts }: Ends,
  hypervisor: DriverFacts,
): Plan['to'] {
  const { uri } = hypervisor
  return {
    ...end(facts.destination, hypervisor),
    typed: typedHost,
    uriFromSource: uri === null ? null : (uriFromSource ?? sshUri(uri, login, identity)),
  }
}

function statePathsOf(id: string, { facts }: Ends): Readonly<{ source: string; destination: string }> {
  const path = (directory: string, role: 'source' | 'destination'): string =>
    posix.join(directory, 'migrate', id, `${role}.d`, 'state')
  return {
    source: path(facts.source.stateDirectory, 'source'),
    destination: path(facts.destination.stateDirectory, 'destination'),
  }
}

/** Two hosts that share a state directory list the same journals. */
function uniqueOpen(open: readonly OpenMigration[]): OpenMigration[] {
  return open.filter(
    ({ id, role }, index) =>
      open.findIndex((other) => other.id === id && (other.role === role || other.role === 'source')) ===
      index,
  )
}

function slower(measured: number | null, limit: number | null): number | null {
  if (measured === null || limit === null) return measured
  return Math.min(measured, limit)
}

function overwritesOf(disks: readonly Classified[]): Overwrite[] {
  return disks.flatMap(({ disk: { target, destinationPath, fate }, overwritten }) =>
    overwritten === null || destinationPath === null || fate !== 'copied'
      ? []
      : [{ target, path: destinationPath, what: overwritten }],
  )
}
