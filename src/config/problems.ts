// What is wrong in a configuration: collected, sorted by place, and made into the one error that a user sees. Nothing that
// was found is left out but what is beyond a bound, and then its number is said.

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import type { Place } from './config.js'

/** More than a person corrects in one go; the rest is counted. */
const MAX_LINES = 200

export type Problem = Readonly<{ place: Place; text: string }>

/** `FILE:LINE:COLUMN: text`, as compilers and editors have it. */
export function problemLine({ place, text }: Problem): string {
  return printable(`${place.file}:${place.line}:${place.column}: ${text}`)
}

/**
 * One error of all: its message is the first problem, with how many there are; each further one has a line of its own behind
 * that. configLines gives the lines alone. `problems` is not empty.
 */
export function invalid(problems: readonly Problem[]): SyncError {
  const files = [...new Set(problems.map(({ place }) => place.file))]
  const sorted = problems.toSorted(
    (a, b) =>
      files.indexOf(a.place.file) - files.indexOf(b.place.file) ||
      a.place.line - b.place.line ||
      a.place.column - b.place.column,
  )
  const [first = '', ...others] = new Set(sorted.map(problemLine))
  const more = others.length - (MAX_LINES - 1)
  const count = others.length === 0 ? '' : ` (the first of ${others.length + 1} problems)`
  const lines = [`${first}${NOT_DONE}${count}`, ...others.slice(0, MAX_LINES - 1)]
  return new SyncError('config/invalid', [...lines, ...(more > 0 ? [`and ${more} more`] : [])].join('\n'), {
    operand: files[0] ?? '',
    hint: 'Correct the configuration; blocksync replicate check-config shows everything that is wrong with it.',
  })
}

const NOT_DONE = '; nothing was started'

/** The lines of an error that `invalid` made, one a problem; of any other error its message. */
export function configLines({ message }: SyncError): string[] {
  const [first = '', ...others] = message.split('\n')
  return [first.replace(/; nothing was started(?: \(the first of \d+ problems\))?$/, ''), ...others]
}

/** An error of one value, before its place is known. */
export function wrong(text: string): SyncError {
  return new SyncError('config/invalid', text)
}

/** What an error of a parser says of a key: options of the command line are called by their keys. */
export function keyText(error: SyncError, key: string): string {
  const message = asKeys(error.message.replace(/; nothing was opened$/, ''))
  const hint = error.hint === null || /shell variable/.test(error.hint) ? '' : asKeys(error.hint)
  const problem = message.startsWith(`${key} `) ? message.slice(key.length + 1) : message
  return hint === ''
    ? problem
    : `${problem}; ${hint.charAt(0).toLowerCase()}${hint.slice(1).replace(/\.$/, '')}`
}

/** `--streams 4` is `streams: 4`. */
function asKeys(text: string): string {
  return text.replaceAll(
    /(?<![\w-])--([a-z][a-z-]*)(?:[ =](?=[\d'"]|(?:off|auto|ssh2|openssh)\b))?/g,
    (whole, name: string) => (/[ =]$/.test(whole) ? `${name}: ` : name),
  )
}
