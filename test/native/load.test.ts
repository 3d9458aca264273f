// Loading of the core: what each mode gives where the core is there, absent, broken or of another version.

import { isAbsolute } from 'node:path'

import { describe, expect, it } from 'vitest'

import { attemptNative, loadNative, nativePath, nativeStatus, requireCore } from '../../src/native.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

describe('loadNative', () => {
  it('gives nothing when off', () => {
    expect(loadNative('off')).toBeNull()
  })

  it('gives the same core each time', needs('native'), () => {
    const core = loadNative('require')
    expect(core).not.toBeNull()
    expect(loadNative('auto')).toBe(core)
    expect(nativeStatus()).toEqual({ loaded: true, path: nativePath(), reason: null, simd: core?.simd })
    expect(core?.simd).toMatch(/^(avx512|avx2|sse2|neon|scalar)$/)
  })

  it('looks below the package root, one up from this code', () => {
    expect(isAbsolute(nativePath())).toBe(true)
    expect(nativePath()).toMatch(/\/native\/prebuilds\/linux-[a-z0-9]+(-musl)?\/blocksync\.node$/)
    expect(nativePath()).not.toContain('/src/')
  })
})

describe('a core that cannot be used', () => {
  const scratch = useScratch()

  it('is absent: auto does without it, require throws with a hint', () => {
    const path = scratch().path('absent.node')
    const tried = attemptNative(path)
    expect(tried).toEqual({ core: null, path, reason: `there is no ${path}`, cause: null })
    expect(() => requireCore(tried)).toThrow(
      expect.objectContaining({
        name: 'SyncError',
        code: 'native/required',
        hint: expect.stringContaining('npm run build') as string,
      }),
    )
  })

  it('is not a shared object: the loader message is kept as the cause', async () => {
    const path = await scratch().file('broken.node', Buffer.from('this is no shared object'))
    const tried = attemptNative(path)
    expect(tried.core).toBeNull()
    let thrown: unknown = null
    try {
      requireCore(tried)
    } catch (error) {
      thrown = error
    }
    expect(thrown).toMatchObject({
      code: 'native/required',
      message: expect.stringContaining(path) as string,
    })
    expect((thrown as Error).cause).toBeInstanceOf(Error)
  })

  it('has another version', async () => {
    // Any module with a `version` will do: what it is called is what require() goes by.
    const path = await scratch().file('other.cjs', Buffer.from('module.exports = { version: 999 }'))
    expect(attemptNative(path)).toMatchObject({
      core: null,
      reason: expect.stringMatching(/is version 999, .* needs version \d+$/) as string,
    })
    const empty = await scratch().file('empty.cjs', Buffer.from(''))
    expect(attemptNative(empty)).toMatchObject({
      core: null,
      reason: expect.stringContaining('version none') as string,
    })
  })
})
