// Each half of a pass against a peer whose frames are well formed and wrong: what docs/protocol.md forbids ends the pass
// with session/protocol, and nothing of it reaches the disk.

import { Throttle } from '../../src/rate/throttle.js'
import { describe, expect, it } from 'vitest'

import { createDigester } from '../../src/digest/open.js'
import type { Role } from '../../src/endpoint/endpoint.js'
import type { Digester } from '../../src/digest/digester.js'
import { SECTION_BYTES } from '../../src/digest/root.js'
import { runDestination } from '../../src/sync/destination.js'
import { runSource } from '../../src/sync/source.js'
import type { DataRecord, WireRun } from '../../src/wire/bodies.js'
import { encodeData, encodeDetail, encodeDigests, encodeMark, encodeRefine } from '../../src/wire/bodies.js'
import type { Channel } from '../../src/wire/channel.js'
import { encodeControl } from '../../src/wire/control.js'
import type { FrameType } from '../../src/wire/frame.js'
import { FRAME, MAX_ZERO_RECORD_BYTES } from '../../src/wire/frame.js'
import { MemoryDisk } from '../support/memory-disk.js'
import { expectRejected } from './expect.js'
import { channelPair } from './pair.js'

const LEAF_BYTES = 512
const ROOT = '00'.repeat(32)
const FINISH = {
  root: ROOT,
  endBlock: 4,
  sameBlocks: 0,
  differentBlocks: 0,
  zeroBlocks: 0,
  skippedBlocks: 0,
  sentBytes: 0,
  zeroedBytes: 0,
  readBytes: 0,
}

/** A disk of text in blocks of `blockBytes`, all different from zeros. */
function diskOf(role: Role, blocks: number, blockBytes: number): MemoryDisk {
  return new MemoryDisk({ role, content: Buffer.alloc(blocks * blockBytes, 'text') })
}

async function digesterOf(blockBytes: number, leafBytes = LEAF_BYTES): Promise<Digester> {
  return await createDigester(
    { algorithm: 'xxh64x2', seed: Buffer.alloc(16, 1), geometry: { blockBytes, leafBytes } },
    null,
  )
}

type Say = (type: FrameType, body?: Uint8Array, disk?: number) => void

function sayOn(channel: Channel): Say {
  return (type, body = Buffer.alloc(0), disk = 0) => channel.post(type, disk, body)
}

function data(...records: readonly DataRecord[]): Buffer {
  const bytes = records.reduce((sum, { kind, length }) => sum + (kind === 'data' ? length : 0), 0)
  return Buffer.concat([encodeData(records), Buffer.alloc(bytes, 0xee)])
}

const record = (offset: number, length: number, kind: DataRecord['kind'] = 'data'): DataRecord => ({
  kind,
  offset,
  length,
})

describe('a destination refuses a source', () => {
  const BLOCK_BYTES = 16384
  const END = 4 * BLOCK_BYTES

  /** Starts a pass over four blocks, waits until all are announced, lets `act` speak, and gives what became of it. */
  async function against(act: (say: Say) => void, mode: 'write' | 'compare' = 'write'): Promise<string> {
    const disk = diskOf('destination', 4, BLOCK_BYTES)
    const before = Buffer.from(disk.content)
    const { near, far } = channelPair()
    const digester = await digesterOf(BLOCK_BYTES)
    const running = runDestination({
      channel: far,
      disk: 0,
      endpoint: disk,
      digester,
      mode,
      range: { offset: 0, length: END },
      operand: '/d',
    })
    running.catch(() => undefined) // looked at below
    await near.expect(FRAME.digests)
    act(sayOn(near))
    const { message } = await expectRejected('session/protocol', running)
    expect(disk.content.equals(before)).toBe(true)
    return message
  }

  const cases: readonly [string, (say: Say) => void, string][] = [
    ['data beyond the disk', (say) => say(FRAME.data, data(record(END - 512, 1024))), 'outside the disk'],
    [
      'data far beyond the disk',
      (say) => say(FRAME.data, data(record(Number.MAX_SAFE_INTEGER - 511, 512))),
      'outside the disk',
    ],
    [
      'zeros beyond the disk',
      (say) => say(FRAME.data, data(record(0, MAX_ZERO_RECORD_BYTES, 'zero'))),
      'outside the disk',
    ],
    [
      'more zeros than one record may have',
      (say) => say(FRAME.data, data(record(0, MAX_ZERO_RECORD_BYTES + 512, 'zero'))),
      'data record of',
    ],
    ['data that starts off the grid', (say) => say(FRAME.data, data(record(100, 412))), 'off the grid'],
    ['data that ends off the grid', (say) => say(FRAME.data, data(record(0, 100))), 'off the grid'],
    [
      'records that overlap',
      (say) => say(FRAME.data, data(record(0, 1024), record(512, 512))),
      'out of order',
    ],
    [
      'records that go back',
      (say) => say(FRAME.data, data(record(1024, 512), record(0, 512))),
      'out of order',
    ],
    [
      'data for a block that is decided',
      (say) => (say(FRAME.mark, encodeMark(2)), say(FRAME.data, data(record(0, 512)))),
      'decided',
    ],
    ['a mark beyond what was announced', (say) => say(FRAME.mark, encodeMark(5)), 'mark at block 5'],
    [
      'a mark that goes back',
      (say) => (say(FRAME.mark, encodeMark(2)), say(FRAME.mark, encodeMark(1))),
      'mark at block 1',
    ],
    [
      'details of a block that is not there',
      (say) => say(FRAME.refine, encodeRefine('groups', [{ block: 4, group: 0 }])),
      'block 4',
    ],
    [
      'details of a group that is not there',
      (say) => say(FRAME.refine, encodeRefine('leaves', [{ block: 0, group: 2 }])),
      'group 2',
    ],
    [
      'details of a block that is decided',
      (say) => (
        say(FRAME.mark, encodeMark(1)),
        say(FRAME.refine, encodeRefine('groups', [{ block: 0, group: 0 }]))
      ),
      'block 0',
    ],
    [
      'a finish before the last mark',
      (say) => (say(FRAME.mark, encodeMark(3)), say(FRAME.finish, encodeControl(FINISH))),
      'finish at block 4 after block 3',
    ],
    [
      'a finish that ends where the marks are, in the middle of a section',
      (say) => (say(FRAME.mark, encodeMark(3)), say(FRAME.finish, encodeControl({ ...FINISH, endBlock: 3 }))),
      'finish at block 3 of 4',
    ],
    [
      'a finish beyond the range',
      (say) => (
        say(FRAME.mark, encodeMark(4)),
        say(FRAME.finish, encodeControl({ ...FINISH, endBlock: 4096 }))
      ),
      'finish at block 4096 after block 4',
    ],
    ['a frame for another disk', (say) => say(FRAME.mark, encodeMark(1), 1), 'disk 1'],
    ['a frame that is not of a pass', (say) => say(FRAME.bye), 'bye frame'],
    [
      'frames of its own role',
      (say) => say(FRAME.detail, Buffer.concat(encodeDetail('groups', 1, []))),
      'detail frame',
    ],
  ]
  for (const [name, act, said] of cases) {
    it(`that sends ${name}`, async () => {
      expect(await against(act)).toContain(said)
    })
  }

  it('that sends data in a pass that only compares', async () => {
    expect(await against((say) => say(FRAME.data, data(record(0, 512))), 'compare')).toContain(
      'only compares',
    )
  })

  it('that asks for more than fits into one answer', async () => {
    const blockBytes = 4 << 20
    const disk = diskOf('destination', 1, blockBytes)
    const { near, far } = channelPair()
    const digester = await digesterOf(blockBytes)
    const running = runDestination({
      channel: far,
      disk: 0,
      endpoint: disk,
      digester,
      mode: 'write',
      range: { offset: 0, length: blockBytes },
      operand: '/d',
    })
    running.catch(() => undefined) // looked at below
    await near.expect(FRAME.digests)
    near.post(
      FRAME.refine,
      0,
      encodeRefine(
        'groups',
        Array.from({ length: 1024 }, () => ({ block: 0, group: 0 })),
      ),
    )
    expect((await expectRejected('session/protocol', running)).message).toContain('fit into one frame')
  })

  it('that changes block after block and never marks', async () => {
    // Leaf digests of a block are 128 KiB, its data here 512 bytes: that is what would pile up.
    const blockBytes = 4 << 20
    const blocks = 1024
    const lengthBytes = blocks * blockBytes
    const whole = { offset: 0, length: lengthBytes }
    const disk = new MemoryDisk({
      role: 'destination',
      content: Buffer.alloc(0),
      holes: [whole],
      info: { sizeBytes: lengthBytes },
    })
    disk.write = async () => undefined
    const { near, far } = channelPair()
    const digester = await digesterOf(blockBytes)
    const running = runDestination({
      channel: far,
      disk: 0,
      endpoint: disk,
      digester,
      mode: 'write',
      range: whole,
      operand: '/d',
    })
    running.catch(() => undefined) // looked at below
    await near.expect(FRAME.digests)
    near.post(
      FRAME.data,
      0,
      data(...Array.from({ length: blocks }, (_, block) => record(block * blockBytes, 512))),
    )
    expect((await expectRejected('session/protocol', running)).message).toContain('without a mark')
  })
})

describe('a destination of a lane refuses a source', () => {
  const BLOCK_BYTES = 1 << 20
  const [FIRST, END] = [SECTION_BYTES / BLOCK_BYTES, (3 * SECTION_BYTES) / BLOCK_BYTES]

  const cases: readonly [string, (say: Say) => void, string][] = [
    [
      'data in front of its range',
      (say) => say(FRAME.data, data(record(SECTION_BYTES - 512, 512))),
      'outside the disk',
    ],
    [
      'data that begins in front of its range',
      (say) => say(FRAME.data, data(record(SECTION_BYTES - 512, 1024))),
      'outside the disk',
    ],
    [
      'data that ends behind its range',
      (say) => say(FRAME.data, data(record(3 * SECTION_BYTES - 512, 1024))),
      'outside the disk',
    ],
    [
      'zeros behind its range',
      (say) => say(FRAME.data, data(record(3 * SECTION_BYTES, 512, 'zero'))),
      'outside the disk',
    ],
    [
      'a mark in front of its range',
      (say) => say(FRAME.mark, encodeMark(FIRST - 1)),
      `mark at block ${FIRST - 1}`,
    ],
    ['a mark behind its range', (say) => say(FRAME.mark, encodeMark(END + 1)), `mark at block ${END + 1}`],
    [
      'details of a block in front of its range',
      (say) => say(FRAME.refine, encodeRefine('groups', [{ block: FIRST - 1, group: 0 }])),
      `block ${FIRST - 1}`,
    ],
    [
      'a finish in front of its range',
      (say) => say(FRAME.finish, encodeControl({ ...FINISH, endBlock: 0 })),
      `finish at block 0 after block ${FIRST}`,
    ],
    [
      'a finish at a section boundary that is not marked',
      (say) => (
        say(FRAME.mark, encodeMark(FIRST + 1)),
        say(FRAME.finish, encodeControl({ ...FINISH, endBlock: 2 * FIRST }))
      ),
      `finish at block ${2 * FIRST} after block ${FIRST + 1}`,
    ],
    [
      'a finish in the middle of a section',
      (say) => (
        say(FRAME.mark, encodeMark(FIRST + 1)),
        say(FRAME.finish, encodeControl({ ...FINISH, endBlock: FIRST + 1 }))
      ),
      `finish at block ${FIRST + 1} of ${END}`,
    ],
  ]
  it.each(cases)('that sends %s', async (_name, act, said) => {
    const whole = { offset: 0, length: 4 * SECTION_BYTES }
    const disk = new MemoryDisk({
      role: 'destination',
      content: Buffer.alloc(0),
      holes: [whole],
      info: { sizeBytes: whole.length },
    })
    const { near, far } = channelPair()
    const digester = await digesterOf(BLOCK_BYTES, 4096)
    const range = { offset: SECTION_BYTES, length: 2 * SECTION_BYTES }
    const pass = {
      channel: far,
      disk: 0,
      endpoint: disk,
      digester,
      mode: 'write',
      range,
      operand: '/d',
    } as const
    const running = runDestination(pass)
    running.catch(() => undefined) // looked at below
    const announced = await near.expect(FRAME.digests)
    expect(announced.body.readBigUInt64BE(0)).toBe(BigInt(FIRST))
    act(sayOn(near))
    expect((await expectRejected('session/protocol', running)).message).toContain(said)
    expect(disk.ranges('write').concat(disk.ranges('zero'))).toEqual([])
  })
})

describe('a source refuses a destination', () => {
  const BLOCK_BYTES = 16384
  const zeros = (blockCount: number): WireRun => ({ kind: 'zero', blockCount })
  const different = (blockCount: number): WireRun => ({
    kind: 'data',
    blockCount,
    blocks: Buffer.alloc(16 * blockCount, 9),
  })
  const digests = (first: number, ...runs: readonly WireRun[]): Buffer =>
    Buffer.concat(encodeDigests(first, runs))
  const detail = (level: 'groups' | 'leaves', items: number, count: number): Buffer =>
    Buffer.concat(encodeDetail(level, items, [Buffer.alloc(16 * count, 7)]))

  async function against(act: (say: Say) => void): Promise<string> {
    const disk = diskOf('source', 4, BLOCK_BYTES)
    const { near, far } = channelPair()
    const digester = await digesterOf(BLOCK_BYTES)
    const pass = {
      channel: near,
      disk: 0,
      endpoint: disk,
      digester,
      mode: 'write',
      range: { offset: 0, length: 4 * BLOCK_BYTES },
      throttle: new Throttle(null),
      compressor: null,
      scan: null,
    } as const
    const running = runSource(pass)
    running.catch(() => undefined) // looked at below
    act(sayOn(far))
    return (await expectRejected('session/protocol', running)).message
  }

  const cases: readonly [string, (say: Say) => void, string][] = [
    ['digests with a gap', (say) => say(FRAME.digests, digests(1, zeros(1))), 'from block 1, 0 was due'],
    [
      'digests twice',
      (say) => (say(FRAME.digests, digests(0, zeros(1))), say(FRAME.digests, digests(0, zeros(1)))),
      'from block 0, 1 was due',
    ],
    [
      'digests of more blocks than there are',
      (say) => say(FRAME.digests, digests(0, zeros(5))),
      'up to block 5, the range ends at 4',
    ],
    [
      'a detail that nobody asked for',
      (say) => say(FRAME.detail, detail('groups', 1, 2)),
      'answers no question',
    ],
    [
      'finished before the source is',
      (say) => say(FRAME.finished, encodeControl({ root: ROOT, readBytes: 0 })),
      'finished',
    ],
    ['a frame for another disk', (say) => say(FRAME.digests, digests(0, zeros(4)), 3), 'disk 3'],
    ['frames of its own role', (say) => say(FRAME.mark, encodeMark(1)), 'mark frame'],
  ]
  for (const [name, act, said] of cases) {
    it(`that sends ${name}`, async () => {
      expect(await against(act)).toContain(said)
    })
  }

  const answers: readonly [string, Buffer, string][] = [
    ['of the other level', detail('leaves', 1, 2), 'answers no question'],
    ['of another count', detail('groups', 2, 2), 'answers no question'],
    ['that is too short', detail('groups', 1, 1), 'shorter'],
    ['that is too long', detail('groups', 1, 3), 'longer'],
  ]
  for (const [name, answer, said] of answers) {
    it(`that gives an answer ${name}`, async () => {
      const disk = diskOf('source', 1, BLOCK_BYTES)
      const { near, far } = channelPair()
      const digester = await digesterOf(BLOCK_BYTES)
      const pass = {
        channel: near,
        disk: 0,
        endpoint: disk,
        digester,
        mode: 'write',
        range: { offset: 0, length: BLOCK_BYTES },
        throttle: new Throttle(null),
        compressor: null,
        scan: null,
      } as const
      const running = runSource(pass)
      running.catch(() => undefined) // looked at below
      await far.send(FRAME.digests, 0, [digests(0, different(1))])
      await far.expect(FRAME.refine)
      far.post(FRAME.detail, 0, answer)
      expect((await expectRejected('session/protocol', running)).message).toContain(said)
    })
  }
})
