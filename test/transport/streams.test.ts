// Incoming bytes in lent memory: what a listener sees, what every other reader gets, and when it stops, ends and fails.
// Over a socket pair it is `serve` of a local run that reads them (test/e2e).
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'

import { afterEach, describe, expect, it } from 'vitest'

import { loadNative } from '../../src/native.js'
import { openWireInput } from '../../src/transport/streams.js'
import { bytesWrittenBy, until, untilIdle } from '../support/processes.js'

const native = loadNative('auto')
const skipped = native === null ? ' (skipped: the native core, which makes the pipe, is not built)' : ''
if (native === null) console.warn(`skipped${skipped}`)
const CHUNK_BYTES = 64 << 10

const inputs: Readable[] = []
const children: ChildProcess[] = []
afterEach(() => {
  for (const input of inputs.splice(0)) input.destroy()
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

/** A program that writes to a pipe; the pipe's other end as the wire's input. */
function inputFrom(script: string): Readable {
  if (native === null) throw new Error('no native core')
  const { readFd, writeFd } = native.openPipe()
  children.push(spawn(process.execPath, ['-e', script], { stdio: ['ignore', writeFd, 'inherit'] }))
  closeSync(writeFd)
  const input = openWireInput(readFd, () => {
    throw new Error('taken for something else than a pipe')
  })
  inputs.push(input)
  return input
}

const COUNTING = `
  const chunk = Buffer.alloc(${CHUNK_BYTES})
  let sent = 0
  while (sent < 64) {
    chunk.fill(sent++)
    require('node:fs').writeSync(1, chunk)
  }`

describe.skipIf(native === null)(`a pipe${skipped}`, () => {
  it('lends one piece of memory to its listener, again and again, and then ends and closes', async () => {
    const input = inputFrom(COUNTING)
    const memories = new Set<ArrayBufferLike>()
    let position = 0
    let wrong = 0
    input.on('data', (chunk: Buffer) => {
      memories.add(chunk.buffer)
      for (const byte of chunk) if (byte !== Math.floor(position++ / CHUNK_BYTES)) wrong += 1
    })
    await Promise.all([once(input, 'end'), once(input, 'close')])
    expect([position, wrong]).toEqual([64 * CHUNK_BYTES, 0])
    expect(memories.size).toBe(1)
    expect(input.readableEnded && input.destroyed).toBe(true)
  })

  it('gives copies to whoever iterates', async () => {
    const chunks: Buffer[] = []
    for await (const chunk of inputFrom(COUNTING)) chunks.push(chunk as Buffer)
    const all = Buffer.concat(chunks)
    expect(all.length).toBe(64 * CHUNK_BYTES)
    for (let index = 0; index < 64; index++) expect(all[index * CHUNK_BYTES]).toBe(index)
  })

  it('stops when its listener pauses it, within the event, and goes on where it was', async () => {
    const input = inputFrom(COUNTING)
    let receivedBytes = 0
    let events = 0
    input.on('data', (chunk: Buffer) => {
      events += 1
      receivedBytes += chunk.length
      input.pause()
    })
    let resumed = 0
    while (!input.readableEnded) {
      await until(() => events > resumed || input.readableEnded, 'a chunk or the end')
      expect(events).toBeLessThanOrEqual(resumed + 1)
      if (!input.readableEnded) expect(input.isPaused()).toBe(true)
      resumed = events
      input.resume()
    }
    expect(receivedBytes).toBe(64 * CHUNK_BYTES)
  })

  it('a pause holds back the writer', async () => {
    const input = inputFrom(`
      const { writeSync } = require('node:fs')
      for (let sent = 0; sent < 256; sent++) writeSync(1, Buffer.alloc(${CHUNK_BYTES}))`)
    let receivedBytes = 0
    input.on('data', (chunk: Buffer) => {
      receivedBytes += chunk.length
    })
    input.once('data', () => input.pause())
    await once(input, 'pause')
    const pid = children[0]?.pid ?? -1
    await untilIdle(pid)
    // The pipe is full (1 MiB), and the first chunk is here.
    expect(bytesWrittenBy(pid)).toBeLessThan(32 * CHUNK_BYTES)
    input.resume()
    await once(input, 'close')
    expect(receivedBytes).toBe(256 * CHUNK_BYTES)
  })

  it('keeps its end for whoever comes late', async () => {
    const input = inputFrom('')
    await once(children[0] as ChildProcess, 'exit')
    await untilIdle(process.pid)
    expect(input.readableEnded).toBe(false)
    input.resume()
    await once(input, 'end')
  })

  it('drops what comes for nobody', async () => {
    const input = inputFrom(COUNTING)
    input.resume()
    await once(input, 'end')
    expect(input.readableLength).toBe(0)
  })

  it('closes its descriptor when it is destroyed: the writer hears of it', async () => {
    const input = inputFrom(`
      process.stdout.on('error', (error) => process.exit(error.code === 'EPIPE' ? 3 : 4))
      setInterval(() => process.stdout.write('x'), 5)`)
    await once(input, 'readable')
    input.destroy()
    const [status] = (await once(children[0] as ChildProcess, 'exit')) as [number]
    expect(status).toBe(3)
  })

  it('is not piped: what a slow receiver keeps would change under it', () => {
    expect(() => inputFrom('').pipe(new PassThrough())).toThrow(/lent/)
  })
})

it('asks for another stream where the descriptor is a file', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'blocksync-streams-'))
  const path = join(directory, 'file')
  writeFileSync(path, 'x')
  const fd = openSync(path, 'r')
  try {
    const other = Readable.from(['other'])
    expect(openWireInput(fd, () => other)).toBe(other)
    expect(await other.toArray()).toEqual(['other'])
  } finally {
    closeSync(fd)
    rmSync(directory, { recursive: true })
  }
})
