// What zod finds wrong, in words for people: where it is (a path) and what to write instead. Of several forms that a value may
// have, the one that it comes nearest to is talked about.

import type * as z from 'zod'

import { isObject } from '../json.js'
import { nearest } from './suggest.js'
import type { At, Path } from './yaml-file.js'

export type Finding = Readonly<{ path: Path; at: At; text: string }>

type Issue = z.core.$ZodIssue

/** Keys that a message has room for. */
const MAX_NAMED = 5

/** `value` is what was checked, and stands at `base`; `unknownKey` may know more about a key than that it is not known. */
export function findingsOf(
  issues: readonly Issue[],
  value: unknown,
  base: Path,
  unknownKey: (path: Path, key: string) => string | null,
): Finding[] {
  return issues.flatMap((issue) => {
    const within = issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part))
    const path = [...base, ...within]
    const found = valueAt(value, within)
    if (issue.code === 'unrecognized_keys')
      return issue.keys.map((key): Finding => {
        const text = unknownKey(path, key) ?? didYouMean('unknown key', key, issue.message.split(' '))
        return { path: [...path, key], at: 'key', text }
      })
    if (found === undefined) return [{ path, at: 'key', text: 'is missing' }]
    if (found === null) return [{ path, at: 'key', text: 'has no value' }]
    if (issue.code === 'invalid_union') {
      const near = issue.errors.filter((issues) => !issues.some(isOtherForm))
      const branch = nearestForm(near)
      if (branch !== null) return findingsOf(branch, found, path, unknownKey)
      const unknown = unknownInAll(near, path)
      if (unknown.length > 0) return unknown
    }
    return [{ path, at: 'value', text: textOf(issue, found) }]
  })
}

/** The form that is meant: the only one that the value has at all, or else the one whose keys it has. */
function nearestForm(near: readonly (readonly Issue[])[]): readonly Issue[] | null {
  const [first, second] = near.toSorted((a, b) => strangeness(a) - strangeness(b))
  if (first === undefined) return null
  return second === undefined || strangeness(second) > strangeness(first) ? first : null
}

/** A key that a form has not says more than any value: forms have five keys at most. */
function strangeness(issues: readonly Issue[]): number {
  return issues.reduce(
    (sum, issue) => sum + (issue.code === 'unrecognized_keys' ? 10 * issue.keys.length : 1),
    0,
  )
}

/** Keys that none of the forms has, where nobody can tell which one was meant. */
function unknownInAll(near: readonly (readonly Issue[])[], path: Path): Finding[] {
  const forms = near.map((issues) => issues.find((issue) => issue.code === 'unrecognized_keys'))
  const known = forms.flatMap((form) => form?.message.split(' ') ?? [])
  const keys = forms[0]?.keys.filter((key) => forms.every((form) => form?.keys.includes(key))) ?? []
  return keys.map((key) => ({ path: [...path, key], at: 'key', text: didYouMean('unknown key', key, known) }))
}

/** The value as a whole is of another form, whatever is in it. */
function isOtherForm(issue: Issue): boolean {
  if (issue.path.length > 0) return false
  if (issue.code === 'invalid_union') return issue.errors.every((issues) => issues.some(isOtherForm))
  return issue.code === 'invalid_type' || issue.code === 'invalid_value'
}

function textOf(issue: Issue, found: unknown): string {
  switch (issue.code) {
    case 'invalid_type':
      return `has to be ${FORM_NAMES[issue.expected] ?? issue.expected}, not ${formOf(found)}`
    case 'invalid_value':
      return choiceText(issue.values.map(String), found)
    case 'invalid_union':
      return unionText(issue, found)
    case 'too_small':
      return issue.minimum === 1 && issue.origin in MEASURE
        ? 'is empty'
        : `has to be at least ${Number(issue.minimum)}${MEASURE[issue.origin] ?? ''}`
    case 'too_big':
      return `may be at most ${Number(issue.maximum)}${MEASURE[issue.origin] ?? ''}`
    case 'custom':
    case 'invalid_format':
    case 'not_multiple_of':
    case 'unrecognized_keys':
    case 'invalid_key':
    case 'invalid_element':
      return issue.message
    default:
      return issue satisfies never
  }
}

function unionText(issue: Extract<Issue, { code: 'invalid_union' }>, found: unknown): string {
  const text = `has to be ${issue.message}, not ${formOf(found)}`
  if (typeof found !== 'string') return text
  const words = issue.errors
    .flat()
    .flatMap((inner) => (inner.code === 'invalid_value' ? inner.values.map(String) : []))
  return didYouMean(text, found, words)
}

function choiceText(choices: readonly string[], found: unknown): string {
  const text = `has to be ${choices.length > 1 ? 'one of ' : ''}${choices.join(', ')}, not ${formOf(found)}`
  return typeof found === 'string' ? didYouMean(text, found, choices) : text
}

function didYouMean(text: string, word: string, known: readonly string[]): string {
  const meant = nearest(word, known)
  return meant === null ? text : `${text}; did you mean ${meant}?`
}

const FORM_NAMES: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a whole number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a mapping of keys',
  record: 'a mapping of keys',
}

const MEASURE: Readonly<Record<string, string>> = { string: ' characters long', array: ' entries long' }

function formOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  if (isObject(value))
    return `a mapping with ${Object.keys(value).slice(0, MAX_NAMED).join(', ') || 'no keys'}`
  if (typeof value === 'string') return value === '' ? 'empty' : `'${value.slice(0, 40)}'`
  return String(value)
}

function valueAt(value: unknown, path: Path): unknown {
  let at = value
  for (const part of path) {
    if (Array.isArray(at)) at = (at as unknown[])[Number(part)]
    else if (isObject(at) && Object.hasOwn(at, part)) at = at[part]
    else return undefined
  }
  return at
}
