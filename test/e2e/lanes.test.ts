// The built program over several lanes: a disk that differs all over is equal afterwards and its counters and root are
// those of the whole disk; a device stays claimed meanwhile; a lane that is killed ends the run and leaves nothing behind.

import { constants } from 'node:fs'
import { open } from 'node:fs/promises'

import { beforeAll, describe, expect, it } from 'vitest'

import type { AlgorithmName } from '../../src/digest/digester.js'
import { createDigester } from '../../src/digest/open.js'
import { Root, SECTION_BYTES } from '../../src/digest/root.js'
import { ZeroDigests } from '../../src/digest/zero.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { loadNative } from '../../src/native.js'
import { Scan } from '../../src/sync/scan.js'
import { type Result, resultOf, runCli, type Running, startCli, synced } from '../support/cli.js'
import { run, useScratch } from '../support/disks.js'
import { servesOf, useFarSides, type Way, ways } from '../support/far-sides.js'
import { needs } from '../support/needs.js'
import { bytesWrittenBy, isRunning, until } from '../support/processes.js'
import { selected } from '../support/selection.js'

const MIB = 1 << 20
/** Three sections and a bit: one for each lane, and one that ends in the middle of a leaf. */
const SIZE_BYTES = 3 * SECTION_BYTES + 777
/** So slow that the others come up long before the first one is through its section; `letGo` takes the limit away. */
const LANES = ['--streams', '3', '--bwlimit', '12M']
/** That a lane writes or sends, not only talks. */
const WORK_BYTES = 2 * MIB

type Digest = { algorithm: AlgorithmName; root: string; seed: string; blockBytes: number; leafBytes: number }

type LaneResult = Result & { disks: { readBytes: { source: number; destination: number } }[] }

const scratch = useScratch()
const far = useFarSides()
/** Two that have no block in common: what held the one differs all over from the other. */
let sources: [string, string] = ['', '']
let target = ''
/** The source that the target equals; null where a run may have left something else. */
let held: string | null = null

beforeAll(async () => {
  const on = scratch()
  sources = [await on.randomFile('a.img', SIZE_BYTES), await on.randomFile('b.img', SIZE_BYTES)]
  target = on.path('target.img')
})

/** Makes the target equal to one source, where it does not equal one already, and gives the other one. */
async function otherSource(): Promise<string> {
  if (held === null) await run('cp', '--reflink=never', sources[1], target)
  const other = held === sources[1] || held === null ? sources[0] : sources[1]
  held = null
  return other
}

async function targetEquals(source: string): Promise<void> {
  await equal(source, target)
  held = source
}

async function equal(one: string, other: string): Promise<void> {
  await run('cmp', one, other)
}

/** The root of a disk as one pass over all of it makes it. */
async function rootInOnePass(
  path: string,
  { algorithm, seed, blockBytes, leafBytes }: Digest,
): Promise<string> {
  const native = loadNative('auto')
  const parameters = { algorithm, seed: Buffer.from(seed, 'hex'), geometry: { blockBytes, leafBytes } }
  const digester = await createDigester(parameters, native)
  const request = { path, role: 'source', access: 'read', create: 'never', createSizeBytes: 0 } as const
  const endpoint = await openEndpoint({ ...request, claim: 'exclusive' }, native)
  const whole = { offset: 0, length: endpoint.info.sizeBytes }
  const root = new Root(digester, new ZeroDigests(digester, whole.length), whole)
  const scan = new Scan(endpoint, digester, whole)
  try {
    for (let next = await scan.next(); next !== undefined; next = await scan.next()) {
      if (next.kind === 'data') root.add(next.digests.blocks, next.blockCount)
      else root.addZeros(next.blockCount)
    }
    return root.finish().root
  } finally {
    await scan.stop()
    await endpoint.close()
  }
}

/** Ids of the far processes of a run, in the order they came, once there are `count`. */
async function serves(way: Way, { pid }: Running, count: number): Promise<number[]> {
  const seen: number[] = []
  await until(() => {
    for (const serve of way === 'local' ? servesOf(pid) : far.servePids())
      if (!seen.includes(serve)) seen.push(serve)
    return seen.length >= count
  }, `${count} far processes`)
  return seen
}

/** Resolves when each of these has work under way. */
async function haveWork(pids: readonly number[]): Promise<void> {
  await until(() => pids.every((pid) => bytesWrittenBy(pid) >= WORK_BYTES), 'every lane works')
}

async function letGo({ pid }: Running): Promise<void> {
  const { status, stderr } = await runCli(scratch(), ['bwlimit', 'off', String(pid)])
  if (status !== 0) throw new Error(stderr)
}

/** The way with most between the two ends that can be gone here. */
const FARTHEST = ways('local', 'openssh').at(-1)

const ROWS = ways('local', 'openssh', 'ssh2').flatMap((way: Way) =>
  (way === 'local' ? ['push'] : way === 'ssh2' ? ['pull'] : ['push', 'pull']).map(
    (direction) => [way, direction] as const,
  ),
)

describe('three lanes', () => {
  it.each(ROWS)(
    'over %s, %s: the disk is equal, counters and root are of all of it',
    async (way, direction) => {
      const on = scratch()
      const source = await otherSource()
      const there = (path: string): string => far.path(way, path)
      const operands = direction === 'push' ? [source, there(target)] : [there(source), target]
      const words = way === 'local' ? [] : far.words(way)
      const running = startCli(on, ['--json', ...operands, ...words, ...LANES])
      await haveWork(await serves(way, running, 3))
      await letGo(running)
      const ended = await running.ended
      expect([ended.status, ended.stderr]).toEqual([0, ''])
      const result = resultOf(ended) as LaneResult
      const blocks = Math.ceil(SIZE_BYTES / MIB)
      expect(result).toMatchObject({
        lanes: 3,
        totalBlocks: blocks,
        differentBlocks: blocks,
        sameBlocks: 0,
        zeroBlocks: 0,
        skippedBlocks: 0,
        sentBytes: SIZE_BYTES,
      })
      // What the first lane had read ahead when another took it is read twice.
      const [{ readBytes } = { readBytes: { source: 0, destination: 0 } }] = result.disks
      for (const bytes of [readBytes.source, readBytes.destination]) {
        expect(bytes).toBeGreaterThanOrEqual(SIZE_BYTES)
        expect(bytes).toBeLessThan(2 * SIZE_BYTES)
      }
      const [payloadWay, otherWay] =
        direction === 'push'
          ? [result.wireBytesSent, result.wireBytesReceived]
          : [result.wireBytesReceived, result.wireBytesSent]
      expect(payloadWay).toBeGreaterThan(SIZE_BYTES)
      expect(payloadWay).toBeLessThan(SIZE_BYTES * 1.01)
      expect(otherWay).toBeLessThan(SIZE_BYTES / 50)
      await targetEquals(source)
      const digest = result.digest as Digest
      expect(await rootInOnePass(target, digest)).toBe(digest.root)
      const verify = await runCli(on, ['verify', ...operands, ...words])
      expect([verify.status, verify.stdout]).toEqual([0, expect.stringContaining('identical')])
    },
  )

  it('of a disk that is equal already: nothing is sent', async () => {
    const other = await otherSource()
    const source = sources[other === sources[0] ? 1 : 0]
    const result = await synced(scratch(), [source, target, '--streams', '3'])
    expect(result).toMatchObject({
      sentBytes: 0,
      sameBlocks: Math.ceil(SIZE_BYTES / MIB),
      differentBlocks: 0,
    })
    await targetEquals(source)
  })
})

describe('a device that is claimed', needs('loop'), () => {
  // Who holds the claim and who may join is one and the same code for each way; over ssh no far process is a child of ours.
  it.each(selected(ways('local', 'openssh'), (way) => way === FARTHEST))(
    'over %s: has room for the lanes of its run and nobody else',
    async (way) => {
      const on = scratch()
      const sizeBytes = 3 * SECTION_BYTES
      const source = await on.randomFile(`device-source-${way}.img`, sizeBytes)
      const backing = await on.sparseFile(`device-${way}.img`, sizeBytes)
      const device = await on.loopDevice(backing)
      const running = startCli(on, [
        '--json',
        source,
        far.path(way, device),
        ...(way === 'local' ? [] : far.words(way)),
        ...LANES,
      ])
      await haveWork(await serves(way, running, 3))
      const exclusively = constants.O_RDWR | constants.O_EXCL
      await expect(open(device, exclusively)).rejects.toMatchObject({ code: 'EBUSY' })
      const other = await runCli(on, [source, device])
      expect([other.status, other.stderr]).toEqual([3, expect.stringContaining(device)])
      await letGo(running)
      const ended = await running.ended
      expect([ended.status, ended.stderr]).toEqual([0, ''])
      expect(resultOf(ended)).toMatchObject({ lanes: 3, sentBytes: sizeBytes })
      await (await open(device, exclusively)).close()
      await equal(source, device)
    },
  )
})

describe('a lane that is killed', () => {
  const rows = ways('local', 'openssh').flatMap((way) => [
    { way, which: 'a further one', says: /^blocksync: lane [23]: .* killed/m },
    // Whether it is the first one that is missed or the claim that it held, is a matter of microseconds.
    {
      way,
      which: 'the first one',
      says: /^blocksync: (lane [23]: .*first far process of the run ended|.* killed)/m,
    },
  ])
  // What is done and said depends on which lane it is; how a way tells of a kill is in test/transport/conformance.
  const isEnough = (row: (typeof rows)[number]): boolean =>
    (row.way === 'local') === (row.which === 'a further one')
  it.each(selected(rows, isEnough))(
    'over $way, $which: ends the run, which names it and leaves nothing behind',
    async ({ way, which, says }) => {
      const on = scratch()
      const source = await otherSource()
      const words = way === 'local' ? [] : far.words(way)
      const running = startCli(on, ['--json', source, far.path(way, target), ...words, ...LANES])
      const pids = await serves(way, running, 3)
      await haveWork(pids)
      const [first = 0, further = 0] = pids
      process.kill(which === 'the first one' ? first : further, 'SIGKILL')
      const ended = await running.ended
      expect(ended.status).toBe(8)
      expect(ended.stderr).toMatch(says)
      const result = resultOf(ended)
      expect(result).toMatchObject({ ok: false, lanes: 3, state: 'partial', error: { code: 'session/lost' } })
      expect(result.sentBytes).toBeGreaterThan(0)
      await until(() => pids.every((pid) => !isRunning(pid)), 'no far process is left')
      expect(way === 'local' ? [] : far.servePids()).toEqual([])
      // What was acknowledged is there: the next run has less to send.
      const again = await synced(on, [source, far.path(way, target), ...words, '--streams', '2'])
      expect(again.sentBytes).toBeLessThan(SIZE_BYTES)
      await targetEquals(source)
    },
  )
})
