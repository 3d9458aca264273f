// `serve` in this process: its two options, its signals, and where its text goes.

import { EventEmitter } from 'node:events'
import { PassThrough } from 'node:stream'

import { describe, expect, it } from 'vitest'

import { parseServeWords, serveCommand } from '../../src/cli/serve.js'
import type { RunServe, ServeProcess } from '../../src/cli/serve.js'
import { SyncError } from '../../src/errors.js'
import { MemoryStream } from './fixtures.js'

type Stage = {
  stdin: PassThrough
  process: ServeProcess & EventEmitter
  stdout: MemoryStream
  stderr: MemoryStream
  exits: number[]
}

function stage(isTTY = false): Stage {
  const stdout = new MemoryStream()
  const stderr = new MemoryStream()
  const stdin = Object.assign(new PassThrough(), { isTTY })
  const process = Object.assign(new EventEmitter(), {
    openInput: () => stdin,
    stdout,
    stderr,
    originalCommand: null,
  })
  return { stdin, process, stdout, stderr, exits: [] }
}

function serve(words: string[], { process, exits }: Stage, run: RunServe): Promise<number> {
  return serveCommand(
    words,
    process,
    () => Promise.resolve(run),
    (status) => exits.push(status),
  )
}

describe('the words of serve', () => {
  it.each<[string[], object]>([
    [[], { kind: 'serve', native: 'auto' }],
    [['--native=off'], { kind: 'serve', native: 'off' }],
    [['--native', 'require'], { kind: 'serve', native: 'require' }],
    [['--undo-dir=/big', '--undo-max=1048576'], { undo: { directory: '/big', maxBytes: 1048576 } }],
    [[], { undo: { directory: null, maxBytes: null } }],
    [['-h'], { kind: 'help' }],
    [['--native=off', '--help'], { kind: 'help' }],
  ])('%j', (words, parsed) => {
    expect(parseServeWords(words)).toMatchObject(parsed)
  })

  it.each([[['--native']], [['--native=']], [['--native=on']], [['--json']], [['/dev/a']], [['']]])(
    'refuses %j',
    async (words) => {
      const at = stage()
      expect(await serve(words, at, () => Promise.reject(new Error('it was started')))).toBe(2)
      expect(at.stderr.text).toMatch(/^blocksync: .*nothing was opened\n.+\n$/)
      expect(at.stdout.text).toBe('')
    },
  )
})

describe('serve', () => {
  it('hands over stdin and stdout and ends with the status of the engine', async () => {
    const at = stage()
    const status = await serve(['--native=off'], at, (input, output, { native, signal }) => {
      expect([input, output, native, signal.aborted]).toEqual([at.stdin, at.stdout, 'off', false])
      expect(at.process.listenerCount('SIGHUP')).toBe(1)
      return Promise.resolve(8)
    })
    expect(status).toBe(8)
    expect(at.stdin.destroyed).toBe(true)
    expect(at.stdout.text + at.stderr.text).toBe('')
    expect(at.process.eventNames()).toEqual([])
  })

  it('refuses a terminal', async () => {
    const at = stage(true)
    expect(await serve([], at, () => Promise.reject(new Error('it was started')))).toBe(2)
    expect(at.stderr.text).toMatch(/not to a terminal/)
  })

  it('prints help on stderr: stdout is the wire', async () => {
    const at = stage()
    expect(await serve(['--help'], at, () => Promise.reject(new Error('it was started')))).toBe(0)
    expect(at.stderr.text).toMatch(/^Usage: blocksync serve/)
    expect(at.stdout.text).toBe('')
  })

  it('ignores SIGINT and SIGHUP, ends on SIGTERM with 143, at once on the second', async () => {
    const at = stage()
    const status = await serve(
      [],
      at,
      (_input, _output, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            expect(at.exits).toEqual([])
            at.process.emit('SIGTERM')
            reject(new Error('the read was aborted'))
          })
          at.process.emit('SIGINT')
          at.process.emit('SIGHUP')
          expect(signal.aborted).toBe(false)
          at.process.emit('SIGTERM')
          expect(signal.reason).toMatchObject({ code: 'interrupt/sigterm' })
        }),
    )
    expect(status).toBe(143)
    expect(at.exits).toEqual([143])
    expect(at.stderr.text).toBe('')
  })

  it('tells a failure on stderr, with its status', async () => {
    const at = stage()
    const error = new SyncError('session/protocol', 'a frame of 9 GiB', { operand: 'serve' })
    expect(await serve([], at, () => Promise.reject(error))).toBe(8)
    expect(at.stderr.text).toBe('blocksync: serve: a frame of 9 GiB\n')
    expect(at.stdout.text).toBe('')
  })
})
