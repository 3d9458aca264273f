// What every kind of snapshot has to do, as plain functions: tests of vitest run them on file systems of this machine and on
// an LVM that is played, and an emulated machine runs the same on real volumes (test/lab/lvm).

import assert from 'node:assert/strict'

import { SyncError } from '../../src/errors.js'
import type { Host } from '../../src/host/host.js'
import type { CutRequest, SnapshotMethod } from '../../src/snapshot/snapshot.js'

export type SnapshotKind = SnapshotMethod['kind']

/** Two disks of a host, and what a test may do behind the method's back. */
export type SnapshotWorld = Readonly<{
  host: Host
  method: SnapshotMethod
  disks: readonly [string, string]
  /** A path of the same sort where nothing is. */
  missing: string
  /** Fills the beginning of a disk, flushed. */
  write: (disk: string, byte: number) => Promise<void>
  /** The byte that the beginning of a disk or snapshot is filled with; rejects where that is mixed or cannot be read. */
  read: (path: string) => Promise<number>
  /** Names of the snapshots that there are, of any job. */
  left: () => Promise<readonly string[]>
  /** Takes a snapshot away as somebody else would. */
  lose: (path: string) => Promise<void>
}>

export type Check = Readonly<{
  name: string
  kinds: readonly SnapshotKind[]
  run: (world: SnapshotWorld) => Promise<void>
}>

const ALL: readonly SnapshotKind[] = ['lvm', 'lvm-thin', 'reflink', 'none', 'command']
const MADE = ALL.filter((kind) => kind !== 'none')
/** Removed by their name, not by what a program of the user does. */
const NAMED: readonly SnapshotKind[] = ['lvm', 'lvm-thin', 'reflink']

/** As snapshotOwner gives them. */
export const OWNER = '0123abcd'
const OTHER_OWNER = 'fedc9876'

export function requestFor(world: SnapshotWorld, change: Partial<CutRequest> = {}): CutRequest {
  return { disks: world.disks, job: 'web', owner: OWNER, attempt: '20260102T030405Z-1', ...change }
}

/** Resolves with the failure, which has to be one of a snapshot. */
export async function refusal(promise: Promise<unknown>): Promise<SyncError> {
  const failure = await promise.then(
    () => null,
    (error: unknown) => error,
  )
  assert.ok(failure instanceof SyncError, `no SyncError but ${String(failure)}`)
  assert.equal(failure.code, 'replicate/snapshot', failure.message)
  assert.ok((failure.hint ?? '') !== '', `no hint behind: ${failure.message}`)
  return failure
}

export const ALL_CHECKS: readonly Check[] = [
  {
    name: 'a cut stays as it was, and the disks go on',
    kinds: MADE,
    run: async (world) => {
      const { host, method, disks, write, read } = world
      for (const disk of disks) await write(disk, 1)
      const cut = await method.cut(host, requestFor(world))
      for (const disk of disks) await write(disk, 2)
      for (const { original, path } of cut.disks) {
        assert.equal(await read(path), 1)
        assert.equal(await read(original), 2)
      }
      await method.check(host, requestFor(world), cut)
      await method.remove(host, requestFor(world), cut)
      assert.deepEqual(await world.left(), [])
      for (const disk of disks) assert.equal(await read(disk), 2)
    },
  },
  {
    name: 'a cut says of what it is, in that order, and when it was',
    kinds: ALL,
    run: async (world) => {
      const { host, method, disks } = world
      const before = Date.now()
      const reversed = requestFor(world, { disks: disks.toReversed() })
      const cut = await method.cut(host, reversed)
      assert.deepEqual(
        cut.disks.map(({ original }) => original),
        disks.toReversed(),
      )
      assert.ok(cut.takenAtMs >= before && cut.takenAtMs <= Date.now(), `taken at ${cut.takenAtMs}`)
      assert.ok(cut.spreadMs >= 0 && cut.spreadMs <= Date.now() - before + 1, `spread ${cut.spreadMs}`)
      assert.equal(cut.kind, method.kind === 'none' ? 'none' : 'near')
      assert.equal(cut.quiesced, 'no')
      assert.equal(cut.warnings.length, method.kind === 'none' ? 1 : 0)
      await method.remove(host, reversed, cut)
      const single = requestFor(world, { disks: [disks[0]] })
      const one = await method.cut(host, single)
      assert.equal(one.kind, method.kind === 'none' ? 'none' : 'one-instant')
      assert.equal(one.spreadMs, 0)
      await method.remove(host, single, one)
      assert.deepEqual(await world.left(), [])
    },
  },
  {
    name: 'removing again, or what is half gone, is no failure',
    kinds: ALL,
    run: async (world) => {
      const { host, method } = world
      const cut = await method.cut(host, requestFor(world))
      await world.lose(cut.disks[0]?.path ?? '')
      await method.remove(host, requestFor(world), cut)
      await method.remove(host, requestFor(world), cut)
      assert.deepEqual(await world.left(), [])
    },
  },
  {
    name: 'two attempts do not meet',
    kinds: MADE,
    run: async (world) => {
      const { host, method, disks, write, read } = world
      const [one, two] = [requestFor(world, { attempt: 'a1' }), requestFor(world, { attempt: 'a2' })]
      await write(disks[0], 1)
      const first = await method.cut(host, one)
      await write(disks[0], 2)
      const second = await method.cut(host, two)
      await write(disks[0], 3)
      assert.equal(await read(first.disks[0]?.path ?? ''), 1)
      await method.remove(host, one, first)
      assert.equal(await read(second.disks[0]?.path ?? ''), 2)
      await method.remove(host, two, second)
      assert.deepEqual(await world.left(), [])
    },
  },
  {
    name: 'all that a killed attempt left is found, and nothing of another job',
    kinds: MADE,
    run: async (world) => {
      const { host, method, read } = world
      const killed = requestFor(world, { attempt: 'killed' })
      const other = requestFor(world, { job: 'web-1', attempt: 'killed' })
      await method.cut(host, killed)
      const kept = await method.cut(host, other)
      const removed = await method.removeOrphans(host, requestFor(world))
      assert.equal(removed.length, 2, removed.join())
      assert.equal((await world.left()).length, 2)
      for (const { path } of kept.disks) await read(path)
      assert.deepEqual(await method.removeOrphans(host, requestFor(world)), [])
      await method.remove(host, other, kept)
      assert.deepEqual(await world.left(), [])
    },
  },
  {
    name: 'two owners with a job of one name and the same disks take nothing of each other for an orphan',
    kinds: MADE,
    run: async (world) => {
      const { host, method, disks, write, read } = world
      const [one, two] = [requestFor(world), requestFor(world, { owner: OTHER_OWNER })]
      const cuts = []
      for (const [index, request] of [one, two].entries()) {
        await write(disks[0], index + 1)
        assert.deepEqual(await method.removeOrphans(host, request), [])
        cuts.push(await method.cut(host, request))
      }
      assert.equal((await method.removeOrphans(host, { ...one, attempt: 'next' })).length, 2)
      assert.equal(await read(cuts[1]?.disks[0]?.path ?? ''), 2)
      assert.equal((await world.left()).length, 2)
      assert.equal((await method.removeOrphans(host, { ...two, attempt: 'next' })).length, 2)
      assert.deepEqual(await world.left(), [])
    },
  },
  {
    name: 'there are no orphans of what is never made',
    kinds: ['none'],
    run: async (world) => {
      assert.deepEqual(await world.method.removeOrphans(world.host, requestFor(world)), [])
    },
  },
  {
    name: 'all disks or none: one that is missing is named, and the others are let go',
    kinds: MADE,
    run: async (world) => {
      const { host, method, disks, missing } = world
      const failure = await refusal(method.cut(host, requestFor(world, { disks: [disks[0], missing] })))
      assert.ok(failure.message.includes(missing), failure.message)
      assert.deepEqual(await world.left(), [])
    },
  },
  {
    name: 'long names of jobs and attempts, and names that LVM keeps for itself',
    kinds: MADE,
    run: async (world) => {
      const { host, method, disks } = world
      for (const job of [`${'a-'.repeat(31)}ab`, 'vm_tdata', 'x.y_z--1']) {
        const attempt = `20260102T030405.678Z-${'0123456789abcdef'.repeat(2)}`
        const request = requestFor(world, { disks: [disks[0]], job, attempt })
        const cut = await method.cut(host, request)
        assert.equal((await method.removeOrphans(host, request)).length, 1, job)
        await method.remove(host, request, cut)
        assert.deepEqual(await world.left(), [])
      }
    },
  },
  {
    name: 'what has not our name is never removed, whatever a cut says',
    kinds: NAMED,
    run: async (world) => {
      const { host, method, disks, write, read } = world
      await write(disks[0], 7)
      const cut = await method.cut(host, requestFor(world))
      const wrong = { ...cut, disks: disks.map((disk) => ({ original: disk, path: disk })) }
      await assert.rejects(method.remove(host, requestFor(world), wrong), TypeError)
      for (const another of [{ job: 'other' }, { owner: OTHER_OWNER }])
        await assert.rejects(method.remove(host, requestFor(world, another), cut), TypeError)
      assert.equal(await read(disks[0]), 7)
      assert.equal((await world.left()).length, 2)
      await method.remove(host, requestFor(world), cut)
    },
  },
]
