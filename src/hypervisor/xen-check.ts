// What would keep a Xen guest from running on a host: its name, memory, type, bridges, files, processor. Takes what xl and the
// host say, and lists every problem at once; refuses nothing itself.

import { posix } from 'node:path'

import { SyncError } from '../errors.js'
import type { Host } from '../host/host.js'
import { printable } from '../printable.js'
import type { Guest, HostProblem } from './driver.js'
import { definitionPath, type XenFiles } from './xen-definitions.js'
import { DEFAULT_BRIDGE, machineOf, mostMemoryBytesOf, nicsOf, problemsOf, vcpusOf } from './xen-guest.js'
import { isOlderXen, missingCpuFeatures, type XenDomain, type XenInfo } from './xen-output.js'
import { MAX_CONFIG_BYTES, XlConfig } from './xl-config.js'

const MIB = 1 << 20
const XL_CONF = '/etc/xen/xl.conf'
/** Files of the host that a configuration names. */
const FILE_KEYS = [
  'kernel',
  'ramdisk',
  'bootloader',
  'firmware_override',
  'device_model_override',
  'bios_path_override',
  'acpi_firmware',
  'smbios_firmware',
  'device_tree',
]

export type CheckRequest = Readonly<{
  host: Host
  guest: Guest
  definition: string
  info: XenInfo
  domains: readonly XenDomain[]
  found: XenFiles
}>

/** What xl.conf says about a host; the defaults where it does not. */
export async function readXlConf(host: Host): Promise<Readonly<{ bridge: string; autoballoon: string }>> {
  const text = await host.readText(XL_CONF, MAX_CONFIG_BYTES)
  let conf: XlConfig | null = null
  try {
    conf = text === null ? null : XlConfig.parse(text, XL_CONF)
  } catch (thrown) {
    // xl itself goes on without a file that it cannot read
    if (!(thrown instanceof SyncError)) throw thrown
  }
  return {
    bridge: conf?.string('vif.default.bridge') ?? DEFAULT_BRIDGE,
    autoballoon: conf?.string('autoballoon') ?? 'auto',
  }
}

export async function checkXenHost(request: CheckRequest): Promise<readonly HostProblem[]> {
  const config = parsed(request)
  if (config instanceof SyncError)
    return [{ code: 'definition', text: config.message, hint: config.hint ?? '' }]
  const conf = await readXlConf(request.host)
  const asked = await Promise.all([
    checkMemory(request, config, conf.autoballoon),
    checkNetworks(request, config, conf.bridge),
    checkFiles(request, config),
  ])
  return [...checkNames(request), ...checkMachine(request, config), ...asked.flat()]
}

function parsed({ definition }: CheckRequest): XlConfig | SyncError {
  try {
    const config = XlConfig.parse(definition, 'the definition for the destination')
    problemsOf(config)
    return config
  } catch (thrown) {
    if (thrown instanceof SyncError) return thrown
    throw thrown
  }
}

function checkNames({ host, guest, domains, found }: CheckRequest): readonly HostProblem[] {
  const problems: HostProblem[] = []
  const names = [
    guest.name,
    `${guest.name}--incoming`,
    `${guest.name}--migratedaway`,
    `migrating-${guest.name}`,
  ]
  for (const domain of domains) {
    if (names.includes(domain.name))
      problems.push({
        code: domain.name === guest.name ? 'name-taken' : 'leftover',
        text: `a guest named ${printable(domain.name)} is ${domain.state} on ${host.name}`,
        hint: `Look at it: xl list ${domain.name}; if it is a leftover: xl destroy ${domain.name}`,
      })
    else if (domain.uuid === guest.uuid)
      problems.push({
        code: 'uuid-taken',
        text: `${printable(domain.name)} on ${host.name} has the same UUID, ${guest.uuid}`,
        hint: 'Give one of them another uuid= in its configuration.',
      })
  }
  for (const file of found.files) {
    const isSame = guest.uuid !== '' && file.uuid === guest.uuid
    if (file.name !== guest.name && !isSame) continue
    problems.push({
      code: file.name === guest.name ? 'name-taken' : 'uuid-taken',
      text: `${printable(file.path)} on ${host.name} defines ${file.name === guest.name ? 'a guest of this name' : 'a guest with this UUID'}`,
      hint: `Rename or remove it if it is not needed: mv ${file.path} ${file.path}.old`,
    })
  }
  try {
    definitionPath(guest.name)
  } catch (thrown) {
    if (!(thrown instanceof SyncError)) throw thrown
    problems.push({ code: 'name', text: thrown.message, hint: thrown.hint ?? '' })
  }
  return problems
}

function checkMachine({ host, guest, info }: CheckRequest, config: XlConfig): readonly HostProblem[] {
  const problems: HostProblem[] = []
  const machine = machineOf(config)
  const hasIt =
    machine === 'pv' ? info.xenCaps.some((word) => word.startsWith('xen-')) : info.virtCaps.includes('hvm')
  if (!hasIt)
    problems.push({
      code: 'machine',
      text: `${host.name} runs no guests of type ${machine} (xl info: ${machine === 'pv' ? 'xen_caps' : 'virt_caps'})`,
      hint:
        machine === 'pv'
          ? 'Its Xen was built without PV.'
          : "Switch the processor's virtualization on in its firmware.",
    })
  const { platform } = guest
  if (platform === undefined) return problems
  if (isOlderXen(info.version, platform.version))
    problems.push({
      code: 'version',
      text: `${host.name} has Xen ${info.version}, which is older than the ${platform.version} that the guest runs on`,
      hint: 'A saved guest goes to the same or a later version only: upgrade that host, or use --mode cold.',
    })
  const isMasked = config.has('cpuid') || platform.cpuFeatures === null || info.cpuFeatures === null
  const missing = isMasked ? [] : missingCpuFeatures(platform.cpuFeatures ?? '', info.cpuFeatures ?? '')
  if (missing.length > 0)
    problems.push({
      code: 'cpu',
      text: `the processor of ${host.name} lacks features that the guest may use (hw_caps of xl info, ${missing.join(', ')})`,
      hint: 'Mask them with cpuid= in its configuration and start it again; or use --mode cold.',
    })
  return problems
}

async function checkMemory(
  { host, info, guest }: CheckRequest,
  config: XlConfig,
  autoballoon: string,
): Promise<readonly HostProblem[]> {
  const wanted = Math.max(mostMemoryBytesOf(config), guest.memoryBytes)
  // page tables that Xen keeps of a guest with hardware virtualization: 1 MiB a processor, 8 KiB for each MiB of memory
  const overhead = machineOf(config) === 'pv' ? 0 : vcpusOf(config) * MIB + wanted / 128
  const isBallooned =
    autoballoon === 'auto'
      ? !/\bdom0_mem=/.test(info.commandLine)
      : autoballoon === 'on' || autoballoon === '1'
  const fromHost = isBallooned ? (await host.facts()).availableMemoryBytes : 0
  const free = info.freeMemoryBytes + fromHost
  if (free >= wanted + overhead) return []
  return [
    {
      code: 'memory',
      text: `${host.name} has ${Math.floor(free / MIB)} MiB of memory for guests, and it wants ${Math.ceil((wanted + overhead) / MIB)} MiB`,
      hint: 'End or shrink a guest there (xl mem-set), or give dom0 less.',
    },
  ]
}

async function checkNetworks(
  { host }: CheckRequest,
  config: XlConfig,
  defaultBridge: string,
): Promise<readonly HostProblem[]> {
  const names = nicsOf(config, defaultBridge).flatMap(({ name }) => (name === null ? [] : [name]))
  const problems = await Promise.all(
    Array.from(new Set(names)).map(async (name): Promise<HostProblem | null> => {
      // 'ovsbr0.20' and 'ovsbr0:20' are VLANs of an Open vSwitch
      const candidates = [name, /^[^.:]+/.exec(name)?.[0] ?? name]
      for (const each of candidates)
        if (!each.includes('/') && (await host.look(`/sys/class/net/${each}`)) !== null) return null
      return {
        code: 'network',
        text: `${host.name} has no bridge ${printable(name)}`,
        hint: `Make it there, or choose another: --network ${name}=BRIDGE`,
      }
    }),
  )
  return problems.filter((problem) => problem !== null)
}

async function checkFiles({ host }: CheckRequest, config: XlConfig): Promise<readonly HostProblem[]> {
  const problems = await Promise.all(
    FILE_KEYS.map(async (key): Promise<HostProblem | null> => {
      const path = config.string(key)
      if (path === null || !path.startsWith('/')) return null
      // old configurations name it, and xl takes its own instead
      if (key === 'kernel' && posix.basename(path) === 'hvmloader') return null
      if ((await host.look(path)) !== null) return null
      return {
        code: 'file',
        text: `${host.name} has no ${printable(path)} (${key}= of the configuration)`,
        hint: `Copy it there: scp ${path} ${host.name}:${path}`,
      }
    }),
  )
  return problems.filter((problem) => problem !== null)
}

/** Where xendomains keeps what it saved at a shutdown of the host, and restores at its start. */
export function savedByXendomains(name: string): string {
  return `/var/lib/xen/save/${name}`
}
