// Attempts over real hosts, files and the real engine, both ends here: generations, the way back, a full state directory of the
// destination is P3's; here that all parts fit together.

import { createHash } from 'node:crypto'
import { mkdtemp, open, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import type { Job, Retention } from '../../src/config/config.js'
import { openHost } from '../../src/host/open.js'
import { syncOptions } from '../../src/options.js'
import { isReadOnly, setWritable } from '../../src/replicate/access.js'
import { runAttempt } from '../../src/replicate/attempt.js'
import type { AttemptContext } from '../../src/replicate/context.js'
import type { AttemptEvent } from '../../src/replicate/events.js'
import { wayBack } from '../../src/replicate/generations.js'
import { listReplicas, readReplica } from '../../src/replicate/replica-file.js'
import { openJobState, readHistory } from '../../src/replicate/state-file.js'
import { openSnapshots } from '../../src/snapshot/open.js'
import type { SnapshotMethod } from '../../src/snapshot/snapshot.js'
import { cutQuiesced } from '../../src/snapshot/quiesce.js'
import { sync } from '../../src/sync/sync.js'

const SIZE = 3 << 20

let directory = ''
let stateDir = ''
let source = ''
let destination = ''

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'blocksync-real-attempt-'))
  stateDir = join(directory, 'state')
  source = join(directory, 'source.img')
  destination = join(directory, 'replica.img')
  await writeFile(source, Buffer.alloc(SIZE, 'a'))
})

afterEach(async () => {
  await using host = await localHost()
  await setWritable(host, destination)
  await rm(directory, { recursive: true, force: true })
})

async function localHost(): ReturnType<typeof openHost> {
  const { transport, timeoutMs } = syncOptions({})
  return await openHost({ kind: 'local' }, { stateDir, native: 'auto', transport, timeoutMs })
}

function jobOf(keep: Retention): Job {
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
    snapshot: { kind: 'none' },
    track: 'auto',
    quiesce: null,
    keep,
    lag: { warningMs: null, criticalMs: null },
    verifyEveryMs: null,
    hooks: { pre: null, post: null, onError: null, finally: null },
    notify: [],
    boot: null,
    options: syncOptions({}),
  }
}

function contextOf(
  id: string,
  events: AttemptEvent[],
  signal = new AbortController().signal,
): AttemptContext {
  return {
    stateDir,
    nowMs: () => Date.now(),
    newId: () => id,
    chance: () => 0,
    signal,
    openHost: localHost,
    snapshots: openSnapshots({ kind: 'none' }),
    cutQuiesced,
    track: null,
    runSync: sync,
    syncHooks: {},
    hooks: { onEvent: (event) => events.push(event), runHook: async () => Promise.resolve() },
    force: [],
    trigger: 'regular',
  }
}

async function change(offset: number, text: string): Promise<void> {
  await using file = await open(source, 'r+')
  await file.write(Buffer.from(text), 0, text.length, offset)
}

async function digestOf(path: string): Promise<string> {
  return createHash('sha256')
    .update(await readFile(path))
    .digest('hex')
}

describe('attempts over the real engine', () => {
  it('make generations, each of which leads back to the one before', async () => {
    const job = jobOf({ last: 3, hourly: 0, daily: 0, weekly: 0 })
    const digests: string[] = []
    const events: AttemptEvent[] = []
    for (let number = 1; number <= 5; number += 1) {
      await change(number * 300_000, `generation ${number}`)
      if (number === 4)
        await writeFile(source, Buffer.concat([await readFile(source), Buffer.alloc(8192, 'z')]))
      digests.push(await digestOf(source))
      const record = await runAttempt(job, contextOf(`a${number}`, events))
      expect(record).toMatchObject({ outcome: 'done', generation: number, error: null })
      expect(await digestOf(destination)).toBe(digests.at(-1))
    }
    await using host = await localHost()
    expect(await isReadOnly(host, destination)).toBe(true)
    const [id = ''] = await listReplicas(host)
    const record = await readReplica(host, id)
    expect(record?.generations.map(({ number }) => number)).toEqual([3, 4, 5])
    expect(await host.undoSteps(destination)).toHaveLength(2)
    if (record === null) throw new Error('no record')
    for (const { number, disks } of record.generations) {
      const to = join(directory, `out-${number}`)
      const lengthBytes = disks[0]?.root.lengthBytes ?? 0
      await host.writeOut({ from: destination, to, lengthBytes, undo: wayBack(record, number, 0) })
      expect(lengthBytes).toBe(number < 4 ? SIZE : SIZE + 8192)
      expect(await digestOf(to)).toBe(digests[number - 1])
    }
    const state = await openJobState(stateDir, 'files')
    expect(state).toMatchObject({
      running: null,
      failures: 0,
      newest: { generation: 5 },
      totals: { attempts: 5 },
    })
    expect(await readHistory(stateDir, 'files', 2)).toMatchObject([{ attempt: 'a4' }, { attempt: 'a5' }])
    expect(events.at(-1)).toMatchObject({ event: 'result', ok: true, generation: 5 })
  })

  it('have snapshots of their own, where two state directories have a job of one name', async () => {
    const owners: string[] = []
    const attempt = async (id: string, ownStateDir: string): Promise<void> => {
      const method = openSnapshots({ kind: 'none' })
      const snapshots: SnapshotMethod = {
        ...method,
        removeOrphans: async (host, request) => {
          owners.push(request.owner)
          return await method.removeOrphans(host, request)
        },
      }
      await runAttempt(jobOf({ last: 1, hourly: 0, daily: 0, weekly: 0 }), {
        ...contextOf(id, []),
        stateDir: ownStateDir,
        snapshots,
      })
    }
    await attempt('a1', stateDir)
    await attempt('a2', join(directory, 'other-state'))
    await symlink(directory, join(directory, 'link'))
    await attempt('a3', join(directory, 'link', 'state'))
    expect(owners[1]).not.toBe(owners[0])
    expect(owners[2]).toBe(owners[0])
  })

  it('lead an attempt back that is stopped while it writes', async () => {
    const job = jobOf({ last: 1, hourly: 0, daily: 0, weekly: 0 })
    await runAttempt(job, contextOf('a1', []))
    const before = await digestOf(destination)
    await writeFile(source, Buffer.alloc(SIZE, 'b'))
    const stop = new AbortController()
    const context = contextOf('a2', [], stop.signal)
    const { SyncError } = await import('../../src/errors.js')
    const record = await runAttempt(job, {
      ...context,
      runSync: async (pairs, options, hooks) => {
        const report = await sync(pairs, options, hooks)
        stop.abort(new SyncError('interrupt/sigterm', 'stopped'))
        return { ...report, error: new SyncError('interrupt/sigterm', 'stopped') }
      },
    })
    expect(record).toMatchObject({ outcome: 'interrupted', generation: null })
    // that it is read without a snapshot, and nothing else
    expect(record.warnings).toHaveLength(1)
    expect(await digestOf(destination)).toBe(before)
    await using host = await localHost()
    expect(await host.undoSteps(destination)).toEqual([])
    expect(await readReplica(host, (await listReplicas(host))[0] ?? '')).toMatchObject({ state: 'good' })
    expect(await runAttempt(job, contextOf('a3', []))).toMatchObject({ outcome: 'done', generation: 2 })
    expect(await digestOf(destination)).toBe(await digestOf(source))
  })
})
