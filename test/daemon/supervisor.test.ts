// Real processes that tell, hang, die and leave things behind; and that nothing of them stays here.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import type { Argv } from '../../src/exec.js'
import { startChild, type ChildListener, type RunningChild } from '../../src/daemon/supervisor.js'
import { isRunning, until } from '../support/processes.js'

const FAKE = join(import.meta.dirname, 'fixtures', 'attempt.js')

let directory: string
let heard: unknown[]
const started: RunningChild[] = []

const listener: ChildListener = {
  onPhase: (phase, attempt) => heard.push([phase, attempt]),
  onProgress: (progress) => heard.push(progress),
  onWarning: (message) => heard.push({ warning: message }),
  onTracked: (job, disks) => heard.push({ job, disks }),
  onSaid: (line) => heard.push({ said: line }),
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-supervisor-'))
  heard = []
})

afterEach(async () => {
  for (const child of started.splice(0)) {
    child.kill()
    await child.ended
  }
  rmSync(directory, { recursive: true, force: true })
})

function start(job: string): RunningChild {
  return startArgv([process.execPath, FAKE, 'replicate', 'run', job, '--state-dir', directory])
}

function startArgv(argv: Argv): RunningChild {
  const child = startChild(argv, process.env, listener)
  started.push(child)
  return child
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length
}

describe('an attempt as a process', () => {
  it('tells what it is at, and how it ended', async () => {
    const end = await start('well').ended
    expect(end).toEqual({ told: 'result', ok: true, code: null, message: null, exitStatus: 0, signal: null })
    expect(heard).toEqual(
      expect.arrayContaining([
        ['connect', 'a1'],
        ['copy', 'a1'],
        { doneBytes: 5, totalBytes: 10, sentBytes: 3 },
        { warning: 'one disk is read while it changes' },
        { said: 'remote: hello' },
      ]),
    )
  })

  it('has its error where it failed', async () => {
    expect(await start('fails').ended).toMatchObject({
      told: 'result',
      ok: false,
      code: 'guard/mounted',
      message: 'it is guard/mounted',
      exitStatus: 3,
    })
  })

  it('has its signal and last words where it died', async () => {
    expect(await start('dies').ended).toEqual({
      told: 'nothing',
      ok: false,
      code: 'internal',
      message: 'its process was killed by SIGKILL: it is all over',
      exitStatus: null,
      signal: 'SIGKILL',
    })
  })

  it('is one that could not be started where there is no such program', async () => {
    const child = startArgv([join(directory, 'missing')])
    expect(child.pid).toBeNull()
    expect((await child.ended).told).toBe('nothing')
    expect((await child.ended).message).toContain('ENOENT')
    child.end()
    child.terminate()
    child.kill()
    const named = startArgv(['a\0b'])
    expect((await named.ended).message).toContain('could not be started')
  })

  it('ends in order when its stdin ends, and by the signal where it does not listen to that', async () => {
    const hangs = start('hangs')
    const deaf = start('deaf')
    await until(() => heard.length >= 6, 'both tell')
    hangs.end()
    expect(await hangs.ended).toMatchObject({ code: 'interrupt/sigterm', exitStatus: 143, signal: null })
    deaf.end()
    expect(isRunning(deaf.pid ?? 0)).toBe(true)
    deaf.terminate()
    expect(await deaf.ended).toMatchObject({ code: 'interrupt/sigterm', exitStatus: 143 })
  })

  it('leaves out lines that are too long or no event, and goes on', async () => {
    expect(await start('noisy').ended).toMatchObject({ told: 'result', ok: true })
    expect(heard).toContainEqual({ said: 'a line of its output was too long and was left out' })
    expect(heard).toContainEqual({ said: 'not json' })
    expect(JSON.stringify(heard).length).toBeLessThan(2000)
    expect(heard).not.toContainEqual(expect.objectContaining({ doneBytes: -1 }))
  })

  it('leaves out what is no base for the next attempt, field by field', async () => {
    expect(await start('mistells').ended).toMatchObject({ told: 'result', ok: true })
    const disks = [
      { clone: '/c', leaves: null },
      { clone: '/c', leaves: '/l' },
    ]
    expect(heard.slice(-1)).toEqual([{ job: 'mistells', disks }])
    const said = 'what it says of a base for the next attempt is not understood and was left out'
    expect(heard.filter((one) => JSON.stringify(one) === JSON.stringify({ said }))).toHaveLength(20)
    expect(heard).toHaveLength(3 + 20 + 1)
  })

  it('has ended when it has, though what it left behind holds its pipes', async () => {
    const child = start('leaves')
    expect(await child.ended).toMatchObject({ ok: true })
    const left = Number(readFileSync(join(directory, 'left'), 'utf8'))
    expect(isRunning(left)).toBe(true)
    process.kill(left, 'SIGKILL')
  })

  it('leaves no descriptor and no process here, however it ends', async () => {
    const argv: Argv = [
      '/bin/sh',
      '-c',
      'echo "{\\"event\\":\\"result\\",\\"ok\\":true}"; [ "$1" = 0 ] || kill -9 $$',
      'sh',
    ]
    await startArgv([...argv, '0']).ended
    const before = descriptors()
    for (let round = 0; round < 20; round++) {
      const ends = await Promise.all(
        Array.from({ length: 10 }, (_, index) => startArgv([...argv, String(index % 2)]).ended),
      )
      expect(ends.filter(({ signal }) => signal === 'SIGKILL')).toHaveLength(5)
    }
    const missing = await startArgv([join(directory, 'missing')]).ended
    expect(missing.told).toBe('nothing')
    // a pipe is closed a turn behind the end of its process
    await until(() => descriptors() === before, `${before} descriptors are open`)
    for (const { pid } of started) expect(pid === null || !isRunning(pid)).toBe(true)
  })
})
