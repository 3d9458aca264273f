// Receipts on the command line: what is written, what is refused, and what a disk is told that does not fit one.

import { mkdir, readFile, readdir, symlink } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import type { DigestEngine } from '../../src/cli/digest.js'
import { chooseDisk, parseReceipt, receiptOf } from '../../src/cli/receipt.js'
import { receiptFiles } from '../../src/cli/receipt-file.js'
import type { DiskReport } from '../../src/sync/report.js'
import { useScratch } from '../support/disks.js'
import { diskReport, jsonLines, MIB, runWords } from './fixtures.js'

const ROOT = 'ab'.repeat(32)
const SECTIONS = Buffer.alloc(16 * 32, 5)

function done(changes: Partial<DiskReport> = {}): DiskReport {
  const seed = '01'.repeat(16)
  const digest = { algorithm: 'sha256', root: ROOT, seed, blockBytes: MIB, leafBytes: 4096 } as const
  return diskReport({ digest, ...changes })
}

/** A receipt of a run over /dev/vg/web. */
async function written(): Promise<string> {
  const receipts = new Map<string, string>()
  const words = ['--receipt', 'web.json', '/dev/vg/web', 'host2']
  const { status } = await runWords(words, { receipts, engine: () => ({ disks: [done()], error: null }) })
  expect(status).toBe(0)
  return receipts.get('web.json') ?? ''
}

function engineOf(root: string, sections: Buffer): DigestEngine {
  return {
    algorithms: () => ['xxh64x2', 'sha256'],
    diskRoot: ({ path, lengthBytes }) =>
      Promise.resolve({
        info: { ...(diskReport().evidence?.source ?? expect.fail('no evidence')), path },
        lengthBytes: lengthBytes ?? MIB,
        root,
        sections,
        readBytes: 5,
      }),
  }
}

describe('a receipt', () => {
  it('is understood again', async () => {
    const [disk, ...others] = parseReceipt(await written(), 'web.json')
    expect(others).toEqual([])
    expect(disk).toMatchObject({ destination: '/dev/vg/web', lengthBytes: 1024 * MIB, root: ROOT })
    expect(disk?.sections?.equals(SECTIONS)).toBe(true)
    expect(disk?.parameters).toMatchObject({
      algorithm: 'sha256',
      geometry: { blockBytes: MIB, leafBytes: 4096 },
    })
  })

  it('leaves section digests out where they are too many', () => {
    const evidence = diskReport().evidence ?? expect.fail('no evidence')
    const disk = done({ evidence: { ...evidence, sections: Buffer.alloc(65_537 * 32) } })
    const side = { at: { kind: 'local' }, path: '/a', typed: '/a' } as const
    const facts = {
      pairs: [{ source: side, destination: side }],
      startedAt: new Date(),
      finishedAt: new Date(),
    }
    const document = receiptOf({ mode: 'sync', disks: [disk], by: 'me@here', hostName: 'here', ...facts })
    expect(document).toMatchObject({ disks: [{ digest: { sections: null }, source: { host: 'here' } }] })
  })

  it('is none where the run failed, and where verify found a difference', async () => {
    const receipts = new Map<string, string>()
    const words = ['verify', '--receipt', 'web.json', '/dev/vg/web', 'host2']
    const { status } = await runWords(words, { receipts, engine: () => ({ disks: [done()], error: null }) })
    expect([status, receipts.size]).toEqual([1, 0])
    const same = await runWords(words, {
      receipts,
      engine: () => ({ disks: [done({ different: false })], error: null }),
    })
    expect([same.status, receipts.size]).toEqual([0, 1])
  })

  it.each([
    ['--receipt and a dry run', ['-n', '--receipt', 'x', '/a', 'host2:/b'], 'a dry run does nothing'],
    ['--verify and a dry run', ['-n', '--verify', '/a', 'host2:/b'], 'nothing is written'],
    ['--verify with its value apart', ['--verify', 'all', '/a', 'host2:/b'], 'in the same word'],
    ['a value that is none', ['--verify=some', '/a', 'host2:/b'], 'some'],
    ['a seed that is none', ['digest', '--seed', '12', '/a'], '16 bytes in hex'],
    ['digest with both', ['digest', '--receipt', 'x', '--digest', 'sha256', '/a'], 'cannot be used with'],
    ['digest of another host', ['digest', 'host2:/a'], 'of this host only'],
    ['an empty name', ['--receipt', '', '/a', 'host2:/b'], 'needs the name of a file'],
  ])('refuses %s', async (_, words, text) => {
    const { status, stderr, calls } = await runWords(words, { receipts: new Map() })
    expect([status, calls.length]).toEqual([2, 0])
    expect(stderr).toContain(text)
  })

  it.each([
    ['no JSON', () => '{'],
    ['another kind', (text: string) => text.replace('blocksync-receipt', 'recipe')],
    ['a later version', (text: string) => text.replace('"version":1', '"version":2')],
    ['no disks', () => '{"kind":"blocksync-receipt","version":1,"disks":[]}'],
    ['a root that is none', (text: string) => text.replace(ROOT, 'x')],
    ['another algorithm', (text: string) => text.replace('"sha256"', '"md5"')],
    ['sections that are too few', (text: string) => text.replace(`"${'05'.repeat(32)}",`, '')],
    ['blocks of no size', (text: string) => text.replace('"blockBytes":1048576', '"blockBytes":7')],
    ['a length that is none', (text: string) => text.replace(/"lengthBytes":\d+/, '"lengthBytes":-1')],
  ])('is refused with %s', async (_, change) => {
    const good = await written()
    const receipts = new Map([['web.json', change(good)]])
    const words = ['verify', '--receipt', 'web.json', '/dev/vg/web']
    const { status, stderr } = await runWords(words, { receipts, digest: engineOf(ROOT, SECTIONS) })
    expect([status, stderr]).toEqual([
      2,
      expect.stringContaining('web.json is not a receipt that can be used'),
    ])
  })

  it('of several disks is about the one that is named', async () => {
    const [disk] = parseReceipt(await written(), 'x')
    if (disk === undefined) expect.fail('no disk')
    const other = { ...disk, source: '/b', destination: '/c' }
    expect(chooseDisk([disk, other], ['/c'], 'x')).toBe(other)
    expect(() => chooseDisk([disk, other], ['/d'], 'x')).toThrow('/d is none of them')
    expect(() => chooseDisk([other, other], ['/c'], 'x')).toThrow('more than one')
  })
})

describe('blocksync verify --receipt FILE DISK', () => {
  it('says whether it is the same, and where not', async () => {
    const receipts = new Map([['web.json', await written()]])
    const words = ['verify', '--receipt', 'web.json', '/dev/vg/web']
    const same = await runWords(words, { receipts, digest: engineOf(ROOT, SECTIONS) })
    expect([same.status, same.stdout, same.stderr]).toEqual([0, 'identical\n', ''])
    const sections = Buffer.from(SECTIONS)
    sections[3 * 32] = 1
    const digest = engineOf('cd'.repeat(32), sections)
    const other = await runWords(words, { receipts, digest })
    expect(other.status).toBe(1)
    expect(other.stdout).toBe(
      `different: 1 of 16 sections differ: 3 (bytes ${3 * 64 * MIB} to ${4 * 64 * MIB - 1})\n`,
    )
    const json = await runWords([...words, '--json'], { receipts, digest })
    expect(jsonLines(json.stdout)).toEqual([
      expect.objectContaining({
        ok: true,
        command: 'verify',
        equal: false,
        differentSections: [3],
        expectedRoot: ROOT,
      }),
    ])
  })
})

describe('blocksync digest', () => {
  it('prints the root and the disk, and says when it is not the digest that others have', async () => {
    const { status, stdout, stderr } = await runWords(['digest', './a.img'], {
      digest: engineOf(ROOT, SECTIONS),
    })
    expect([status, stdout]).toEqual([0, `${ROOT}  ./a.img\n`])
    expect(stderr).toContain('this is xxh64x2')
    const plain = await runWords(['digest', '--digest=sha256', './a.img'], {
      digest: engineOf(ROOT, SECTIONS),
    })
    expect(plain.stderr).toBe('')
  })
})

describe('the file of a receipt', () => {
  const scratch = useScratch()

  it('is replaced as a whole, also behind a link, and nothing else is left', async () => {
    await mkdir(scratch().path('dir'))
    const real = await scratch().file('dir/real.json', Buffer.from('old'))
    const link = scratch().path('dir/link.json')
    await symlink(real, link)
    {
      await using file = await receiptFiles.open(link)
      expect(await readFile(real, 'utf8')).toBe('old')
      await file.commit({
        ranges: [
          [1, 2],
          [3, 4],
        ],
      })
    }
    expect(await receiptFiles.read(link)).toBe('{\n "ranges": [\n  [1, 2],\n  [3, 4]\n ]\n}\n')
    await (await receiptFiles.open(link))[Symbol.asyncDispose]()
    expect((await readdir(scratch().path('dir'))).toSorted()).toEqual(['link.json', 'real.json'])
  })

  it('is refused where it cannot be, and is no directory and no device', async () => {
    for (const path of [scratch().path('no/where'), scratch().directory, '/dev/null'])
      await expect(receiptFiles.open(path)).rejects.toMatchObject({ code: 'usage', operand: '--receipt' })
    for (const path of [scratch().path('missing'), scratch().directory, '/dev/zero'])
      await expect(receiptFiles.read(path)).rejects.toMatchObject({ code: 'usage' })
  })

  it('that cannot be written in the end is a failure of its own', async () => {
    await using file = await receiptFiles.open(scratch().path('late.json'))
    const cyclic: Record<string, unknown> = {}
    cyclic['self'] = cyclic
    await expect(file.commit(cyclic)).rejects.toMatchObject({ code: 'receipt/write', exitStatus: 6 })
  })
})
