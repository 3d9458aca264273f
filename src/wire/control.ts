// Bodies of the control frames: UTF-8 JSON objects, every field checked here before anyone uses it. Unknown fields are
// ignored (that is how later versions add to them); missing or wrong ones are a protocol error.

import { CODEC_NAMES, type Compression } from '../codec/codec.js'
import type { AlgorithmName } from '../digest/digester.js'
import { SEED_BYTES } from '../digest/digester.js'
import type { DiskIdentity, EndpointInfo, Role } from '../endpoint/endpoint.js'
import { isErrorCode, SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { protocolError } from './frame.js'

/** Client to server: open a disk. For a destination that may be made, `createSizeBytes` is how large. */
export type OpenMessage = {
  role: Role
  path: string
  access: 'read' | 'write'
  create: 'never' | 'if-missing'
  createSizeBytes: number
  /** What an `invited` frame of the first lane gave: this session is a further lane of that run; null (absent) is none. */
  lane: string | null
}

/** Server to client: what admits further lanes to the disks that this session has claimed. */
export type InvitedMessage = { lane: string }

/** Server to client: what was opened. */
export type OpenedMessage = EndpointInfo

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
}

/** Destination to source: written and flushed (in a compare pass: read). */
export type FinishedMessage = { root: string; readBytes: number }

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
    createSizeBytes: count(fields, 'createSizeBytes'),
    lane: fields['lane'] === undefined ? null : text(fields, 'lane'),
  }
}

export function encodeOpen({ lane, ...rest }: OpenMessage): Buffer {
  return encodeControl(lane === null ? rest : { ...rest, lane })
}

export function decodeInvited(body: Buffer): InvitedMessage {
  return { lane: text(parseObject(body, 'invited'), 'lane') }
}

export function decodeOpened(body: Buffer): OpenedMessage {
  const fields = parseObject(body, 'opened')
  return {
    path: text(fields, 'path'),
    kind: oneOf(fields, 'kind', ['file', 'block-device']),
    sizeBytes: count(fields, 'sizeBytes'),
    logicalSectorBytes: count(fields, 'logicalSectorBytes'),
    created: flag(fields, 'created'),
    direct: flag(fields, 'direct'),
    identity: identity(fields['identity']),
  }
}

export function encodeStart(message: StartMessage): Buffer {
  const { bytesPerSecond, compression, ...rest } = message
  const seed = Buffer.from(message.seed).toString('hex')
  return encodeControl({
    ...rest,
    seed,
    ...(bytesPerSecond === null ? {} : { bytesPerSecond }),
    ...(compression === null ? {} : { codec: compression.codec, compress: compression.mode }),
  })
}

export function decodeStart(body: Buffer): StartMessage {
  const fields = parseObject(body, 'start')
  const seed = Buffer.from(hex(fields, 'seed', SEED_BYTES), 'hex')
  return {
    mode: oneOf(fields, 'mode', ['write', 'compare']),
    offsetBytes: count(fields, 'offsetBytes'),
    lengthBytes: count(fields, 'lengthBytes'),
    destinationBytes: count(fields, 'destinationBytes'),
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
  }
}

export function decodeFinished(body: Buffer): FinishedMessage {
  const fields = parseObject(body, 'finished')
  return { root: hex(fields, 'root', ROOT_BYTES), readBytes: count(fields, 'readBytes') }
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

/** A root is a SHA-256. */
const ROOT_BYTES = 32

type Fields = Readonly<Record<string, unknown>>

function parseObject(body: Buffer, name: string): Fields {
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString('utf8'))
  } catch (cause) {
    throw new SyncError('session/protocol', `the far end sent a ${name} frame that is not JSON`, { cause })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw protocolError(`${name} frame is not an object`)
  return parsed as Fields
}

function text(fields: Fields, name: string): string {
  const value = fields[name]
  if (typeof value !== 'string') throw protocolError(`control frame without text ${name}`)
  return value
}

/** `bytes` bytes in lower-case hex: these end up in messages, so nothing else may stand in them. */
function hex(fields: Fields, name: string, bytes: number): string {
  const value = text(fields, name)
  if (value.length !== bytes * 2 || !/^[0-9a-f]*$/.test(value))
    throw protocolError(`control frame whose ${name} is not ${bytes} bytes in hex`)
  return value
}

function count(fields: Fields, name: string): number {
  const value = fields[name]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw protocolError(`control frame whose ${name} is not a count`)
  }
  return value
}

function flag(fields: Fields, name: string): boolean {
  const value = fields[name]
  if (typeof value !== 'boolean') throw protocolError(`control frame whose ${name} is not true or false`)
  return value
}

function oneOf<const T extends string>(fields: Fields, name: string, values: readonly T[]): T {
  const found = values.find((value) => value === fields[name])
  if (found === undefined) throw protocolError(`control frame whose ${name} is none of ${values.join(', ')}`)
  return found
}

function identity(value: unknown): DiskIdentity {
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
