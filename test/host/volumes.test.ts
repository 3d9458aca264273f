// Volumes of LVM that are protected: deactivated so that they stay so, and given back as they were. LVM is played here, on
// links to loop devices; device mapper and lvchange themselves are tried in test/lab/xen.

import { mkdir, readdir, readlink, symlink, unlink } from 'node:fs/promises'

import { beforeEach, describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import type { Argv } from '../../src/exec.js'
import { OPERATIONS } from '../../src/host/agent-protocol.js'
import type { ProgramResult } from '../../src/host/host.js'
import { lookAt } from '../../src/host/look.js'
import { protectDisk, unprotectDisk, type ProtectParts } from '../../src/host/protect.js'
import { ProtectNotes } from '../../src/host/protect-notes.js'
import { runProgram } from '../../src/host/programs.js'
import { volumeOfMapping } from '../../src/host/volumes.js'
import { run, useScratch } from '../support/disks.js'
import { needs } from '../support/needs.js'

const GROUP_ID = 'a'.repeat(32)
const VOLUME_ID = 'Abc123'.padEnd(32, 'z')
const UUID = `LVM-${GROUP_ID}${VOLUME_ID}`
const TAG = 'blocksync-moved-tag-1'

describe('a mapped device', () => {
  it.each([
    [UUID, 'vg0-web', 'vg0/web'],
    [UUID, 'vg--0-web--disk', 'vg-0/web-disk'],
    [`${UUID}-tpool`, 'vg0-pool-tpool', null],
    [`${UUID}-real`, 'vg0-web-real', null],
    ['CRYPT-LUKS2-abc', 'vg0-web', null],
    [UUID, 'web', null],
    [UUID, null, null],
    [null, 'vg0-web', null],
  ])('%s %s is the volume %s', (uuid, mappedName, name) => {
    expect(volumeOfMapping(uuid, mappedName)?.name ?? null).toBe(name)
  })
})

/** One volume of one group. `device`: what its link leads to while it is active. */
class FakeLvm {
  readonly path: string
  readonly #device: string
  skip = '0'
  readonly tags = new Set<string>()
  readonly ran: string[] = []
  /** The beginning of a command that fails, and what it says then. */
  failing: readonly [string, string] | null = null

  constructor(path: string, device: string) {
    this.path = path
    this.#device = device
  }

  async isActive(): Promise<boolean> {
    return (await lookAt(this.path)) !== null
  }

  readonly run = async (argv: Argv): Promise<ProgramResult> => {
    const line = argv.join(' ')
    if (!argv[0].startsWith('lv')) return await runProgram({ argv, timeoutMs: 10_000 }, [])
    this.ran.push(line)
    if (this.failing !== null && line.startsWith(this.failing[0]))
      return { exitStatus: 5, stdout: '', stderrTail: `  WARNING: of something.\n  ${this.failing[1]}\n` }
    const valueOf = (option: string): string | undefined =>
      argv.includes(option) ? argv[argv.indexOf(option) + 1] : undefined
    if (argv[0] === 'lvs') return done(`  ${VOLUME_ID.slice(0, 6)}-${VOLUME_ID.slice(6)} ${this.skip}\n`)
    const [skip, add, remove] = ['--setactivationskip', '--addtag', '--deltag'].map(valueOf)
    if (skip !== undefined) this.skip = skip === 'y' ? '1' : '0'
    if (add !== undefined) this.tags.add(add)
    if (remove !== undefined) this.tags.delete(remove)
    if (valueOf('--activate') === 'n') await this.#close()
    const isAsked = argv.includes('--ignoreactivationskip') || this.skip === '0'
    if (valueOf('--activate') === 'y' && isAsked && !(await this.isActive()))
      await symlink(this.#device, this.path)
    return done('')
  }

  /** A device that comes back is a new one, which nobody has set read-only. */
  async #close(): Promise<void> {
    if (!(await this.isActive())) return
    await run('blockdev', '--setrw', this.#device)
    await unlink(this.path)
  }

  readonly volumeAt: ProtectParts['volumeAt'] = async () =>
    (await this.isActive()) ? { name: 'vg0/web', uuid: UUID } : null
}

it('crosses to another host and back with its protection', () => {
  const { gives, takes } = { gives: OPERATIONS.protect.gives, takes: OPERATIONS.unprotect.takes }
  const plain = { by: 'device', path: '/dev/vg0/web', why: null, before: 'writable', tag: 'tag-1' } as const
  for (const volume of [{}, { volume: { name: 'vg0/web', skipped: 'no' } }]) {
    expect(gives({ ...plain, ...volume })).toEqual({ ...plain, ...volume })
    expect(takes([{ ...plain, ...volume }])).toEqual([{ ...plain, ...volume }])
  }
  expect(() => takes([{ ...plain, volume: { name: 'vg0/web' } }])).toThrow('skipped')
})

describe('a volume', needs('loop', 'blockdev'), () => {
  const scratch = useScratch()
  let lvm: FakeLvm
  let parts: ProtectParts
  let notes: string
  let device: string
  let number = 0
  beforeEach(async () => {
    number += 1
    const image = await scratch().file(`image-${number}`, Buffer.alloc(1 << 20))
    device = await scratch().loopDevice(image)
    lvm = new FakeLvm(scratch().path(`web-${number}`), device)
    await symlink(device, lvm.path)
    notes = scratch().path(`notes-${number}`)
    await mkdir(notes)
    const { run: program, volumeAt } = lvm
    parts = { run: program, volumeAt, notes: new ProtectNotes(() => Promise.resolve(notes)) }
  })

  it('is not active while it is protected, nor after the host starts again, and is given back as it was', async () => {
    const protection = await protectDisk(lvm.path, 'tag-1', parts)
    expect(protection).toEqual({
      by: 'device',
      path: lvm.path,
      why: null,
      before: 'writable',
      tag: 'tag-1',
      volume: { name: 'vg0/web', skipped: 'no' },
    })
    expect(await lvm.isActive()).toBe(false)
    expect([lvm.skip, ...lvm.tags]).toEqual(['1', TAG])
    await lvm.run(['lvchange', '--activate', 'y', 'vg0/web'])
    expect(await lvm.isActive()).toBe(false)
    expect(await protectDisk(lvm.path, 'tag-1', parts)).toEqual(protection)
    await unprotectDisk(protection, parts)
    await unprotectDisk(protection, parts)
    expect(await readlink(lvm.path)).toBe(device)
    expect([lvm.skip, ...lvm.tags, (await lookAt(lvm.path))?.isProtected]).toEqual(['0', false])
    expect(await readdir(notes)).toEqual([])
  })

  it('that was read-only and left out at the start of the host stays that', async () => {
    lvm.skip = '1'
    await run('blockdev', '--setro', device)
    try {
      const protection = await protectDisk(lvm.path, 'tag-1', parts)
      expect(protection).toMatchObject({ before: 'protected', volume: { skipped: 'yes' } })
      expect(await lvm.isActive()).toBe(false)
      await unprotectDisk(protection, parts)
      expect([lvm.skip, ...lvm.tags, (await lookAt(lvm.path))?.isProtected]).toEqual(['1', true])
    } finally {
      await run('blockdev', '--setrw', device)
    }
  })

  it('of a run that was killed at any point is what it was before that run', async () => {
    for (const at of ['lvs', 'lvchange --activate n', 'lvchange --setactivationskip y', 'nothing']) {
      const killed = new Error('killed')
      const dying: ProtectParts = {
        ...parts,
        run: async (argv) => {
          if (argv.join(' ').startsWith(at)) throw killed
          return await lvm.run(argv)
        },
      }
      await protectDisk(lvm.path, 'tag-1', dying).catch((error: unknown) => {
        if (error !== killed) throw error
      })
      const protection = await protectDisk(lvm.path, 'tag-1', parts)
      expect(protection).toMatchObject({ before: 'writable', volume: { skipped: 'no' } })
      expect([await lvm.isActive(), lvm.skip]).toEqual([false, '1'])
      await unprotectDisk(protection, parts)
      expect([await lvm.isActive(), lvm.skip]).toEqual([true, '0'])
    }
  })

  it('that is in use stays read-only, and the reason is told', async () => {
    lvm.failing = ['lvchange --activate n', 'Logical volume vg0/web in use.']
    const protection = await protectDisk(lvm.path, 'tag-1', parts)
    expect(protection).toEqual({
      by: 'device',
      path: lvm.path,
      why: 'the volume vg0/web could not be deactivated: Logical volume vg0/web in use.',
      before: 'writable',
      tag: 'tag-1',
    })
    expect([(await lookAt(lvm.path))?.isProtected, lvm.skip]).toEqual([true, '0'])
    await unprotectDisk(protection, parts)
    expect((await lookAt(lvm.path))?.isProtected).toBe(false)
  })

  it('of which LVM says nothing stays read-only; one that cannot be marked is deactivated', async () => {
    lvm.failing = ['lvs', 'no way']
    const unknown = await protectDisk(lvm.path, 'tag-1', parts)
    expect([unknown.why, unknown.volume, await lvm.isActive()]).toEqual(['no way', undefined, true])
    await unprotectDisk(unknown, parts)
    lvm.failing = ['lvchange --setactivationskip y', 'the group is read-only']
    const unmarked = await protectDisk(lvm.path, 'tag-1', parts)
    expect(unmarked.why).toBe('the volume vg0/web comes up again with this host: the group is read-only')
    expect([unmarked.volume?.name, await lvm.isActive()]).toEqual(['vg0/web', false])
    await unprotectDisk(unmarked, parts)
    expect(await lvm.isActive()).toBe(true)
  })

  it('that does not come up again is told with what to type, and no other name is tried', async () => {
    const protection = await protectDisk(lvm.path, 'tag-1', parts)
    lvm.failing = ['lvchange --activate y', 'a device is missing']
    const refusal = async (given: typeof protection): Promise<SyncError> => {
      const thrown: unknown = await unprotectDisk(given, parts).catch((error: unknown) => error)
      if (thrown instanceof SyncError) return thrown
      throw new Error('it was given back')
    }
    expect(await refusal(protection)).toMatchObject({
      code: 'host/file',
      message: expect.stringContaining('a device is missing') as string,
      hint: 'Type lvchange --activate y --ignoreactivationskip vg0/web',
    })
    const ran = lvm.ran.length
    expect((await refusal({ ...protection, volume: { name: '--all', skipped: 'no' } })).code).toBe(
      'host/file',
    )
    expect(lvm.ran.length).toBe(ran)
    lvm.failing = null
    await unprotectDisk(protection, parts)
    expect(await lvm.isActive()).toBe(true)
  })
})

function done(stdout: string): ProgramResult {
  return { exitStatus: 0, stdout, stderrTail: '' }
}
