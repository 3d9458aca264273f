// The steps that stop a guest here and bring it up there, and what takes them back. Refuses to use a saved state that its
// disks may not fit, and to stop a guest that somebody else has stopped already.

import { SyncError } from '../errors.js'
import type { Driver } from '../hypervisor/driver.js'
import { isActive, isGone } from './decide.js'
import { factsOf, type FactsOf, type Stamps } from './journal.js'
import { giveWay } from './make.js'
import { changedSince, checkDisksFit, lookAt, takeStamps } from './stamps.js'
import type { Work } from './work.js'

export async function save(work: Work): Promise<FactsOf['save']> {
  const { source, moved } = work
  const statePath = statePathOf(work)
  const driver = await work.driverHere()
  await source.workDirectory({ id: work.plan.id, role: 'source' })
  const state = await work.settledState(driver, ['saving'])
  if (isActive(state)) {
    // half a state of an earlier attempt
    await source.remove(statePath)
    work.context.copier.prepare()
    work.stoppedAtMs = work.context.clock.nowMs()
    await work.timed('saveMs', async () => driver.save(work.guestName, statePath))
  } else {
    // the save of an earlier attempt came to its end, and nobody could write that down
    const saved = await source.look(statePath)
    if (saved === null) throw stoppedByOthers(work, state)
    const { copier } = work.context
    const savedNs = saved.modifiedNs
    await checkDisksFit({ source, copier, disks: moved, stamps: null, roots: {}, savedNs, sameBoot: true })
  }
  const stamps = await takeStamps(source, moved)
  await work.holdDisks()
  return { stamps }
}

/**
 * Brings it back from its saved state, or says why not; a guest that runs needs nothing. The saved state is removed before
 * the guest goes on: beside one that ran it is poison. A save that the host did not survive is as a power cut: the guest
 * starts from its disks.
 */
export async function undoSave(work: Work): Promise<null> {
  const { source, plan } = work
  const statePath = statePathOf(work)
  await work.letGo()
  const driver = await work.driverHere()
  const state = await work.settledState(driver, ['saving'])
  if (isGone(state) && !(await restoreHere(work, driver, statePath))) return null
  await source.remove(statePath)
  if (!work.wasRunning) return null
  if ((await driver.state(work.guestName)) === 'paused') await driver.resume(work.guestName)
  const now = await driver.state(work.guestName)
  if (now === 'running') return null
  throw new SyncError('migrate/stuck', `${work.guestName} is ${now} on this host and does not go on`, {
    operand: work.guestName,
    hint: `Look why, then type blocksync migrate --abort ${plan.id} again.`,
  })
}

/** Resolves with whether it is in memory now; false where it is to stay off. */
async function restoreHere(work: Work, driver: Driver, statePath: string): Promise<boolean> {
  const { plan, ledger, source, context, moved } = work
  const state = ledger.sourceState
  const facts = factsOf(state, 'save')
  const saved = await source.look(statePath)
  const sameBoot = state.intents.get('save') === work.bootId
  const startFromDisks = async (why: string): Promise<boolean> => {
    work.warn(`${why}: its memory is lost, and it starts from its disks`)
    await driver.start(
      work.guestName,
      plan.guest.persistentDefinition === null ? plan.guest.definition : null,
    )
    return true
  }
  if (facts === null && !sameBoot)
    return await startFromDisks(`this host went down while ${work.guestName} was being saved`)
  if (saved === null) {
    // it is removed when the guest is in memory again
    if (work.wasRollingBack) return await startFromDisks(`${work.guestName} went on here and is gone again`)
    if (facts !== null)
      throw new SyncError('migrate/stuck', `the saved state of ${work.guestName} (${statePath}) is gone`, {
        operand: statePath,
        hint: 'Where is it? Without it the guest can only be started from its disks, by hand.',
      })
    work.warn(`${work.guestName} was off when it was to be saved; it is left so`)
    return false
  }
  await checkDisksFit({
    source,
    copier: context.copier,
    disks: moved,
    stamps: state.unfencedStamps ?? facts?.stamps ?? null,
    roots: factsOf(state, 'final')?.roots ?? {},
    savedNs: saved.modifiedNs,
    sameBoot,
  })
  await driver.restorePaused(statePath, plan.guest, plan.guest.definition)
  return true
}

export async function shutdown(work: Work): Promise<FactsOf['shutdown']> {
  const { plan, context } = work
  const driver = await work.driverHere()
  const state = await work.settledState(driver, ['stopping'])
  let forced = false
  if (isActive(state)) {
    context.copier.prepare()
    work.stoppedAtMs = context.clock.nowMs()
    await work.timed('saveMs', async () => {
      try {
        await driver.shutdown(work.guestName, plan.options.shutdownTimeoutMs)
      } catch (thrown) {
        const tooSlow = thrown instanceof SyncError && thrown.code === 'migrate/shutdown'
        if (!tooSlow || plan.options.forceOff === 'no') throw thrown
        work.warn(`${work.guestName} did not shut down in time, and its plug is pulled`)
        await driver.destroy(work.guestName)
        forced = true
      }
    })
  }
  await work.holdDisks()
  return { forced }
}

/** Starts it again, where it is off: it was asked to shut down by us. */
export async function undoShutdown(work: Work): Promise<null> {
  const { plan } = work
  await work.letGo()
  const driver = await work.driverHere()
  const state = await work.settledState(driver, ['stopping'])
  if (isGone(state))
    await driver.start(
      work.guestName,
      plan.guest.persistentDefinition === null ? plan.guest.definition : null,
    )
  return null
}

export async function restore(work: Work): Promise<FactsOf['restore']> {
  const { plan, ledger } = work
  const there = work.there()
  const statePath = plan.destinationStatePath ?? ''
  const driver = await work.driverThere()
  const state = await driver.state(work.guestName)
  if (state === 'running' && !ledger.sourceState.isFenced) throw runsThere(work)
  await work.timed('restoreMs', async () => {
    // what an earlier attempt left
    if (!isGone(state)) await driver.destroy(work.guestName)
    if (ledger.sourceState.isFenced) await checkCopiesFit(work)
    await giveWay(work)
    await driver.restorePaused(statePath, plan.guest, plan.destinationDefinition)
  })
  if (there.lost.aborted) throw there.lost.reason
  return {}
}

export async function undoRestore(work: Work): Promise<null> {
  const driver = await work.driverThere()
  if (!isGone(await driver.state(work.guestName))) await driver.destroy(work.guestName)
  return null
}

/** What was restored is paused, has the disks that were meant, and both sides are as they were when they were copied. */
export async function check(work: Work): Promise<FactsOf['check']> {
  const { source, ledger, moved, movedThere } = work
  return await work.timed('restoreMs', async () => {
    const driver = await work.driverThere()
    const there = work.there()
    const [guest, stamps] = await Promise.all([
      driver.describe(work.guestName),
      takeStamps(there, movedThere),
      checkDisksFit({
        source,
        copier: work.context.copier,
        disks: moved,
        stamps: ledger.sourceState.unfencedStamps ?? factsOf(ledger.sourceState, 'save')?.stamps ?? null,
        roots: factsOf(ledger.sourceState, 'final')?.roots ?? {},
        savedNs: null,
        sameBoot: true,
      }),
    ])
    if (guest.state !== 'paused') throw unlikePlanned(work, `it is ${guest.state} there and not paused`)
    for (const { target, destinationPath, sourcePath } of moved) {
      const disk = guest.disks.find((each) => each.target === target)
      const path = disk === undefined || !('path' in disk.source) ? null : disk.source.path
      if (path !== destinationPath) throw unlikePlanned(work, `its disk ${target} is ${path ?? 'missing'}`)
      const [from, to] = await Promise.all([lookAt(source, sourcePath), lookAt(there, destinationPath)])
      const fits =
        to.kind === 'file' && from.kind === 'file'
          ? to.sizeBytes === from.sizeBytes
          : to.sizeBytes >= from.sizeBytes
      if (!fits)
        throw unlikePlanned(work, `${path} has ${to.sizeBytes} bytes, and ${sourcePath} ${from.sizeBytes}`)
    }
    return { stamps }
  })
}

/**
 * Lets it go on there. A guest that is gone is restored once more, where its disks are as they were when it was restored:
 * then it never ran. Else it ran, and starts from its disks as after a power cut.
 */
export async function resume(work: Work): Promise<FactsOf['resume']> {
  const { plan } = work
  const driver = await work.driverThere()
  await work.timed('resumeMs', async () => {
    const state = await driver.state(work.guestName)
    if (isGone(state)) {
      const statePath = plan.destinationStatePath ?? ''
      const saved = await work.there().look(statePath)
      if (saved !== null && (await areCopiesFit(work))) {
        await driver.restorePaused(statePath, plan.guest, plan.destinationDefinition)
        if (work.wasRunning) await driver.resume(work.guestName)
      } else {
        work.warn(`${work.guestName} ran on ${plan.to.typed} and is gone: it starts from its disks`)
        const isDefined = factsOf(work.ledger.sourceState, 'define')?.isDefined === true
        await driver.start(work.guestName, isDefined ? null : plan.destinationDefinition)
      }
    } else if (state === 'paused' && work.wasRunning) await driver.resume(work.guestName)
  })
  work.resumedAtMs = work.context.clock.nowMs()
  return {}
}

/** Starts a guest that was shut down here. */
export async function start(work: Work): Promise<FactsOf['start']> {
  const { plan, ledger } = work
  const driver = await work.driverThere()
  await work.timed('resumeMs', async () => {
    if (isActive(await driver.state(work.guestName))) return
    const isDefined = factsOf(ledger.sourceState, 'define')?.isDefined === true
    await driver.start(work.guestName, isDefined ? null : plan.destinationDefinition)
  })
  work.resumedAtMs = work.context.clock.nowMs()
  return {}
}

/** The copies are as they were when the guest there was restored: nothing ran on them. */
async function areCopiesFit(work: Work): Promise<boolean> {
  const stamps: Stamps | null = factsOf(work.ledger.sourceState, 'check')?.stamps ?? null
  return (await changedSince(work.there(), work.movedThere, stamps)).length === 0
}

async function checkCopiesFit(work: Work): Promise<void> {
  if (await areCopiesFit(work)) return
  throw unlikePlanned(work, 'its disks there are not as they were when they were copied')
}

function statePathOf({ plan }: Work): string {
  return plan.sourceStatePath ?? ''
}

function stoppedByOthers(work: Work, state: string): SyncError {
  return new SyncError(
    'migrate/stopped',
    `${work.guestName} is ${state} on this host: somebody stopped it meanwhile`,
    {
      operand: work.guestName,
      hint: 'A guest that is off is moved with --mode cold.',
    },
  )
}

function runsThere(work: Work): SyncError {
  return new SyncError('migrate/stuck', `${work.guestName} runs on ${work.plan.to.typed} without leave`, {
    operand: work.guestName,
    hint: 'Look there who started it.',
  })
}

function unlikePlanned(work: Work, why: string): SyncError {
  return new SyncError(
    'migrate/stopped',
    `${work.guestName} cannot be handed over to ${work.plan.to.typed}: ${why}`,
    {
      operand: work.guestName,
    },
  )
}
