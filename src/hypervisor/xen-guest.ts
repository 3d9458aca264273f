// What is known of a Xen guest (its file, what runs, the host's defaults) becomes a Guest here, and its configuration becomes
// that of the destination. Refuses nothing: what keeps a guest from moving becomes a problem of it.

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import type {
  DefinitionChanges,
  DiskSource,
  GuestDisk,
  GuestNic,
  GuestProblem,
  MigrateMode,
} from './driver.js'
import type { LiveGuest } from './xen-output.js'
import { XlConfig, xlLine, type XlEdit } from './xl-config.js'
import { moveXlDisk, parseXlDisk, parseXlNic, setXlNic, type XlDisk } from './xl-device.js'

/** What libxl takes where nothing names one (libxl_nic.c). */
export const DEFAULT_BRIDGE = 'xenbr0'

const MIB = 1 << 20
const ALL_MODES: readonly MigrateMode[] = ['warm', 'cold', 'live']
const IN_MEMORY: readonly MigrateMode[] = ['warm', 'live']

/** Keys that give a guest a part of this host, or something that only this host has. */
const PASSTHROUGH: Readonly<Record<string, string>> = {
  pci: 'a PCI device of the host',
  usbdev: 'a USB device of the host',
  vusb: 'a USB device of the host',
  dtdev: 'a device of the host',
  irqs: 'interrupts of the host',
  ioports: 'I/O ports of the host',
  iomem: 'memory of devices of the host',
  vtpm: 'a TPM that another domain serves',
  p9: 'a directory of the host',
  pvcalls: 'sockets of the host',
}
const SWITCHES: Readonly<
  Record<string, readonly [code: string, what: string, modes: readonly MigrateMode[]]>
> = {
  gfx_passthru: ['passthrough', 'the graphics card of the host', ALL_MODES],
  device_model_stubdomain_override: ['stubdom', 'a device model in a domain of its own', ALL_MODES],
  nomigrate: ['no-migrate', 'nomigrate set, so Xen does not save it', IN_MEMORY],
}

/** The type of a guest as xl decides it: type=, else builder=, which is older. */
export function machineOf(config: XlConfig): 'pv' | 'pvh' | 'hvm' {
  const type = config.string('type')
  if (type === 'pv' || type === 'pvh' || type === 'hvm') return type
  return config.string('builder') === 'hvm' ? 'hvm' : 'pv'
}

/** Disks of a configuration, with the place of each in its text. Throws migrate/hypervisor for one that was not understood. */
export function disksOf(config: XlConfig): readonly Readonly<{ disk: XlDisk; at: XlEdit['at'] }>[] {
  return config.list('disk').map((at) => ({ disk: parseXlDisk(at.text), at }))
}

/** Network cards of a configuration; an empty entry is one with all defaults. */
export function nicsOf(config: XlConfig, defaultBridge: string): readonly GuestNic[] {
  return config.list('vif').map((at, index) => {
    const { bridge, mac, script } = parseXlNic(at.text)
    const isRouted = bridge === null && script !== null && /vif-(?:route|nat)/.test(script)
    return isRouted
      ? { index, kind: 'other', name: null, mac }
      : { index, kind: 'bridge', name: bridge ?? defaultBridge, mac }
  })
}

/** Where a disk's content is. `isBlock` tells what is at an absolute path; null where nothing is there. */
export function sourceOf(
  disk: Pick<XlDisk, 'path' | 'prefix' | 'script'>,
  isBlock: (path: string) => boolean | null,
): DiskSource {
  if (disk.path === '') return { kind: 'empty' }
  const script = disk.script === null ? null : posix.basename(disk.script)
  if (script !== null && script !== 'block')
    return { kind: 'network', protocol: script.replace(/^block-/, ''), name: disk.path }
  const path = absolutePath(disk)
  if (path === null) return { kind: 'network', protocol: disk.prefix ?? 'unknown', name: disk.path }
  const fallback = path.startsWith('/dev/')
  return { kind: (isBlock(path) ?? fallback) ? 'block' : 'file', path }
}

/** 'phy:vg/web' is below /dev; other paths that are not absolute mean nothing to us. */
export function absolutePath({ path, prefix }: Pick<XlDisk, 'path' | 'prefix'>): string | null {
  if (path.startsWith('/')) return path
  return prefix === 'phy' && path !== '' ? posix.join('/dev', path) : null
}

export function guestDisk(disk: XlDisk, source: DiskSource, backing: readonly string[]): GuestDisk {
  return {
    target: disk.vdev,
    device: disk.isCdrom ? 'cdrom' : /^fd[a-z]/.test(disk.vdev) ? 'floppy' : 'disk',
    source,
    format: disk.format,
    isReadOnly: disk.access === 'read',
    isShareable: disk.isShareable,
    cache: null,
    backing,
  }
}

export function memoryBytesOf(config: XlConfig): number {
  return (config.number('memory') ?? 0) * MIB
}

/** What a guest can have at most: memory of a running one may be less. */
export function mostMemoryBytesOf(config: XlConfig): number {
  return Math.max(memoryBytesOf(config), (config.number('maxmem') ?? 0) * MIB)
}

export function vcpusOf(config: XlConfig): number {
  return Math.max(config.number('vcpus') ?? 1, config.number('maxvcpus') ?? 0, 1)
}

/** What keeps a guest with this configuration from moving. */
export function problemsOf(config: XlConfig): readonly GuestProblem[] {
  const problems: GuestProblem[] = []
  for (const [key, what] of Object.entries(PASSTHROUGH)) {
    if (config.list(key).length === 0) continue
    problems.push({
      code: key === 'vtpm' ? 'vtpm' : 'passthrough',
      text: `it has ${what} (${key}=), which does not move with it`,
      hint: `Take ${key}= out of its configuration and start it without; then move it.`,
      modes: ALL_MODES,
    })
  }
  for (const [key, [code, what, modes]] of Object.entries(SWITCHES)) {
    const value = config.string(key)
    if (value === null || value === '0' || value === '') continue
    problems.push({
      code,
      text: `it has ${what} (${key}=)`,
      hint: `Take ${key}= out of its configuration and start it without; then move it.`,
      modes,
    })
  }
  const usb = [config.string('usbdevice'), ...config.list('usbdevice').map((each) => each.text)].find(
    (each) => each?.startsWith('host:'),
  )
  if (usb !== undefined)
    problems.push({
      code: 'passthrough',
      text: `it has a USB device of the host (usbdevice=${printable(usb ?? '')})`,
      hint: 'Take usbdevice= out of its configuration and start it without; then move it.',
      modes: ALL_MODES,
    })
  const served = [
    ...disksOf(config).map(({ disk }) => disk.backend),
    ...config.list('vif').map((each) => parseXlNic(each.text).backend),
  ]
  const domain = served.find((each) => each !== null && each !== '0' && each !== 'Domain-0')
  if (domain !== undefined && domain !== null)
    problems.push({
      code: 'driver-domain',
      text: `a device of it is served by the domain ${printable(domain)}, not by this host`,
      hint: 'Give its disks and network cards to dom0 (without backend=) first.',
      modes: ALL_MODES,
    })
  return problems
}

/** Where what runs is not what the file says: a restore with the file would give the guest something else. */
export function differencesOf(config: XlConfig, live: LiveGuest, path: string): readonly GuestProblem[] {
  const said = new Map(disksOf(config).map(({ disk }) => [disk.vdev, disk]))
  const texts: string[] = []
  for (const disk of live.disks) {
    const known = said.get(disk.vdev)
    said.delete(disk.vdev)
    if (known === undefined) texts.push(`its disk ${disk.vdev} (${disk.path}) is not in the file`)
    else if (disk.path !== known.path && disk.path !== absolutePath(known) && !disk.isCdrom)
      texts.push(`its disk ${disk.vdev} is ${disk.path}, and ${known.path} in the file`)
    else if (disk.isReadOnly !== (known.access === 'read'))
      texts.push(
        `its disk ${disk.vdev} is ${disk.isReadOnly ? 'read-only' : 'writable'}, and not so in the file`,
      )
  }
  for (const vdev of said.keys()) texts.push(`the disk ${vdev} of the file is not attached`)
  const nics = config.list('vif').length
  if (nics !== live.nics.length)
    texts.push(`it has ${live.nics.length} network cards, and ${nics} in the file`)
  if (machineOf(config) !== live.type)
    texts.push(`it is of type ${live.type}, and ${machineOf(config)} in the file`)
  if (vcpusOf(config) !== live.maxVcpus)
    texts.push(`it can have ${live.maxVcpus} processors, and ${vcpusOf(config)} in the file`)
  if (Math.ceil(live.maxMemoryKib / 1024) !== Math.ceil(mostMemoryBytesOf(config) / MIB))
    texts.push(
      `it can have ${Math.ceil(live.maxMemoryKib / 1024)} MiB of memory, and ${Math.ceil(mostMemoryBytesOf(config) / MIB)} in the file`,
    )
  return texts.map((text) => ({
    code: 'changed',
    text: printable(`${path} is not what runs: ${text}`),
    hint: 'Make the file say what runs (xl list -l shows it), or move the guest in cold mode, which starts it by the file.',
    modes: text.startsWith('its disk') ? ALL_MODES : IN_MEMORY,
  }))
}

/** The file with what the running guest got at random, so that a restored one has the same: its UUID, its MAC addresses. */
export function pinned(config: XlConfig, live: LiveGuest): string {
  const edits: XlEdit[] = []
  for (const [index, at] of config.list('vif').entries()) {
    const mac = live.nics[index]?.mac
    if (mac !== undefined && mac !== null && parseXlNic(at.text).mac === null)
      edits.push({ at, text: setXlNic(at.text, 'mac', mac) })
  }
  const text = config.edit(edits)
  if (config.has('uuid') || live.uuid === '') return text
  return `${text}${text === '' || text.endsWith('\n') ? '' : '\n'}${xlLine('uuid', live.uuid)}`
}

/** Driver.retarget. Throws migrate/hypervisor where a disk of the changes is not in the definition. */
export function retargeted(definition: string, changes: DefinitionChanges): string {
  const config = XlConfig.parse(definition, 'the definition')
  const edits: XlEdit[] = []
  const left = new Set(changes.disks.keys())
  for (const { disk, at } of disksOf(config)) {
    const change = changes.disks.get(disk.vdev)
    if (change === undefined) continue
    left.delete(disk.vdev)
    if (change.path !== disk.path) edits.push({ at, text: moveXlDisk(at.text, change.path, change.kind) })
  }
  const [missing] = left
  if (missing !== undefined)
    throw new SyncError('migrate/hypervisor', `the definition has no disk ${printable(missing)}`, {
      operand: printable(missing),
      hint: 'Its disks are in disk = [...] of its configuration.',
    })
  for (const at of config.list('vif')) {
    const { bridge } = parseXlNic(at.text)
    const to = changes.networks.get(bridge ?? DEFAULT_BRIDGE)
    if (to !== undefined && to !== bridge) edits.push({ at, text: setXlNic(at.text, 'bridge', to) })
  }
  return config.edit(edits)
}
