// The receiving half of a bond: pieces come in from several streams, one byte stream goes out in their order. Refuses a
// piece twice, a number or a length out of bounds, more waiting than MAX_REORDER_BYTES, and bytes behind the end.

import { Readable } from 'node:stream'

import { SyncError } from '../errors.js'
import {
  MAX_PIECE_BYTES,
  MAX_REORDER_BYTES,
  PIECE_COST_BYTES,
  PIECE_HEADER_BYTES,
  readPieceHeader,
} from './piece.js'

/** A number further ahead than so many of the cheapest pieces cannot be meant. */
const MAX_AHEAD_PIECES = MAX_REORDER_BYTES / PIECE_COST_BYTES
/** Pieces from this length on wait in memory that is used again. */
const POOLED_PIECE_BYTES = MAX_PIECE_BYTES / 2
/** Of those, kept when they are not in use. */
const MAX_POOLED_PIECES = 64

/** `bytes` is null while it is the piece that is due: then its bytes are handed on as they come. */
type Piece = {
  readonly sequence: number
  readonly length: number
  receivedBytes: number
  bytes: Buffer | null
}

type Member = {
  readonly stream: Readable
  readonly header: Buffer
  headerBytes: number
  piece: Piece | null
  hasEnded: boolean
}

export class BondReceiver {
  /**
   * The bytes in order; ends when they are complete, and also where a member ended before. As with the streams of
   * transport/streams.ts a chunk of 'data' is lent for the duration of the event, and it must not be piped.
   */
  readonly input: Readable
  readonly #onFailure: (error: SyncError) => void
  readonly #members: Member[] = []
  readonly #waiting = new Map<number, Piece>()
  #waitingBytes = 0
  readonly #pool: Buffer[] = []
  #due = 0
  /** The piece that is due, where it has begun to come. */
  #current: Piece | null = null
  #endSequence: number | null = null
  #state: 'open' | 'over' = 'open'
  #isPaused = false

  /** `onFailure` is called, before `input` ends, with what the other side did wrong (session/protocol). */
  constructor(onFailure: (error: SyncError) => void) {
    this.#onFailure = onFailure
    this.input = new Readable({ read: () => undefined })
    this.input.on('pause', () => this.#setPaused(true)).on('resume', () => this.#setPaused(false))
  }

  /** Takes pieces from one more stream; `rest` was read from it already. */
  add(stream: Readable, rest: Uint8Array): void {
    const header = Buffer.alloc(PIECE_HEADER_BYTES)
    const member: Member = { stream, header, headerBytes: 0, piece: null, hasEnded: false }
    this.#members.push(member)
    stream.on('error', () => undefined) // it closes behind that
    if (rest.length > 0) this.#onData(member, rest)
    stream.on('data', (chunk: Uint8Array) => this.#onData(member, chunk))
    const onEnd = (): void => {
      // Its last bytes may wait in it while it is paused; they come before its end.
      if (!member.hasEnded) this.#finish()
    }
    stream.once('end', onEnd).once('close', onEnd)
    if (stream.destroyed || stream.readableEnded) onEnd()
    if (this.#isPaused) stream.pause()
    else stream.resume()
  }

  #setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused && this.#state === 'open'
    for (const { stream } of this.#members) {
      if (this.#isPaused) stream.pause()
      else stream.resume()
    }
  }

  #onData(member: Member, chunk: Uint8Array): void {
    if (this.#state === 'over') return
    try {
      this.#take(member, chunk)
    } catch (thrown) {
      this.#onFailure(
        thrown instanceof SyncError ? thrown : new SyncError('internal', String(thrown), { cause: thrown }),
      )
      this.#finish()
    }
  }

  #take(member: Member, chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length) {
      if (member.hasEnded) throw broken('bytes behind the end')
      if (member.piece === null) {
        const take = Math.min(PIECE_HEADER_BYTES - member.headerBytes, chunk.length - at)
        member.header.set(chunk.subarray(at, at + take), member.headerBytes)
        member.headerBytes += take
        at += take
        if (member.headerBytes < PIECE_HEADER_BYTES) return
        member.headerBytes = 0
        member.piece = this.#begin(member)
        continue
      }
      const { piece } = member
      const take = Math.min(piece.length - piece.receivedBytes, chunk.length - at)
      const part = chunk.subarray(at, at + take)
      at += take
      if (piece.bytes === null) this.#deliver(part)
      else piece.bytes.set(part, piece.receivedBytes)
      piece.receivedBytes += take
      if (piece.receivedBytes < piece.length) return
      member.piece = null
      if (piece === this.#current) this.#advance()
    }
  }

  /** The piece that a member's header announces; null where it announces the end. */
  #begin(member: Member): Piece | null {
    const header = readPieceHeader(member.header)
    if (header === null) throw broken(`a piece of more than ${MAX_PIECE_BYTES} bytes`)
    const { sequence, length } = header
    if ((sequence - this.#due) >>> 0 >= MAX_AHEAD_PIECES)
      throw broken(`piece ${sequence} where ${this.#due} was due`)
    if (length === 0) {
      if (this.#endSequence !== null && this.#endSequence !== sequence) throw broken('two different ends')
      this.#endSequence = sequence
      member.hasEnded = true
      this.#checkEnd()
      return null
    }
    if (this.#waiting.has(sequence) || sequence === this.#current?.sequence)
      throw broken(`piece ${sequence} twice`)
    const piece: Piece = { sequence, length, receivedBytes: 0, bytes: null }
    if (sequence === this.#due) {
      this.#current = piece
      return piece
    }
    if (this.#waitingBytes + length + PIECE_COST_BYTES > MAX_REORDER_BYTES)
      throw broken(`more than ${MAX_REORDER_BYTES} bytes ahead of piece ${this.#due}`)
    this.#waitingBytes += length + PIECE_COST_BYTES
    piece.bytes =
      length < POOLED_PIECE_BYTES
        ? Buffer.allocUnsafe(length)
        : (this.#pool.pop() ?? Buffer.allocUnsafeSlow(MAX_PIECE_BYTES))
    this.#waiting.set(sequence, piece)
    return piece
  }

  /** The piece that was due is complete: hands on what waited for it. */
  #advance(): void {
    for (;;) {
      this.#current = null
      this.#due = (this.#due + 1) >>> 0
      const piece = this.#waiting.get(this.#due)
      if (piece === undefined) break
      this.#waiting.delete(this.#due)
      this.#waitingBytes -= piece.length + PIECE_COST_BYTES
      this.#current = piece
      const { bytes } = piece
      piece.bytes = null
      if (bytes !== null) {
        this.#deliver(bytes.subarray(0, piece.receivedBytes))
        if (bytes.length === MAX_PIECE_BYTES && this.#pool.length < MAX_POOLED_PIECES) this.#pool.push(bytes)
      }
      if (piece.receivedBytes < piece.length) return
    }
    this.#checkEnd()
  }

  #checkEnd(): void {
    if (this.#endSequence === this.#due && this.#current === null) this.#finish()
  }

  #deliver(part: Uint8Array): void {
    const { input } = this
    if (part.length === 0 || this.#state === 'over') return
    if (input.readableFlowing === true && input.readableLength === 0) input.emit('data', part)
    else if (input.readableLength + part.length > MAX_REORDER_BYTES)
      throw broken(`more than ${MAX_REORDER_BYTES} bytes before they were announced`)
    else input.push(Buffer.from(part))
  }

  /** All is there, or never will be. Members are read to their end all the same: somebody may wait for that. */
  #finish(): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    this.input.push(null)
    this.#waiting.clear()
    this.#pool.length = 0
    this.#setPaused(false)
  }
}

function broken(what: string): SyncError {
  return new SyncError('session/protocol', `the far end broke the protocol: bond: ${what}`, {
    hint: 'Nothing after this point was written. Run the same command again; if it happens again, compare the versions with blocksync doctor HOST.',
  })
}
