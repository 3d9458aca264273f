// What a libvirt definition says of a guest: disks, nics, files, and why it cannot be moved. Takes parsed XML, asks nobody,
// and refuses nothing: what cannot move becomes a problem with the modes it stands in the way of.

import type { Document, Element } from '@xmldom/xmldom'

import { printable } from '../printable.js'
import {
  attributeOf,
  childrenOf,
  connectionAttribute,
  descend,
  devicesOf,
  isBarrier,
  rootOf,
  textOf,
} from './domain-xml.js'
import type { DiskSource, GuestDisk, GuestNic, GuestProblem, GuestState, MigrateMode } from './driver.js'

const ALL_MODES: readonly MigrateMode[] = ['warm', 'cold', 'live']
/** Where the memory of a running guest moves. */
const WITH_MEMORY: readonly MigrateMode[] = ['warm', 'live']

/** Sizes in a definition; without a unit it is KiB (libvirt's scale, formatdomain "Memory Allocation"). */
const UNIT_BYTES: Readonly<Record<string, number>> = {
  b: 1,
  bytes: 1,
  KB: 1e3,
  k: 2 ** 10,
  KiB: 2 ** 10,
  MB: 1e6,
  M: 2 ** 20,
  MiB: 2 ** 20,
  GB: 1e9,
  G: 2 ** 30,
  GiB: 2 ** 30,
  TB: 1e12,
  T: 2 ** 40,
  TiB: 2 ** 40,
}

/** Where libvirt keeps the state of emulated TPMs, by the UUID of the guest. */
const TPM_DIRECTORY = '/var/lib/libvirt/swtpm'

/** `state.state` and `state.reason` of `virsh domstats`: virDomainState and its reasons in libvirt-domain.h. */
export function stateOf(state: number, reason: number): GuestState {
  const PAUSED_BY_SAVE = 3
  switch (state) {
    case 3:
      return reason === PAUSED_BY_SAVE ? 'saving' : 'paused'
    case 4:
      return 'stopping'
    case 5:
      return 'off'
    case 6:
      return 'crashed'
    case 7:
      // its own sleep; it is in memory and runs no instruction
      return 'paused'
    default:
      return 'running'
  }
}

/** The disks of a definition but the one of a fence, without the chains below them. */
export function disksOf(document: Document): GuestDisk[] {
  return devicesOf(document, 'disk')
    .filter((disk) => !isBarrier(disk))
    .map((disk) => {
      const device = deviceOf(disk)
      const driver = descend(disk, 'driver')
      return {
        target: attributeOf(descend(disk, 'target'), 'dev') ?? '',
        device,
        source: sourceOf(disk),
        format: attributeOf(driver, 'type') ?? 'raw',
        isReadOnly: descend(disk, 'readonly') !== null || device === 'cdrom',
        isShareable: descend(disk, 'shareable') !== null,
        cache: attributeOf(driver, 'cache'),
        backing: backingOf(disk),
      }
    })
}

function deviceOf(disk: Element): GuestDisk['device'] {
  const device = attributeOf(disk, 'device')
  return device === 'cdrom' || device === 'floppy' || device === 'lun' ? device : 'disk'
}

function sourceOf(disk: Element): DiskSource {
  const type = attributeOf(disk, 'type') ?? 'file'
  const source = descend(disk, 'source')
  if (source === null || source.attributes.length === 0) return { kind: 'empty' }
  switch (type) {
    case 'file':
    case 'block': {
      const path = attributeOf(source, type === 'file' ? 'file' : 'dev')
      return path === null ? { kind: 'empty' } : { kind: type, path }
    }
    case 'network':
      return {
        kind: 'network',
        protocol: attributeOf(source, 'protocol') ?? '',
        name: attributeOf(source, 'name') ?? '',
      }
    case 'volume': {
      const pool = attributeOf(source, 'pool')
      const volume = attributeOf(source, 'volume')
      // The path is libvirt's to know: the driver asks.
      return pool === null || volume === null ? { kind: 'empty' } : { kind: 'volume', pool, volume, path: '' }
    }
    case 'dir':
      return { kind: 'passthrough', what: `the directory ${attributeOf(source, 'dir') ?? ''} as a disk` }
    default:
      return { kind: 'passthrough', what: `a disk of type ${printable(type)}` }
  }
}

/** Backing files that the definition names, nearest first. */
function backingOf(disk: Element): string[] {
  const found: string[] = []
  for (let at = descend(disk, 'backingStore'); at !== null; at = descend(at, 'backingStore')) {
    const source = descend(at, 'source')
    const name =
      attributeOf(source, 'file') ??
      attributeOf(source, 'dev') ??
      attributeOf(source, 'name') ??
      attributeOf(source, 'volume')
    if (name !== null) found.push(name)
  }
  return found
}

/** Targets whose chain a definition does not tell, since nobody opened the images yet: only formats that have chains. */
export function targetsWithUnknownChain(document: Document): string[] {
  return devicesOf(document, 'disk')
    .filter((disk) => !isBarrier(disk) && descend(disk, 'backingStore') === null)
    .filter((disk) => (attributeOf(descend(disk, 'driver'), 'type') ?? 'raw') !== 'raw')
    .map((disk) => attributeOf(descend(disk, 'target'), 'dev') ?? '')
}

export function nicsOf(document: Document): GuestNic[] {
  return devicesOf(document, 'interface').map((nic, index) => {
    const type = attributeOf(nic, 'type')
    const attribute = connectionAttribute(type)
    return {
      index,
      kind: type === 'network' || type === 'bridge' || type === 'user' || type === 'direct' ? type : 'other',
      name: attribute === null ? null : attributeOf(descend(nic, 'source'), attribute),
      mac: attributeOf(descend(nic, 'mac'), 'address'),
    }
  })
}

/** The file of UEFI variables; null for a guest that has none, or not yet. */
export function nvramPath(document: Document): string | null {
  const nvram = descend(rootOf(document), 'os', 'nvram')
  const source = nvram === null ? null : descend(nvram, 'source')
  return source === null ? textOf(nvram) : attributeOf(source, 'file')
}

/** Where an emulated TPM keeps what outlives a run; null for a guest without one. */
export function tpmPath(document: Document): string | null {
  const backend = emulatedTpm(document)
  if (backend === null) return null
  const source = descend(backend, 'source')
  const name = attributeOf(backend, 'version') === '1.2' ? 'tpm-00.permall' : 'tpm2-00.permall'
  const path = attributeOf(source, 'path')
  if (path !== null) return attributeOf(source, 'type') === 'file' ? path : `${path}/${name}`
  const uuid = textOf(descend(rootOf(document), 'uuid')) ?? ''
  return `${TPM_DIRECTORY}/${uuid}/${name === 'tpm-00.permall' ? 'tpm1.2' : 'tpm2'}/${name}`
}

export function emulatedTpm(document: Document): Element | null {
  const backends = devicesOf(document, 'tpm').map((tpm) => descend(tpm, 'backend'))
  return backends.find((backend) => attributeOf(backend, 'type') === 'emulator') ?? null
}

export function memoryBytesOf(document: Document): number {
  const memory = descend(rootOf(document), 'memory')
  return Math.round(
    Number(textOf(memory) ?? 0) * (UNIT_BYTES[attributeOf(memory, 'unit') ?? 'KiB'] ?? 2 ** 10),
  )
}

export function vcpusOf(document: Document): number {
  return Number(textOf(descend(rootOf(document), 'vcpu')) ?? 1)
}

export function machineOf(document: Document): string {
  return attributeOf(descend(rootOf(document), 'os', 'type'), 'machine') ?? ''
}

/** Why the guest cannot move, as far as its definition tells. */
export function problemsOf(document: Document): GuestProblem[] {
  return [...deviceProblems(document), ...diskProblems(document), ...memoryProblems(document)]
}

function deviceProblems(document: Document): GuestProblem[] {
  const problems: GuestProblem[] = []
  const bound = [
    ...devicesOf(document, 'hostdev'),
    ...devicesOf(document, 'interface').filter((nic) => {
      const type = attributeOf(nic, 'type') ?? ''
      return type === 'hostdev' || type === 'vdpa'
    }),
    ...devicesOf(document, 'tpm').filter((tpm) => {
      return attributeOf(descend(tpm, 'backend'), 'type') === 'passthrough'
    }),
  ]
  for (const device of bound) {
    const type = attributeOf(device, 'type')
    const what = printable(`${device.nodeName}${type === null ? '' : ` ${type}`}`)
    problems.push({
      code: 'passthrough',
      text: `it has a device of this host (${what}), which cannot move along`,
      hint: 'Detach the device first (virsh detach-device), and attach one of the other host afterwards.',
      modes: ALL_MODES,
    })
  }
  for (const memory of devicesOf(document, 'memory')) {
    const model = attributeOf(memory, 'model')
    if (model !== 'nvdimm' && model !== 'virtio-pmem') continue
    problems.push({
      code: 'nvdimm',
      text: `its memory device (${model}) keeps data in a file of this host, which is not moved`,
      hint: 'Detach the memory device first, or copy its file yourself.',
      modes: ALL_MODES,
    })
  }
  return problems
}

function diskProblems(document: Document): GuestProblem[] {
  const problems: GuestProblem[] = []
  for (const disk of devicesOf(document, 'disk')) {
    const target = printable(attributeOf(descend(disk, 'target'), 'dev') ?? '?')
    if (descend(disk, 'transient') !== null)
      problems.push({
        code: 'transient-disk',
        text: `disk ${target} is transient: what the guest writes is thrown away when it stops`,
        hint: 'Take <transient/> out of its definition (virsh edit) and start it again, or leave this guest here.',
        modes: ALL_MODES,
      })
    if (descend(disk, 'mirror') !== null)
      problems.push({
        code: 'block-job',
        text: `a block job is under way on disk ${target}`,
        hint: `Wait for it, or end it: virsh blockjob GUEST ${target} --abort`,
        modes: ALL_MODES,
      })
  }
  return problems
}

function memoryProblems(document: Document): GuestProblem[] {
  const problems: GuestProblem[] = []
  const add = (code: string, text: string): void => {
    problems.push({ code, text, hint: 'Move it with --mode cold.', modes: WITH_MEMORY })
  }
  if (devicesOf(document, 'filesystem').length > 0)
    add('filesystem', 'it has a directory of this host mounted, and so its memory cannot be saved')
  if (devicesOf(document, 'shmem').length > 0)
    add('shmem', 'it shares memory with programs of this host, and so its memory cannot be saved')
  if (descend(rootOf(document), 'launchSecurity') !== null)
    add('launch-security', 'its memory is encrypted by the processor and cannot be saved')
  if (hasUnmovableClock(document))
    add('invtsc', 'its processor has the feature invtsc, with which QEMU does not save memory')
  return problems
}

/** QEMU moves an invariant clock only where its frequency is given. */
function hasUnmovableClock(document: Document): boolean {
  const cpu = descend(rootOf(document), 'cpu')
  const clock = descend(rootOf(document), 'clock')
  const isAsked = (cpu === null ? [] : childrenOf(cpu, 'feature')).some(
    (feature) => attributeOf(feature, 'name') === 'invtsc' && attributeOf(feature, 'policy') === 'require',
  )
  const isFixed = (clock === null ? [] : childrenOf(clock, 'timer')).some(
    (timer) => attributeOf(timer, 'name') === 'tsc' && attributeOf(timer, 'frequency') !== null,
  )
  return isAsked && !isFixed
}
