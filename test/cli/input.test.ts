// What is read of stdin: its end, and single keys. Streams are the test's own.

import { PassThrough } from 'node:stream'
import type { ReadStream } from 'node:tty'

import { describe, expect, it } from 'vitest'

import { onInputEnd, onKey } from '../../src/cli/input.js'

function terminal(isTTY: boolean): { stream: ReadStream; modes: boolean[]; through: PassThrough } {
  const through = new PassThrough()
  const modes: boolean[] = []
  const stream = Object.assign(through, {
    isTTY,
    isRaw: false,
    setRawMode: (mode: boolean) => modes.push(mode),
    unref: () => undefined,
  }) as unknown as ReadStream
  return { stream, modes, through }
}

describe('the end of stdin', () => {
  it.each<[string, (through: PassThrough) => unknown]>([
    ['an end', (through) => through.end('what nobody reads')],
    ['an error', (through) => through.destroy(new Error('broken'))],
  ])('is told once: %s', async (_, stop) => {
    const { stream, through } = terminal(false)
    let count = 0
    const told = new Promise<void>((resolve) => {
      onInputEnd(stream, () => {
        count += 1
        resolve()
      })
    })
    stop(through)
    await told
    await new Promise((resolve) => setImmediate(resolve))
    expect(count).toBe(1)
  })

  it('is not told to who has let go of it', async () => {
    const { stream, through } = terminal(false)
    let count = 0
    onInputEnd(stream, () => (count += 1))[Symbol.dispose]()
    through.end()
    await new Promise((resolve) => setImmediate(resolve))
    expect([count, through.isPaused()]).toEqual([0, true])
  })
})

describe('keys', () => {
  it('come one by one, and the terminal is given back', () => {
    const { stream, modes, through } = terminal(true)
    const keys: string[] = []
    const listening = onKey(stream, (key) => keys.push(key))
    through.emit('data', Buffer.from('q\u0003'))
    listening[Symbol.dispose]()
    expect([keys, modes, through.listenerCount('data')]).toEqual([['q', '\u0003'], [true, false], 0])
  })

  it('do not come where there is no terminal', () => {
    const { stream, modes, through } = terminal(false)
    onKey(stream, () => undefined)[Symbol.dispose]()
    expect([modes, through.listenerCount('data')]).toEqual([[], 0])
  })
})
