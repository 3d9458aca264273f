// The way out of a channel: frames in, bytes of the transport out, in as few writes as can be, and word of when they have
// left this process. Refuses nothing; who may send how much is the channel's to say.

import type { Writable } from 'node:stream'

import { SyncError } from '../errors.js'

/** The hint of every session/lost. */
export const AGAIN = 'Run the same command again; it continues from what is there.'

/** Parts below this are copied together: a write of its own (over ssh a packet of its own) costs more than the copy. */
const SMALL_PART_BYTES = 16 << 10

export class Outgoing {
  /** Bytes that were put in line. */
  bytes = 0
  #stream: Writable
  readonly #onError: (cause: Error) => void
  #isEnded = false
  /** Writes under way: a stream that is destroyed need not call back for those. */
  readonly #leaving = new Set<(error: SyncError) => void>()

  /** `onError` is called when the stream breaks. */
  constructor(stream: Writable, onError: (cause: Error) => void) {
    this.#stream = stream
    this.#onError = onError
    stream.on('error', onError)
  }

  /** What is put from now on goes to `stream`, which then says when it breaks; what was put before is left to the other. */
  moveTo(stream: Writable): void {
    this.#stream.on('error', ignoreError).off('error', this.#onError)
    this.#stream = stream
    stream.on('error', this.#onError)
  }

  /** True after `end`. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  /** True where nothing that is put would be sent. */
  get isGone(): boolean {
    return this.#isEnded || this.#stream.destroyed
  }

  /** Bytes put in line that the transport has not taken yet. */
  get backlogBytes(): number {
    return this.#stream.writableLength
  }

  /** Puts parts in line; `done` is called when they have left. */
  put(parts: readonly Uint8Array[], done: ((error?: Error | null) => void) | null): void {
    const pieces = joinSmall(parts)
    const last = pieces.length - 1
    this.#stream.cork()
    pieces.forEach((part, index) => {
      this.bytes += part.length
      if (index === last && done !== null) this.#stream.write(part, done)
      else this.#stream.write(part)
    })
    this.#stream.uncork()
  }

  /** Puts parts in line; resolves when they have left. Rejects with session/lost, or what `fail` is told. */
  async write(parts: readonly Uint8Array[]): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#leaving.add(reject)
      this.put(parts, (cause) => {
        this.#leaving.delete(reject)
        if (cause === null || cause === undefined) resolve()
        else
          reject(new SyncError('session/lost', 'the connection broke while sending', { cause, hint: AGAIN }))
      })
    })
  }

  /** Fails the writes under way. */
  fail(error: SyncError): void {
    for (const reject of this.#leaving) reject(error)
  }

  /** Half-closes: nothing more will be sent. */
  end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#stream.end()
  }
}

function ignoreError(): void {
  // whoever has the stream now hears of it as well
}

/** The same bytes in fewer parts. */
function joinSmall(parts: readonly Uint8Array[]): Uint8Array[] {
  const joined: Uint8Array[] = []
  let small: Uint8Array[] = []
  const flush = (): void => {
    const [only] = small
    if (only !== undefined) joined.push(small.length === 1 ? only : Buffer.concat(small))
    small = []
  }
  for (const part of parts) {
    if (part.length < SMALL_PART_BYTES) small.push(part)
    else {
      flush()
      joined.push(part)
    }
  }
  flush()
  return joined
}
