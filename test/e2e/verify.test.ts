// --verify, --receipt and blocksync digest as people type them: real processes, real files and devices, over a real sshd.

import { open, readFile, readdir, writeFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import { fences, readText } from '../docs/text.js'
import { randomBytes, run, type Scratch, useScratch } from '../support/disks.js'
import { relay, resultOf, runCli, startCli, synced } from '../support/cli.js'
import { directions, useFarSides, ways } from '../support/far-sides.js'
import { needs } from '../support/needs.js'

const MIB = 1 << 20

type Receipt = {
  kind: string
  version: number
  mode: string
  by: string
  versions: { near: object; far: object; protocol: number }
  disks: {
    source: { typed: string; path: string; sizeBytes: number }
    destination: { typed: string; path: string; kind: string; sizeBytes: number }
    lengthBytes: number
    digest: { algorithm: string; seed: string; root: string; sections: string[] }
    verified: string
    flushedAt: string | null
    written: { count: number; bytes: number; ranges: [number, number][] | null }
  }[]
}

async function receiptAt(path: string): Promise<Receipt> {
  return JSON.parse(await readFile(path, 'utf8')) as Receipt
}

async function flipBit(path: string, at: number): Promise<void> {
  const handle = await open(path, 'r+')
  try {
    const byte = Buffer.alloc(1)
    await handle.read(byte, 0, 1, at)
    byte[0] = (byte[0] ?? 0) ^ 1
    await handle.write(byte, 0, 1, at)
  } finally {
    await handle.close()
  }
}

/** A source, and a destination that differs from it in 2 MiB, 4 KiB and a MiB that is to be zeros. */
async function pairOf(on: Scratch, name: string, size = 6 * MIB): Promise<[string, string]> {
  const content = randomBytes(size)
  content.fill(0, MIB, 2 * MIB)
  const old = Buffer.from(content)
  randomBytes(3 * MIB).copy(old, MIB)
  randomBytes(4096).copy(old, 5 * MIB)
  return [await on.file(`${name}.source`, content), await on.file(`${name}.destination`, old)]
}

describe('--verify and --receipt', () => {
  const scratch = useScratch()
  const far = useFarSides()

  describe.each(ways('local', 'openssh'))('%s', (way) => {
    it.each(directions(way))(
      '%s: read back, and a receipt that the disk can be checked with',
      async (direction) => {
        const name = `${way}-${direction}`
        const [source, destination] = await pairOf(scratch(), name)
        const receipt = scratch().path(`${name}.json`)
        const operands =
          direction === 'push' ? [source, far.path(way, destination)] : [far.path(way, source), destination]
        const result = (await synced(scratch(), [
          ...far.words(way),
          '--verify',
          `--receipt=${receipt}`,
          ...operands,
        ])) as unknown as { verified: string; verifiedBytes: number; digest: { root: string } }
        expect([result.verified, result.verifiedBytes]).toEqual(['written', 3 * MIB + 4096])
        const { kind, version, mode, versions, disks } = await receiptAt(receipt)
        expect([kind, version, mode, disks.length]).toEqual(['blocksync-receipt', 1, 'sync', 1])
        expect(Object.keys(versions.far)).toEqual(['blocksync', 'node'])
        const [disk] = disks
        expect(disk?.digest.root).toBe(result.digest.root)
        expect([disk?.source.path, disk?.destination.path]).toEqual([source, destination])
        expect([disk?.verified, disk?.lengthBytes, disk?.digest.sections.length]).toEqual([
          'written',
          6 * MIB,
          1,
        ])
        expect(disk?.flushedAt).not.toBe(null)
        expect(disk?.written).toMatchObject({
          count: 2,
          bytes: 3 * MIB + 4096,
          ranges: [
            [MIB, 3 * MIB],
            [5 * MIB, 4096],
          ],
        })
        for (const path of [source, destination]) {
          const check = await runCli(scratch(), ['verify', '--receipt', receipt, path])
          expect([check.status, check.stdout]).toEqual([0, 'identical\n'])
        }
        const digest = await runCli(scratch(), ['digest', '--receipt', receipt, destination])
        expect(digest.stdout).toBe(`${result.digest.root}  ${destination}\n`)
        await flipBit(destination, 4 * MIB)
        const check = await runCli(scratch(), ['verify', '--receipt', receipt, destination])
        expect(check.status).toBe(1)
        expect(check.stdout).toBe(`different: 1 of 1 sections differ: 0 (bytes 0 to ${6 * MIB - 1})\n`)
      },
    )

    it('all of both disks is compared again', async () => {
      const [source, destination] = await pairOf(scratch(), `${way}-all`)
      const words = [...far.words(way), '--verify=all', source, far.path(way, destination)]
      const ended = await runCli(scratch(), words)
      expect([ended.stderr, ended.status]).toEqual(['', 0])
      expect(ended.stdout).toContain(
        'verified: 3.00 MiB written, read back and equal; all 6.00 MiB compared again and equal\n',
      )
      // nothing is different any more, and it is still verified
      const again = (await synced(scratch(), words)) as unknown as { verified: string; verifiedBytes: number }
      expect([again.verified, again.verifiedBytes]).toEqual(['all', 0])
    })
  })

  it('several lanes: each reads back its own part', async () => {
    const size = 320 * MIB
    const source = await scratch().randomFile('lanes.source', size)
    const destination = await scratch().sparseFile('lanes.destination', size)
    const receipt = scratch().path('lanes.json')
    const result = (await synced(scratch(), [
      '--streams=3',
      '--verify',
      `--receipt=${receipt}`,
      source,
      destination,
    ])) as unknown as { verifiedBytes: number; lanes: number }
    expect(result.verifiedBytes).toBe(size)
    const [disk] = (await receiptAt(receipt)).disks
    expect(disk?.written.ranges).toEqual([[0, size]])
    expect((await runCli(scratch(), ['verify', '--receipt', receipt, destination])).status).toBe(0)
  })

  it('a device is read around the cache', needs('loop'), async () => {
    const [source, backing] = await pairOf(scratch(), 'device')
    const device = await scratch().loopDevice(backing)
    const result = (await synced(scratch(), ['--verify=all', source, device])) as unknown as {
      verified: string
    }
    expect(result.verified).toBe('all')
  })

  it.each([
    ['all', 7],
    ['written', 0],
  ])('a disk that changed after it was written: --verify=%s', async (what, status) => {
    const names = ['first', 'second'].map((name) => `${what}-${name}`)
    const [[s1, d1], [s2, d2]] = (await Promise.all(names.map((name) => pairOf(scratch(), name)))) as [
      [string, string],
      [string, string],
    ]
    const disks = ['--disk', `${s1}=far:${d1}`, '--disk', `${s2}=far:${d2}`]
    // the first disk is done, and read back where that is asked for, when the second one begins
    const line = await relay(scratch(), { on: 'up:start:2', act: 'hold' })
    const running = startCli(scratch(), ['--json', `--verify=${what}`, ...disks, ...line.words])
    await line.reached()
    await flipBit(d1, 4 * MIB + 17)
    line.letGo()
    const ended = await running.ended
    expect([ended.status, ended.stderr.includes('differ')]).toEqual([status, status === 7])
    if (status === 0) return
    const { error } = resultOf(ended)
    expect(error?.code).toBe('verify/mismatch')
    expect(error?.message).toContain(`in 1 of 6 blocks`)
    expect(error?.message).toContain(`first in bytes ${4 * MIB} to ${4 * MIB + 4095}`)
    expect(ended.stderr).toContain('--verify=written, or a snapshot')
  })

  it('verify writes a receipt of what is identical, and none of what differs', async () => {
    const [source, destination] = await pairOf(scratch(), 'compared')
    const receipt = await scratch().file('compared.json', Buffer.from('what was there'))
    const words = ['verify', `--receipt=${receipt}`, source, destination]
    expect((await runCli(scratch(), words)).status).toBe(1)
    expect(await readFile(receipt, 'utf8')).toBe('what was there')
    await synced(scratch(), [source, destination])
    expect((await runCli(scratch(), words)).status).toBe(0)
    const { mode, disks } = await receiptAt(receipt)
    expect([mode, disks[0]?.flushedAt, disks[0]?.written.count]).toEqual(['verify', null, 0])
    // no temporary file stayed behind
    expect((await readdir(scratch().directory)).filter((name) => name.endsWith('.tmp'))).toEqual([])
  })

  it('a receipt in a directory that is not there is refused before anything is written', async () => {
    const [source, destination] = await pairOf(scratch(), 'nowhere')
    const before = await readFile(destination)
    const ended = await runCli(scratch(), ['--receipt', scratch().path('no/where.json'), source, destination])
    expect(ended.status).toBe(2)
    expect((await readFile(destination)).equals(before)).toBe(true)
  })

  it('the script of docs/receipt.md agrees with a real receipt', needs('python3'), async () => {
    const [source, destination] = await pairOf(scratch(), 'script', 70 * MIB + 100)
    const receipt = scratch().path('script.json')
    const result = await synced(scratch(), ['--digest=sha256', `--receipt=${receipt}`, source, destination])
    const [script = ''] = fences(readText('docs/receipt.md'), 'python')
    const program = scratch().path('receipt.py')
    await writeFile(program, script)
    expect(await run('python3', program, receipt, destination)).toBe(`${String(result.digest?.root)}\n`)
  })

  it('digest prints the same for two people, and something else for another content', async () => {
    const [source, destination] = await pairOf(scratch(), 'people')
    const digestOf = async (path: string, ...words: string[]): Promise<string> => {
      const { status, stdout } = await runCli(scratch(), ['digest', ...words, path])
      expect(status).toBe(0)
      return /^([0-9a-f]{64}) {2}/.exec(stdout)?.[1] ?? ''
    }
    const before = await digestOf(destination, '--digest=xxh64x2')
    await synced(scratch(), [source, destination])
    const after = await digestOf(destination, '--digest=xxh64x2')
    expect(after).toBe(await digestOf(source, '--digest=xxh64x2', '--native=off'))
    expect(after).not.toBe(before)
    expect(after).not.toBe(await digestOf(source, '--digest=xxh64x2', `--seed=${'01'.repeat(16)}`))
    expect(await digestOf(source, '--length=4M')).not.toBe(await digestOf(source))
    const missing = await runCli(scratch(), ['digest', '--json', scratch().path('missing')])
    expect(missing.status).toBe(5)
    expect(JSON.parse(missing.stdout)).toMatchObject({ ok: false, error: { code: 'source/missing' } })
  })
})
