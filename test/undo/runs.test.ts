// The built program with --undo: what it overwrites comes back with `blocksync undo`, after runs that finished, runs whose
// processes were killed at random moments, undoing that was killed, over several lanes, in a pull, and without room.

import { constants } from 'node:fs'
import { copyFile, open, readFile, stat, truncate } from 'node:fs/promises'

import { beforeAll, describe, expect, it } from 'vitest'

import { type Ended, relay, type Result, resultOf, runCli, startCli, synced } from '../support/cli.js'
import { randomBytes, run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { childrenOf, isRunning, until } from '../support/processes.js'

const MIB = 1 << 20
const SIZE_BYTES = 24 * MIB
const KILLS = 20

type UndoResult = Result & { undo: { group: string; path: string; bytes: number } | null }

const scratch = useScratch()
let source = ''
let old = ''

beforeAll(async () => {
  source = await scratch().randomFile('source.img', SIZE_BYTES)
  old = scratch().path('old.img')
  await copyFile(source, old)
  const file = await open(old, constants.O_RDWR)
  // scattered leaves, a long run, and zeros where the source has data
  for (let at = 0; at < 8 * MIB; at += 60 * 4096) await file.write(randomBytes(4096), 0, 4096, at)
  await file.write(randomBytes(6 * MIB), 0, 6 * MIB, 10 * MIB)
  await file.write(Buffer.alloc(3 * MIB), 0, 3 * MIB, 18 * MIB)
  await file.close()
})

let disks = 0

/** A destination with the old content. */
async function destination(): Promise<string> {
  const path = scratch().path(`destination-${disks++}.img`)
  await copyFile(old, path)
  return path
}

async function equal(path: string, expected: string): Promise<void> {
  expect((await readFile(path)).equals(await readFile(expected)), `${path} is ${expected}`).toBe(true)
}

async function undo(path: string, words: readonly string[] = []): Promise<Ended> {
  return await runCli(scratch(), ['undo', '--yes', '--json', ...words, path])
}

describe('--undo', () => {
  it('leads back after a run that finished, and tells of it', async () => {
    const path = await destination()
    const { undo: kept } = (await synced(scratch(), ['--undo', source, path])) as UndoResult
    expect(kept?.bytes).toBeGreaterThan(6 * MIB)
    // zeros cost nothing
    expect(kept?.bytes).toBeLessThan(7.5 * MIB)
    await equal(path, source)
    const look = await runCli(scratch(), ['undo', '-n', path])
    expect(look.stdout).toMatch(/back to before the run of .*, which finished/)
    await equal(path, source)
    const done = await undo(path)
    expect(done.status, done.stderr).toBe(0)
    expect(resultOf(done)).toMatchObject({
      ok: true,
      command: 'undo',
      changed: true,
      removed: false,
      runs: 1,
    })
    await equal(path, old)
    expect((await undo(path)).status).toBe(3)
  })

  it('asks before it writes, and without a terminal wants --yes', async () => {
    const path = await destination()
    await synced(scratch(), ['--undo', source, path])
    const ended = await runCli(scratch(), ['undo', path])
    expect(ended.status).toBe(2)
    expect(ended.stderr).toMatch(/--yes/)
    await equal(path, source)
  })

  it('cuts a file that grew and removes one that was made', async () => {
    const grown = await destination()
    await truncate(grown, 20 * MIB)
    const before = scratch().path('short.img')
    await copyFile(grown, before)
    await synced(scratch(), ['--undo', '--size', 'grow', source, grown])
    await equal(grown, source)
    expect((await undo(grown)).status).toBe(0)
    await equal(grown, before)
    const made = scratch().path('made.img')
    await synced(scratch(), ['--undo', '--create', source, made])
    await equal(made, source)
    const done = await undo(made)
    expect(resultOf(done)).toMatchObject({ removed: true })
    await expect(stat(made)).rejects.toThrow('ENOENT')
  })

  it('a run without it gives the way back up, and says so', async () => {
    const path = await destination()
    await synced(scratch(), ['--undo', source, path])
    const file = await open(path, constants.O_RDWR)
    await file.write(randomBytes(4096), 0, 4096, 0)
    await file.close()
    const ended = await runCli(scratch(), [source, path])
    expect(ended.status, ended.stderr).toBe(0)
    expect(ended.stderr).toMatch(/has an undo journal; this run keeps none/)
    const missing = await undo(path)
    expect(missing.status).toBe(3)
    expect(resultOf(missing).error).toMatchObject({ code: 'undo/missing' })
    await equal(path, source)
  })

  it('keeps a pull as it keeps a push', async () => {
    const path = await destination()
    const { words } = await relay(scratch(), null)
    const { undo: kept } = (await synced(scratch(), [
      '--undo',
      ...words,
      `far:${source}`,
      path,
    ])) as UndoResult
    expect(kept?.bytes).toBeGreaterThan(6 * MIB)
    await equal(path, source)
    expect((await undo(path)).status).toBe(0)
    await equal(path, old)
  })

  it('keeps what several lanes overwrite in one journal', async () => {
    const on = scratch()
    const sizeBytes = 3 * 64 * MIB + 777
    const [large, path, before] = [
      await on.randomFile('large.img', sizeBytes),
      await on.randomFile('large-old.img', sizeBytes),
      on.path('large-before.img'),
    ]
    await copyFile(path, before)
    const words = ['--undo', '--streams', '3', '--bwlimit', '100M']
    const result = (await synced(on, [...words, large, path])) as UndoResult & { lanes: number }
    expect(result.lanes).toBeGreaterThan(1)
    expect(result.undo?.bytes).toBeGreaterThan(sizeBytes)
    await equal(path, large)
    const done = await undo(path)
    expect(done.status, done.stderr).toBe(0)
    await equal(path, before)
  })
})

describe('killed', () => {
  it(`with SIGKILL at ${KILLS} random moments, it leads back to the old content`, async () => {
    let kills = 0
    let undone = 0
    for (let turn = 0; turn < KILLS; turn++) {
      const path = await destination()
      const words = ['--json', '--progress', '--undo', '--bwlimit', '10M', source, path]
      const running = startCli(scratch(), words)
      await until(() => childrenOf(running.pid).length > 0, 'the far end is there')
      const [serve = -1] = childrenOf(running.pid)
      // of four, one while it begins and three while it writes, however long it takes to begin
      if (turn % 4 !== 0) await running.said(/"sentBytes":[1-9]/)
      await new Promise((resolve) => setTimeout(resolve, (turn * 97) % 500))
      if (isRunning(serve)) {
        // the far end, the near end, or both
        if (turn % 3 !== 1) process.kill(serve, 'SIGKILL')
        if (turn % 3 !== 0) running.child.kill('SIGKILL')
        kills += 1
      }
      await running.ended
      await until(() => !isRunning(serve), 'the far end is gone')
      const done = await undo(path)
      // killed before it had begun anything
      if (done.status !== 0) expect(resultOf(done).error).toMatchObject({ code: 'undo/missing' })
      else if (done.stdout.includes('"changed":true')) undone += 1
      await equal(path, old)
    }
    expect(kills).toBeGreaterThan(KILLS / 2)
    expect(undone).toBeGreaterThan(2)
  }, 120_000)

  it('goes on with the same way back when it is run again, and undoing goes on too', async () => {
    const path = await destination()
    const words = ['--json', '--progress', '--undo', '--bwlimit', '8M', source, path]
    const running = startCli(scratch(), words)
    await running.said(/"sentBytes":[1-9]/)
    const [serve = -1] = childrenOf(running.pid)
    process.kill(serve, 'SIGKILL')
    expect((await running.ended).status).toBe(8)
    await synced(scratch(), ['--undo', source, path])
    await equal(path, source)
    const undoing = startCli(scratch(), ['undo', '--yes', path])
    await new Promise((resolve) => setTimeout(resolve, 250))
    undoing.child.kill('SIGKILL')
    await undoing.ended
    const done = await undo(path)
    expect([0, 3]).toContain(done.status)
    await equal(path, old)
  })
})

describe('where there is no room for the journal', needs('root'), () => {
  it('says so before anything is written, or stops with 6 and leads back', async () => {
    const on = scratch()
    const small = await on.mount('small', 'tmpfs', '-t', 'tmpfs', '-o', 'size=40M,mode=700')
    const path = await destination()
    const words = ['--json', '--undo', '--state-dir', small, source, path]
    await run('fallocate', '-l', `${10 * MIB}`, `${small}/other`)
    const refused = await runCli(on, words)
    expect(refused.status, refused.stderr).toBe(6)
    expect(resultOf(refused).error).toMatchObject({ code: 'destination/undo-space' })
    await equal(path, old)
    await run('rm', `${small}/other`)
    const full = await runCli(on, [...words, '--undo-max', '4M'])
    expect(full.status, full.stderr).toBe(6)
    expect(resultOf(full).error).toMatchObject({ code: 'destination/undo-space' })
    const done = await undo(path, ['--state-dir', small])
    expect(done.status, done.stderr).toBe(0)
    await equal(path, old)
  })
})
