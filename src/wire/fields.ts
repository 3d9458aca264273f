// Fields of the JSON bodies of control frames, read one by one: each is of its type and in its range, or the frame is
// refused (session/protocol).

import { SyncError } from '../errors.js'
import { isObject } from '../json.js'
import { protocolError } from './frame.js'

/** A root is a SHA-256. */
export const ROOT_BYTES = 32

export type Fields = Readonly<Record<string, unknown>>

/** The object in a body; `name` is that of the frame. */
export function parseObject(body: Buffer, name: string): Fields {
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString('utf8'))
  } catch (cause) {
    throw new SyncError('session/protocol', `the far end sent a ${name} frame that is not JSON`, { cause })
  }
  if (!isObject(parsed)) throw protocolError(`${name} frame is not an object`)
  return parsed
}

export function text(fields: Fields, name: string): string {
  const value = fields[name]
  if (typeof value !== 'string') throw protocolError(`control frame without text ${name}`)
  return value
}

/** `bytes` bytes in lower-case hex: these end up in messages, so nothing else may stand in them. */
export function hex(fields: Fields, name: string, bytes: number): string {
  const value = text(fields, name)
  if (value.length !== bytes * 2 || !/^[0-9a-f]*$/.test(value))
    throw protocolError(`control frame whose ${name} is not ${bytes} bytes in hex`)
  return value
}

export function count(fields: Fields, name: string): number {
  const value = fields[name]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw protocolError(`control frame whose ${name} is not a count`)
  }
  return value
}

export function flag(fields: Fields, name: string): boolean {
  const value = fields[name]
  if (typeof value !== 'boolean') throw protocolError(`control frame whose ${name} is not true or false`)
  return value
}

export function oneOf<const T extends string>(fields: Fields, name: string, values: readonly T[]): T {
  const found = values.find((value) => value === fields[name])
  if (found === undefined) throw protocolError(`control frame whose ${name} is none of ${values.join(', ')}`)
  return found
}
