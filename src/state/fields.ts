// Fields of JSON files, and of records that came over the wire, each checked before it is believed: what is not of its form is
// a RecordError that names it.

import { isObject } from '../json.js'
import { printable } from '../printable.js'

/** What is wrong with a value is the message; who reads a file explains it, who reads a frame refuses the frame. */
export class RecordError extends Error {}

export type Fields = Readonly<Record<string, unknown>>

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
/** Sentences are a few hundred units; paths 4096 at most. */
export const MAX_TEXT_UNITS = 8192

/** Throws RecordError, as all here. */
export function objectOf(value: unknown, name: string): Fields {
  if (!isObject(value)) throw new RecordError(`${name} is not an object`)
  return value
}

export function textOf(fields: Fields, name: string, form: RegExp = /^[^\0]*$/s): string {
  const value = fields[name]
  if (typeof value !== 'string' || value.length > MAX_TEXT_UNITS || !form.test(value))
    throw new RecordError(`${name} is not of its form`)
  return value
}

/** Text for people: bounded, and harmless on a terminal as it stands. */
export function plainOf(fields: Fields, name: string, mostUnits: number): string {
  const value = fields[name]
  if (typeof value !== 'string' || value.length > mostUnits)
    throw new RecordError(`${name} is not a text of at most ${mostUnits} characters`)
  return printable(value)
}

/** ISO 8601, UTC, with milliseconds: as Date.toISOString has it. */
export function timeOf(fields: Fields, name: string): string {
  const text = textOf(fields, name, TIME)
  if (Number.isNaN(Date.parse(text))) throw new RecordError(`${name} is no time`)
  return text
}

export function countOf(fields: Fields, name: string, most: number = Number.MAX_SAFE_INTEGER): number {
  const value = fields[name]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0 || value > most)
    throw new RecordError(`${name} is not a count`)
  return value
}

export function boolOf(fields: Fields, name: string): boolean {
  const value = fields[name]
  if (typeof value !== 'boolean') throw new RecordError(`${name} is neither true nor false`)
  return value
}

export function oneOf<const T extends string>(fields: Fields, name: string, values: readonly T[]): T {
  const found = values.find((value) => value === fields[name])
  if (found === undefined) throw new RecordError(`${name} is none of ${values.join(', ')}`)
  return found
}

export function nullOr<T>(fields: Fields, name: string, read: (value: unknown) => T): T | null {
  return fields[name] === null ? null : read(fields[name])
}

/** As `textOf` and the like, of a field that may be null. */
export function orNull<T>(fields: Fields, name: string, read: (fields: Fields, name: string) => T): T | null {
  return fields[name] === null ? null : read(fields, name)
}

export function listOf<T>(fields: Fields, name: string, most: number, read: (value: unknown) => T): T[] {
  const value = fields[name]
  if (!Array.isArray(value) || value.length > most)
    throw new RecordError(`${name} is not a list of at most ${most}`)
  return value.map((each) => read(each))
}
