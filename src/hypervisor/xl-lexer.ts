// The text of an xl configuration goes in, its words, strings and signs come out, with their places. Refuses what xl has no
// word for (an expression, an escape, a string without its end), with the line and the reason.

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'

/** Where a value is in the text, in UTF-16 units: `start` is its first, `end` is behind its last. */
export type Span = Readonly<{ start: number; end: number }>

export type Token = Span &
  Readonly<{ line: number }> &
  (
    | Readonly<{ kind: 'word' | 'number'; text: string }>
    | Readonly<{ kind: 'string'; text: string; quote: "'" | '"' }>
    | Readonly<{ kind: '[' | ']' | ',' | '=' | '+=' | 'end of statement' | 'newline' | 'end' }>
  )

/** As xl unquotes them (libxlu_cfg.c, xlu__cfgl_dequote); numeric ones it gets wrong, so they are refused. */
const ESCAPES: Readonly<Record<string, string>> = {
  '"': '"',
  "'": "'",
  '\\': '\\',
  a: '\u0007',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}

/** A configuration that xl does not read, and why. */
export function refused(name: string, line: number, why: string): SyncError {
  return new SyncError(
    'migrate/hypervisor',
    `line ${line} of ${printable(name)}: ${printable(why)}; xl does not read such a configuration`,
    {
      operand: printable(name),
      hint: 'Write its values out as plain KEY = VALUE lines (strings, numbers, lists); xl create -n FILE tells whether xl reads it.',
    },
  )
}

/** Words in the order of the text, as libxlu_cfg_l.l of Xen has them. */
export class Lexer {
  readonly #text: string
  readonly #name: string
  #at = 0
  #line = 1

  constructor(text: string, name: string) {
    this.#text = text
    this.#name = name
  }

  next(): Token {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#at += 1
    const start = this.#at
    const line = this.#line
    const character = this.#text[start]
    const token = (
      kind: '[' | ']' | ',' | '=' | '+=' | 'end of statement' | 'newline' | 'end',
      length: number,
    ): Token => {
      this.#at = start + length
      return { kind, start, end: this.#at, line }
    }
    switch (character) {
      case undefined:
        return token('end', 0)
      case '#':
        this.#at = this.#text.indexOf('\n', start)
        if (this.#at < 0) this.#at = this.#text.length
        return this.next()
      case '\n':
        this.#line += 1
        return token('newline', 1)
      case '[':
      case ']':
      case ',':
      case '=':
        return token(character, 1)
      case ';':
        return token('end of statement', 1)
      case "'":
      case '"':
        return this.#string(character)
      default:
        if (this.#text.startsWith('+=', start)) return token('+=', 2)
        return this.#word()
    }
  }

  #word(): Token {
    const [start, line] = [this.#at, this.#line]
    const pattern = /([a-z][_0-9a-z.]*)|([0-9][0-9a-fx]*)/y
    pattern.lastIndex = start
    const [text, word] = pattern.exec(this.#text) ?? []
    if (text === undefined) throw refused(this.#name, line, reasonFor(this.#text.slice(start, start + 16)))
    this.#at += text.length
    return { kind: word === undefined ? 'number' : 'word', text, start, end: this.#at, line }
  }

  #string(quote: "'" | '"'): Token {
    const [start, line] = [this.#at, this.#line]
    if (this.#text.startsWith(quote.repeat(3), start))
      throw refused(this.#name, line, 'a Python string with three quotes')
    let text = ''
    let at = start + 1
    for (; this.#text[at] !== quote; at += 1) {
      const character = this.#text[at]
      if (character === undefined || character === '\n')
        throw refused(this.#name, line, 'a string without its closing quote')
      if (character !== '\\') {
        text += character
        continue
      }
      at += 1
      const meant = ESCAPES[this.#text[at] ?? '']
      if (meant === undefined)
        throw refused(this.#name, line, `the escape \\${this.#text[at] ?? ''} in a string`)
      text += meant
    }
    this.#at = at + 1
    return { kind: 'string', text, quote, start, end: this.#at, line }
  }
}

/** Why a character that begins no token is there. */
function reasonFor(text: string): string {
  if (text.startsWith('\r')) return 'lines end with a carriage return'
  if (/^[-+*/%().:<>!&|@{}]/.test(text)) return `'${text[0] ?? ''}' belongs to a Python expression`
  if (/^[A-Z_]/.test(text))
    return `the name ${/^\w+/.exec(text)?.[0] ?? ''} has other characters than lower case`
  return `unexpected '${text[0] ?? ''}'`
}
