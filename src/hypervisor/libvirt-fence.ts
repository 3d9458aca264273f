// What is left of a guest on the host that it moved away from: its definition under another name, marked, and unable to
// start. Refuses to fence a guest that runs, by libvirt's own rule that only a stopped one can be renamed.

import {
  BARRIER_TARGET,
  barrierPath,
  descend,
  devicesOf,
  isBarrier,
  markElement,
  MOVED_NAMESPACE,
  movedMark,
  parseDomain,
  rootOf,
  textOf,
  type MovedMark,
} from './domain-xml.js'
import type { Driver, Fence, Guest } from './driver.js'
import { names } from './libvirt-describe.js'
import { ACT_TIMEOUT_MS, ASK_TIMEOUT_MS, type Virsh, type VirshWords } from './virsh.js'

/** The name that says so to people; the mark in the metadata is what counts. */
const MOVED_NAME = /^.+\.moved-.+$/

/**
 * The definition is first marked and given a disk that is not there, then renamed: it cannot start from the second of
 * these on. All in one call, which also reads back what is there afterwards: fencing is part of the downtime. A machine
 * without a place for one more disk is left with the mark and the name.
 */
export async function fenceGuest(virsh: Virsh, guest: Guest, id: string): Promise<Fence> {
  const { uuid, persistentDefinition } = guest
  const suffix = `.moved-${id}`
  // Asked for a second time, with the guest as it is now.
  const name = guest.name.endsWith(suffix) ? guest.name.slice(0, -suffix.length) : guest.name
  if (persistentDefinition === null)
    return { id, guest: name, uuid, renamedTo: null, autostart: false, kept: {} }
  const autostart = movedMark(persistentDefinition)?.autostart ?? guest.autostart
  const renamedTo = `${name}${suffix}`
  const rename: VirshWords = ['domrename', '--domain', uuid, '--new-name', renamedTo]
  const { outputs, errors } = await virsh.batch(
    [
      [
        'metadata',
        ...markOf(uuid),
        '--key',
        'blocksync',
        '--set',
        markElement({ id, guest: name, autostart }),
      ],
      ['attach-disk', '--domain', uuid, '--config', ...barrierWords(id)],
      rename,
      ['autostart', '--domain', uuid, '--disable'],
      ...readBackWords(uuid),
    ],
    ACT_TIMEOUT_MS,
  )
  const there = readBack(outputs.slice(4), uuid)
  // Errors alone say nothing: the second time, all of this is there already.
  if (there.name !== renamedTo || there.mark?.id !== id || there.autostarts)
    throw virsh.failure(`the definition of ${name} was not put aside`, errors, rename)
  return { id, guest: name, uuid, renamedTo, autostart, kept: {} }
}

/** Gives the definition back as it was; done again, and for a guest that had none, it changes nothing. */
export async function unfenceGuest(virsh: Virsh, fence: Fence): Promise<void> {
  const { uuid, guest, renamedTo, autostart } = fence
  if (renamedTo === null) return
  const rename: VirshWords = ['domrename', '--domain', uuid, '--new-name', guest]
  const { outputs, errors } = await virsh.batch(
    [
      rename,
      ['autostart', '--domain', uuid, ...(autostart ? [] : ['--disable'])],
      ['detach-disk', '--domain', uuid, '--config', '--target', BARRIER_TARGET],
      ['metadata', ...markOf(uuid), '--remove'],
      ...readBackWords(uuid),
    ],
    ACT_TIMEOUT_MS,
  )
  const there = readBack(outputs.slice(4), uuid)
  if (there.name !== guest || there.mark !== null || there.hasBarrier || there.autostarts !== autostart)
    throw virsh.failure(`${renamedTo} was not given back`, errors, rename)
}

function markOf(uuid: string): VirshWords {
  return ['--domain', uuid, '--uri', MOVED_NAMESPACE, '--config']
}

/** Words of attach-disk for the disk that is not there. */
export function barrierWords(id: string): VirshWords {
  const disk = ['--source', barrierPath(id), '--target', BARRIER_TARGET, '--targetbus', 'virtio']
  return [...disk, '--sourcetype', 'file', '--driver', 'qemu', '--subdriver', 'raw', '--mode', 'readonly']
}

function readBackWords(uuid: string): VirshWords[] {
  return [
    ['dumpxml', '--domain', uuid, '--inactive'],
    ['list', '--all', '--autostart', '--uuid'],
  ]
}

type ReadBack = Readonly<{
  name: string | null
  mark: MovedMark | null
  hasBarrier: boolean
  autostarts: boolean
}>

/** What readBackWords printed. */
function readBack([xml = '', autostarted = '']: readonly string[], uuid: string): ReadBack {
  const autostarts = autostarted.includes(uuid)
  if (xml.trim() === '') return { name: null, mark: null, hasBarrier: false, autostarts }
  const document = parseDomain(xml)
  return {
    name: textOf(descend(rootOf(document), 'name')),
    mark: movedMark(xml),
    hasBarrier: devicesOf(document, 'disk').some(isBarrier),
    autostarts,
  }
}

/** Whether the guest of this UUID moved away from here: a fence is what is left of it. */
export async function isFenced(virsh: Virsh, uuid: string): Promise<boolean> {
  const { exitStatus, stdout } = await virsh.run(['dumpxml', '--domain', uuid, '--inactive'], ASK_TIMEOUT_MS)
  return exitStatus === 0 && stdout.trim() !== '' && movedMark(stdout) !== null
}

/** See Driver.fences. */
export async function fencesHere(virsh: Virsh): ReturnType<Driver['fences']> {
  const candidates = (await names(virsh)).filter(({ name }) => MOVED_NAME.test(name))
  if (candidates.length === 0) return []
  const { outputs } = await virsh.batch(
    candidates.map(({ uuid }) => ['dumpxml', '--domain', uuid, '--inactive']),
    ASK_TIMEOUT_MS,
  )
  return candidates.flatMap(({ uuid }, index) => {
    const xml = outputs[index]?.trim() ?? ''
    const mark = xml === '' ? null : movedMark(xml)
    return mark === null ? [] : [{ id: mark.id, guest: mark.guest, uuid }]
  })
}
