// Who else uses a disk of this host: what the disk is comes in, every use that can be seen goes out. It decides nothing;
// findings.ts makes refusals and warnings of it.

import type { BigIntStats } from 'node:fs'

import { holderUses, swapUses } from './claims.js'
import { GUARD_NAMES } from './guard-name.js'
import { guestUses } from './guests.js'
import { mountUses } from './mounts.js'
import { openerUses } from './openers.js'
import { stackOf } from './stack.js'
import type { Survey } from './survey.js'

/** One finding. */
export type Use = Readonly<{
  guard: 'mounted' | 'swap' | 'guest' | 'open' | 'attached' | 'held'
  /** Goes behind 'the disk is': 'mounted on /srv', 'its partition sda1 is held by dm-0 (vg-root), mounted on /'. */
  what: string
  /** What to type to end it; a sentence without its full stop. */
  hint: string
  /** `disk`: the kernel gives nobody the exclusive open of the disk while this lasts. */
  claims: 'disk' | 'nothing'
  /** Whether the content changes by it. */
  access: 'reads' | 'writes'
  /** `impossible`: the kernel refuses the writes whatever the user says. */
  override: 'possible' | 'impossible'
}>

/** All uses of the disk that `facts` (stat, bigint; by `path`) describes, in the order of GUARD_NAMES. */
export async function findUses(path: string, facts: BigIntStats, survey: Survey): Promise<Use[]> {
  // begun first: it takes longest
  const descriptors = survey.descriptors()
  const places = await stackOf(facts, survey)
  const found = await Promise.all([
    mountUses(places, survey),
    swapUses(places, survey),
    guestUses(places, survey),
    descriptors.then(() => openerUses(places, survey)),
  ])
  const all = [...found.flat(), ...holderUses(places, path)]
  return all.sort((a, b) => GUARD_NAMES.indexOf(a.guard) - GUARD_NAMES.indexOf(b.guard))
}
