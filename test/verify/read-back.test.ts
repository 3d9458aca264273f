// Reading back: a pass over disks that lie. What is written and what the disk gives back later are two things here.

import { describe, expect, it, vi } from 'vitest'

import type { Range } from '../../src/digest/digester.js'
import type { Endpoint } from '../../src/endpoint/endpoint.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { SyncError } from '../../src/errors.js'
import { loadNative, type NativeCore } from '../../src/native.js'
import type * as writtenLog from '../../src/sync/written-log.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { MemoryDisk } from '../support/memory-disk.js'
import { has, needs } from '../support/needs.js'
import { type PassOutcome, runPass, worked } from '../support/pass.js'
import { open as openFile } from 'node:fs/promises'

vi.mock('../../src/sync/written-log.js', async (original) => ({
  ...(await original<typeof writtenLog>()),
  // so little that the tests below come to it
  MAX_LOG_BYTES: 400,
}))

const MIB = 1 << 20
const GEOMETRY = { blockBytes: MIB, leafBytes: 4096 }
const natives = [['off', null], ...(has('native') ? ([['on', loadNative('auto')]] as const) : [])] as const

const sourceOf = (content: Buffer): MemoryDisk => new MemoryDisk({ role: 'source', content })

type Verify = { what: 'written' | 'all'; native: NativeCore | null }

async function passOver(
  source: Endpoint,
  destination: Endpoint,
  verify: Verify,
  mode: 'write' | 'compare' = 'write',
) {
  const native = { source: verify.native, destination: verify.native }
  return await runPass({ source, destination, geometry: GEOMETRY, verify, mode, native })
}

const WRITTEN: Verify = { what: 'written', native: null }

function refusal({ source, destination }: PassOutcome): string {
  const errors = [source, destination].map((half) => {
    if (half.status !== 'rejected') throw new Error('a half of the pass was content')
    if (!(half.reason instanceof SyncError)) throw half.reason
    return half.reason
  })
  expect(errors.map(({ code }) => code)).toEqual(['verify/mismatch', 'verify/mismatch'])
  expect(errors.map(({ exitStatus }) => exitStatus)).toEqual([7, 7])
  return errors[1]?.message ?? ''
}

/** A disk whose content somebody changes after each flush. */
class Meddled extends MemoryDisk {
  after: (disk: MemoryDisk) => void = () => undefined

  override async flush(): Promise<void> {
    await super.flush()
    this.after(this)
  }
}

describe('reading back what was written', () => {
  it('is content with a disk that keeps what it is given, and reads no more than that', async () => {
    const content = randomBytes(8 * MIB)
    content.fill(0, 2 * MIB, 3 * MIB)
    const old = Buffer.from(content)
    randomBytes(4096).copy(old, 5 * MIB + 8192)
    randomBytes(MIB).copy(old, 2 * MIB)
    const destination = new MemoryDisk({ role: 'destination', content: old })
    const outcome = await passOver(sourceOf(content), destination, WRITTEN)
    worked(outcome)
    if (outcome.destination.status === 'rejected') throw outcome.destination.reason
    expect(outcome.destination.value.verifiedBytes).toBe(MIB + 4096)
    if (outcome.source.status === 'rejected') throw outcome.source.reason
    expect(outcome.source.value.destination.verifiedBytes).toBe(MIB + 4096)
    // the zeros lie in a hole now: the file system's word is taken for them
    expect(destination.ranges('read')).toEqual([{ offset: 5 * MIB + 8192, length: 4096 }])
    const order = destination.log.map(({ access }) => access)
    expect(order.indexOf('drop')).toBeGreaterThan(order.indexOf('flush'))
    expect(order.indexOf('read')).toBeGreaterThan(order.indexOf('drop'))
    expect(destination.content.equals(content)).toBe(true)
  })

  it('is not done where nobody asked, and says nothing then', async () => {
    const destination = new MemoryDisk({ role: 'destination', content: randomBytes(MIB) })
    const outcome = await runPass({ source: sourceOf(randomBytes(MIB)), destination, geometry: GEOMETRY })
    worked(outcome)
    if (outcome.source.status === 'rejected') throw outcome.source.reason
    expect(outcome.source.value.destination.verifiedBytes).toBe(null)
    expect(destination.bytes('read') + destination.ranges('drop').length).toBe(0)
  })

  it.each(natives)('finds one flipped bit, and says where, native core %s', async (_, native) => {
    const content = randomBytes(6 * MIB)
    const destination = new Meddled({ role: 'destination', content: randomBytes(6 * MIB) })
    destination.after = (disk) => {
      disk.content[4 * MIB + 4711] = (disk.content[4 * MIB + 4711] ?? 0) ^ 1
    }
    const message = refusal(await passOver(sourceOf(content), destination, { what: 'written', native }))
    expect(message).toContain(`bytes ${4 * MIB} to ${5 * MIB - 1} differ`)
    expect(message).toContain('the destination does not give back what was written')
  })

  it('finds writes that were dropped', async () => {
    const destination = new MemoryDisk({ role: 'destination', content: randomBytes(3 * MIB) })
    destination.write = () => Promise.resolve()
    const message = refusal(await passOver(sourceOf(randomBytes(3 * MIB)), destination, WRITTEN))
    expect(message).toContain(`${3 * MIB} of the ${3 * MIB} bytes`)
  })

  it('finds zeros that are none, where they are no hole', async () => {
    const destination = new MemoryDisk({ role: 'destination', content: randomBytes(3 * MIB) })
    destination.zero = () => Promise.resolve()
    const message = refusal(await passOver(sourceOf(Buffer.alloc(3 * MIB)), destination, WRITTEN))
    expect(message).toContain(
      `bytes 0 to ${MIB - 1}, ${MIB} to ${2 * MIB - 1}, ${2 * MIB} to ${3 * MIB - 1} differ`,
    )
  })

  it('reads back early where much was written in small pieces, and finds it there too', async () => {
    const content = randomBytes(40 * MIB)
    const old = Buffer.from(content)
    for (let at = 0; at < old.length; at += 64 << 10) old.fill(1, at, at + 4096)
    const destination = new Meddled({ role: 'destination', content: Buffer.from(old) })
    let flushes = 0
    destination.after = () => (flushes += 1)
    const outcome = await passOver(sourceOf(content), destination, WRITTEN)
    worked(outcome)
    if (outcome.destination.status === 'rejected') throw outcome.destination.reason
    expect(flushes).toBeGreaterThan(2)
    expect(outcome.destination.value.verifiedBytes).toBe(640 * 4096)
    expect(destination.content.equals(content)).toBe(true)

    const lying = new Meddled({ role: 'destination', content: old })
    lying.after = (disk) => disk.content.fill(2, 0, 1)
    expect(refusal(await passOver(sourceOf(content), lying, WRITTEN))).toContain('bytes 0 to ')
    // the pass went no further than to the first time it looked
    expect(lying.bytes('write')).toBeLessThan(640 * 4096)
  })

  it('ends where a write fails while an early look waits for it', async () => {
    const content = randomBytes(40 * MIB)
    const old = Buffer.from(content)
    for (let at = 0; at < old.length; at += 64 << 10) old.fill(1, at, at + 4096)
    const error = new SyncError('destination/write', 'no more')
    let writes = 0
    const destination = new MemoryDisk({
      role: 'destination',
      content: old,
      before: async (access: string) => {
        if (access !== 'write' || (writes += 1) < 60) return
        await new Promise((resolve) => setImmediate(resolve))
        throw error
      },
    })
    const { destination: half } = await passOver(sourceOf(content), destination, WRITTEN)
    expect(half).toEqual({ status: 'rejected', reason: error })
    expect(destination.underWay).toBe(0)
  })

  it('is a failure to read where the disk cannot be read', async () => {
    const error = new SyncError('destination/read', 'it hurts')
    const destination = new MemoryDisk({
      role: 'destination',
      content: randomBytes(MIB),
      before: (access: string, _range: Range) => {
        if (access === 'read') throw error
      },
    })
    const { destination: half } = await passOver(sourceOf(randomBytes(MIB)), destination, WRITTEN)
    expect(half).toEqual({ status: 'rejected', reason: error })
  })

  it('of everything, in a pass that compares, asks the device first and names where it differs', async () => {
    const content = randomBytes(3 * MIB)
    const other = Buffer.from(content)
    other[2 * MIB] = (other[2 * MIB] ?? 0) ^ 1
    const destination = new MemoryDisk({ role: 'destination', content: other })
    const outcome = await passOver(sourceOf(content), destination, { what: 'all', native: null }, 'compare')
    if (outcome.source.status === 'rejected') throw outcome.source.reason
    expect(destination.log[0]?.access).toBe('drop')
    expect(outcome.source.value.said.differing).toEqual([{ offset: 2 * MIB, length: 4096 }])
    expect(outcome.source.value.said.root).not.toBe(outcome.source.value.destination.root)
  })
})

describe.each(natives)('on real disks, native core %s', (_, native) => {
  const scratch = useScratch()

  async function openBoth(source: string, destination: string): Promise<[Endpoint, Endpoint]> {
    const common = { create: 'never', createSizeBytes: 0, claim: 'exclusive' } as const
    return [
      await openEndpoint({ ...common, path: source, role: 'source', access: 'read' }, native),
      await openEndpoint({ ...common, path: destination, role: 'destination', access: 'write' }, native),
    ]
  }

  /** The same disk, with something done behind its back when it has been flushed. */
  function meddled(disk: Endpoint, after: () => Promise<void>): Endpoint {
    return new Proxy(disk, {
      get: (target, name) => {
        if (name === 'flush')
          return async () => {
            await target.flush()
            await after()
          }
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    })
  }

  async function flipBit(path: string, at: number): Promise<void> {
    const handle = await openFile(path, 'r+')
    try {
      const byte = Buffer.alloc(1)
      await handle.read(byte, 0, 1, at)
      byte[0] = (byte[0] ?? 0) ^ 0x10
      await handle.write(byte, 0, 1, at)
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  it('an image file gives back what was written, its end that is no sector too', async () => {
    const size = 5 * MIB + 1234
    const source = await scratch().randomFile(`source-${_}`, size)
    const destination = await scratch().randomFile(`destination-${_}`, size)
    const [from, to] = await openBoth(source, destination)
    await using _from = from
    await using _to = to
    const outcome = await passOver(from, to, { what: 'written', native })
    worked(outcome)
    if (outcome.destination.status === 'rejected') throw outcome.destination.reason
    expect(outcome.destination.value.verifiedBytes).toBe(size)
  })

  it('a loop device whose file changes behind its back is found out', needs('loop'), async () => {
    const size = 4 * MIB
    const source = await scratch().randomFile(`loop-source-${_}`, size)
    const backing = await scratch().randomFile(`loop-backing-${_}`, size)
    const device = await scratch().loopDevice(backing)
    const [from, to] = await openBoth(source, device)
    await using _from = from
    await using _to = to
    worked(await passOver(from, to, { what: 'written', native }))
    await scratch().randomFile(`loop-source-${_}`, size)
    const lying = meddled(to, () => flipBit(backing, 3 * MIB + 77))
    const message = refusal(await passOver(from, lying, { what: 'written', native }))
    expect(message).toContain(`bytes ${3 * MIB} to ${4 * MIB - 1} differ`)
  })
})
