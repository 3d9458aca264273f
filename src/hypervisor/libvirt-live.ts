// Live migration by `virsh migrate`: started, watched, ended. Refuses nothing before libvirt does; after a failure the
// guest runs on where it was, or the error says that it does not.

import { setTimeout as delay } from 'node:timers/promises'

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import type { LiveProgress, LiveRequest } from './driver.js'
import { stateIn } from './libvirt-describe.js'
import { ASK_TIMEOUT_MS, virshLine, type Virsh, type VirshWords } from './virsh.js'

/** How often a job is asked how far it is; each question takes 50 ms of a processor. */
const PROGRESS_EVERY_MS = 1_000
/** The migration's own program ends after the job did; beyond its deadline it is killed. */
const GRACE_MS = 60_000
const MIB = 1 << 20

/** The words of `virsh migrate` but for its definitions' paths. `sharedChecked` is left to the request. */
export function liveWords(
  request: Pick<LiveRequest, 'guest' | 'destinationUri' | 'copied' | 'bandwidthBytes'> &
    Partial<Pick<LiveRequest, 'sharedChecked'>>,
  definitionPath: string,
  persistentPath: string | null,
): VirshWords {
  const { guest, destinationUri, copied, bandwidthBytes, sharedChecked = false } = request
  return [
    'migrate',
    '--live',
    '--abort-on-error',
    '--domain',
    guest,
    '--desturi',
    destinationUri,
    '--xml',
    definitionPath,
    ...(persistentPath === null ? [] : ['--persistent', '--persistent-xml', persistentPath]),
    ...(copied.length === 0 ? [] : ['--copy-storage-all', '--migrate-disks', copied.join(',')]),
    ...(sharedChecked ? ['--unsafe'] : []),
    ...(bandwidthBytes === null ? [] : ['--bandwidth', `${Math.max(1, Math.floor(bandwidthBytes / MIB))}`]),
  ]
}

/** See Driver.live. `request.guest` is what virsh takes. */
export async function migrateLive(
  virsh: Virsh,
  request: LiveRequest,
  onProgress: (progress: LiveProgress) => void,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted()
  await virsh.withFile(request.definition, async (definitionPath) => {
    const { persistentDefinition } = request
    if (persistentDefinition === null) {
      await watched(virsh, request, liveWords(request, definitionPath, null), onProgress, signal)
      return
    }
    await virsh.withFile(persistentDefinition, async (persistentPath) => {
      await watched(virsh, request, liveWords(request, definitionPath, persistentPath), onProgress, signal)
    })
  })
}

async function watched(
  virsh: Virsh,
  request: LiveRequest,
  words: VirshWords,
  onProgress: (progress: LiveProgress) => void,
  signal: AbortSignal,
): Promise<void> {
  const { guest, timeoutMs } = request
  const ended = new AbortController()
  const migration = virsh.run(words, timeoutMs + GRACE_MS).finally(() => ended.abort())
  const watching = watch(virsh, guest, timeoutMs, onProgress, signal, ended.signal)
  const [result, stopped] = await Promise.allSettled([migration, watching])
  if (result.status === 'rejected') throw result.reason
  if (result.value.exitStatus === 0) return
  if (stopped.status === 'rejected') throw stopped.reason
  const { stderrTail } = result.value
  const state = await stateIn(virsh, guest)
  const failure = virsh.failure(`${guest} was not migrated`, stderrTail, words)
  if (state === 'running') throw failure
  throw new SyncError('migrate/hypervisor', `${failure.message}; it is ${state} here now`, {
    operand: virsh.host.name,
    hint: `Ask both hosts which of them runs it: virsh list --all`,
    cause: failure,
  })
}

/** Tells how far the job is until it has ended. Ends it when the signal aborts or its time is over, and then rejects. */
async function watch(
  virsh: Virsh,
  guest: string,
  timeoutMs: number,
  onProgress: (progress: LiveProgress) => void,
  signal: AbortSignal,
  ended: AbortSignal,
): Promise<void> {
  const endsAt = Date.now() + timeoutMs
  let why: Error | null = null
  while (!ended.aborted) {
    await pause(PROGRESS_EVERY_MS, why === null ? [signal, ended] : [ended])
    if (ended.aborted) break
    if (why === null && signal.aborted) why = reasonOf(signal)
    if (why === null && Date.now() >= endsAt)
      why = new SyncError(
        'migrate/hypervisor',
        `the live migration took longer than ${timeoutMs / 1000} s and was ended`,
        {
          operand: printable(guest),
          hint: 'A guest that writes faster than the line is moves with --mode warm.',
        },
      )
    if (why === null) {
      const progress = await jobProgress(virsh, guest)
      if (progress !== null) onProgress(progress)
    } else {
      // Again each time, since the job may not have begun; that there is none (any more) is no failure.
      await virsh.run(['domjobabort', '--domain', guest], ASK_TIMEOUT_MS)
    }
  }
  if (why !== null) throw why
}

function reasonOf({ reason }: AbortSignal): Error {
  return reason instanceof Error ? reason : new Error(String(reason))
}

/** Waits, but no longer than until one of the signals aborts. */
async function pause(ms: number, signals: readonly AbortSignal[]): Promise<void> {
  const signal = AbortSignal.any([...signals])
  try {
    await delay(ms, undefined, { signal })
  } catch (error) {
    if (!signal.aborted) throw error
  }
}

async function jobProgress(virsh: Virsh, guest: string): Promise<LiveProgress | null> {
  const { stdout } = await virsh.run(['domjobinfo', '--domain', guest, '--rawstats'], ASK_TIMEOUT_MS)
  return parseJob(stdout)
}

/** `virsh domjobinfo --rawstats`: names and numbers of virTypedParameter; null where there is no job that counts bytes. */
export function parseJob(text: string): LiveProgress | null {
  const number = (name: string): number | null => {
    const found = new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1]
    return found === undefined ? null : Number(found)
  }
  const totalBytes = number('data_total')
  const doneBytes = number('data_processed')
  const remainingBytes = number('data_remaining')
  if (totalBytes === null || doneBytes === null || remainingBytes === null) return null
  // Disks are counted in, once there are any to copy.
  return { doneBytes, totalBytes, remainingBytes }
}

/** See Driver.live: what QEMU says of the job that brought it here. */
export async function downtimeOf(virsh: Virsh, guest: string): Promise<number | null> {
  const words = ['domjobinfo', '--domain', guest, '--completed', '--keep-completed', '--rawstats']
  const { stdout } = await virsh.run(words, ASK_TIMEOUT_MS)
  const found = /^downtime: (\d+)$/m.exec(stdout)?.[1]
  return found === undefined ? null : Number(found)
}

/** Ends a job of this guest, where there is one; it runs on here. */
export async function abortJob(virsh: Virsh, guest: string): Promise<void> {
  const words = ['domjobabort', '--domain', guest]
  const { exitStatus, stderrTail } = await virsh.run(words, ASK_TIMEOUT_MS)
  if (exitStatus === 0) return
  const { stdout } = await virsh.run(['domjobinfo', '--domain', guest, '--rawstats'], ASK_TIMEOUT_MS)
  // 0 is VIR_DOMAIN_JOB_NONE; a guest that does not run here has no job either, and nothing is printed.
  if (stdout.trim() === '' || /^Job type: 0$/m.test(stdout)) return
  throw virsh.failure(`the job of ${guest} was not ended (${virshLine(words)})`, stderrTail, words)
}
