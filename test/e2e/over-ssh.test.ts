// The built program between two real processes: over a local child, over OpenSSH and over ssh2. After each run the bytes
// are equal and what went over the wire is bounded.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { open, readFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import { REMOTE_COMMAND, resultOf, runCli, synced } from '../support/cli.js'
import { allocatedBytes, randomBytes, run, type Scratch, useScratch } from '../support/disks.js'
import { directions, useFarSides, type Way, ways } from '../support/far-sides.js'
import { needs } from '../support/needs.js'
import { selected } from '../support/selection.js'

const KIB = 1024
const MIB = 1 << 20

const scratch = useScratch()
const far = useFarSides()
let made = 0

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

async function patch(path: string, offset: number, data: Uint8Array): Promise<void> {
  const handle = await open(path, 'r+')
  try {
    await handle.write(data, 0, data.length, offset)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** 8 MiB and a bit: random data, a hole in the middle, an odd tail. */
async function image(on: Scratch): Promise<string> {
  const sizeBytes = 8 * MIB + 777
  return on.sparseFile(`disk-${made++}.img`, sizeBytes, [
    { offset: 0, data: randomBytes(3 * MIB) },
    { offset: 6 * MIB, data: randomBytes(2 * MIB + 777) },
  ])
}

describe.each(ways('local', 'openssh', 'ssh2'))('over %s', (way: Way) => {
  const words = (): readonly string[] => far.words(way)
  const there = (path: string): string => far.path(way, path)

  it.each(directions(way))('%s of an image: first copy, nothing to do, a change', async (direction) => {
    const on = scratch()
    const source = await image(on)
    const target = on.path(`copy-${made++}.img`)
    const operands = direction === 'push' ? [source, there(target)] : [there(source), target]
    const first = await synced(on, [...operands, ...words(), '--create'])
    expect(first).toMatchObject({
      ok: true,
      created: true,
      state: 'done',
      totalBlocks: 9,
      sentBytes: 5 * MIB + 777,
      transport: way,
    })
    expect(first.sameBlocks + first.differentBlocks + first.zeroBlocks + first.skippedBlocks).toBe(9)
    expect(await digestOf(target)).toBe(await digestOf(source))
    expect(await allocatedBytes(target)).toBeLessThanOrEqual((await allocatedBytes(source)) + 64 * KIB)

    const second = await synced(on, [...operands, ...words()])
    expect(second).toMatchObject({ created: false, sentBytes: 0, differentBlocks: 0, zeroBlocks: 0 })
    expect(second.wireBytesSent + second.wireBytesReceived).toBeLessThan(8 * KIB)

    await patch(source, 5000, Buffer.from('changed'))
    await patch(source, 8 * MIB + 700, Buffer.from('tail'))
    await patch(source, 6 * MIB, Buffer.alloc(MIB))
    const dry = await runCli(on, ['--json', '-n', ...operands, ...words()])
    expect(dry.status).toBe(1)
    expect(resultOf(dry)).toMatchObject({ sentBytes: 4096 + 777, differentBlocks: 2, zeroBlocks: 1 })
    const third = await synced(on, [...operands, ...words()])
    expect(third).toMatchObject({ sentBytes: 4096 + 777, differentBlocks: 2, zeroBlocks: 1 })
    expect(third.wireBytesSent + third.wireBytesReceived).toBeLessThan(16 * KIB)
    expect(await digestOf(target)).toBe(await digestOf(source))
    expect((await runCli(on, ['verify', ...operands, ...words()])).status).toBe(0)
    // The hole that the zeros became.
    expect(await allocatedBytes(target)).toBeLessThanOrEqual(4 * MIB + 64 * KIB)
  })

  it('syncs several disks in one run, with --disk and with one host', async () => {
    const on = scratch()
    const sources = [await image(on), await image(on)]
    const targets = sources.map(() => on.path(`copy-${made++}.img`))
    const pairs = sources.flatMap((source, index) => ['--disk', `${source}=${there(targets[index] ?? '')}`])
    const result = await synced(on, [...pairs, ...words(), '--create'])
    expect(result).toMatchObject({ totalBlocks: 18, sizeBytes: 2 * (8 * MIB + 777) })
    expect(result.digest?.root).toHaveLength(2)
    for (const [index, source] of sources.entries())
      expect(await digestOf(targets[index] ?? '')).toBe(await digestOf(source))
    if (way === 'local') return
    // One host and no path: the same paths are meant, which on this one machine are the same disks.
    const refused = await runCli(on, [...sources, 'far', ...words()])
    expect(refused.status).toBe(3)
    expect(refused.stderr).toMatch(/the same disk/)
  })

  it('prints the last line that scripts rest on, and the whole result as JSON', async () => {
    const on = scratch()
    const source = await image(on)
    const target = await image(on)
    const text = await runCli(on, [source, there(target), ...words()])
    expect({ status: text.status, last: text.stdout.trim().split('\n').at(-1) }).toEqual({
      status: 0,
      last: 'same: 3, diff: 6, 9/9',
    })
    const result = await synced(on, [source, there(target), ...words()])
    expect(result).toMatchObject({
      event: 'result',
      ok: true,
      source,
      destination: there(target),
      sizeBytes: 8 * MIB + 777,
      totalBlocks: 9,
      sentBytes: 0,
      digest: { root: expect.stringMatching(/^[0-9a-f]{64}$/) as string },
      verified: expect.stringMatching(/^(none|written|all)$/) as string,
      native: { source: expect.any(Boolean) as boolean, destination: expect.any(Boolean) as boolean },
    })
    expect(result).not.toHaveProperty('error')
    for (const value of [result.wireBytesSent, result.wireBytesReceived]) expect(value).toBeGreaterThan(0)
  })

  // The native core moves the bytes of each way differently. What the two ends agree about is the same over each way: one
  // proves it.
  const options: readonly [option: string, value: string, provenOver: Way | 'each'][] = [
    ['--native', 'off', 'each'],
    ['--native', 'require', 'each'],
    ['--digest', 'sha256', 'local'],
    ['--digest', 'xxh64x2', 'openssh'],
    ['--block-size', '64K', 'local'],
    ['--granularity', '512', 'ssh2'],
    ['--bwlimit', '200M', 'ssh2'],
  ]
  it.each(selected(options, ([, , over]) => over === 'each' || over === way))(
    'works with %s %s',
    async (...[option, value]) => {
      const on = scratch()
      const source = await image(on)
      const target = await image(on)
      await synced(on, [source, there(target), ...words(), option, value])
      expect(await digestOf(target)).toBe(await digestOf(source))
    },
  )

  it('works where only one end has the native core', needs('native'), async () => {
    const on = scratch()
    const source = await image(on)
    const target = await image(on)
    if (way === 'local') {
      const result = await synced(on, [source, target, '--native', 'off'])
      expect(result.native).toEqual({ source: false, destination: false })
      return
    }
    // The far shell adds its own word behind ours; the program takes the first.
    const wrapped = `sh -c '${REMOTE_COMMAND} serve --native=off' --`
    const mixed = [...words().slice(0, -1), wrapped]
    const result = await synced(on, [source, there(target), ...mixed])
    expect(result).toMatchObject({
      native: { source: true, destination: false },
      digest: { algorithm: 'xxh64x2' },
    })
    expect(await digestOf(target)).toBe(await digestOf(source))
    const required = await runCli(on, [source, there(target), ...mixed, '--native', 'require'])
    expect(required.status).toBe(4)
    expect(required.stderr).toMatch(/without its native core/)
  })

  describe('between block devices', needs('loop'), () => {
    it.each(directions(way))('%s: zeroes without payload', async (direction) => {
      const on = scratch()
      const backing = await on.sparseFile(`back-${made++}.img`, 16 * MIB, [
        { offset: 4 * MIB, data: randomBytes(2 * MIB) },
      ])
      const stale = await on.randomFile(`back-${made++}.img`, 16 * MIB)
      const source = await on.loopDevice(backing)
      const target = await on.loopDevice(stale)
      const operands = direction === 'push' ? [source, there(target)] : [there(source), target]
      const result = await synced(on, [...operands, ...words()])
      expect(result).toMatchObject({
        totalBlocks: 16,
        differentBlocks: 2,
        zeroBlocks: 14,
        sentBytes: 2 * MIB,
      })
      expect(await digestOf(stale)).toBe(await digestOf(backing))
    })

    it('sees what changed below a device whose old content is still cached', async () => {
      const on = scratch()
      const backing = await on.randomFile(`back-${made++}.img`, 4 * MIB)
      const source = await on.loopDevice(backing)
      const target = await on.randomFile(`copy-${made++}.img`, 4 * MIB)
      const holder = await open(source, 'r')
      try {
        const readAll = async (): Promise<Buffer> => {
          const content = Buffer.alloc(4 * MIB)
          await holder.read(content, 0, content.length, 0)
          return content
        }
        const before = await readAll()
        await synced(on, [source, there(target), ...words()])
        await patch(backing, MIB, Buffer.from('written below the device'))
        // Held open and cached, the device still shows what it was.
        expect((await readAll()).equals(before)).toBe(true)
        const result = await synced(on, [source, there(target), ...words()])
        expect(result).toMatchObject({ differentBlocks: 1, sentBytes: 4096 })
        expect(await digestOf(target)).toBe(await digestOf(backing))
      } finally {
        await holder.close()
      }
    })
  })
})

describe('a file system', needs('loop', 'mkfs.ext4'), () => {
  it('arrives whole: fsck finds nothing', async () => {
    const on = scratch()
    const source = await on.sparseFile('fs.img', 32 * MIB)
    await run('mkfs.ext4', '-q', '-F', source)
    const target = on.path('fs-copy.img')
    await synced(on, [source, target, '--create'])
    expect((await readFile(target)).equals(await readFile(source))).toBe(true)
    await run('fsck.ext4', '-f', '-n', target)
  })
})
