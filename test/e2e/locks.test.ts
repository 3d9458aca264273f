// Two real runs that want the same disk: the second one is refused and told who has it, or waits; kill -9 of the holder
// frees it; who only reads is let in beside who reads; the lanes of a run are one holder, and so are its two ends.

import { link, readFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import { resultOf, type Running, runCli, startCli } from '../support/cli.js'
import { randomBytes, type Scratch, useScratch } from '../support/disks.js'
import { directions, servesOf, useFarSides, type Way, ways } from '../support/far-sides.js'
import { needs } from '../support/needs.js'
import { descendantsOf, isRunning, until } from '../support/processes.js'

const MIB = 1 << 20
/** A run that would take far longer than any test. */
const SLOW = ['--bwlimit', '256K']

const scratch = useScratch()
const far = useFarSides()
let made = 0

const image = (on: Scratch): Promise<string> => on.randomFile(`disk-${made++}.img`, 4 * MIB)

/** Starts a run that holds its disks: it has begun to write. */
async function holding(on: Scratch, words: readonly string[]): Promise<Running> {
  const running = startCli(on, [...words, ...SLOW, '--json', '--progress'])
  await running.said(/"event":"progress"/)
  return running
}

async function kill(running: Running): Promise<void> {
  const pids = [...descendantsOf(running.pid), ...servePids()]
  running.child.kill('SIGKILL')
  await running.ended
  await until(() => !pids.some(isRunning), 'it is gone, with all that it started')
}

const servePids = (): number[] => (ways('openssh').length > 0 ? far.servePids() : [])

describe.each(ways('local', 'openssh'))('over %s', (way: Way) => {
  const words = (): readonly string[] => far.words(way)
  const there = (path: string): string => far.path(way, path)

  it('a second run is refused, by name; nothing is written; after kill -9 of the first one it runs', async () => {
    const on = scratch()
    const [from, other, to] = [await image(on), await image(on), await image(on)]
    const first = await holding(on, [from, there(to), ...words()])
    const holder = (way === 'local' ? servesOf(first.pid) : far.servePids())[0]
    for (const more of [[], ['--native', 'off']]) {
      const refused = await runCli(on, ['--json', other, there(to), ...words(), ...more])
      expect(refused.status).toBe(3)
      expect(resultOf(refused)).toMatchObject({ ok: false, state: 'not-started' })
      expect(resultOf(refused).error).toMatchObject({ code: 'guard/locked', operand: there(to) })
      expect(resultOf(refused).error?.message).toContain(
        `is locked by blocksync (pid ${holder}: blocksync serve`,
      )
    }
    // what is written by one run is not read by another, nor is what is read written
    for (const operands of [
      [to, there(other)],
      [other, there(from)],
    ]) {
      const refused = await runCli(on, ['--json', ...operands, ...words()])
      expect(resultOf(refused).error?.code).toBe('guard/locked')
    }
    expect((await runCli(on, ['verify', '-q', other, there(to), ...words()])).status).toBe(3)
    // who reads is no obstacle to who reads
    expect((await runCli(on, ['verify', '-q', from, there(from), ...words()])).status).toBe(3) // one disk
    expect((await runCli(on, ['-q', from, there(other), ...words()])).status).toBe(0)
    await kill(first)
    expect((await runCli(on, ['-q', from, there(to), ...words()])).status).toBe(0)
    expect((await readFile(to)).equals(await readFile(from))).toBe(true)
  })

  it('--lock-wait waits for the end of the other run, says for whom, and then begins', async () => {
    const on = scratch()
    const [from, other, to] = [await image(on), await image(on), await image(on)]
    const first = await holding(on, [from, there(to), ...words()])
    const second = startCli(on, ['--json', other, there(to), '--lock-wait', '60', ...words()])
    await second.said(/waiting up to 60 s: the destination \S+ is locked by blocksync \(pid \d+/)
    const third = startCli(on, ['--json', '-q', other, there(to), '--lock-wait', '1s', ...words()])
    const ended = await third.ended
    expect(ended.status).toBe(3)
    expect(resultOf(ended).error?.message).toMatch(/, still after 1 s; nothing was written$/)
    await kill(first)
    expect((await second.ended).status).toBe(0)
    expect((await readFile(to)).equals(await readFile(other))).toBe(true)
  })

  it('a source that is written is waited for, too', async () => {
    const on = scratch()
    const [from, source, to] = [await image(on), await image(on), await image(on)]
    const first = await holding(on, [from, there(source), ...words()])
    const second = startCli(on, ['--json', source, there(to), '--lock-wait', '1m', ...words()])
    await second.said(/waiting up to 60 s: the source \S+ is locked/)
    await kill(first)
    expect((await second.ended).status).toBe(0)
    expect((await readFile(to)).equals(await readFile(source))).toBe(true)
  })

  it('an interrupt ends the wait at once, and nothing waits any more', async () => {
    const on = scratch()
    const [from, other, to] = [await image(on), await image(on), await image(on)]
    const first = await holding(on, [from, there(to), ...words()])
    const own = new Set([...descendantsOf(first.pid), ...servePids()])
    const second = startCli(on, ['--json', other, there(to), '--lock-wait', '10m', ...words()])
    await second.said(/waiting up to 600 s/)
    const started = (): number[] =>
      [...descendantsOf(second.pid), ...servePids()].filter((pid) => !own.has(pid))
    await until(
      () => started().some((pid) => descendantsOf(pid).length > 0) || way === 'local',
      'it waits there',
    )
    const pids = started()
    const startMs = performance.now()
    second.child.kill('SIGINT')
    expect((await second.ended).status).toBe(130)
    expect(performance.now() - startMs).toBeLessThan(5000)
    await until(() => !pids.some(isRunning), 'nothing is left of it')
    await kill(first)
  })

  it('runs that want each other’s disks both come to their end', async () => {
    const on = scratch()
    const [one, two] = [await image(on), await image(on)]
    const force = ['--force-direction', '--lock-wait', '50']
    const runs = [
      startCli(on, ['--json', '--bwlimit', '4M', one, there(two), ...force, ...words()]),
      startCli(on, ['--json', '--bwlimit', '4M', two, there(one), ...force, ...words()]),
    ]
    const ended = await Promise.all(runs.map((run) => run.ended))
    expect(ended.map(({ status, stderr }) => [status, status === 0 ? '' : stderr])).toEqual([
      [0, ''],
      [0, ''],
    ])
    expect((await readFile(one)).equals(await readFile(two))).toBe(true)
  })

  it.each(directions(way))(
    'two names of one disk are one disk, not a stranger’s lock (%s)',
    async (direction) => {
      const on = scratch()
      const path = await image(on)
      const name = on.path(`link-${made++}`)
      await link(path, name)
      const operands = direction === 'push' ? [path, there(name)] : [there(path), name]
      for (const more of [[], ['--native', 'off']]) {
        const refused = await runCli(on, ['--json', ...operands, ...words(), ...more])
        expect(resultOf(refused).error?.code).toBe('guard/same-disk')
      }
      // also across the pairs of a run
      const [other, third] = [await image(on), await image(on)]
      const pairs = ['--disk', `${other}=${there(path)}`, '--disk', `${name}=${there(third)}`]
      const refused = await runCli(on, ['--json', ...pairs, ...words()])
      expect(resultOf(refused).error?.code).toBe('guard/same-disk')
    },
  )

  it('several lanes of a run are one holder', async () => {
    const on = scratch()
    const sizeBytes = 160 * MIB
    const from = await on.sparseFile(`wide-${made++}.img`, sizeBytes, [
      { offset: 0, data: randomBytes(4 * MIB) },
      { offset: 150 * MIB, data: randomBytes(MIB) },
    ])
    const to = await on.sparseFile(`wide-${made++}.img`, sizeBytes)
    const ended = await runCli(on, [
      '--json',
      '--streams',
      '3',
      '--bwlimit',
      '1M',
      from,
      there(to),
      ...words(),
    ])
    expect({ status: ended.status, stderr: ended.stderr }).toMatchObject({ status: 0 })
    expect(resultOf(ended).lanes).toBeGreaterThan(1)
  })

  it('a device is locked before its claim and its users are looked at', needs('loop'), async () => {
    const on = scratch()
    const [from, other] = [await image(on), await image(on)]
    const to = await on.loopDevice(await on.sparseFile(`backing-${made++}.img`, 4 * MIB))
    const first = await holding(on, [from, there(to), ...words()])
    const refused = await runCli(on, ['--json', other, there(to), ...words()])
    expect(resultOf(refused).error?.code).toBe('guard/locked')
    const second = startCli(on, ['--json', other, there(to), '--lock-wait', '60', '--yes', ...words()])
    await second.said(/waiting up to/)
    await kill(first)
    const ended = await second.ended
    expect({ status: ended.status, stderr: ended.status === 0 ? '' : ended.stderr }).toEqual({
      status: 0,
      stderr: '',
    })
  })
})
