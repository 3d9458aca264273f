// What clones of files have to do beyond the suite: on real file systems, also those that cannot do it.

import { readFileSync } from 'node:fs'
import { chmod, mkdir, open, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'

import { beforeAll, describe, expect, it } from 'vitest'

import { openSnapshots } from '../../src/snapshot/open.js'
import type { CutRequest } from '../../src/snapshot/snapshot.js'
import { randomBytes, run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { until } from '../support/processes.js'
import { OWNER, refusal } from './conformance.js'
import { fileSystem, localHost } from './worlds.js'

const METHOD = openSnapshots({ kind: 'reflink' })
const MIB = 1 << 20
/** So many take a file system some tenths of a second to clone. */
const EXTENTS = 12_000

function requestOf(disk: string): CutRequest {
  return { disks: [disk], job: 'web', owner: OWNER, attempt: 'a1' }
}

describe.each(['xfs', 'btrfs'])('clones on %s', (kind) => {
  describe('there', needs('loop', `mkfs.${kind}`), () => {
    const scratch = useScratch()
    let directory = ''
    beforeAll(async () => {
      directory = await fileSystem(scratch(), kind)
    })

    it('have what was written and not flushed, and nobody else may read them', async () => {
      const path = join(directory, 'unflushed.img')
      const data = randomBytes(8 * MIB)
      await writeFile(path, data)
      await chmod(path, 0o644)
      const host = localHost(scratch())
      const cut = await METHOD.cut(host, requestOf(path))
      const snapshot = cut.disks[0]?.path ?? ''
      expect(snapshot).toBe(join(directory, '.blocksync-snap-web+0123abcd+a1+0.img'))
      expect((await stat(snapshot)).mode & 0o777).toBe(0o600)
      expect((await readFile(snapshot)).equals(data)).toBe(true)
      await METHOD.remove(host, requestOf(path), cut)
    })

    it('are beside the file that a link leads to', async () => {
      await mkdir(join(directory, 'links'))
      await writeFile(join(directory, 'linked.img'), 'x')
      const link = join(directory, 'links', 'web.img')
      await symlink('../linked.img', link)
      const host = localHost(scratch())
      const cut = await METHOD.cut(host, requestOf(link))
      expect(cut.disks).toEqual([
        { original: link, path: join(directory, '.blocksync-snap-web+0123abcd+a1+0.img') },
      ])
      expect(await METHOD.removeOrphans(host, requestOf(link))).toEqual([cut.disks[0]?.path])
    })

    it('are of one instant while somebody writes', async () => {
      const path = join(directory, 'busy.img')
      await writeFile(path, Buffer.alloc(32 * MIB))
      const host = localHost(scratch())
      const file = await open(path, 'r+')
      let isOver = false
      // the same number at both ends of the file, the far one first
      const writing = (async () => {
        const page = Buffer.alloc(4096)
        for (let count = 1; !isOver; count += 1) {
          page.writeUInt32LE(count)
          await file.write(page, 0, page.length, 31 * MIB)
          await file.write(page, 0, page.length, 0)
        }
      })()
      const seen: Array<Readonly<{ first: number; last: number }>> = []
      try {
        for (let round = 0; round < 5; round += 1) {
          const cut = await METHOD.cut(host, requestOf(path))
          const clone = await readFile(cut.disks[0]?.path ?? '')
          seen.push({ first: clone.readUInt32LE(0), last: clone.readUInt32LE(31 * MIB) })
          await METHOD.remove(host, requestOf(path), cut)
        }
      } finally {
        isOver = true
        await writing
        await file.close()
      }
      expect(seen.filter(({ first, last }) => last !== first && last !== first + 1)).toEqual([])
      expect(new Set(seen.map(({ last }) => last)).size).toBe(5)
    })

    it('have all that was written until they were taken, also where they take long', async () => {
      const path = join(directory, 'many-extents.img')
      const file = await open(path, 'w+')
      const page = Buffer.alloc(4096, 1)
      for (let at = 0; at < EXTENTS; at += 1) await file.write(page, 0, page.length, at * 2 * page.length)
      await file.sync()
      await file.close()
      const flag = new Int32Array(new SharedArrayBuffer(4))
      const worker = new Worker(COUNTING, { eval: true, workerData: { path, flag } })
      const counted = new Promise<ReadonlyArray<{ count: number; atMs: number }>>((resolve, reject) => {
        worker.once('message', resolve)
        worker.once('error', reject)
      })
      const host = localHost(scratch())
      await until(() => readFileSync(path).readUInt32LE(0) > 1, 'somebody writes')
      const beganMs = Date.now()
      const cut = await METHOD.cut(host, requestOf(path))
      const tookMs = Date.now() - beganMs
      const clone = await readFile(cut.disks[0]?.path ?? '')
      Atomics.store(flag, 0, 1)
      const written = await counted
      await METHOD.remove(host, requestOf(path), cut)
      const before = written.findLast(({ atMs }) => atMs < cut.takenAtMs)?.count ?? Infinity
      expect(clone.readUInt32LE(0)).toBeGreaterThanOrEqual(before)
      // and that is not when it was begun
      expect(cut.takenAtMs - beganMs).toBeGreaterThan(tookMs / 3)
    })
  })
})

/** Writes numbers to the start of a file, one after the other, and keeps when each of them was written. */
const COUNTING = `
const { workerData: { path, flag }, parentPort } = require('node:worker_threads')
const fs = require('node:fs')
const file = fs.openSync(path, 'r+')
const page = Buffer.alloc(4096)
const written = []
for (let count = 1; Atomics.load(flag, 0) === 0; count += 1) {
  page.writeUInt32LE(count)
  fs.writeSync(file, page, 0, page.length, 0)
  // those of one millisecond are one
  const atMs = Date.now()
  if (written.at(-1)?.atMs === atMs) written.pop()
  written.push({ count, atMs })
}
parentPort.postMessage(written)
`

describe('clones where they are hard to have', needs('loop', 'mkfs.xfs', 'mkfs.ext4', 'mkfs.btrfs'), () => {
  const scratch = useScratch()

  it.each([
    ['ext4', [], /is on ext4 at \S+ on this host, which cannot share blocks/],
    ['xfs', ['-m', 'reflink=0'], /is on xfs at \S+ on this host, which was made without reflink=1/],
  ] as const)('%s is named, and nothing stays', async (kind, words, message) => {
    const directory = await fileSystem(scratch(), kind, ...words)
    const path = join(directory, 'a.img')
    await writeFile(path, 'x')
    const host = localHost(scratch())
    const failure = await refusal(METHOD.cut(host, requestOf(path)))
    expect(failure.message).toMatch(message)
    expect(failure.hint).toMatch(/mkfs\.xfs -m reflink=1/)
    expect(await run('find', directory, '-name', '.blocksync*')).toBe('')
  })

  it('btrfs: a file without copy-on-write in a directory with it', needs('chattr'), async () => {
    const directory = await fileSystem(scratch(), 'btrfs')
    const path = join(directory, 'nocow.img')
    await writeFile(path, '')
    await run('chattr', '+C', path)
    const data = randomBytes(MIB)
    const handle = await open(path, 'r+')
    await handle.write(data)
    await handle.close()
    const host = localHost(scratch())
    const cut = await METHOD.cut(host, requestOf(path))
    expect((await readFile(cut.disks[0]?.path ?? '')).equals(data)).toBe(true)
    await METHOD.remove(host, requestOf(path), cut)
  })

  it('a device is no file', async () => {
    const failure = await refusal(METHOD.cut(localHost(scratch()), requestOf('/dev/loop0')))
    expect(failure.message).toMatch(/is no file/)
    expect(failure.hint).toMatch(/snapshot: lvm/)
  })

  it('there are no orphans in a directory that is gone', async () => {
    const orphans = METHOD.removeOrphans(localHost(scratch()), requestOf(scratch().path('gone/a.img')))
    expect(await orphans).toEqual([])
  })
})
