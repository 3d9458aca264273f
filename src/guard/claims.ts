// Who in the kernel holds a disk: swap, device mapper, RAID, loop devices. Takes places and /proc/swaps; refuses nothing.

import { nodeKey, readText, statOrNull } from '../endpoint/sysfs.js'
import { shownWord } from '../shell-word.js'
import { claimsOf, unescapeOctal } from './mounts.js'
import type { Place } from './stack.js'
import type { Survey } from './survey.js'
import type { Use } from './use.js'

/** Swap on the disk, on a part of it, or on a device that stands on it. */
export async function swapUses(places: readonly Place[], survey: Survey): Promise<Use[]> {
  const uses: Use[] = []
  const rows = ((await readText(`${survey.roots.proc}/swaps`)) ?? '').split('\n').slice(1)
  for (const row of rows) {
    const path = unescapeOctal(row.split(/\s+/)[0] ?? '')
    const facts = path === '' ? null : await statOrNull(path)
    const key = facts === null ? null : nodeKey(facts)
    const place = places.find(
      (each) => each.key === key || (each.name !== null && path === `/dev/${each.name}`),
    )
    if (place === undefined) continue
    uses.push({
      guard: 'swap',
      what: `${place.says}in use as swap`,
      hint: `If it is the right disk, run first: swapoff ${shownWord(path)}`,
      claims: claimsOf(place),
      access: 'writes',
      // the kernel lets nobody write to an active swap device or file, but to a disk that has one in it
      override: place.kind === 'disk' ? 'impossible' : 'possible',
    })
  }
  return uses
}

/** Devices that stand on the disk: each holder, and each loop device. `path` is the disk as it was given. */
export function holderUses(places: readonly Place[], path: string): Use[] {
  return places.flatMap(({ kind, says, name, on, depth }): Use[] => {
    const what = says.replace(/, $/, '')
    if (kind === 'loop' && what.endsWith(`behind /dev/${name}`)) {
      const hint =
        depth === 1
          ? `Name /dev/${name} as the destination, or detach it first: losetup -d /dev/${name}`
          : `If it is the right disk, detach it first: losetup -d /dev/${name}`
      return [{ guard: 'attached', what, hint, claims: 'nothing', access: 'writes', override: 'possible' }]
    }
    if (kind === 'holder' && !what.endsWith(' is ')) {
      const hint = `See what stands on it: lsblk ${shownWord(path)}; for LVM: vgchange -an GROUP, for RAID: mdadm --stop`
      const claims = on === null ? 'nothing' : claimsOf(on)
      return [{ guard: 'held', what, hint, claims, access: 'writes', override: 'possible' }]
    }
    return []
  })
}
