// The sending half of a bond: one byte stream comes in and leaves in pieces over whichever member has room. What was
// accepted is copied, so its memory is the writer's again. Refuses to go on when a member breaks.

import { Writable } from 'node:stream'

import { MAX_PIECE_BYTES, PIECE_HEADER_BYTES, putPieceHeader } from './piece.js'

type Done = (error?: Error | null) => void

/**
 * A stream whose bytes go out over `members`. The first is the plain stream: what was written to it before leaves before,
 * and it is ended last (also when the bond breaks, so that the other side hears of it). A write calls back when its bytes
 * were copied into pieces; of those there is one more than there are members. A member that fails or closes early destroys
 * the stream with its error.
 */
export function openBondOutput(members: readonly [Writable, ...Writable[]]): Writable {
  const sender = new Sender(members)
  const output = new Writable({
    decodeStrings: true,
    write: (chunk: Buffer, _encoding, done) => sender.write([chunk], done),
    writev: (chunks, done) => {
      sender.write(
        chunks.map(({ chunk }) => chunk as Buffer),
        done,
      )
    },
    final: (done) => sender.end(done),
    destroy: (error, done) => {
      sender.abandon()
      done(error)
    },
  })
  sender.watch((error) => output.destroy(error))
  return output
}

class Sender {
  readonly #members: readonly [Writable, ...Writable[]]
  /** Members that the kernel took everything from, the one that was first to be so in front. */
  readonly #idle: Writable[]
  readonly #free: Buffer[]
  #filling: Buffer
  /** Bytes of the stream in it, behind the place of its header. */
  #filledBytes = 0
  #sequence = 0
  #chunks: readonly Buffer[] = []
  #chunkIndex = 0
  #chunkOffset = 0
  #done: Done | null = null
  #ending: Done | null = null
  #state: 'open' | 'ending' | 'over' = 'open'
  #onFailure: (error: Error) => void = () => undefined

  constructor(members: readonly [Writable, ...Writable[]]) {
    this.#members = members
    this.#idle = [...members]
    const newBuffer = (): Buffer => Buffer.allocUnsafeSlow(PIECE_HEADER_BYTES + MAX_PIECE_BYTES)
    this.#free = members.map(newBuffer)
    this.#filling = newBuffer()
  }

  watch(onFailure: (error: Error) => void): void {
    this.#onFailure = onFailure
    for (const member of this.#members) {
      member.on('error', this.#fail)
      member.once('close', () => {
        if (!member.writableFinished) this.#fail(new Error('a stream of the bond was closed'))
      })
      if (member.destroyed || member.writableEnded) this.#fail(new Error('a stream of the bond was closed'))
    }
  }

  write(chunks: readonly Buffer[], done: Done): void {
    this.#chunks = chunks
    this.#chunkIndex = 0
    this.#chunkOffset = 0
    this.#done = done
    this.#pump()
  }

  end(done: Done): void {
    this.#ending = done
    this.#pump()
  }

  /** No more is sent; the other side sees the plain stream end without the mark that belongs there. */
  abandon(): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    const [plain, ...further] = this.#members
    for (const member of further) member.destroy()
    if (!plain.destroyed && !plain.writableEnded) plain.end()
  }

  readonly #fail = (error: Error): void => {
    if (this.#state !== 'over') this.#onFailure(error)
  }

  #pump(): void {
    if (this.#state !== 'open') return
    for (;;) {
      this.#fill()
      const member = this.#filledBytes === 0 ? undefined : this.#idle.shift()
      if (member === undefined) break
      this.#send(member)
    }
    const done = this.#chunkIndex < this.#chunks.length ? null : this.#done
    if (done !== null) {
      this.#done = null
      this.#chunks = []
      this.#chunkIndex = 0
      // Last: it may come back here with the next chunks.
      done()
    } else if (
      this.#ending !== null &&
      this.#filledBytes === 0 &&
      this.#idle.length === this.#members.length
    ) {
      this.#finish(this.#ending)
    }
  }

  #fill(): void {
    for (
      let chunk = this.#chunks[this.#chunkIndex];
      chunk !== undefined;
      chunk = this.#chunks[this.#chunkIndex]
    ) {
      const roomBytes = MAX_PIECE_BYTES - this.#filledBytes
      const take = Math.min(roomBytes, chunk.length - this.#chunkOffset)
      const part = chunk.subarray(this.#chunkOffset, this.#chunkOffset + take)
      this.#filling.set(part, PIECE_HEADER_BYTES + this.#filledBytes)
      this.#filledBytes += take
      this.#chunkOffset += take
      if (this.#chunkOffset < chunk.length) return
      this.#chunkIndex += 1
      this.#chunkOffset = 0
    }
  }

  #send(member: Writable): void {
    const buffer = this.#filling
    const next = this.#free.pop()
    if (next === undefined) throw new Error('a member is idle, and there is no buffer')
    const length = this.#filledBytes
    putPieceHeader(buffer, { sequence: this.#sequence, length })
    this.#sequence = (this.#sequence + 1) >>> 0
    this.#filling = next
    this.#filledBytes = 0
    member.write(buffer.subarray(0, PIECE_HEADER_BYTES + length), (error) => {
      if (error !== null && error !== undefined) return this.#fail(error)
      this.#free.push(buffer)
      this.#idle.push(member)
      this.#pump()
    })
  }

  /** Every member says where the stream ends, so that one that breaks before is told from one that is done. */
  #finish(done: Done): void {
    this.#state = 'ending'
    const mark = Buffer.alloc(PIECE_HEADER_BYTES)
    putPieceHeader(mark, { sequence: this.#sequence, length: 0 })
    const [plain, ...further] = this.#members
    let left = further.length
    const endPlain = (): void => {
      plain.end(mark, () => {
        this.#state = 'over'
        done()
      })
    }
    // Whoever waits for the plain stream to be done may then end the process.
    for (const member of further) {
      member.end(mark, () => {
        left -= 1
        if (left === 0) endPlain()
      })
    }
    if (left === 0) endPlain()
  }
}
