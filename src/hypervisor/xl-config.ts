// The text of an xl.cfg (or of an xm one that xl can read) passes through here: what is assigned in it, and edits that leave
// every other byte as it is. Refuses what xl itself does not read, Python programs above all, with the line and the reason.

import { SyncError } from '../errors.js'
import { printable } from '../printable.js'
import { Lexer, refused, type Span, type Token } from './xl-lexer.js'

/** A configuration has a few KiB; more is not one. */
export const MAX_CONFIG_BYTES = 256 << 10
/** Lists in lists: xl's own files have two levels. */
const MAX_LIST_DEPTH = 8

export type XlString = Span & Readonly<{ kind: 'string'; text: string; quote: "'" | '"' | '' }>
export type XlList = Span & Readonly<{ kind: 'list'; items: readonly XlValue[] }>
export type XlValue = XlString | XlList

type Assignment = Readonly<{
  key: string
  adds: 'nothing' | 'to what is there'
  value: XlValue
  line: number
}>

export type XlEdit = Readonly<{ at: XlString; text: string }>

/** What the words of a Python program that is no list of assignments begin with. */
const PYTHON_WORDS = new Set([
  'import',
  'from',
  'def',
  'for',
  'if',
  'elif',
  'else',
  'while',
  'try',
  'with',
  'class',
  'print',
  'exec',
  'assert',
  'del',
])
/** What is assigned in one text. Later assignments of a key win; `+=` goes on with what is there. */
export class XlConfig {
  readonly text: string
  readonly #assignments: readonly Assignment[]

  private constructor(text: string, assignments: readonly Assignment[]) {
    this.text = text
    this.#assignments = assignments
  }

  /**
   * Reads a text in the grammar of xl (libxlu_cfg_l.l and libxlu_cfg_y.y of Xen). `name` is the file, or the guest, that an
   * error is about. Throws migrate/hypervisor with the line and the reason.
   */
  static parse(text: string, name: string): XlConfig {
    if (text.length > MAX_CONFIG_BYTES)
      throw refused(name, 1, `it has more than ${MAX_CONFIG_BYTES} characters`)
    return new XlConfig(text, new Parser(new Lexer(text, name), name).statements())
  }

  has(key: string): boolean {
    return this.#assignments.some((each) => each.key === key)
  }

  /** Its text; several where `+=` joins strings. Null where it is not there or a list. */
  string(key: string): string | null {
    const parts = this.#parts(key)
    if (parts.length === 0 || parts.some((part) => part.kind === 'list')) return null
    return parts.map((part) => (part.kind === 'string' ? part.text : '')).join('')
  }

  /** A number as xl writes it: decimal, 0x hexadecimal; quoted too. Null where there is none. */
  number(key: string): number | null {
    const text = this.string(key)?.trim() ?? ''
    return /^(?:\d{1,15}|0x[0-9a-f]{1,12})$/i.test(text) ? Number(text) : null
  }

  /** What is in a list; a string alone counts as a list of one, which xl takes for most of them. Lists in it are left out. */
  list(key: string): readonly XlString[] {
    const parts = this.#parts(key)
    return parts.flatMap((part) =>
      part.kind === 'list'
        ? part.items.filter((item) => item.kind === 'string')
        : part.text === ''
          ? []
          : [part],
    )
  }

  /** The text with other strings in the places of some; nothing else changes. Quotes stay as they are where they can. */
  edit(edits: readonly XlEdit[]): string {
    const sorted = edits.toSorted((one, other) => one.at.start - other.at.start)
    let text = ''
    let done = 0
    for (const { at, text: replacement } of sorted) {
      if (at.start < done) throw new RangeError('two edits of one value')
      text +=
        this.text.slice(done, at.start) +
        (at.text === replacement ? this.text.slice(at.start, at.end) : quoted(replacement, at.quote))
      done = at.end
    }
    return text + this.text.slice(done)
  }

  #parts(key: string): readonly XlValue[] {
    const all = this.#assignments.filter((each) => each.key === key)
    const last = all.findLastIndex((each) => each.adds === 'nothing')
    return all.slice(Math.max(0, last)).map((each) => each.value)
  }
}

/** `key = "text"` as a line of a configuration. */
export function xlLine(key: string, text: string): string {
  return `${key} = ${quoted(text, '"')}\n`
}

/** Throws migrate/hypervisor for what has no spelling that xl reads. */
export function quoted(text: string, quote: "'" | '"' | ''): string {
  if (quote === '' && /^[0-9][0-9a-fx]*$/.test(text)) return text
  const mark = quote === '' ? '"' : quote
  // control characters would end the line, or the guest's device
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f]/.test(text))
    throw new SyncError(
      'migrate/hypervisor',
      `${printable(text)} cannot be written into an xl configuration: it has control characters`,
      {
        operand: printable(text),
        hint: 'Give it another name, without control characters.',
      },
    )
  return `${mark}${text.replace(/[\\'"]/g, (character) => (character === '\\' || character === mark ? `\\${character}` : character))}${mark}`
}

class Parser {
  readonly #lexer: Lexer
  readonly #name: string
  #token: Token

  constructor(lexer: Lexer, name: string) {
    this.#lexer = lexer
    this.#name = name
    this.#token = lexer.next()
  }

  statements(): readonly Assignment[] {
    const assignments: Assignment[] = []
    while (this.#token.kind !== 'end') {
      if (this.#token.kind === 'newline' || this.#token.kind === 'end of statement') this.#advance()
      else assignments.push(this.#assignment())
    }
    return assignments
  }

  #assignment(): Assignment {
    const key = this.#token
    if (key.kind !== 'word') throw this.#unexpected('a name')
    if (PYTHON_WORDS.has(key.text))
      throw refused(this.#name, key.line, `'${key.text}' makes it a Python program`)
    this.#advance()
    const operator = this.#token
    if (operator.kind !== '=' && operator.kind !== '+=') throw this.#unexpected(`= behind ${key.text}`)
    this.#advance()
    const value = this.#value(0)
    const { kind } = this.#token
    if (kind !== 'newline' && kind !== 'end of statement' && kind !== 'end')
      throw this.#unexpected('the end of the line; a value that is put together is Python')
    return {
      key: key.text,
      adds: operator.kind === '=' ? 'nothing' : 'to what is there',
      value,
      line: key.line,
    }
  }

  #value(depth: number): XlValue {
    const token = this.#token
    if (token.kind === 'string' || token.kind === 'number') {
      this.#advance()
      const { text, start, end } = token
      return { kind: 'string', text, quote: token.kind === 'string' ? token.quote : '', start, end }
    }
    if (token.kind === 'word')
      throw refused(this.#name, token.line, `${token.text} is not a string, a number or a list`)
    if (token.kind !== '[') throw this.#unexpected('a string, a number or a list')
    if (depth === MAX_LIST_DEPTH)
      throw refused(this.#name, token.line, `lists more than ${MAX_LIST_DEPTH} deep`)
    this.#advancePastLines()
    const items: XlValue[] = []
    while (this.#kind() !== ']') {
      items.push(this.#value(depth + 1))
      this.#skipLines()
      if (this.#kind() === ',') this.#advancePastLines()
      else if (this.#kind() !== ']') throw this.#unexpected(', or ]')
    }
    const { end } = this.#token
    this.#advance()
    return { kind: 'list', items, start: token.start, end }
  }

  #unexpected(wanted: string): SyncError {
    const { kind } = this.#token
    const found = this.#token.kind === 'word' || this.#token.kind === 'number' ? this.#token.text : kind
    return refused(this.#name, this.#token.line, `${found} where there should be ${wanted}`)
  }

  /** What comes next; a call, since it changes between two looks at it. */
  #kind(): Token['kind'] {
    return this.#token.kind
  }

  #advance(): void {
    this.#token = this.#lexer.next()
  }

  #skipLines(): void {
    while (this.#token.kind === 'newline') this.#advance()
  }

  #advancePastLines(): void {
    this.#advance()
    this.#skipLines()
  }
}
