// A journal as bytes: cut at every one, torn by a loss of power, damaged; and what a write or flush that fails leaves.

import { execFileSync } from 'node:child_process'
import { appendFile, mkdir, readFile, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { JournalFile, parseJournal, type LockRequest } from '../../src/host/journal-file.js'
import { LocalHost } from '../../src/host/local.js'
import { fileSystemOf } from '../../src/host/look.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { until } from '../support/processes.js'

const scratch = useScratch()
const LINES = [{ step: 'prepare' }, { text: 'ä\n"\u0000' }, { nested: { list: [1, null] } }]
const WHOLE = Buffer.from(LINES.map((line) => `${JSON.stringify(line)}\n`).join(''))
const LOCK: LockRequest = { native: null, waitMs: 0, signal: new AbortController().signal }

/** How many lines end within the first `bytes`. */
function linesWithin(bytes: number): number {
  return WHOLE.subarray(0, bytes).toString('latin1').split('\n').length - 1
}

describe('the bytes of a journal', () => {
  it('cut anywhere give the lines before the cut', () => {
    for (let bytes = 0; bytes <= WHOLE.length; bytes++) {
      const count = linesWithin(bytes)
      const { lines, wholeBytes } = parseJournal(WHOLE.subarray(0, bytes), 'j')
      expect(lines).toEqual(LINES.slice(0, count))
      expect(WHOLE.toString('latin1', 0, wholeBytes).split('\n').length - 1).toBe(count)
    }
  })

  it('with a tail of zeros, as a loss of power leaves them, are cut there', () => {
    const start = WHOLE.indexOf('\n') + 1
    for (const end of [Buffer.alloc(40), Buffer.concat([Buffer.alloc(4), Buffer.from('x"}\n')])]) {
      const torn = Buffer.concat([WHOLE.subarray(0, start), end])
      expect(parseJournal(torn, 'j')).toEqual({ lines: [LINES[0]], wholeBytes: start })
    }
  })

  it.each(['nonsense\n', '[]\n', 'null\n', '\n', '{"a":1}{"b":2}\n', '{"a":"\u0000"}\n{}\n'])(
    'that are damaged (%j) are refused, with the line',
    (damage) => {
      const bytes = Buffer.concat([WHOLE, Buffer.from(damage)])
      expect(() => parseJournal(bytes, 'j')).toThrow(/j is damaged: line 4/)
    },
  )

  it('that are no UTF-8 are damaged', () => {
    expect(() => parseJournal(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d, 0x0a]), 'j')).toThrow(
      SyncError,
    )
  })
})

describe('a journal file', () => {
  it('goes on behind every cut', async () => {
    const path = scratch().path('cut.jsonl')
    for (let bytes = 0; bytes < WHOLE.length; bytes += 7) {
      await writeFile(path, WHOLE.subarray(0, bytes))
      const taken = await JournalFile.take(path, 'continue', LOCK)
      if (taken.is !== 'taken') throw new Error(taken.is)
      await taken.journal.append({ next: bytes })
      await taken.journal.close()
      const { lines } = parseJournal(await readFile(path), path)
      expect(lines).toEqual([...LINES.slice(0, linesWithin(bytes)), { next: bytes }])
    }
  })

  it('is not taken where another one came into its place while it was waited for', async () => {
    const path = scratch().path('replaced.jsonl')
    const first = await JournalFile.take(path, 'create', LOCK)
    if (first.is !== 'taken') throw new Error(first.is)
    const waiting = JournalFile.take(path, 'create', { ...LOCK, waitMs: 20_000 })
    await until(() => holdsWaiters(path), 'it waits for the lock')
    await writeFile(`${path}.new`, '{"new":1}\n')
    await rename(`${path}.new`, path)
    await first.journal.close()
    const second = await waiting
    if (second.is !== 'taken') throw new Error(second.is)
    expect(second.lines).toEqual([{ new: 1 }])
    await second.journal.close()
  })

  it('is not waited for any more when that is ended', async () => {
    const path = scratch().path('waited.jsonl')
    const first = await JournalFile.take(path, 'create', LOCK)
    if (first.is !== 'taken') throw new Error(first.is)
    const ending = new AbortController()
    const waiting = JournalFile.take(path, 'continue', { ...LOCK, waitMs: 60_000, signal: ending.signal })
    await until(() => holdsWaiters(path), 'it waits for the lock')
    ending.abort()
    expect(await waiting).toEqual({ is: 'held' })
    await first.journal.close()
  })

  it('that finds no space keeps what it had', needs('root'), async () => {
    const small = await scratch().mount('small', 'blocksync-test', '-t', 'tmpfs', '-o', 'size=64k')
    const stateDir = join(small, 'state')
    await using host = new LocalHost({ stateDir, native: 'auto' })
    const name = { id: 'full', role: 'source' } as const
    await host.openJournal(name, 'create', 0)
    await host.appendJournal(name, { first: 1 })
    const failed = await host
      .appendJournal(name, { text: 'x'.repeat(200_000) })
      .catch((error: unknown) => error)
    expect(failed).toMatchObject({ code: 'host/file' })
    await host.appendJournal(name, { second: 2 })
    expect(await host.readJournal(name)).toEqual([{ first: 1 }, { second: 2 }])
  })

  it('that is too large is refused before it is read', async () => {
    await using host = new LocalHost({ stateDir: scratch().path('large-state'), native: 'auto' })
    const name = { id: 'large', role: 'source' } as const
    const directory = scratch().path('large-state/migrate/large')
    await host.workDirectory(name)
    await mkdir(directory, { recursive: true })
    await appendFile(join(directory, 'source.jsonl'), '{}\n')
    await truncate(join(directory, 'source.jsonl'), 2 ** 40)
    await expect(host.readJournal(name)).rejects.toMatchObject({ code: 'host/file' })
    await expect(host.openJournal(name, 'continue', 0)).rejects.toMatchObject({ code: 'host/file' })
  })
})

describe('the file system of a directory', () => {
  it('is that of the longest mount point, and the last one there', () => {
    const row = (point: string, type: string): string => `1 1 0:1 / ${point} rw - ${type} source rw`
    const table = [
      row('/', 'ext4'),
      row('/srv', 'nfs4'),
      row('/srv', 'ceph'),
      row('/srv/a\\040b', 'xfs'),
    ].join('\n')
    expect(['/', '/srvx', '/srv', '/srv/a', '/srv/a b/c'].map((path) => fileSystemOf(path, table))).toEqual([
      'ext4',
      'ext4',
      'ceph',
      'ceph',
      'xfs',
    ])
    expect(fileSystemOf('/srv', '')).toBe('unknown')
  })
})

/** Whether a process waits for a lock on the file: /proc/locks has an arrow before those. */
function holdsWaiters(path: string): boolean {
  const inode = execFileSync('stat', ['-c', '%i', path], { encoding: 'utf8' }).trim()
  const locks = execFileSync('cat', ['/proc/locks'], { encoding: 'utf8' })
  return locks.split('\n').some((line) => line.includes('-> FLOCK') && line.includes(`:${inode} `))
}
