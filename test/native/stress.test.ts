// What only native code can get wrong: buffers collected while it writes to them, worker threads, a worker that is
// terminated in the middle of calls. Each runs in a process or thread of its own; a crash there fails the test here.

import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'

import { describe, expect, it } from 'vitest'

import { loadNative, nativePath } from '../../src/native.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'
import { parametersOf, referenceSpan } from '../digest/reference.js'

const RUN_TIMEOUT_MS = 60_000
const SIZE_BYTES = 8 << 20
const PARAMETERS = parametersOf('xxh3-128', { blockBytes: 1 << 20, leafBytes: 4096 })

/** A second descriptor that goes around the page cache, where the file system has that. */
const DIRECT_OF = `
function directOf(fd) {
  const { constants, openSync } = require('node:fs')
  try {
    return openSync('/proc/self/fd/' + fd, constants.O_RDONLY | constants.O_DIRECT)
  } catch (error) {
    if (error.code === 'EINVAL') return -1
    throw error
  }
}
`

/** Digests the file argv[1] with the core argv[0] many times at once, dropping each buffer at once; prints the block digests. */
const COLLECTED = `${DIRECT_OF}
const [corePath, imagePath, seedHex, rounds] = process.argv.slice(1)
const core = require(corePath)
const fd = require('node:fs').openSync(imagePath, 'r')
const directFd = directOf(fd)
const seed = Buffer.from(seedHex, 'hex')
const size = ${SIZE_BYTES}
async function once() {
  const blocks = new Uint8Array(size / (1 << 20) * 16)
  const call = core.digestSpan(fd, directFd, 0, size, 1 << 20, 4096, 1, new Uint8Array(seed),
    new Uint8Array(size / 4096 * 16), blocks, new Uint8Array(size / 4096), new Uint8Array(size >> 20))
  const into = core.readDigested(fd, directFd, Float64Array.of(0, 1 << 20), 4096, 1, new Uint8Array(seed),
    new Uint8Array(1 << 20), new Uint8Array(4096), new Uint8Array(256))
  globalThis.gc()
  await into
  await call
  return Buffer.from(blocks).toString('hex')
}
async function main() {
  const seen = new Set()
  for (let round = 0; round < Number(rounds); round++) {
    for (const digest of await Promise.all([once(), once(), once(), once()])) seen.add(digest)
  }
  console.log(JSON.stringify({ seen: [...seen], rssBytes: process.memoryUsage.rss() }))
}
main()
`

/** Digests in a worker thread and posts the block digests; goes on for ever when asked to. */
const THREADED = `${DIRECT_OF}
const { parentPort, workerData } = require('node:worker_threads')
const core = require(workerData.corePath)
const fd = require('node:fs').openSync(workerData.imagePath, 'r')
const directFd = directOf(fd)
const size = ${SIZE_BYTES}
async function once() {
  const blocks = new Uint8Array((size >> 20) * 16)
  await core.digestSpan(fd, directFd, 0, size, 1 << 20, 4096, 1, workerData.seed,
    new Uint8Array(size / 4096 * 16), blocks, new Uint8Array(size / 4096), new Uint8Array(size >> 20))
  return blocks
}
async function main() {
  do {
    const [first] = await Promise.all([once(), once(), once(), once(), once(), once()])
    parentPort.postMessage(first)
  } while (workerData.forever)
}
main()
`

describe('under stress', needs('native'), () => {
  const scratch = useScratch()

  async function image(name: string): Promise<{ path: string; expected: string }> {
    const disk = randomBytes(SIZE_BYTES)
    const path = await scratch().file(name, disk)
    return {
      path,
      expected: referenceSpan(PARAMETERS, disk, { offset: 0, length: SIZE_BYTES }).blocks.toString('hex'),
    }
  }

  function worker(imagePath: string, forever: boolean): Worker {
    const workerData = { corePath: nativePath(), imagePath, seed: PARAMETERS.seed, forever }
    return new Worker(THREADED, { eval: true, workerData })
  }

  it('keeps buffers that only it still knows, and leaks none', async () => {
    const { path, expected } = await image('collected')
    const seedHex = Buffer.from(PARAMETERS.seed).toString('hex')
    const runs = []
    for (const rounds of ['5', '60']) {
      const args = ['--expose-gc', '-e', COLLECTED, nativePath(), path, seedHex, rounds]
      const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: RUN_TIMEOUT_MS })
      runs.push(JSON.parse(stdout) as { seen: string[]; rssBytes: number })
    }
    for (const run of runs) expect(run.seen).toEqual([expected])
    // 220 more calls of 8 MiB and of 1 MiB into memory: a leak of one of their buffers would be 200 MiB.
    expect((runs[1]?.rssBytes ?? Infinity) - (runs[0]?.rssBytes ?? 0)).toBeLessThan(100 << 20)
  })

  it('runs in several worker threads at once', async () => {
    const { path, expected } = await image('threaded')
    const digests = await Promise.all(
      Array.from({ length: 4 }, async () => {
        const thread = worker(path, false)
        return new Promise<string>((resolve, reject) => {
          thread.once('error', reject)
          thread.once('message', (blocks: Uint8Array) => {
            thread.once('exit', () => resolve(Buffer.from(blocks).toString('hex')))
          })
        })
      }),
    )
    expect(digests).toEqual(Array.from({ length: 4 }, () => expected))
  })

  it('survives the end of a worker in the middle of its calls', async () => {
    const { path, expected } = await image('terminated')
    for (let round = 0; round < 10; round++) {
      const thread = worker(path, true)
      const first = await new Promise<Uint8Array>((resolve, reject) => {
        thread.once('error', reject)
        thread.once('message', resolve)
      })
      expect(Buffer.from(first).toString('hex')).toBe(expected)
      await thread.terminate()
    }
    const out = new Uint8Array(16)
    loadNative('require')?.digestItems(1, PARAMETERS.seed, new Uint8Array(1), 1, out)
    expect(out.some((byte) => byte !== 0)).toBe(true)
  })
})
