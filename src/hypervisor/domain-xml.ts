// A libvirt domain definition: XML text in, what was asked is changed, text out. Comments, namespaces and elements that
// nobody here knows stay as they are. Refuses what is too long, has a document type, or is no well-formed XML of a domain.

import { DOMParser, XMLSerializer, type Document, type Element } from '@xmldom/xmldom'

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import type { DefinitionChanges } from './driver.js'

/** Definitions of large guests have some 100 KiB; parsing takes about a second for each MiB of small elements. */
export const MAX_DEFINITION_BYTES = 1 << 20

/** The namespace of what a fence has in the metadata of a guest that moved away: an element `moved`. */
export const MOVED_NAMESPACE = 'urn:blocksync:moved'
/**
 * A disk that is not there keeps a fenced guest from being started, and its path is what libvirt then says. Also where all
 * disks of the guest are shared, which cannot be made read-only.
 */
const BARRIER_DIRECTORY = '/this-guest-moved-away/blocksync-migration-'
export const BARRIER_TARGET = 'vdmoved'

/** What libvirt has beside a disk's path in `<source>` for other kinds of disks. */
const SOURCE_ATTRIBUTES = [
  'file',
  'dev',
  'dir',
  'protocol',
  'name',
  'tls',
  'pool',
  'volume',
  'mode',
  'path',
  'query',
]

export type MovedMark = Readonly<{ id: string; guest: string; autostart: boolean }>

/** A definition as a tree; its root is a `<domain>`. Rejects nothing later: `serializeDomain` gives all of it back. */
export function parseDomain(xml: string): Document {
  if (Buffer.byteLength(xml) > MAX_DEFINITION_BYTES)
    throw unusable(`it is longer than ${MAX_DEFINITION_BYTES} bytes`)
  // eslint-disable-next-line no-control-regex -- characters that XML has not, and the parser lets through
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/.test(xml)) throw unusable('it has control characters')
  const document = parse(xml)
  // Entities come with a document type; libvirt writes none.
  if (document.doctype !== null) throw unusable('it has a document type')
  const root = rootOf(document)
  if (root.localName !== 'domain' || root.namespaceURI !== null)
    throw unusable(`it is a <${root.nodeName}> and not a <domain>`)
  return document
}

function parse(xml: string): Document {
  let why = ''
  try {
    return new DOMParser({
      onError: (_level, message) => {
        why ||= message
        throw new Error(message)
      },
    }).parseFromString(xml, 'text/xml')
  } catch (thrown) {
    throw unusable(why === '' ? 'it is no XML' : why, thrown)
  }
}

function unusable(why: string, cause?: unknown): SyncError {
  return new SyncError('migrate/hypervisor', `a guest's definition cannot be used: ${printable(why)}`, {
    hint: 'Compare with what virsh dumpxml prints, and correct the definition with virsh edit.',
    cause,
  })
}

/** As text, with attributes in single quotes as libvirt has them: so a difference of two texts shows what was changed. */
export function serializeDomain(document: Document): string {
  const text = new XMLSerializer().serializeToString(document)
  const lines = text.replace(/<!--[\s\S]*?-->|<!\[CDATA\[[\s\S]*?\]\]>|<\?[\s\S]*?\?>|<[^>]*>/g, (markup) =>
    /^<[!?]/.test(markup)
      ? markup
      : markup.replace(/="([^"]*)"/g, (_whole, value: string) => {
          return `='${value.replaceAll("'", '&apos;').replaceAll('&quot;', '"')}'`
        }),
  )
  return lines.endsWith('\n') ? lines : `${lines}\n`
}

/** The same definition in the one form that all of ours have. */
export function normalizeDomain(xml: string): string {
  return serializeDomain(parseDomain(xml))
}

export function rootOf(document: Document): Element {
  const { documentElement } = document
  if (documentElement === null) throw unusable('it is empty')
  return documentElement
}

/** Child elements of libvirt's own vocabulary with that name, in order. */
export function childrenOf(parent: Element, name?: string): Element[] {
  return Array.from(parent.children).filter(
    (each) => each.namespaceURI === null && (name === undefined || each.localName === name),
  )
}

/** The first element at the end of a way of names, or null. */
export function descend(from: Element, ...names: readonly string[]): Element | null {
  let at: Element | undefined = from
  for (const name of names) {
    at = childrenOf(at, name)[0]
    if (at === undefined) return null
  }
  return at
}

/** An attribute's value; null where it is missing or empty. */
export function attributeOf(element: Element | null, name: string): string | null {
  const value = element?.getAttribute(name) ?? ''
  return value === '' ? null : value
}

/** The text of an element without blanks around it; null where it is missing or empty. */
export function textOf(element: Element | null): string | null {
  const text = element?.textContent?.trim() ?? ''
  return text === '' ? null : text
}

/** All devices of a kind ('disk', 'interface'), in order. */
export function devicesOf(document: Document, name?: string): Element[] {
  const devices = descend(rootOf(document), 'devices')
  return devices === null ? [] : childrenOf(devices, name)
}

/** The attribute of `<source>` that names where a nic of that type is connected; null where none can be mapped. */
export function connectionAttribute(type: string | null): 'network' | 'bridge' | 'dev' | null {
  switch (type) {
    case 'network':
      return 'network'
    case 'bridge':
      return 'bridge'
    case 'direct':
      return 'dev'
    default:
      return null
  }
}

/** The definition with these changes; everything else stays. Throws migrate/hypervisor for what is no definition. */
export function retargetDomain(xml: string, changes: DefinitionChanges): string {
  const document = parseDomain(xml)
  for (const disk of devicesOf(document, 'disk')) {
    const change = changes.disks.get(attributeOf(descend(disk, 'target'), 'dev') ?? '')
    if (change !== undefined) retargetDisk(document, disk, change.kind, change.path)
  }
  for (const nic of devicesOf(document, 'interface')) {
    const attribute = connectionAttribute(attributeOf(nic, 'type'))
    const source = descend(nic, 'source')
    const name = attribute === null ? null : attributeOf(source, attribute)
    const there = name === null ? undefined : changes.networks.get(name)
    if (source === null || attribute === null || there === undefined || there === name) continue
    source.setAttribute(attribute, there)
    // A running guest's definition also says to which port and bridge the network led here.
    for (const left of ['portid', ...(attribute === 'network' ? ['bridge'] : [])])
      source.removeAttribute(left)
  }
  retargetNvram(document, changes.files)
  return serializeDomain(document)
}

function retargetDisk(document: Document, disk: Element, kind: 'file' | 'block', path: string): void {
  const was = attributeOf(disk, 'type')
  const isLocal = was === 'file' || was === 'block'
  const old = descend(disk, 'source')
  const source = old ?? document.createElement('source')
  if (old === null) disk.insertBefore(source, descend(disk, 'target'))
  for (const name of SOURCE_ATTRIBUTES) source.removeAttribute(name)
  source.setAttribute(kind === 'file' ? 'file' : 'dev', path)
  disk.setAttribute('type', kind)
  // Hosts, credentials and caches of a network disk mean nothing to a file; what encrypts its content still does.
  if (!isLocal) {
    for (const child of childrenOf(source)) {
      if (child.localName !== 'encryption' && child.localName !== 'slices') source.removeChild(child)
    }
    for (const auth of childrenOf(disk, 'auth')) disk.removeChild(auth)
  }
  // A chain that is spelled out has paths of this host. The image's own header says what it rests on.
  for (const backing of childrenOf(disk, 'backingStore')) {
    if (childrenOf(backing).length > 0) removeWithIndent(backing)
  }
}

function retargetNvram(document: Document, files: DefinitionChanges['files']): void {
  const nvram = descend(rootOf(document), 'os', 'nvram')
  if (nvram === null) return
  const source = descend(nvram, 'source')
  const path = source === null ? textOf(nvram) : attributeOf(source, 'file')
  const there = path === null ? undefined : files.get(path)
  if (there === undefined) return
  if (source === null) nvram.textContent = there
  else source.setAttribute('file', there)
}

/** The mark of a fence; null where this definition is of a guest that did not move away. */
export function movedMark(xml: string): MovedMark | null {
  const metadata = descend(rootOf(parseDomain(xml)), 'metadata')
  const moved = Array.from(metadata?.children ?? []).find(
    (each) => each.namespaceURI === MOVED_NAMESPACE && each.localName === 'moved',
  )
  const id = attributeOf(moved ?? null, 'id')
  const guest = attributeOf(moved ?? null, 'guest')
  if (moved === undefined || id === null || guest === null) return null
  return { id, guest, autostart: attributeOf(moved, 'autostart') === 'yes' }
}

/** The path of the disk that is not there, of the fence of that migration. */
export function barrierPath(id: string): string {
  return `${BARRIER_DIRECTORY}${id}`
}

/** The element of a mark, for the namespace MOVED_NAMESPACE. */
export function markElement({ id, guest, autostart }: MovedMark): string {
  return `<moved id="${escaped(id)}" guest="${escaped(guest)}" autostart="${autostart ? 'yes' : 'no'}"/>`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}

/** Whether a disk is the one that keeps a fenced guest from being started. */
export function isBarrier(disk: Element): boolean {
  return attributeOf(descend(disk, 'source'), 'file')?.startsWith(BARRIER_DIRECTORY) ?? false
}

/** With the blanks before it, so that no empty line is left. */
function removeWithIndent(element: Element): void {
  const before = element.previousSibling
  if (before !== null && before.nodeType === 3 && before.nodeValue?.trim() === '')
    element.parentNode?.removeChild(before)
  element.parentNode?.removeChild(element)
}
