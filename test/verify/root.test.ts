// The root as docs/receipt.md defines it, worked out again: by the script in that document, and by other people's hash
// functions. Both know nothing of this program but the text.

import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import type { AlgorithmName } from '../../src/digest/digester.js'
import { loadNative } from '../../src/native.js'
import { diskRoot } from '../../src/sync/disk-root.js'
import { parametersOf, referenceDigest } from '../digest/reference.js'
import { fences, readText } from '../docs/text.js'
import { randomBytes, run, useScratch } from '../support/disks.js'
import { has, needs } from '../support/needs.js'

const MIB = 1 << 20
const SECTION = 64 * MIB
const never = new AbortController().signal

/** The steps of docs/receipt.md, one by one. */
function rootByHand(disk: Buffer, algorithm: AlgorithmName, blockBytes: number, leafBytes: number): string {
  const parameters = parametersOf(algorithm, { blockBytes, leafBytes })
  const D = (data: Buffer): Buffer => referenceDigest(parameters, data)
  const pieces = (data: Buffer, size: number): Buffer[] =>
    Array.from({ length: Math.ceil(data.length / size) }, (_, at) =>
      data.subarray(at * size, (at + 1) * size),
    )
  const sha256 = (data: Buffer): Buffer => createHash('sha256').update(data).digest()
  const sections = pieces(disk, SECTION).map((section) =>
    sha256(
      Buffer.concat(
        pieces(section, blockBytes).map((block) => D(Buffer.concat(pieces(block, leafBytes).map(D)))),
      ),
    ),
  )
  const seed = Buffer.from(parameters.seed).toString('hex')
  const text = `blocksync-root-2\n${algorithm}\n${seed}\n${blockBytes}\n${leafBytes}\n0\n${disk.length}\n`
  return sha256(Buffer.concat([Buffer.from(text), ...sections])).toString('hex')
}

describe('the root digest of a disk', () => {
  const scratch = useScratch()
  const cores = [['off', null], ...(has('native') ? ([['on', loadNative('auto')]] as const) : [])] as const

  it.each(
    cores.flatMap(([name, native]) =>
      (['xxh3-128', 'xxh64x2', 'sha256'] as const)
        .filter((algorithm) => native !== null || algorithm !== 'xxh3-128')
        .map((algorithm) => ({ name, native, algorithm })),
    ),
  )('is what the document says: $algorithm, native core $name', async ({ name, native, algorithm }) => {
    // into a second section, with zeros, a hole, and a last leaf that is short
    const size = SECTION + 2 * MIB + 777
    const data = randomBytes(MIB)
    const path = await scratch().sparseFile(`${algorithm}-${name}`, size, [
      { offset: 0, data },
      { offset: 3 * MIB, data: Buffer.alloc(2 * MIB) },
      { offset: SECTION - 5, data: data.subarray(0, 1000) },
      { offset: size - 100, data: data.subarray(0, 100) },
    ])
    const geometry = { blockBytes: 256 << 10, leafBytes: 16 << 10 }
    const parameters = parametersOf(algorithm, geometry)
    const disk = await readFile(path)
    const found = await diskRoot({ path, parameters, lengthBytes: null }, native, never)
    expect(found.root).toBe(rootByHand(disk, algorithm, geometry.blockBytes, geometry.leafBytes))
    if (native !== null) expect(found.readBytes).toBeLessThan(8 * MIB)
    const part = await diskRoot({ path, parameters, lengthBytes: 5 * MIB + 1 }, native, never)
    const partly = disk.subarray(0, 5 * MIB + 1)
    expect(part.root).toBe(rootByHand(partly, algorithm, geometry.blockBytes, geometry.leafBytes))
    await expect(diskRoot({ path, parameters, lengthBytes: size + 1 }, native, never)).rejects.toMatchObject({
      code: 'guard/size',
    })
  })

  it('is what the script in docs/receipt.md computes', needs('python3'), async () => {
    const [script = ''] = fences(readText('docs/receipt.md'), 'python')
    expect(script.split('\n').length).toBeLessThan(60)
    const size = SECTION + MIB + 4097
    const path = await scratch().sparseFile('by-script', size, [
      { offset: 0, data: randomBytes(MIB) },
      { offset: SECTION - 10, data: randomBytes(4096) },
    ])
    const parameters = parametersOf('sha256', { blockBytes: MIB, leafBytes: 4096 })
    const { root, sections } = await diskRoot({ path, parameters, lengthBytes: null }, null, never)
    const receipt = await scratch().file('by-script.json', Buffer.alloc(0))
    const digest = {
      algorithm: 'sha256',
      seed: Buffer.from(parameters.seed).toString('hex'),
      ...parameters.geometry,
      root,
      sections: [sections.toString('hex', 0, 32), sections.toString('hex', 32)],
    }
    await writeFile(receipt, JSON.stringify({ disks: [{ lengthBytes: size, digest }] }))
    const program = await scratch().file('receipt.py', Buffer.from(script))
    expect(await run('python3', program, receipt, path)).toBe(`${root}\n`)
    // and it is no script that always agrees
    await writeFile(path, randomBytes(1), { flag: 'r+' })
    await expect(run('python3', program, receipt, path)).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringContaining('section 0 differs') as string,
    })
  })

  it('ends when it is told to', async () => {
    const path = await scratch().randomFile('aborted', MIB)
    const abort = new AbortController()
    abort.abort(new Error('enough'))
    const parameters = parametersOf('sha256', { blockBytes: MIB, leafBytes: 4096 })
    await expect(diskRoot({ path, parameters, lengthBytes: null }, null, abort.signal)).rejects.toThrow(
      'enough',
    )
  })
})
