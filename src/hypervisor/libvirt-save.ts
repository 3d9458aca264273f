// A guest goes into a file and is gone from memory, or runs on as before. Takes the path of a file that is not there yet;
// refuses to call a file a saved guest that libvirt cannot read.

import { dirname } from 'node:path'

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { stateIn } from './libvirt-describe.js'
import { ACT_TIMEOUT_MS, ASK_TIMEOUT_MS, type Virsh, type VirshWords } from './virsh.js'

/** All of a guest's memory is written; 1 TiB at 300 MiB/s takes an hour. */
const SAVE_TIMEOUT_MS = 3_600_000
/** A save that is told to end does so within a second; then QEMU has the guest run again. */
const ABORT_TIMEOUT_MS = 30_000
const POLL_MS = 200
/** `state.state` and `state.reason` of a guest that somebody paused on purpose (virDomainPausedReason). */
const PAUSED_BY_USER = /state\.state=3\n\s*state\.reason=1$/m

export function saveWords(domain: string, statePath: string): VirshWords {
  return ['save', '--domain', domain, '--file', statePath]
}

/** See Driver.save. */
export async function saveGuest(virsh: Virsh, domain: string, statePath: string): Promise<void> {
  let failure: unknown = null
  try {
    const words = saveWords(domain, statePath)
    await virsh.act(words, SAVE_TIMEOUT_MS, `${domain} was not saved to ${statePath}`)
  } catch (thrown) {
    failure = thrown
  }
  if (failure === null) {
    const problem = await flushed(virsh, domain, statePath)
    if (problem === null) return
    failure = problem
  } else if (await isSavedAnyway(virsh, domain, statePath)) {
    // virsh was stopped, or lost its daemon, when the guest was in the file already
    return
  }
  throw await withGuestRunning(virsh, domain, failure)
}

/** Null when the file is on stable storage and libvirt reads it as a saved guest; the two take no longer than one. */
async function flushed(virsh: Virsh, domain: string, statePath: string): Promise<SyncError | null> {
  const words = ['save-image-dumpxml', '--file', statePath, '--xpath', '/domain/uuid']
  const [image, flush] = await Promise.all([
    virsh.run(words, ASK_TIMEOUT_MS),
    virsh.host.run({ argv: ['sync', statePath, dirname(statePath)], timeoutMs: SAVE_TIMEOUT_MS }),
  ])
  if (image.exitStatus !== 0 || !image.stdout.includes('<uuid>'))
    return virsh.failure(`${statePath} is not a saved guest`, image.stderrTail, words)
  if (flush.exitStatus === 0) return null
  return new SyncError(
    'migrate/hypervisor',
    `the saved state of ${printable(domain)} could not be flushed: ${printable(flush.stderrTail)}`,
    { operand: virsh.host.name, hint: `Look at the disk below ${printable(dirname(statePath))}.` },
  )
}

/** After a failure: waits for a save that still goes on, having told it to end. */
async function isSavedAnyway(virsh: Virsh, domain: string, statePath: string): Promise<boolean> {
  const endsAt = Date.now() + ABORT_TIMEOUT_MS
  let state = await stateIn(virsh, domain)
  while (state === 'saving' && Date.now() < endsAt) {
    // It may end by itself meanwhile; the state is what counts.
    await virsh.run(['domjobabort', '--domain', domain], ASK_TIMEOUT_MS)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    state = await stateIn(virsh, domain)
  }
  if (state !== 'off' && state !== 'absent') return false
  return (await flushed(virsh, domain, statePath)) === null
}

/** The failure to report, when the guest runs again where it is still in memory. */
async function withGuestRunning(virsh: Virsh, domain: string, failure: unknown): Promise<unknown> {
  const { stdout } = await virsh.run(['domstats', '--state', '--raw', '--domain', domain], ASK_TIMEOUT_MS)
  const isLeftPaused = /state\.state=3$/m.test(stdout) && !PAUSED_BY_USER.test(stdout)
  if (isLeftPaused)
    await virsh.act(['resume', '--domain', domain], ACT_TIMEOUT_MS, `${domain} is paused and was not resumed`)
  return failure
}
