// From the fence on: the source can no longer start it, the destination is told to go, and what is left over is cleaned up.
// The order is the rule of the whole: FENCED is on the disk here before 'go' is sent (decide.ts, ledger.ts).

import { SyncError, toSyncError } from '../errors.js'
import type { Protection } from '../host/host.js'
import { isLoss } from './context.js'
import { isActive } from './decide.js'
import { factsOf, type FactsOf, type Left, type Stamps } from './journal.js'
import { changedSince, checkDisksFit, type StampedDisk, takeStamps } from './stamps.js'
import { textOf, type Work } from './work.js'

/** From here on it cannot start here by accident. */
export async function fence(work: Work): Promise<FactsOf['fence']> {
  const { source, plan, moved } = work
  return await work.timed('resumeMs', async () => {
    const driver = await work.driverHere()
    // what somebody holds, we too, cannot be deactivated
    await work.letGo()
    const [fenced, protections] = await settledBoth(
      driver.fence(plan.guest, plan.id),
      Promise.all(moved.map(async ({ path }) => source.protect(path, plan.id))),
    )
    for (const protection of protections) warnOf(work, protection)
    const stamps = await takeStamps(source, protectedDisks(work, protections))
    return { fence: fenced, protections, stamps }
  })
}

/** Where a protection is not all that it could be. */
function warnOf(work: Work, { by, path, why, volume }: Protection): void {
  const { hypervisor, guest } = work.plan
  const kept = `do not start ${guest.name} here from a configuration that somebody kept`
  if (by === 'none') work.warn(`${path} could not be protected against writing: ${why ?? 'no way is known'}`)
  else if (by === 'device' && volume === undefined && hypervisor === 'xen')
    work.warn(
      `${path} is read-only, and Xen writes to it all the same: ${kept} (${why ?? 'it is no volume of LVM'})`,
    )
  else if (by === 'device' && why !== null) work.warn(`${path} is protected, but: ${why}`)
}

/**
 * Takes it back. Resolves with stamps of the disks without their protection, where they were not touched while they had it.
 * A fence that was only begun is made whole first: what it takes to lift it is known only then, and again is no error.
 */
export async function undoFence(work: Work): Promise<Stamps | null> {
  const { source, plan, ledger, moved } = work
  const driver = await work.driverHere()
  const facts = factsOf(ledger.sourceState, 'fence')
  if (isActive(await driver.state(work.guestName))) {
    // it comes back only after this: an earlier attempt could not write that down
    for (const protection of facts?.protections ?? []) await source.unprotect(protection)
    return null
  }
  const fenced = facts?.fence ?? (await driver.fence(plan.guest, plan.id))
  const protections =
    facts?.protections ?? (await Promise.all(moved.map(async ({ path }) => source.protect(path, plan.id))))
  const isUntouched = facts !== null && (await areUntouched(work, protections, facts.stamps))
  await Promise.all(protections.map(async (protection) => source.unprotect(protection)))
  // with --undefine-source there is no definition to give back
  if (factsOf(ledger.sourceState, 'finish')?.undefined !== true) await driver.unfence(fenced)
  const stamps = await takeStamps(source, moved)
  return isUntouched || (await areAsSaved(work)) ? stamps : null
}

/** By their content, where that is known: what is lost of it (a last pass that is done again) is not asked for later. */
async function areAsSaved({ source, ledger, context, moved }: Work): Promise<boolean> {
  const state = ledger.sourceState
  const stamps = factsOf(state, 'save')?.stamps
  if (stamps === undefined) return false
  const roots = factsOf(state, 'final')?.roots ?? {}
  const { copier } = context
  try {
    await checkDisksFit({ source, copier, disks: moved, stamps, roots, savedNs: null, sameBoot: false })
    return true
  } catch (thrown) {
    if (toSyncError(thrown).code === 'migrate/stuck') return false
    throw thrown
  }
}

/** Of a migration that is continued between FENCED and 'go': rejects where the source's disks are not as they were fenced. */
export async function checkFenceHolds(work: Work): Promise<void> {
  const { source, plan, ledger, context, moved } = work
  const facts = factsOf(ledger.sourceState, 'fence')
  await checkDisksFit({
    source,
    copier: context.copier,
    disks: protectedDisks(work, facts?.protections ?? []),
    stamps: facts?.stamps ?? null,
    roots: factsOf(ledger.sourceState, 'final')?.roots ?? {},
    savedNs: null,
    sameBoot: false,
  })
  // a device is writable again after a start of this host, and a volume may have been activated by hand
  await Promise.all(moved.map(async ({ path }) => source.protect(path, plan.id)))
}

/** Another attempt may have lifted some of it already: then they are told apart by their content. */
async function areUntouched(
  work: Work,
  protections: readonly Protection[],
  stamps: Stamps,
): Promise<boolean> {
  const disks = protectedDisks(work, protections)
  const there = await Promise.all(
    disks.map(async ({ path, volume }) => volume !== undefined || (await work.source.look(path)) !== null),
  )
  return !there.includes(false) && (await changedSince(work.source, disks, stamps)).length === 0
}

/** Where the disks are while they are protected. */
function protectedDisks({ moved }: Work, protections: readonly Protection[]): StampedDisk[] {
  return moved.map(({ target, path }, index) => {
    const protection = protections[index]
    return {
      target,
      path: protection?.by === 'rename' ? `${protection.path}.moved-${protection.tag}` : path,
      ...(protection?.volume === undefined ? {} : { volume: protection.volume.name }),
    }
  })
}

/** Leave to run it there. */
export async function go(work: Work): Promise<FactsOf['go']> {
  await work.timed('resumeMs', async () => work.ledger.go())
  return {}
}

/** A guest that waits to go on is more urgent than its definition: that is tried once more at the end. */
export async function define(work: Work): Promise<FactsOf['define']> {
  if (!work.plan.guest.isPersistent) return { isDefined: false }
  return await work.timed('resumeMs', async () => {
    try {
      await defineThere(work)
      return { isDefined: true }
    } catch (thrown) {
      if (isLoss(toSyncError(thrown))) throw thrown
      work.note(`the definition was not stored yet: ${textOf(thrown)}`)
      return { isDefined: false }
    }
  })
}

async function defineThere(work: Work): Promise<void> {
  const { guest, destinationPersistentDefinition, destinationDefinition } = work.plan
  const driver = await work.driverThere()
  await driver.define(destinationPersistentDefinition ?? destinationDefinition, {
    name: guest.name,
    autostart: guest.autostart,
  })
}

/** The guest is where it belongs; saved states go, and the source's definition where that was asked for. */
export async function finish(work: Work): Promise<FactsOf['finish']> {
  const { plan, source, ledger } = work
  const { guest, options, sourceStatePath } = plan
  if (guest.isPersistent && factsOf(ledger.sourceState, 'define')?.isDefined !== true)
    await defineAtLast(work)
  const left = await cleanThere(work)
  if (sourceStatePath !== null) await source.remove(sourceStatePath)
  const fenced = factsOf(ledger.sourceState, 'fence')?.fence
  let isUndefined = false
  if (options.undefineSource === 'yes' && fenced !== undefined && fenced.renamedTo !== null) {
    const driver = await work.driverHere()
    // of xl it is a file
    if (fenced.renamedTo.startsWith('/')) await source.remove(fenced.renamedTo)
    else await driver.undefine(fenced.renamedTo)
    isUndefined = true
  }
  return { left, undefined: isUndefined }
}

async function defineAtLast(work: Work): Promise<void> {
  try {
    await defineThere(work)
  } catch (thrown) {
    const { message, hint } = toSyncError(thrown)
    throw new SyncError(
      'migrate/stuck',
      `${work.guestName} runs on ${work.plan.to.typed}, but its definition could not be stored there: ${message}`,
      { operand: work.guestName, cause: thrown, ...(hint === null ? {} : { hint }) },
    )
  }
}

/** What nobody needs any more there; `destination` where it cannot be asked now. */
export async function cleanThere(work: Work): Promise<Left> {
  const { destinationStatePath } = work.plan
  try {
    const there = work.there()
    if (destinationStatePath !== null) await there.remove(destinationStatePath)
    for (const { made } of work.ledger.sourceState.made)
      if (made.kind === 'old-fence' && made.renamedTo.startsWith('/')) await there.remove(made.renamedTo)
    return 'nothing'
  } catch (thrown) {
    work.warn(`${work.plan.to.typed} could not be cleaned up: ${textOf(thrown)}`)
    return 'destination'
  }
}

/** Both run to their end, whatever becomes of the other: what is half done is not to go on behind our back. */
async function settledBoth<A, B>(one: Promise<A>, other: Promise<B>): Promise<[A, B]> {
  const [first, second] = await Promise.allSettled([one, other])
  if (first.status === 'rejected') throw first.reason
  if (second.status === 'rejected') throw second.reason
  return [first.value, second.value]
}
