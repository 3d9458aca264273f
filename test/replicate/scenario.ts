// A job over a World: attempts one after the other, with what happens in between, and what has to hold at the end of each.

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import type { Job, Retention } from '../../src/config/config.js'
import { type SyncError, toSyncError } from '../../src/errors.js'
import { syncOptions } from '../../src/options.js'
import { runAttempt } from '../../src/replicate/attempt.js'
import { groupsOf } from '../../src/replicate/generations.js'
import type { AttemptRecord } from '../../src/replicate/job-state.js'
import { wanted } from '../../src/replicate/retention.js'
import { jobDirectory, openJobState } from '../../src/replicate/state-file.js'
import { fakeContext } from './fakes.js'
import { World } from './world.js'

export const PATHS = ['/r/vda', '/r/vdb'] as const
const HOUR_MS = 3_600_000
/** Thousands of attempts flush their state: where that costs nothing. */
const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

export function jobOf(keep: Retention): Job {
  const far = { kind: 'remote', host: 'kvm2', user: null, port: null, typed: 'kvm2' } as const
  return {
    name: 'web',
    place: { file: 'config.yaml', line: 1, column: 1 },
    disks: PATHS.map((path, index) => ({
      source: { at: { kind: 'local' }, path: `/s/disk${index}`, typed: `/s/disk${index}` },
      destination: { at: far, path, typed: `kvm2:${path}` },
    })),
    schedule: { kind: 'every', everyMs: 900_000, jitterMs: 0 },
    windows: [],
    snapshot: { kind: 'reflink' },
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

/** Where copies can be made: on no disk, on one of the two, on both. */
export type Storage = 'undo' | 'mixed' | 'copies'

export type Ended =
  | Readonly<{ kind: 'record'; record: AttemptRecord }>
  | Readonly<{ kind: 'refused'; error: SyncError }>
  | Readonly<{ kind: 'killed' }>

export class Scenario {
  world = new World()
  readonly job: Job
  readonly stateDir: string
  readonly storage: Storage
  /** What a perfect replica would have by now. */
  #kept: { number: number; takenAt: string }[] = []
  #attempts = 0
  #seed = 1

  constructor(storage: Storage, keep: Retention) {
    this.job = jobOf(keep)
    this.storage = storage
    this.stateDir = mkdtempSync(join(MEMORY, 'blocksync-attempt-'))
    this.world.newFileSystem = storage === 'copies' ? 'xfs' : 'ext4'
    for (const [index] of PATHS.entries()) this.world.source.set(`/s/disk${index}`, this.#bytes(12))
    // one is there already, with something of before on it; the other one is made
    this.world.disks.set(PATHS[0], {
      bytes: this.#bytes(12),
      isProtected: false,
      mode: 0o600,
      fileSystem: storage === 'undo' ? 'ext4' : 'xfs',
      groups: [],
    })
  }

  /** Another one that is as this one is now. */
  fork(): Scenario {
    const other = new Scenario(this.storage, this.job.keep)
    other.world = this.world.fork()
    other.#kept = [...this.#kept]
    other.#attempts = this.#attempts
    other.#seed = this.#seed
    cpSync(this.stateDir, other.stateDir, { recursive: true })
    return other
  }

  [Symbol.dispose](): void {
    rmSync(this.stateDir, { recursive: true, force: true })
  }

  #bytes(count: number): number[] {
    return Array.from({ length: count }, () => this.#random(256))
  }

  #random(below: number): number {
    this.#seed = (this.#seed * 48_271) % 2_147_483_647
    return this.#seed % below
  }

  /** The guest writes, and time goes on; now and then a disk becomes longer. */
  live(): void {
    const { world } = this
    world.nowMs += HOUR_MS
    for (const bytes of world.source.values()) {
      if (this.#random(4) === 0) continue
      for (let count = this.#random(6); count >= 0; count -= 1)
        bytes[this.#random(bytes.length)] = this.#random(256)
      if (this.#random(8) === 0) bytes.push(...this.#bytes(2))
    }
  }

  async attempt(): Promise<Ended> {
    const { world } = this
    this.#attempts += 1
    const files = ['state.json', 'history.jsonl'].map((name) =>
      join(jobDirectory(this.stateDir, 'web'), name),
    )
    let atDeath: (string | null)[] = []
    world.onKill = () => {
      atDeath = files.map(textOf)
    }
    let ended: Ended
    try {
      const record = await runAttempt(this.job, fakeContext(world, this.stateDir, `a${this.#attempts}`))
      ended = { kind: 'record', record }
    } catch (thrown) {
      ended = { kind: 'refused', error: toSyncError(thrown) }
    }
    if (!world.isDead) return ended
    // what a dead process would have written was not written
    files.forEach((path, index) => {
      const text = atDeath[index] ?? null
      if (text === null) rmSync(path, { force: true })
      else writeFileSync(path, text)
    })
    return { kind: 'killed' }
  }

  /** What did not hold, of any moment until now, and of the moment behind an attempt. */
  async problems(ended: Ended): Promise<string[]> {
    const { world } = this
    const problems = [...world.violations]
    const record = world.record()
    this.#remember()
    if (ended.kind === 'refused') problems.push(`refused: ${ended.error.code} ${ended.error.message}`)
    if (record !== null) {
      const have = new Set(record.generations.map(({ number }) => number))
      for (const { number } of this.#kept)
        if (!have.has(number)) problems.push(`generation ${number} is wanted and gone`)
    }
    if (ended.kind !== 'record' || ended.record.outcome !== 'done') return problems
    if (record === null) return [...problems, 'done without a record']
    const state = await openJobState(this.stateDir, 'web')
    const newest = record.generations.at(-1)
    if (state.newest?.generation !== newest?.number || state.newest?.takenAt !== newest?.takenAt)
      problems.push('the state of the job tells of another newest generation')
    if (newest?.number !== ended.record.generation) problems.push('the attempt made another generation')
    if (state.running !== null || state.failures !== 0) problems.push('it is not at rest')
    return problems
  }

  /** Behind an attempt that met nothing, nothing is left over either. */
  leftOver(): string[] {
    const { world } = this
    const record = world.record()
    if (record === null) return ['there is no record']
    const problems: string[] = []
    if (record.state !== 'good') problems.push(`it is ${record.state}`)
    if (world.snapshots.size > 0) problems.push(`snapshots: ${[...world.snapshots.keys()].join()}`)
    const copies = record.generations.flatMap(({ disks }) => disks.flatMap(({ copy }) => copy ?? []))
    const paths = copies.map((copy) => (copy.kind === 'reflink' ? copy.path : copy.volume))
    for (const path of world.copies.keys()) if (!paths.includes(path)) problems.push(`copy: ${path}`)
    record.disks.forEach(({ path }, index) => {
      const { groups, isProtected, mode } = world.disk(path)
      const there = groups.map(({ step }) => step.group).join()
      if (there !== groupsOf(record, index).join()) problems.push(`undo groups of ${path}: ${there}`)
      if (!isProtected && mode !== 0o400) problems.push(`${path} is writable`)
    })
    const wantedNow = this.#kept.map(({ number }) => number).join()
    const have = record.generations.map(({ number }) => number).join()
    if (have !== wantedNow) problems.push(`generations ${have} are kept, not ${wantedNow}`)
    return problems
  }

  /** Generations that a record had for the first time since the last look. */
  #remember(): void {
    const known = this.#kept.at(-1)?.number ?? 0
    const fresh = (this.world.record()?.generations ?? []).filter(({ number }) => number > known)
    const all = [...this.#kept, ...fresh.map(({ number, takenAt }) => ({ number, takenAt }))]
    const stays = wanted(all, this.job.keep)
    this.#kept = all.filter(({ number }) => stays.has(number))
  }
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
