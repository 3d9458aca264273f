// What is held of each job between its attempts: real files and descriptors, and real processes that leave them and are given them.

import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import type { Job } from '../../src/config/config.js'
import { Attempts } from '../../src/daemon/attempts.js'
import { Bases, type FreeBlocks, isTrackable } from '../../src/daemon/bases.js'
import { Budget } from '../../src/daemon/budget.js'
import type { TrackedDisk } from '../../src/replicate/events.js'
import { newJobState } from '../../src/replicate/state-file.js'
import { isRunning, until } from '../support/processes.js'
import { turns } from '../support/turns.js'
import { job } from './world.js'

const FAKE = join(import.meta.dirname, 'fixtures', 'attempt.js')
const MANY = 50

let directory: string
let lines: string[]
/** A descriptor that nobody closed is closed when memory is collected, with such a line. */
let forgotten: string[]
let nowMs: number
let bases: Bases

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'blocksync-bases-'))
  lines = []
  forgotten = []
  process.on('warning', onWarning)
  nowMs = 0
  bases = open()
})

afterEach(async () => {
  await bases.dropAll()
  process.removeListener('warning', onWarning)
  rmSync(directory, { recursive: true, force: true })
})

function onWarning({ message }: Error): void {
  if (/garbage collection/.test(message)) forgotten.push(message)
}

function open(statfs?: (path: string) => Promise<FreeBlocks>): Bases {
  return new Bases({
    log: (level, name, message) => lines.push(`${level} ${name ?? '-'}: ${message}`),
    steadyMs: () => nowMs,
    ...(statfs === undefined ? {} : { statfs }),
  })
}

function operand(path: string, host: string | null = null): Job['disks'][number]['source'] {
  const at =
    host === null
      ? ({ kind: 'local' } as const)
      : ({ kind: 'remote', host, user: null, port: null, typed: host } as const)
  return { at, path, typed: host === null ? path : `${host}:${path}` }
}

/** A job with that many disks, which are files of the directory. */
function tracked(name: string, disks = 1, change: Partial<Job> = {}): Job {
  const pairs = Array.from({ length: disks }, (_, index) => {
    const path = join(directory, `${name}-${index}.img`)
    if (!existsSync(path)) writeFileSync(path, `image ${index}`)
    return { source: operand(path), destination: operand(path, 'kvm2') }
  })
  return job(name, { disks: pairs, snapshot: { kind: 'reflink' }, ...change })
}

/** Files as an attempt leaves them. */
function leave(name: string, withLeaves: 'leaves' | 'none' = 'leaves', index = 0): TrackedDisk {
  const clone = join(directory, `.clone-${name}-${index}`)
  const leaves = join(directory, `.leaves-${name}-${index}`)
  writeFileSync(clone, `clone ${name}`)
  if (withLeaves === 'leaves') writeFileSync(leaves, `leaves ${name}`)
  return { clone, leaves: withLeaves === 'leaves' ? leaves : null }
}

/** The files of the directory that this process has open, by their names of before. */
function held(): string[] {
  const found: string[] = []
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const path = readlinkSync(`/proc/self/fd/${fd}`)
      if (path.startsWith(`${directory}/.`)) found.push(path.slice(directory.length + 1))
    } catch {
      // the descriptor that the listing itself had
    }
  }
  return found.toSorted()
}

async function heldBecome(wanted: readonly string[]): Promise<void> {
  await until(() => JSON.stringify(held()) === JSON.stringify(wanted), `${wanted.join()} are held`)
  expect(forgotten).toEqual([])
}

function given(of: Job): { clone: string; leaves: string }[] {
  const text = bases.environmentFor(of)?.['BLOCKSYNC_BASE'] ?? '{"disks":[]}'
  return (JSON.parse(text) as { disks: { clone: string; leaves: string }[] }).disks
}

function view(of: Job, change: Partial<ReturnType<typeof newJobState>> = {}) {
  return { job: of, state: { ...newJobState(of.name), ...change } }
}

const GONE = ' (deleted)'

describe('a job that may read only what changed', () => {
  it('is one with clones of images of this host, where nobody said no', () => {
    const image = tracked('a')
    const [disk] = image.disks
    const far = [{ source: operand('/a', 'kvm1'), destination: operand('/b') }]
    expect(isTrackable(image)).toBe(true)
    expect(isTrackable(tracked('a', 3))).toBe(true)
    expect(isTrackable({ ...image, track: 'off' })).toBe(false)
    expect(isTrackable({ ...image, snapshot: { kind: 'none' } })).toBe(false)
    expect(isTrackable({ ...image, snapshot: { kind: 'lvm-thin' } })).toBe(false)
    expect(isTrackable({ ...image, disks: far })).toBe(false)
    expect(isTrackable({ ...image, disks: disk === undefined ? [] : [disk, ...far] })).toBe(false)
    expect(bases.environmentFor(image)).toEqual({ BLOCKSYNC_BASE: '{"disks":[]}' })
    expect(bases.environmentFor({ ...image, track: 'off' })).toBeNull()
  })
})

describe('what an attempt left', () => {
  it('is opened, has no name any more, and is given to the next one', async () => {
    const two = tracked('two', 2)
    await bases.adopt(two, [leave('two', 'leaves', 0), leave('two', 'leaves', 1)])
    const files = [0, 1].flatMap((index) => [`.clone-two-${index}${GONE}`, `.leaves-two-${index}${GONE}`])
    expect(held()).toEqual(files.toSorted())
    expect(readdirSync(directory).toSorted()).toEqual(['two-0.img', 'two-1.img'])
    const disks = given(two)
    expect(disks).toHaveLength(2)
    for (const { clone, leaves } of disks) {
      expect(clone).toMatch(new RegExp(`^/proc/${process.pid}/fd/\\d+$`))
      expect(readFileSync(clone, 'utf8')).toBe('clone two')
      writeFileSync(leaves, 'other leaves')
      expect(readFileSync(leaves, 'utf8')).toBe('other leaves')
    }
    expect(lines).toEqual([])
  })

  it('is for reading, its leaves for both, and neither is inherited', async () => {
    const one = tracked('one')
    await bases.adopt(one, [leave('one')])
    const [disk] = given(one)
    const flags = (path = ''): number => {
      const info = readFileSync(path.replace('/fd/', '/fdinfo/'), 'utf8')
      return Number.parseInt(/^flags:\s+(\d+)/m.exec(info)?.[1] ?? '', 8) & 3
    }
    expect([flags(disk?.clone), flags(disk?.leaves)]).toEqual([0, 2])
    const { stdout } = spawnSync('/bin/sh', ['-c', 'ls -l /proc/self/fd'], { encoding: 'utf8' })
    expect(stdout).toContain('/proc/')
    expect(stdout).not.toContain(directory)
  })

  it('takes the place of what was held, or goes on with its leaves', async () => {
    const one = tracked('one')
    await bases.adopt(one, [leave('one')])
    const [before] = given(one)
    await bases.adopt(one, [leave('one', 'none')])
    const [after] = given(one)
    expect(after?.leaves).toBe(before?.leaves)
    expect(readFileSync(after?.leaves ?? '', 'utf8')).toBe('leaves one')
    await heldBecome([`.clone-one-0${GONE}`, `.leaves-one-0${GONE}`])
    await bases.adopt(one, [leave('one')])
    await heldBecome([`.clone-one-0${GONE}`, `.leaves-one-0${GONE}`])
    expect(lines).toEqual([])
  })

  it('is not held where any of it is missing, and no name and no descriptor stays', async () => {
    const two = tracked('two', 2)
    await bases.adopt(two, [leave('two', 'leaves', 0), leave('two', 'leaves', 1)])
    const first = leave('two', 'leaves', 0)
    await bases.adopt(two, [
      first,
      { clone: join(directory, '.nothing'), leaves: leave('two', 'leaves', 1).leaves },
    ])
    expect(lines).toEqual([
      expect.stringMatching(/^warning two: its next attempt reads all of the source: ENOENT.*\.nothing/),
    ])
    await heldBecome([])
    expect(given(two)).toEqual([])
    // its clone was not told of
    expect(readdirSync(directory).filter((name) => name.startsWith('.'))).toEqual(['.clone-two-1'])
  })

  it('is not held where it is of another number of disks', async () => {
    const two = tracked('two', 2)
    await bases.adopt(two, [leave('two')])
    expect(lines).toEqual([
      'warning two: its next attempt reads all of the source: it told of 1 disks, and has 2',
    ])
    await heldBecome([])
    expect(readdirSync(directory).toSorted()).toEqual(['two-0.img', 'two-1.img'])
  })

  it('is not held, and nobody is warned, where its leaves were to go on and were given up meanwhile', async () => {
    const one = tracked('one')
    await bases.adopt(one, [leave('one')])
    bases.drop('one')
    await bases.adopt(one, [leave('one', 'none')])
    expect(lines).toEqual(['debug one: what was held for its next attempt was given up meanwhile'])
    await heldBecome([])
    expect(readdirSync(directory)).toEqual(['one-0.img'])
  })

  it('is left alone where it is a disk of the job, a link or no file', async () => {
    const one = tracked('one')
    const image = join(directory, 'one-0.img')
    const link = join(directory, '.link')
    symlinkSync(image, link)
    const pipe = join(directory, '.pipe')
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0)
    mkdirSync(join(directory, '.directory'))
    for (const clone of [image, link, pipe, join(directory, '.directory')]) {
      await bases.adopt(one, [{ ...leave('one'), clone }])
      expect(existsSync(clone)).toBe(true)
      expect(lines.pop()).toContain(`${clone} is none that an attempt makes, and was left alone`)
    }
    expect(readFileSync(image, 'utf8')).toBe('image 0')
    await heldBecome([])
    expect(existsSync(join(directory, '.leaves-one-0'))).toBe(false)
  })
})

describe('what is held', () => {
  it('is given up when the job is paused, turned, gone or another one, and not before', async () => {
    const one = tracked('one')
    const paused = { since: '2026-01-01T00:00:00.000Z', reason: null }
    const same = { ...one, place: { file: 'other.yaml', line: 7, column: 3 } }
    const reasons: Parameters<Bases['keepOnly']>[0][] = [
      [view(one, { paused })],
      [view(one, { direction: 'reversed' })],
      [],
      [view(tracked('other'))],
      [view({ ...one, track: 'off' })],
      [view({ ...one, keep: { ...one.keep, daily: 7 } })],
    ]
    for (const views of reasons) {
      await bases.adopt(one, [leave('one')])
      bases.keepOnly([view(tracked('other')), view(same)])
      expect(given(same)).toHaveLength(1)
      bases.keepOnly(views)
      expect(given(one)).toEqual([])
      await heldBecome([])
    }
    expect(lines).toEqual([])
  })

  it('is not given to a job that has changed', async () => {
    const one = tracked('one')
    await bases.adopt(one, [leave('one')])
    expect(given({ ...one, windows: [{ days: [1], fromMinute: 0, toMinute: 0 }] })).toEqual([])
    await heldBecome([])
  })

  it('is given up where there is less room than the clones are long, which is said once', async () => {
    const asked: string[] = []
    let bavail = 2
    bases = open(async (path) => {
      asked.push(readlinkSync(path))
      return { bavail, bsize: 4096 }
    })
    const two = tracked('two', 2)
    const adopt = async (): Promise<void> => {
      const disks = [leave('two', 'leaves', 0), leave('two', 'leaves', 1)]
      for (const { clone } of disks) truncateSync(clone, 4096)
      await bases.adopt(two, disks)
    }
    await adopt()
    expect(asked).toEqual([join(directory, `.clone-two-0${GONE}`)])
    expect(given(two)).toHaveLength(2)
    bavail = 1
    bases.lookForRoom()
    await heldBecome([])
    // not so often, also where many attempts begin and end
    bavail = 2
    await adopt()
    bavail = 1
    nowMs += 29_000
    bases.lookForRoom()
    bases.lookForRoom()
    expect(asked).toHaveLength(3)
    expect(given(two)).toHaveLength(2)
    nowMs += 1_000
    bases.lookForRoom()
    await heldBecome([])
    const why = 'the clones are 8192 bytes long, and 4096 are free on their file system'
    const line = `info two: nothing is held for its next attempt, which reads all of the source: ${why}`
    // there was room in between
    expect(lines).toEqual([line, line])
    await adopt()
    await adopt()
    expect(lines).toEqual([line, line])
    expect(given(two)).toEqual([])
    expect(readdirSync(directory).toSorted()).toEqual(['two-0.img', 'two-1.img'])
  })

  it('stays where what was short of room is another one by now', async () => {
    const answers: ((free: FreeBlocks) => void)[] = []
    bases = open(async () => await new Promise((resolve) => answers.push(resolve)))
    const one = tracked('one')
    const adopt = async (): Promise<void> => {
      const count = answers.length
      const adopted = bases.adopt(one, [leave('one')])
      await until(() => answers.length > count, 'the room is asked for')
      answers.at(-1)?.({ bavail: 1, bsize: 4096 })
      await adopted
    }
    await adopt()
    bases.lookForRoom()
    await until(() => answers.length === 2, 'the room is asked for')
    await adopt()
    answers[1]?.({ bavail: 0, bsize: 4096 })
    await turns(10)
    expect(given(one)).toHaveLength(1)
    expect(lines).toEqual([])
  })

  it('is given up where the room is not known', async () => {
    bases = open(() => Promise.reject(Object.assign(new Error('no'), { code: 'EIO' })))
    await bases.adopt(tracked('one'), [leave('one')])
    expect(lines).toEqual([expect.stringContaining('is not known (EIO)')])
    await heldBecome([])
  })

  it('is closed when all has come to its end, and nothing is taken over behind that', async () => {
    const jobs = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => tracked(name))
    for (const one of jobs) await bases.adopt(one, [leave(one.name)])
    expect(held()).toHaveLength(12)
    await bases.dropAll()
    expect(held()).toEqual([])
    await bases.adopt(tracked('a'), [leave('a')])
    await heldBecome([])
    expect(existsSync(join(directory, '.clone-a-0'))).toBe(false)
    expect(bases.environmentFor(tracked('a'))).toBeNull()
  })
})

describe('attempts as processes', () => {
  function attempts(): Attempts {
    return new Attempts({
      program: [process.execPath, FAKE],
      environment: { PATH: process.env['PATH'] },
      stateDir: directory,
      configFiles: () => [],
      bwlimitText: () => '0',
      budget: new Budget(
        null,
        () => Promise.resolve(true),
        () => undefined,
      ),
      bases,
      log: (level, name, message) => lines.push(`${level} ${name ?? '-'}: ${message}`),
      steadyMs: () => performance.now(),
    })
  }

  type Begun = Readonly<{ command: string; base: string | null; pid: number }>
  type Read = Readonly<{ read: string; digests: string }>

  function told<T>(name: string): T[] {
    const text = readFileSync(join(directory, name), 'utf8')
    return text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as T)
  }

  it('are given what the one before left, and a drill is not', async () => {
    const one = tracked('tracks-1')
    const all = attempts()
    await all.work(one, 'attempt')
    await all.work(one, 'drill')
    await all.work(one, 'attempt')
    await all.work(one, 'attempt')
    await all.work({ ...one, track: 'off' }, 'attempt')
    const begun = told<Begun>('started')
    const [first, , third] = begun.map(({ pid }) => pid)
    expect(begun.map(({ command, base }) => [command, base === null ? null : base.length > 20])).toEqual([
      ['run', false],
      ['drill', null],
      ['run', true],
      ['run', true],
      ['run', null],
    ])
    expect(told<Read>('given')).toEqual([
      { job: 'tracks-1', read: `clone of ${first}`, digests: `leaves of ${first}` },
      { job: 'tracks-1', read: `clone of ${third}`, digests: `leaves of ${first} ${third}` },
    ])
  })

  it('leave it to the next one where they did not end well', async () => {
    const all = attempts()
    const [well, spoils, vanishes] = ['tracks-1', 'spoils-1', 'vanishes-1'].map((name) => tracked(name))
    if (well === undefined || spoils === undefined || vanishes === undefined) throw new Error('no jobs')
    await all.work(well, 'attempt')
    const before = held()
    expect(await all.work(spoils, 'attempt')).toMatchObject({ told: 'result', ok: false })
    expect(await all.work(vanishes, 'attempt')).toMatchObject({ told: 'nothing', signal: 'SIGKILL' })
    expect(held()).toEqual(before)
    expect([given(spoils), given(vanishes)]).toEqual([[], []])
    // what has a name is the next attempt's to remove
    const names = readdirSync(directory).filter((name) => /^\.(clone|leaves)-/.test(name))
    expect(names.map((name) => name.replace(/-\d+$/, '-')).toSorted()).toEqual([
      '.clone-spoils-1-',
      '.clone-vanishes-1-',
      '.leaves-spoils-',
      '.leaves-vanishes-',
    ])
  })

  it('leave two descriptors, however many there were', async () => {
    const one = tracked('tracks-1')
    const all = attempts()
    for (let count = 0; count < MANY; count++) await all.work(one, 'attempt')
    expect(told<Read>('given')).toHaveLength(MANY - 1)
    await until(() => held().length === 2, `two are held, and not ${held().join()}`)
    expect(forgotten).toEqual([])
    const last = told<Begun>('started').at(-1)?.pid ?? 0
    expect(isRunning(last)).toBe(false)
    expect(held()).toEqual([`.clone-tracks-1-${last}${GONE}`, `.leaves-tracks-1${GONE}`])
    expect(readdirSync(directory).filter((name) => /^\.(clone|leaves)-/.test(name))).toEqual([])
    expect(lines.filter((line) => /^(warning|error)/.test(line))).toEqual([])
    await bases.dropAll()
    expect(held()).toEqual([])
  })
})
