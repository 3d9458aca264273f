// `blocksync bwlimit [RATE [PID]]`: shows the runs of this user that go on here, or gives one of them another limit.
// Refuses to guess which run is meant.

import { EXIT, SyncError } from '../errors.js'
import type { FoundRun } from '../rate/client.js'
import type { ControlRequest, RunStatus } from '../rate/message.js'
import type { CommandContext } from './context.js'
import { bwlimitText, parseBwlimit } from './timetable.js'
import { formatRate } from './units.js'

/** What the command asks of the rest of the program. */
export type RunsEngine = Readonly<{
  find: () => Promise<FoundRun[]>
  ask: (run: FoundRun, request: ControlRequest) => Promise<RunStatus>
}>

/** For people: the rate now, and the timetable it comes from. */
export function limitText({ schedule, bytesPerSecond }: RunStatus): string {
  const now = bytesPerSecond === null ? 'no limit' : formatRate(bytesPerSecond)
  return schedule === null || schedule.length === 1 ? now : `${now} (${bwlimitText(schedule)})`
}

/** A line for each run under a head, or that there is none. */
export function runLines(runs: readonly FoundRun[]): string[] {
  if (runs.length === 0) return ['no run of yours goes on here']
  const rows = [
    ['PID', 'LIMIT', 'DISKS'],
    ...runs.map((run) => [
      String(run.pid),
      run.status === null ? 'does not answer' : limitText(run.status),
      run.status === null ? '' : disksText(run.status),
    ]),
  ]
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => (row[column] ?? '').length)) + 2)
  return rows.map(([pid = '', limit = '', disks = '']) =>
    `${pid.padEnd(widths[0] ?? 0)}${limit.padEnd(widths[1] ?? 0)}${disks}`.trimEnd(),
  )
}

/** Lists, or changes one run; resolves with 0. Rejects with `usage`, and with `connect/failed` where the run does not answer. */
export async function bwlimitCommand(
  rate: string | null,
  pid: string | null,
  context: CommandContext,
): Promise<number> {
  const { output } = context
  // a wrong rate is a mistake whatever runs there are
  const schedule = rate === null ? null : parseBwlimit('blocksync bwlimit', rate)
  const pidNumber = pid === null ? null : parsePid(pid)
  const engine = await context.loadRuns()
  const runs = await engine.find()
  if (rate === null) {
    for (const line of runLines(runs)) output.line(line)
    return EXIT.ok
  }
  const run = chosen(runs, rate, pidNumber, (line) => output.note(line))
  const before = run.status === null ? 'not known' : limitText(run.status)
  const now = await engine.ask(run, { command: 'bwlimit', schedule })
  output.line(`${run.pid}: ${limitText(now)} (was ${before})`)
  return EXIT.ok
}

function chosen(
  runs: readonly FoundRun[],
  rate: string,
  pid: number | null,
  note: (line: string) => void,
): FoundRun {
  if (pid === null && runs.some((run) => String(run.pid) === rate)) {
    throw refused(
      rate,
      'is the pid of a run, and as a rate it would be bytes a second',
      `Type blocksync bwlimit RATE ${rate}, or blocksync bwlimit ${rate}B ${rate} if that rate is meant.`,
    )
  }
  const meant = pid === null ? runs : runs.filter((run) => run.pid === pid)
  const [run, ...others] = meant
  if (run === undefined && pid !== null)
    throw refused(String(pid), 'is not the pid of a run of yours that goes on here', SHOW_HINT)
  if (run === undefined) {
    throw refused(
      'bwlimit',
      'finds no run of yours that goes on here',
      'A run is changed by the user and on the host that it was started by and on; or start one with --bwlimit RATE.',
    )
  }
  if (others.length > 0) {
    for (const line of runLines(runs)) note(line)
    throw refused(
      'bwlimit',
      `finds ${meant.length} runs and does not know which is meant`,
      `Type blocksync bwlimit '${rate}' ${run.pid} for the first of them.`,
    )
  }
  return run
}

const SHOW_HINT = 'Type blocksync bwlimit for the runs that go on now.'

function parsePid(text: string): number {
  if (!/^[1-9][0-9]{0,6}$/.test(text)) throw refused(text, 'is not the pid of a process', SHOW_HINT)
  return Number(text)
}

function disksText({ disks, diskCount }: RunStatus): string {
  const [first] = disks
  if (first === undefined) return ''
  const more = diskCount > 1 ? ` and ${diskCount - 1} more` : ''
  return `${first.source} -> ${first.destination}${more}`
}

function refused(operand: string, problem: string, hint: string): SyncError {
  return new SyncError('usage', `${operand} ${problem}; nothing was changed`, { operand, hint })
}
