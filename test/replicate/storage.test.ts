// The read-only mark and copies on real file systems and a real device, over this host.

import { execFileSync } from 'node:child_process'
import {
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  closeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { afterEach, describe, expect, it } from 'vitest'

import type { Host } from '../../src/host/host.js'
import { openHost } from '../../src/host/open.js'
import { syncOptions } from '../../src/options.js'
import { isReadOnly, setReadOnly, setWritable } from '../../src/replicate/access.js'
import { makeCopy, removeCopy, sweepCopies } from '../../src/replicate/copies.js'

const IS_ROOT = process.getuid?.() === 0
/** The smallest that mkfs.xfs takes. */
const IMAGE_BYTES = 320 << 20

const undo: (() => void)[] = []

afterEach(() => {
  for (const act of undo.splice(0).toReversed()) act()
})

function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'blocksync-storage-'))
  undo.push(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

async function thisHost(stateDir: string): Promise<Host> {
  const { transport, timeoutMs } = syncOptions({})
  return await openHost({ kind: 'local' }, { stateDir, native: 'auto', transport, timeoutMs })
}

function image(directory: string, bytes: number): string {
  const path = join(directory, 'image')
  writeFileSync(path, '')
  truncateSync(path, bytes)
  return path
}

describe.runIf(IS_ROOT)('as root', () => {
  it('marks a device, and takes the mark away', async () => {
    const directory = scratch()
    const loop = execFileSync('losetup', ['--find', '--show', image(directory, 1 << 20)], {
      encoding: 'utf8',
    }).trim()
    undo.push(() => {
      // the mark would stay for whoever has this device next
      execFileSync('blockdev', ['--setrw', loop])
      execFileSync('losetup', ['--detach', loop])
    })
    await using host = await thisHost(directory)
    for (let twice = 0; twice < 2; twice += 1) await setReadOnly(host, loop)
    expect(await isReadOnly(host, loop)).toBe(true)
    expect(() => writeFileSync(loop, 'x')).toThrow(/EACCES|EPERM|EROFS/)
    for (let twice = 0; twice < 2; twice += 1) await setWritable(host, loop)
    expect(await isReadOnly(host, loop)).toBe(false)
    writeFileSync(loop, 'x')
  })

  it.each(['xfs', 'btrfs', 'ext4'])(
    'copies a file on %s where that costs nothing, and marks it',
    async (kind) => {
      const directory = scratch()
      const path = image(directory, IMAGE_BYTES)
      const mount = join(directory, 'mount')
      execFileSync(`mkfs.${kind}`, ['-q', path])
      execFileSync('mkdir', [mount])
      execFileSync('mount', ['-o', 'loop', path, mount])
      undo.push(() => execFileSync('umount', [mount]))
      const disk = join(mount, 'disk.img')
      const content = Buffer.alloc(4 << 20, 'x')
      writeFileSync(disk, content, { mode: 0o600 })
      undo.push(() => execFileSync('chattr', ['-i', disk]))
      await using host = await thisHost(directory)
      await setReadOnly(host, disk)
      expect(await isReadOnly(host, disk)).toBe(true)
      expect(() => closeSync(openSync(disk, 'r+'))).toThrow(/EPERM/)
      // left by a killed attempt
      writeFileSync(join(mount, '.disk.img.generation-7.new'), 'half')
      const copy = await makeCopy(host, disk, 7)
      if (kind === 'ext4') {
        expect(copy).toBeNull()
        return
      }
      const at = join(mount, '.disk.img.generation-7')
      expect(copy).toEqual({ kind: 'reflink', path: at })
      await setWritable(host, disk)
      writeFileSync(disk, 'new')
      expect(readFileSync(at).equals(content)).toBe(true)
      expect(statSync(at).mode & 0o777).toBe(0o400)
      // the same again, as after a kill behind it
      expect(await makeCopy(host, disk, 7)).toEqual(copy)
      const other = await makeCopy(host, disk, 8)
      if (copy === null || other === null) throw new Error('no copy')
      writeFileSync(join(mount, '.disk.img.generation-9.new'), 'half')
      writeFileSync(join(mount, '.disk.img.generation-x'), 'not ours')
      expect(await sweepCopies(host, disk, [other])).toBe(2)
      await removeCopy(host, other)
      await removeCopy(host, other)
      expect(
        execFileSync('ls', ['-A', mount], { encoding: 'utf8' })
          .trim()
          .split('\n')
          .filter((name) => name !== 'lost+found'),
      ).toEqual(['.disk.img.generation-x', 'disk.img'])
    },
  )
})

it('marks a file by its mode where it cannot be immutable', async () => {
  const directory = scratch()
  const disk = join(directory, 'disk.img')
  writeFileSync(disk, 'x', { mode: 0o600 })
  await using real = await thisHost(directory)
  const host = Object.assign(Object.create(real) as Host, {
    run: async (request: Parameters<Host['run']>[0]) =>
      request.argv[0] === 'chattr'
        ? Promise.resolve({ exitStatus: 1, stdout: '', stderrTail: '' })
        : real.run(request),
    look: async (path: string) => real.look(path),
  })
  await setReadOnly(host, disk)
  expect(statSync(disk).mode & 0o777).toBe(0o400)
  expect(await isReadOnly(host, disk)).toBe(true)
  await setWritable(host, disk)
  expect(statSync(disk).mode & 0o777).toBe(0o600)
  expect(await isReadOnly(host, disk)).toBe(false)
  expect(await isReadOnly(host, join(directory, 'none'))).toBeNull()
})
