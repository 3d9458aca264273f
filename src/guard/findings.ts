// From the uses of a disk to what the user is told: a refusal that lists all of them and names the option that overrides
// each, or warnings. Refuses with the code of the first use that is not overridden.

import { SyncError } from '../errors.js'
import { forceOption, type GuardName } from './guard-name.js'
import type { Use } from './use.js'

/** Bind mounts and partitions can make hundreds; a message needs a few. */
const MAX_TOLD = 4

/** Throws guard/mounted, guard/swap, guard/guest, guard/open, guard/attached or guard/held where a use is not overridden. */
export function refuseUses(path: string, uses: readonly Use[], force: readonly GuardName[]): void {
  const standing = uses.filter((use) => !isOverridden(use, force))
  const [first] = standing
  if (first === undefined) return
  throw new SyncError(
    `guard/${first.guard}`,
    `the destination ${path} is ${phraseOf(standing)}; nothing was written`,
    { operand: path, hint: `${first.hint}${overrideOf(standing)}.` },
  )
}

/** A run that writes nothing: what one that writes would refuse. */
export function dryRunWarnings(path: string, uses: readonly Use[], force: readonly GuardName[]): string[] {
  const standing = uses.filter((use) => !isOverridden(use, force))
  if (standing.length === 0) return []
  const options = [...new Set(standing.map(({ guard }) => forceOption(guard)))].join(' ')
  return [`the destination ${path} is ${phraseOf(standing)}; a run that writes refuses it (${options})`]
}

/** What is written to all the same. */
export function forcedWarnings(path: string, uses: readonly Use[]): string[] {
  return uses.length === 0
    ? []
    : [`the destination ${path} is ${phraseOf(uses)}; it is written all the same, as you said`]
}

/** A source that others write to while it is read. */
export function sourceWarnings(path: string, uses: readonly Use[]): string[] {
  const writers = uses.filter(({ guard, access }) => access === 'writes' && WRITES.has(guard))
  if (writers.length === 0) return []
  return [
    `the source ${path} is ${phraseOf(writers)}: the copy is at best what a crash would leave; take a snapshot, pause the guest or unmount it to copy a state that fits together`,
  ]
}

/** That a device or a volume stands on the source changes nothing by itself; who uses that is found too. */
const WRITES: ReadonlySet<Use['guard']> = new Set(['mounted', 'guest', 'open', 'swap'])

function isOverridden({ guard, override }: Use, force: readonly GuardName[]): boolean {
  return override === 'possible' && force.includes(guard)
}

/** 'mounted on /srv and open for writing by ...'. What another phrase begins with needs no telling. */
function phraseOf(uses: readonly Use[]): string {
  const all = [...new Set(uses.map(({ what }) => what))]
  const told = all.filter((what) => !all.some((other) => other !== what && other.startsWith(`${what}, `)))
  const shown = told.slice(0, MAX_TOLD)
  if (told.length > MAX_TOLD) shown.push(`${told.length - MAX_TOLD} more`)
  const text = [shown.slice(0, -1).join(', '), ...shown.slice(-1)].filter((part) => part !== '').join(' and ')
  return text.startsWith('its ') ? `in use: ${text}` : text
}

/** The options that override all of it; none where one of them cannot be overridden. */
function overrideOf(uses: readonly Use[]): string {
  if (uses.some(({ override }) => override === 'impossible')) return ''
  const options = [...new Set(uses.map(({ guard }) => forceOption(guard)))]
  return `; or type ${options.join(' ')} if you know better`
}
