// Questions and answers that go past the pass: a frame out, and the frame that answers it back to whoever asked, in the
// order of asking. Refuses answers that nobody asked for.

import { toSyncError } from '../errors.js'
import type { Channel } from '../wire/channel.js'
import { frameName, type FrameType, protocolError } from '../wire/frame.js'

const NOTHING = Buffer.alloc(0)

export class Answers {
  readonly #channel: Channel
  readonly #awaited = new Map<FrameType, ((body: Buffer) => void)[]>()

  /** Takes what comes aside on `channel`. */
  constructor(channel: Channel) {
    this.#channel = channel
    channel.onAside = ({ type, body }) => {
      const act = this.#awaited.get(type)?.shift()
      if (act === undefined) throw protocolError(`${frameName(type)} frame that nobody asked for`)
      act(body)
    }
  }

  /** Sends a question and resolves with the body of its answer; rejects when the channel fails. */
  async ask(question: FrameType, answer: FrameType, body: Uint8Array = NOTHING, disk = 0): Promise<Buffer> {
    const answered = this.#next(answer)
    this.#channel.post(question, disk, body)
    return await answered
  }

  /** Has `act` called with the body of the next answer of a type, before anything behind that is looked at. */
  when(type: FrameType, act: (body: Buffer) => void): void {
    const waiting = this.#awaited.get(type) ?? []
    this.#awaited.set(type, waiting)
    waiting.push(act)
  }

  #next(type: FrameType): Promise<Buffer> {
    const { failed } = this.#channel
    return new Promise((resolve, reject) => {
      const onFail = (): void => reject(toSyncError(failed.reason))
      if (failed.aborted) return onFail()
      failed.addEventListener('abort', onFail, { once: true })
      this.when(type, (body) => {
        failed.removeEventListener('abort', onFail)
        resolve(body)
      })
    })
  }
}
