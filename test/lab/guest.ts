// The counter guest on the hosts of the lab: its disks, its definition, and what its consoles tell. Its own words
// (guest-init.sh) are the oracle: a block that is not what the guest knows prints MISMATCH, wherever it runs.

import { createHash } from 'node:crypto'
import { existsSync, readFileSync, watch } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'

import { HOST_NAMES, SHARED_AT, type HostName } from './host-files.js'
import type { LabHosts } from './hosts.js'
import { INITRD_NAME, KERNEL_NAME } from './images.js'
import { must } from './programs.js'

/** `path` as its host sees it. A block device is a loop device of its own, named /dev/lab/NAME. */
export type DiskSpec = Readonly<{
  kind: 'file' | 'qcow2' | 'block' | 'shared'
  /** Of a file its path, of a block device its name, of a shared file its name in the directory that both hosts have. */
  name: string
  sizeMiB: number
  /** Random bytes from 16 MiB on, as a guest has them that is in use. */
  dataMiB: number
}>

export type GuestSpec = Readonly<{
  name: string
  kind: 'transient' | 'persistent'
  disks: readonly DiskSpec[]
  memoryMiB: number
  /** Words of the guest's command line, see guest-init.sh: `{ dirty: 64 }`. */
  words: Readonly<Record<string, string | number>>
}>

export const COUNTER_GUEST: GuestSpec = {
  name: 'ctr',
  kind: 'transient',
  disks: [{ kind: 'file', name: '/srv/vm/ctr.img', sizeMiB: 256, dataMiB: 128 }],
  memoryMiB: 128,
  words: { tick: 0.2, dirty: 64 },
}

const MIB = 1 << 20
const DATA_FROM_MIB = 16
/** A guest boots in 2 s; four of these may share a processor with other jobs. */
const TICK_TIMEOUT_MS = 60_000
const TARGETS = ['vda', 'vdb', 'vdc']

/** Makes the disks on `host`, starts the guest and resolves when it has counted to 3. */
export async function startGuest(
  hosts: LabHosts,
  host: HostName,
  spec: GuestSpec = COUNTER_GUEST,
): Promise<LabGuest> {
  const paths: string[] = []
  for (const disk of spec.disks) paths.push(await makeDisk(hosts, host, disk))
  const definition = domainXml(spec, paths)
  const file = `/srv/vm/${spec.name}.xml`
  await writeFile(hosts.outside(host, file), definition)
  if (spec.kind === 'transient') await hosts.virsh(host, 'create', file)
  else {
    await hosts.virsh(host, 'define', file)
    await hosts.virsh(host, 'start', spec.name)
  }
  const guest = new LabGuest(hosts, spec, definition, file)
  await guest.countsTo(host, 3)
  return guest
}

export class LabGuest {
  readonly spec: GuestSpec
  readonly name: string
  readonly definition: string
  /** Where the definition lies, on the host that it was started on: for `virsh create` on the old host. */
  readonly definitionPath: string
  readonly #hosts: LabHosts

  constructor(hosts: LabHosts, spec: GuestSpec, definition: string, definitionPath: string) {
    this.#hosts = hosts
    this.spec = spec
    this.name = spec.name
    this.definition = definition
    this.definitionPath = definitionPath
  }

  /** All lines that it printed on a host. */
  console(host: HostName): string[] {
    const path = this.#consolePath(host)
    return existsSync(path) ? readFileSync(path, 'latin1').split(/\r?\n/) : []
  }

  /** The last number that it printed there; 0 where it printed none. */
  counter(host: HostName): number {
    return this.counts(host).at(-1) ?? 0
  }

  /** All numbers that it printed there, in their order. */
  counts(host: HostName): number[] {
    return this.console(host).flatMap((line) => {
      const match = /^CTR (\d+)$/.exec(line)
      return match === null ? [] : [Number(match[1])]
    })
  }

  /** What it found wrong, wherever it ran. Empty is what a test asks for. */
  complaints(): string[] {
    return HOST_NAMES.flatMap((host) =>
      this.console(host)
        .filter((line) => /MISMATCH|WRITE-ERROR|unreadable|Kernel panic|I\/O error/.test(line))
        .map((line) => `${host}: ${line}`),
    )
  }

  /** What libvirt says of it; 'absent' where it is neither defined nor runs. */
  async state(host: HostName): Promise<string> {
    const words = ['virsh', '--quiet', '--connect', 'qemu:///system', 'domstate', this.name]
    const answer = await this.#hosts.run(host, words)
    if (answer.status === 0) return answer.stdout.trim()
    if (/failed to get domain/.test(answer.stderr)) return 'absent'
    throw new Error(`domstate on ${host}: ${answer.stderr}`)
  }

  /** Where it is in memory and its processors run. */
  async runsOn(): Promise<HostName[]> {
    const states = await Promise.all(HOST_NAMES.map((host) => this.state(host)))
    return HOST_NAMES.filter((_host, index) => states[index] === 'running')
  }

  /** Resolves when it has printed a number of at least `count` there. */
  async countsTo(host: HostName, count: number): Promise<void> {
    const path = this.#consolePath(host)
    const deadline = AbortSignal.timeout(TICK_TIMEOUT_MS)
    while (this.counter(host) < count) {
      if (deadline.aborted) {
        const last = this.console(host).slice(-5).join('\n')
        throw new Error(`${this.name} on ${host} has not counted to ${count}: ${last}`)
      }
      await changed(existsSync(path) ? path : dirname(path), deadline)
    }
  }

  /** Resolves when it has counted on there by `ticks`, from what it has printed on either host by now. */
  async countsOn(host: HostName, ticks = 3): Promise<void> {
    await this.countsTo(host, Math.max(...HOST_NAMES.map((name) => this.counter(name))) + ticks)
  }

  /** Ends it on both hosts and forgets its definitions; its disks stay. */
  async end(): Promise<void> {
    for (const host of HOST_NAMES) {
      const virsh = (...words: string[]): Promise<unknown> =>
        this.#hosts.run(host, ['virsh', '--quiet', '--connect', 'qemu:///system', ...words])
      await virsh('destroy', this.name)
      await virsh('undefine', this.name)
    }
  }

  #consolePath(host: HostName): string {
    return this.#hosts.outside(host, `/srv/vm/${this.name}.console`)
  }
}

/** Makes a disk of a guest on a host, with its data; resolves with its path there. */
export async function makeDisk(hosts: LabHosts, host: HostName, disk: DiskSpec): Promise<string> {
  const path = pathOf(disk, host)
  const file = disk.kind === 'block' ? `/srv/vm/${disk.name}.loop` : path
  const outside = hosts.outside(host, file)
  await mkdir(dirname(outside), { recursive: true })
  const raw = disk.kind === 'qcow2' ? `${outside}.raw` : outside
  await must(['truncate', '--size', String(disk.sizeMiB * MIB), raw])
  if (disk.dataMiB > 0) {
    const words = [`seek=${DATA_FROM_MIB}`, `count=${disk.dataMiB}`, 'bs=1M', 'conv=notrunc', 'status=none']
    await must(['dd', 'if=/dev/urandom', `of=${raw}`, ...words])
  }
  if (disk.kind === 'qcow2') {
    await must(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, outside])
    await must(['rm', raw])
  }
  if (disk.kind === 'block') await hosts.loopDevice(host, file, disk.name)
  return path
}

/** The path of a disk as a host sees it. */
export function pathOf(disk: DiskSpec, host: HostName): string {
  switch (disk.kind) {
    case 'file':
    case 'qcow2':
      return disk.name
    case 'block':
      return `/dev/lab/${disk.name}`
    case 'shared':
      return `${SHARED_AT[host]}/${disk.name}`
    default:
      return disk.kind satisfies never
  }
}

/** A definition for libvirt: the same machine on both hosts, disks past every cache, the console in a file. */
export function domainXml(spec: GuestSpec, paths: readonly string[]): string {
  const id = createHash('md5').update(spec.name).digest('hex')
  const uuid = `${id.slice(0, 8)}-${id.slice(8, 12)}-4${id.slice(13, 16)}-8${id.slice(17, 20)}-${id.slice(20)}`
  const words = Object.entries(spec.words).map(([name, value]) => ` lab.${name}=${value}`)
  const disks = spec.disks.map((disk, index) => {
    const [type, attribute] = disk.kind === 'block' ? ['block', 'dev'] : ['file', 'file']
    const format = disk.kind === 'qcow2' ? 'qcow2' : 'raw'
    return `    <disk type='${type}' device='disk'>
      <driver name='qemu' type='${format}' cache='none'/>
      <source ${attribute}='${paths[index] ?? ''}'/>
      <target dev='${TARGETS[index] ?? ''}' bus='virtio'/>
    </disk>`
  })
  return `<domain type='qemu'>
  <name>${spec.name}</name>
  <uuid>${uuid}</uuid>
  <memory unit='MiB'>${spec.memoryMiB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>/run/lab/images/${KERNEL_NAME}</kernel>
    <initrd>/run/lab/images/${INITRD_NAME}</initrd>
    <cmdline>console=ttyS0 quiet panic=-1${words.join('')}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
${disks.join('\n')}
    <controller type='usb' model='none'/>
    <serial type='file'><source path='/srv/vm/${spec.name}.console' append='on'/><target port='0'/></serial>
    <console type='file'>
      <source path='/srv/vm/${spec.name}.console' append='on'/><target type='serial' port='0'/>
    </console>
    <memballoon model='none'/>
  </devices>
</domain>
`
}

/** Resolves when a file or directory changes, or the signal aborts, or a moment has passed: a change may come before the watch. */
function changed(path: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const watcher = watch(path)
    const done = (): void => {
      watcher.close()
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, 250)
    watcher.once('change', done)
    signal.addEventListener('abort', done, { once: true })
  })
}
