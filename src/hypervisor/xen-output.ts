// What xl prints passes through here: its table of domains, its JSON of running ones, its facts of the host. Refuses what is
// not what xl prints, so that a guest is never taken for gone because a line was not understood.

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { isObject } from '../json.js'
import type { GuestState } from './driver.js'

/** A domain in memory. */
export type XenDomain = Readonly<{
  name: string
  id: number
  uuid: string
  state: GuestState
  /** It stopped to start again: another domain of its name follows. */
  isRestarting: boolean
}>

/** What a running guest has of what its configuration may not say. */
export type LiveGuest = Readonly<{
  id: number
  name: string
  uuid: string
  type: string
  maxVcpus: number
  maxMemoryKib: number
  targetMemoryKib: number
  disks: readonly Readonly<{
    vdev: string
    path: string
    format: string
    isReadOnly: boolean
    isCdrom: boolean
    script: string | null
  }>[]
  nics: readonly Readonly<{ mac: string | null; bridge: string | null; script: string | null }>[]
  /** c_info and b_info as they are, for a guest without a file. */
  config: JsonObject
}>

export type JsonObject = Readonly<Record<string, unknown>>

export type XenInfo = Readonly<{
  version: string
  freeMemoryBytes: number
  /** 'hvm', 'pv', 'hap'... */
  virtCaps: readonly string[]
  /** 'xen-3.0-x86_64', 'hvm-3.0-x86_32'... */
  xenCaps: readonly string[]
  /** Words of CPUID in hexadecimal, with ':' between them; null where it is not said. */
  cpuFeatures: string | null
  commandLine: string
}>

const MIB = 1 << 20
/** Name, number, memory, processors, six letters of state, seconds, UUID; what is behind is not asked for. */
const DOMAIN_LINE =
  /^(.+?)\s+(\d+)\s+\d+\s+\d+\s+([r-][b-][p-][s-](.)[d-])\s+[\d.]+\s+([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:\s|$)/

/** The table of `xl list -v`, without this host's own domain. Throws migrate/daemon for what is no such table. */
export function parseDomains(text: string): readonly XenDomain[] {
  const [header = '', ...lines] = text.split('\n').filter((line) => line.trim() !== '')
  if (!/^Name\s+ID\s+Mem\s+VCPUs\s+State\s+Time\(s\)\s+UUID/.test(header)) throw notXl('xl list -v', header)
  return lines.map(parseDomain).filter(({ id }) => id !== 0)
}

function parseDomain(line: string): XenDomain {
  const [, name, id, flags, reason, uuid] = DOMAIN_LINE.exec(line) ?? []
  if (
    name === undefined ||
    id === undefined ||
    flags === undefined ||
    reason === undefined ||
    uuid === undefined
  )
    throw notXl('xl list -v', line)
  return {
    name,
    id: Number(id),
    uuid,
    state: stateOf(flags, reason),
    isRestarting: flags[3] === 's' && reason === 'r',
  }
}

/**
 * The letters r b p s reason d of xl(1), "list". A guest that suspended itself is in the middle of a save, or what a save
 * that was killed left behind.
 */
function stateOf(flags: string, reason: string): GuestState {
  if (flags.endsWith('d')) return 'stopping'
  if (flags[3] === 's') {
    if (reason === 's') return 'saving'
    return reason === 'c' || reason === 'w' ? 'crashed' : 'stopping'
  }
  return flags[2] === 'p' ? 'paused' : 'running'
}

/** The JSON of `xl list -l`: what runs, without this host's own domain. Throws migrate/daemon for what is no such JSON. */
export function parseLive(text: string): readonly LiveGuest[] {
  const parsed = parseJson(text)
  if (!Array.isArray(parsed)) throw notXl('xl list -l', text.slice(0, 80))
  return parsed.flatMap((each: unknown) => {
    const entry = asObject(each)
    const config = asObject(entry['config'])
    if (entry['domid'] === 0) return []
    const created = asObject(config['c_info'])
    const built = asObject(config['b_info'])
    if (typeof entry['domid'] !== 'number' || typeof created['name'] !== 'string')
      throw notXl('xl list -l', JSON.stringify(entry).slice(0, 80))
    return [
      {
        id: entry['domid'],
        name: created['name'],
        uuid: textOf(created['uuid']) ?? '',
        type: textOf(created['type']) ?? 'pv',
        maxVcpus: numberOf(built['max_vcpus']) ?? 1,
        maxMemoryKib: numberOf(built['max_memkb']) ?? 0,
        targetMemoryKib: numberOf(built['target_memkb']) ?? numberOf(built['max_memkb']) ?? 0,
        disks: asArray(config['disks']).map(asObject).map(liveDisk),
        nics: asArray(config['nics'])
          .map(asObject)
          .map((nic) => ({
            mac: textOf(nic['mac']),
            bridge: textOf(nic['bridge']),
            script: textOf(nic['script']),
          })),
        config,
      },
    ]
  })
}

function liveDisk(disk: JsonObject): LiveGuest['disks'][number] {
  const format = textOf(disk['format']) ?? 'raw'
  return {
    vdev: textOf(disk['vdev']) ?? '',
    path: format === 'empty' ? '' : (textOf(disk['pdev_path']) ?? ''),
    format: format === 'empty' ? 'raw' : format,
    isReadOnly: numberOf(disk['readwrite']) !== 1,
    isCdrom: numberOf(disk['is_cdrom']) === 1,
    script: textOf(disk['script']),
  }
}

/** The lines `KEY : VALUE` of `xl info`. Throws migrate/daemon where the version or the memory is missing. */
export function parseInfo(text: string): XenInfo {
  const values = new Map(
    text.split('\n').flatMap((line): Array<[string, string]> => {
      const [, key, value] = /^(\w+)\s*:\s*(.*?)\s*$/.exec(line) ?? []
      return key === undefined || value === undefined ? [] : [[key, value]]
    }),
  )
  const version = values.get('xen_version') ?? ''
  const freeMib = values.get('free_memory') ?? ''
  if (!/^\d+\.\d+/.test(version) || !/^\d+$/.test(freeMib)) throw notXl('xl info', text.slice(0, 80))
  const words = (key: string): readonly string[] =>
    (values.get(key) ?? '').split(/\s+/).filter((word) => word !== '')
  return {
    version,
    freeMemoryBytes: Number(freeMib) * MIB,
    virtCaps: words('virt_caps'),
    xenCaps: words('xen_caps'),
    cpuFeatures: values.get('hw_caps') ?? null,
    commandLine: values.get('xen_commandline') ?? '',
  }
}

/** Whether `version` is older than `than`, by the two numbers that a Xen release has ('4.17.5' and '4.17.2' are of one). */
export function isOlderXen(version: string, than: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10))
  const [thanMajor = 0, thanMinor = 0] = than.split('.').map((part) => Number.parseInt(part, 10))
  return major < thanMajor || (major === thanMajor && minor < thanMinor)
}

/** Words of CPUID that the first has and the second lacks bits of, as 'word 4: 00000020'; empty where none are missing. */
export function missingCpuFeatures(needed: string, available: string): readonly string[] {
  const have = available.split(':')
  return needed.split(':').flatMap((word, index) => {
    // Advanced power management is the host's own affair; no guest has it.
    if (index === POWER_MANAGEMENT_WORD) return []
    const missing = BigInt(`0x0${word}`) & ~BigInt(`0x0${have[index] ?? '0'}`)
    return missing === 0n ? [] : [`word ${index}: ${missing.toString(16).padStart(8, '0')}`]
  })
}

/** CPUID leaf 0x80000007 EDX, in the order of Xen's feature set. */
const POWER_MANAGEMENT_WORD = 7

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown
    throw notXl('xl list -l', text.slice(0, 80), thrown)
  }
}

export function asObject(value: unknown): JsonObject {
  return isObject(value) ? value : {}
}

export function asArray(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : null
}

function notXl(command: string, found: string, cause?: unknown): SyncError {
  return new SyncError(
    'migrate/daemon',
    `${command} printed what was not understood: ${printable(found.trim())}`,
    {
      operand: command,
      hint: `Try it by hand: ${command}. Xen 4.8 and later are known.`,
      cause,
    },
  )
}
