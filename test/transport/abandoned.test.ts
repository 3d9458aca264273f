// What a killed run left among the temporary files: real directories, and names of processes that run, ended and never were.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { privatePrefix, removeAbandoned, SOCKET_NAME } from '../../src/transport/abandoned.js'
import { needs } from '../support/needs.js'

const HOUR_MS = 3_600_000
/** Of init's start, and of no process that has this test's pid. */
const OTHER_START = '1'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-test-'))
})
afterEach(() => rmSync(directory, { recursive: true, force: true }))

/** A private directory as a run makes it, last used `ageMs` ago. */
function left(name: string, ageMs: number): string {
  const path = join(directory, name)
  mkdirSync(path, { mode: 0o700 })
  writeFileSync(join(path, SOCKET_NAME), '')
  makeOlder(path, ageMs)
  return path
}

function makeOlder(path: string, ageMs: number): void {
  const seconds = (Date.now() - ageMs) / 1000
  utimesSync(path, seconds, seconds)
}

const GONE = `blocksync-${process.pid}-${OTHER_START}-abCD12`

describe('what killed runs left', () => {
  it('goes where the process is gone, also when its pid is another one now', async () => {
    const child = spawn('true', { stdio: 'ignore' })
    await once(child, 'exit')
    left(`blocksync-${child.pid ?? 0}-12345-abCD12`, 2 * HOUR_MS)
    left(GONE, 2 * HOUR_MS)
    expect(await removeAbandoned(Date.now(), directory)).toBe(2)
    expect(readdirSync(directory)).toEqual([])
    expect(await removeAbandoned(Date.now(), directory)).toBe(0)
  })

  it('stays while its process is there, and for an hour in any case', async () => {
    const prefix = await privatePrefix()
    expect(prefix).toMatch(new RegExp(`^blocksync-${process.pid}-[1-9]\\d*-$`))
    left(`${prefix}abCD12`, 2 * HOUR_MS)
    left(GONE, HOUR_MS - 60_000)
    expect(await removeAbandoned(Date.now(), directory)).toBe(0)
    expect(readdirSync(directory)).toHaveLength(2)
  })

  it('stays where its name is none of ours, or it has something else in it', async () => {
    const names = [
      'blocksync-abCD12',
      'blocksync-0',
      `x${GONE}`,
      `${GONE}.old`,
      `blocksync-${process.pid}--abCD12`,
    ]
    for (const name of names) left(name, 2 * HOUR_MS)
    writeFileSync(join(left(GONE, 0), 'notes.txt'), '')
    makeOlder(join(directory, GONE), 2 * HOUR_MS)
    expect(await removeAbandoned(Date.now(), directory)).toBe(0)
    expect(readdirSync(directory).toSorted()).toEqual([...names, GONE].toSorted())
    expect(existsSync(join(directory, GONE, 'notes.txt'))).toBe(true)
  })

  it('is not what a link leads to, and no file', async () => {
    const target = left('target', 2 * HOUR_MS)
    symlinkSync(target, join(directory, GONE))
    const file = join(directory, GONE.replace('abCD12', 'abCD13'))
    writeFileSync(file, '')
    makeOlder(file, 2 * HOUR_MS)
    expect(await removeAbandoned(Date.now() + 2 * HOUR_MS, directory)).toBe(0)
    expect(readdirSync(directory)).toHaveLength(3)
    expect(existsSync(join(target, SOCKET_NAME))).toBe(true)
  })

  it("stays where it is another user's", needs('root'), async () => {
    chownSync(left(GONE, 2 * HOUR_MS), 65534, 65534)
    makeOlder(join(directory, GONE), 2 * HOUR_MS)
    expect(await removeAbandoned(Date.now(), directory)).toBe(0)
    expect(existsSync(join(directory, GONE, SOCKET_NAME))).toBe(true)
  })

  it('is nothing to fail for', async () => {
    expect(await removeAbandoned(Date.now(), join(directory, 'missing'))).toBe(0)
  })
})
