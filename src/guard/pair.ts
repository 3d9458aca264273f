// What is checked about a pair of disks before a byte is written: that they are two disks, and that their sizes allow
// what was asked. Refuses with guard/same-disk and guard/size; changes nothing.

import type { EndpointInfo } from '../endpoint/endpoint.js'
import { isSameDisk } from '../endpoint/endpoint.js'
import { SyncError } from '../errors.js'
import type { SizePolicy } from '../options.js'

export type PairCheck = Readonly<{
  source: EndpointInfo
  destination: EndpointInfo
  /** Operands as typed, for messages. */
  sourceName: string
  destinationName: string
  policy: SizePolicy
  /** `read`: nothing will be written (dry run, verify), so nothing grows. */
  access: 'read' | 'write'
}>

/** Bytes to make equal from the start of both disks, and how long the destination must be for that. */
export type AgreedSize = { lengthBytes: number; destinationBytes: number }

/** Checks one pair. Throws guard/same-disk or guard/size. */
export function checkPair(check: PairCheck): AgreedSize {
  const { source, destination, sourceName, destinationName } = check
  if (isSameDisk(source.identity, destination.identity)) {
    throw new SyncError(
      'guard/same-disk',
      `${destinationName} is the same disk as ${sourceName}; nothing was written`,
      {
        operand: destinationName,
        hint: 'Name two different disks: after symbolic links and loop devices these are one.',
      },
    )
  }
  return agreeSize(check)
}

function agreeSize(check: PairCheck): AgreedSize {
  const { source, destination, destinationName, policy, access } = check
  const from = source.sizeBytes
  const to = destination.sizeBytes
  if (from === to) return { lengthBytes: from, destinationBytes: to }
  if (policy === 'min') return { lengthBytes: Math.min(from, to), destinationBytes: to }
  if (policy === 'grow' && to > from) return { lengthBytes: from, destinationBytes: to }
  if (policy === 'grow' && destination.kind === 'file') {
    // A run that writes nothing can compare only what there is; that it would lengthen the rest is a difference.
    return { lengthBytes: access === 'read' ? to : from, destinationBytes: from }
  }
  const relation = to < from ? 'smaller' : 'larger'
  throw new SyncError(
    'guard/size',
    `${destinationName} is ${relation} than the source: ${to} bytes, the source has ${from}; nothing was written`,
    { operand: destinationName, hint: sizeHint(check) },
  )
}

function sizeHint({ source, destination, policy }: PairCheck): string {
  const { sizeBytes, kind } = destination
  if (sizeBytes > source.sizeBytes)
    return 'Type --size grow to leave the rest of it as it is, or make the sizes equal first.'
  if (kind === 'file')
    return 'Type --size grow to lengthen it, or --size min to sync only the part that both have.'
  const instead = policy === 'grow' ? '' : ' (--size grow cannot lengthen a device)'
  return `Enlarge the device first (lvextend), or type --size min to sync only the part that both have${instead}.`
}

/** One disk pair of a run, as it was opened. Names are the operands as typed. */
export type OpenedPair = Readonly<{
  source: EndpointInfo
  destination: EndpointInfo
  pair: Readonly<{ source: { typed: string }; destination: { typed: string } }>
}>

/**
 * Refuses a run in which two destinations are one disk, or one pair writes what another reads: the result would depend
 * on the order. Throws guard/same-disk.
 */
export function checkApart(pairs: readonly OpenedPair[]): void {
  for (const [index, { destination, pair }] of pairs.entries()) {
    for (const [otherIndex, other] of pairs.entries()) {
      if (otherIndex === index) continue
      const isTwice = otherIndex > index && isSameDisk(destination.identity, other.destination.identity)
      if (!isTwice && !isSameDisk(destination.identity, other.source.identity)) continue
      const otherName = isTwice ? other.pair.destination.typed : other.pair.source.typed
      throw new SyncError(
        'guard/same-disk',
        `${pair.destination.typed} is the same disk as ${otherName}, which is part of this run too; nothing was written`,
        { operand: pair.destination.typed, hint: 'Every destination of a run must be a disk of its own.' },
      )
    }
  }
}
