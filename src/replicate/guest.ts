// The definition of a job's guest, as of a generation: asked of libvirt on the source's host without secrets, written beside the record
// of the replica before the generation is committed. What cannot be had is said; the disks are replicated all the same.

import { posix } from 'node:path'

import type { QuiesceChoice } from '../config/config.js'
import { toSyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import type { ReplicaRecord } from './record.js'
import { replicaDirectory } from './replica-file.js'

const VIRSH_TIMEOUT_MS = 30_000
const DEFINITION_MODE = 0o600

export type Definition = Readonly<{ domain: string; xml: string }>

/** Null where the job names no domain, and where it could not be had: `onWarning` is told why. */
export async function askDefinition(
  host: Host,
  quiesce: QuiesceChoice | null,
  onWarning: (text: string) => void,
): Promise<Definition | null> {
  if (quiesce?.kind !== 'libvirt') return null
  const { domain, uri } = quiesce
  const connection = uri === null ? [] : ['-c', uri]
  const argv: Argv = ['virsh', ...connection, 'dumpxml', '--inactive', '--domain', domain]
  const failed = (why: string): null => {
    onWarning(`the definition of ${domain} was not saved with the replica: ${why}`)
    return null
  }
  try {
    const { exitStatus, stdout, stderrTail } = await host.run({ argv, timeoutMs: VIRSH_TIMEOUT_MS })
    if (exitStatus === 0 && stdout.includes('<domain')) return { domain, xml: stdout }
    return failed(printable(stderrTail.trim().split('\n').at(-1) ?? '') || `virsh ended with ${exitStatus}`)
  } catch (thrown) {
    if (host.lost.aborted) throw thrown
    return failed(toSyncError(thrown).message)
  }
}

/** Writes it; resolves with what the record says of it. That of before stays in the record where there is no new one. */
export async function writeGuest(
  host: Host,
  record: ReplicaRecord,
  definition: Definition | null,
  generation: number,
  onWarning: (text: string) => void,
): Promise<ReplicaRecord['guest']> {
  if (definition === null) return record.guest
  const path = posix.join(await replicaDirectory(host, record.id), `guest-${generation}.xml`)
  try {
    await host.writeText(path, definition.xml, { mode: DEFINITION_MODE, existing: 'replace' })
    return { domain: definition.domain, hypervisor: 'libvirt', definition: path }
  } catch (thrown) {
    if (host.lost.aborted) throw thrown
    onWarning(
      `the definition of ${definition.domain} was not saved with the replica: ${toSyncError(thrown).message}`,
    )
    return record.guest
  }
}
