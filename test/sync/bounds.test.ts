// What a pass holds at most, however large the disk, slow the other side or long the holes: the window, the retained
// digests and what is read ahead. And that none of these bounds waits for itself.

import { describe, expect, it } from 'vitest'

import { createDigester } from '../../src/digest/open.js'
import { runDestination } from '../../src/sync/destination.js'
import { AHEAD_SLAB_BYTES, Scan } from '../../src/sync/scan.js'
import { Throttle } from '../../src/rate/throttle.js'
import { SyncError } from '../../src/errors.js'
import type { Channel } from '../../src/wire/channel.js'
import { WINDOW_BYTES } from '../../src/wire/channel.js'
import { decodeDigests } from '../../src/wire/bodies.js'
import { encodeControl } from '../../src/wire/control.js'
import { FRAME, type Frame } from '../../src/wire/frame.js'
import { DigestsOnly } from '../support/digests-only.js'
import { randomBytes } from '../support/disks.js'
import { MemoryDisk } from '../support/memory-disk.js'
import { runPass, worked } from '../support/pass.js'
import { settled, turns } from '../support/turns.js'
import { channelPair } from '../wire/pair.js'

const KIB = 1024
const MIB = 1 << 20
const TIB = 2 ** 40

async function aTurn(): Promise<void> {
  await turns(1)
}

describe('bounds', () => {
  it('keeps what is sent and not written within the window', async () => {
    const content = randomBytes(48 * MIB)
    let open: () => void = () => undefined
    const gate = new Promise<void>((resolve) => (open = resolve))
    let began: () => void = () => undefined
    const firstWrite = new Promise<void>((resolve) => (began = resolve))
    const from = new MemoryDisk({ role: 'source', content })
    const to = new MemoryDisk({
      role: 'destination',
      content: Buffer.alloc(content.length),
      before: async (access) => {
        if (access !== 'write') return
        began()
        await gate
      },
    })
    const channels: Channel[] = []
    const running = runPass({
      source: from,
      destination: to,
      geometry: { blockBytes: MIB, leafBytes: 4 * KIB },
      onChannels: (source) => channels.push(source),
    })
    await firstWrite
    const sent = await settled(() => channels[0]?.wireBytesSent ?? 0)
    expect(to.bytes('write')).toBeLessThanOrEqual(MIB)
    expect(sent).toBeGreaterThan(WINDOW_BYTES / 2)
    expect(sent).toBeLessThanOrEqual(WINDOW_BYTES + 64 * KIB)
    // A few batches are read ahead, no more.
    expect(from.bytes('read')).toBeLessThanOrEqual(WINDOW_BYTES + 6 * MIB)
    open()
    worked(await running)
    expect(to.content.equals(content)).toBe(true)
  })

  it('keeps a bounded part of the digests of a disk that the other side does not decide', async () => {
    const sizeBytes = 16 * 2 ** 30
    const geometry = { blockBytes: MIB, leafBytes: 4 * KIB }
    let open: () => void = () => undefined
    const gate = new Promise<void>((resolve) => (open = resolve))
    const from = new DigestsOnly('source', sizeBytes, () => gate)
    const to = new DigestsOnly('destination', sizeBytes, aTurn)
    const running = runPass({ source: from, destination: to, geometry })
    while (to.digestedBytes === 0) await turns(1)
    const digestedBytes = await settled(() => to.digestedBytes)
    // 16 bytes stand for each leaf: 16 MiB of them are retained and some are ready, besides what is just being read.
    expect((digestedBytes / (4 * KIB)) * 16).toBeLessThanOrEqual(16 * MIB + AHEAD_SLAB_BYTES + 2 * MIB)
    open()
    let highestBytes = 0
    const watching = setInterval(
      () => (highestBytes = Math.max(highestBytes, process.memoryUsage().arrayBuffers)),
      5,
    )
    try {
      const { said } = worked(await running)
      expect(said).toMatchObject({ sameBlocks: 16384, sentBytes: 0 })
    } finally {
      clearInterval(watching)
    }
    expect(highestBytes).toBeGreaterThan(0)
    expect(highestBytes).toBeLessThan(160 * MIB)
  })

  it.each([
    ['the largest slabs there are', 16 * MIB, KIB],
    ['the smallest blocks there are', 4 * KIB, 512],
  ])('never waits for itself: %s', async (_name, blockBytes, leafBytes) => {
    const sizeBytes = blockBytes * 256
    const disks = {
      source: new DigestsOnly('source', sizeBytes, aTurn),
      destination: new DigestsOnly('destination', sizeBytes, async () => Promise.resolve()),
    }
    const { said } = worked(
      await runPass({ ...disks, geometry: { blockBytes, leafBytes }, algorithm: 'sha256' }),
    )
    expect(said.sameBlocks).toBe(256)
  })

  it('gives back the memory of an answer when it was compared', async () => {
    const content = randomBytes(8 * MIB)
    const answers: Frame[] = []
    const released = new Set<Frame>()
    worked(
      await runPass({
        source: new MemoryDisk({ role: 'source', content }),
        destination: new MemoryDisk({ role: 'destination', content: randomBytes(8 * MIB) }),
        geometry: { blockBytes: MIB, leafBytes: 4 * KIB },
        onChannels: (near) => {
          const receive = near.receive.bind(near)
          const release = near.release.bind(near)
          near.receive = async () => {
            const frame = await receive()
            if (frame.type === FRAME.detail) answers.push(frame)
            return frame
          }
          near.release = (frame) => {
            released.add(frame)
            release(frame)
          }
        },
      }),
    )
    expect(answers.length).toBeGreaterThan(0)
    expect(answers.every((frame) => released.has(frame))).toBe(true)
  })

  it('an early finish is refused also while the digests wait for room', async () => {
    const geometry = { blockBytes: MIB, leafBytes: 4 * KIB }
    const sizeBytes = 16 * 2 ** 30
    const to = new DigestsOnly('destination', sizeBytes, aTurn)
    const { near, far } = channelPair()
    const digester = await createDigester({ algorithm: 'xxh64x2', seed: Buffer.alloc(16), geometry }, null)
    const running = runDestination({
      channel: far,
      disk: 0,
      endpoint: to,
      digester,
      mode: 'write',
      range: { offset: 0, length: sizeBytes },
      operand: '/d',
    })
    running.catch(() => undefined) // looked at below
    // Nothing is decided, so it stops when it holds what it may hold.
    await near.expect(FRAME.digests)
    expect(await settled(() => to.digestedBytes)).toBeLessThan(sizeBytes / 2)
    const counts = { sameBlocks: 0, differentBlocks: 0, zeroBlocks: 0, skippedBlocks: 0 }
    const finish = {
      endBlock: 16384,
      ...counts,
      sentBytes: 0,
      zeroedBytes: 0,
      readBytes: 0,
      root: 'ab'.repeat(32),
    }
    near.post(FRAME.finish, 0, encodeControl(finish))
    await expect(running).rejects.toMatchObject({
      code: 'session/protocol',
      message: expect.stringContaining('finish at block 16384 after block 0') as string,
    })
  })
})

describe('a hole of more blocks than 32 bits count', () => {
  const geometry = { blockBytes: 4 * KIB, leafBytes: 4 * KIB }
  const sizeBytes = 16 * TIB + 3 * geometry.blockBytes
  const holes = [{ offset: geometry.blockBytes, length: 16 * TIB + geometry.blockBytes }]

  it('is scanned as runs that the wire can hold, in order and without a gap', async () => {
    const disk = new DigestsOnly('source', sizeBytes, aTurn, holes)
    const digester = await createDigester({ algorithm: 'xxh64x2', seed: Buffer.alloc(16), geometry }, null)
    const scan = new Scan(disk, digester, { offset: 0, length: sizeBytes })
    try {
      let block = 0
      const kinds = new Set<string>()
      for (let run = await scan.next(); run !== undefined; run = await scan.next()) {
        expect(run.firstBlock).toBe(block)
        if (run.kind === 'hole') expect(run.blockCount).toBeLessThanOrEqual(0xffff_ffff)
        block += run.blockCount
        kinds.add(run.kind)
      }
      expect(block).toBe(2 ** 32 + 3)
      expect([...kinds]).toEqual(['data', 'hole'])
      expect(disk.digestedBytes).toBe(2 * geometry.blockBytes)
    } finally {
      await scan.stop()
    }
  })

  it('crosses the wire: it is announced whole, in order', async () => {
    const disk = new DigestsOnly('destination', sizeBytes, aTurn, holes)
    const { near, far } = channelPair()
    const digester = await createDigester({ algorithm: 'xxh64x2', seed: Buffer.alloc(16), geometry }, null)
    const pass = { channel: far, disk: 0, endpoint: disk, digester, mode: 'write', operand: '/d' } as const
    const running = runDestination({ ...pass, range: { offset: 0, length: sizeBytes } })
    running.catch(() => undefined) // looked at below
    let announcedBlocks = 0
    let dueBlock = 0
    while (announcedBlocks < 2 ** 32 + 3) {
      const frame = await near.expect(FRAME.digests)
      const { firstBlock, runs } = decodeDigests(frame.body, digester.digestBytes)
      expect(firstBlock).toBe(dueBlock)
      for (const { blockCount } of runs) announcedBlocks += blockCount
      dueBlock = announcedBlocks
      near.release(frame)
    }
    near.fail(new SyncError('session/lost', 'that was all'))
    far.fail(new SyncError('session/lost', 'that was all'))
    await expect(running).rejects.toMatchObject({ code: 'session/lost' })
    expect(announcedBlocks).toBe(2 ** 32 + 3)
  })
})

describe('a pass that waits for the rate', () => {
  /** A byte a second: the first megabyte would take twelve days. */
  class Slow extends Throttle {
    readonly waiting: Promise<void>
    #begin: () => void = () => undefined

    constructor() {
      super(1)
      this.waiting = new Promise((resolve) => (this.#begin = resolve))
    }

    override async take(bytes: number, signal: AbortSignal): Promise<void> {
      const taking = super.take(bytes, signal)
      this.#begin()
      await taking
    }
  }

  const rows: readonly [string, (near: Channel, far: Channel) => void][] = [
    ['the destination fails', (_near, far) => far.postError(new SyncError('destination/write', 'EIO'))],
    ['the line is cut', (_near, far) => far.end()],
    ['it is interrupted here', (near) => near.fail(new SyncError('interrupt/sigint', 'interrupted'))],
  ]
  it.each(rows)('ends at once when %s', async (_name, act) => {
    const throttle = new Slow()
    let channels: readonly [Channel, Channel] | null = null
    const running = runPass({
      source: new MemoryDisk({ role: 'source', content: randomBytes(4 * MIB) }),
      destination: new MemoryDisk({ role: 'destination', content: Buffer.alloc(4 * MIB) }),
      geometry: { blockBytes: MIB, leafBytes: 4 * KIB },
      throttle,
      onChannels: (near, far) => (channels = [near, far]),
    })
    await throttle.waiting
    const startMs = performance.now()
    if (channels === null) throw new Error('no channels')
    act(...(channels as readonly [Channel, Channel]))
    const { source } = await running
    expect(source.status).toBe('rejected')
    expect(performance.now() - startMs).toBeLessThan(5000)
  })

  it('has the reason of the signal, and a signal that was aborted before counts too', async () => {
    const reason = new SyncError('interrupt/sigterm', 'interrupted')
    const abort = new AbortController()
    const waiting = new Throttle(1).take(1e6, abort.signal)
    abort.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    await expect(new Throttle(1).take(1e6, abort.signal)).rejects.toBe(reason)
  })
})
