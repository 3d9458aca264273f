// Power lost at every point of runs with a journal, of the runs after them, and of undoing: the old content comes back, byte
// for byte, whatever of the unflushed writes was lost.

import { describe, expect, it } from 'vitest'

import { attempt, drop, groupsOf, newestGroup, undo } from './attempt.js'
import type { Frame } from './attempt.js'
import { Machine, randomFrom } from './power.js'

const SECTOR = 512
/** Shares of unflushed sectors that survive: none, most of them, all, and half. */
const SHARES = [0, 0.9, 1, 0.5]

type Random = () => number

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit)
}

function someBytes(random: Random, length: number): Buffer {
  return random() < 0.25
    ? Buffer.alloc(length)
    : Buffer.from(Array.from({ length }, () => below(random, 256)))
}

function someDisk(random: Random, sectors: number): Buffer {
  return Buffer.concat(Array.from({ length: sectors }, () => someBytes(random, SECTOR)))
}

/** Ascending records in a few frames, as a source sends them. */
function someFrames(random: Random, sizeBytes: number): Frame[] {
  const frames: Frame[] = []
  let frame: Frame[number][] = []
  for (let sector = below(random, 3); sector < sizeBytes / SECTOR;) {
    const count = Math.min(1 + below(random, 4), sizeBytes / SECTOR - sector)
    const [offset, length] = [sector * SECTOR, count * SECTOR]
    frame.push(
      random() < 0.3
        ? { kind: 'zero', offset, length }
        : { kind: 'data', offset, bytes: someBytes(random, length) },
    )
    sector += count + below(random, 4)
    if (random() < 0.5) {
      frames.push(frame)
      frame = []
    }
  }
  return frame.length === 0 ? frames : [...frames, frame]
}

/** Undo, once or with power lost in the middle and again, and again. */
async function undoThroughPowerLosses(machine: Machine, random: Random, losses: number): Promise<Machine> {
  let now = machine
  const group = await newestGroup(machine)
  if (group === null) return machine
  for (let left = losses; left > 0; left--) {
    const before = now
    if ((await newestGroup(before)) !== group) return before
    await undo(before)
    const count = below(random, before.ops.length + 1)
    now = before.afterPowerLoss(count, SHARES[below(random, SHARES.length)] ?? 0, random)
  }
  if ((await newestGroup(now)) === group) await undo(now)
  return now
}

/** All points right behind a flush, and others, `most` of them. */
function pointsOf(machine: Machine, random: Random, most: number): number[] {
  const flushes = machine.ops.flatMap((op, index) => (op.kind.startsWith('flush') ? [index, index + 1] : []))
  const others = Array.from({ length: 12 }, () => below(random, machine.ops.length + 1))
  const all = [...new Set([...flushes, ...others])]
  while (all.length > most) all.splice(below(random, all.length), 1)
  return all
}

type Story = { machine: Machine; snapshots: Map<string, Buffer> }

/** One run, recorded; knows what the disk held when each group was begun. */
async function record(
  story: Story,
  random: Random,
  end: 'finished' | 'stopped',
  keep: 'one' | 'chain' = 'one',
): Promise<string> {
  const { machine, snapshots } = story
  const before = Buffer.from(machine.disk ?? Buffer.alloc(0))
  const growTo = random() < 0.3 ? before.length + SECTOR * (1 + below(random, 4)) : undefined
  let group = ''
  await attempt(machine, {
    frames: someFrames(random, growTo ?? before.length),
    ...(growTo === undefined ? {} : { growTo }),
    lanes: 1 + below(random, 2),
    end,
    place: { keep },
    onBegun: ({ report }) => {
      group = report?.group ?? ''
      if (!snapshots.has(group)) snapshots.set(group, before)
    },
  })
  return group
}

async function expectOld(
  machine: Machine,
  group: string | null,
  old: Buffer,
  snapshots: Map<string, Buffer>,
  why: string,
): Promise<void> {
  const expected = group === null ? old : snapshots.get(group)
  expect(expected, `${why}: a group that nobody began`).toBeDefined()
  expect(machine.disk?.equals(expected ?? Buffer.alloc(0)), why).toBe(true)
  expect(machine.paths.filter((path) => path.includes(`/${group ?? ''}-`))).toEqual([])
}

describe('power loss', () => {
  it('during a run, and during undoing it', { timeout: 30_000 }, async () => {
    let cases = 0
    for (let seed = 1; seed <= 32; seed++) {
      const random = randomFrom(seed)
      const story: Story = { machine: Machine.withDisk(someDisk(random, 24), random), snapshots: new Map() }
      const original = Buffer.from(story.machine.disk ?? Buffer.alloc(0))
      const group = await record(story, random, seed % 2 === 0 ? 'finished' : 'stopped')
      const firstWrite = story.machine.ops.findIndex((op) => story.machine.isDiskChange(op))
      for (const point of pointsOf(story.machine, random, 40)) {
        for (const share of SHARES) {
          const why = `seed ${seed}, ${share} left behind operation ${point}`
          const crashed = story.machine.afterPowerLoss(point, share, random)
          const found = await newestGroup(crashed)
          if (point > firstWrite) expect(found, why).toBe(group)
          const undone = await undoThroughPowerLosses(crashed, random, below(random, 3))
          await expectOld(undone, found, original, story.snapshots, why)
          cases += 1
        }
      }
    }
    expect(cases).toBeGreaterThan(2500)
  })

  it(
    'during the run after one that was cut off: back to before the first of them',
    { timeout: 30_000 },
    async () => {
      let cases = 0
      for (let seed = 101; seed <= 150; seed++) {
        const random = randomFrom(seed)
        const story: Story = { machine: Machine.withDisk(someDisk(random, 20), random), snapshots: new Map() }
        const original = Buffer.from(story.machine.disk ?? Buffer.alloc(0))
        const first = await record(story, random, 'finished')
        const begun = story.machine.ops.findIndex((op) => story.machine.isDiskChange(op))
        // not after its end: that would be a run that finished
        const cut = begun + 1 + below(random, Math.max(1, story.machine.ops.length - begun - 12))
        story.machine = story.machine.afterPowerLoss(cut, SHARES[below(random, SHARES.length)] ?? 0, random)
        const second = await record(story, random, random() < 0.5 ? 'finished' : 'stopped')
        const isContinued = second === first
        for (const point of pointsOf(story.machine, random, 12)) {
          const why = `seed ${seed}, behind operation ${point}`
          const crashed = story.machine.afterPowerLoss(point, SHARES[point % SHARES.length] ?? 0, random)
          const found = await newestGroup(crashed)
          if (isContinued) expect(found, why).toBe(first)
          const undone = await undoThroughPowerLosses(crashed, random, below(random, 3))
          await expectOld(undone, found, original, story.snapshots, why)
          if (isContinued) expect(undone.disk?.equals(original), why).toBe(true)
          cases += 1
        }
      }
      expect(cases).toBeGreaterThan(400)
    },
  )

  it('during a run after a finished one: back to before it, never further', { timeout: 30_000 }, async () => {
    for (let seed = 201; seed <= 220; seed++) {
      const random = randomFrom(seed)
      const story: Story = { machine: Machine.withDisk(someDisk(random, 16), random), snapshots: new Map() }
      const first = await record(story, random, 'finished')
      story.machine = story.machine.afterPowerLoss(story.machine.ops.length, 1, random)
      const between = Buffer.from(story.machine.disk ?? Buffer.alloc(0))
      const second = await record(story, random, 'finished')
      expect(second).not.toBe(first)
      const firstWrite = story.machine.ops.findIndex((op) => story.machine.isDiskChange(op))
      for (const point of pointsOf(story.machine, random, 30)) {
        const why = `seed ${seed}, behind operation ${point}`
        const crashed = story.machine.afterPowerLoss(point, SHARES[point % SHARES.length] ?? 0, random)
        const found = await newestGroup(crashed)
        if (point > firstWrite) expect(found, why).toBe(second)
        expect([first, second], why).toContain(found)
        if (found !== second) continue
        const undone = await undoThroughPowerLosses(crashed, random, below(random, 3))
        expect(undone.disk?.equals(between), why).toBe(true)
      }
    }
  })

  it('during runs of a chain: back to before each of them', { timeout: 60_000 }, async () => {
    let cases = 0
    let steps = 0
    for (let seed = 301; seed <= 325; seed++) {
      const random = randomFrom(seed)
      const story: Story = { machine: Machine.withDisk(someDisk(random, 16), random), snapshots: new Map() }
      const begun: string[] = []
      for (let run = 0; run < 4; run++)
        begun.push(await record(story, random, run === 3 && seed % 2 === 0 ? 'stopped' : 'finished', 'chain'))
      // runs that changed nothing left no step
      const kept = await groupsOf(story.machine)
      for (const point of pointsOf(story.machine, random, 16)) {
        const why = `seed ${seed}, behind operation ${point}`
        let now = story.machine.afterPowerLoss(point, SHARES[point % SHARES.length] ?? 0, random)
        const found = await groupsOf(now)
        // those that were there for good, and the one of the run that was cut off
        const known = kept.filter((group) => found.includes(group))
        expect(known, why).toEqual(kept.slice(0, known.length))
        expect(found.length - known.length, why).toBeLessThanOrEqual(1)
        for (const group of found.toReversed()) {
          now = await undoThroughPowerLosses(now, random, below(random, 2))
          await expectOld(now, group, Buffer.alloc(0), story.snapshots, `${why}, step ${group}`)
          // the next step may be cut off too, and this one is done
          now = now.afterPowerLoss(now.ops.length, SHARES[below(random, SHARES.length)] ?? 0, random)
          expect(await groupsOf(now), why).toEqual(found.slice(0, found.indexOf(group)))
          steps += 1
        }
        cases += 1
      }
      expect(begun.filter((group) => kept.includes(group))).toEqual(kept)
    }
    expect(cases).toBeGreaterThan(300)
    expect(steps).toBeGreaterThan(500)
  })

  it(
    'while the oldest steps of a chain are given up: the others lead back',
    { timeout: 30_000 },
    async () => {
      for (let seed = 401; seed <= 412; seed++) {
        const random = randomFrom(seed)
        const story: Story = { machine: Machine.withDisk(someDisk(random, 16), random), snapshots: new Map() }
        for (let run = 0; run < 4; run++) await record(story, random, 'finished', 'chain')
        const kept = await groupsOf(story.machine)
        story.machine = story.machine.afterPowerLoss(story.machine.ops.length, 1, random)
        const last = kept.at(-2) ?? ''
        await drop(story.machine, last)
        expect(await groupsOf(story.machine)).toEqual(kept.slice(-1))
        for (let point = 0; point <= story.machine.ops.length; point++) {
          const why = `seed ${seed}, behind operation ${point}`
          let now = story.machine.afterPowerLoss(point, SHARES[point % SHARES.length] ?? 0, random)
          const found = await groupsOf(now)
          expect(found, why).toEqual(kept.slice(kept.length - found.length))
          if (point % 2 === 0) {
            await drop(now, last)
            expect(await groupsOf(now), why).toEqual(kept.slice(-1))
          }
          for (const group of (await groupsOf(now)).toReversed()) {
            now = await undoThroughPowerLosses(now, random, 0)
            await expectOld(now, group, Buffer.alloc(0), story.snapshots, why)
          }
          expect(
            now.paths.filter((path) => path.endsWith('.undo')),
            why,
          ).toEqual([])
        }
      }
    },
  )

  it('would be noticed where a write did not wait for the journal', async () => {
    const random = randomFrom(7)
    const machine = Machine.withDisk(someDisk(random, 24), random)
    const original = Buffer.from(machine.disk ?? Buffer.alloc(0))
    await attempt(machine, { frames: someFrames(random, original.length), end: 'stopped' })
    // the same record with the journal's flushes taken out
    const lying = machine.ops.filter((op) => op.kind !== 'flush-data')
    machine.ops.splice(0, machine.ops.length, ...lying)
    let wrong = 0
    for (let point = 0; point <= machine.ops.length; point++) {
      const crashed = machine.afterPowerLoss(point, 0.5, random)
      try {
        if ((await newestGroup(crashed)) !== null) await undo(crashed)
      } catch {
        wrong += 1 // a journal with damage in its middle is noticed
        continue
      }
      if (crashed.disk?.equals(original) !== true) wrong += 1
    }
    expect(wrong).toBeGreaterThan(0)
  })
})
