// Bodies of the control frames: UTF-8 JSON objects, every field checked here before anyone uses it. Unknown fields are
// ignored (that is how later versions add to them); missing or wrong ones are a protocol error.

import { CODEC_NAMES, type Compression } from '../codec/codec.js'
import type { AlgorithmName, Range } from '../digest/digester.js'
import { SEED_BYTES } from '../digest/digester.js'
import { MAX_DISK_BYTES } from '../endpoint/endpoint.js'
import type { EndpointInfo, Role, StableIdentity } from '../endpoint/endpoint.js'
import { isErrorCode, SyncError } from '../errors.js'
import { isGuardName, type GuardName } from '../guard/guard-name.js'
import type { VerifyChoice } from '../options.js'
import { printable } from '../printable.js'
import type { KnownDisk, PairStart } from '../state/record.js'
import { decodeRanges, encodeRanges, MAX_DIFFERING_RANGES, MAX_UNREADABLE_RANGES } from './differing.js'
import { count, type Fields, flag, hex, oneOf, parseObject, ROOT_BYTES, text } from './fields.js'
import { protocolError } from './frame.js'
import { decodeIdentity, decodeKnown, decodePair, decodePeer, knownFields } from './known.js'
import { decodeJournal, journalFields, type KeptJournal } from './kept-journal.js'
import { decodeLeaves, leavesField, type LeavesWish } from './leaves.js'

/** Client to server: open a disk. For a destination that may be made, `createSizeBytes` is how large. */
export type OpenMessage = {
  role: Role
  path: string
  access: 'read' | 'write'
  create: 'never' | 'if-missing'
  createSizeBytes: number
  /** `on` (absent): others' use of the disk is looked for, and refused or told; `off` (verify, further lanes): it is not. */
  guards: 'on' | 'off'
  /** Guards that the user overrides; absent is none. */
  force: readonly GuardName[]
  /** The client's disk of the pair: the answer then says who the server's is, and what is known of the two. Absent is null. */
  peer: StableIdentity | null
  /** What an `invited` frame of the first lane gave: this session is a further lane of that run; null (absent) is none. */
  lane: string | null
  /**
   * `keep`: the server keeps the old content of this destination before it is overwritten, and gives the way back of the run
   * before up; `chain`: it does not give that up. Absent is `none`.
   */
  undo: 'keep' | 'chain' | 'none'
  /** For how long the server waits for another run that has the disk locked; absent is 0, not at all. */
  lockWaitMs: number
  /** Of a source that is a copy of another disk: whose identity `known` and the records take; null (absent) is its own. */
  standsFor: string | null
}

/** Server to client: what admits further lanes to the disks that this session has claimed. */
export type InvitedMessage = { lane: string }

/** Server to client: what was opened, and what the user should know about it; absent `warnings` are none. */
export type OpenedMessage = EndpointInfo &
  Readonly<{
    warnings: readonly string[]
    /** On the wire `stable`, `content` and `pairs`; null where `open` had no peer. */
    known: KnownDisk | null
    /** The undo journal that is kept; null (absent) where none is. */
    undo: KeptJournal | null
  }>

/** A disk has a warning for what uses it and one for what was overridden; they have to fit into a frame with all else. */
const MAX_WARNINGS = 4
const MAX_WARNING_UNITS = 1000

/** Client to server: begin the pass over a range of an opened disk. */
export type StartMessage = {
  mode: 'write' | 'compare'
  /** Where the range begins: a section boundary. */
  offsetBytes: number
  lengthBytes: number
  /** Make the destination file this long first; equal to its size where nothing is to grow. */
  destinationBytes: number
  blockBytes: number
  leafBytes: number
  algorithm: AlgorithmName
  seed: Uint8Array
  /** Bound of the payload the source sends, over all passes of the session; null (on the wire: absent) is unlimited. */
  bytesPerSecond: number | null
  /** What a far source does with its payload; null (absent) is nothing. */
  compression: Compression | null
  /**
   * What the destination reads back from its device: nothing (on the wire: absent); after a pass that writes, what that
   * wrote; in a pass that only compares, everything.
   */
  verify: VerifyChoice
  /** What a far source does where its disk cannot be read: ends the pass (absent), or goes on and lists it in `finish`. */
  badSectors: 'stop' | 'skip'
  /** For a server whose disk is the destination, in a pass that writes: what it keeps, and need not read. Null (absent): nothing. */
  leaves: LeavesWish | null
  /** For a server whose disk is the destination and is to be recorded as being written; null (absent) is nothing. */
  pair: PairStart | null
}

/** Source to destination: everything is decided and sent; this is what it was. */
export type FinishMessage = {
  /** Over the range, as far as it was gone over. */
  root: string
  /** Where it ended: the end of the range, or (asked to by `limit`) a section boundary before it. */
  endBlock: number
  sameBlocks: number
  differentBlocks: number
  zeroBlocks: number
  skippedBlocks: number
  sentBytes: number
  zeroedBytes: number
  readBytes: number
  /** By how much the source is longer now than when it was opened; 0 (absent) is not at all. */
  grownBytes: number
  /** In a pass that only compares: the first ranges that differ, at most MAX_DIFFERING_RANGES; else none (absent). */
  differing: readonly Range[]
  /** What of the source could not be read, in ascending order, at most MAX_UNREADABLE_RANGES: left as it was; none is absent. */
  unreadable: readonly Range[]
}

/** Destination to source: written and flushed (in a compare pass: read). */
export type FinishedMessage = {
  root: string
  readBytes: number
  /** Written, read back and found equal; null (absent) where that was not asked for. */
  verifiedBytes: number | null
  /** Undo journal that this pass wrote; 0 (absent) where none was kept. */
  undoBytes: number
}

export function encodeControl(message: object): Buffer {
  return Buffer.from(JSON.stringify(message), 'utf8')
}

export function decodeOpen(body: Buffer): OpenMessage {
  const fields = parseObject(body, 'open')
  return {
    role: oneOf(fields, 'role', ['source', 'destination']),
    path: text(fields, 'path'),
    access: oneOf(fields, 'access', ['read', 'write']),
    create: oneOf(fields, 'create', ['never', 'if-missing']),
    createSizeBytes: diskBytes(fields, 'createSizeBytes'),
    guards: fields['guards'] === undefined ? 'on' : oneOf(fields, 'guards', ['on', 'off']),
    force: fields['force'] === undefined ? [] : forced(fields['force']),
    peer: decodePeer(fields['peer']),
    lane: fields['lane'] === undefined ? null : text(fields, 'lane'),
    undo: fields['undo'] === undefined ? 'none' : oneOf(fields, 'undo', ['keep', 'chain', 'none']),
    lockWaitMs: fields['lockWaitMs'] === undefined ? 0 : count(fields, 'lockWaitMs'),
    standsFor: fields['standsFor'] === undefined ? null : text(fields, 'standsFor'),
  }
}

export function encodeOpen(message: OpenMessage): Buffer {
  const { lane, guards, force, peer, undo, lockWaitMs, standsFor, ...rest } = message
  return encodeControl({
    ...rest,
    ...(guards === 'on' ? {} : { guards }),
    ...(force.length === 0 ? {} : { force }),
    ...(peer === null ? {} : { peer }),
    ...(lane === null ? {} : { lane }),
    ...(undo === 'none' ? {} : { undo }),
    ...(lockWaitMs === 0 ? {} : { lockWaitMs }),
    ...(standsFor === null ? {} : { standsFor }),
  })
}

export function decodeInvited(body: Buffer): InvitedMessage {
  return { lane: text(parseObject(body, 'invited'), 'lane') }
}

export function encodeOpened({ warnings, known, undo, ...info }: OpenedMessage): Buffer {
  const told = warnings.slice(0, MAX_WARNINGS).map((warning) => warning.slice(0, MAX_WARNING_UNITS))
  return encodeControl({
    ...info,
    ...(told.length === 0 ? {} : { warnings: told }),
    ...knownFields(known),
    ...journalFields(undo),
  })
}

export function decodeOpened(body: Buffer): OpenedMessage {
  const fields = parseObject(body, 'opened')
  return {
    path: text(fields, 'path'),
    kind: oneOf(fields, 'kind', ['file', 'block-device']),
    sizeBytes: diskBytes(fields, 'sizeBytes'),
    logicalSectorBytes: count(fields, 'logicalSectorBytes'),
    created: flag(fields, 'created'),
    direct: flag(fields, 'direct'),
    identity: decodeIdentity(fields['identity']),
    warnings: fields['warnings'] === undefined ? [] : warningsOf(fields['warnings']),
    known: decodeKnown(fields),
    undo: decodeJournal(fields['undo']),
  }
}

export function encodeStart(message: StartMessage): Buffer {
  const { bytesPerSecond, compression, verify, badSectors, leaves, pair, ...rest } = message
  const seed = Buffer.from(message.seed).toString('hex')
  return encodeControl({
    ...rest,
    seed,
    ...(bytesPerSecond === null ? {} : { bytesPerSecond }),
    ...(compression === null ? {} : { codec: compression.codec, compress: compression.mode }),
    ...(verify === 'none' ? {} : { verify }),
    ...(badSectors === 'stop' ? {} : { badSectors }),
    ...leavesField(leaves),
    ...(pair === null ? {} : { pair }),
  })
}

export function decodeStart(body: Buffer): StartMessage {
  const fields = parseObject(body, 'start')
  const seed = Buffer.from(hex(fields, 'seed', SEED_BYTES), 'hex')
  return {
    mode: oneOf(fields, 'mode', ['write', 'compare']),
    offsetBytes: diskBytes(fields, 'offsetBytes'),
    lengthBytes: diskBytes(fields, 'lengthBytes'),
    destinationBytes: diskBytes(fields, 'destinationBytes'),
    blockBytes: count(fields, 'blockBytes'),
    leafBytes: count(fields, 'leafBytes'),
    algorithm: oneOf(fields, 'algorithm', ['xxh3-128', 'xxh64x2', 'sha256']),
    seed,
    bytesPerSecond:
      fields['bytesPerSecond'] === undefined ? null : Math.max(1, count(fields, 'bytesPerSecond')),
    compression:
      fields['codec'] === undefined
        ? null
        : {
            codec: oneOf(fields, 'codec', CODEC_NAMES),
            mode: oneOf(fields, 'compress', ['always', 'auto']),
          },
    verify: fields['verify'] === undefined ? 'none' : oneOf(fields, 'verify', ['none', 'written', 'all']),
    badSectors: fields['badSectors'] === undefined ? 'stop' : oneOf(fields, 'badSectors', ['stop', 'skip']),
    leaves: decodeLeaves(fields['leaves']),
    pair: decodePair(fields['pair']),
  }
}

export function decodeFinish(body: Buffer): FinishMessage {
  const fields = parseObject(body, 'finish')
  return {
    root: hex(fields, 'root', ROOT_BYTES),
    endBlock: count(fields, 'endBlock'),
    sameBlocks: count(fields, 'sameBlocks'),
    differentBlocks: count(fields, 'differentBlocks'),
    zeroBlocks: count(fields, 'zeroBlocks'),
    skippedBlocks: count(fields, 'skippedBlocks'),
    sentBytes: count(fields, 'sentBytes'),
    zeroedBytes: count(fields, 'zeroedBytes'),
    readBytes: count(fields, 'readBytes'),
    grownBytes: fields['grownBytes'] === undefined ? 0 : count(fields, 'grownBytes'),
    differing: decodeRanges(fields['differing'], 'differing', MAX_DIFFERING_RANGES),
    unreadable: decodeRanges(fields['unreadable'], 'unreadable', MAX_UNREADABLE_RANGES),
  }
}

/** Nothing differing or unreadable is not said, nor that nothing has grown. */
export function encodeFinish({ differing, unreadable, grownBytes, ...rest }: FinishMessage): Buffer {
  return encodeControl({
    ...rest,
    ...(grownBytes === 0 ? {} : { grownBytes }),
    ...(differing.length === 0 ? {} : { differing: encodeRanges(differing) }),
    ...(unreadable.length === 0 ? {} : { unreadable: encodeRanges(unreadable) }),
  })
}

export function encodeFinished({ verifiedBytes, undoBytes, ...rest }: FinishedMessage): Buffer {
  return encodeControl({
    ...rest,
    ...(verifiedBytes === null ? {} : { verifiedBytes }),
    ...(undoBytes === 0 ? {} : { undoBytes }),
  })
}

export function decodeFinished(body: Buffer): FinishedMessage {
  const fields = parseObject(body, 'finished')
  return {
    root: hex(fields, 'root', ROOT_BYTES),
    readBytes: count(fields, 'readBytes'),
    verifiedBytes: fields['verifiedBytes'] === undefined ? null : count(fields, 'verifiedBytes'),
    undoBytes: fields['undoBytes'] === undefined ? 0 : count(fields, 'undoBytes'),
  }
}

/** Three such texts fit into one control frame though JSON may write each unit of them in six bytes. */
const MAX_ERROR_TEXT_UNITS = 3000

/** An error as it crosses the wire: code, message, operand, hint; causes stay where they arose. */
export function encodeError(error: SyncError): Buffer {
  const short = (text: string | null): string | null => text?.slice(0, MAX_ERROR_TEXT_UNITS) ?? null
  return encodeControl({
    code: error.code,
    message: short(error.message),
    operand: short(error.operand),
    hint: short(error.hint),
  })
}

/** The far end's error as an error here. A code this side does not know becomes session/lost with its text kept. */
export function decodeError(body: Buffer): SyncError {
  const fields = parseObject(body, 'error')
  const code = fields['code']
  const message = printable(text(fields, 'message'))
  return new SyncError(isErrorCode(code) ? code : 'session/lost', message, {
    ...(typeof fields['operand'] === 'string' ? { operand: printable(fields['operand']) } : {}),
    ...(typeof fields['hint'] === 'string' ? { hint: printable(fields['hint']) } : {}),
  })
}

/** A place on a disk, or its length. */
function diskBytes(fields: Fields, name: string): number {
  const bytes = count(fields, name)
  if (bytes > MAX_DISK_BYTES)
    throw protocolError(`control frame whose ${name} is ${bytes}, above ${MAX_DISK_BYTES}`)
  return bytes
}

function forced(value: unknown): GuardName[] {
  if (!Array.isArray(value) || new Set(value).size !== value.length || !value.every(isGuardName))
    throw protocolError('open frame whose force is not a list of guards')
  return value
}

/** They are printed as they are, so nothing else than one line of text may be in each. */
function warningsOf(value: unknown): string[] {
  const isList = Array.isArray(value) && value.length <= MAX_WARNINGS
  if (!isList || !value.every((each) => typeof each === 'string' && each.length <= MAX_WARNING_UNITS))
    throw protocolError('opened frame whose warnings are not a short list of texts')
  return value.map(printable)
}
