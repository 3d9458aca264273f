// A migration for people and for programs: plans, events and results in, lines and JSON objects out. Prints nothing itself.

import type { SyncError } from '../errors.js'
import type { Overwrite } from '../migrate/make-plan.js'
import type { MigrateReport } from '../migrate/report.js'
import type { MigrationStatus } from '../migrate/status.js'
import type { Plan, PlannedCommand, PlannedDisk, PlanProblem } from '../migrate/plan.js'
import { isPlainWord, shellWord } from '../shell-word.js'
import { errorOf } from './result.js'
import { formatBytes, formatDuration, formatElapsed } from './units.js'

/** All of a plan, as --plan prints it. */
export function planLines(plan: Plan, overwrites: readonly Overwrite[]): string[] {
  const { definitionDiff, commands } = plan
  return [
    ...summaryLines(plan),
    ...overwrites.map((overwrite) => overwriteLine(plan, overwrite)),
    '',
    ...(definitionDiff === ''
      ? ['definition: the same on both hosts']
      : ['definition:', ...indented(definitionDiff)]),
    '',
    'commands:',
    ...commandLines(plan, commands),
    '',
    ...problemLines(plan.problems),
  ]
}

/** What a person wants to see before it begins. */
export function summaryLines(plan: Plan): string[] {
  const { guest, options, to, hypervisor, disks, files, estimate, warnings } = plan
  const [first = '', ...rest] = table([
    ['disk', 'kind', 'what', 'here', `on ${to.typed}`, 'there'],
    ...disks.map((disk) => diskRow(disk)),
  ])
  return [
    `${guest.name}: ${options.mode} to ${to.typed} (${hypervisor}, ${guest.state}, ${formatBytes(guest.memoryBytes)} of memory, ${guest.vcpus} CPU${guest.vcpus === 1 ? '' : 's'})`,
    ...(disks.length === 0 ? [] : [first, ...rest]),
    ...files.map(
      ({ kind, sourcePath, destinationPath, sizeBytes }) =>
        `${kind}: ${sourcePath} (${formatBytes(sizeBytes)}) is copied to ${destinationPath}`,
    ),
    estimateLine(estimate),
    ...warnings.map((text) => `warning: ${text}`),
  ]
}

export function overwriteLine({ to }: Plan, { target, path, what }: Overwrite): string {
  return `${target}: ${path} on ${to.typed} would be overwritten; on it is ${what}`
}

/** Every problem, with what to do about it on a line of its own. */
export function problemLines(problems: readonly PlanProblem[]): string[] {
  if (problems.length === 0) return ['nothing stands in its way']
  return [
    problems.length === 1 ? 'refused:' : `refused, for ${problems.length} reasons:`,
    ...problems.flatMap(({ text, hint }) => [`  ${text}`, `    ${hint}`]),
  ]
}

function estimateLine({ bytes, durationMs, downtimeMs }: Plan['estimate']): string {
  const time = durationMs === null ? '' : `, about ${formatDuration(durationMs)}`
  const down =
    downtimeMs === null
      ? ', downtime not known'
      : downtimeMs === 0
        ? ', no downtime: it is off'
        : `, downtime about ${formatElapsed(downtimeMs)}`
  return `estimate: at most ${formatBytes(bytes)} to send${time}${down}`
}

const FATE_TEXT = {
  copied: 'copied',
  shared: 'shared',
  'left-empty': 'stays empty',
  'read-only': 'read there',
  refused: 'refused',
} as const

function diskRow(disk: PlannedDisk): string[] {
  const { target, kind, fate, sourcePath, destinationPath, sizeBytes } = disk
  const here = sourcePath === null ? '-' : `${sourcePath} (${formatBytes(sizeBytes)})`
  return [target, kind, FATE_TEXT[fate], here, destinationPath ?? '-', creationText(disk)]
}

function creationText({ creation, fate }: PlannedDisk): string {
  if (creation === null) return fate === 'shared' || fate === 'read-only' ? 'is there' : '-'
  switch (creation.kind) {
    case 'present':
      return 'is there, overwritten'
    case 'file':
      return creation.directories.length === 0
        ? 'made: sparse file'
        : `made: sparse file and ${creation.directories.join(', ')}`
    case 'lvm':
      return `made: volume of ${creation.group}`
    default:
      return creation satisfies never
  }
}

function commandLines({ to }: Plan, commands: readonly PlannedCommand[]): string[] {
  return table(
    commands.map(({ on, argv, why }) => [
      `  ${on === 'source' ? 'here' : to.typed}`,
      why,
      argv.map(typedWord).join(' '),
    ]),
  )
}

/** What a driver leaves open in its words: `<state>`. */
const BLANK = /<[a-z]+>/g

/** As it would be typed; blanks stay what they are. */
function typedWord(word: string): string {
  return isPlainWord(word.replaceAll(BLANK, '_')) ? word : shellWord(word)
}

function indented(text: string): string[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => `  ${line}`)
}

/** Columns as wide as what is in them, two blanks apart. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = []
  for (const row of rows) row.forEach((cell, at) => (widths[at] = Math.max(widths[at] ?? 0, cell.length)))
  return rows.map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

/** The `plan` line of --json. */
export function planEvent(plan: Plan, overwrites: readonly Overwrite[]): object {
  const { guest, options, definitionDiff, destinationDefinition, destinationPersistentDefinition } = plan
  return {
    event: 'plan',
    id: plan.id,
    hypervisor: plan.hypervisor,
    mode: options.mode,
    guest: {
      name: guest.name,
      uuid: guest.uuid,
      state: guest.state,
      persistent: guest.isPersistent,
      autostart: guest.autostart,
      memoryBytes: guest.memoryBytes,
      vcpus: guest.vcpus,
      machine: guest.machine,
    },
    from: plan.from,
    to: plan.to,
    options,
    disks: plan.disks,
    files: plan.files,
    overwrites,
    definition: destinationDefinition,
    persistentDefinition: destinationPersistentDefinition,
    definitionDiff,
    commands: plan.commands,
    estimate: plan.estimate,
    warnings: plan.warnings,
    problems: plan.problems,
  }
}

/** The result where nothing was begun: the guest is where it was. `plan` is null where it did not come to one. */
export function notBegun(guest: string, plan: Plan | null, error: SyncError | null): object {
  return {
    event: 'result',
    ok: error === null,
    guest: plan?.guest.name ?? guest,
    hypervisor: plan?.hypervisor ?? null,
    mode: plan?.options.mode ?? null,
    from: plan?.from.host ?? null,
    to: plan?.to.typed ?? null,
    rounds: [],
    downtimeMs: null,
    downtime: null,
    runsOn: plan === null ? null : plan.guest.state === 'off' ? 'nowhere' : 'source',
    journal: null,
    warnings: plan?.warnings ?? [],
    ...(error === null ? {} : { error: { ...errorOf(error), problems: plan?.problems ?? [] } }),
  }
}

/** What a migration that has no error came to; the downtime in its parts. */
export function reportLine({ guest, runsOn, from, to, downtimeMs, downtime }: MigrateReport): string {
  const where = { source: `runs on ${from}`, destination: `runs on ${to}`, nowhere: 'is off' }[runsOn]
  if (downtimeMs === null) return `${guest} ${where}`
  const total = `${guest} ${where}; downtime ${formatElapsed(downtimeMs)}`
  if (downtime === null) return total
  const { saveMs, lastPassMs, stateCopyMs, restoreMs, resumeMs } = downtime
  const parts = [
    `save ${formatElapsed(saveMs)}`,
    `last pass ${formatElapsed(lastPassMs)}`,
    `state copy ${formatElapsed(stateCopyMs)}`,
    `restore ${formatElapsed(restoreMs)}`,
    `resume ${formatElapsed(resumeMs)}`,
  ]
  return `${total} (${parts.join(', ')})`
}

/** One migration of this host, and under it what can be typed. */
export function statusLines(status: MigrationStatus): string[] {
  const { id, role, guest, mode, from, to, phase, step, stepState, lastMs, problem, left, commands } = status
  if (problem !== null) return [`${id}  ${role}  ${problem}`]
  const way = role === 'source' ? `${guest} to ${to}` : `${guest} from ${from}`
  const where = step === null ? '' : `, ${stepState === 'done' ? 'after' : 'in'} ${step}`
  const over = phase === 'moved' || phase === 'put back'
  const rest = left === 'nothing' ? '' : `; something is left on ${to}`
  const when = lastMs === 0 ? '' : `, ${new Date(lastMs).toISOString().slice(0, 19).replace('T', ' ')} UTC`
  return [
    `${id}  ${way}  ${mode ?? ''}  ${phase}${over ? '' : where}${rest}${when}`,
    ...commands.map((command) => `  ${command}`),
  ]
}
