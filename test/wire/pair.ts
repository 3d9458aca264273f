// Two ends of a connection in memory: what one writes the other reads, and everything that crosses is kept.

import { PassThrough } from 'node:stream'

import { Channel } from '../../src/wire/channel.js'
import type { FrameType } from '../../src/wire/frame.js'
import { encodeHeader } from '../../src/wire/frame.js'

export type Pair = {
  /** Bytes on their way to and from the near end. */
  toFar: PassThrough
  toNear: PassThrough
  near: Channel
  far: Channel
}

/** Two channels that talk to each other. */
export function channelPair(): Pair {
  const toFar = new PassThrough()
  const toNear = new PassThrough()
  return {
    toFar,
    toNear,
    near: new Channel(toNear, toFar, Buffer.alloc(0)),
    far: new Channel(toFar, toNear, Buffer.alloc(0)),
  }
}

/** One channel, and its two streams in the hands of the test. */
export function lonelyChannel(rest: Uint8Array = Buffer.alloc(0)): {
  channel: Channel
  input: PassThrough
  output: PassThrough
} {
  const input = new PassThrough()
  const output = new PassThrough()
  return { channel: new Channel(input, output, rest), input, output }
}

/** Resolves when everything that streams and promises have in line has run. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

/** A frame as it crosses the wire. */
export function frameBytes(type: FrameType, body: Uint8Array = Buffer.alloc(0), disk = 0): Buffer {
  return Buffer.concat([encodeHeader(type, disk, body.length), body])
}

/** True once `promise` has resolved or rejected after all that is due has run. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let done = false
  const note = (): void => {
    done = true
  }
  promise.then(note, note)
  await settled()
  return done
}
