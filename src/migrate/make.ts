// Makes what is missing at the destination before anything is copied, and takes away what was made. Refuses to make what
// has come to be there since the plan was made, and takes away nothing that it may not have made itself.

import { SyncError, toSyncError } from '../errors.js'
import type { Host, Protection } from '../host/host.js'
import { isLoss } from './context.js'
import { readState, factsOf, type FactsOf, type Made } from './journal.js'
import { fencedVolume, isSameVolume, lvcreateArgv, lvremoveArgv } from './lvm.js'
import { dirname } from 'node:path/posix'
import { oldFenceOf } from './old-fence.js'
import { textOf, type Work } from './work.js'

const LVM_TIMEOUT_MS = 60_000
/** As the image files of a guest: for root and the hypervisor, which takes them over itself. */
const FILE_MODE = 0o600

export async function prepare(work: Work): Promise<FactsOf['prepare']> {
  const there = work.there()
  await there.workDirectory({ id: work.plan.id, role: 'destination' })
  await liftOldFence(work, there)
  for (const { fate, creation, destinationPath, sizeBytes } of work.plan.disks) {
    if (fate !== 'copied' || creation === null || destinationPath === null) continue
    switch (creation.kind) {
      case 'present':
        break
      case 'file':
        await makeDirectories(work, there, dirname(destinationPath))
        await make(work, there, { kind: 'file', path: destinationPath, sizeBytes })
        break
      case 'lvm':
        await make(work, there, { kind: 'volume', group: creation.group, volume: creation.volume })
        break
      default:
        creation satisfies never
    }
  }
  for (const { destinationPath } of work.plan.files) {
    await makeDirectories(work, there, dirname(destinationPath))
    if ((await there.look(destinationPath)) === null)
      await make(work, there, { kind: 'copy', path: destinationPath })
  }
  return {}
}

async function makeDirectories(work: Work, there: Host, path: string): Promise<void> {
  if (path === '/' || (await there.look(path)) !== null) return
  await makeDirectories(work, there, dirname(path))
  await make(work, there, { kind: 'directory', path })
}

/** What this migration has made already, in an earlier attempt, is there and stays. */
async function make(work: Work, there: Host, made: Made): Promise<void> {
  const { ledger, plan } = work
  const earlier = ledger.sourceState.made.find((each) => isSame(each.made, made))
  if (earlier?.finished === 'yes') return
  if (earlier !== undefined && (await isOurs(there, made))) {
    await ledger.made(made)
    return
  }
  if (earlier === undefined) await ledger.making(made)
  try {
    switch (made.kind) {
      case 'directory':
        await there.makeDirectories(made.path)
        break
      case 'file':
        await there.makeFile(made.path, made.sizeBytes, FILE_MODE)
        break
      case 'volume': {
        const sizeBytes = plan.disks.find(
          ({ creation }) =>
            creation?.kind === 'lvm' && creation.group === made.group && creation.volume === made.volume,
        )?.sizeBytes
        const argv = lvcreateArgv(made, sizeBytes ?? 0)
        const { exitStatus, stderrTail } = await there.run({ argv, timeoutMs: LVM_TIMEOUT_MS })
        if (exitStatus !== 0)
          throw new SyncError(
            'migrate/stopped',
            `${there.name} did not make the volume: ${stderrTail.trim()}`,
            {
              operand: `${made.group}/${made.volume}`,
              hint: `Try it by hand there: ${argv.join(' ')}`,
            },
          )
        break
      }
      case 'unprotected':
        await there.unprotect(made.protection)
        break
      case 'copy':
      case 'old-fence':
        break
      default:
        made satisfies never
    }
  } catch (thrown) {
    // a host that is lost says nothing; one that answers did not do it, where nothing of ours is there
    if (!isLoss(toSyncError(thrown)) && !(await isOurs(there, made))) await ledger.unmade(made)
    throw thrown
  }
  await ledger.made(made)
}

function isSame(one: Made, other: Made): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}

/** Whether what is there may be what we were about to make: it was not there just before that was written down. */
async function isOurs(there: Host, made: Made): Promise<boolean> {
  switch (made.kind) {
    case 'directory':
      return (await there.look(made.path))?.kind === 'directory'
    case 'file': {
      const facts = await there.look(made.path)
      return facts !== null && facts.sizeBytes === made.sizeBytes && facts.allocatedBytes === 0
    }
    case 'volume':
      return (await there.look(`/dev/${made.group}/${made.volume}`)) !== null
    case 'copy':
    case 'unprotected':
    case 'old-fence':
      return true
    default:
      return made satisfies never
  }
}

/** The last thing made goes first. */
export async function undoPrepare(work: Work): Promise<null> {
  const there = work.there()
  for (const { made, finished } of work.ledger.sourceState.made.toReversed()) {
    if (finished === 'unknown' && !(await isOurs(there, made))) continue
    await unmake(work, there, made)
  }
  return null
}

async function unmake(work: Work, there: Host, made: Made): Promise<void> {
  switch (made.kind) {
    case 'directory':
      try {
        await there.remove(made.path)
      } catch (thrown) {
        if (isLoss(toSyncError(thrown))) throw thrown
        work.warn(
          `${made.path} on ${there.name} was made and is not empty; it is left there: ${textOf(thrown)}`,
        )
      }
      return
    case 'file':
    case 'copy':
      await there.remove(made.path)
      return
    case 'volume': {
      if ((await there.look(`/dev/${made.group}/${made.volume}`)) === null) return
      const argv = lvremoveArgv(made)
      const { exitStatus, stderrTail } = await there.run({ argv, timeoutMs: LVM_TIMEOUT_MS })
      if (exitStatus !== 0)
        throw new SyncError('host/program', `${there.name} did not remove the volume: ${stderrTail.trim()}`, {
          operand: `${made.group}/${made.volume}`,
          hint: `Try it by hand there: ${argv.join(' ')}`,
        })
      return
    }
    case 'unprotected':
      await there.protect(made.protection.path, made.protection.tag)
      return
    case 'old-fence': {
      const driver = await work.driverThere()
      await driver.fence(made.guest, made.id)
      return
    }
    default:
      made satisfies never
  }
}

/**
 * The guest goes back to where it came from: what keeps it from running there is lifted. Its disks there may be written
 * again; its old definition gives way to it only when it comes (`giveWay`).
 */
async function liftOldFence(work: Work, there: Host): Promise<void> {
  const driver = await work.driverThere()
  const old = await oldFenceOf(there, driver, work.plan.guest.uuid)
  if (old === null) return
  const where = `${old.id} on ${there.name}`
  const lines = await there.readJournal({ id: old.id, role: 'source' })
  const state = lines === null ? null : readState(lines, where)
  const facts = state === null ? null : factsOf(state, 'fence')
  for (const protection of facts?.protections ?? (await guessProtections(work, there, old.id)))
    if (await isMoved(work, there, protection)) await make(work, there, { kind: 'unprotected', protection })
  const guest = state?.plan?.guest
  const renamedTo = facts?.fence.renamedTo ?? null
  if (guest !== undefined && renamedTo !== null)
    await make(work, there, { kind: 'old-fence', id: old.id, guest, renamedTo })
}

/** A file is protected by the name that a link leads to; at the path of a deactivated volume there is nothing. */
async function isMoved(work: Work, there: Host, protection: Protection): Promise<boolean> {
  const { path: own, volume } = protection
  for (const { path } of work.movedThere) {
    if (path === own || (volume !== undefined && isSameVolume(path, volume))) return true
    if ((await there.look(path))?.realPath === own) return true
  }
  return false
}

/** Without the journal of that time: what is protected now was protected then. */
async function guessProtections(work: Work, there: Host, tag: string): Promise<Protection[]> {
  const found: Protection[] = []
  for (const { path } of work.movedThere) {
    const facts = await there.look(path)
    const closed = facts === null ? await fencedVolume(path, tag, there) : null
    if (closed !== null)
      found.push({ by: 'device', path, why: null, before: 'writable', tag, volume: closed.volume })
    if (facts?.isProtected !== true) continue
    found.push({
      by: facts.kind === 'block' ? 'device' : 'immutable',
      path,
      why: null,
      before: 'writable',
      tag,
    })
  }
  return found
}

/** Takes away the definition that was left there when the guest moved away: two of one UUID cannot be. */
export async function giveWay(work: Work): Promise<void> {
  for (const { made } of work.ledger.sourceState.made) {
    if (made.kind !== 'old-fence') continue
    // a name of libvirt; of xl it is a file beside the new one, and in nobody's way
    if (made.renamedTo.startsWith('/')) continue
    const driver = await work.driverThere()
    await driver.undefine(made.renamedTo)
  }
}
