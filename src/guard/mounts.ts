// Where a disk, or what lies on it, is mounted: in every mount namespace that can be seen. Takes mountinfo as the kernel
// writes it; refuses nothing itself.

import { nodeKey, readNames, statOrNull } from '../endpoint/sysfs.js'
import { printable } from '../printable.js'
import { shownWord } from '../shell-word.js'
import type { Place } from './stack.js'
import type { MountTable, Survey } from './survey.js'
import type { Use } from './use.js'

/** One row of mountinfo (proc_pid_mountinfo(5)). `isReadOnly`: of the file system, not of this one mount of it. */
export type Mount = Readonly<{
  deviceKey: string
  mountPoint: string
  type: string
  source: string
  isReadOnly: boolean
}>

/** The rows of one mount table. */
export function parseMounts(text: string): Mount[] {
  const mounts: Mount[] = []
  for (const line of text.split('\n')) {
    const [before = '', after = ''] = line.split(' - ')
    const fields = before.split(' ')
    const [type = '', source = '', options = ''] = after.split(' ')
    const deviceKey = fields[2]
    const mountPoint = fields[4]
    if (deviceKey === undefined || mountPoint === undefined) continue
    const isReadOnly = options.split(',').includes('ro')
    mounts.push({
      deviceKey,
      mountPoint: unescapeOctal(mountPoint),
      type,
      source: unescapeOctal(source),
      isReadOnly,
    })
  }
  return mounts
}

/** Space, tab, newline and backslash are written as \040 and so on. */
export function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}

/** A use for each file system on the places; one that is mounted many times is told once, ours before others'. */
export async function mountUses(places: readonly Place[], survey: Survey): Promise<Use[]> {
  const byKey = new Map(places.map((place) => [place.key, place]))
  const names = await btrfsMembers(places, survey)
  const uses = new Map<string, Use>()
  for (const table of await survey.mountTables()) {
    for (const mount of parseMounts(table.text)) {
      const place = byKey.get(`block:${mount.deviceKey}`) ?? (await bySource(mount, byKey, names))
      if (place === undefined || uses.has(place.key)) continue
      uses.set(place.key, useOf(place, mount, table))
    }
  }
  return [...uses.values()]
}

function useOf(place: Place, { mountPoint, isReadOnly }: Mount, { pid }: MountTable): Use {
  const where = printable(mountPoint)
  const elsewhere = pid === null ? '' : ` in another mount namespace (that of pid ${pid})`
  const umount =
    pid === null ? `umount ${shownWord(mountPoint)}` : `nsenter -t ${pid} -m umount ${shownWord(mountPoint)}`
  return {
    guard: 'mounted',
    what: `${place.says}mounted on ${where}${elsewhere}`,
    hint: `If it is the right disk, unmount it first: ${umount}`,
    claims: claimsOf(place),
    access: isReadOnly ? 'reads' : 'writes',
    override: 'possible',
  }
}

/** Whether the kernel gives nobody the exclusive open of the disk because of a claim on this place. */
export function claimsOf({ kind }: Place): Use['claims'] {
  return kind === 'disk' || kind === 'part' || kind === 'whole' ? 'disk' : 'nothing'
}

/** File systems such as btrfs have device numbers of their own: they are known by what they were mounted from. */
async function bySource(
  { deviceKey, source, type }: Mount,
  byKey: ReadonlyMap<string, Place>,
  members: ReadonlyMap<string, Place>,
): Promise<Place | undefined> {
  if (!deviceKey.startsWith('0:')) return undefined
  // bcachefs names all of its devices, with colons between them
  for (const path of source.split(':')) {
    if (!path.startsWith('/')) continue
    const facts = await statOrNull(path)
    const place = facts === null || !facts.isBlockDevice() ? undefined : byKey.get(nodeKey(facts))
    if (place !== undefined) return place
    if (type === 'btrfs' && facts !== null && members.has(nodeKey(facts))) return members.get(nodeKey(facts))
    const named = [...byKey.values()].find(({ name }) => name !== null && path === `/dev/${name}`)
    if (named !== undefined) return named
  }
  return undefined
}

/** A btrfs on several devices is mounted from one of them: all members of such a one, by the place that is among them. */
async function btrfsMembers(places: readonly Place[], survey: Survey): Promise<Map<string, Place>> {
  const members = new Map<string, Place>()
  const directory = `${survey.roots.sys}/fs/btrfs`
  for (const uuid of await readNames(directory)) {
    const names = await readNames(`${directory}/${uuid}/devices`)
    const place = places.find(({ name }) => name !== null && names.includes(name))
    if (place === undefined) continue
    for (const name of names) {
      const facts = await statOrNull(`/dev/${name}`)
      if (facts !== null) members.set(nodeKey(facts), place)
    }
  }
  return members
}
