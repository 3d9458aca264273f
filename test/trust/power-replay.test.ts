// The destination of a pass loses its power: what it wrote and flushed is recorded, and played back up to every flush and to
// points between, with any part of what no flush covered lost. Every sector is old or new, running again converges, and
// what was reported as done is there.

import { describe, expect, it } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import { isZero, MemoryDisk } from '../support/memory-disk.js'
import { runPass, worked } from '../support/pass.js'
import { randomFrom } from '../undo/power.js'
import { noise, strangeSector } from './kill-content.js'

const SECTOR_BYTES = 512
const GEOMETRY = { blockBytes: 8192, leafBytes: 512 }
const DISK_BYTES = 96 * 8192 + 1536
const SHARES = [0, 0.1, 0.5, 0.9, 1] as const

/** `covers`: a flush makes what is before that place in the record stable. */
type Op = { kind: 'write'; offset: number; bytes: Buffer } | { kind: 'flush'; covers: number }

/** A destination that takes a while for everything and keeps a record of what changed it. */
class RecordedDisk extends MemoryDisk {
  readonly ops: Op[] = []

  override async write(ranges: readonly Range[], from: Uint8Array): Promise<void> {
    let at = 0
    for (const { offset, length } of ranges) {
      this.ops.push({ kind: 'write', offset, bytes: Buffer.from(from.subarray(at, at + length)) })
      at += length
    }
    await super.write(ranges, from)
  }

  override async zero(ranges: readonly Range[]): Promise<void> {
    for (const { offset, length } of ranges)
      this.ops.push({ kind: 'write', offset, bytes: Buffer.alloc(length) })
    await super.zero(ranges)
  }

  override async flush(): Promise<void> {
    const covers = this.ops.length
    await super.flush()
    this.ops.push({ kind: 'flush', covers })
  }
}

/** What is on the disk after its power was lost behind `count` operations. */
function afterPowerLoss(
  old: Buffer,
  ops: readonly Op[],
  count: number,
  share: number,
  random: () => number,
): Buffer {
  const happened = ops.slice(0, count)
  const stable = happened.reduce((most, op) => (op.kind === 'flush' ? Math.max(most, op.covers) : most), 0)
  const content = Buffer.from(old)
  happened.forEach((op, index) => {
    if (op.kind === 'flush') return
    for (let at = 0; at < op.bytes.length; at += SECTOR_BYTES)
      if (index < stable || random() < share)
        op.bytes.copy(content, op.offset + at, at, Math.min(at + SECTOR_BYTES, op.bytes.length))
  })
  return content
}

function disks(random: () => number): { fresh: Buffer; old: Buffer } {
  const contentSeed = Math.floor(random() * 2 ** 31)
  const fresh = noise(contentSeed, DISK_BYTES)
  fresh.fill(0, 10 * 8192, 20 * 8192)
  const old = Buffer.from(fresh)
  for (let pieces = 0; pieces < 40; pieces += 1) {
    const length = SECTOR_BYTES * (1 + Math.floor(random() * 12))
    const at = SECTOR_BYTES * Math.floor((random() * (DISK_BYTES - length)) / SECTOR_BYTES)
    noise(contentSeed + pieces + 1, length).copy(old, at)
  }
  old.fill(0, 60 * 8192, 64 * 8192)
  return { fresh, old }
}

async function pass(fresh: Buffer, destination: MemoryDisk): Promise<void> {
  const source = new MemoryDisk({ role: 'source', content: fresh })
  worked(await runPass({ source, destination, geometry: GEOMETRY }))
}

/** A pass over `old`; every access takes some turns of the loop, so that writes overlap. */
async function recorded(fresh: Buffer, old: Buffer, random: () => number): Promise<RecordedDisk> {
  const destination = new RecordedDisk({
    role: 'destination',
    content: Buffer.from(old),
    before: async () => {
      for (let turns = Math.floor(random() * 4); turns > 0; turns -= 1) await Promise.resolve()
    },
  })
  await pass(fresh, destination)
  return destination
}

/** Behind every flush and right before it, and at some points between. */
function pointsOf(ops: readonly Op[], random: () => number): number[] {
  const points = new Set([0, ops.length])
  ops.forEach((op, index) => op.kind === 'flush' && points.add(index).add(index + 1))
  for (let more = 0; more < 6; more += 1) points.add(Math.floor(random() * ops.length))
  return [...points]
}

describe('a destination that loses its power', () => {
  it('is old or new everywhere, and the same run again makes it equal', async () => {
    let mixed = 0
    for (let seed = 1; seed <= 8; seed += 1) {
      const random = randomFrom(seed)
      const { fresh, old } = disks(random)
      const { ops } = await recorded(fresh, old, random)
      for (const point of pointsOf(ops, random)) {
        const share = SHARES[Math.floor(random() * SHARES.length)] ?? 0
        const why = `seed ${seed}, behind operation ${point} of ${ops.length}, ${share} kept`
        const content = afterPowerLoss(old, ops, point, share, random)
        expect(strangeSector(content, old, fresh), why).toBe(null)
        if (!content.equals(old) && !content.equals(fresh)) mixed += 1
        const again = new MemoryDisk({ role: 'destination', content: Buffer.from(content) })
        await pass(fresh, again)
        expect(again.content.equals(fresh), why).toBe(true)
        // what had arrived is not written a second time
        for (const { offset, length } of [...again.ranges('write'), ...again.ranges('zero')])
          expect(
            content.subarray(offset, offset + length).equals(fresh.subarray(offset, offset + length)),
            why,
          ).toBe(false)
      }
    }
    expect(mixed).toBeGreaterThan(20)
  })

  it('has everything when the pass has said that it is done', async () => {
    for (let seed = 21; seed <= 26; seed += 1) {
      const random = randomFrom(seed)
      const { fresh, old } = disks(random)
      const { ops } = await recorded(fresh, old, random)
      expect(ops.some((op) => op.kind === 'write' && isZero(op.bytes))).toBe(true)
      expect(afterPowerLoss(old, ops, ops.length, 0, random).equals(fresh), `seed ${seed}`).toBe(true)
    }
  })

  it('would be noticed where the flush came before the last write', async () => {
    const random = randomFrom(31)
    const { fresh, old } = disks(random)
    const { ops } = await recorded(fresh, old, random)
    const lying = ops.map((op): Op => (op.kind === 'flush' ? { ...op, covers: op.covers - 1 } : op))
    expect(afterPowerLoss(old, lying, lying.length, 0, random).equals(fresh)).toBe(false)
  })
})
