// Where the state is, and whom it must belong to.

import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, beforeEach, describe, expect, it } from 'vitest'

import { openStateDirectory, statePath, stateUnusable } from '../../src/state/directory.js'
import { machineIdOf, ownMachineId } from '../../src/state/machine.js'
import { isRunning, ownProcess } from '../../src/state/process.js'

let base = ''
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'blocksync-directory-'))
})
afterEach(() => rmSync(base, { recursive: true, force: true }))

const isRoot = process.getuid?.() === 0

describe('statePath', () => {
  it.each([
    ['as given', '/srv/state', { BLOCKSYNC_STATE_DIR: '/other' }, 0, '/srv/state'],
    ['by the environment', null, { BLOCKSYNC_STATE_DIR: '/other' }, 0, '/other'],
    ['of root', null, { HOME: '/root', XDG_STATE_HOME: '/root/s' }, 0, '/var/lib/blocksync'],
    ['of a user', null, { HOME: '/home/anna' }, 1000, '/home/anna/.local/state/blocksync'],
    ['of a user with XDG', null, { HOME: '/home/anna', XDG_STATE_HOME: '/s' }, 1000, '/s/blocksync'],
    [
      'of a user with a relative XDG',
      null,
      { HOME: '/h', XDG_STATE_HOME: 's' },
      1000,
      '/h/.local/state/blocksync',
    ],
    ['with an empty variable', null, { BLOCKSYNC_STATE_DIR: '' }, 0, '/var/lib/blocksync'],
  ])('%s', (_, given, environment, uid, expected) => {
    expect(statePath(given, environment, uid)).toBe(expected)
  })
})

describe('openStateDirectory', () => {
  it('makes it for its owner alone', async () => {
    const path = join(base, 'a', 'b')
    expect(await openStateDirectory(path, 'write')).toEqual({ path, why: null })
    expect(statSync(path).mode & 0o777).toBe(0o700)
    expect(await openStateDirectory(path, 'read')).toEqual({ path, why: null })
  })

  it('makes nothing to read it', async () => {
    const path = join(base, 'a')
    expect(await openStateDirectory(path, 'read')).toMatchObject({ path: null, isMissing: true })
    expect(() => lstatSync(path)).toThrow(/ENOENT/)
  })

  it('refuses a link, a file, and one that others may write', async () => {
    const real = join(base, 'real')
    mkdirSync(real)
    symlinkSync(real, join(base, 'link'))
    writeFileSync(join(base, 'file'), '')
    mkdirSync(join(base, 'open'))
    chmodSync(join(base, 'open'), 0o777)
    mkdirSync(join(base, 'group'))
    chmodSync(join(base, 'group'), 0o770)
    const whys: [string, RegExp][] = [
      ['link', /symbolic link/],
      ['file', /is not a directory/],
      ['open', /may be written by others \(mode 0777\)/],
      ['group', /may be written by others/],
      ['open/inside', /is inside .*open, which anybody may write to/],
    ]
    for (const [name, why] of whys)
      expect((await openStateDirectory(join(base, name), 'write')).why).toMatch(why)
  })

  it.runIf(isRoot)('refuses one of somebody else, and one inside', async () => {
    const path = join(base, 'theirs')
    mkdirSync(join(path, 'inside'), { recursive: true })
    chownSync(path, 65534, 65534)
    expect((await openStateDirectory(path, 'write')).why).toMatch(/belongs to somebody else \(uid 65534\)/)
    expect((await openStateDirectory(join(path, 'inside'), 'write')).why).toMatch(/is inside .*somebody else/)
  })

  it('says what cannot be made', async () => {
    expect(await openStateDirectory('/proc/blocksync', 'write')).toMatchObject({
      path: null,
      isMissing: true,
    })
    expect(stateUnusable('the reason', '--undo', 'nothing was written')).toMatchObject({
      code: 'state/unusable',
      exitStatus: 3,
      message: 'the reason; nothing was written',
    })
  })
})

describe('the machine id', () => {
  const id = '0123456789abcdef0123456789abcdef'

  it('does not tell /etc/machine-id', async () => {
    writeFileSync(join(base, 'id'), `${id}\n`)
    const made = await ownMachineId(() => Promise.reject(new Error('not asked')), join(base, 'id'))
    expect(made).toBe(machineIdOf(id))
    expect(made).toMatch(/^[0-9a-f]{32}$/)
    expect(made).not.toBe(id)
  })

  it('is another one on a host of another name, which has been made from the same image', () => {
    expect(machineIdOf(id, 'kvm1')).not.toBe(machineIdOf(id, 'kvm2'))
  })

  it('is made and kept where there is none', async () => {
    writeFileSync(join(base, 'id'), 'uninitialized\n')
    const ask = (): Promise<string | null> => ownMachineId(() => Promise.resolve(base), join(base, 'id'))
    const made = await ask()
    expect(await ask()).toBe(made)
    rmSync(join(base, 'machine-id'))
    expect(await ask()).not.toBe(made)
  })

  it('holds until the next boot where it cannot be kept', async () => {
    const ask = (): Promise<string | null> => ownMachineId(() => Promise.resolve(null), join(base, 'none'))
    expect(await ask()).toBe(await ask())
  })
})

describe('a process', () => {
  it('is told from one that has the same pid later', async () => {
    const own = await ownProcess()
    expect(await isRunning(own)).toBe(true)
    expect(await isRunning(own.replace(/\d+$/, '1'))).toBe(false)
    expect(await isRunning(own.replace(/^\S+/, '00000000-0000-0000-0000-000000000000'))).toBe(false)
    expect(await isRunning('nonsense')).toBe(false)
    expect(await isRunning(`${own}/../..`)).toBe(false)
  })
})
