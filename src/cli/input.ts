// What is read of stdin: its end, where another process holds it open for as long as this one is to live, and keys of a terminal.
// Refuses to keep this process alive by itself.

import type { ReadStream } from 'node:tty'

/** Calls back once when stdin has ended or cannot be read; disposing it lets go of stdin. */
export function onInputEnd(input: NodeJS.ReadStream, ended: () => void): Disposable {
  let isOver = false
  const end = (): void => {
    if (isOver) return
    isOver = true
    ended()
  }
  input.once('end', end)
  input.once('close', end)
  input.once('error', end)
  input.resume()
  return {
    [Symbol.dispose]: () => {
      isOver = true
      input.removeListener('end', end)
      input.removeListener('close', end)
      // the listener for errors stays: one that comes now is nobody's, and would end the process
      input.pause()
      input.unref?.()
    },
  }
}

/** Single keys of a terminal, not echoed; nothing where stdin is none. Disposing it gives the terminal back as it was. */
export function onKey(input: ReadStream, pressed: (key: string) => void): Disposable {
  if (!input.isTTY) return { [Symbol.dispose]: () => undefined }
  const hear = (chunk: Buffer): void => {
    for (const key of chunk.toString('latin1')) pressed(key)
  }
  const wasRaw = input.isRaw
  input.setRawMode(true)
  input.on('data', hear)
  return {
    [Symbol.dispose]: () => {
      input.removeListener('data', hear)
      input.setRawMode(wasRaw)
      input.pause()
      input.unref()
    },
  }
}
