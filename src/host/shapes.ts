// What came over a connection as JSON, checked field by field: unknown values in, values of the type that is asked for out.
// Refuses (ShapeError) wrong types, missing fields, numbers that are no counts; fields that nobody asked for are left out.

import { printable } from '../printable.js'
import { isObject } from '../json.js'

/** Gives the value back as its type, or throws a ShapeError. */
export type Shape<T> = (value: unknown) => T

type Values<S> = { readonly [K in keyof S]: S[K] extends Shape<infer T> ? T : never }
/** The same for arguments of a function. */
type Items<S> = { -readonly [K in keyof S]: S[K] extends Shape<infer T> ? T : never }

/** Names, versions and the like, for people: no host has a longer one. */
const MAX_SHOWN_UNITS = 256

export class ShapeError extends Error {
  override readonly name = 'ShapeError'
}

export const text: Shape<string> = (value) => {
  if (typeof value === 'string') return value
  throw new ShapeError(`${nameOf(value)} is no text`)
}

/** A short text that is safe to print. */
export const shown: Shape<string> = (value) => printable(text(value).slice(0, MAX_SHOWN_UNITS))

/** Lines that are safe to print. */
export const shownLines: Shape<string> = (value) =>
  text(value)
    .split('\n')
    .map((line) => printable(line))
    .join('\n')

/** A whole number from 0 on that is exact. */
export const count: Shape<number> = (value) => {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value
  throw new ShapeError(`${nameOf(value)} is no count`)
}

/** A number of digits alone, of any size. */
export const digits: Shape<string> = (value) => {
  if (typeof value === 'string' && /^-?\d{1,40}$/.test(value)) return value
  throw new ShapeError(`${nameOf(value)} is no number in digits`)
}

export const flag: Shape<boolean> = (value) => {
  if (typeof value === 'boolean') return value
  throw new ShapeError(`${nameOf(value)} is neither true nor false`)
}

export const nothing: Shape<void> = (value) => {
  if (value !== null && value !== undefined) throw new ShapeError(`${nameOf(value)} is not nothing`)
}

/** Any JSON object, as it is. */
export const jsonObject: Shape<Readonly<Record<string, unknown>>> = (value) => {
  if (isObject(value)) return value
  throw new ShapeError(`${nameOf(value)} is no object`)
}

export function oneOf<const T extends string | boolean>(...values: readonly T[]): Shape<T> {
  return (value) => {
    const found = values.find((one) => one === value)
    if (found !== undefined) return found
    throw new ShapeError(`${nameOf(value)} is none of ${values.join(', ')}`)
  }
}

export function nullable<T>(shape: Shape<T>): Shape<T | null> {
  return (value) => (value === null ? null : shape(value))
}

export function list<T>(shape: Shape<T>): Shape<readonly T[]> {
  return (value) => {
    if (Array.isArray(value)) return value.map((item) => shape(item))
    throw new ShapeError(`${nameOf(value)} is no list`)
  }
}

/** The words of a program: at least one. */
export const argv: Shape<readonly [string, ...string[]]> = (value) => {
  const [program, ...words] = list(text)(value)
  if (program === undefined || program === '') throw new ShapeError('a program has a name')
  return [program, ...words]
}

/** A list of exactly these. */
export function tuple<S extends readonly Shape<unknown>[]>(...shapes: S): Shape<Items<S>> {
  return (value) => {
    if (!Array.isArray(value) || value.length !== shapes.length)
      throw new ShapeError(`${nameOf(value)} is no list of ${shapes.length}`)
    return shapes.map((shape, index) => within(String(index), () => shape(value[index]))) as Items<S>
  }
}

/** An object with these fields, and those of `optional` where they are there. */
export function object<S extends Record<string, Shape<unknown>>>(required: S): Shape<Values<S>>
export function object<S extends Record<string, Shape<unknown>>, O extends Record<string, Shape<unknown>>>(
  required: S,
  optional: O,
): Shape<Values<S> & Partial<Values<O>>>
export function object(
  required: Record<string, Shape<unknown>>,
  optional: Record<string, Shape<unknown>> = {},
): Shape<Record<string, unknown>> {
  return (value) => {
    const given = jsonObject(value)
    const checked: Record<string, unknown> = {}
    for (const [name, shape] of Object.entries(required)) {
      checked[name] = within(name, () => shape(Object.hasOwn(given, name) ? given[name] : undefined))
    }
    for (const [name, shape] of Object.entries(optional)) {
      if (Object.hasOwn(given, name)) checked[name] = within(name, () => shape(given[name]))
    }
    return checked
  }
}

/** Texts by name. */
export const texts: Shape<Readonly<Record<string, string>>> = (value) =>
  Object.fromEntries(
    Object.entries(jsonObject(value)).map(([name, one]) => [name, within(name, () => text(one))]),
  )

function within<T>(name: string, check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (error instanceof ShapeError) throw new ShapeError(`${printable(name)}: ${error.message}`)
    throw error
  }
}

function nameOf(value: unknown): string {
  const json = JSON.stringify(value) ?? 'nothing'
  return printable(json.slice(0, 40))
}
