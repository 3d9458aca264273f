// The names of the guards that a user may override, one option each. They cross the wire; a name that is not in this list
// is refused by who gets it.

/** In the order in which findings are told, the first of which decides the code of a refusal. */
export const GUARD_NAMES = [
  'mounted',
  'swap',
  'guest',
  'open',
  'attached',
  'held',
  'content',
  'direction',
  'same-id',
] as const

export type GuardName = (typeof GUARD_NAMES)[number]

/** True for a string that names a guard which can be overridden. */
export function isGuardName(value: unknown): value is GuardName {
  return (GUARD_NAMES as readonly unknown[]).includes(value)
}

/** The option that overrides this guard and no other. */
export function forceOption(name: GuardName): `--force-${GuardName}` {
  return `--force-${name}`
}
