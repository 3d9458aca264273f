// The worked exchange: what crosses today is what the vectors say, the document shows the same bytes, and the root is
// what its definition says when other people's code computes it.

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

import { describe, expect, it } from 'vitest'

import { referenceDigest } from '../digest/reference.js'
import { BLOCK_BYTES, LEAF_BYTES, LENGTH_BYTES, runExchange, SEED } from './exchange.js'
import { EXCHANGE } from './exchange.vectors.js'

const DOCUMENT = new URL('../../docs/protocol.md', import.meta.url)

/** Blocks marked `hex NAME` in the document; spaces and what follows a # are for people. */
function documented(): { name: string; hex: string }[] {
  const found = readFileSync(DOCUMENT, 'utf8').matchAll(/^```hex (.+)\n([^`]*)^```$/gm)
  return [...found].map(([, name = '', text = '']) => ({
    name,
    hex: text.replaceAll(/#.*$/gm, '').replaceAll(/\s/g, ''),
  }))
}

function byName(a: { name: string }, b: { name: string }): number {
  return a.name < b.name ? -1 : 1
}

describe('the worked exchange', () => {
  it('crosses the wire byte for byte, and makes the disks equal', async () => {
    const { pieces, source, destination, roots } = await runExchange()
    expect(pieces).toEqual(EXCHANGE)
    expect(destination.equals(source)).toBe(true)
    expect(roots[0]).toBe(roots[1])
  })

  it('ends with the root as the document defines it', async () => {
    const { source, roots } = await runExchange()
    const parameters = {
      algorithm: 'xxh64x2' as const,
      seed: SEED,
      geometry: { blockBytes: BLOCK_BYTES, leafBytes: LEAF_BYTES },
    }
    // The disk is shorter than a section, so there is one.
    const section = createHash('sha256')
    for (let block = 0; block < LENGTH_BYTES; block += BLOCK_BYTES) {
      const data = source.subarray(block, block + BLOCK_BYTES)
      const leaves: Buffer[] = []
      for (let leaf = 0; leaf < data.length; leaf += LEAF_BYTES)
        leaves.push(referenceDigest(parameters, data.subarray(leaf, leaf + LEAF_BYTES)))
      section.update(referenceDigest(parameters, Buffer.concat(leaves)))
    }
    const root = createHash('sha256')
      .update(`blocksync-root-2\nxxh64x2\n${SEED.toString('hex')}\n${BLOCK_BYTES}\n${LEAF_BYTES}\n`)
      .update(`0\n${LENGTH_BYTES}\n`)
      .update(section.digest())
    expect(roots[0]).toBe(root.digest('hex'))
  })

  it('is what docs/protocol.md shows', () => {
    expect(documented().sort(byName)).toEqual([...EXCHANGE].sort(byName))
  })
})
