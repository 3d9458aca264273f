// The commands that stand for an action on a Xen guest, for the plan that a person reads: names in, words out. Files are written
// and renamed without a program; the words say what that comes to. Refuses nothing.

import { posix } from 'node:path'

import type { Driver } from './driver.js'
import { AUTO_DIRECTORY, XEN_DIRECTORY } from './xen-definitions.js'

export function xenWords(
  action: Parameters<Driver['words']>[0],
  guest: string,
): readonly (readonly string[])[] {
  const file = posix.join(XEN_DIRECTORY, `${guest}.cfg`)
  const link = posix.join(AUTO_DIRECTORY, `${guest}.cfg`)
  switch (action) {
    case 'save':
      return [
        ['xl', 'save', guest, 'STATE'],
        ['sync', 'STATE'],
      ]
    case 'restorePaused':
      return [['xl', 'restore', '-p', 'STATE.cfg', 'STATE']]
    case 'resume':
      return [['xl', 'unpause', guest]]
    case 'shutdown':
      return [['xl', 'shutdown', '-F', guest]]
    case 'start':
      return [['xl', 'create', '-q', file]]
    case 'define':
      return [
        ['tee', file],
        ['ln', '-sfn', file, link],
      ]
    case 'undefine':
      return [
        ['rm', link],
        ['rm', file],
      ]
    case 'fence':
      return [
        ['rm', link],
        ['mv', file, `${file}.moved-ID`],
      ]
    case 'live':
      return []
    default:
      return action satisfies never
  }
}
