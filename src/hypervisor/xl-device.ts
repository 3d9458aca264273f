// One disk or one network card of an xl configuration passes through here: read as xl reads it (libxlu_disk_l.l of Xen,
// xl-disk-configuration(5), xl-network-configuration(5)), and written again with another path or bridge, all else as it was.

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'

/** A disk as its configuration says it; `vdev` is its name in the guest. */
export type XlDisk = Readonly<{
  vdev: string
  /** As written; '' for an empty drive. */
  path: string
  format: string
  access: 'read' | 'write'
  isShareable: boolean
  isCdrom: boolean
  /** 'phy' and the like, the last prefix; null where it has none. */
  prefix: string | null
  /** Without what stands for it ('block-drbd' for a prefix drbd:); null where it is the usual one. */
  script: string | null
  /** The domain that serves it, where that is not this host. */
  backend: string | null
}>

type Part = Readonly<{
  kind: 'prefix' | 'path' | 'format' | 'vdev' | 'access' | 'key'
  start: number
  end: number
  text: string
}>

const FORMATS = new Set(['raw', 'qcow', 'qcow2', 'vhd', 'qed', 'empty'])
const FORMAT_PREFIXES = /^(?:raw|qcow2?|vhd)$/
const SCRIPT_PREFIXES = /^(?:iscsi|e?nbd|drbd)$/
const PREFIX = /((?:raw|qcow2?|vhd|iscsi|e?nbd|drbd|tapdisk|tap2?|aio|ioemu|file|phy)):/y
/** Keys with a value up to the next comma, and words without one. `target` takes the rest. */
const KEYS =
  /(?:format|devtype|access|backend|backendtype|specification|vdev|script|colo-host|colo-port|colo-export|active-disk|hidden-disk|grant_usage)=[^,]*,?/y
const FLAGS = /(?:cdrom|direct-io-safe|no-discard|discard|no-colo|colo|trusted|untrusted)(?:,|$)/y

/** Throws migrate/hypervisor for what xl would not take either. */
export function parseXlDisk(spec: string): XlDisk {
  return understood(spec, partsOf(spec))
}

/**
 * The same disk with another path, which is a file or a device there. Its prefix follows the kind; a path that the short form
 * cannot hold makes it the long one. Throws migrate/hypervisor for what is no disk with a path.
 */
export function moveXlDisk(spec: string, path: string, kind: 'file' | 'block'): string {
  const parts = partsOf(spec)
  const at = parts.findIndex(
    (part) => part.kind === 'path' || (part.kind === 'key' && part.text.startsWith('target=')),
  )
  const old = parts[at]
  if (old === undefined) throw bad(spec, 'no path in it')
  if (old.kind === 'key')
    return withoutBackendType(spec, kind, { ...old, start: old.start + 'target='.length }, path)
  if (/[,=]/.test(path) || path !== path.trim()) return inLongForm(spec, path, kind)
  const prefixes = parts.filter((part, index) => part.kind === 'prefix' && index < at)
  const isPlain =
    prefixes.length > 0 &&
    prefixes.every((part) => !FORMAT_PREFIXES.test(part.text) && !SCRIPT_PREFIXES.test(part.text))
  const [first] = prefixes
  if (first === undefined || !isPlain) return withoutBackendType(spec, kind, old, path)
  const wasBlock = prefixes.some((part) => part.text === 'phy')
  if (wasBlock === (kind === 'block')) return withoutBackendType(spec, kind, old, path)
  return withoutBackendType(
    spec,
    kind,
    { ...old, start: first.start },
    `${kind === 'block' ? 'phy' : 'file'}:${path}`,
  )
}

/** A network card: what its configuration says of bridge, MAC address and script; null where it does not. */
export type XlNic = Readonly<{
  bridge: string | null
  mac: string | null
  script: string | null
  backend: string | null
}>

/** Words are KEY=VALUE between commas; a MAC address may stand alone. */
export function parseXlNic(spec: string): XlNic {
  const value = (key: string): string | null => nicPart(spec, key)?.text ?? null
  const alone = /^\s*((?:[0-9a-f]{2}:){5}[0-9a-f]{2})\s*(?:,|$)/i.exec(spec)?.[1] ?? null
  return {
    bridge: value('bridge'),
    mac: value('mac') ?? alone,
    script: value('script'),
    backend: value('backend'),
  }
}

/** The same card with another value of a key; it is added at the end where it is not there. */
export function setXlNic(spec: string, key: 'bridge' | 'mac', value: string): string {
  if (!/^[^\s,]+$/.test(value)) throw bad(spec, `${value} cannot be a ${key} in it`)
  const part = nicPart(spec, key)
  if (part !== null) return spec.slice(0, part.start) + value + spec.slice(part.end)
  const separator = /(?:^|,)\s*$/.test(spec) ? '' : ','
  return `${spec}${separator}${key}=${value}`
}

function nicPart(spec: string, key: string): Readonly<{ start: number; end: number; text: string }> | null {
  const match = new RegExp(`(?:^|,)\\s*${key}\\s*=\\s*([^,]*?)\\s*(?=,|$)`, 'd').exec(spec)
  const [start, end] = match?.indices?.[1] ?? []
  return start === undefined || end === undefined ? null : { start, end, text: spec.slice(start, end) }
}

/** Parts in the order of the text; `start` and `end` are of the text between the commas, without blanks around it. */
function partsOf(spec: string): readonly Part[] {
  const parts: Part[] = []
  let at = 0
  const names: Array<'path' | 'format' | 'vdev' | 'access'> = ['path', 'format', 'vdev', 'access']
  const add = (kind: Part['kind'], text: string): void => {
    const trimmed = text.replace(/,$/, '').trimEnd()
    parts.push({ kind, start: at, end: at + trimmed.length, text: trimmed })
    at += text.length
  }
  const take = (name: (typeof names)[number]): void => {
    const index = names.indexOf(name)
    if (index >= 0) names.splice(index, 1)
  }
  for (;;) {
    at += /^[ \t\n]*/.exec(spec.slice(at))?.[0].length ?? 0
    if (at >= spec.length) return parts
    const prefix = matchAt(PREFIX, spec, at)
    const key = matchAt(KEYS, spec, at) ?? matchAt(FLAGS, spec, at)
    if (spec.startsWith('target=', at)) {
      take('path')
      parts.push({ kind: 'key', start: at, end: spec.length, text: spec.slice(at) })
      return parts
    }
    if (prefix !== null) {
      const name = prefix.slice(0, -1)
      parts.push({ kind: 'prefix', start: at, end: at + name.length, text: name })
      at += prefix.length
      take('format')
      continue
    }
    if (key !== null) {
      if (key.startsWith('format=')) take('format')
      if (key.startsWith('vdev=')) take('vdev')
      add('key', key)
      continue
    }
    const positional = /^[^=,]*(?:,|$)/.exec(spec.slice(at))?.[0]
    if (positional === undefined)
      throw bad(spec, `${/^[^=,]*/.exec(spec.slice(at))?.[0] ?? ''}= is no key of a disk`)
    // an empty drive may leave the format out: ',hdc:cdrom,r'
    const hasNoPath = parts.some((part) => part.kind === 'path' && part.text === '')
    if (names[0] === 'format' && hasNoPath && /:(?:cdrom|disk),?$/.test(positional)) take('format')
    const name = names.shift()
    if (name === undefined) throw bad(spec, `${positional.replace(/,$/, '')} is one word too many`)
    add(name, positional)
  }
}

function understood(spec: string, parts: readonly Part[]): XlDisk {
  const first = (kind: Part['kind']): string | null =>
    parts.find((part) => part.kind === kind && part.text !== '')?.text ?? null
  const key = (name: string): string | null =>
    parts
      .findLast((part) => part.kind === 'key' && part.text.startsWith(`${name}=`))
      ?.text.slice(name.length + 1)
      .trim() ?? null
  const prefixes = parts.filter((part) => part.kind === 'prefix').map((part) => part.text)
  const [vdevWord = '', devtype] = (key('vdev') ?? first('vdev') ?? '').split(/:(?=cdrom$|disk$)/)
  if (vdevWord === '') throw bad(spec, 'no name for the guest (xvda, hda...) in it')
  const isCdrom =
    devtype === 'cdrom' ||
    key('devtype') === 'cdrom' ||
    parts.some((part) => part.kind === 'key' && part.text === 'cdrom')
  const path = key('target') ?? first('path') ?? ''
  const format = key('format') ?? first('format') ?? prefixes.find((each) => FORMAT_PREFIXES.test(each)) ?? ''
  if (format !== '' && !FORMATS.has(format)) throw bad(spec, `the format ${format} is not known`)
  const scriptPrefix = prefixes.find((each) => SCRIPT_PREFIXES.test(each))
  const access = (key('access') ?? first('access') ?? '').replace(/!$/, '')
  if (!['', 'r', 'ro', 'w', 'rw'].includes(access)) throw bad(spec, `the access ${access} is not known`)
  return {
    vdev: vdevWord,
    path: format === 'empty' ? '' : path,
    format: format === '' || format === 'empty' ? 'raw' : format,
    access: isCdrom || (access.startsWith('r') && access !== 'rw') ? 'read' : 'write',
    isShareable: (key('access') ?? first('access') ?? '').endsWith('!'),
    isCdrom,
    prefix: prefixes.findLast((each) => each !== 'ioemu') ?? null,
    script: key('script') ?? (scriptPrefix === undefined ? null : `block-${scriptPrefix}`),
    backend: key('backend'),
  }
}

/** The text with `path` in the place of `old`. What names a back end that only devices, or only files, have goes. */
function withoutBackendType(
  spec: string,
  kind: 'file' | 'block',
  old: Readonly<{ start: number; end: number }>,
  path: string,
): string {
  const moved = spec.slice(0, old.start) + path + spec.slice(old.end)
  if (kind === 'block') return moved
  const pattern = /\s*backendtype=phy\s*(?:,|$)/y
  for (const part of partsOf(moved)) {
    pattern.lastIndex = part.start
    const match = part.kind === 'key' ? pattern.exec(moved) : null
    if (match !== null)
      return moved.slice(0, part.start) + moved.slice(part.start + match[0].length).trimStart()
  }
  return moved
}

function inLongForm(spec: string, path: string, kind: 'file' | 'block'): string {
  const parts = partsOf(spec)
  const disk = understood(spec, parts)
  const words = [
    `format=${disk.format}`,
    `vdev=${disk.vdev}`,
    `access=${disk.access === 'write' ? 'rw' : 'ro'}`,
  ]
  if (disk.isCdrom) words.push('devtype=cdrom')
  if (disk.script !== null) words.push(`script=${disk.script}`)
  for (const { kind: part, text } of parts) {
    const isSaid = /^(?:format|vdev|access|devtype|script|target)=|^cdrom$/.test(text)
    if (part === 'key' && !isSaid && !(kind === 'file' && text === 'backendtype=phy')) words.push(text)
  }
  return [...words, `target=${path}`].join(',')
}

function matchAt(pattern: RegExp, text: string, at: number): string | null {
  pattern.lastIndex = at
  return pattern.exec(text)?.[0] ?? null
}

function bad(spec: string, why: string): SyncError {
  return new SyncError(
    'migrate/hypervisor',
    `'${printable(spec)}' in the xl configuration was not understood: ${printable(why)}`,
    {
      operand: printable(spec),
      hint: "Write it as in xl-disk-configuration(5): 'format=raw,vdev=xvda,access=rw,target=/dev/vg/web'.",
    },
  )
}
