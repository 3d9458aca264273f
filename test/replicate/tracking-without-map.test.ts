// A file system that gives no extent map now, though it did before: no attempt fails for that.

import { stat, writeFile } from 'node:fs/promises'

import { expect, it, vi } from 'vitest'

import type { Job } from '../../src/config/config.js'
import { syncOptions } from '../../src/options.js'
import { trackingOf } from '../../src/replicate/tracking.js'
import { LeafFile } from '../../src/track/leaf-file.js'
import { useScratch } from '../support/disks.js'

vi.mock('../../src/track/changed-ranges.js', () => ({
  trackable: async () => Promise.resolve(true),
  changedRanges: async () => Promise.reject(Object.assign(new Error('no map'), { code: 'EIO' })),
}))

const scratch = useScratch()
const SEED = Buffer.alloc(16, 7)
const LENGTH_BYTES = 8192

it('reads all of the source, and says why', async () => {
  const [original, before, now] = ['original', 'before', 'now'].map((name) => scratch().path(name))
  if (original === undefined || before === undefined || now === undefined) throw new Error('no paths')
  for (const path of [original, before, now]) await writeFile(path, Buffer.alloc(LENGTH_BYTES))
  const identityOf = async (path: string): Promise<string> => {
    const { dev, ino } = await stat(path, { bigint: true })
    return `${dev}.${ino}`
  }
  const leaves = scratch().path('leaves')
  const file = await LeafFile.create(leaves)
  await file.seal({
    algorithm: 'xxh3-128',
    seed: SEED.toString('hex'),
    leafBytes: 4096,
    digestBytes: 16,
    lengthBytes: LENGTH_BYTES,
    source: await identityOf(original),
    copy: await identityOf(before),
    unknown: [],
    sampleAtBytes: 0,
  })
  await file.close()
  const job = { name: 'files', options: syncOptions({}) } as unknown as Job
  const notes: string[] = []
  const begin = trackingOf(job, scratch().path('state'), { disks: [{ clone: before, leaves }] })
  const disks = [{ original, path: now }]
  const cut = { kind: 'one-instant', takenAtMs: 0, spreadMs: 0, quiesced: 'no', disks, warnings: [] } as const
  await using tracking = await begin(cut, null, (text) => notes.push(text))
  const [track] = tracking?.tracks ?? []
  const geometry = { blockBytes: 8192, leafBytes: 4096 }
  expect(track?.isOf({ algorithm: 'xxh3-128', seed: SEED, geometry }, 16, LENGTH_BYTES)).toBe(true)
  expect(await track?.plan()).toBeNull()
  expect(notes).toEqual(['what changed in the source is not known (EIO): all of it is read'])
})
