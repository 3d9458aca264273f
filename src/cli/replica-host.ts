// The hosts of a job, opened for a command: the one that holds its replica, or both. A replica is found by the configuration, where
// there is one that has the job, else on this host. Refuses nothing by itself.

import type { Job } from '../config/config.js'
import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { openHost, type HostOptions } from '../host/open.js'
import { SYNC_DEFAULTS, type SyncOptions } from '../options.js'
import { replicaId } from '../replicate/replica-file.js'
import { openJobState } from '../replicate/state-file.js'
import { ownStatePath } from '../state/directory.js'
import type { FarSide } from '../transport/transport.js'
import type { UseRequest } from './replicate-use.js'
import { stateArguments } from './state-flags.js'

/** A host, and what the replica is called there: its ID where the job is configured, else what was typed. */
export type FoundReplica = Readonly<{
  job: Job | null
  host: Host
  name: string
  ownMachineId: string
}>

const STATE_WORD = /^--state-dir=/

/** The options of a job with another state directory than its configuration says, on both hosts. Rejects with `usage`. */
export function withStateDir(job: Job, stateDir: string | null): SyncOptions {
  const { options } = job
  if (stateDir === null) return options
  const remote = sidesOf(job).find((side) => side.kind === 'remote') ?? null
  const others = options.transport.serveArguments.filter((word) => !STATE_WORD.test(word))
  return {
    ...options,
    stateDir,
    transport: { ...options.transport, serveArguments: [...others, ...stateArguments({ stateDir }, remote)] },
  }
}

function sidesOf({ disks: [first] }: Job): FarSide[] {
  return first === undefined ? [] : [first.source.at, first.destination.at]
}

export function hostOptions(
  options: SyncOptions,
  more: Pick<HostOptions, 'onStderrLine' | 'signal'> = {},
): HostOptions {
  const { stateDir, native, transport, timeoutMs } = options
  return { stateDir, native, transport, timeoutMs, ...more }
}

/** Of this host, without any job. */
export async function openThisHost(stateDir: string | null): Promise<Host> {
  return await openHost({ kind: 'local' }, hostOptions({ ...SYNC_DEFAULTS, stateDir }))
}

/**
 * Does something with the host of a replica, and closes it. An interrupt closes it too, which ends what goes on there; what is
 * thrown is then the interrupt.
 */
export async function withReplica<T>(
  request: UseRequest,
  act: (found: FoundReplica) => Promise<T>,
): Promise<T> {
  const { config, stateDir, name, signal } = request
  const job = config?.jobs.find((one) => one.name === name) ?? null
  return await interruptible(signal, async (opened) => {
    const here = opened(await openThisHost(stateDir))
    const { machineId: ownMachineId } = await here.facts()
    if (job === null) return await act({ job, host: here, name, ownMachineId })
    const { direction } = await openJobState(ownStatePath(stateDir), name)
    const end = direction === 'forward' ? 'destination' : 'source'
    const host = opened(await openEnd(job, end, request))
    return await act({ job, host, name: replicaId(name, ownMachineId, direction), ownMachineId })
  })
}

/** The same with both hosts of a job, as it is configured. */
export async function withBothHosts<T>(
  job: Job,
  request: UseRequest,
  act: (source: Host, destination: Host, ownMachineId: string) => Promise<T>,
): Promise<T> {
  return await interruptible(request.signal, async (opened) => {
    const here = opened(await openThisHost(request.stateDir))
    const { machineId } = await here.facts()
    const source = opened(await openEnd(job, 'source', request))
    const destination = opened(await openEnd(job, 'destination', request))
    return await act(source, destination, machineId)
  })
}

async function openEnd(job: Job, end: 'source' | 'destination', request: UseRequest): Promise<Host> {
  const { stateDir, native, signal, onNote } = request
  const [disk] = job.disks
  if (disk === undefined) throw new SyncError('internal', `${job.name} has no disk`)
  const options = withStateDir(job, stateDir)
  return await openHost(
    disk[end].at,
    hostOptions(native === 'auto' ? options : { ...options, native }, {
      signal,
      onStderrLine: (line) => onNote(`remote: ${line}`),
    }),
  )
}

async function interruptible<T>(
  signal: AbortSignal,
  act: (opened: (host: Host) => Host) => Promise<T>,
): Promise<T> {
  const opened: Host[] = []
  let closing: Promise<unknown> | null = null
  const closeAll = (): Promise<unknown> => (closing ??= Promise.all(opened.map((host) => host.close())))
  // what they are asked then rejects, and that is how it ends; the closing itself is waited for below
  const onAbort = (): void => void closeAll().catch(() => undefined)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    signal.throwIfAborted()
    return await act((host) => {
      opened.push(host)
      return host
    })
  } catch (thrown) {
    signal.throwIfAborted()
    throw thrown
  } finally {
    signal.removeEventListener('abort', onAbort)
    await closeAll()
  }
}
