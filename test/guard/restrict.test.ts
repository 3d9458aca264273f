// What a restricted key may open, on real files, links and a loop device; and directories of udev's links, as a host of
// root's would have them, made up. Whatever is refused is refused in the same words, there or not.

import { symlinkSync } from 'node:fs'
import { link, lstat, mkdir, rename, stat, symlink, writeFile } from 'node:fs/promises'
import type { BigIntStats } from 'node:fs'

import { beforeAll, describe, expect, it } from 'vitest'

import type { EndpointInfo } from '../../src/endpoint/endpoint.js'
import { nodeKey } from '../../src/endpoint/sysfs.js'
import { SyncError } from '../../src/errors.js'
import {
  checkRange,
  permit,
  type Restriction,
  type RestrictLookups,
  thisHost,
} from '../../src/guard/restrict.js'
import { useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

type Asked = Parameters<typeof permit>[1]

const READ = { role: 'source', access: 'read', create: 'never' } as const
const WRITE = { role: 'destination', access: 'write', create: 'never' } as const
const MAKE = { role: 'destination', access: 'write', create: 'if-missing' } as const

const scratch = useScratch()
const at = (...names: string[]): string => scratch().path(names.join('/'))

async function ask(restriction: Restriction, asked: Asked, host?: RestrictLookups): Promise<string> {
  try {
    await permit(restriction, asked, host)
    return 'allowed'
  } catch (error) {
    if (!(error instanceof SyncError) || error.code !== 'guard/restricted') throw error
    expect(error.operand).toBe(asked.path)
    return error.message.replace(asked.path, 'PATH')
  }
}

const REFUSED = 'PATH: the key that was used is not allowed to open it; nothing was opened'
const within = (path: string): Restriction => ({ paths: [path], only: null })

function infoOf(facts: BigIntStats): EndpointInfo {
  return {
    path: 'x',
    kind: 'file',
    sizeBytes: 0,
    logicalSectorBytes: 512,
    created: false,
    direct: false,
    identity: { machine: 'm', aliases: [nodeKey(facts)] },
  }
}

beforeAll(async () => {
  await mkdir(at('images/deep'), { recursive: true })
  await mkdir(at('outside'))
  await Promise.all(
    ['images/a.img', 'images/deep/b.img', 'outside/secret'].map((name) => writeFile(at(name), name)),
  )
  await symlink(at('outside/secret'), at('images/out'))
  await symlink(at('outside/missing'), at('images/dangling'))
  await symlink(at('outside'), at('images/way-out'))
  await symlink(at('images/a.img'), at('images/inside'))
  await symlink(at('images'), at('other-name'))
  await link(at('outside/secret'), at('images/hard'))
})

describe('an allowed directory', () => {
  it.each([
    ['images/a.img'],
    ['images/deep/b.img'],
    ['images/inside'],
    ['images//deep/./b.img'],
    // One file with two names: nobody can tell which of them is meant (SECURITY.md).
    ['images/hard'],
  ])('has %s', async (name) => {
    expect(await ask(within(at('images')), { path: `${scratch().directory}/${name}`, ...READ })).toBe(
      'allowed',
    )
    expect(await ask(within(at('images')), { path: `${scratch().directory}/${name}`, ...WRITE })).toBe(
      'allowed',
    )
  })

  it.each([
    ['images/../outside/secret'],
    ['images/deep/../a.img'], // .. is not taken at all: it would tell of directories
    ['outside/secret'],
    ['outside/missing'],
    ['outside'],
    ['images/out'],
    ['images/dangling'],
    ['images/way-out/secret'],
    ['images/way-out/missing'],
    ['images/no-such/x'],
    ['imagesX/a.img'],
    ['images/a.img/x'],
    [`images/${'x'.repeat(5000)}`],
    [`images/${'x/'.repeat(2100)}x`],
    ['images/a.img\0'],
    ['images/a\nb'],
    ['other-name/a.img'], // leads inside, but is not a name that was allowed
  ])('has not %s, whatever is asked, and says the same', async (name) => {
    for (const how of [READ, WRITE, MAKE])
      expect(await ask(within(at('images')), { path: `${scratch().directory}/${name}`, ...how })).toBe(
        REFUSED,
      )
  })

  it.each([
    ['/etc/passwd'],
    ['/'],
    [''],
    ['.'],
    ['/proc/self/fd/0'],
    ['/dev/fd/0'],
    ['/dev/stdin'],
    ['/proc/self/mem'],
  ])('has not %s', async (path) => {
    expect(await ask(within(at('images')), { path, ...READ })).toBe(REFUSED)
    expect(await ask(within(at('images')), { path, ...MAKE })).toBe(REFUSED)
  })

  it('may be written through a link', async () => {
    expect(await ask(within(at('other-name')), { path: at('images/a.img'), ...READ })).toBe('allowed')
    expect(await ask(within(at('other-name')), { path: at('other-name/a.img'), ...READ })).toBe('allowed')
  })

  it('counts relative paths from the directory of the login', async () => {
    const host = { ...thisHost, directory: at('images') }
    expect(await ask(within(at('images')), { path: 'deep/b.img', ...READ }, host)).toBe('allowed')
    expect(
      await ask(within(at('images')), { path: 'deep/b.img', ...READ }, { ...host, directory: at('outside') }),
    ).toBe(REFUSED)
  })

  it('may get new files, where nothing is', async () => {
    const restriction = within(at('images'))
    expect(await ask(restriction, { path: at('images/new.img'), ...MAKE })).toBe('allowed')
    expect(await ask(restriction, { path: at('outside/new.img'), ...MAKE })).toBe(REFUSED)
    expect(await ask(within(at('images/new.img')), { path: at('images/new.img'), ...MAKE })).toBe(REFUSED)
  })

  it('is an oracle for nothing: a link out of it reads the same whether its end exists', async () => {
    const restriction = within(at('images'))
    const [there, missing] = await Promise.all(
      ['images/out', 'images/dangling'].map((name) => ask(restriction, { path: at(name), ...READ })),
    )
    expect(there).toBe(missing)
  })
})

describe('an allowed file', () => {
  it('is that file and no other', async () => {
    const restriction = within(at('images/a.img'))
    expect(await ask(restriction, { path: at('images/a.img'), ...WRITE })).toBe('allowed')
    expect(await ask(restriction, { path: at('images/deep/b.img'), ...WRITE })).toBe(REFUSED)
    expect(await ask(restriction, { path: at('images/inside'), ...WRITE })).toBe(REFUSED)
  })

  it('that is missing is said to be missing by who opens it', async () => {
    expect(await ask(within(at('images/gone.img')), { path: at('images/gone.img'), ...READ })).toBe('allowed')
  })
})

describe('a permit', () => {
  it('is for what was looked at, not for its name', async () => {
    await writeFile(at('images/moves.img'), 'x')
    const permitted = await permit(within(at('images')), { path: at('images/moves.img'), ...WRITE })
    const before = await stat(at('images/moves.img'), { bigint: true })
    permitted.checkFound(before)
    await permitted.checkOpened(infoOf(before))
    await rename(at('images/moves.img'), at('images/moved.img'))
    symlinkSync(at('outside/secret'), at('images/moves.img'))
    const now = await stat(at('images/moves.img'), { bigint: true })
    expect(() => permitted.checkFound(now)).toThrow('not allowed')
    await expect(permitted.checkOpened(infoOf(now))).rejects.toThrow('not allowed')
  })

  it('for a new file is for a file in that directory', async () => {
    const permitted = await permit(within(at('images')), { path: at('images/fresh.img'), ...MAKE })
    await writeFile(at('images/fresh.img'), '')
    const fresh = await lstat(at('images/fresh.img'), { bigint: true })
    await permitted.checkOpened(infoOf(fresh))
    // it is there by now, and this is not the permit to write what is there
    expect(() => permitted.checkFound(fresh)).toThrow('not allowed')
    const outside = await stat(at('outside/secret'), { bigint: true })
    await expect(permitted.checkOpened(infoOf(outside))).rejects.toThrow('not allowed')
  })

  it('is not given for the wrong direction', async () => {
    const paths = [at('images')]
    const path = at('images/a.img')
    expect(await ask({ paths, only: 'read' }, { path, ...WRITE })).toContain('only read')
    expect(await ask({ paths, only: 'read' }, { path, ...READ })).toBe('allowed')
    expect(await ask({ paths, only: 'read' }, { path, ...READ, role: 'destination' })).toBe('allowed')
    expect(await ask({ paths, only: 'write' }, { path, ...READ })).toContain('only write')
    expect(await ask({ paths, only: 'write' }, { path, ...WRITE })).toBe('allowed')
    // the direction is looked at first: nothing is told of the path
    expect(await ask({ paths, only: 'write' }, { path: '/etc/passwd', ...READ })).toContain('only write')
  })
})

describe('the range of a key that may only write', () => {
  const only = (value: Restriction['only']): Restriction => ({ paths: ['/x'], only: value })
  it.each([
    ['write', 1, 4096, false],
    ['write', 513, 4096, false],
    ['write', 512, 4096, true],
    ['write', 1000, 1000, true],
    ['read', 1, 4096, true],
    [null, 1, 4096, true],
  ] as const)('%s: up to byte %d of %d: %s', (key, endBytes, sizeBytes, isAllowed) => {
    const check = (): void => checkRange(only(key), '/x', endBytes, sizeBytes)
    if (isAllowed) expect(check).not.toThrow()
    else expect(check).toThrow('inside a sector')
  })
})

describe('a loop device', needs('loop'), () => {
  it('that is allowed is that device under every name in /dev, and no other is', async () => {
    const [one, two] = await Promise.all(
      ['one', 'two'].map(async (name) => scratch().loopDevice(await scratch().sparseFile(name, 1 << 20, []))),
    )
    if (one === undefined || two === undefined) throw new Error('no loop devices')
    const { rdev } = await stat(one, { bigint: true })
    const restriction = within(one)
    expect(await ask(restriction, { path: one, ...WRITE })).toBe('allowed')
    expect(await ask(restriction, { path: two, ...WRITE })).toBe(REFUSED)
    expect(await ask(restriction, { path: `/dev/block/7:${rdev & 0xffn}x`, ...WRITE })).toBe(REFUSED)
    await symlink(two, at('images/device'))
    // a link to a device does not make it one of a directory of images
    expect(await ask(within(at('images')), { path: at('images/device'), ...WRITE })).toBe(REFUSED)
    expect(await ask(within('/dev'), { path: two, ...WRITE })).toBe('allowed')
  })
})

describe('a directory of links to devices', () => {
  type Made = Record<
    string,
    { kind: 'block' | 'directory' | 'file'; path?: string; uid?: number; mode?: number; key?: number }
  >
  const host = (made: Made): RestrictLookups => ({
    directory: '/root',
    look: async (path) => {
      const node = made[path]
      if (node === undefined) return null
      const facts = {
        isBlockDevice: () => node.kind === 'block',
        isDirectory: () => node.kind === 'directory',
        isFile: () => node.kind === 'file',
        dev: 5n,
        ino: BigInt(path.length),
        rdev: BigInt(0xfd00 + (node.key ?? 0)),
        uid: BigInt(node.uid ?? 0),
        mode: BigInt(node.mode ?? 0o755),
      }
      return await Promise.resolve({ path: node.path ?? path, facts: facts as unknown as BigIntStats })
    },
    lookAtName: async () => await Promise.resolve(null),
  })
  const ROOTS: Made = {
    '/': { kind: 'directory' },
    '/dev': { kind: 'directory' },
    '/dev/vg0': { kind: 'directory' },
    '/dev/vg0/web': { kind: 'block', path: '/dev/dm-1', key: 1 },
    '/dev/dm-1': { kind: 'block', key: 1 },
    '/dev/dm-2': { kind: 'block', key: 2 },
    '/srv': { kind: 'directory' },
    '/srv/images': { kind: 'directory' },
    '/srv/images/dev': { kind: 'block', path: '/srv/images/dev', key: 2 },
    '/srv/images/link': { kind: 'block', path: '/dev/dm-2', key: 2 },
  }
  const open = (made: Made, allowed: string, path: string): Promise<string> =>
    ask(within(allowed), { path, ...WRITE }, host(made))

  it('leads to where root says', async () => {
    expect(await open(ROOTS, '/dev/vg0', '/dev/vg0/web')).toBe('allowed')
    expect(await open(ROOTS, '/dev', '/dev/vg0/web')).toBe('allowed')
    expect(await open(ROOTS, '/', '/dev/dm-2')).toBe('allowed')
  })
  it('has the names in it and no others', async () => {
    expect(await open(ROOTS, '/dev/vg0', '/dev/dm-1')).toBe(REFUSED)
    expect(await open(ROOTS, '/dev/vg0', '/dev/dm-2')).toBe(REFUSED)
    expect(await open(ROOTS, '/dev/vg0/web', '/dev/dm-1')).toBe('allowed')
    expect(await open(ROOTS, '/dev/vg0/web', '/dev/dm-2')).toBe(REFUSED)
  })
  it('is not trusted where somebody else may make names in it, or above it', async () => {
    const others = { kind: 'directory', mode: 0o775 } as const
    const owned = { kind: 'directory', uid: 1000 } as const
    expect(await open({ ...ROOTS, '/dev/vg0': others }, '/dev/vg0', '/dev/vg0/web')).toBe(REFUSED)
    expect(await open({ ...ROOTS, '/dev': owned }, '/dev/vg0', '/dev/vg0/web')).toBe(REFUSED)
  })
  it('is not one outside of /dev: nodes that somebody made elsewhere, and links from there', async () => {
    expect(await open(ROOTS, '/srv/images', '/srv/images/dev')).toBe(REFUSED)
    expect(await open(ROOTS, '/srv/images', '/srv/images/link')).toBe(REFUSED)
    expect(await open(ROOTS, '/', '/srv/images/dev')).toBe(REFUSED)
  })
})
