// Restoring and the drill, on a real host with files, loop devices and file systems that share blocks: every generation comes back
// byte for byte, and what is not what the record says is never handed out.

import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import type { Host } from '../../src/host/host.js'
import { isReadOnly } from '../../src/replicate/access.js'
import { makeCopy } from '../../src/replicate/copies.js'
import { drill, recordDrill, type Drilled } from '../../src/replicate/drill.js'
import { saveReplica } from '../../src/replicate/replica-file.js'
import { restore, type Restored, type RestoreRequest } from '../../src/replicate/restore.js'
import { openJobState } from '../../src/replicate/state-file.js'
import { run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { refusal } from '../support/refusal.js'
import {
  DISK_BYTES,
  dyingHost,
  giveCopies,
  ID,
  isContent,
  Killed,
  killAttempt,
  makeWorld,
  scribble,
  type World,
} from './world.js'

const scratch = useScratch()
let number = 0

async function restoring(
  host: Host,
  generation: number | null,
  to: string | null,
  change: Partial<RestoreRequest> = {},
): Promise<Restored> {
  return await restore({
    host,
    name: 'web',
    generation,
    to,
    agree: () => Promise.resolve(),
    onWarning: () => undefined,
    signal: new AbortController().signal,
    ...change,
  })
}

async function drilling(host: Host, onWarning: (text: string) => void = () => undefined): Promise<Drilled> {
  return await drill({
    host,
    name: 'web',
    boot: null,
    signal: new AbortController().signal,
    clockMs: () => performance.now(),
    onWarning,
  })
}

function fresh(name: string): string {
  number += 1
  return scratch().path(`restored-${number}-${name}`)
}

async function oneDisk(generations: number): Promise<World> {
  return await makeWorld(scratch(), { generations, disks: [fresh('replica.img')] })
}

describe('restore', () => {
  it('writes any generation out, byte for byte, and leaves the replica as it is', async () => {
    const world = await oneDisk(4)
    const before = await world.record()
    for (const generation of [1, 2, 3, 4, null]) {
      await using host = world.open()
      const to = fresh('out.img')
      const restored = await restoring(host, generation, to)
      expect(restored).toMatchObject({
        restored: { generation: generation ?? 4 },
        disks: [{ to }],
        dropped: [],
      })
      expect((await readFile(to)).equals(world.contents[generation ?? 4]?.[0] ?? Buffer.alloc(0))).toBe(true)
    }
    expect((await world.record()).generations).toEqual(before.generations)
    expect(await isContent(world, 4)).toBe(true)
  })

  it('writes several disks into a directory that it makes, and refuses one where they are', async () => {
    const world = await makeWorld(scratch(), { generations: 3 })
    await using host = world.open()
    const to = fresh('directory')
    const { disks } = await restoring(host, 2, to)
    expect(disks).toHaveLength(2)
    for (const [index, disk] of disks.entries())
      expect((await readFile(disk.to ?? '')).equals(world.contents[2]?.[index] ?? Buffer.alloc(0))).toBe(true)
    const error = await refusal(restoring(host, 2, to))
    expect(error.code).toBe('replicate/refused')
    expect(error.message).toContain('is there already')
  })

  it('refuses a file that is there, a generation that is not, and a replica that somebody has', async () => {
    const world = await oneDisk(2)
    const there = fresh('there.img')
    await writeFile(there, 'precious')
    await using host = world.open()
    expect((await refusal(restoring(host, 2, there))).code).toBe('replicate/refused')
    expect(await readFile(there, 'utf8')).toBe('precious')
    const unknown = await refusal(restoring(host, 7, fresh('out.img')))
    expect(unknown.code).toBe('replicate/unknown')
    expect(unknown.hint).toContain('1, 2')
    expect((await refusal(restoring(world.open(), 2, fresh('out.img')))).code).toBe('replicate/busy')
  })

  it('removes what is not what the record says', async () => {
    const world = await oneDisk(2)
    await scribble(world, world.disks[0] ?? '')
    await using host = world.open()
    const to = fresh('out.img')
    const error = await refusal(restoring(host, 1, to))
    expect(error).toMatchObject({ code: 'replicate/drill', exitStatus: 7 })
    await expect(stat(to)).rejects.toThrow('ENOENT')
  })

  it('takes a half attempt back first', async () => {
    const world = await oneDisk(3)
    await killAttempt(world)
    await using host = world.open()
    const to = fresh('out.img')
    await restoring(host, 2, to)
    expect((await readFile(to)).equals(world.contents[2]?.[0] ?? Buffer.alloc(0))).toBe(true)
    expect((await world.record()).state).toBe('good')
  })

  it('reads copies, whatever became of the disks', async () => {
    const world = await makeWorld(scratch(), { generations: 3 })
    await giveCopies(world)
    await scribble(world, world.disks[0] ?? '')
    await saveReplica(world.open(), { ...(await world.record()), state: 'promoted' })
    await using host = world.open()
    const to = fresh('directory')
    const { disks } = await restoring(host, 2, to)
    expect((await readFile(disks[0]?.to ?? '')).equals(world.contents[2]?.[0] ?? Buffer.alloc(0))).toBe(true)
  })

  it('activates a thin volume for as long as it is read', async () => {
    const world = await oneDisk(1)
    const was = await world.record()
    const host = world.open()
    await saveReplica(host, {
      ...was,
      generations: was.generations.map((each) => ({
        ...each,
        disks: each.disks.map((disk) => ({
          ...disk,
          copy: { kind: 'lvm-thin', volume: 'vg/web-blocksync-g1' } as const,
        })),
      })),
    })
    const words: string[] = []
    const proxy = new Proxy(host, {
      get(target, name): unknown {
        if (name === 'run')
          return async (request: Parameters<Host['run']>[0]) => {
            words.push(request.argv.join(' '))
            return request.argv[0] === 'lvchange'
              ? { exitStatus: 0, stdout: '', stderrTail: '' }
              : await target.run(request)
          }
        if (name === 'writeOut')
          return async ({ from, to }: Parameters<Host['writeOut']>[0]) => {
            words.push(`read ${from}`)
            await writeFile(to, world.contents[1]?.[0] ?? '')
            return { bytes: 1 }
          }
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    await restoring(proxy, 1, fresh('out.img'))
    expect(words.filter((word) => /lvchange|read/.test(word))).toEqual([
      'lvchange --activate y --ignoreactivationskip vg/web-blocksync-g1',
      'read /dev/vg/web-blocksync-g1',
      'lvchange --activate n vg/web-blocksync-g1',
    ])
  })
})

describe('restore onto a device', needs('loop'), () => {
  it('writes it, and names it where it is not what it should be', async () => {
    const world = await oneDisk(2)
    const device = await scratch().loopDevice(
      await scratch().sparseFile(`${number}-device.img`, 2 * DISK_BYTES),
    )
    {
      await using host = world.open()
      await restoring(host, 1, device)
    }
    const content = (await readFile(device)).subarray(0, DISK_BYTES)
    expect(content.equals(world.contents[1]?.[0] ?? Buffer.alloc(0))).toBe(true)
    await scribble(world, world.disks[0] ?? '')
    await using host = world.open()
    expect((await refusal(restoring(host, 2, device))).message).toContain('do not use what is on it')
  })
})

describe('restore in place', () => {
  it('leads the replica back; newer generations are gone', async () => {
    const world = await makeWorld(scratch(), { generations: 4 })
    await using host = world.open()
    await expect(restoring(host, 2, null)).resolves.toMatchObject({
      restored: { generation: 2 },
      dropped: [3, 4],
    })
    expect(await isContent(world, 2)).toBe(true)
    const record = await world.record()
    expect(record).toMatchObject({ state: 'good', nextGeneration: 5 })
    expect(record.generations.map((each) => each.number)).toEqual([1, 2])
    expect(await Promise.all(world.disks.map((path) => isReadOnly(host, path)))).toEqual([true, true])
  })

  it('asks, and refuses a promoted one', async () => {
    const world = await makeWorld(scratch(), { generations: 2 })
    const no = new SyncError('replicate/refused', 'nobody agreed')
    {
      await using host = world.open()
      expect(await refusal(restoring(host, 1, null, { agree: () => Promise.reject(no) }))).toBe(no)
    }
    expect(await isContent(world, 2)).toBe(true)
    await saveReplica(world.open(), { ...(await world.record()), state: 'promoted' })
    expect((await refusal(restoring(world.open(), 1, null))).message).toContain('promoted')
  })

  it('may be killed behind any call: it is the old generation or the new one when somebody comes next', async () => {
    for (let at = 0, isDone = false; !isDone; at++) {
      expect(at).toBeLessThan(200)
      const world = await makeWorld(scratch(), { generations: 3 })
      const own = world.open()
      try {
        await restoring(dyingHost(own, at), 1, null)
        isDone = true
      } catch (thrown) {
        if (!(thrown instanceof Killed) && !(thrown instanceof SyncError)) throw thrown
      }
      await own.close()
      await using host = world.open()
      const { proved } = await drilling(host)
      expect(await isContent(world, proved.generation)).toBe(true)
      expect([1, 3]).toContain(proved.generation)
      if (isDone) expect(proved.generation).toBe(1)
    }
  }, 120_000)
})

describe.each(['xfs', 'btrfs'])('restore in place by copies (%s)', (kind) => {
  it('shares the blocks of the copy, in the file that is there', needs('loop', `mkfs.${kind}`), async () => {
    const image = await scratch().sparseFile(`${kind}.img`, 400 << 20)
    await run(`mkfs.${kind}`, '-q', image)
    const directory = await scratch().mount(kind, image, '-o', 'loop')
    const disks = ['a', 'b'].map((name) => join(directory, `${name}.img`))
    const world = await makeWorld(scratch(), { generations: 2, disks })
    const host = world.open()
    // as attempts make them: of the newest, which becomes an older one
    const was = await world.record()
    const copies = await Promise.all(disks.map((path) => makeCopy(host, path, 2)))
    expect(copies[0]).toMatchObject({ kind: 'reflink' })
    const newest = was.generations.at(-1)
    if (newest === undefined) throw new Error('there are two')
    const kept = {
      ...newest,
      disks: newest.disks.map((disk, index) => ({ ...disk, undo: [], copy: copies[index] ?? null })),
    }
    await host.close()
    const inode = (await stat(disks[0] ?? '')).ino
    for (let at = 0, isDone = false; !isDone; at++) {
      expect(at).toBeLessThan(100)
      const own = world.open()
      await saveReplica(own, {
        ...was,
        generations: [kept, { ...newest, number: 3 }],
        state: 'empty',
        base: 'nothing',
        nextGeneration: 4,
      })
      for (const path of disks) await scribble(world, path)
      try {
        await restoring(dyingHost(own, at), 2, null)
        isDone = true
      } catch (thrown) {
        if (!(thrown instanceof Killed) && !(thrown instanceof SyncError)) throw thrown
      }
      await own.close()
      // good is only what is whole
      if ((await world.record()).state === 'good') expect(await isContent(world, 2)).toBe(true)
      await using again = world.open()
      await expect(restoring(again, 2, null)).resolves.toMatchObject({ restored: { generation: 2 } })
      expect(await isContent(world, 2)).toBe(true)
      expect((await stat(disks[0] ?? '')).ino).toBe(inode)
      expect(await world.record()).toMatchObject({ state: 'good', base: 'generation' })
    }
    await using again = world.open()
    await expect(drilling(again)).resolves.toMatchObject({ proved: { generation: 2 } })
  })
})

describe('drill', () => {
  it('proves what is there, and says how good it is', async () => {
    const world = await makeWorld(scratch(), { generations: 2 })
    await using host = world.open()
    const drilled = await drilling(host)
    expect(drilled).toMatchObject({ job: 'web', id: ID, proved: { generation: 2 }, boot: null })
    expect(drilled.disks.map(({ root }) => root)).toEqual(
      (await world.record()).generations[1]?.disks.map(({ root }) => root.root),
    )
  })

  it('fails on one changed byte, and the state of the job can tell', async () => {
    const world = await makeWorld(scratch(), { generations: 2 })
    await scribble(world, world.disks[1] ?? '')
    const warnings: string[] = []
    await using host = world.open()
    const before = await world.record()
    await saveReplica(host, { ...before, disks: before.disks.map((disk) => ({ ...disk, stamp: 'as left' })) })
    const error = await refusal(drilling(host, (text) => warnings.push(text)))
    expect(error).toMatchObject({ code: 'replicate/drill', exitStatus: 7 })
    expect(error.message).toContain(world.disks[1])
    // the next attempt believes nothing of it
    expect((await world.record()).disks.map(({ stamp }) => stamp ?? null)).toEqual([null, null])
    expect(warnings.join()).toContain('was not marked read-only')
    expect(await Promise.all(world.disks.map((path) => isReadOnly(host, path)))).toEqual([true, true])
    const drilled = { at: '2026-01-02T03:04:05.000Z', outcome: 'failed', generation: 2 } as const
    await recordDrill(world.stateDir, 'web', drilled)
    expect((await openJobState(world.stateDir, 'web')).drill).toEqual(drilled)
  })

  it('refuses a promoted replica, an empty one, and one that somebody has', async () => {
    const promoted = await makeWorld(scratch(), { generations: 1, change: { state: 'promoted' } })
    expect((await refusal(drilling(promoted.open()))).code).toBe('replicate/refused')
    const empty = await makeWorld(scratch(), { generations: 0 })
    expect((await refusal(drilling(empty.open()))).code).toBe('replicate/refused')
    const world = await makeWorld(scratch(), { generations: 1 })
    await using other = world.open()
    await other.takeLock(`replica-${ID}`, 0)
    expect((await refusal(drilling(world.open()))).code).toBe('replicate/busy')
  })

  it('waits for who has it where that is asked for, and says for whom', async () => {
    const world = await makeWorld(scratch(), { generations: 1 })
    const other = world.open()
    await other.takeLock(`replica-${ID}`, 0)
    await using host = world.open()
    const said: string[] = []
    let letGo: Promise<void> = Promise.resolve()
    const onWarning = (text: string): void => {
      said.push(text)
      letGo = other.close()
    }
    const { signal } = new AbortController()
    const request = { host, name: 'web', boot: null, signal, clockMs: () => 0, lockWaitMs: 30_000, onWarning }
    expect((await drill(request)).proved.generation).toBe(1)
    await letGo
    expect(said).toEqual([expect.stringMatching(/^replica-.* is in use: .*; waiting for that to end$/)])
  })
})
