// Replication for people: statuses, replicas, attempts and configurations in, lines out. Prints nothing itself.

import type { Config, Job, Retention, Schedule, SnapshotChoice } from '../config/config.js'
import type { AttemptRecord } from '../replicate/job-state.js'
import { lagText } from '../replicate/lag.js'
import type { HeldReplica } from '../replicate/replicas.js'
import type { JobStatus, StatusDocument } from '../replicate/status.js'
import { table } from './migrate-text.js'
import { formatBytes, formatElapsed } from './units.js'

const SEVERITY = { critical: 0, warning: 1, unknown: 2, ok: 3 } as const

/** A name that is cut shorter tells nothing: rather a column is left out. */
const MIN_NAME_COLUMNS = 12
const GAP = 2
/** Of a column that only wide terminals have. */
const WIDE = 1

type Column = Readonly<{
  head: string
  /** The least is the first that is left out where there is no room. */
  worth: number
  cell: (job: JobStatus, nowMs: number) => string
}>

const COLUMNS: readonly Column[] = [
  { head: 'state', worth: 9, cell: ({ state }) => state },
  { head: 'lag', worth: 8, cell: lagCell },
  { head: 'gen', worth: 6, cell: ({ generation }) => (generation === null ? '-' : String(generation)) },
  {
    head: 'last',
    worth: 5,
    cell: ({ sentBytes, durationMs }) =>
      sentBytes === null || durationMs === null
        ? '-'
        : `${formatBytes(sentBytes)} ${formatElapsed(durationMs)}`,
  },
  {
    head: 'next in',
    worth: 7,
    cell: ({ nextRun }, nowMs) => (nextRun === null ? '-' : untilText(nextRun, nowMs)),
  },
  { head: 'what', worth: WIDE, cell: ({ source, destination }) => `${source} -> ${destination}` },
]

/** Worst first: by level, then those that fail, then by lag. */
export function worstFirst(jobs: readonly JobStatus[]): JobStatus[] {
  const fails = ({ state }: JobStatus): number => (state === 'failed' ? 0 : state === 'retrying' ? 1 : 2)
  return jobs.toSorted(
    (a, b) =>
      SEVERITY[a.lagLevel] - SEVERITY[b.lagLevel] ||
      fails(a) - fails(b) ||
      (b.lagSeconds ?? -1) - (a.lagSeconds ?? -1) ||
      (a.name < b.name ? -1 : 1),
  )
}

/** `columns` null: no terminal, nothing is cut, and nothing is there that is for wide ones. */
export function statusLines({ jobs, at }: StatusDocument, columns: number | null): string[] {
  const nowMs = Date.parse(at)
  const sorted = worstFirst(jobs)
  const shown = columnsFor(sorted, nowMs, columns)
  const others = shown.reduce((sum, column) => sum + GAP + widthOf(column, sorted, nowMs), 0)
  const nameColumns = columns === null ? Infinity : Math.max(MIN_NAME_COLUMNS, columns - others)
  const [head = '', ...lines] = table([
    ['job', ...shown.map((column) => column.head)],
    ...sorted.map((job) => [shortened(job.name, nameColumns), ...shown.map(({ cell }) => cell(job, nowMs))]),
  ])
  return [head, ...lines.flatMap((line, index) => [line, ...detailLines(sorted[index], columns)])]
}

/** Those for which there is room beside the names. */
function columnsFor(jobs: readonly JobStatus[], nowMs: number, columns: number | null): readonly Column[] {
  if (columns === null) return COLUMNS.filter(({ worth }) => worth > WIDE)
  const longest = Math.max(...jobs.map(({ name }) => name.length))
  const shown = [...COLUMNS]
  for (;;) {
    const others = shown.reduce((sum, column) => sum + GAP + widthOf(column, jobs, nowMs), 0)
    const least = shown.reduce((a, b) => (b.worth < a.worth ? b : a))
    // what only wide terminals have is no reason to cut a name
    const wanted = least.worth === WIDE ? longest : Math.min(longest, MIN_NAME_COLUMNS)
    if (shown.length <= 1 || wanted + others <= columns) return shown
    shown.splice(shown.indexOf(least), 1)
  }
}

function widthOf({ head, cell }: Column, jobs: readonly JobStatus[], nowMs: number): number {
  return Math.max(head.length, ...jobs.map((job) => cell(job, nowMs).length))
}

/** What is wrong with it, and how far it is: below its line. */
function detailLines(job: JobStatus | undefined, columns: number | null): string[] {
  if (job === undefined) return []
  const lines: string[] = []
  const { progress, lastError, atRiskBytes, direction, paused } = job
  if (paused !== null) {
    const reason = paused.reason === null ? '' : `: ${paused.reason}`
    lines.push(`paused since ${paused.since.slice(0, 10)} ${paused.since.slice(11, 19)} UTC${reason}`)
  }
  if (direction === 'reversed')
    lines.push('reversed: from the configured destination to the configured source')
  if (progress !== null)
    lines.push(
      `${formatBytes(progress.doneBytes)} of ${formatBytes(progress.totalBytes)}, ${formatBytes(progress.sentBytes)} sent`,
    )
  if (lastError !== null) lines.push(`${lastError.code}: ${lastError.message}`)
  if (atRiskBytes !== null && atRiskBytes > 0)
    lines.push(`at least ${formatBytes(atRiskBytes)} would be lost`)
  return lines.map((line) => shortened(`  ${line}`, columns ?? Infinity))
}

function lagCell({ lagSeconds, lagLevel }: JobStatus): string {
  return lagSeconds === null
    ? `never ${lagLevel === 'unknown' ? '' : lagLevel}`.trimEnd()
    : `${lagText(lagSeconds)} ${lagLevel}`
}

function untilText(iso: string, nowMs: number): string {
  const seconds = (Date.parse(iso) - nowMs) / 1000
  return seconds <= 0 ? 'now' : lagText(seconds)
}

function shortened(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, Math.max(1, columns - 1))}…`
}

export function replicaLines(replicas: readonly HeldReplica[]): string[] {
  const rows = table([
    ['replica', 'state', 'generation', 'age', 'from'],
    ...replicas.map(({ id, state, generation, ageSeconds, generations, from }) => [
      id,
      state,
      generation === null ? '-' : `${generation} (${generations} kept)`,
      ageSeconds === null ? '-' : lagText(ageSeconds),
      from,
    ]),
  ])
  return rows.flatMap((line, index) => {
    const replica = replicas[index - 1]
    if (replica === undefined) return [line]
    const { problem, paths } = replica
    return [line, ...(problem === null ? paths : [problem]).map((text) => `  ${text}`)]
  })
}

/** One attempt a line. */
export function historyLines(attempts: readonly AttemptRecord[]): string[] {
  return table(
    attempts.map(({ startedAt, outcome, generation, sentBytes, durationMs, error }) => [
      `${startedAt.slice(0, 10)} ${startedAt.slice(11, 19)} UTC`,
      outcome,
      generation === null ? '-' : `generation ${generation}`,
      formatBytes(sentBytes),
      formatElapsed(durationMs),
      error === null ? '' : `${error.code}: ${error.message}`,
    ]),
  )
}

/** What a finished attempt came to. */
export function attemptLine(
  job: string,
  { generation, sentBytes, durationMs, takenAt }: AttemptRecord,
): string {
  const what = generation === null ? 'done' : `generation ${generation}`
  const taken = takenAt === null ? '' : `, taken ${takenAt.slice(0, 10)} ${takenAt.slice(11, 19)} UTC`
  return `${job}: ${what}${taken}; ${formatBytes(sentBytes)} sent in ${formatElapsed(durationMs)}`
}

/** What a job does: a line for it, and one for each disk. `nextRun` is ISO, or null where nothing is planned. */
export function jobLines(job: Job, nextRun: string | null, nowMs: number): string[] {
  const { name, schedule, snapshot, track, quiesce, keep, windows, verifyEveryMs, disks } = job
  const next = nextRun === null ? 'no next run' : `next: ${untilText(nextRun, nowMs)}`
  const parts = [
    `${scheduleText(schedule)}${windows.length === 0 ? '' : ` in ${windows.length} window${windows.length === 1 ? '' : 's'}`} (${next})`,
    `snapshot ${snapshotText(snapshot)}${quiesce === null ? '' : `, quiesced by ${quiesce.kind}`}`,
    ...(snapshot.kind === 'reflink' && track === 'off' ? ['reads all of the source each time'] : []),
    `keeps ${keepText(keep)}`,
    ...(verifyEveryMs === null ? [] : [`proved every ${lagText(verifyEveryMs / 1000)}`]),
  ]
  return [
    `${name}: ${parts.join('; ')}`,
    ...disks.map(({ source, destination }) => `  ${source.typed} -> ${destination.typed}`),
  ]
}

export function configSummary({ jobs, files }: Config): string {
  const from = files.length === 1 ? (files[0] ?? '') : `${files.length} files`
  return jobs.length === 0
    ? `no job is configured in ${from}`
    : `${jobs.length} job${jobs.length === 1 ? '' : 's'} in ${from}`
}

function scheduleText(schedule: Schedule): string {
  switch (schedule.kind) {
    case 'every':
      return `every ${lagText(schedule.everyMs / 1000)}`
    case 'cron':
      return `cron ${schedule.expression}${schedule.timeZone === null ? '' : ` ${schedule.timeZone}`}`
    default:
      return schedule satisfies never
  }
}

function snapshotText(choice: SnapshotChoice): string {
  if (choice.kind !== 'lvm') return choice.kind
  return `lvm (${'bytes' in choice.size ? formatBytes(choice.size.bytes) : `${choice.size.percent}%`} each)`
}

function keepText({ last, hourly, daily, weekly }: Retention): string {
  const more = [
    [hourly, 'hourly'],
    [daily, 'daily'],
    [weekly, 'weekly'],
  ] as const
  return [
    last === 1 ? 'the newest' : `the last ${last}`,
    ...more.flatMap(([count, word]) => (count > 0 ? [`${count} ${word}`] : [])),
  ].join(', ')
}
