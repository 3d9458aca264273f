// The benchmark's own arithmetic and tools: a wrong line or a relay that swaps bytes would make every number worthless.

import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { afterEach, describe, expect, it } from 'vitest'

import { fitLine } from '../../bench/growth.js'
import { BLOCK_BYTES, MIB, SeededBytes } from '../../bench/images.js'
import { median } from '../../bench/medians.js'
import { openRelay } from '../../bench/relay.js'
import { makeUsedDisk } from '../../bench/used.js'

const NEVER = new AbortController().signal
/** Enough files for a disk of a test; to look at each of a system's takes half a minute. */
const MODULES = join(import.meta.dirname, '..', '..', 'node_modules')

const cleanups: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean()
})

describe('arithmetic', () => {
  it('takes the middle one, or the mean of the middle two', () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3]), median([])]).toEqual([2, 2.5, null])
  })

  it('finds the line that points lie on', () => {
    const line = fitLine([1, 2, 4, 8].map((gib) => [gib, 0.5 + 0.25 * gib] as const))
    expect(line?.secondsPerGib).toBeCloseTo(0.25)
    expect(line?.fixedSeconds).toBeCloseTo(0.5)
    expect(line?.rSquared).toBeCloseTo(1)
    expect(line?.largestDeviation).toBeCloseTo(0)
  })

  it('calls a cost that grows with the square not straight', () => {
    const line = fitLine([1, 2, 4, 8].map((gib) => [gib, gib * gib] as const))
    expect(line?.rSquared).toBeLessThan(0.98)
    expect(line?.largestDeviation).toBeGreaterThan(0.1)
  })
})

describe('the relay', () => {
  it('keeps order and every byte at the speed of the line', async () => {
    const received: Buffer[] = []
    const server = createServer((socket) => socket.on('data', (chunk: Buffer) => received.push(chunk)))
    cleanups.push(async () => {
      server.close()
      await once(server, 'close')
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('no port')
    const relay = await openRelay(address.port, { oneWayMs: 5, bytesPerSecond: 4 * MIB })
    cleanups.push(async () => {
      await relay[Symbol.asyncDispose]()
    })
    const bytes = Buffer.from(new SeededBytes('relay').next(MIB))
    const startedMs = performance.now()
    const socket = connect({ port: relay.port, host: '127.0.0.1', noDelay: true })
    const gone = once(server, 'connection').then(([far]) => once(far as NodeJS.EventEmitter, 'close'))
    // Small and large pieces by turns: those are what timers of their own would let overtake each other.
    for (let at = 0, piece = 1; at < bytes.length; at += piece, piece = (piece * 7) % 65_521) {
      socket.write(bytes.subarray(at, at + piece))
      if (piece % 5 === 0) await delay(0)
    }
    socket.end()
    await gone
    expect(Buffer.concat(received).equals(bytes)).toBe(true)
    expect(performance.now() - startedMs).toBeGreaterThan(245)
  })
})

describe('the disk a day later', () => {
  it('differs where it says, and nowhere else', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'blocksync-aged-'))
    cleanups.push(() => rm(directory, { recursive: true }))
    const sizeBytes = 64 * MIB
    const disk = await makeUsedDisk(directory, 'used', sizeBytes, NEVER, MODULES)
    const [before, after] = [await readFile(disk.path), await readFile(disk.aged['2 %'].path)]
    const differing = new Set<number>()
    for (let offset = 0; offset < sizeBytes; offset += BLOCK_BYTES)
      if (before.compare(after, offset, offset + BLOCK_BYTES, offset, offset + BLOCK_BYTES) !== 0)
        differing.add(offset)
    const said = disk.aged['2 %'].pieces.flatMap(({ offset, length }) =>
      Array.from({ length: length / BLOCK_BYTES }, (_, index) => offset + index * BLOCK_BYTES),
    )
    expect([...differing]).toEqual(said)
    expect(disk.aged['2 %'].changedBytes).toBe(Math.round((sizeBytes / BLOCK_BYTES) * 0.02) * BLOCK_BYTES)
    expect(disk.allocatedBytes / sizeBytes).toBeGreaterThan(0.55)
    expect(disk.allocatedBytes / sizeBytes).toBeLessThan(0.7)
  }, 60_000)
})
