// A byte stream over several streams and back: whatever the members do to the order and the cuts, the bytes are the same;
// a member that breaks ends it; a slow reader holds the writer back; hostile pieces are refused.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { PassThrough, Writable } from 'node:stream'

import { describe, expect, it } from 'vitest'

import {
  MAX_PIECE_BYTES,
  MAX_REORDER_BYTES,
  PIECE_COST_BYTES,
  PIECE_HEADER_BYTES,
} from '../../src/bond/piece.js'
import { BondReceiver } from '../../src/bond/receiver.js'
import { openBondOutput } from '../../src/bond/sender.js'
import type { SyncError } from '../../src/errors.js'
import { crookedLine, randomNumbers, readAll } from './memory.js'

const NOTHING = Buffer.alloc(0)

function receiver(): { receiver: BondReceiver; failures: SyncError[] } {
  const failures: SyncError[] = []
  return { receiver: new BondReceiver((error) => failures.push(error)), failures }
}

function joined(members: readonly PassThrough[]): ReturnType<typeof receiver> {
  const made = receiver()
  for (const member of members) made.receiver.add(member, NOTHING)
  return made
}

function bondOf(members: readonly PassThrough[]): Writable {
  const [first, ...rest] = members
  if (first === undefined) throw new Error('no members')
  return openBondOutput([first, ...rest])
}

function piece(sequence: number, bytes: Buffer, length = bytes.length): Buffer {
  const header = Buffer.alloc(PIECE_HEADER_BYTES)
  header.writeUInt32BE(sequence >>> 0, 0)
  header.writeUInt32BE(length, 4)
  return Buffer.concat([header, bytes])
}

async function turns(count = 5): Promise<void> {
  for (let left = count; left > 0; left -= 1) await new Promise((resolve) => setImmediate(resolve))
}

describe('a bond', () => {
  it.each([1, 2, 3, 8])('of %i streams gives the bytes that it got', async (count) => {
    for (const seed of [1, 2, 3]) {
      const random = randomNumbers(seed * 1000 + count)
      const members = Array.from({ length: count }, () => crookedLine(random))
      const output = bondOf(members)
      const { receiver: into, failures } = joined(members)
      const sent: Buffer[] = []
      const finished = once(output, 'finish')
      const reading = readAll(into.input, () => {
        if (random(20) !== 0) return
        into.input.pause()
        setImmediate(() => into.input.resume())
      })
      for (let round = 0; round < 60; round += 1) {
        const chunk = randomBytes(1 + random(random(3) === 0 ? 400_000 : 40))
        const copy = Buffer.from(chunk)
        sent.push(copy)
        // What was accepted may be overwritten.
        output.write(chunk, () => chunk.fill(0))
        if (random(4) === 0) await turns(1)
      }
      output.end()
      const received = await reading
      expect(received.equals(Buffer.concat(sent))).toBe(true)
      expect(failures).toEqual([])
      await finished
      expect(members.every((member) => member.writableFinished)).toBe(true)
    }
  })

  it('uses every member, and ends the plain one last', async () => {
    const members = Array.from({ length: 4 }, () => new PassThrough())
    const ended: number[] = []
    const carried = members.map((member, index) => {
      let bytes = 0
      member.on('data', (chunk: Buffer) => (bytes += chunk.length))
      member.once('finish', () => ended.push(index))
      return () => bytes
    })
    const output = bondOf(members)
    output.end(Buffer.alloc(40 * MAX_PIECE_BYTES))
    await once(output, 'finish')
    expect(carried.map((bytes) => bytes() > 5 * MAX_PIECE_BYTES)).toEqual([true, true, true, true])
    expect(ended.at(-1)).toBe(0)
  })

  it('goes around a member that takes nothing for a while', async () => {
    const stuck = new PassThrough({ highWaterMark: 1 })
    const free = new PassThrough()
    let bytes = 0
    free.on('data', (chunk: Buffer) => (bytes += chunk.length))
    const output = bondOf([free, stuck])
    output.write(Buffer.alloc(60 * MAX_PIECE_BYTES))
    await turns(400)
    expect(bytes).toBeGreaterThan(50 * MAX_PIECE_BYTES)
    output.destroy()
  })

  it('counts what it has not taken, and takes no more than it has members', async () => {
    const stuck = [1, 2].map(() => new Writable({ write: () => undefined, highWaterMark: 1 }))
    const [plain, further] = stuck
    if (plain === undefined || further === undefined) throw new Error('no members')
    const output = openBondOutput([plain, further])
    let accepted = 0
    for (let index = 0; index < 20; index += 1)
      output.write(Buffer.alloc(MAX_PIECE_BYTES), () => (accepted += 1))
    await turns()
    // Two with the members, one that is being filled; all of it was written in two batches.
    expect(accepted).toBeLessThanOrEqual(3)
    expect(output.writableLength).toBeGreaterThanOrEqual(17 * MAX_PIECE_BYTES)
  })

  it('holds the members back while nobody reads', async () => {
    const members = [new PassThrough({ highWaterMark: 1 }), new PassThrough({ highWaterMark: 1 })]
    const { receiver: into } = joined(members)
    into.input.on('data', () => undefined)
    await turns()
    into.input.pause()
    expect(members.map((member) => member.isPaused())).toEqual([true, true])
    into.input.resume()
    await turns()
    expect(members.map((member) => member.isPaused())).toEqual([false, false])
  })

  it.each([0, 1, 2])('is lost with member %i, at both ends', async (broken) => {
    const members = Array.from({ length: 3 }, () => new PassThrough())
    const output = bondOf(members)
    const { receiver: into } = joined(members)
    const reading = readAll(into.input)
    const failed = once(output, 'error')
    output.write(Buffer.alloc(1000, 1))
    await turns()
    members[broken]?.destroy()
    const [error] = (await failed) as [Error]
    expect(error.message).toMatch(/closed|destroyed/)
    expect((await reading).equals(Buffer.alloc(1000, 1))).toBe(true)
    // The other side hears of it by the end of the plain stream.
    if (broken !== 0) expect(members[0]?.writableEnded).toBe(true)
    expect(output.destroyed).toBe(true)
  })

  it('says of a stream that ends without its mark that it is over', async () => {
    const members = [new PassThrough(), new PassThrough()]
    const { receiver: into, failures } = joined(members)
    const reading = readAll(into.input)
    members[0]?.write(piece(0, Buffer.from('abc')))
    members[1]?.end(piece(2, Buffer.from('ghi')))
    expect((await reading).toString()).toBe('abc')
    expect(failures).toEqual([])
  })

  it('takes what comes before all members are there', async () => {
    const { receiver: into } = receiver()
    const early = new PassThrough()
    into.add(early, NOTHING)
    early.write(piece(1, Buffer.from('second')))
    await turns()
    const reading = readAll(into.input)
    const late = new PassThrough()
    into.add(late, Buffer.concat([piece(0, Buffer.from('first ')), piece(2, NOTHING)]))
    early.end(piece(2, NOTHING))
    late.end()
    expect((await reading).toString()).toBe('first second')
  })

  it('goes on where the numbers wrap', async () => {
    const { receiver: into } = receiver()
    const member = new PassThrough({ highWaterMark: 1 << 30 })
    into.add(member, NOTHING)
    const one = Buffer.from('x')
    let got = 0
    into.input.on('data', (chunk: Uint8Array) => (got += chunk.length))
    // Ahead of the due one by less than the bound, and behind it by one: that is nearly 2^32 ahead.
    member.write(Buffer.concat([piece(1, one), piece(0, one), piece(2, one)]))
    await turns()
    expect(got).toBe(3)
  })
})

describe('hostile pieces', () => {
  const one = Buffer.from('x')
  const rows: readonly [string, readonly Buffer[], RegExp][] = [
    ['longer than a piece', [piece(0, NOTHING, MAX_PIECE_BYTES + 1)], /more than 65536/],
    ['twice, while it waits', [piece(1, one), piece(1, one)], /piece 1 twice/],
    ['twice, after it was handed on', [piece(0, one), piece(0, one)], /piece 0 where 1 was due/],
    ['twice, while it comes', [piece(0, one, 2), piece(0, one)], /./],
    ['too far ahead', [piece(MAX_REORDER_BYTES / PIECE_COST_BYTES, one)], /was due/],
    ['behind the first', [piece(-1, one)], /was due/],
    ['behind the end', [piece(1, NOTHING), one], /bytes behind the end/],
  ]
  it.each(rows)('%s', async (name, pieces, reason) => {
    const { receiver: into, failures } = receiver()
    const [first, second] = [new PassThrough(), new PassThrough()]
    into.add(first, NOTHING)
    into.add(second, NOTHING)
    const reading = readAll(into.input)
    const isOther = name === 'twice, while it comes'
    for (const [index, bytes] of pieces.entries()) {
      ;(isOther && index > 0 ? second : first).write(bytes)
      await turns(1)
    }
    await reading
    expect(failures.map(({ code }) => code)).toEqual(['session/protocol'])
    expect(failures[0]?.message).toMatch(reason)
  })

  it('two different ends', async () => {
    const { receiver: into, failures } = receiver()
    const [first, second] = [new PassThrough(), new PassThrough()]
    into.add(first, piece(5, NOTHING))
    into.add(second, piece(6, NOTHING))
    await readAll(into.input)
    expect(failures[0]?.message).toMatch(/two different ends/)
  })

  it('more than may wait', async () => {
    const { receiver: into, failures } = receiver()
    const member = new PassThrough()
    into.add(member, NOTHING)
    const reading = readAll(into.input)
    const most = Math.floor(MAX_REORDER_BYTES / (MAX_PIECE_BYTES + PIECE_COST_BYTES))
    // Only announced: the bound is checked before memory is taken.
    for (let index = 1; index <= most; index += 1) member.write(piece(index, Buffer.alloc(MAX_PIECE_BYTES)))
    await turns(most)
    expect(failures).toEqual([])
    member.write(piece(most + 1, NOTHING, MAX_PIECE_BYTES))
    await reading
    expect(failures[0]?.message).toMatch(/more than 33554432 bytes ahead of piece 0/)
  })
})
