// What the two halves of a pass do when a disk fails, changes or is slow, or when the other half breaks the rules: they
// end, with the reason at both ends, nothing under way, and what was written flushed. No third outcome.

import { PassThrough } from 'node:stream'

import { describe, expect, it } from 'vitest'

import { createDigester } from '../../src/digest/open.js'
import { SyncError } from '../../src/errors.js'
import { runDestination } from '../../src/sync/destination.js'
import { type DataRecord, encodeData, encodeMark, encodeRefine } from '../../src/wire/bodies.js'
import { Channel } from '../../src/wire/channel.js'
import { FRAME } from '../../src/wire/frame.js'
import { randomBytes } from '../support/disks.js'
import { type Access, MemoryDisk } from '../support/memory-disk.js'
import { runPass, worked } from '../support/pass.js'
import { turns } from '../support/turns.js'

const KIB = 1024
const MIB = 1 << 20
const GEOMETRY = { blockBytes: 64 * KIB, leafBytes: 4 * KIB }

/** Fails the access of this kind that is the `nth` (from 0). */
function failing(access: Access, nth: number, error: Error): (access: Access) => Promise<void> {
  let count = 0
  return async (which) => {
    if (which !== access) return
    count += 1
    // Not at once: a disk never fails in the same turn.
    await turns(1)
    if (count > nth) throw error
  }
}

describe('a disk that fails', () => {
  const rows: readonly [string, 'source' | 'destination', Access, number][] = [
    ['the source while digesting, at once', 'source', 'digest', 0],
    ['the source while digesting, later', 'source', 'digest', 2],
    ['the source while reading what is sent, at once', 'source', 'read', 0],
    ['the source while reading what is sent, later', 'source', 'read', 40],
    ['the destination while digesting, at once', 'destination', 'digest', 0],
    ['the destination while digesting, later', 'destination', 'digest', 2],
    ['the destination while writing, at once', 'destination', 'write', 0],
    ['the destination while writing, later', 'destination', 'write', 30],
    ['the destination while zeroing', 'destination', 'zero', 0],
    ['the destination while flushing', 'destination', 'flush', 0],
  ]
  const errors: readonly [string, (role: string) => Error][] = [
    [
      'an error of the disk',
      (role) =>
        new SyncError(role === 'source' ? 'source/read' : 'destination/write', 'EIO at byte 7', {
          operand: '/dev/x',
        }),
    ],
    ['a defect', () => new TypeError('x is undefined')],
  ]
  for (const [name, role, access, nth] of rows) {
    for (const [what, make] of errors) {
      it(`ends the pass at both ends: ${name}, ${what}`, async () => {
        const content = randomBytes(24 * MIB)
        content.fill(0, 20 * MIB, 21 * MIB)
        // Holes at both ends cut the scan into several reads, however much one of them takes.
        const holes = [4, 8, 12].map((place) => ({ offset: place * MIB, length: 64 * KIB }))
        for (const { offset, length } of holes) content.fill(0, offset, offset + length)
        const old = Buffer.from(content)
        for (let at = 0; at < old.length; at += 16 * KIB) old[at] = (old[at] ?? 0) ^ 1
        for (const { offset, length } of holes) old.fill(0, offset, offset + length)
        const error = make(role)
        const before = failing(access, nth, error)
        const from = new MemoryDisk({
          role: 'source',
          content,
          holes,
          ...(role === 'source' ? { before } : {}),
        })
        const to = new MemoryDisk({
          role: 'destination',
          content: Buffer.from(old),
          holes,
          ...(role === 'destination' ? { before } : {}),
        })
        const { source, destination } = await runPass({ source: from, destination: to, geometry: GEOMETRY })
        const own = role === 'source' ? source : destination
        const other = role === 'source' ? destination : source
        expect(own).toEqual({ status: 'rejected', reason: error })
        const code = error instanceof SyncError ? error.code : 'internal'
        expect(other).toMatchObject({
          status: 'rejected',
          reason: { code, message: expect.stringContaining(error.message) as string },
        })
        expect({ source: from.underWay, destination: to.underWay }).toEqual({ source: 0, destination: 0 })
        // What was written is whole leaves of the source, and it was flushed.
        const changes = to.log.filter(({ access: which }) => which === 'write' || which === 'zero')
        if (changes.length > 0) expect(to.log.at(-1)?.access).toBe('flush')
        for (let at = 0; at < content.length; at += 4 * KIB) {
          const leaf = to.content.subarray(at, at + 4 * KIB)
          const known = [content, old].some((disk) => leaf.equals(disk.subarray(at, at + 4 * KIB)))
          if (!known) throw new Error(`the leaf at ${at} is neither old nor new`)
        }
      })
    }
  }
})

describe('a flush that fails', () => {
  type Failure = Readonly<{ code: 'destination/no-space' | 'session/lost'; reported: string }>
  const rows: readonly Failure[] = [
    { code: 'destination/no-space', reported: 'destination/no-space' },
    { code: 'session/lost', reported: 'destination/flush' },
  ]
  it.each(rows)('after $code is reported as $reported', async ({ code, reported }) => {
    let writes = 0
    let cut: () => void = () => undefined
    const to = new MemoryDisk({
      role: 'destination',
      content: Buffer.alloc(8 * MIB),
      before: (access) => {
        if (access === 'flush') throw new SyncError('destination/flush', 'EIO while flushing')
        if (access !== 'write' || (writes += 1) < 3) return
        if (code === 'destination/no-space') throw new SyncError(code, 'no room')
        cut()
      },
    })
    const { destination } = await runPass({
      source: new MemoryDisk({ role: 'source', content: randomBytes(8 * MIB) }),
      destination: to,
      geometry: GEOMETRY,
      onChannels: (_near, far) => (cut = () => far.fail(new SyncError('session/lost', 'cable cut'))),
    })
    expect(destination).toMatchObject({ status: 'rejected', reason: { code: reported } })
    expect(to.log.at(-1)?.access).toBe('flush')
  })
})

describe('a source that changes while it is sent', () => {
  /** Runs over a source that becomes `later` when the first piece is read to be sent. */
  async function changing(
    first: Buffer,
    later: Buffer,
    old: Buffer,
  ): Promise<{ to: MemoryDisk; from: MemoryDisk; sentBytes: number }> {
    const from: MemoryDisk = new MemoryDisk({
      role: 'source',
      content: Buffer.from(first),
      before: (access) => {
        if (access === 'read') from.content = later
      },
    })
    const to = new MemoryDisk({ role: 'destination', content: Buffer.from(old) })
    const { said, root } = worked(await runPass({ source: from, destination: to, geometry: GEOMETRY }))
    expect(root).toBe(said.root)
    // The root is that of what the destination holds: a pass over two copies of it ends with the same one.
    const held = worked(
      await runPass({
        source: new MemoryDisk({ role: 'source', content: Buffer.from(to.content) }),
        destination: new MemoryDisk({ role: 'destination', content: Buffer.from(to.content) }),
        geometry: GEOMETRY,
      }),
    )
    expect(held.root).toBe(root)
    return { to, from, sentBytes: said.sentBytes }
  }

  it('holds at the destination what was sent', async () => {
    const first = randomBytes(MIB + 5)
    const old = Buffer.from(first)
    const later = randomBytes(first.length)
    // Leaf 3 of block 2 and the short last leaf differ at first; only they are read again.
    old[2 * 64 * KIB + 3 * 4 * KIB] = (old[2 * 64 * KIB + 3 * 4 * KIB] ?? 0) ^ 1
    old[old.length - 1] = (old[old.length - 1] ?? 0) ^ 1
    const { to, sentBytes } = await changing(first, later, old)
    const expected = Buffer.from(first)
    later.copy(expected, 2 * 64 * KIB + 3 * 4 * KIB, 2 * 64 * KIB + 3 * 4 * KIB, 2 * 64 * KIB + 4 * 4 * KIB)
    later.copy(expected, MIB, MIB)
    expect(to.content.equals(expected)).toBe(true)
    expect(sentBytes).toBe(4 * KIB + 5)
  })

  it.each([
    ['to zeros', Buffer.alloc(MIB)],
    ['to what the destination has', null],
    ['from data to half zeros', Buffer.concat([randomBytes(32 * KIB), Buffer.alloc(MIB - 32 * KIB)])],
  ])('%s', async (_name, later) => {
    const first = randomBytes(MIB)
    const old = randomBytes(MIB)
    const { to } = await changing(first, later ?? old, old)
    expect(to.content.equals(later ?? old)).toBe(true)
  })

  it('over a destination of zeros', async () => {
    const later = randomBytes(MIB)
    later.fill(0, 100 * KIB, 300 * KIB)
    const { to } = await changing(randomBytes(MIB), later, Buffer.alloc(MIB))
    expect(to.content.equals(later)).toBe(true)
  })
})

describe('a source that breaks the rules', () => {
  const data = (records: readonly DataRecord[]): ((channel: Channel) => void) => {
    const payload = Buffer.alloc(
      records.reduce((sum, { kind, length }) => sum + (kind === 'data' ? length : 0), 0),
    )
    return (channel) => channel.post(FRAME.data, 0, encodeData(records), payload)
  }
  const rows: readonly [string, RegExp, (channel: Channel) => void][] = [
    ['data beyond the end', /outside the disk/, data([{ kind: 'data', offset: MIB, length: 4 * KIB }])],
    [
      'zeros beyond the end',
      /outside the disk/,
      data([{ kind: 'zero', offset: MIB - 4 * KIB, length: 8 * KIB }]),
    ],
    ['data off the grid', /off the grid/, data([{ kind: 'data', offset: 512, length: 4 * KIB }])],
    ['a length off the grid', /off the grid/, data([{ kind: 'data', offset: 0, length: 512 }])],
    [
      'data out of order',
      /out of order/,
      data([
        { kind: 'data', offset: 8 * KIB, length: 4 * KIB },
        { kind: 'data', offset: 4 * KIB, length: 4 * KIB },
      ]),
    ],
    ['a mark beyond the end', /mark at block 17/, (channel) => channel.post(FRAME.mark, 0, encodeMark(17))],
    [
      'data for another disk',
      /disk 1 during disk 0/,
      (channel) => channel.post(FRAME.mark, 1, encodeMark(0)),
    ],
    [
      'a question about no block',
      /block 99/,
      (channel) => channel.post(FRAME.refine, 0, encodeRefine('groups', [{ block: 99, group: 0 }])),
    ],
    [
      'a question about no group',
      /group 5 of block 0/,
      (channel) => channel.post(FRAME.refine, 0, encodeRefine('leaves', [{ block: 0, group: 5 }])),
    ],
    [
      'a frame that is out of place',
      /finished frame in the middle/,
      (channel) => channel.post(FRAME.finished, 0, Buffer.from('{}')),
    ],
    [
      'an early finish',
      /finish at block 16 after block 0/,
      (channel) => {
        const counts = {
          endBlock: 16,
          sameBlocks: 0,
          differentBlocks: 0,
          zeroBlocks: 0,
          skippedBlocks: 0,
          sentBytes: 0,
          zeroedBytes: 0,
          readBytes: 0,
        }
        channel.post(FRAME.finish, 0, Buffer.from(JSON.stringify({ root: 'ab'.repeat(32), ...counts })))
      },
    ],
    [
      'a finish in the middle of a section',
      /finish at block 4 of 16/,
      (channel) => {
        const counts = { sameBlocks: 4, differentBlocks: 0, zeroBlocks: 0, skippedBlocks: 0 }
        const bytes = { sentBytes: 0, zeroedBytes: 0, readBytes: 0 }
        const finish = { root: 'ab'.repeat(32), endBlock: 4, ...counts, ...bytes }
        channel.post(FRAME.mark, 0, encodeMark(4))
        channel.post(FRAME.finish, 0, Buffer.from(JSON.stringify(finish)))
      },
    ],
    [
      'a wrong root',
      /root digests differ/,
      (channel) => {
        const counts = {
          endBlock: 16,
          sameBlocks: 16,
          differentBlocks: 0,
          zeroBlocks: 0,
          skippedBlocks: 0,
          sentBytes: 0,
          zeroedBytes: 0,
          readBytes: 0,
        }
        channel.post(FRAME.mark, 0, encodeMark(16))
        channel.post(FRAME.finish, 0, Buffer.from(JSON.stringify({ root: 'ab'.repeat(32), ...counts })))
      },
    ],
  ]
  it.each(rows)('is refused before anything is written: %s', async (_name, message, attack) => {
    const forward = new PassThrough()
    const backward = new PassThrough()
    const near = new Channel(backward, forward, Buffer.alloc(0))
    const far = new Channel(forward, backward, Buffer.alloc(0))
    const content = randomBytes(MIB)
    const to = new MemoryDisk({ role: 'destination', content: Buffer.from(content) })
    const digester = await createDigester(
      { algorithm: 'xxh64x2', seed: Buffer.alloc(16), geometry: GEOMETRY },
      null,
    )
    const running = runDestination({
      channel: far,
      disk: 0,
      endpoint: to,
      digester,
      mode: 'write',
      range: { offset: 0, length: MIB },
      operand: '/dev/x',
    })
    // All is announced, so that what follows is judged for itself.
    await near.expect(FRAME.digests)
    attack(near)
    await expect(running).rejects.toThrow(message)
    await expect(running).rejects.toBeInstanceOf(SyncError)
    expect(to.underWay).toBe(0)
    expect(to.content.equals(content)).toBe(true)
  })
})
