// What would be lost: content of a destination that its source has not. Asked about on the first sync of a pair, for all
// disks of a run at once; refuses with guard/content, and changes nothing.

import type { Signature } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import { listSignatures } from './signature.js'

/** A destination of the run with what is on it and not on its source. Names are the operands as typed. */
export type ForeignContent = Readonly<{
  sourceName: string
  destinationName: string
  content: readonly Signature[]
}>

/** Disks that a message names; it is read at night. */
const MAX_NAMED = 4

/**
 * What the destination has and the source has not, by kind and id (where there is none, by kind and label): an older copy
 * of the source has nothing of its own.
 */
export function foreignContent(source: readonly Signature[], destination: readonly Signature[]): Signature[] {
  return destination.filter((there) => !source.some((here) => isSameContent(here, there)))
}

function isSameContent(a: Signature, b: Signature): boolean {
  if (a.kind !== b.kind) return false
  return a.id !== null || b.id !== null ? a.id === b.id : a.label === b.label
}

/** 'DEST holds an ext4 file system...', for each disk. */
export function contentText(disks: readonly ForeignContent[]): string {
  const texts = disks
    .slice(0, MAX_NAMED)
    .map(({ destinationName, content }) => `${destinationName} holds ${listSignatures(content)}`)
  if (disks.length > MAX_NAMED) texts.push(`and so do ${disks.length - MAX_NAMED} more`)
  return texts.join('; ')
}

/** The question for a person at a terminal. */
export function contentQuestion(disks: readonly ForeignContent[]): string {
  const [first] = disks
  const only = disks.length === 1 && first !== undefined
  const what = only ? `Overwrite it with ${first.sourceName}?` : `Overwrite all ${disks.length} of them?`
  return `${contentText(disks)}. ${what} [y/N] `
}

/** The refusal where nobody was asked, or somebody said no. */
export function contentRefusal(disks: readonly ForeignContent[]): SyncError {
  const them = disks.length === 1 ? 'it' : 'them'
  return new SyncError(
    'guard/content',
    `${contentText(disks)}, which the source has not; nothing was written`,
    {
      operand: disks[0]?.destinationName ?? '',
      hint: `Is it the right disk? To overwrite ${them}, type --yes, or --force-content.`,
    },
  )
}
