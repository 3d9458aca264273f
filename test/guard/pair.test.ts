// What is refused of a run before anything is written: one disk twice, whatever it is called, and sizes that do not fit.
// Identities come from disks that were really opened.

import { link, symlink } from 'node:fs/promises'

import { describe, expect, it } from 'vitest'

import type { DiskIdentity, EndpointInfo } from '../../src/endpoint/endpoint.js'
import { isSameDisk } from '../../src/endpoint/endpoint.js'
import { openEndpoint } from '../../src/endpoint/open.js'
import { SyncError } from '../../src/errors.js'
import { checkApart, checkPair, type OpenedPair } from '../../src/guard/pair.js'
import { randomBytes, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const scratch = useScratch()
let made = 0

async function image(): Promise<string> {
  return scratch().file(`disk-${made++}.img`, randomBytes(4096))
}

/** Another name of a file. */
async function alsoKnownAs(path: string, how: 'symbolic link' | 'hard link'): Promise<string> {
  const name = `${path}.${made++}`
  await (how === 'hard link' ? link(path, name) : symlink(path, name))
  return name
}

async function infoOf(path: string): Promise<EndpointInfo> {
  const request = {
    path,
    role: 'source',
    access: 'read',
    create: 'never',
    createSizeBytes: 0,
    claim: 'exclusive',
  } as const
  await using disk = await openEndpoint(request, null)
  return disk.info
}

async function opened(source: string, destination: string): Promise<OpenedPair> {
  return {
    source: await infoOf(source),
    destination: await infoOf(destination),
    pair: { source: { typed: source }, destination: { typed: destination } },
  }
}

function refusal(act: () => unknown): SyncError {
  try {
    act()
  } catch (thrown) {
    if (thrown instanceof SyncError) return thrown
    throw thrown
  }
  throw new Error('it was not refused')
}

describe('checkApart', () => {
  it('lets pass pairs of disks that are all different, and one source for two destinations', async () => {
    const shared = await image()
    const pairs = [
      await opened(shared, await image()),
      await opened(await alsoKnownAs(shared, 'hard link'), await image()),
      await opened(await image(), await image()),
    ]
    expect(() => checkApart(pairs)).not.toThrow()
    expect(() => checkApart([])).not.toThrow()
  })

  describe.each(['symbolic link', 'hard link'] as const)('through a %s', (how) => {
    it('refuses two destinations that are one file, wherever the two stand', async () => {
      const one = await image()
      const two = await alsoKnownAs(one, how)
      const first = await opened(await image(), one)
      const between = await opened(await image(), await image())
      const last = await opened(await image(), two)
      const error = refusal(() => checkApart([first, between, last]))
      expect(error).toMatchObject({ code: 'guard/same-disk', exitStatus: 3, operand: one })
      expect(error.message).toContain(`${one} is the same disk as ${two}`)
      expect(error.message).toContain('nothing was written')
      expect(error.hint).not.toBeNull()
    })

    it('refuses a destination that is the source of another pair, before it and behind it', async () => {
      const one = await image()
      const two = await alsoKnownAs(one, how)
      const reads = await opened(one, await image())
      const writes = await opened(await image(), two)
      for (const pairs of [
        [reads, writes],
        [writes, reads],
      ]) {
        const error = refusal(() => checkApart(pairs))
        expect(error).toMatchObject({ code: 'guard/same-disk', operand: two })
        expect(error.message).toContain(`${two} is the same disk as ${one}`)
      }
    })
  })

  it('refuses a loop device and its file', needs('loop'), async () => {
    const path = await image()
    const device = await scratch().loopDevice(path)
    const first = await opened(await image(), device)
    const last = await opened(await image(), path)
    expect(refusal(() => checkApart([first, last]))).toMatchObject({
      code: 'guard/same-disk',
      operand: device,
    })
  })
})

describe('checkPair', () => {
  const check = async (
    source: string,
    destination: string,
    sizes: Partial<{ source: number; destination: number }> = {},
  ) => {
    const [from, to] = [await infoOf(source), await infoOf(destination)]
    return {
      source: { ...from, sizeBytes: sizes.source ?? from.sizeBytes },
      destination: { ...to, sizeBytes: sizes.destination ?? to.sizeBytes },
      sourceName: source,
      destinationName: destination,
      policy: 'strict',
      access: 'write',
    } as const
  }

  it('refuses one disk under two names, whatever is said about the size', async () => {
    const one = await image()
    const two = await alsoKnownAs(one, 'hard link')
    const request = await check(one, two)
    for (const policy of ['strict', 'grow', 'min'] as const) {
      const error = refusal(() => checkPair({ ...request, policy }))
      expect(error).toMatchObject({ code: 'guard/same-disk', operand: two })
    }
  })

  it('agrees on sizes', async () => {
    const [one, two] = [await image(), await image()]
    const shorter = await check(one, two, { source: 8192 })
    const longer = await check(one, two, { destination: 8192 })
    const device = { ...shorter, destination: { ...shorter.destination, kind: 'block-device' as const } }
    expect(checkPair(await check(one, two))).toEqual({ lengthBytes: 4096, destinationBytes: 4096 })
    for (const request of [shorter, longer, { ...device, policy: 'grow' as const }]) {
      expect(refusal(() => checkPair(request))).toMatchObject({ code: 'guard/size', operand: two })
    }
    expect(checkPair({ ...shorter, policy: 'grow' })).toEqual({ lengthBytes: 8192, destinationBytes: 8192 })
    expect(checkPair({ ...shorter, policy: 'grow', access: 'read' })).toEqual({
      lengthBytes: 4096,
      destinationBytes: 8192,
    })
    expect(checkPair({ ...longer, policy: 'grow' })).toEqual({ lengthBytes: 4096, destinationBytes: 8192 })
    expect(checkPair({ ...shorter, policy: 'min' })).toEqual({ lengthBytes: 4096, destinationBytes: 4096 })
    expect(checkPair({ ...device, policy: 'min' })).toEqual({ lengthBytes: 4096, destinationBytes: 4096 })
  })
})

describe('isSameDisk', () => {
  const disk = (name: string, ...within: readonly string[]): DiskIdentity => ({
    machine: 'here',
    aliases: [name],
    within,
  })
  const rows: readonly [string, DiskIdentity, DiskIdentity, boolean][] = [
    ['a disk and itself', disk('a'), disk('a'), true],
    ['two disks', disk('a'), disk('b'), false],
    ['a partition and its disk', disk('a1', 'a'), disk('a'), true],
    ['two partitions of a disk', disk('a1', 'a'), disk('a2', 'a'), false],
    ['a partition and another disk', disk('a1', 'a'), disk('b'), false],
    ['a volume and the disk below its partition', disk('lv', 'a1', 'a'), disk('a'), true],
    ['a volume and the partition it lies on', disk('lv', 'a1', 'a'), disk('a1', 'a'), true],
    ['a volume and the partition beside it', disk('lv', 'a1', 'a'), disk('a2', 'a'), false],
    ['equal names on two machines', disk('a'), { machine: 'there', aliases: ['a'] }, false],
    [
      'a partition and its disk, on two machines',
      disk('a1', 'a'),
      { machine: 'there', aliases: ['a'] },
      false,
    ],
  ]
  it.each(rows)('%s', (_name, a, b, same) => {
    expect([isSameDisk(a, b), isSameDisk(b, a)]).toEqual([same, same])
  })
})
