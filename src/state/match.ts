// Whether a disk is the one that a record tells of. Two identities in, one of three answers out: the same, another one, or
// one that took its name or its machine; that last one is said to people and used for nothing.

import type { StableIdentity } from '../endpoint/endpoint.js'

/** `misfit`: `why` is a sentence about what the disk in the record no longer is. */
export type Fit = Readonly<{ kind: 'same' } | { kind: 'other' } | { kind: 'misfit'; why: string }>

/** Compares what a record says with the disk that is there. */
export function fitOf(recorded: StableIdentity, found: StableIdentity): Fit {
  const isOwnMachine = recorded.machineId === found.machineId
  const hasCommonName = recorded.names.some((name) => found.names.includes(name))
  if (!hasCommonName || (!isOwnMachine && recorded.hostName !== found.hostName)) return { kind: 'other' }
  if (!isOwnMachine) {
    return {
      kind: 'misfit',
      why: `${found.hostName} has another machine id than then: it was installed anew, or it is another host of that name`,
    }
  }
  const before = byKind(recorded)
  const now = byKind(found)
  const shared = [...now.keys()].filter((kind) => before.has(kind))
  const isSame =
    shared.length > 0
      ? shared.every((kind) => before.get(kind) === now.get(kind))
      : before.size === 0 && now.size === 0
  if (isSame) return { kind: 'same' }
  return {
    kind: 'misfit',
    why: `another disk has that name now (${found.names[0] ?? ''}, then ${recorded.names[0] ?? ''})`,
  }
}

/** Names by their kind, but the path: that leads to whatever is there. */
function byKind({ names }: StableIdentity): Map<string, string> {
  const kinds = new Map<string, string>()
  for (const name of names) {
    const at = name.indexOf(':')
    const kind = name.slice(0, at)
    if (kind !== 'path') kinds.set(kind, name.slice(at + 1))
  }
  return kinds
}
