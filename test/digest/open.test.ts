// The choice of a digester: what is available, and what is refused with which code.

import { describe, expect, it } from 'vitest'

import { availableAlgorithms, createDigester } from '../../src/digest/open.js'
import { loadNative } from '../../src/native.js'
import { needs } from '../support/needs.js'
import { parametersOf } from './reference.js'

const GEOMETRY = { blockBytes: 65536, leafBytes: 4096 }

describe('availableAlgorithms', () => {
  it('has no xxh3-128 without the core', () => {
    expect(availableAlgorithms(null)).toEqual(['xxh64x2', 'sha256'])
  })

  it('prefers xxh3-128 with the core', needs('native'), () => {
    expect(availableAlgorithms(loadNative('require'))).toEqual(['xxh3-128', 'xxh64x2', 'sha256'])
  })
})

describe('createDigester', () => {
  it('refuses xxh3-128 without the core', async () => {
    await expect(createDigester(parametersOf('xxh3-128', GEOMETRY), null)).rejects.toMatchObject({
      name: 'SyncError',
      code: 'native/required',
      operand: '--digest',
    })
  })

  it('refuses a seed of the wrong length and a block of broken leaves', async () => {
    const short = parametersOf('xxh64x2', GEOMETRY, new Uint8Array(8))
    await expect(createDigester(short, null)).rejects.toBeInstanceOf(RangeError)
    const broken = parametersOf('xxh64x2', { blockBytes: 65536, leafBytes: 5000 })
    await expect(createDigester(broken, null)).rejects.toBeInstanceOf(RangeError)
  })
})
