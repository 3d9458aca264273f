// One line about all jobs for monitors that read Nagios plugins' output, and its status: 0 fine, 1 warning, 2 critical, 3 unknown.
// Refuses to let a name or a message end the line, or begin the numbers behind the bar.

import { printable } from '../printable.js'
import { lagLevel, lagText } from './lag.js'
import type { JobStatus } from './status.js'

export type CheckStatus = 0 | 1 | 2 | 3
export type CheckResult = Readonly<{ status: CheckStatus; line: string }>

/** Null is each job's own limit. */
export type CheckLimits = Readonly<{ maxLagMs: number | null; warnLagMs: number | null; nowMs: number }>

const WORDS = ['OK', 'WARNING', 'CRITICAL', 'UNKNOWN'] as const

/** So many bad jobs are named; the rest are counted. A pager shows no more. */
const MAX_NAMED = 5
const MAX_MESSAGE_UNITS = 160

/** Nagios reads 8 KiB of a plugin's output. The jobs that are worst off come first, so they are what it gets. */
const MAX_LINE_UNITS = 8000

type Finding = Readonly<{
  job: JobStatus
  level: 0 | 1 | 2
  why: string
  warning: number | null
  critical: number | null
}>

/**
 * The line for these jobs (those that were asked for). Critical: lag over its limit, also of a paused job, since a pause makes no
 * replica newer; the last attempt failed and is not tried again by itself; no generation although one was due. Warning: over the
 * warning limit; failed and tried again; paused; no generation yet, none being due. Format: Nagios plugin development guidelines,
 * `text | 'label'=value[unit];warn;crit;min`.
 */
export function checkLine(statuses: readonly JobStatus[], limits: CheckLimits): CheckResult {
  if (statuses.length === 0) return checkUnknown('no job is configured')
  const findings = statuses.map((job) => judge(job, limits)).toSorted(worstFirst)
  const status = Math.max(...findings.map(({ level }) => level)) as 0 | 1 | 2
  const text = `BLOCKSYNC ${WORDS[status]} - ${summary(findings)}`
  let line = `${text} |`
  for (const finding of findings) {
    const more = ` ${perfdata(finding)}`
    if (line.length + more.length > MAX_LINE_UNITS) break
    line += more
  }
  return { status, line }
}

/** The line where nothing can be said: the configuration or the states could not be read. */
export function checkUnknown(why: string): CheckResult {
  return { status: 3, line: `BLOCKSYNC ${WORDS[3]} - ${plain(why)}` }
}

function judge(job: JobStatus, { maxLagMs, warnLagMs, nowMs }: CheckLimits): Finding {
  const critical = maxLagMs === null ? job.criticalSeconds : maxLagMs / 1000
  const ownWarning = warnLagMs === null ? job.warningSeconds : warnLagMs / 1000
  // a job's own limit above one that was given for all says nothing any more
  const warning = ownWarning !== null && critical !== null && ownWarning > critical ? null : ownWarning
  const of = (level: 0 | 1 | 2, why: string): Finding => ({ job, level, why, warning, critical })
  const lag = job.lagSeconds
  const level = lagLevel(lag, warning, critical)
  if (lag !== null && level === 'critical') return of(2, over(lag, critical))
  const problem =
    job.lastError === null ? 'the last attempt failed' : `${job.lastError.code}: ${job.lastError.message}`
  if (job.state === 'failed') return of(2, problem)
  if (job.state === 'paused') return of(1, lag === null ? 'paused before its first generation' : 'paused')
  if (lag === null && isOverdue(job, nowMs)) return of(2, 'no generation yet')
  if (job.state === 'retrying') return of(1, `tried again after ${problem}`)
  if (lag === null)
    return of(1, job.state === 'running' ? 'the first generation is being made' : 'no generation yet')
  if (level === 'warning') return of(1, over(lag, warning))
  return of(0, '')
}

/** A daemon that has just started begins what is due within that time. */
const STARTING_MS = 60_000

/** It never had a generation, and nothing runs that would make one, nor is to run at a time that is still to come. */
function isOverdue({ state, nextRun }: JobStatus, nowMs: number): boolean {
  return state !== 'running' && (nextRun === null || Date.parse(nextRun) + STARTING_MS < nowMs)
}

function over(lagSeconds: number, limitSeconds: number | null): string {
  return `lag ${lagText(lagSeconds)}, limit ${lagText(limitSeconds ?? 0)}`
}

function worstFirst(left: Finding, right: Finding): number {
  const lagOf = ({ job }: Finding): number => job.lagSeconds ?? Infinity
  if (left.level !== right.level) return right.level - left.level
  return lagOf(left) === lagOf(right) ? 0 : lagOf(right) - lagOf(left)
}

function summary(findings: readonly Finding[]): string {
  const bad = findings.filter(({ level }) => level > 0)
  if (bad.length > 0) {
    const named = bad.slice(0, MAX_NAMED).map(({ job, why }) => `${plain(job.name)}: ${plain(why)}`)
    const more = bad.length > MAX_NAMED ? [`and ${bad.length - MAX_NAMED} more`] : []
    return [...named, ...more, `${findings.length - bad.length} of ${count(findings.length)} fine`].join('; ')
  }
  const { name, lagSeconds } = findings[0]?.job ?? { name: '', lagSeconds: null }
  const lag = lagSeconds === null ? '' : `, greatest lag ${lagText(lagSeconds)} (${plain(name)})`
  return `${count(findings.length)}${lag}`
}

function count(jobs: number): string {
  return jobs === 1 ? '1 job' : `${jobs} jobs`
}

/** `U` is a value that could not be determined. */
function perfdata({ job, warning, critical }: Finding): string {
  const label = `${plain(job.name).replaceAll('=', ':')}_lag`
  const quoted = /^[A-Za-z0-9._-]+$/.test(label) ? label : `'${label.replaceAll("'", "''")}'`
  const value = job.lagSeconds === null ? 'U' : `${job.lagSeconds}s`
  return `${quoted}=${value};${warning ?? ''};${critical ?? ''};0`
}

/** One line without the bar that begins the numbers. */
function plain(text: string): string {
  return printable(text.replace(/\s+/g, ' '))
    .replaceAll('|', '/')
    .replaceAll('=', ':')
    .slice(0, MAX_MESSAGE_UNITS)
}
