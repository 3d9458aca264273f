// Disks of a host and the steps back of them, for every way to have a host: listed, taken back, given up, read and written out.
// Locks too. What is refused is refused before a byte is written.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { open, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { beforeEach, describe, expect, it } from 'vitest'

import type { SyncError } from '../../src/errors.js'
import { performOperation, takeAnswer, takeValue } from '../../src/host/agent-protocol.js'
import type { Host } from '../../src/host/host.js'
import { randomBytes, run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { until } from '../support/processes.js'
import { refusal } from '../support/refusal.js'
import { selected } from '../support/selection.js'
import { contentOf, LEAF_BYTES, runOver } from './runs.js'
import { HOST_WAYS, useHosts } from './ways.js'

const MIB = 1 << 20
const SIZE_BYTES = 8 * MIB
const GEOMETRY = { blockBytes: MIB, leafBytes: 4096 } as const
const SEED = '00112233445566778899aabbccddeeff'

/** So much that no machine reads it while a test goes on. */
const LARGE_BYTES = 2 ** 40

const scratch = useScratch()
const hosts = useHosts()
let number = 0

/** How many wait for a lock of the file, by the kernel's own list (proc_locks(5)): a line with an arrow for each. */
function waitersFor(path: string): number {
  const { ino } = statSync(path)
  const lines = readFileSync('/proc/locks', 'utf8').split('\n')
  return lines.filter((line) => line.includes('->') && line.includes(`:${ino} `)).length
}

/** Both kinds of ssh carry the same bytes to the same agent. */
const WAYS = selected(HOST_WAYS, (way) => way === 'child' || way.startsWith('in process'))

describe.each(WAYS)('a host and its disks (%s)', (way) => {
  const describeWhole = way.endsWith('no core') ? (): void => undefined : describe
  let host: Host
  let stateDir: string
  let disk: string
  beforeEach(async () => {
    number += 1
    stateDir = scratch().path(`disk-state-${number}`)
    disk = scratch().path(`disk-${number}.img`)
    host = await hosts.open(way, stateDir)
  })

  /** Five runs; the groups, and what the disk held before each of them and at the end. */
  async function chain(): Promise<{ groups: string[]; states: string[] }> {
    await writeFile(disk, randomBytes(SIZE_BYTES))
    const groups: string[] = []
    const states = [await contentOf(disk)]
    for (let step = 0; step < 5; step++) {
      const group = await runOver({
        path: disk,
        stateDir,
        changes: [
          { offset: step * MIB, bytes: randomBytes(2 * MIB) },
          { offset: (6 - step) * MIB, zeros: MIB / 2 },
          { offset: SIZE_BYTES - LEAF_BYTES, bytes: randomBytes(LEAF_BYTES) },
        ],
      })
      groups.push(group ?? '')
      states.push(await contentOf(disk))
    }
    return { groups, states }
  }

  const names = async (): Promise<string[]> => (await host.undoSteps(disk)).map(({ group }) => group)

  describe('steps back', () => {
    it('are listed, the oldest first, and are taken back to each of them', async () => {
      expect(await host.undoSteps(disk)).toEqual([])
      const { groups, states } = await chain()
      const steps = await host.undoSteps(disk)
      expect(steps.map(({ group, state }) => [group, state])).toEqual(
        groups.map((group) => [group, 'finished']),
      )
      expect(steps.every(({ bytes }) => bytes > 2 * MIB && bytes < 3 * MIB)).toBe(true)
      expect(steps.every(({ startedAt }) => /^\d{4}-\d\d-\d\dT/.test(startedAt))).toBe(true)
      expect(await host.undoBack(disk, groups[4] ?? '')).toMatchObject({ steps: 0 })
      expect(await contentOf(disk)).toBe(states[5])
      const one = await host.undoBack(disk, groups[3] ?? '')
      expect(one.steps).toBe(1)
      expect(one.restoredBytes).toBeGreaterThan(2 * MIB)
      expect(await contentOf(disk)).toBe(states[4])
      expect((await host.undoBack(disk, groups[1] ?? '')).steps).toBe(2)
      expect(await contentOf(disk)).toBe(states[2])
      expect(await names()).toEqual(groups.slice(0, 2))
      expect((await host.undoBack(disk, null)).steps).toBe(2)
      expect(await contentOf(disk)).toBe(states[0])
      expect(await host.undoSteps(disk)).toEqual([])
      expect(await host.undoBack(disk, null)).toEqual({ steps: 0, restoredBytes: 0, zeroedBytes: 0 })
    })

    it('go through a run that did not finish, and one whose undoing did not', async () => {
      const { groups, states } = await chain()
      const open = await runOver({
        path: disk,
        stateDir,
        changes: [{ offset: 0, bytes: randomBytes(MIB) }],
        end: 'stopped',
      })
      expect((await host.undoSteps(disk)).at(-1)).toMatchObject({ group: open, state: 'open' })
      expect((await host.undoBack(disk, groups[4] ?? '')).steps).toBe(1)
      expect(await contentOf(disk)).toBe(states[5])
      // as undoing leaves it that was stopped at once: nobody knows what was written
      const [at] = (await run('sh', '-c', `grep -l ${groups[4]} ${stateDir}/undo/*/g*/group.json`)).split(
        '\n',
      )
      const text = await readFile(at ?? '', 'utf8')
      await writeFile(at ?? '', text.replace('"state": "finished"', '"state": "undoing"'))
      expect((await host.undoSteps(disk)).at(-1)).toMatchObject({ state: 'undoing' })
      expect((await host.undoBack(disk, groups[3] ?? '')).steps).toBe(1)
      expect(await contentOf(disk)).toBe(states[4])
    })
  })

  it('waits for a run that was cut off and still has the disk', needs('flock'), async () => {
    const { groups, states } = await chain()
    const holder = spawn('flock', ['--exclusive', disk, 'sh', '-c', 'echo has it; read end'], {
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    const ended = once(holder, 'exit')
    try {
      await once(holder.stdout, 'data')
      let isDone = false
      const undoing = host.undoBack(disk, groups[3] ?? '').finally(() => (isDone = true))
      undoing.catch(() => undefined) // told below, where it is waited for
      // it waits in a program of its own, or has been told so: a flock for the lock of the disk
      await until(() => waitersFor(disk) > 0, 'somebody waits for the disk')
      expect([isDone, await contentOf(disk)]).toEqual([false, states[5]])
      holder.stdin.end()
      expect((await undoing).steps).toBe(1)
      expect(await contentOf(disk)).toBe(states[4])
    } finally {
      holder.kill('SIGKILL')
      await ended
    }
  })

  describeWhole('what is refused of steps back', () => {
    it('is a step that is not there, and a way with a gap', async () => {
      const { groups, states } = await chain()
      const unknown = await refusal(host.undoBack(disk, 'f'.repeat(32)))
      expect([unknown.code, unknown.operand]).toEqual(['undo/missing', disk])
      await runOver({ path: disk, stateDir, changes: [], keep: 'none' })
      expect((await host.undoSteps(disk)).every(({ state }) => state === 'void')).toBe(true)
      const gap = await refusal(host.undoBack(disk, groups[1] ?? ''))
      expect([gap.code, gap.message]).toEqual([
        'undo/missing',
        expect.stringContaining('nothing was written'),
      ])
      expect(await contentOf(disk)).toBe(states[5])
    })

    it('is damage, in whichever of them: nothing is written', async () => {
      const { groups, states } = await chain()
      const [at] = (await run('sh', '-c', `grep -l ${groups[2]} ${stateDir}/undo/*/g*/group.json`)).split(
        '\n',
      )
      const [file] = (await run('sh', '-c', `ls ${(at ?? '').replace(/group\.json$/, '')}*.undo`)).split('\n')
      await using handle = await open(file ?? '', 'r+')
      await handle.write(Buffer.from('damage'), 0, 6, MIB)
      const damaged = await refusal(host.undoBack(disk, groups[0] ?? ''))
      expect([damaged.code, damaged.exitStatus]).toEqual(['undo/broken', 7])
      expect(await contentOf(disk)).toBe(states[5])
      expect(await names()).toEqual(groups)
      expect((await host.undoBack(disk, groups[2] ?? '')).steps).toBe(2)
      expect(await contentOf(disk)).toBe(states[3])
    })

    it('is a disk that somebody has open for writing', async () => {
      const { groups, states } = await chain()
      const holder = scratch().start('sh', '-c', `exec 9<>${disk}; echo held; exec sleep 60`)
      await new Promise((resolve) => holder.stdout?.once('data', resolve))
      const held = await refusal(host.undoBack(disk, groups[0] ?? ''))
      expect([held.code, held.operand]).toEqual(['guard/open', disk])
      expect(await contentOf(disk)).toBe(states[5])
    })
  })

  describe('the way back', () => {
    it('is given up from the oldest on, and again is no error', async () => {
      const { groups, states } = await chain()
      await host.dropUndo(disk, groups[1] ?? '')
      expect(await names()).toEqual(groups.slice(2))
      await host.dropUndo(disk, groups[1] ?? '')
      expect(await names()).toEqual(groups.slice(2))
      expect((await host.undoBack(disk, null)).steps).toBe(3)
      expect(await contentOf(disk)).toBe(states[2])
    })

    it('of a run that did not finish is not given up', async () => {
      const { groups } = await chain()
      const open = await runOver({
        path: disk,
        stateDir,
        changes: [{ offset: 0, bytes: randomBytes(MIB) }],
        end: 'stopped',
      })
      const refused = await refusal(host.dropUndo(disk, open ?? ''))
      expect(refused.code).toBe('replicate/refused')
      expect(await names()).toEqual([...groups, open])
    })

    it('is one step again behind a run that keeps one', async () => {
      await chain()
      const last = await runOver({
        path: disk,
        stateDir,
        changes: [{ offset: 0, bytes: randomBytes(MIB) }],
        keep: 'keep',
      })
      expect(await names()).toEqual([last])
    })
  })

  describe('a file', () => {
    it('that became longer is cut again, that was made is removed', async () => {
      const made = await runOver({
        path: disk,
        stateDir,
        sizeBytes: MIB,
        changes: [{ offset: 0, bytes: randomBytes(MIB) }],
      })
      const before = await contentOf(disk)
      const grown = await runOver({
        path: disk,
        stateDir,
        sizeBytes: 3 * MIB,
        changes: [{ offset: MIB / 2, bytes: randomBytes(2 * MIB) }],
      })
      const between = await contentOf(disk)
      await runOver({ path: disk, stateDir, changes: [{ offset: 2 * MIB, bytes: randomBytes(MIB / 4) }] })
      const copy = `${disk}.grown`
      const [, , newest] = await names()
      await host.writeOut({ from: disk, to: copy, lengthBytes: 3 * MIB, undo: [newest ?? ''] })
      expect(await contentOf(copy)).toBe(between)
      const short = `${disk}.short`
      await host.writeOut({ from: disk, to: short, lengthBytes: MIB, undo: [newest ?? '', grown ?? ''] })
      expect(await contentOf(short)).toBe(before)
      const none = {
        from: disk,
        to: `${disk}.none`,
        lengthBytes: MIB,
        undo: [newest, grown, made].map(String),
      }
      expect((await refusal(host.writeOut(none))).code).toBe('undo/missing')
      expect((await host.undoBack(disk, made)).steps).toBe(2)
      expect((await stat(disk)).size).toBe(MIB)
      expect(await contentOf(disk)).toBe(before)
      expect((await host.undoBack(disk, null)).steps).toBe(1)
      expect(await host.look(disk)).toBeNull()
    })
  })

  describe('an older state', () => {
    it('is written out as a new file, and the disk stays', async () => {
      const { groups, states } = await chain()
      for (let back = 0; back <= 5; back += 1) {
        const to = `${disk}.${back}`
        const undo = groups.slice(5 - back).toReversed()
        const { bytes } = await host.writeOut({ from: disk, to, lengthBytes: SIZE_BYTES, undo })
        expect(bytes).toBeGreaterThan(4 * MIB)
        expect(await contentOf(to), `${back} steps back`).toBe(states[5 - back])
      }
      expect(await contentOf(disk)).toBe(states[5])
      expect(await names()).toEqual(groups)
    })

    it('has holes where it is zero', async () => {
      await writeFile(disk, '')
      await truncate(disk, 64 * MIB)
      await runOver({ path: disk, stateDir, changes: [{ offset: 32 * MIB, bytes: randomBytes(MIB) }] })
      await runOver({ path: disk, stateDir, changes: [{ offset: MIB, bytes: randomBytes(MIB) }] })
      const to = `${disk}.sparse`
      const [, newest] = await names()
      const { bytes } = await host.writeOut({ from: disk, to, lengthBytes: 64 * MIB, undo: [newest ?? ''] })
      expect(bytes).toBe(2 * MIB)
      expect((await stat(to)).blocks * 512).toBeLessThan(3 * MIB)
      expect((await stat(to)).mode & 0o777).toBe(0o600)
    })

    it('goes to a block device that nobody uses, zeros too', needs('loop'), async () => {
      const { groups, states } = await chain()
      const device = await scratch().loopDevice(
        await scratch().file(`loop-${number}`, Buffer.alloc(16 * MIB, 0xaa)),
      )
      const undo = groups.slice(2).toReversed()
      await host.writeOut({ from: disk, to: device, lengthBytes: SIZE_BYTES, undo })
      const request = { algorithm: 'sha256', seed: SEED, ...GEOMETRY, lengthBytes: SIZE_BYTES }
      await host.undoBack(disk, groups[1] ?? '')
      expect(await contentOf(disk)).toBe(states[2])
      expect(await host.digest({ ...request, path: device })).toBe(
        await host.digest({ ...request, path: disk }),
      )
    })
  })

  describeWhole('what is refused of writing out', () => {
    it('is what is there, what is too short, groups that are not the newest: no file stays', async () => {
      const { groups } = await chain()
      const to = `${disk}.out`
      const request = { from: disk, to, lengthBytes: SIZE_BYTES, undo: [] as readonly string[] }
      const codeOf = async (change: object): Promise<string> =>
        (await refusal(host.writeOut({ ...request, ...change }))).code
      expect(await codeOf({ to: disk })).toBe('destination/open')
      expect(await codeOf({ lengthBytes: SIZE_BYTES + 1 })).toBe('guard/size')
      expect(await codeOf({ undo: [groups[3]] })).toBe('undo/mismatch')
      expect(await codeOf({ undo: [groups[3], groups[4]] })).toBe('undo/mismatch')
      expect(await codeOf({ undo: ['0'.repeat(32)] })).toBe('undo/missing')
      expect(await codeOf({ from: `${disk}.no` })).toBe('source/missing')
      expect(await codeOf({ to: `${disk}/x` })).toBe('destination/open')
      expect(await codeOf({ to: 'relative' })).toBe('host/file')
      expect(await host.look(to)).toBeNull()
    })

    it('is a file system without room: what it made is removed', needs('root'), async () => {
      await chain()
      const small = await scratch().mount(`small-${number}`, 'tmpfs', '-t', 'tmpfs', '-o', 'size=4m')
      const to = join(small, 'out.img')
      const full = await refusal(host.writeOut({ from: disk, to, lengthBytes: SIZE_BYTES, undo: [] }))
      expect(full.code).toBe('destination/no-space')
      expect(await host.look(to)).toBeNull()
    })
  })

  describe('a digest', () => {
    it('is the root of a run', async () => {
      await writeFile(disk, randomBytes(3 * MIB + 512))
      const request = { path: disk, seed: SEED, ...GEOMETRY, lengthBytes: 3 * MIB + 512 }
      for (const algorithm of ['sha256', 'xxh64x2'] as const) {
        const words = ['digest', '--digest', algorithm, '--seed', SEED, '--granularity', '4K', disk]
        const printed = await run('node', join(import.meta.dirname, '../../dist/cli/main.js'), ...words)
        expect(await host.digest({ ...request, algorithm })).toBe(printed.split(' ')[0])
      }
    })
  })

  describeWhole('what is refused of a digest', () => {
    it('is what no run could have had', async () => {
      await writeFile(disk, Buffer.alloc(MIB))
      const request = { path: disk, algorithm: 'sha256', seed: SEED, ...GEOMETRY, lengthBytes: MIB }
      const codeOf = async (change: object): Promise<string> =>
        (await refusal(host.digest({ ...request, ...change }))).code
      expect(await codeOf({ algorithm: 'md5' })).toBe('usage')
      expect(await codeOf({ seed: '00' })).toBe('usage')
      expect(await codeOf({ blockBytes: 2 ** 40 })).toBe('usage')
      expect(await codeOf({ leafBytes: 1 })).toBe('usage')
      expect(await codeOf({ lengthBytes: MIB + 1 })).toBe('guard/size')
      expect(await codeOf({ path: `${disk}.no` })).toBe('source/missing')
    })
  })

  describe('a lock', () => {
    it('keeps other sessions out, names who has it, and goes with the session', async () => {
      await host.takeLock('replica-web.0123abcd', 0)
      await host.takeLock('replica-web.0123abcd', 0)
      const other = await hosts.open('in process', stateDir)
      const busy = await refusal(other.takeLock('replica-web.0123abcd', 0))
      expect([busy.code, busy.exitStatus]).toEqual(['replicate/busy', 3])
      expect(busy.message).toMatch(/pid \d+/)
      await other.takeLock('another', 0)
      const waiting = other.takeLock('replica-web.0123abcd', 20_000)
      await host.close()
      await waiting
    })

    it('is inherited by programs, and is free when they have ended', async () => {
      await host.takeLock('job', 0)
      const [started, end] = ['started', 'end'].map((name) => scratch().path(`${name}-${number}`))
      const script = `echo here > ${started}; until [ -e ${end} ]; do sleep 0.05; done`
      const ended = Promise.allSettled([host.run({ argv: ['sh', '-c', script], timeoutMs: 50_000 })])
      await until(() => existsSync(started ?? ''), 'it runs')
      const closing = host.close()
      const other = await hosts.open('in process', stateDir)
      const busy = await refusal(other.takeLock('job', 0))
      expect(busy.code).toBe('replicate/busy')
      const waiting = other.takeLock('job', 20_000)
      await writeFile(end ?? '', '')
      await Promise.all([ended, closing, waiting])
    })

    it('has a plain name', async () => {
      for (const name of ['', '../x', 'a/b', '.hidden', 'x'.repeat(200)])
        expect((await refusal(host.takeLock(name, 0))).code).toBe('internal')
      expect(await host.look(join(stateDir, 'locks'))).toBeNull()
    })
  })
})

describe.each(['in process', 'child'] as const)(
  'work on disks of a session that ends (%s)',
  needs('loop'),
  (way) => {
    it('ends with it, and what it made is removed', async () => {
      number += 1
      // a device has no holes: all of it is read, which takes minutes
      const start = { offset: 0, data: randomBytes(MIB) }
      const from = await scratch().loopDevice(
        await scratch().sparseFile(`large-${number}.img`, LARGE_BYTES, [start]),
      )
      const host = await hosts.open(way, scratch().path(`ending-state-${number}`))
      const to = scratch().path(`large-${number}.out`)
      const work = host.writeOut({ from, to, lengthBytes: LARGE_BYTES, undo: [] })
      const ended = Promise.allSettled([work])
      await until(() => existsSync(to) && statSync(to).blocks > 0, 'something is written')
      await host.close()
      expect((await ended)[0]).toMatchObject({ status: 'rejected', reason: { code: 'host/lost' } })
      await until(() => !existsSync(to), 'it is removed')
    })
  },
)

describe('an agent of before', () => {
  it('without an address of its client is understood, and says what it cannot do', async () => {
    const facts = { ...(await (await hosts.open('in process', scratch().path('nowhere'))).facts()) }
    const { clientAddress, ...older } = facts
    expect(clientAddress).toBeNull()
    expect(takeValue('facts', older)).toEqual(facts)
    const answer = performOperation(await hosts.open('in process', scratch().path('nowhere')), {
      id: 1,
      op: 'undoEverything',
      args: [],
    })
    expect((await refusal(answer)).code).toBe('connect/capability')
  })

  it('tells errors of disks by their code', () => {
    for (const code of [
      'undo/broken',
      'guard/mounted',
      'destination/no-space',
      'source/read',
      'replicate/busy',
    ])
      expect(errorOf({ code, message: 'm', operand: null, hint: null }).code).toBe(code)
    for (const code of ['interrupt/sigint', 'host/lost', 'nonsense'])
      expect(errorOf({ code, message: 'm', operand: null, hint: null }).code).toBe('internal')
  })
})

function errorOf(error: object): SyncError {
  const answer = takeAnswer({ id: 1, error })
  if ('error' in answer) return answer.error
  throw new Error('it was no error')
}
