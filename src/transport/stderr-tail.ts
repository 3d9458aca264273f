// Text that a far end or ssh prints on stderr passes through here: the last bytes are kept, whole lines are handed on.
// Refuses to pass what could act on a terminal (control and direction characters) and lines without end.

import { StringDecoder } from 'node:string_decoder'

import { printable } from '../printable.js'
import { STDERR_TAIL_BYTES, type StderrLine } from './transport.js'

/** A line longer than this is cut: it is a sentence for a person, and a far end must not fill our memory or screen. */
export const MAX_LINE_CHARACTERS = 1024

export class StderrTail {
  readonly #onLine: StderrLine
  readonly #decoder = new StringDecoder('utf8')
  readonly #ring = Buffer.alloc(STDERR_TAIL_BYTES)
  #ringEnd = 0
  #totalBytes = 0
  #line = ''
  #ended = false

  constructor(onLine: StderrLine) {
    this.#onLine = onLine
  }

  push(chunk: Buffer): void {
    if (this.#ended) return
    this.#keep(chunk)
    const pieces = this.#decoder.write(chunk).split('\n')
    pieces.forEach((piece, index) => {
      // One character more than allowed is kept, to know that the line has to be cut.
      if (this.#line.length <= MAX_LINE_CHARACTERS) this.#line += piece.slice(0, MAX_LINE_CHARACTERS + 1)
      if (index < pieces.length - 1) this.#emit()
    })
  }

  /** Hands on a last line that had no line end. May be called more than once. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#line += this.#decoder.end()
    if (this.#line !== '') this.#emit()
  }

  /** The last STDERR_TAIL_BYTES of text, printable, lines separated by '\n'. */
  text(): string {
    const bytes =
      this.#totalBytes <= STDERR_TAIL_BYTES
        ? this.#ring.subarray(0, this.#ringEnd)
        : Buffer.concat([this.#ring.subarray(this.#ringEnd), this.#ring.subarray(0, this.#ringEnd)])
    return bytes
      .toString()
      .split('\n')
      .map((line) => printable(line.replace(/\r+$/, '')))
      .join('\n')
  }

  #keep(chunk: Buffer): void {
    this.#totalBytes += chunk.length
    const last = chunk.subarray(-STDERR_TAIL_BYTES)
    const firstPart = Math.min(last.length, STDERR_TAIL_BYTES - this.#ringEnd)
    last.copy(this.#ring, this.#ringEnd, 0, firstPart)
    last.copy(this.#ring, 0, firstPart)
    // Until the ring is full its end is also its length; a full first turn leaves it at the size, not at 0.
    const end = this.#ringEnd + last.length
    this.#ringEnd = end <= STDERR_TAIL_BYTES ? end : end - STDERR_TAIL_BYTES
  }

  #emit(): void {
    const line = this.#line.replace(/\r+$/, '')
    this.#line = ''
    this.#onLine(
      printable(line.length > MAX_LINE_CHARACTERS ? `${line.slice(0, MAX_LINE_CHARACTERS)}...` : line),
    )
  }
}
