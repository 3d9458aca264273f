// A source and a destination in memory: disks as bytes, undo groups, reflink copies, snapshots. Every call of an attempt passes through
// `call`, where a fault may wait for it; before and after each one it is checked that every generation of the record can be had.

import { SyncError } from '../../src/errors.js'
import type { UndoStep } from '../../src/host/host.js'
import { groupsOf, wayBack } from '../../src/replicate/generations.js'
import type { ReplicaRecord } from '../../src/replicate/record.js'
import { checkedReplica } from '../../src/replicate/record-check.js'

export const FAULTS = [
  'fails before',
  'fails after',
  'killed before',
  'killed after',
  'link drops before',
  'link drops after',
  'aborted',
] as const
export type Fault = (typeof FAULTS)[number]

export type Group = { step: UndoStep; old: Map<number, number>; sizeBytes: number }

export type Disk = {
  bytes: number[]
  isProtected: boolean
  mode: number
  fileSystem: 'xfs' | 'ext4'
  /** The oldest first. */
  groups: Group[]
}

/** The controller is gone: nothing that it still asks for happens. */
export class Killed extends Error {}

export const LOST = new SyncError('session/lost', 'the line is gone')

export class World {
  readonly source = new Map<string, number[]>()
  /** Snapshots at the source by path. */
  readonly snapshots = new Map<string, number[]>()
  readonly disks = new Map<string, Disk>()
  /** Text files of the destination's host. */
  readonly texts = new Map<string, string>()
  /** Copies at the destination, by path. */
  readonly copies = new Map<string, { bytes: number[]; isComplete: boolean }>()
  /** Attempt -> what all disks were at the cut. */
  readonly cuts = new Map<string, readonly (readonly number[])[]>()
  /** Generation -> attempt, of all that any record ever had. */
  readonly numbers = new Map<number, string>()
  readonly faults = new Map<number, Fault>()
  readonly trace: string[] = []
  readonly violations: string[] = []
  calls = 0
  /** Of a disk that a run makes. */
  newFileSystem: Disk['fileSystem'] = 'ext4'
  nowMs = Date.parse('2026-01-01T00:00:00.000Z')
  isDead = false
  lost = new AbortController()
  stop = new AbortController()
  /** There is no room for undo groups; `all`: for records that become longer neither. */
  isFull: 'no' | 'undo' | 'all' = 'no'
  onKill: () => void = () => undefined
  #groups = 0
  /** The record as it was read last. */
  #read: { text: string; record: ReplicaRecord } | null = null

  fork(): World {
    const other = new World()
    const copy = <K, V>(from: Map<K, V>, to: Map<K, V>): void => {
      for (const [key, value] of structuredClone(from)) to.set(key, value)
    }
    copy(this.source, other.source)
    copy(this.snapshots, other.snapshots)
    copy(this.disks, other.disks)
    copy(this.texts, other.texts)
    copy(this.copies, other.copies)
    copy(this.cuts, other.cuts)
    copy(this.numbers, other.numbers)
    other.nowMs = this.nowMs
    other.newFileSystem = this.newFileSystem
    other.#groups = this.#groups
    return other
  }

  /** A new controller may begin; the line is there again. */
  revive(): void {
    this.isDead = false
    this.lost = new AbortController()
    this.stop = new AbortController()
    this.faults.clear()
  }

  disk(path: string): Disk {
    const disk = this.disks.get(path)
    if (disk === undefined) throw new SyncError('host/file', `${path} is not there`)
    return disk
  }

  newGroup(disk: Disk): Group {
    this.#groups += 1
    const step: UndoStep = {
      group: this.#groups.toString(16).padStart(32, '0'),
      state: 'open',
      startedAt: new Date(this.nowMs).toISOString(),
      bytes: 0,
    }
    const group = { step, old: new Map<number, number>(), sizeBytes: disk.bytes.length }
    disk.groups.push(group)
    return group
  }

  setState(group: Group, state: UndoStep['state']): void {
    group.step = { ...group.step, state }
  }

  /** One byte of a destination, as the engine or an undo writes it. */
  put(path: string, offset: number, value: number): void {
    const disk = this.disk(path)
    if (disk.isProtected) this.violations.push(`${path} is written though it is read-only`)
    const state = this.record()?.state
    if (state !== 'writing' && state !== 'back')
      this.violations.push(`${path} is written while ${state ?? 'unrecorded'}`)
    disk.bytes[offset] = value
  }

  /** Of the one replica. */
  record(): ReplicaRecord | null {
    for (const [path, text] of this.texts) {
      const id = /replica\/([^/]+)\/replica\.json$/.exec(path)?.[1]
      if (id === undefined) continue
      // asked for at every call, and another one at few of them
      if (this.#read?.text !== text) this.#read = { text, record: checkedReplica(JSON.parse(text), id) }
      return this.#read.record
    }
    return null
  }

  /** `where` tells whether the line matters. */
  async call<T>(name: string, where: 'here' | 'there', act: () => T): Promise<T> {
    await Promise.resolve()
    if (this.isDead) throw new Killed()
    const fault = this.faults.get(this.calls)
    this.calls += 1
    this.nowMs += 1
    this.trace.push(name)
    if (fault === 'killed before') this.#kill()
    if (fault === 'link drops before') this.cut()
    if (where === 'there' && this.lost.signal.aborted) throw this.lost.signal.reason
    if (fault === 'fails before') throw new SyncError('host/program', `${name} failed`)
    if (fault === 'aborted') this.stop.abort(new SyncError('interrupt/sigterm', 'asked to stop'))
    const result = act()
    this.check(name)
    if (fault === 'killed after') this.#kill()
    if (fault === 'link drops after') this.cut()
    if (where === 'there' && this.lost.signal.aborted) throw this.lost.signal.reason
    if (fault === 'fails after') throw new SyncError('host/program', `${name} failed`)
    return result
  }

  #kill(): never {
    this.isDead = true
    this.onKill()
    throw new Killed()
  }

  cut(): void {
    this.lost.abort(new SyncError('host/lost', 'the other host cannot be asked any more'))
  }

  /** Every generation of the record is there, byte for byte, and no number was used twice. */
  check(at: string): void {
    const record = this.record()
    if (record === null) return
    for (const { number, attempt } of record.generations) {
      const before = this.numbers.get(number)
      if (before !== undefined && before !== attempt)
        this.violations.push(`${at}: generation ${number} is used twice`)
      this.numbers.set(number, attempt)
      const wanted = this.cuts.get(attempt)
      const got = record.disks.map((_, disk) => this.contentOf(record, number, disk))
      if (JSON.stringify(got) !== JSON.stringify(wanted))
        this.violations.push(
          `${at}: generation ${number} is ${JSON.stringify(got)}, not ${JSON.stringify(wanted)} (${record.state}, ${record.base})`,
        )
    }
  }

  /** What a person would get who restores that generation now. */
  contentOf(record: ReplicaRecord, number: number, index: number): readonly number[] | string {
    const generation = record.generations.find((each) => each.number === number)
    const path = record.disks[index]?.path ?? ''
    const copy = generation?.disks[index]?.copy ?? null
    if (copy !== null) {
      const there = copy.kind === 'reflink' ? this.copies.get(copy.path) : undefined
      return there?.isComplete === true ? there.bytes : 'no copy'
    }
    const newest = record.generations.at(-1)
    if (record.base !== 'generation' || newest === undefined) return 'no way'
    const disk = this.disks.get(path)
    if (disk === undefined) return 'no disk'
    const bytes = [...disk.bytes]
    const known = new Set(groupsOf(record, index))
    const dropped = record.disks[index]?.droppedUndo ?? null
    const from = disk.groups.findIndex(({ step }) => step.group === dropped) + 1
    const extra = disk.groups.slice(from).filter(({ step }) => !known.has(step.group))
    const back = [...extra.toReversed().map(({ step }) => step.group), ...wayBack(record, number, index)]
    for (const name of back) {
      const group = disk.groups.find(({ step }) => step.group === name)
      if (group === undefined) return `no group ${name}`
      for (const [offset, value] of group.old) bytes[offset] = value
      bytes.length = group.sizeBytes
    }
    return bytes
  }
}
