// Attempts that read only what changed in their source, over the real engine on real file systems; the test holds what a daemon would.
// Whatever is remembered, spoilt or missing: the replica is what the source was.

import { randomBytes } from 'node:crypto'
import { type FileHandle, open, readdir, readFile, rm, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import type { Job } from '../../src/config/config.js'
import { openHost } from '../../src/host/open.js'
import { syncOptions } from '../../src/options.js'
import { setWritable } from '../../src/replicate/access.js'
import { runAttempt } from '../../src/replicate/attempt.js'
import type { AttemptEvent } from '../../src/replicate/events.js'
import { type GivenBase, parseBase } from '../../src/replicate/given-base.js'
import type { AttemptRecord } from '../../src/replicate/job-state.js'
import { trackingOf } from '../../src/replicate/tracking.js'
import { openSnapshots } from '../../src/snapshot/open.js'
import { cutQuiesced } from '../../src/snapshot/quiesce.js'
import type { RunReport } from '../../src/sync/report.js'
import { sync } from '../../src/sync/sync.js'
import { fileSystem } from '../snapshot/worlds.js'
import { run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const MIB = 1 << 20
const SIZE = 24 * MIB
/** A 64th of it, in whole blocks. */
const SAMPLE = MIB

describe.each(['xfs', 'btrfs'])('a source on %s of which much is known', (kind) => {
  describe('there', needs('loop', `mkfs.${kind}`, 'native'), () => {
    const scratch = useScratch()
    let directory = ''
    let source = ''
    let destination = ''
    let stateDir = ''
    let held: { clone: FileHandle; leaves: FileHandle } | null = null
    let count = 0

    beforeEach(async () => {
      if (directory === '') directory = await fileSystem(scratch(), kind)
      count += 1
      source = join(directory, `source-${count}.img`)
      destination = scratch().path(`replica-${count}.img`)
      stateDir = scratch().path(`state-${count}`)
      await writeFile(source, randomBytes(SIZE))
    })

    afterEach(async () => {
      await letGo()
      await using host = await localHost()
      await setWritable(host, destination)
      await rm(source, { force: true })
      expect((await readdir(directory)).filter((name) => name.includes('blocksync'))).toEqual([])
    })

    async function localHost(): ReturnType<typeof openHost> {
      const { transport, timeoutMs } = syncOptions({})
      return await openHost({ kind: 'local' }, { stateDir, native: 'auto', transport, timeoutMs })
    }

    async function letGo(): Promise<void> {
      await held?.clone.close()
      await held?.leaves.close()
      held = null
    }

    function jobOf(): Job {
      const local = { kind: 'local' } as const
      return {
        name: 'files',
        place: { file: 'config.yaml', line: 1, column: 1 },
        disks: [
          {
            source: { at: local, path: source, typed: source },
            destination: { at: local, path: destination, typed: destination },
          },
        ],
        schedule: { kind: 'every', everyMs: 900_000, jitterMs: 0 },
        windows: [],
        snapshot: { kind: 'reflink' },
        track: 'auto',
        quiesce: null,
        keep: { last: 2, hourly: 0, daily: 0, weekly: 0 },
        lag: { warningMs: null, criticalMs: null },
        verifyEveryMs: null,
        hooks: { pre: null, post: null, onError: null, finally: null },
        notify: [],
        boot: null,
        options: syncOptions({}),
      }
    }

    function given(): GivenBase {
      if (held === null) return { disks: [] }
      const path = (file: FileHandle): string => `/proc/${process.pid}/fd/${file.fd}`
      return { disks: [{ clone: path(held.clone), leaves: path(held.leaves) }] }
    }

    type Outcome = Readonly<{
      record: AttemptRecord
      /** Of the source. */
      readBytes: number
      /** Of the replica. */
      readThere: number
      tracked: 'told' | 'not told'
    }>

    /** One attempt, and what a daemon would do behind it. `spoil`: between the cut and the copy; `after`: behind the copy. */
    async function attempt(
      spoil: () => Promise<void> = () => Promise.resolve(),
      after: (report: RunReport) => Promise<void> = () => Promise.resolve(),
    ): Promise<Outcome> {
      const events: AttemptEvent[] = []
      let report: RunReport | null = null
      const job = jobOf()
      const record = await runAttempt(job, {
        stateDir,
        nowMs: () => Date.now(),
        newId: () => `a${(count += 1)}`,
        chance: () => 0,
        signal: new AbortController().signal,
        openHost: localHost,
        snapshots: openSnapshots(job.snapshot),
        cutQuiesced,
        track: trackingOf(job, stateDir, given()),
        runSync: async (...words) => {
          await spoil()
          report = await sync(...words)
          await after(report)
          return report
        },
        syncHooks: {},
        hooks: { onEvent: (event) => events.push(event), runHook: async () => Promise.resolve() },
        force: [],
        trigger: 'now',
      })
      const told = events.find(({ event }) => event === 'tracked')
      if (told?.event === 'tracked') await adopt(told.disks[0] ?? { clone: '', leaves: null })
      const { disks } = (report as RunReport | null) ?? { disks: [] }
      return {
        record,
        readBytes: disks[0]?.readBytes.source ?? -1,
        readThere: disks[0]?.readBytes.destination ?? -1,
        tracked: told === undefined ? 'not told' : 'told',
      }
    }

    async function adopt({ clone, leaves }: { clone: string; leaves: string | null }): Promise<void> {
      const before = held
      const next = {
        clone: await open(clone, 'r'),
        leaves: leaves === null && before !== null ? before.leaves : await open(leaves ?? '', 'r+'),
      }
      await unlink(clone)
      if (leaves !== null) await unlink(leaves)
      held = next
      await before?.clone.close()
      if (before !== null && before.leaves !== next.leaves) await before.leaves.close()
    }

    async function expectEqual(): Promise<void> {
      const [is, was] = await Promise.all([readFile(destination), readFile(source)])
      expect(is.equals(was)).toBe(true)
    }

    async function write(offset: number, length: number): Promise<void> {
      await using file = await open(source, 'r+')
      await file.write(randomBytes(length), 0, length, offset)
    }

    it('is read once, and then only where it changed', async () => {
      expect(await attempt()).toMatchObject({ record: { outcome: 'done' }, tracked: 'told' })
      await expectEqual()
      expect((await attempt()).readBytes).toBeLessThanOrEqual(SAMPLE)
      await write(5 * MIB + 1000, 3000)
      await write(17 * MIB, 64 << 10)
      const { record, readBytes } = await attempt()
      expect(record).toMatchObject({ outcome: 'done', generation: 3 })
      expect(readBytes).toBeLessThan(SAMPLE + (128 << 10))
      expect(readBytes).toBeGreaterThanOrEqual(68 << 10)
      await expectEqual()
    })

    it('leaves a replica that is not read either, but for a sample, as long as nobody else writes to it', async () => {
      await attempt()
      expect((await attempt()).readThere).toBeLessThanOrEqual(SAMPLE)
      await write(5 * MIB + 1000, 3000)
      expect((await attempt()).readThere).toBeLessThanOrEqual(SAMPLE)
      await expectEqual()
      // somebody who takes the mark away, and has another time than we
      await using host = await localHost()
      await setWritable(host, destination)
      const file = await open(destination, 'r+')
      await file.write(randomBytes(5000), 0, 5000, 11 * MIB)
      await file.close()
      const mended = await attempt()
      expect(mended).toMatchObject({ record: { outcome: 'done' }, readThere: SIZE })
      expect(mended.record.sentBytes).toBeGreaterThanOrEqual(5000)
      await expectEqual()
      expect((await attempt()).readThere).toBeLessThanOrEqual(SAMPLE)
    })

    it('leaves a device that is not read either, as long as nobody else writes to it', async () => {
      const image = await scratch().sparseFile(`device-${count}.img`, SIZE)
      destination = await scratch().loopDevice(image)
      await attempt()
      expect((await attempt()).readThere).toBeLessThanOrEqual(SAMPLE)
      await using host = await localHost()
      await setWritable(host, destination)
      const words = [
        'if=/dev/urandom',
        `of=${destination}`,
        'bs=64K',
        'count=1',
        'seek=100',
        'conv=notrunc,fsync',
      ]
      await run('dd', 'status=none', ...words)
      const mended = await attempt()
      expect(mended).toMatchObject({ record: { outcome: 'done' }, readThere: SIZE })
      expect(mended.record.sentBytes).toBe(64 << 10)
      await expectEqual()
      expect((await attempt()).readThere).toBeLessThanOrEqual(SAMPLE)
    })

    it('leaves a replica that is read as a whole behind an attempt that wrote to it and failed', async () => {
      await attempt()
      await write(9 * MIB, 5000)
      const isWritten: RunReport[] = []
      const failed = await attempt(undefined, async (report) => {
        isWritten.push(report)
        await Promise.resolve()
        throw new Error('killed behind the copy')
      })
      expect(isWritten[0]?.error).toBeNull()
      expect(failed.record.outcome).toBe('failed')
      const next = await attempt()
      expect(next).toMatchObject({ record: { outcome: 'done' }, readThere: SIZE })
      await expectEqual()
    })

    it('leaves a replica whose leaves are not believed where the sample is something else', async () => {
      await attempt()
      const [name = ''] = await readdir(join(stateDir, 'leaves'))
      const path = join(stateDir, 'leaves', name)
      const sampleAt = Number(/"sampleAtBytes":(\d+)/.exec(await readFile(path, 'latin1'))?.[1])
      await using file = await open(path, 'r+')
      await file.write(randomBytes(16), 0, 16, (sampleAt / 4096) * 16)
      const failed = await attempt()
      expect(failed.record).toMatchObject({ outcome: 'failed', error: { code: 'destination/track' } })
      expect(await attempt()).toMatchObject({ record: { outcome: 'done' }, readThere: SIZE })
      await expectEqual()
    })

    it('is what the replica becomes, whatever is done to it', async () => {
      await attempt()
      let size = SIZE
      let readBytes = 0
      for (let round = 0; round < 5; round += 1) {
        for (let changes = Math.floor(Math.random() * 8); changes > 0; changes -= 1) {
          const offset = Math.floor(Math.random() * (size - MIB))
          const length = 1 + Math.floor(Math.random() * 200_000)
          const way = Math.random()
          if (way < 0.6) await write(offset, length)
          else if (way < 0.8)
            await run('fallocate', '--punch-hole', '-o', String(offset), '-l', String(length), source)
          else await run('fallocate', '--zero-range', '-o', String(offset), '-l', String(length), source)
        }
        if (round % 5 === 2) await truncate(source, (size += 300_000))
        if (round % 5 === 4) await run('fallocate', '-o', String(size), '-l', '100000', source)
        if (round % 5 === 4) size += 100_000
        const outcome = await attempt()
        expect(outcome).toMatchObject({ record: { outcome: 'done', error: null }, tracked: 'told' })
        readBytes += outcome.readBytes
        await expectEqual()
      }
      expect(readBytes).toBeLessThan((5 * SIZE) / 2)
    })

    it('is read as a whole where the daemon gave it up, or another file is in its place', async () => {
      await attempt()
      await letGo()
      const again = await attempt()
      expect(again).toMatchObject({ readBytes: SIZE, tracked: 'told' })
      await rm(source)
      await writeFile(source, randomBytes(SIZE))
      expect(await attempt()).toMatchObject({ record: { outcome: 'done' }, readBytes: SIZE })
      await expectEqual()
    })

    it('is read as a whole behind an attempt that did not come to its end', async () => {
      await attempt()
      await write(3 * MIB, 8192)
      const failed = await attempt(async () => {
        // the engine finds a far end that is gone, when it has read
        await Promise.resolve()
        throw new Error('killed')
      })
      expect(failed).toMatchObject({ record: { outcome: 'failed' }, tracked: 'not told' })
      // nothing was read then, and what is remembered is true
      expect((await attempt()).readBytes).toBeLessThanOrEqual(SAMPLE + 8192)
      await expectEqual()
      await write(7 * MIB, 4096)
      await held?.leaves.truncate(100)
      expect(await attempt()).toMatchObject({ record: { outcome: 'done' }, readBytes: SIZE })
      expect((await attempt()).readBytes).toBeLessThanOrEqual(SAMPLE)
      await expectEqual()
    })

    it('is read as a whole where the clone that is held is another one', async () => {
      await attempt()
      const first = held
      if (first === null) throw new Error('nothing is held')
      held = null
      // the daemon missed the end of an attempt: the leaves are newer than the clone
      await write(2 * MIB, 5000)
      expect((await attempt()).readBytes).toBe(SIZE)
      const second = held as unknown as { clone: FileHandle; leaves: FileHandle }
      held = { clone: first.clone, leaves: second.leaves }
      expect((await attempt()).readBytes).toBe(SIZE)
      await second.clone.close()
      await first.leaves.close()
      await expectEqual()
      expect((await attempt()).readBytes).toBeLessThanOrEqual(SAMPLE)
    })

    it('is not believed where the sample is something else, and then read as a whole', async () => {
      await attempt()
      const facts = await readFile(`/proc/self/fd/${held?.leaves.fd}`)
      const sampleAt = Number(/"sampleAtBytes":(\d+)/.exec(facts.toString('latin1'))?.[1])
      await held?.leaves.write(randomBytes(16), 0, 16, (sampleAt / 4096) * 16)
      const failed = await attempt()
      expect(failed.record).toMatchObject({ outcome: 'failed', error: { code: 'source/track' } })
      expect(await attempt()).toMatchObject({ record: { outcome: 'done' }, readBytes: SIZE })
      await expectEqual()
      expect((await attempt()).readBytes).toBeLessThanOrEqual(SAMPLE)
    })
  })
})

describe('what a daemon gives', () => {
  it('is understood, or nothing is kept', () => {
    expect(parseBase(undefined)).toBeNull()
    expect(parseBase('{')).toBeNull()
    expect(parseBase('{"disks":1}')).toBeNull()
    expect(parseBase('{"disks":[]}')).toEqual({ disks: [] })
    expect(parseBase('{"disks":[null,{"clone":"/a","leaves":"/b"},{"clone":1}]}')).toEqual({
      disks: [null, { clone: '/a', leaves: '/b' }, null],
    })
  })
})
