// What a migration, or the recovery of one, came to: as data, as the object of the last JSON line, and as the words for a
// person who has to decide. Makes up nothing: what is not known is said to be unknown.

import { SyncError, toSyncError } from '../errors.js'
import type { HypervisorKind, MigrateMode } from '../hypervisor/driver.js'
import { stoppedBy } from './context.js'
import type { Outcome } from './controller.js'
import { factsOf, type RoundFacts, type RunsOn } from './journal.js'
import type { DowntimePart, Work } from './work.js'

export type MigrateReport = Readonly<{
  ok: boolean
  guest: string
  hypervisor: HypervisorKind
  mode: MigrateMode
  from: string
  to: string
  rounds: readonly RoundFacts[]
  /** From the instant in which the guest began to stop to the one in which it ran again; null where it did not, or never stopped. */
  downtimeMs: number | null
  /** Null where downtimeMs is, and where not all of it was in this process. */
  downtime: Readonly<Record<DowntimePart, number>> | null
  runsOn: RunsOn
  /** The ID: of --continue, --abort, --status. */
  journal: string
  warnings: readonly string[]
  error: SyncError | null
}>

export type ReportRequest = Readonly<{
  work: Work
  outcome: Outcome
  /** An abort that came to its end is no failure: it was asked for. */
  wish: 'migrate' | 'continue' | 'abort' | 'unfence'
}>

/** The report of an outcome; its error has the documented status. */
export function reportOf({ work, outcome, wish }: ReportRequest): MigrateReport {
  const { plan, ledger, parts, warnings, context } = work
  const error = errorOf(work, outcome, wish)
  const { intentMs, rounds } = ledger.sourceState
  let downtimeMs: number | null = null
  let downtime: MigrateReport['downtime'] = null
  if (outcome.kind === 'moved' && work.procedure === 'live') downtimeMs = work.liveDowntimeMs
  else if (outcome.kind === 'moved' && work.resumedAtMs !== null) {
    if (work.stoppedAtMs !== null) {
      downtimeMs = work.resumedAtMs - work.stoppedAtMs
      downtime = parts
    } else {
      // an earlier controller stopped it: by the clock on the wall
      const beganMs = intentMs.get('save') ?? intentMs.get('shutdown')
      if (beganMs !== undefined)
        downtimeMs = context.clock.wallMs() - (context.clock.nowMs() - work.resumedAtMs) - beganMs
    }
  }
  return {
    ok: error === null,
    guest: plan.guest.name,
    hypervisor: plan.hypervisor,
    mode: plan.options.mode,
    from: plan.from.host,
    to: plan.to.typed,
    rounds: [...rounds],
    downtimeMs: downtimeMs === null ? null : Math.round(downtimeMs),
    downtime: downtime === null ? null : rounded(downtime),
    runsOn: outcome.runsOn,
    journal: plan.id,
    warnings: [...warnings],
    error,
  }
}

function rounded(parts: Readonly<Record<DowntimePart, number>>): Record<DowntimePart, number> {
  const { saveMs, lastPassMs, stateCopyMs, restoreMs, resumeMs } = parts
  return {
    saveMs: Math.round(saveMs),
    lastPassMs: Math.round(lastPassMs),
    stateCopyMs: Math.round(stateCopyMs),
    restoreMs: Math.round(restoreMs),
    resumeMs: Math.round(resumeMs),
  }
}

function errorOf(work: Work, outcome: Outcome, wish: ReportRequest['wish']): SyncError | null {
  switch (outcome.kind) {
    case 'moved':
      return null
    case 'back': {
      if (wish === 'abort' || wish === 'unfence') return null
      const { guestName } = work
      const where =
        outcome.runsOn === 'source'
          ? `${guestName} runs on this host as before`
          : `${guestName} is off, on this host`
      return stoppedBy(outcome.cause, `nothing was moved, ${where}`)
    }
    case 'stuck':
      return stuckError(work, outcome)
    default:
      return outcome satisfies never
  }
}

/** Where the guest is, what is certain, and what to type. */
function stuckError(work: Work, { why, cause, evidence }: Extract<Outcome, { kind: 'stuck' }>): SyncError {
  const { plan, guestName, ledger } = work
  const state = ledger.sourceState
  const { id } = plan
  const there = plan.to.typed
  const known: string[] = []
  const isUnreachable = evidence?.destination === 'unreachable'
  const hereState = evidence?.here ?? 'unknown'
  const thereState = evidence?.there ?? 'unknown'
  known.push(hereState === 'unknown' ? 'whether it runs here is not known' : `here it is ${hereState}`)
  known.push(
    thereState === 'unknown' ? `on ${there} its state is not known` : `on ${there} it is ${thereState}`,
  )
  if (state.done.has('save') && plan.sourceStatePath !== null)
    known.push(`its memory is saved in ${plan.sourceStatePath}`)
  if (state.isFenced) known.push('this host is fenced and does not start it')
  const handover = state.done.has('go')
    ? `${there} was told to run it`
    : !state.isFenced
      ? `${there} was never told to run it`
      : evidence !== null && typeof evidence.destination !== 'string'
        ? `${there} was ${evidence.destination.hasGo ? '' : 'not '}told to run it`
        : `whether ${there} was told to run it cannot be known from here`
  known.push(handover)
  const retry = `blocksync migrate --continue ${id}${state.isFenced ? '' : ` (or --abort ${id})`}`
  const hints = [
    isUnreachable
      ? `When ${there} can be asked again, type ${retry}.`
      : `When that is mended, type ${retry}.`,
    ...(state.isFenced && isUnreachable
      ? [
          `If ${there} is lost for good: blocksync migrate --unfence ${id} --yes gives the guest back to this host.`,
        ]
      : []),
  ]
  const causeText = cause === null || cause.message === why ? '' : ` (${cause.message})`
  const causeHint = cause?.code === 'migrate/stuck' && cause.hint !== null ? `${cause.hint} ` : ''
  return new SyncError(
    'migrate/stuck',
    `the migration of ${guestName} stopped half-way: ${why}${causeText}. Nothing was started. What is certain: ${known.join('; ')}`,
    { operand: guestName, hint: `${causeHint}${hints.join(' ')}`, ...(cause === null ? {} : { cause }) },
  )
}

/** The object of the last JSON line. */
export function resultOf(report: MigrateReport): Record<string, unknown> {
  const { error, ok, ...rest } = report
  return {
    event: 'result',
    ok,
    ...rest,
    ...(error === null
      ? {}
      : { error: { code: error.code, message: error.message, operand: error.operand, hint: error.hint } }),
  }
}

/** For a recovery that had only leftovers to remove. */
export function cleanedReport(work: Work, runsOn: RunsOn, error: unknown): MigrateReport {
  const outcome: Outcome = { kind: 'moved', runsOn }
  const report = reportOf({ work, outcome, wish: 'abort' })
  const problem = error === null ? null : toSyncError(error)
  return {
    ...report,
    ok: problem === null,
    error: problem,
    rounds: factsOf(work.ledger.sourceState, 'rounds')?.rounds ?? [],
  }
}
