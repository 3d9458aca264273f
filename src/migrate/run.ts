// Runs a plan: the guest is on the destination at its end, or where it was, or a person is told what is certain. Refuses a
// plan with problems and a guest that is being moved already, before anything is changed.

import { SyncError, toSyncError } from '../errors.js'
import type { JournalName } from '../host/host.js'
import type { MigrateContext } from './context.js'
import { Controller, type Outcome } from './controller.js'
import { tryHook } from './hooks.js'
import { Ledger, LOCK_WAIT_MS } from './ledger.js'
import type { Plan } from './plan.js'
import { reportOf, type MigrateReport } from './report.js'
import { openMigrations } from './status.js'
import { textOf, Work } from './work.js'

/**
 * Moves the guest as the plan says. Rejects with migrate/refused, migrate/busy or what kept the destination from being
 * asked, and then nothing was changed; all that goes wrong later is the report's `error` (status 9 or 10).
 */
export async function migrate(plan: Plan, context: MigrateContext): Promise<MigrateReport> {
  refuseProblems(plan)
  context.signal.throwIfAborted()
  const { source } = context
  const { bootId } = await source.facts()
  await refuseSecond(plan, context)
  const destination = await context.openDestination()
  const own: JournalName = { id: plan.id, role: 'source' }
  let work: Work
  try {
    const lines = await source.openJournal(own, 'create', LOCK_WAIT_MS)
    if (lines.length > 0)
      throw new SyncError('migrate/busy', `there is a migration ${plan.id} already; nothing was changed`, {
        operand: plan.id,
        hint: 'Begin again: each one has an ID of its own.',
      })
    const ledger = new Ledger(plan.id, source, bootId, lines, context.clock)
    work = new Work(plan, context, ledger, bootId)
    work.use(destination)
    await beginHere(work, own)
  } catch (thrown) {
    await destination.close()
    throw thrown
  }
  return await runToEnd(work)
}

/** Rejects where it may not begin, and then there is no journal of it here; of an empty one there nobody takes notice. */
async function beginHere(work: Work, own: JournalName): Promise<void> {
  const { ledger, plan, bootId, source } = work
  try {
    await ledger.attach(work.there(), 'create')
    await ledger.beginHere({ type: 'begin', version: 1, plan, bootId })
    // two that began at the same instant see each other's journal, and both give way
    await refuseSecond(plan, work.context)
  } catch (thrown) {
    try {
      await source.removeJournal(own)
    } catch (left) {
      work.note(`a journal was left: ${textOf(left)}`)
    }
    throw thrown
  }
}

async function runToEnd(work: Work): Promise<MigrateReport> {
  const controller = new Controller(work)
  const { ledger, context, plan, bootId } = work
  let outcome: Outcome
  try {
    await ledger.beginThere({ type: 'begin', version: 1, plan, bootId })
    await controller.forward()
    outcome = await controller.conclude()
  } catch (thrown) {
    // a wait that was interrupted may surface as whatever it throws
    const isInterrupted = context.signal.aborted && !ledger.sourceState.isFenced
    const error = toSyncError(isInterrupted ? context.signal.reason : thrown)
    outcome = await controller.settle(ledger.sourceState.isFenced ? 'continue' : 'abort', error)
  }
  return await closed(work, outcome, 'migrate')
}

/** The report of what it came to, when the hook was run and everything is let go of. */
export async function closed(
  work: Work,
  outcome: Outcome,
  wish: 'migrate' | 'continue' | 'abort' | 'unfence',
): Promise<MigrateReport> {
  const { error } = reportOf({ work, outcome, wish })
  if (error !== null) await tryHook(work, 'on-failure', { runsOn: outcome.runsOn, error: error.message })
  await work.letGo()
  if (work.destination !== null) await work.drop()
  return reportOf({ work, outcome, wish })
}

function refuseProblems({ guest, problems, to }: Plan): void {
  if (problems.length === 0) return
  const list = problems.map(({ text }) => text).join('; ')
  throw new SyncError(
    'migrate/refused',
    `${guest.name} cannot be moved to ${to.typed}: ${list}; nothing was changed`,
    {
      operand: guest.name,
      hint: problems.map(({ hint }) => hint).join(' '),
    },
  )
}

/** One migration of a guest at a time. */
async function refuseSecond(plan: Plan, { source }: MigrateContext): Promise<void> {
  const open = await openMigrations(source)
  const other = open.find(
    ({ id, role, uuid }) => id !== plan.id && role === 'source' && uuid === plan.guest.uuid,
  )
  if (other === undefined) return
  throw new SyncError(
    'migrate/busy',
    `${plan.guest.name} is being moved already, by the migration ${other.id} (${other.phase}); nothing was changed`,
    {
      operand: plan.guest.name,
      hint: `Bring that one to its end first: blocksync migrate --continue ${other.id}, or --abort ${other.id}.`,
    },
  )
}
