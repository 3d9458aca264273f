// `blocksync migrate`: plans, asks, runs, and takes up what was begun; prints all of it. Refuses to overwrite content at the
// destination unasked, and a plan that has problems.

import { EXIT, SyncError, toSyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import type { HostOptions } from '../host/open.js'
import type { Driver } from '../hypervisor/driver.js'
import type { OpenRequest } from '../hypervisor/open.js'
import type { MigrateContext } from '../migrate/context.js'
import type { Copier, CopierSetup } from '../migrate/copier.js'
import type { Planned, PlanParts, PlanRequest } from '../migrate/make-plan.js'
import type { Plan } from '../migrate/plan.js'
import type { RecoverRequest } from '../migrate/recover.js'
import type { MigrateReport } from '../migrate/report.js'
import type { MigrationStatus } from '../migrate/status.js'
import type { FarSide } from '../transport/transport.js'
import type { CommandContext } from './context.js'
import { askedOf, type MigrateAsked } from './migrate-asked.js'
import type { MigrateFlags } from './migrate-flags.js'
import { wordsOfConnection } from './migrate-connection.js'
import { Migration } from './migration.js'
import {
  notBegun,
  overwriteLine,
  planEvent,
  planLines,
  problemLines,
  reportLine,
  statusLines,
  summaryLines,
} from './migrate-text.js'
import { parseHost } from './operand.js'

/** What the command asks of the rest of the program. */
export type MigrateEngine = Readonly<{
  newId: () => string
  openHost: (side: FarSide, options: HostOptions) => Promise<Host>
  openDriver: (host: Host, request: OpenRequest) => Promise<Driver>
  makePlan: (request: PlanRequest, parts: PlanParts) => Promise<Planned>
  openMigrations: PlanParts['openMigrations']
  leftBehind: PlanParts['leftBehind']
  /** Rejects with migrate/unknown. */
  planOf: (host: Host, id: string) => Promise<Plan>
  copier: (setup: Omit<CopierSetup, 'run' | 'nowMs'>) => Copier
  clock: MigrateContext['clock']
  migrate: (plan: Plan, context: MigrateContext) => Promise<MigrateReport>
  recover: (request: RecoverRequest, context: MigrateContext) => Promise<MigrateReport>
  resultOf: (report: MigrateReport) => object
  statuses: (host: Host) => Promise<readonly MigrationStatus[]>
}>

type Begin = Extract<MigrateAsked, { kind: 'plan' | 'migrate' }>
type TakeUp = Extract<MigrateAsked, { kind: 'continue' | 'abort' | 'unfence' }>

/** Resolves with the exit status. Rejects with `usage` before anything is opened; later failures are printed. */
export async function migrateCommand(
  operands: readonly string[],
  flags: MigrateFlags,
  context: CommandContext,
): Promise<number> {
  const asked = askedOf(operands, flags)
  const engine = await context.loadMigrate()
  switch (asked.kind) {
    case 'status':
      return await showStatus(asked.id, flags, engine, context)
    case 'plan':
    case 'migrate':
      return await begin(asked, flags, engine, context)
    case 'continue':
    case 'abort':
    case 'unfence':
      return await takeUp(asked, flags, engine, context)
    default:
      return asked satisfies never
  }
}

async function begin(
  asked: Begin,
  flags: MigrateFlags,
  engine: MigrateEngine,
  context: CommandContext,
): Promise<number> {
  const { output } = context
  const { guest, far } = asked
  let plan: Plan | null = null
  try {
    await using migration = await Migration.open(far, flags, engine, context)
    let planned = await migration.plan(asked, flags)
    plan = planned.plan
    if (asked.kind === 'migrate' && planned.leftovers.length > 0) {
      for (const id of planned.leftovers) await cleanUp(id, migration, flags, engine, context)
      planned = await migration.plan(asked, flags)
      plan = planned.plan
    }
    if (asked.kind === 'plan') return showPlan(planned, flags, context)
    await agree(planned, flags, migration.signal, context)
    const report = await migration.run(planned)
    return printReport(report, flags, engine, context)
  } catch (thrown) {
    const error = toSyncError(thrown)
    output.error(error)
    if (flags.json === true) output.json(notBegun(guest, plan, error))
    return error.exitStatus
  }
}

/** What a move that was put back left at the destination, which could not be asked then. */
async function cleanUp(
  id: string,
  migration: Migration,
  flags: MigrateFlags,
  engine: MigrateEngine,
  { output }: CommandContext,
): Promise<void> {
  await using here = await engine.openHost({ kind: 'local' }, Migration.hostOptions(flags, null))
  const left = await engine.planOf(here, id)
  if (flags.quiet !== true)
    output.note(`blocksync: cleaning up on ${left.to.typed} after the migration ${id}, which was put back`)
  const { error } = await migration.takeUp({ kind: 'abort', id, yes: 'no' }, left)
  if (error !== null) throw error
}

function showPlan({ plan, overwrites }: Planned, flags: MigrateFlags, { output }: CommandContext): number {
  const error = plan.problems.length === 0 ? null : refusedBy(plan)
  if (flags.json === true) {
    output.json(planEvent(plan, overwrites))
    output.json(notBegun(plan.guest.name, plan, error))
  } else if (flags.quiet !== true) for (const line of planLines(plan, overwrites)) output.line(line)
  return error === null ? EXIT.ok : error.exitStatus
}

/** Shows what will be done. Rejects with migrate/refused where that cannot be, and guard/content where nobody agrees. */
async function agree(
  { plan, overwrites }: Planned,
  flags: MigrateFlags,
  signal: AbortSignal,
  { output, ask: asks }: CommandContext,
): Promise<void> {
  const ask = flags.json === true ? null : asks
  if (flags.json === true) output.json(planEvent(plan, overwrites))
  else if (flags.quiet !== true) for (const line of summaryLines(plan)) output.note(line)
  if (plan.problems.length > 0) {
    for (const line of problemLines(plan.problems)) output.note(line)
    throw refusedBy(plan)
  }
  signal.throwIfAborted()
  if (overwrites.length === 0 || flags.yes === true) return
  for (const overwrite of overwrites) output.note(overwriteLine(plan, overwrite))
  if (ask !== null && (await ask('Overwrite that? [y/N] ', signal))) return
  signal.throwIfAborted()
  const paths = overwrites.map(({ path }) => path).join(', ')
  throw new SyncError(
    'guard/content',
    `${paths} on ${plan.to.typed} would be overwritten; nothing was changed`,
    {
      operand: overwrites[0]?.path ?? '',
      hint: 'Type --yes to overwrite it, or give another path: --map.',
    },
  )
}

function refusedBy({ guest, to, problems }: Plan): SyncError {
  const [first, ...more] = problems
  const why = more.length === 0 ? (first?.text ?? '') : `${problems.length} things stand in its way`
  return new SyncError(
    'migrate/refused',
    `${guest.name} cannot be moved to ${to.typed}: ${why}; nothing was changed`,
    {
      operand: first !== undefined && more.length === 0 ? first.operand : guest.name,
      hint: more.length === 0 ? (first?.hint ?? '') : 'They are listed above, each with what to do.',
    },
  )
}

/** Goes on with one, takes it back or gives the guest back; by the plan in its journal. */
async function takeUp(
  asked: TakeUp,
  flags: MigrateFlags,
  engine: MigrateEngine,
  context: CommandContext,
): Promise<number> {
  const { output } = context
  let plan: Plan | null = null
  try {
    {
      await using source = await engine.openHost({ kind: 'local' }, Migration.hostOptions(flags, null))
      plan = await engine.planOf(source, asked.id)
    }
    const way = { ...wordsOfConnection(plan), ...flags }
    await using migration = await Migration.open(parseHost(plan.to.typed), way, engine, context)
    const report = await migration.takeUp({ ...asked, yes: flags.yes === true ? 'yes' : 'no' }, plan)
    return printReport(report, flags, engine, context)
  } catch (thrown) {
    const error = toSyncError(thrown)
    output.error(error)
    // where it runs is not known here: its journal tells
    if (flags.json === true) output.json({ ...notBegun('', plan, error), runsOn: null, journal: asked.id })
    return error.exitStatus
  }
}

function printReport(
  report: MigrateReport,
  flags: MigrateFlags,
  engine: MigrateEngine,
  { output }: CommandContext,
): number {
  const { error } = report
  if (error !== null) output.error(error)
  if (flags.json === true) output.json(engine.resultOf(report))
  else if (error === null && flags.quiet !== true) output.line(reportLine(report))
  return error === null ? EXIT.ok : error.exitStatus
}

async function showStatus(
  id: string | null,
  flags: MigrateFlags,
  engine: MigrateEngine,
  { output }: CommandContext,
): Promise<number> {
  await using host = await engine.openHost({ kind: 'local' }, Migration.hostOptions(flags, null))
  const all = await engine.statuses(host)
  const shown = id === null ? all : all.filter((one) => one.id === id)
  if (id !== null && shown.length === 0)
    throw new SyncError('migrate/unknown', `there is no migration ${id} here`, {
      operand: id,
      hint: all.length === 0 ? 'None was begun here.' : 'blocksync migrate --status lists those there are.',
    })
  if (flags.json === true) output.json({ event: 'status', migrations: shown })
  else if (shown.length === 0) output.line('no migration was begun here')
  else for (const status of shown) for (const line of statusLines(status)) output.line(line)
  return EXIT.ok
}
