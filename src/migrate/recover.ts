// Goes on with a migration, takes it back, or gives a guest back to a host that was fenced. Refuses one that is over, one
// that is under way, taking back what the destination was told to run, and an unfence that somebody could regret.

import { SyncError, toSyncError } from '../errors.js'
import { isGone } from './decide.js'
import type { MigrateContext } from './context.js'
import { Controller } from './controller.js'
import { Ledger, LOCK_WAIT_MS } from './ledger.js'
import { isLoss } from './context.js'
import { factsOf, type Left } from './journal.js'
import { cleanedReport, type MigrateReport } from './report.js'
import { Rollback } from './rollback.js'
import { closed } from './run.js'
import { cleanThere, undoFence } from './steps-handover.js'
import { migrationsOf, movedSince } from './status.js'
import { textOf, Work } from './work.js'

export type RecoverRequest = Readonly<{
  kind: 'continue' | 'abort' | 'unfence'
  id: string
  /** Of an unfence: it is meant, also where nobody can tell what the destination does. */
  yes: 'yes' | 'no'
}>

/**
 * Rejects, with nothing changed: migrate/unknown, migrate/busy, migrate/ended, migrate/refused. What goes wrong later is
 * the report's `error`. A migration that was aborted as asked for has none.
 */
export async function recover(request: RecoverRequest, context: MigrateContext): Promise<MigrateReport> {
  const work = await openWork(request.id, context)
  try {
    switch (request.kind) {
      case 'continue':
      case 'abort':
        return await settle(request.kind, work)
      case 'unfence':
        return await unfence(request, work)
      default:
        return request.kind satisfies never
    }
  } finally {
    await work.letGo()
    if (work.destination !== null) await work.drop()
  }
}

async function openWork(id: string, context: MigrateContext): Promise<Work> {
  const { source, clock } = context
  const { bootId } = await source.facts()
  const lines = await source.openJournal({ id, role: 'source' }, 'continue', LOCK_WAIT_MS)
  const ledger = new Ledger(id, source, bootId, lines, clock)
  const { plan } = ledger.sourceState
  if (plan === null) {
    // it was stopped before its first line was on the disk: nothing had begun
    await source.removeJournal({ id, role: 'source' })
    throw new SyncError(
      'migrate/unknown',
      `the migration ${id} had not begun; its empty journal was removed`,
      {
        operand: id,
      },
    )
  }
  return new Work(plan, context, ledger, bootId)
}

async function settle(kind: 'continue' | 'abort', work: Work): Promise<MigrateReport> {
  const { ledger, plan } = work
  const { ended, done, rollback } = ledger.sourceState
  if (ended !== null) {
    if (ended.left === 'nothing') throw over(work)
    return await cleanUp(work)
  }
  if (kind === 'abort' && rollback === null) {
    if (done.has('go')) throw handedOver(work)
    await connect(work)
    if (ledger.destinationState?.hasGo === true) throw handedOver(work)
  }
  const outcome = await new Controller(work).settle(kind, null)
  if (kind === 'abort' && outcome.kind === 'moved') work.note(`it had been handed over to ${plan.to.typed}`)
  return await closed(work, outcome, kind)
}

/** Whether the destination can be asked, and what it knows then. */
async function connect(work: Work): Promise<'asked' | 'forgotten' | 'unreachable'> {
  try {
    work.use(await work.context.openDestination())
    await work.ledger.attach(work.there(), 'continue')
    return 'asked'
  } catch (thrown) {
    const error = toSyncError(thrown)
    if (error.code === 'migrate/unknown') return 'forgotten'
    if (!isLoss(error) && error.code !== 'migrate/busy') throw error
    work.note(`${work.plan.to.typed} cannot be asked: ${error.message}`)
    await work.drop()
    return 'unreachable'
  }
}

/** It is over here; something was left at a destination that could not be asked. */
async function cleanUp(work: Work): Promise<MigrateReport> {
  const { ledger, plan } = work
  const { ended } = ledger.sourceState
  const runsOn = ended?.runsOn ?? 'nowhere'
  const how = ended?.how ?? 'back'
  let left: Left
  if ((await connect(work)) === 'unreachable') left = 'destination'
  else
    left =
      how === 'moved'
        ? await cleanThere(work)
        : await new Rollback(work, () => Promise.resolve(false)).cleanOnly()
  if (left === 'nothing') {
    await ledger.ended({ type: 'ended', how, runsOn, left }, 'wanted')
    return cleanedReport(work, runsOn, null)
  }
  const error = new SyncError(
    'host/lost',
    `${plan.to.typed} could not be cleaned up, and nothing else was left to do`,
    {
      operand: plan.to.typed,
      hint: `Type blocksync migrate --abort ${plan.id} again when it can be asked.`,
    },
  )
  return cleanedReport(work, runsOn, error)
}

/** The fence is lifted and the guest is this host's again; where its memory is still saved here, it goes on. */
async function unfence({ yes }: RecoverRequest, work: Work): Promise<MigrateReport> {
  const { ledger, plan } = work
  const state = ledger.sourceState
  if (state.ended !== null && state.ended.how === 'back') throw over(work)
  if (!state.isFenced || state.rollback !== null)
    throw new SyncError(
      'migrate/refused',
      `the migration ${plan.id} has not fenced this host; nothing was changed`,
      {
        operand: plan.id,
        hint: `To take it back: blocksync migrate --abort ${plan.id}.`,
      },
    )
  if (state.ended !== null) await refuseOldFence(work)
  const asked = await connect(work)
  if (asked === 'asked' && ledger.destinationState?.hasGo !== true) {
    // the destination was never told to run it: that is an abort
    return await closed(work, await new Controller(work).settle('abort', null), 'unfence')
  }
  if (asked !== 'unreachable') {
    const there = await work.whereabouts(async () => work.driverThere(), [])
    if (there !== 'absent') throw isThere(work, there)
  }
  if (yes === 'no') throw regrettable(work, asked)
  await ledger.rollback('given back by hand', 'hand')
  if (state.ended === null) {
    const runsOn = await new Rollback(work, () => Promise.resolve(false)).run(
      'freely',
      new SyncError('migrate/stopped', `${work.guestName} was given back to this host by hand`),
    )
    return await closed(work, { kind: 'moved', runsOn }, 'unfence')
  }
  await undoFence(work)
  const driver = await work.driverHere()
  const now = await driver.state(work.guestName)
  const runsOn = isGone(now) ? 'nowhere' : 'source'
  try {
    await ledger.ended({ type: 'ended', how: 'back', runsOn, left: 'nothing' }, 'wanted')
  } catch (thrown) {
    work.warn(`the journal could not be closed: ${textOf(thrown)}`)
  }
  return await closed(work, { kind: 'moved', runsOn }, 'unfence')
}

/** The guest came back since, or somebody else has lifted it. */
async function refuseOldFence(work: Work): Promise<void> {
  const { plan, ledger, source } = work
  const all = await migrationsOf(source)
  const own = all.find(({ id, role }) => id === plan.id && role === 'source')
  const later = own === undefined ? null : movedSince(all, own)
  if (later !== null)
    throw new SyncError(
      'migrate/ended',
      `${plan.guest.name} was moved again since, by the migration ${later.id}; nothing was changed`,
      { operand: plan.id, hint: 'See where it is now: blocksync migrate --status.' },
    )
  const renamedTo = factsOf(ledger.sourceState, 'fence')?.fence.renamedTo ?? null
  if (renamedTo === null || factsOf(ledger.sourceState, 'finish')?.undefined === true) return
  const driver = await work.driverHere()
  if ((await driver.fences()).some(({ id }) => id === plan.id)) return
  throw new SyncError('migrate/ended', `the fence of ${plan.id} is not there any more; nothing was changed`, {
    operand: plan.id,
  })
}

function over({ plan, ledger }: Work): SyncError {
  const { ended } = ledger.sourceState
  const how = ended?.how === 'moved' ? `${plan.guest.name} was moved to ${plan.to.typed}` : 'it was put back'
  return new SyncError('migrate/ended', `the migration ${plan.id} is over: ${how}; nothing was changed`, {
    operand: plan.id,
    hint:
      ended?.runsOn === 'destination'
        ? `Move it back from there with blocksync migrate ${plan.guest.name} ${plan.from.host}.`
        : 'blocksync migrate --status lists those that are not.',
  })
}

function handedOver({ plan, guestName }: Work): SyncError {
  return new SyncError(
    'migrate/refused',
    `${guestName} was handed over to ${plan.to.typed} and cannot be taken back; nothing was changed`,
    {
      operand: plan.id,
      hint: `Bring it to its end with blocksync migrate --continue ${plan.id}; then move it back, on ${plan.to.typed}: blocksync migrate ${guestName} ${plan.from.host}.`,
    },
  )
}

function isThere({ plan, guestName }: Work, state: string): SyncError {
  const what = state === 'unknown' ? 'may be there: its hypervisor does not answer' : `is there (${state})`
  return new SyncError(
    'migrate/refused',
    `${plan.to.typed} was told to run ${guestName}, and it ${what}; nothing was changed`,
    {
      operand: plan.id,
      hint: `Move it back from there with blocksync migrate ${guestName} ${plan.from.host}.`,
    },
  )
}

function regrettable(
  { plan, guestName, ledger }: Work,
  asked: 'asked' | 'forgotten' | 'unreachable',
): SyncError {
  const why =
    asked === 'unreachable'
      ? `${plan.to.typed} cannot be asked, and may run ${guestName}`
      : `${plan.to.typed} had it, and has it no longer`
  const memory = ledger.sourceState.ended === null ? 'with its memory' : 'without its memory, from disks'
  return new SyncError(
    'migrate/refused',
    `${why}; nothing was changed. Given back, it is here ${memory} as of the handover: what it wrote there since is not`,
    {
      operand: plan.id,
      hint: `If ${plan.to.typed} is lost for good, or switched off: blocksync migrate --unfence ${plan.id} --yes.`,
    },
  )
}
