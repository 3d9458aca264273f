// Whether a guest that goes to a host had moved away from there: what a fence or a journal of that host says of it. Only
// reads; refuses nothing.

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import type { Driver } from '../hypervisor/driver.js'
import { readState } from './journal.js'

/** `definition`: the fence is still there, so nobody has had the guest since. `journal`: a guest without a definition has none. */
export type OldFence = Readonly<{ id: string; by: 'definition' | 'journal' }>

/** The latest migration by which this guest left that host; null where there is none. */
export async function oldFenceOf(host: Host, driver: Driver, uuid: string): Promise<OldFence | null> {
  const fence = (await driver.fences()).find((one) => one.uuid === uuid)
  if (fence !== undefined) return { id: fence.id, by: 'definition' }
  let latest: Readonly<{ id: string; lastMs: number }> | null = null
  for (const { id, role } of await host.listJournals()) {
    if (role !== 'source') continue
    const lastMs = await whenItLeft(host, id, uuid)
    if (lastMs !== null && (latest === null || lastMs > latest.lastMs)) latest = { id, lastMs }
  }
  return latest === null ? null : { id: latest.id, by: 'journal' }
}

async function whenItLeft(host: Host, id: string, uuid: string): Promise<number | null> {
  const lines = await host.readJournal({ id, role: 'source' })
  if (lines === null) return null
  try {
    const { plan, isFenced, rollback, ended, lastMs } = readState(lines, `${id} on ${host.name}`)
    return plan?.guest.uuid === uuid && isFenced && rollback === null && ended?.how !== 'back' ? lastMs : null
  } catch (thrown) {
    // of another version: then it is not known to have left, and its disks are refused as protected
    if (thrown instanceof SyncError) return null
    throw thrown
  }
}
