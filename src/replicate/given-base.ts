// What a daemon hands to an attempt that it starts: where the clones and leaf files of the attempt before are. A word of the
// environment, which says nothing to a version that does not know it. Refuses what it does not understand by reading all.

import { isObject } from '../json.js'

/** The environment variable. */
export const BASE_VARIABLE = 'BLOCKSYNC_BASE'

/** Of each disk: paths under /proc, since neither file has a name any more. Null, and disks that are not listed: nothing. */
export type GivenBase = Readonly<{ disks: readonly (Readonly<{ clone: string; leaves: string }> | null)[] }>

/** What BASE_VARIABLE says; null where there is none: then nothing is to be kept for a next attempt. */
export function parseBase(text: string | undefined): GivenBase | null {
  if (text === undefined) return null
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return null
  }
  if (!isObject(value) || !Array.isArray(value['disks'])) return null
  const disks = (value['disks'] as readonly unknown[]).map((disk) => {
    if (!isObject(disk)) return null
    const { clone, leaves } = disk
    return typeof clone === 'string' && typeof leaves === 'string' ? { clone, leaves } : null
  })
  return { disks }
}
