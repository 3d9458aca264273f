// The definition of a replica's guest, as it is defined on the replica's host: the disks of the source become those of the replica.
// XML is changed as XML. Refuses nothing of a replica without a definition: then a person defines a guest.

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { Argv } from '../exec.js'
import type { Host } from '../host/host.js'
import {
  attributeOf,
  descend,
  devicesOf,
  MAX_DEFINITION_BYTES,
  parseDomain,
  retargetDomain,
} from '../hypervisor/domain-xml.js'
import { printable } from '../printable.js'
import type { ReplicaDisk, ReplicaRecord } from './record.js'
import { replicaDirectory } from './replica-file.js'

/** It may hold addresses and names, and libvirt keeps its own for root too. */
const DEFINITION_MODE = 0o600
/** Attributes of a disk's `<source>` that are a path, by the disk's type. */
const PATH_ATTRIBUTES = ['file', 'dev', 'dir'] as const

/** `commands` are to be typed in order on that host; none where no definition is known. */
export type Definition = Readonly<{ path: string | null; commands: readonly Argv[] }>

/**
 * Writes the definition for this host beside the record and says how to define and start the guest. What keeps it from that is a
 * warning: the disks matter more.
 */
export async function writeDefinition(
  host: Host,
  record: ReplicaRecord,
  onWarning: (text: string) => void,
): Promise<Definition> {
  const none: Definition = { path: null, commands: [] }
  const { guest } = record
  if (guest === null) return none
  const directory = await replicaDirectory(host, record.id)
  const kept = posix.resolve(directory, guest.definition)
  const path = posix.join(directory, 'guest.promoted.xml')
  try {
    const text = await host.readText(kept, MAX_DEFINITION_BYTES)
    if (text === null) {
      onWarning(`the definition of ${printable(guest.domain)} is not there any more (${kept})`)
      return none
    }
    const changed = await retargeted(host, text, record.disks)
    for (const left of changed.left) onWarning(`${printable(guest.domain)}: ${left}`)
    await host.writeText(path, changed.text, { mode: DEFINITION_MODE, existing: 'replace' })
  } catch (error) {
    if (!(error instanceof SyncError) || error.code === 'host/lost') throw error
    onWarning(`no definition of ${printable(guest.domain)} was written: ${error.message}`)
    return none
  }
  return {
    path,
    commands: [
      ['virsh', 'define', path],
      ['virsh', 'start', guest.domain],
    ],
  }
}

/** `left`: disks that no disk of the replica stands for, as phrases. */
async function retargeted(
  host: Host,
  text: string,
  disks: readonly ReplicaDisk[],
): Promise<Readonly<{ text: string; left: readonly string[] }>> {
  const byPath = new Map(disks.map((disk) => [diskName(disk.sourcePath), disk.path]))
  const changes = new Map<string, Readonly<{ kind: 'file' | 'block'; path: string }>>()
  const left: string[] = []
  for (const disk of devicesOf(parseDomain(text), 'disk')) {
    const target = attributeOf(descend(disk, 'target'), 'dev') ?? ''
    const source = diskPath(descend(disk, 'source'))
    const path = source === null ? undefined : byPath.get(diskName(source))
    if (path !== undefined) {
      const facts = await host.look(path)
      changes.set(target, { kind: facts?.kind === 'block' ? 'block' : 'file', path })
      byPath.delete(diskName(source ?? ''))
    } else if (source !== null || attributeOf(disk, 'device') === 'disk') {
      left.push(
        `${printable(target)} (${printable(source ?? 'no path')}) is not in the replica, and stays as it was`,
      )
    }
  }
  for (const path of byPath.values()) left.push(`it has no disk that ${printable(path)} is of`)
  return { text: retargetDomain(text, { disks: changes, networks: new Map(), files: new Map() }), left }
}

/** The path in a disk's `<source>`; null where there is none. */
export function diskPath(source: Parameters<typeof attributeOf>[0]): string | null {
  return PATH_ATTRIBUTES.map((name) => attributeOf(source, name)).find((path) => path !== null) ?? null
}

/** A volume of LVM has two names: /dev/GROUP/VOLUME, and /dev/mapper/GROUP-VOLUME, with dashes of its own doubled. One for both. */
export function diskName(path: string): string {
  const plain = posix.normalize(path)
  const [, group, volume] = /^\/dev\/mapper\/((?:[^-/]|--)+)-((?:[^-/]|--)+)$/.exec(plain) ?? []
  if (group === undefined || volume === undefined) return plain
  return `/dev/${group.replaceAll('--', '-')}/${volume.replaceAll('--', '-')}`
}
