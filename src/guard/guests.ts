// Which running guests use a disk, by what libvirt and the Xen block back-end leave in the file system. Takes that text as
// others wrote it, bounded; runs no program, and counts a paused guest as running.

import { open } from 'node:fs/promises'

import { absentAsNull, nodeKey, readNames, readText, statOrNull } from '../endpoint/sysfs.js'
import { printable } from '../printable.js'
import { shownWord } from '../shell-word.js'
import type { Place } from './stack.js'
import type { Survey } from './survey.js'
import type { Use } from './use.js'

/** Live XML of a guest with many disks has some 100 KiB; more is not read. */
const MAX_XML_BYTES = 4 << 20
/** Where libvirt's drivers keep the live XML of what runs, below /run; sessions of users have theirs below user/UID. */
const LIVE_XML_DIRECTORIES = ['libvirt/qemu', 'libvirt/libxl', 'libvirt/lxc']
const SESSION_XML_DIRECTORY = 'libvirt/qemu/run'

/** One running libvirt domain: the paths of all its disks, their backing files and mirrors. `pid` is null where it is not said. */
export type LiveDomain = Readonly<{ name: string; pid: number | null; paths: readonly string[] }>

/** Guests that use one of the places. */
export async function guestUses(places: readonly Place[], survey: Survey): Promise<Use[]> {
  return [...(await libvirtUses(places, survey)), ...(await xenUses(places, survey))]
}

/** The name in the words of a QEMU process (`-name web`, `-name guest=web,debug-threads=on`), or null. */
export function guestName(words: readonly string[]): string | null {
  const [program = ''] = words
  if (!/(^|\/)(qemu|kvm)[^/]*$/.test(program)) return null
  const at = words.findIndex((word) => word === '-name' || word === '--name')
  const value = at < 0 ? undefined : words[at + 1]
  if (value === undefined || value === '') return null
  // a comma in a name is doubled
  const parts = value.replaceAll(',,', '\0').split(',')
  const named = parts.find((part) => part.startsWith('guest='))?.slice('guest='.length) ?? parts[0]
  return named === undefined || named === '' ? null : named.replaceAll('\0', ',')
}

/** What a live XML (`<domstatus>` or `<domain>`) says; null where there is no domain in it. */
export function parseLiveDomain(xml: string): LiveDomain | null {
  const name = /<name>([^<]{1,256})<\/name>/.exec(xml)?.[1]
  if (name === undefined) return null
  const pid = Number(/<domstatus\b[^>]*?\spid=(["'])(\d{1,10})\1/.exec(xml)?.[2] ?? 0)
  const paths: string[] = []
  for (const [disk] of xml.matchAll(/<disk\b[\s\S]*?<\/disk>/g)) {
    for (const [source] of disk.matchAll(/<source\b[^>]*>/g)) {
      const path = /\s(?:file|dev)=(["'])(.*?)\1/.exec(source)?.[2]
      if (path !== undefined && path !== '') paths.push(decodeEntities(path))
    }
  }
  return { name: decodeEntities(name), pid: pid > 0 ? pid : null, paths }
}

async function libvirtUses(places: readonly Place[], survey: Survey): Promise<Use[]> {
  const { run, proc } = survey.roots
  const sessions = (await readNames(`${run}/user`)).map((uid) => `user/${uid}/${SESSION_XML_DIRECTORY}`)
  const uses: Use[] = []
  for (const directory of [...LIVE_XML_DIRECTORIES, ...sessions]) {
    for (const file of await readNames(`${run}/${directory}`)) {
      const xml = file.endsWith('.xml') ? await readBounded(`${run}/${directory}/${file}`) : null
      const domain = xml === null ? null : parseLiveDomain(xml)
      if (domain === null) continue
      // left over by a guest that ended while libvirt was not there to see it
      if (domain.pid !== null && (await readText(`${proc}/${domain.pid}/stat`)) === null) continue
      const place = await placeAmong(domain.paths, places)
      if (place !== null)
        uses.push(guestUse(place, 'libvirt', domain.name, `virsh shutdown ${shownWord(domain.name)}`))
    }
  }
  return uses
}

async function placeAmong(paths: readonly string[], places: readonly Place[]): Promise<Place | null> {
  for (const path of paths) {
    const facts = path.startsWith('/') ? await statOrNull(path) : null
    const key = facts === null ? null : nodeKey(facts)
    const place = places.find((each) => each.key === key)
    if (place !== undefined) return place
  }
  return null
}

/** Each vbd of the block back-end (xen-blkback) tells its device, in hexadecimal, and its guest's number in its name. */
async function xenUses(places: readonly Place[], survey: Survey): Promise<Use[]> {
  const directory = `${survey.roots.sys}/bus/xen-backend/devices`
  const uses: Use[] = []
  for (const name of await readNames(directory)) {
    const domain = /^vbd-(\d+)-\d+$/.exec(name)?.[1]
    const [, major, minor] =
      /^([0-9a-f]+):([0-9a-f]+)$/i.exec((await readText(`${directory}/${name}/physical_device`)) ?? '') ?? []
    if (domain === undefined || major === undefined || minor === undefined) continue
    const key = `block:${Number.parseInt(major, 16)}:${Number.parseInt(minor, 16)}`
    const place = places.find((each) => each.key === key)
    if (place === undefined) continue
    const guest = (await xenName(domain, survey)) ?? domain
    const isReader = (await readText(`${directory}/${name}/mode`))?.startsWith('r') === true
    const use = guestUse(place, 'Xen', guest, `xl shutdown ${shownWord(guest)}`)
    uses.push(isReader ? { ...use, access: 'reads' } : use)
  }
  return uses
}

/** The name of a domain, from the words of the QEMU that serves it, where it has one. */
async function xenName(domain: string, survey: Survey): Promise<string | null> {
  for (const pid of await survey.pids()) {
    const words = ((await readText(`${survey.roots.proc}/${pid}/cmdline`)) ?? '').split('\0')
    const at = words.indexOf('-xen-domid')
    if (at >= 0 && words[at + 1] === domain) return guestName(words)
  }
  return null
}

function guestUse({ says }: Place, kind: 'libvirt' | 'Xen', name: string, shutdown: string): Use {
  return {
    guard: 'guest',
    what: `${says}a disk of the running ${kind} guest ${printable(name)}`,
    hint: `Shut the guest down first: ${shutdown}`,
    claims: 'nothing',
    access: 'writes',
    override: 'possible',
  }
}

async function readBounded(path: string): Promise<string | null> {
  const handle = await absentAsNull(open(path, 'r'))
  if (handle === null) return null
  try {
    const { size } = await handle.stat()
    return size > MAX_XML_BYTES ? null : await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
}

function decodeEntities(text: string): string {
  const named: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }
  return text.replace(
    /&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|(amp|lt|gt|quot|apos));/gi,
    (whole, hex, decimal, name) => {
      if (name !== undefined) return named[String(name).toLowerCase()] ?? whole
      const code = hex === undefined ? Number(decimal) : Number.parseInt(String(hex), 16)
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole
    },
  )
}
