// The copier on top of the engine: what it asks of it, and what it makes of its reports; digests of real files; devices held.

import { open } from 'node:fs/promises'
import { constants } from 'node:fs'

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { engineCopier, type CopyProgress, type RunSync } from '../../src/migrate/copier.js'
import { holdDevices } from '../../src/migrate/hold.js'
import { SYNC_DEFAULTS, type SyncOptions } from '../../src/options.js'
import type { DiskPair } from '../../src/sync/report.js'
import { diskReport, progress } from '../cli/fixtures.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const FAR = { kind: 'remote', host: 'host2', user: 'root', port: null, typed: 'root@host2' } as const
const signal = new AbortController().signal

const scratch = useScratch()

type Asked = { pairs: readonly DiskPair[]; options: SyncOptions }

function copierOver(
  run: RunSync,
  options: Partial<SyncOptions> = {},
): { copier: ReturnType<typeof engineCopier>; asked: Asked[] } {
  const asked: Asked[] = []
  let nowMs = 0
  const copier = engineCopier({
    far: FAR,
    options: { ...SYNC_DEFAULTS, ...options },
    hooks: {},
    run: async (pairs, given, hooks) => {
      asked.push({ pairs, options: given })
      nowMs += 2000
      return await run(pairs, given, hooks)
    },
    nowMs: () => nowMs,
  })
  return { copier, asked }
}

describe('connections for when the guest has stopped', () => {
  it('are taken one by a run, and those that nobody took are ended', async () => {
    const ended: number[] = []
    let made = 0
    const took: unknown[] = []
    const copier = engineCopier({
      far: FAR,
      options: SYNC_DEFAULTS,
      hooks: {},
      start: () => {
        made += 1
        const number = made
        const dispose = (): Promise<void> => {
          ended.push(number)
          return Promise.resolve()
        }
        return Promise.resolve({ number, [Symbol.asyncDispose]: dispose } as never)
      },
      run: async (_pairs, _options, { takeConnection }) => {
        took.push(await takeConnection?.(), takeConnection?.())
        return { disks: [diskReport()], error: null }
      },
      nowMs: () => 0,
    })
    copier.prepare()
    copier.prepare()
    expect(made).toBe(2)
    await copier.copyFile('/a', '/b', { signal, onProgress: () => undefined })
    expect(took).toEqual([expect.objectContaining({ number: 1 }), null])
    await copier.close()
    expect(ended).toEqual([2])
    await copier.copyFile('/a', '/b', { signal, onProgress: () => undefined })
    expect(took.slice(2)).toEqual([undefined, undefined])
  })
})

describe('a pass', () => {
  const digest = {
    algorithm: 'xxh3-128',
    root: 'ab',
    seed: '00',
    blockBytes: 1 << 20,
    leafBytes: 4096,
  } as const
  const disks = [
    { target: 'vda', sourcePath: '/a', destinationPath: '/x' },
    { target: 'vdb', sourcePath: '/b', destinationPath: '/y' },
  ]

  it('goes over all disks in one run of the engine, by the options of the user', async () => {
    const seen: CopyProgress[] = []
    const { copier, asked } = copierOver(
      async (_pairs, _options, { onProgress }) => {
        await Promise.resolve()
        onProgress?.(progress({ diskIndex: 0, doneBytes: 10, totalBytes: 20, sentBytes: 5 }))
        onProgress?.(progress({ diskIndex: 1, doneBytes: 1, totalBytes: 20, sentBytes: 1 }))
        const report = diskReport({
          sizeBytes: 20,
          sentBytes: 8 << 20,
          wireBytesSent: 100,
          wireBytesReceived: 10,
          digest,
        })
        return { disks: [report, report], error: null }
      },
      { force: ['direction'], verify: 'written' },
    )
    const result = await copier.pass(disks, { signal, onProgress: (each) => seen.push(each) })
    expect(asked).toHaveLength(1)
    expect(asked[0]?.pairs.map(({ source, destination }) => [source.path, destination.typed])).toEqual([
      ['/a', 'root@host2:/x'],
      ['/b', 'root@host2:/y'],
    ])
    expect(asked[0]?.options).toMatchObject({
      mode: 'write',
      size: 'grow',
      create: 'never',
      force: ['direction'],
    })
    expect(result).toMatchObject({
      sentBytes: 16 << 20,
      wireBytes: 220,
      durationMs: 2000,
      bytesPerSecond: 8 << 20,
      sizes: { vda: 20, vdb: 20 },
    })
    expect(result.roots['vdb']).toEqual({ ...digest, lengthBytes: 20 })
    expect(seen.at(-1)).toEqual({ doneBytes: 11, totalBytes: 40, sentBytes: 6 })
  })

  it('knows no rate where next to nothing was sent, and rejects with the error of the engine', async () => {
    const { copier } = copierOver(async () =>
      Promise.resolve({ disks: [diskReport({ sentBytes: 100 })], error: null }),
    )
    expect(
      (await copier.pass(disks.slice(0, 1), { signal, onProgress: () => undefined })).bytesPerSecond,
    ).toBeNull()
    const failing = copierOver(async () =>
      Promise.resolve({ disks: [], error: new SyncError('session/lost', 'gone') }),
    )
    await expect(failing.copier.pass(disks, { signal, onProgress: () => undefined })).rejects.toMatchObject({
      code: 'session/lost',
    })
  })
})

describe('a file', () => {
  it.each([
    ['none', 'auto'],
    ['zstd', 'zstd'],
  ] as const)('is made, and compressed where nobody said how: %s', async (compress, becomes) => {
    const { copier, asked } = copierOver(
      async () => Promise.resolve({ disks: [diskReport()], error: null }),
      { compress },
    )
    await copier.copyFile('/state/a', '/state/b', { signal, onProgress: () => undefined })
    expect(asked[0]?.options).toMatchObject({ create: 'if-missing', compress: becomes, size: 'grow' })
  })
})

describe('a digest', () => {
  it('is that of the disk as it is now', async () => {
    const path = await scratch().randomFile('disk.img', 3 << 20)
    const { copier } = copierOver(() => Promise.reject(new Error('not asked')))
    const facts = {
      algorithm: 'xxh64x2',
      seed: '00'.repeat(16),
      blockBytes: 1 << 20,
      leafBytes: 4096,
      lengthBytes: 3 << 20,
      root: '',
    } as const
    const root = await copier.digest(path, facts, signal)
    expect(await copier.digest(path, facts, signal)).toBe(root)
    const handle = await open(path, 'r+')
    await handle.write(Buffer.from('x'), 0, 1, 1 << 20)
    await handle.close()
    expect(await copier.digest(path, facts, signal)).not.toBe(root)
  })
})

describe('holding devices', () => {
  it('keeps others from claiming one, as long as it lasts', needs('root', 'loop'), async () => {
    const device = await scratch().loopDevice(await scratch().randomFile('held.img', 1 << 20))
    const claim = async (): Promise<void> => {
      const handle = await open(device, constants.O_RDONLY | constants.O_EXCL)
      await handle.close()
    }
    await claim()
    {
      await using held = await holdDevices([device, '/etc/passwd', '/no/such/disk'])
      expect(held).toBeDefined()
      await expect(claim()).rejects.toMatchObject({ code: 'EBUSY' })
      // the engine reads it all the same
      const handle = await open(device, constants.O_RDONLY)
      await handle.close()
      // who comes second holds nothing, and that is no failure
      await using second = await holdDevices([device])
      expect(second).toBeDefined()
    }
    await claim()
  })
})
