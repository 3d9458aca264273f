// The options that override one guard each: --force-mounted and its brothers. There is none that overrides all.

import type { Command } from 'commander'

import { forceOption, GUARD_NAMES, type GuardName } from '../guard/guard-name.js'

/** What commander makes of them: --force-same-id is `forceSameId`. */
export type ForceFlags = { [Name in GuardName as `force${Capitalized<Name>}`]?: true }

type Capitalized<Name extends string> = Name extends `${infer First}-${infer Rest}`
  ? `${Capitalize<First>}${Capitalized<Rest>}`
  : Capitalize<Name>

/** Guards whose option is here; a name of GUARD_NAMES without a line has its option elsewhere. */
const HELP: Partial<Record<GuardName, string>> = {
  mounted: 'write to a destination that is mounted',
  swap: 'write to a disk with active swap in it',
  guest: 'write to the disk of a running guest',
  open: 'write to what another process has open for writing',
  attached: 'write to a file that a loop device stands on',
  content: 'write over content that the source has not, on the first sync of a pair',
  direction: 'write to the disk that the last run of the pair read from',
  'same-id': 'write to a disk that has a hardware number or volume UUID in common with the source',
  held: 'write to what device mapper, RAID or an unknown program holds',
}

export function addForceFlags(command: Command): Command {
  command.optionsGroup('To override one guard, each for itself:')
  for (const name of GUARD_NAMES) {
    const text = HELP[name]
    if (text !== undefined) command.option(forceOption(name), text)
  }
  return command
}

/** The guards that the flags override. */
export function forcedGuards(flags: ForceFlags): GuardName[] {
  return GUARD_NAMES.filter((name) => flags[flagOf(name)] === true)
}

function flagOf(name: GuardName): keyof ForceFlags {
  const words = name.split('-').map((word) => word.charAt(0).toUpperCase() + word.slice(1))
  return `force${words.join('')}` as keyof ForceFlags
}
