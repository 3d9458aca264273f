// What qemu takes each disk of a replica for: what the guest's definition says, else the configuration. Never what the disk says of
// itself: in a raw one that is the guest's word, and could name any file of this host. Refuses one that nothing tells of and that
// begins as a qcow2 image does.

import type { DiskFormat } from '../config/config.js'
import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import {
  attributeOf,
  descend,
  devicesOf,
  MAX_DEFINITION_BYTES,
  parseDomain,
} from '../hypervisor/domain-xml.js'
import { printable } from '../printable.js'
import type { BootDisk } from './boot.js'
import { diskName, diskPath } from './definition.js'
import type { ReplicaRecord } from './record.js'

const READ_TIMEOUT_MS = 30_000
/** 'QFI\xfb': the first four bytes of a qcow2 image (docs/interop/qcow2 of QEMU). */
const QCOW2_MAGIC = '514649fb'
const NO_GUEST = 'no guest was started'

/**
 * In the order of the disks. Rejects with replicate/refused for a format that is none of the two, and for a disk of which nothing
 * says that it is the qcow2 image that it looks like. A definition that cannot be read is a warning.
 */
export async function bootDisks(
  host: Host,
  record: ReplicaRecord,
  configured: DiskFormat | null,
  onWarning: (text: string) => void,
): Promise<readonly BootDisk[]> {
  const defined = await definedFormats(host, record, onWarning)
  const disks: BootDisk[] = []
  for (const { path, sourcePath } of record.disks) {
    const format = defined.get(diskName(sourcePath)) ?? configured
    if (format === 'raw' || format === 'qcow2') disks.push({ path, format })
    else if (format === null) disks.push(await rawUnlessQcow2(host, path, record.job))
    else
      throw new SyncError(
        'replicate/refused',
        `${printable(path)} is ${printable(format)} as the definition of ${printable(record.guest?.domain ?? '')} has it, ` +
          `and a drill starts from raw and qcow2 alone; ${NO_GUEST}`,
        { operand: printable(path), hint: 'Run the drill without --boot.' },
      )
  }
  return disks
}

/** By the disk at the source; those of which the definition says no format are not in it. */
async function definedFormats(
  host: Host,
  { guest }: ReplicaRecord,
  onWarning: (text: string) => void,
): Promise<ReadonlyMap<string, string>> {
  const formats = new Map<string, string>()
  if (guest === null) return formats
  try {
    const text = await host.readText(guest.definition, MAX_DEFINITION_BYTES)
    if (text === null) throw new SyncError('host/file', `${guest.definition} is not there any more`)
    for (const disk of devicesOf(parseDomain(text), 'disk')) {
      const source = diskPath(descend(disk, 'source'))
      const format = attributeOf(descend(disk, 'driver'), 'type')
      if (source !== null && format !== null) formats.set(diskName(source), format)
    }
  } catch (error) {
    if (!(error instanceof SyncError) || host.lost.aborted) throw error
    onWarning(`what the disks of ${printable(guest.domain)} are is not known: ${error.message}`)
  }
  return formats
}

async function rawUnlessQcow2(host: Host, path: string, job: string): Promise<BootDisk> {
  const { exitStatus, stdout, stderrTail } = await host.run({
    argv: ['od', '-A', 'n', '-t', 'x1', '-N', '4', '--', path],
    timeoutMs: READ_TIMEOUT_MS,
  })
  if (exitStatus !== 0)
    throw new SyncError(
      'host/program',
      `the beginning of ${printable(path)} on ${host.name} could not be read: ${printable(stderrTail.trim())}; ${NO_GUEST}`,
      { operand: printable(path), hint: `Try it there: od -N 4 ${printable(path)}` },
    )
  if (stdout.replaceAll(/\s/g, '') !== QCOW2_MAGIC) return { path, format: 'raw' }
  throw new SyncError(
    'replicate/refused',
    `${printable(path)} on ${host.name} begins as a qcow2 image does, and nothing says that it is one; ${NO_GUEST}`,
    {
      operand: printable(path),
      hint: `Write format: qcow2 into boot of ${job} if it is one, or format: raw if its guest wrote that.`,
    },
  )
}
