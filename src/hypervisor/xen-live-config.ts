// The JSON of a running Xen guest that has no file goes in, a configuration that xl can restore it with comes out. Refuses
// a guest with anything that is not known here, by the names of what that is: half a configuration would be another guest.

import { asArray, asObject, type JsonObject, type LiveGuest } from './xen-output.js'
import { quoted, xlLine } from './xl-config.js'

/** Keys of b_info that a configuration has under the same or another name. */
const TEXTS: Readonly<Record<string, string>> = {
  kernel: 'kernel',
  ramdisk: 'ramdisk',
  cmdline: 'cmdline',
  bootloader: 'bootloader',
}
const EVENTS = ['on_poweroff', 'on_reboot', 'on_watchdog', 'on_crash', 'on_soft_reset']
/** What xl works out again by itself, and what we write in another way. */
const KNOWN_BUILT = new Set([
  ...Object.keys(TEXTS),
  'max_vcpus',
  'avail_vcpus',
  'max_memkb',
  'target_memkb',
  'video_memkb',
  'shadow_memkb',
  'iommu_memkb',
  'sched_params',
  'claim_mode',
  'type.pv',
  'type.pvh',
  'arch_arm',
  'arch_x86',
  'localtime',
  'apic',
  'device_model_version',
  'timer_mode',
  'event_channels',
])
const KNOWN_CREATED = new Set([
  'type',
  'name',
  'domid',
  'uuid',
  'run_hotplug_scripts',
  'hap',
  'oos',
  'ssidref',
  'passthrough',
  'driver_domain',
])
const KNOWN_DISK = new Set([
  'pdev_path',
  'vdev',
  'backend',
  'format',
  'script',
  'removable',
  'readwrite',
  'is_cdrom',
  'backend_domid',
  'direct_io_safe',
  'discard_enable',
  'colo_enable',
  'colo_restore_enable',
  'trusted',
  'specification',
])
const KNOWN_NIC = new Set([
  'devid',
  'mac',
  'bridge',
  'script',
  'nictype',
  'backend_domid',
  'mtu',
  'model',
  'ifname',
  'trusted',
])

/** `unknown` names what has no place in the text; then `text` is not to be used. */
export type LiveConfig = Readonly<{ text: string; unknown: readonly string[] }>

export function configOfLive(live: LiveGuest): LiveConfig {
  const created = asObject(live.config['c_info'])
  const built = asObject(live.config['b_info'])
  const disks = asArray(live.config['disks']).map(asObject)
  const nics = asArray(live.config['nics']).map(asObject)
  const unknown = [
    ...unknownIn(created, KNOWN_CREATED, 'c_info'),
    ...unknownIn(built, KNOWN_BUILT, 'b_info'),
    ...disks.flatMap((disk) => unknownIn(disk, KNOWN_DISK, 'disks')),
    ...nics.flatMap((nic) => unknownIn(nic, KNOWN_NIC, 'nics')),
    ...unknownIn(
      live.config,
      new Set(['c_info', 'b_info', 'disks', 'nics', 'consoles', ...EVENTS]),
      'config',
    ),
    ...['type.pv', 'type.pvh'].flatMap((key) =>
      Object.keys(asObject(built[key])).map((each) => `b_info.${key}.${each}`),
    ),
    ...(live.type === 'pv' || live.type === 'pvh' ? [] : [`type ${live.type}`]),
    ...[...disks, ...nics].flatMap((device) =>
      device['backend_domid'] === undefined || device['backend_domid'] === 0 ? [] : ['backend_domid'],
    ),
  ]
  const lines = [
    xlLine('name', live.name),
    xlLine('uuid', live.uuid),
    xlLine('type', live.type),
    `memory = ${Math.ceil(live.targetMemoryKib / 1024)}\n`,
    `maxmem = ${Math.ceil(live.maxMemoryKib / 1024)}\n`,
    `maxvcpus = ${live.maxVcpus}\n`,
    `vcpus = ${Math.max(1, asArray(built['avail_vcpus']).length)}\n`,
    ...Object.entries(TEXTS).flatMap(([key, name]) =>
      typeof built[key] === 'string' ? [xlLine(name, built[key])] : [],
    ),
    ...EVENTS.flatMap((key) =>
      typeof live.config[key] === 'string' ? [xlLine(key, live.config[key].replaceAll('_', '-'))] : [],
    ),
    listLine('disk', live.disks.map(diskText)),
    listLine('vif', nics.map(nicText)),
  ]
  return { text: lines.join(''), unknown: Array.from(new Set(unknown)) }
}

function unknownIn(object: JsonObject, known: ReadonlySet<string>, where: string): readonly string[] {
  return Object.keys(object)
    .filter((key) => !known.has(key))
    .map((key) => `${where}.${key}`)
}

function diskText({ vdev, path, format, isReadOnly, isCdrom, script }: LiveGuest['disks'][number]): string {
  const words = [
    `format=${path === '' ? 'empty' : format}`,
    `vdev=${vdev}`,
    `access=${isReadOnly ? 'ro' : 'rw'}`,
  ]
  if (isCdrom) words.push('devtype=cdrom')
  if (script !== null) words.push(`script=${script}`)
  return [...words, `target=${path}`].join(',')
}

function nicText(nic: JsonObject): string {
  const words = ['mac', 'bridge', 'script', 'model'].flatMap((key) =>
    typeof nic[key] === 'string' && nic[key] !== '' ? [`${key}=${nic[key]}`] : [],
  )
  return words.join(',')
}

function listLine(key: string, items: readonly string[]): string {
  return items.length === 0 ? '' : `${key} = [ ${items.map((item) => quoted(item, "'")).join(', ')} ]\n`
}
