// Whether two hosts see one disk of a storage network, or one host sees it by two paths: numbers that are given out once are
// compared. Refuses with guard/same-id; UUIDs of content are no evidence, since a copy has those of its source.

import type { StableIdentity } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { forceOption } from './guard-name.js'

/**
 * Names of StableIdentity that no second disk has: hardware numbers from a registry (NAA, EUI-64, NVMe's UUID; others are
 * whatever a vendor or an emulator printed), and device mapper's UUID of a logical volume or of a multipath device.
 */
const GIVEN_OUT_ONCE = /^(wwid:(naa|eui|uuid)\.|dm:(LVM-|mpath-))/

/** The name of that kind that both have, or null. */
export function sharedId(source: StableIdentity, destination: StableIdentity): string | null {
  const names = source.names.filter((name) => GIVEN_OUT_ONCE.test(name))
  return names.find((name) => destination.names.includes(name)) ?? null
}

/** The refusal of a pair that has such a name in common; null where it has none. Operands are as typed. */
export function sameIdRefusal(
  source: StableIdentity,
  destination: StableIdentity,
  sourceName: string,
  destinationName: string,
): SyncError | null {
  const shared = sharedId(source, destination)
  if (shared === null) return null
  return new SyncError(
    'guard/same-id',
    `${destinationName} has the same ${shared.startsWith('dm:') ? 'volume UUID' : 'hardware number'} as ${sourceName} ` +
      `(${printable(shared)}): it may be the same disk by another path or on another host; nothing was written`,
    {
      operand: destinationName,
      hint: `Name two disks; where one is a clone of the other and they are two, type ${forceOption('same-id')} if you know better.`,
    },
  )
}
