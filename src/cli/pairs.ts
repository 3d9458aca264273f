// Which disk goes to which: operands and --disk values in, pairs of one direction between the same two machines out.
// Refuses two remote sides, mixed directions or hosts, and two disks that would end in one place.

import path from 'node:path'

import type { DiskPair, Operand } from '../sync/report.js'
import { hostPrefix, parseOperand, refuse } from './operand.js'
import type { LocalNames, ParsedOperand } from './operand.js'

/** More disks than any guest has; a shell pattern that matched a whole directory is a mistake. */
const MAX_DISKS = 256

/** As operands these are commands in the wrong place: `blocksync -n verify` would else ask a host called verify. */
const COMMANDS: readonly string[] = [
  'sync',
  'verify',
  'digest',
  'status',
  'undo',
  'serve',
  'agent',
  'doctor',
  'bwlimit',
  'migrate',
  'help',
]

/** Commands that people of this field would type, and that another version may have. */
const UNKNOWN_COMMANDS: readonly string[] = ['replicate']

/**
 * The pairs of a run, in the order they were given. Rejects with `usage`.
 * `operands`: SOURCE DESTINATION, or several SOURCEs and a host, `host:` or a directory (it ends in a slash) to put them
 * into. `disks`: values of --disk, SRC=DST; then there are no operands.
 */
export function parsePairs(
  operands: readonly string[],
  disks: readonly string[],
  names: LocalNames,
): DiskPair[] {
  const command = operands.find((text) => COMMANDS.includes(text))
  if (command !== undefined) {
    throw refuse(
      command,
      `the command ${command} has to be the first word`,
      `Write blocksync ${command} ..., or ${command}: for a host of that name.`,
    )
  }
  const [first] = operands
  if (first !== undefined && UNKNOWN_COMMANDS.includes(first)) {
    throw refuse(
      first,
      `this version of blocksync has no command ${first}`,
      `The commands are sync, verify, digest, status, undo, doctor, migrate and bwlimit (blocksync --help); write ${first}: for a host of that name.`,
    )
  }
  const pairs = disks.length > 0 ? pairsOfDisks(operands, disks, names) : pairsOfOperands(operands, names)
  if (pairs.length > MAX_DISKS)
    throw refuse('SOURCE', `more than ${MAX_DISKS} disks in one run`, 'Name fewer disks.')
  checkTogether(pairs)
  return pairs
}

/** The remote side of pairs that parsePairs gave, or null where both sides are here. */
export function remoteOf(pairs: readonly DiskPair[]): Extract<Operand['at'], { kind: 'remote' }> | null {
  for (const { source, destination } of pairs) {
    if (source.at.kind === 'remote') return source.at
    if (destination.at.kind === 'remote') return destination.at
  }
  return null
}

function pairsOfDisks(operands: readonly string[], disks: readonly string[], names: LocalNames): DiskPair[] {
  if (operands.length > 0) {
    throw refuse(
      operands[0] ?? '',
      'operands and --disk do not go together',
      'Write every pair as --disk SRC=DST.',
    )
  }
  return disks.map((text) => {
    const parts = text.split('=')
    const [source, destination] = parts
    if (parts.length !== 2 || !source || !destination) {
      throw refuse(
        `--disk ${text}`,
        'this is not SRC=DST with one =',
        'Write for example --disk /dev/vg/root=host2:/dev/vg/root',
      )
    }
    return pairOf(parseOperand(source, names), parseOperand(destination, names), names)
  })
}

function pairsOfOperands(operands: readonly string[], names: LocalNames): DiskPair[] {
  const last = operands.at(-1)
  if (last === undefined)
    throw refuse(
      'SOURCE',
      'SOURCE and DESTINATION are missing',
      'Write for example blocksync /dev/vg/root host2:/dev/vg/root',
    )
  if (operands.length === 1) {
    throw refuse(last, 'DESTINATION is missing', `Write for example blocksync ${last} host2:/dev/vg/root`)
  }
  const sources = operands.slice(0, -1).map((text) => parseOperand(text, names))
  const destination = parseOperand(last, names)
  if (sources.length > 1 && destination.path !== null && destination.names !== 'directory') {
    const local = destination.at.kind === 'local'
    throw refuse(
      last,
      'several sources need a host or a directory as the last operand',
      `Write ${local ? `${last}/` : `${hostPrefix(destination.at)} or ${last}/`}, or name each pair: --disk SRC=DST --disk SRC=DST`,
    )
  }
  return sources.map((source) => pairOf(source, destination, names))
}

function pairOf(source: ParsedOperand, destination: ParsedOperand, names: LocalNames): DiskPair {
  if (source.at.kind === 'remote' && destination.at.kind === 'remote') {
    throw refuse(
      `${source.typed} ${destination.typed}`,
      'both sides are remote',
      `Run it on one of the two hosts, or in two steps through here: blocksync ${source.typed} ./copy && blocksync ./copy ${destination.typed}` +
        ` (a file here is written ./name)`,
    )
  }
  if (source.path !== null && source.names === 'directory') {
    throw refuse(
      source.typed,
      'the source is a directory, not a disk',
      'Name an image file or a block device.',
    )
  }
  if (source.path === null) {
    // both null would be both remote, refused above
    const path = destination.path ?? ''
    if (destination.names === 'directory') {
      throw refuse(
        source.typed,
        'it is not clear which disk is meant',
        `Write for example ${hostPrefixOf(source)}/dev/vg/root`,
      )
    }
    return { source: complete(source, absolute(path, names)), destination: complete(destination, path) }
  }
  if (destination.path === null) {
    return {
      source: complete(source, source.path),
      destination: complete(destination, sameOnOtherHost(source, names)),
    }
  }
  if (destination.names === 'directory') {
    const name = path.posix.basename(source.path)
    if (name === '.' || name === '..')
      throw refuse(
        source.typed,
        'the source is a directory, not a disk',
        'Name an image file or a block device.',
      )
    return {
      source: complete(source, source.path),
      destination: complete(destination, destination.path + name),
    }
  }
  return { source: complete(source, source.path), destination: complete(destination, destination.path) }
}

function sameOnOtherHost(source: ParsedOperand, names: LocalNames): string {
  return absolute(source.path ?? '', names)
}

/** A relative path means another file on another host: there, the same path is the absolute one. */
function absolute(text: string, names: LocalNames): string {
  return path.posix.resolve(names.cwd, text)
}

/** `typed` is what was typed; where the path came from the other operand, it is completed so that it names the disk. */
function complete(operand: ParsedOperand, diskPath: string): Operand {
  const typed = operand.path === diskPath ? operand.typed : hostPrefixOf(operand) + diskPath
  return { at: operand.at, path: diskPath, typed }
}

function hostPrefixOf(operand: ParsedOperand): string {
  return operand.at.kind === 'remote' ? hostPrefix(operand.at) : ''
}

function checkTogether(pairs: readonly DiskPair[]): void {
  const [first] = pairs
  if (first === undefined) return
  const sources = new Set(pairs.map(({ source }) => placeOf(source)))
  const destinations = new Set<string>()
  for (const { source, destination } of pairs) {
    if (sideOf(source) !== sideOf(first.source) || sideOf(destination) !== sideOf(first.destination)) {
      throw refuse(
        destination.typed,
        'all disks of a run go the same way between the same two machines',
        'Write for example --disk /dev/vg/a=host2:/dev/vg/a --disk /dev/vg/b=host2:/dev/vg/b',
      )
    }
    const place = placeOf(destination)
    if (destinations.has(place))
      throw refuse(
        destination.typed,
        'two disks would be written to the same destination',
        'Name each pair: --disk SRC=DST',
      )
    if (pairs.length > 1 && sources.has(place)) {
      throw refuse(
        destination.typed,
        'a disk is both source and destination of this run',
        'Name each disk once.',
      )
    }
    destinations.add(place)
  }
}

function placeOf(operand: Operand): string {
  return `${sideOf(operand)} ${path.posix.normalize(operand.path)}`
}

function sideOf({ at }: Operand): string {
  return at.kind === 'local' ? 'local' : JSON.stringify([at.user, at.host, at.port])
}
