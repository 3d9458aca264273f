// The text of a YAML file in, one document of nodes out. Refuses nesting before the library sees it: that calls itself for each
// level, and Node ends as a whole where it has no stack left in the middle of a regular expression.

import { Composer, Lexer, Parser } from 'yaml'
import type { CST, Document, LineCounter } from 'yaml'

/** Levels of indentation and of brackets that are open at once. A configuration has about six. */
const MAX_NESTING = 64

/** What the lexer of yaml puts before a scalar, whose text is no indicator. */
const SCALAR_FOLLOWS = '\u001f'
/** Byte order mark, begin of a document, end of a flow: marks of the lexer without a place in the text. */
const MARKS: readonly string[] = ['\u0002', '\u0018', SCALAR_FOLLOWS]

/** Thrown where the text is nested deeper than any configuration; `offset` is where. */
export class TooDeep extends Error {
  readonly offset: number

  constructor(offset: number) {
    super(`nested more than ${MAX_NESTING} levels deep`)
    this.offset = offset
  }
}

/** The document, and where a second one begins, or null. Throws TooDeep. */
export function parseYaml(
  text: string,
  lines: LineCounter,
): Readonly<{ document: Document.Parsed | null; secondAt: number | null }> {
  const composer = new Composer({
    version: '1.2',
    // scalars and keys twice are looked at by who knows their places; and that is a part of the time
    schema: 'failsafe',
    uniqueKeys: false,
    prettyErrors: false,
    logLevel: 'error',
    lineCounter: lines,
  })
  let document: Document.Parsed | null = null
  for (const next of composer.compose(tokensOf(text, lines), true, text.length)) {
    if (document !== null) return { document, secondAt: next.range[0] }
    document = next
  }
  return { document, secondAt: null }
}

/** As the parser's own `parse`, with an eye on how deep it becomes. */
function* tokensOf(text: string, lines: LineCounter): Generator<CST.Token, void> {
  const parser = new Parser(lines.addNewLine)
  const nesting = new Nesting()
  lines.addNewLine(0)
  for (const lexeme of new Lexer().lex(text)) {
    nesting.see(lexeme)
    yield* parser.next(lexeme)
  }
  yield* parser.end()
}

/** Columns at which something is open, and brackets inside of the last of them. */
class Nesting {
  readonly #columns: number[] = []
  #brackets = 0
  #offset = 0
  #lineOffset = 0
  #isText = false

  see(lexeme: string): void {
    if (MARKS.includes(lexeme)) {
      this.#isText = lexeme === SCALAR_FOLLOWS
      return
    }
    if (!this.#isText && (lexeme === '[' || lexeme === '{')) this.#brackets += 1
    else if (!this.#isText && (lexeme === ']' || lexeme === '}'))
      this.#brackets = Math.max(0, this.#brackets - 1)
    else if (this.#brackets === 0 && lexeme.trim() !== '') this.#opens(this.#offset - this.#lineOffset)
    if (this.#columns.length + this.#brackets > MAX_NESTING) throw new TooDeep(this.#offset)
    this.#isText = false
    this.#offset += lexeme.length
    const newline = lexeme.lastIndexOf('\n')
    if (newline >= 0) this.#lineOffset = this.#offset - (lexeme.length - newline - 1)
  }

  /** What begins further to the left ends what began further to the right. */
  #opens(column: number): void {
    while ((this.#columns.at(-1) ?? -1) >= column) this.#columns.pop()
    this.#columns.push(column)
  }
}
