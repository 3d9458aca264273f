// What control frames carry about who a disk is: its identity, what is on it, and the records of its pairs. Text of a far
// host and content of a disk: every field is checked and bounded here, on its way out so that the frame is not too long.

import type { DiskIdentity, Signature, StableIdentity } from '../endpoint/endpoint.js'
import { printable } from '../printable.js'
import { RecordError } from '../state/fields.js'
import {
  checkedEnd,
  checkedFinished,
  checkedRecord,
  checkedStable,
  checkedStart,
  type FinishedRun,
  isPairId,
  type KnownDisk,
  type PairEnd,
  type PairRecord,
  type PairStart,
} from '../state/record.js'
import { type Fields, parseObject, text } from './fields.js'
import { protocolError } from './frame.js'

/** Records of one pair, and of disks that took its place; more are not of use. */
const MAX_PAIRS = 8
const MAX_SIGNATURES = 32
const MAX_REPLACED = 64
const MAX_LABEL_UNITS = 256
const MAX_FAILURE_UNITS = 1000
/** An inode number and three times, in nanoseconds. */
const STAMP = /^[0-9a-z.-]{1,128}$/
/** Of a frame of 64 KiB: a path of 4 KiB may be written in six times as many bytes, and warnings are beside it. */
const PAIRS_BYTES = 16 << 10
const CONTENT_BYTES = 12 << 10

/** Client to server: a run of this disk is done, which a record is to be kept of; `peer` is the client's disk. */
export type RecordMessage = Readonly<{
  pairId: string
  peer: PairEnd
  generation: number
  finished: FinishedRun
  /** Records of that disk that this one takes the place of. */
  replaces: readonly string[]
}>

/** Server to client: it is on stable storage, or why there is none. */
export type RecordedMessage = Readonly<{ failure: string | null }>

/** Fields of `opened`; what is empty is left out, and so is all of it where the client did not say who it is. */
export function knownFields(known: KnownDisk | null): object {
  if (known === null) return {}
  const content = withinBytes(known.content.slice(0, MAX_SIGNATURES), CONTENT_BYTES)
  const pairs = withinBytes(known.pairs.slice(0, MAX_PAIRS), PAIRS_BYTES)
  return {
    stable: known.stable,
    ...(content.length === 0 ? {} : { content }),
    ...(pairs.length === 0 ? {} : { pairs }),
    ...(known.stamp === null ? {} : { stamp: known.stamp }),
    ...(known.frozen ? { frozen: true } : {}),
  }
}

/** As many of the first ones as fit. */
function withinBytes<T extends object>(items: readonly T[], mostBytes: number): T[] {
  let bytes = 0
  const count = items.findIndex((item) => (bytes += Buffer.byteLength(JSON.stringify(item)) + 1) > mostBytes)
  return items.slice(0, count < 0 ? items.length : count)
}

/** Null where there is no `stable`. Throws session/protocol. */
export function decodeKnown(fields: Fields): KnownDisk | null {
  if (fields['stable'] === undefined) return null
  const content = list(fields['content'] ?? [], 'content', MAX_SIGNATURES)
  const pairs = list(fields['pairs'] ?? [], 'pairs', MAX_PAIRS)
  const stamp = fields['stamp'] ?? null
  const frozen = fields['frozen'] ?? false
  if (stamp !== null && (typeof stamp !== 'string' || !STAMP.test(stamp)))
    throw protocolError('control frame whose stamp is not of its form')
  if (typeof frozen !== 'boolean') throw protocolError('control frame whose frozen is neither true nor false')
  return {
    stable: checked(() => checkedStable(fields['stable'])),
    content: content.map((each) => signature(each)),
    pairs: pairs.map((each): PairRecord => checked(() => checkedRecord(each))),
    stamp,
    frozen,
  }
}

/** The `peer` of an `open`; absent is null. Throws session/protocol. */
export function decodePeer(value: unknown): StableIdentity | null {
  return value === undefined ? null : checked(() => checkedStable(value))
}

/** The `pair` of a `start`; absent is null. Throws session/protocol. */
export function decodePair(value: unknown): PairStart | null {
  return value === undefined ? null : checked(() => checkedStart(value))
}

/** Throws session/protocol. */
export function decodeRecord(body: Buffer): RecordMessage {
  const fields = parseObject(body, 'record')
  const { pairId, generation } = fields
  const replaces = list(fields['replaces'], 'replaces', MAX_REPLACED)
  if (!isPairId(pairId) || !replaces.every((id) => isPairId(id)))
    throw protocolError('record frame whose pairId is none')
  if (typeof generation !== 'number' || !Number.isSafeInteger(generation) || generation < 1)
    throw protocolError('record frame whose generation is not a count')
  return {
    pairId,
    peer: checked(() => checkedEnd(fields['peer'])),
    generation,
    finished: checked(() => checkedFinished(fields['finished'])),
    replaces,
  }
}

/** Throws session/protocol. */
export function decodeRecorded(body: Buffer): RecordedMessage {
  const { failure } = parseObject(body, 'recorded')
  if (failure !== null && typeof failure !== 'string')
    throw protocolError('recorded frame whose failure is not a text')
  return { failure: failure === null ? null : printable(failure).slice(0, MAX_FAILURE_UNITS) }
}

function signature(value: unknown): Signature {
  if (typeof value !== 'object' || value === null)
    throw protocolError('opened frame whose content is no list of findings')
  const { kind, id, label, partitions, inPartition, offsetBytes } = value as Fields
  if (typeof kind !== 'string' || !/^[a-z0-9-]{1,32}$/.test(kind))
    throw protocolError('opened frame whose content has no kind')
  return {
    kind,
    id: shortText(id),
    label: shortText(label),
    partitions: numberOrNull(partitions),
    inPartition: numberOrNull(inPartition),
    offsetBytes: numberOrNull(offsetBytes) ?? 0,
  }
}

function shortText(value: unknown): string | null {
  if (value === null) return null
  if (typeof value !== 'string' || value.length > MAX_LABEL_UNITS)
    throw protocolError('opened frame whose content has no short label')
  return printable(value)
}

function numberOrNull(value: unknown): number | null {
  if (value === null) return null
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw protocolError('opened frame whose content has no count')
  return value
}

function list(value: unknown, name: string, most: number): unknown[] {
  if (!Array.isArray(value) || value.length > most)
    throw protocolError(`control frame whose ${name} is not a list of at most ${most}`)
  return value
}

function checked<T>(check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (error instanceof RecordError) throw protocolError(`control frame: ${error.message}`)
    throw error
  }
}

/** Of an opened disk: who it is on its machine. */
export function decodeIdentity(value: unknown): DiskIdentity {
  if (typeof value !== 'object' || value === null) throw protocolError('opened frame without identity')
  const fields = value as Fields
  const aliases = fields['aliases']
  if (!Array.isArray(aliases) || !aliases.every((alias) => typeof alias === 'string')) {
    throw protocolError('opened frame without aliases')
  }
  const within = fields['within'] ?? []
  if (!Array.isArray(within) || !within.every((alias) => typeof alias === 'string')) {
    throw protocolError('opened frame whose within is not a list')
  }
  return { machine: text(fields, 'machine'), aliases, ...(within.length === 0 ? {} : { within }) }
}
