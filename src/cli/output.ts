// The one place that prints: results on stdout, everything said to people on stderr. A reader that goes away (EPIPE)
// loses text, never the run: the exit status stays the run's. Control characters from names and far ends are not passed on.

import type { Writable } from 'node:stream'

import { errnoOf } from '../errors.js'
import type { ErrorCode, SyncError } from '../errors.js'
import { printable } from '../printable.js'

/** A stream that may be a terminal. */
export type TextStream = Writable & { isTTY?: boolean; columns?: number; rows?: number }

/** What most terminals have when they do not say. */
const DEFAULT_COLUMNS = 80
const DEFAULT_ROWS = 24

const CLEAR_LINE = '\r\u001b[K'
/** The other screen of a terminal and back, the cursor hidden meanwhile (xterm's 1049 and 25, which all know). */
const OPEN_SCREEN = '\u001b[?1049h\u001b[?25l'
const CLOSE_SCREEN = '\u001b[?25h\u001b[?1049l'
const CURSOR_HOME = '\u001b[H'
const CLEAR_BELOW = '\u001b[J'

/** Messages of more lines than one, made of text of our own or made harmless before. */
const LISTS: readonly ErrorCode[] = ['config/invalid', 'replicate/drill']

/**
 * An error as people read it: `blocksync: <operand>: message`, then the hint on its own line.
 * The operand is left out where the message names it already.
 */
export function errorLines(error: SyncError): string[] {
  const { operand, message, hint } = error
  const about = operand === null || names(message, operand) ? '' : `${operand}: `
  const lines = LISTS.includes(error.code)
    ? `blocksync: ${about}${message}`.split('\n')
    : [`blocksync: ${about}${message}`]
  if (hint !== null) lines.push(hint)
  return lines
}

export class Output {
  readonly #stdout: TextStream
  readonly #stderr: TextStream
  readonly #closed = new Set<TextStream>()
  #statusShown: 'yes' | 'no' = 'no'

  constructor(stdout: TextStream, stderr: TextStream) {
    this.#stdout = stdout
    this.#stderr = stderr
    for (const stream of [stdout, stderr]) {
      stream.on('error', (error: Error) => {
        const known = this.#closed.has(stream)
        this.#closed.add(stream)
        if (!known && stream === stdout && errnoOf(error) !== 'EPIPE') {
          this.note(`blocksync: warning: nothing more can be printed on stdout: ${error.message}`)
        }
      })
    }
  }

  /** True where a line on stderr can be drawn again and again. */
  canRedraw(environment: NodeJS.ProcessEnv): boolean {
    return this.#stderr.isTTY === true && environment.TERM !== 'dumb'
  }

  /** Columns of the terminal on stderr, now; some (serial lines, script(1)) say 0, which is not an answer. */
  get columns(): number {
    return this.#stderr.columns || DEFAULT_COLUMNS
  }

  /** Columns of the terminal on stdout; null where there is none, and nothing has to be cut. */
  get width(): number | null {
    return this.#stdout.isTTY === true ? this.#stdout.columns || DEFAULT_COLUMNS : null
  }

  /** True where stdout can be drawn over as a whole. */
  isScreen(environment: NodeJS.ProcessEnv): boolean {
    return this.#stdout.isTTY === true && environment.TERM !== 'dumb'
  }

  openScreen(): void {
    this.#write(this.#stdout, OPEN_SCREEN)
  }

  /** Draws these lines over all that is there; what does not fit is left out. */
  screen(lines: readonly string[]): void {
    const rows = this.#stdout.rows || DEFAULT_ROWS
    const columns = this.width ?? DEFAULT_COLUMNS
    const text = lines.slice(0, rows - 1).map((line) => printable(line).slice(0, columns))
    const drawn = text.map((line) => `${line}\u001b[K\n`).join('')
    this.#write(this.#stdout, `${CURSOR_HOME}${drawn}${CLEAR_BELOW}`)
  }

  closeScreen(): void {
    this.#write(this.#stdout, CLOSE_SCREEN)
  }

  /** A line on stdout. */
  line(text: string): void {
    this.clearStatus()
    this.#write(this.#stdout, `${printable(text)}\n`)
  }

  /** One JSON object as a line on stdout. JSON escapes control characters by itself. */
  json(object: object): void {
    this.clearStatus()
    this.#write(this.#stdout, `${JSON.stringify(object)}\n`)
  }

  /** A line on stderr. */
  note(text: string): void {
    this.clearStatus()
    this.#write(this.#stderr, `${printable(text)}\n`)
  }

  /** The error and its hint on stderr. */
  error(error: SyncError): void {
    for (const text of errorLines(error)) this.note(text)
  }

  /** Draws the status line over the one before; the caller keeps it shorter than `columns`. */
  status(text: string): void {
    this.#write(this.#stderr, `${CLEAR_LINE}${printable(text)}`)
    this.#statusShown = 'yes'
  }

  clearStatus(): void {
    if (this.#statusShown === 'no') return
    this.#statusShown = 'no'
    this.#write(this.#stderr, CLEAR_LINE)
  }

  /** Resolves when what was printed has left this process, or its reader has. */
  async flush(): Promise<void> {
    this.clearStatus()
    await Promise.all([this.#stdout, this.#stderr].map((stream) => this.#drained(stream)))
  }

  #write(stream: TextStream, text: string): void {
    if (!this.#closed.has(stream)) stream.write(text)
  }

  #drained(stream: TextStream): Promise<void> {
    if (this.#closed.has(stream) || stream.destroyed) return Promise.resolve()
    return new Promise((resolve) => {
      // the callback also comes, with an error, where the reader is gone; the 'error' listener has taken note of it
      stream.write('', () => resolve())
    })
  }
}

/** True where `message` says `operand` as a word of its own: a path 'a' is not named by the word "nothing". */
function names(message: string, operand: string): boolean {
  const isWordAt = (index: number): boolean => /[\w.-]/u.test(message.charAt(index))
  for (let at = message.indexOf(operand); at !== -1; at = message.indexOf(operand, at + 1)) {
    if (!isWordAt(at - 1) && !isWordAt(at + operand.length)) return true
  }
  return false
}
