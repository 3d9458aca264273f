// The step in which the hypervisor itself moves a running guest, and what takes it back. Refuses hypervisors that cannot; which
// side has the guest afterwards is for decide.ts.

import { SyncError } from '../errors.js'
import type { Driver } from '../hypervisor/driver.js'
import { isGone } from './decide.js'
import type { FactsOf } from './journal.js'
import { giveWay } from './make.js'
import { textOf, type Work } from './work.js'

/** A disk copy is never so slow that it is worth giving up: 20 days, as long as a timer can wait. */
const LIVE_TIMEOUT_MS = 20 * 86_400_000

export async function live(work: Work): Promise<FactsOf['live']> {
  const { plan, context } = work
  const here = await work.driverHere()
  const moving = here.live
  if (moving === null)
    throw new SyncError('migrate/stopped', `${plan.hypervisor} guests cannot be moved running yet`, {
      operand: work.guestName,
      hint: 'Use --mode warm.',
    })
  // a controller that was killed may have left it at work until it was done
  if (isGone(await here.state(work.guestName)) && (await stateThere(work)) === 'running') return {}
  await giveWay(work)
  // between its move and the fence a boot of this host would start the copy that is left here
  await setAutostart(work, here, 'off')
  const request = {
    guest: work.guestName,
    definition: plan.destinationDefinition,
    persistentDefinition: plan.destinationPersistentDefinition,
    destinationUri: plan.to.uriFromSource ?? '',
    copied: work.moved.map(({ target }) => target),
    sharedChecked: plan.disks.some(({ fate }) => fate === 'shared'),
    bandwidthBytes: context.bandwidthBytes ?? null,
    timeoutMs: LIVE_TIMEOUT_MS,
  }
  await moving.migrate(
    request,
    ({ doneBytes, totalBytes }) =>
      context.onEvent({ event: 'progress', step: 'live', doneBytes, totalBytes, sentBytes: doneBytes }),
    context.signal,
  )
  work.liveDowntimeMs = await liveDowntimeMs(work)
  return {}
}

/** For the report; a move that was made is not called failed because nobody can say how long it took. */
async function liveDowntimeMs(work: Work): Promise<number | null> {
  try {
    const driver = await work.driverThere()
    return (await driver.live?.downtimeMs(work.guestName)) ?? null
  } catch (thrown) {
    work.note(`how long it stood still is not known: ${textOf(thrown)}`)
    return null
  }
}

export async function undoLive(work: Work): Promise<null> {
  const driver = await work.driverHere()
  const state = await driver.state(work.guestName)
  if (state === 'paused' && work.wasRunning) await driver.resume(work.guestName)
  else if (state === 'running') await driver.live?.abort(work.guestName)
  await setAutostart(work, driver, 'as it was')
  return null
}

async function setAutostart(work: Work, driver: Driver, to: 'off' | 'as it was'): Promise<void> {
  const { name, autostart, persistentDefinition } = work.plan.guest
  if (persistentDefinition === null || !autostart) return
  await driver.define(persistentDefinition, { name, autostart: to === 'as it was' })
}

async function stateThere(work: Work): ReturnType<Driver['state']> {
  const driver = await work.driverThere()
  return await driver.state(work.guestName)
}
