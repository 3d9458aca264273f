// The undo journal of one disk on a machine in memory: begun, continued, closed, void, full and damaged.

import { describe, expect, it } from 'vitest'

import { SyncError } from '../../src/errors.js'
import { checkDisk } from '../../src/undo/apply.js'
import { listGroups } from '../../src/undo/groups.js'
import { keepUndo, LEAST_FREE_BYTES, undoDirectory } from '../../src/undo/journal.js'
import type { Group } from '../../src/undo/manifest.js'
import { voidUndo } from '../../src/undo/void.js'
import { attempt, diskOf, LEAF_BYTES, NAMES, newestGroup, placeOn, undo } from './attempt.js'
import type { Frame } from './attempt.js'
import { Machine, randomFrom } from './power.js'

const OLD = Buffer.from(Array.from({ length: 32 * LEAF_BYTES }, (_, at) => at % 251))
const DIRECTORY = undoDirectory('/state', NAMES)

function machineWith(content = OLD): Machine {
  return Machine.withDisk(Buffer.from(content), randomFrom(5))
}

function filled(leaf: number, value: number, leaves = 1): Frame {
  return [{ kind: 'data', offset: leaf * LEAF_BYTES, bytes: Buffer.alloc(leaves * LEAF_BYTES, value) }]
}

async function groups(machine: Machine): Promise<Group[]> {
  return await listGroups(machine.files(), DIRECTORY)
}

async function codeOf(work: Promise<unknown>): Promise<string | null> {
  try {
    await work
    return null
  } catch (error) {
    if (error instanceof SyncError) return error.code
    throw error
  }
}

/** Changes bytes of a journal file, as a disk does that fails. */
async function damage(machine: Machine, path: string, at: number, bytes: Buffer): Promise<void> {
  const files = machine.files()
  const old = await files.open(path)
  const whole = Buffer.alloc((await old?.sizeBytes()) ?? 0)
  await old?.read(whole, 0)
  bytes.copy(whole, at)
  await files.remove(path)
  const file = await files.create(path)
  await file.write([whole], 0)
}

function journalOf(machine: Machine): string {
  const path = machine.paths.find((each) => each.endsWith('.undo'))
  if (path === undefined) throw new Error('no journal file')
  return path
}

describe('a run with --undo', () => {
  it('leads back once, and is gone then', async () => {
    const machine = machineWith()
    await attempt(machine, { frames: [filled(0, 1), filled(7, 2, 4)], end: 'finished' })
    expect((await groups(machine)).map(({ manifest }) => manifest.state)).toEqual(['finished'])
    expect(machine.disk?.equals(OLD)).toBe(false)
    await undo(machine)
    expect(machine.disk?.equals(OLD)).toBe(true)
    expect(machine.paths).toEqual(['/state/undo', DIRECTORY])
    expect(await codeOf(undo(machine))).toBe('undo/missing')
  })

  it('that changes nothing leaves the journal before it', async () => {
    const machine = machineWith()
    await attempt(machine, { frames: [filled(3, 9)], end: 'finished' })
    const before = await newestGroup(machine)
    await attempt(machine, { frames: [], end: 'finished' })
    expect(await newestGroup(machine)).toBe(before)
    await undo(machine)
    expect(machine.disk?.equals(OLD)).toBe(true)
  })

  it('after a finished one removes what that kept, once it has something itself', async () => {
    const machine = machineWith()
    await attempt(machine, { frames: [filled(3, 9)], end: 'finished' })
    const between = Buffer.from(machine.disk ?? OLD)
    await attempt(machine, { frames: [filled(4, 8)], end: 'stopped' })
    expect(await groups(machine)).toHaveLength(1)
    await undo(machine)
    expect(machine.disk?.equals(between)).toBe(true)
  })

  it('after one that did not finish goes on with its group', async () => {
    const machine = machineWith()
    await attempt(machine, { frames: [filled(3, 9), filled(5, 9)], end: 'stopped' })
    await attempt(machine, { frames: [filled(3, 1), filled(8, 1)], end: 'stopped' })
    await attempt(machine, { frames: [filled(3, 2), filled(9, 1)], end: 'finished' })
    expect((await groups(machine)).map(({ manifest }) => manifest.runs)).toEqual([3])
    await undo(machine)
    expect(machine.disk?.equals(OLD)).toBe(true)
  })

  it('stores no zeros', async () => {
    const machine = machineWith(Buffer.alloc(OLD.length))
    await attempt(machine, { frames: [filled(0, 1, 32)], end: 'finished' })
    const file = await machine.files().open(journalOf(machine))
    expect(await file?.sizeBytes()).toBeLessThanOrEqual(1024)
    await undo(machine)
    expect(machine.disk?.equals(Buffer.alloc(OLD.length))).toBe(true)
  })

  it('cuts a file that it made longer, and needs no journal of what it made', async () => {
    const machine = machineWith()
    await attempt(machine, {
      growTo: OLD.length * 2,
      frames: [filled(31, 7, 4), filled(40, 7)],
      end: 'finished',
    })
    await undo(machine)
    expect(machine.disk?.equals(OLD)).toBe(true)
  })

  it('shares flushes among frames that are under way together', async () => {
    const machine = machineWith()
    const frames = Array.from({ length: 32 }, (_, leaf) => filled(leaf, 1))
    await attempt(machine, { frames, end: 'finished' })
    const flushes = machine.ops.filter((op) => op.kind === 'flush-data').length
    expect(flushes).toBeLessThan(16)
  })

  it('removes what it began where it ends before its pass', async () => {
    const machine = machineWith()
    await (await keepUndo(diskOf(machine), placeOn(machine)))[Symbol.asyncDispose]()
    expect(await groups(machine)).toEqual([])
  })

  it('keeps old content in another directory where it is told to', async () => {
    const machine = machineWith()
    await machine.files().makeDirectory('/images/big')
    await attempt(machine, { frames: [filled(3, 9)], end: 'finished', place: { filesBase: '/images/big' } })
    const [group] = await groups(machine)
    expect(group?.manifest.filesIn).toMatch(/^\/images\/big\/blocksync-undo-[0-9a-f]{32}$/)
    await undo(machine)
    expect(machine.disk?.equals(OLD)).toBe(true)
    expect(await machine.files().list('/images/big')).toEqual([])
  })
})

describe('without room', () => {
  it('nothing is begun', async () => {
    const machine = machineWith()
    machine.freeBytes = LEAST_FREE_BYTES - 1
    expect(await codeOf(attempt(machine, { frames: [filled(3, 9)], end: 'finished' }))).toBe(
      'destination/undo-space',
    )
    expect(machine.disk?.equals(OLD)).toBe(true)
    expect(await groups(machine)).toEqual([])
  })

  it('the run stops, and what was overwritten comes back', async () => {
    for (const room of [600, 1600, 2600, 3600, 5000]) {
      const machine = machineWith()
      // one after the other, so that some are written before there is no room
      const frames = Array.from({ length: 8 }, (_, leaf) => filled(leaf * 4, 1, 2))
      const files = machine.files()
      const scarce = {
        ...files,
        create: async (path: string) => {
          const file = await files.create(path)
          if (path.endsWith('.undo')) machine.freeBytes = room
          return file
        },
      }
      const code = await codeOf(attempt(machine, { frames, end: 'finished', place: { files: scarce } }))
      machine.freeBytes = 1 << 30
      if (room < 5000) expect(code, `${room}`).toBe('destination/undo-space')
      await undo(machine)
      expect(machine.disk?.equals(OLD), `${room}`).toBe(true)
    }
  })

  it('under --undo-max it is the same', async () => {
    const machine = machineWith()
    const run = attempt(machine, { frames: [filled(0, 1, 16)], end: 'finished', place: { maxBytes: 4096 } })
    expect(await codeOf(run)).toBe('destination/undo-space')
    expect(machine.disk?.equals(OLD)).toBe(true)
  })
})

describe('a run without --undo', () => {
  it('says that it gives the way back up, does so before it writes, and undo says so too', async () => {
    const machine = machineWith()
    await attempt(machine, { frames: [filled(3, 9)], end: 'stopped' })
    const voided = await voidUndo(diskOf(machine), placeOn(machine))
    expect(voided?.warnings.join()).toMatch(/has an undo journal; this run keeps none.*did not finish/)
    // the run may still be refused: then nothing changes
    expect((await groups(machine))[0]?.manifest.state).toBe('open')
    await voided?.begin()
    expect((await groups(machine))[0]?.manifest.state).toBe('void')
    expect(machine.paths.filter((path) => path.endsWith('.undo'))).toEqual([])
    expect(await voidUndo(diskOf(machine), placeOn(machine))).toBeNull()
    await attempt(machine, { frames: [filled(4, 9)], end: 'finished' })
    expect((await groups(machine)).map(({ manifest }) => manifest.state)).toEqual(['finished'])
  })

  it('has nothing to say of a disk without a journal', async () => {
    expect(await voidUndo(diskOf(machineWith()), placeOn(machineWith()))).toBeNull()
  })
})

describe('a journal that is not whole', () => {
  const frames = [filled(1, 1, 2), filled(9, 2, 2)]

  it('is refused before anything is written: a finished file that is shorter, longer, or changed', async () => {
    for (const kind of ['shorter', 'longer', 'changed', 'gone'] as const) {
      const machine = machineWith()
      await attempt(machine, { frames, end: 'finished' })
      const path = journalOf(machine)
      const files = machine.files()
      const file = await files.open(path)
      const bytes = Buffer.alloc((await file?.sizeBytes()) ?? 0)
      await file?.read(bytes, 0)
      await files.remove(path)
      if (kind !== 'gone') {
        const again = await files.create(path)
        if (kind === 'changed') bytes.writeUInt8(bytes.readUInt8(600) ^ 1, 600)
        const content =
          kind === 'shorter'
            ? bytes.subarray(0, -512)
            : kind === 'longer'
              ? Buffer.concat([bytes, bytes])
              : bytes
        await again.write([content], 0)
      }
      const now = Buffer.from(machine.disk ?? OLD)
      expect(await codeOf(undo(machine)), kind).toBe('undo/broken')
      expect(machine.disk?.equals(now), kind).toBe(true)
    }
  })

  it('of a run that did not finish may end torn, but not be torn before a whole record', async () => {
    for (const [torn, expected] of [
      ['last', null],
      ['first', 'undo/broken'],
      ['header', 'undo/broken'],
    ] as const) {
      const machine = machineWith()
      const target = machine.target()
      await using kept = await keepUndo(diskOf(machine), placeOn(machine))
      await kept.begin()
      const preserver = kept.preserver(target, LEAF_BYTES)
      await preserver?.before([{ offset: 512, length: 512 }])
      await preserver?.before([{ offset: 4096, length: 512 }])
      // as if power was lost right behind the first of the two: the second was not overwritten
      await target.write([{ offset: 512, length: 512 }], Buffer.alloc(512, 1))
      await preserver?.close()
      const at = { header: 20, first: 512 + 40, last: (preserver?.bytes ?? 0) - 512 }[torn]
      await damage(machine, journalOf(machine), at, Buffer.alloc(200, 0xff))
      expect(await codeOf(undo(machine)), torn).toBe(expected)
      expect(machine.disk?.equals(OLD), torn).toBe(expected === null)
    }
  })

  it('with a damaged manifest is set aside by the next run, and said', async () => {
    const machine = machineWith()
    await attempt(machine, { frames, end: 'finished' })
    const manifest = machine.paths.find((path) => path.endsWith('group.json')) ?? ''
    await damage(machine, manifest, 0, Buffer.from('[['))
    expect(await codeOf(undo(machine))).toBe('undo/broken')
    await using kept = await keepUndo(diskOf(machine), placeOn(machine))
    expect(kept.warnings.join()).toMatch(/damaged undo journal was set aside/)
    expect(machine.paths.some((path) => path.includes('/broken-g'))).toBe(true)
  })
})

describe('another disk', () => {
  it('is refused: of another machine, of another name, and one that is shorter now', async () => {
    const machine = machineWith()
    await attempt(machine, { frames: [filled(1, 1)], end: 'finished' })
    const [group] = await groups(machine)
    if (group === undefined) throw new Error('no group')
    const { info } = diskOf(machine)
    expect(() => checkDisk(group, info)).not.toThrow()
    const others = [
      { ...info, stable: { ...info.stable, machineId: 'elsewhere' } },
      { ...info, stable: { ...info.stable, names: ['path:/other'] } },
      { ...info, sizeBytes: info.sizeBytes - 512 },
      { ...info, kind: 'block-device' as const },
    ]
    for (const other of others) expect(() => checkDisk(group, other)).toThrow(/does not fit/)
  })

  it('under the same name makes an unfinished journal void', async () => {
    const machine = machineWith()
    await attempt(machine, { frames: [filled(1, 1)], end: 'stopped' })
    const before = await newestGroup(machine)
    await using kept = await keepUndo(diskOf(machine, 'file'), placeOn(machine))
    expect(kept.warnings.join()).toMatch(/no longer fits \(the file was removed or emptied since\)/)
    expect(await newestGroup(machine)).not.toBe(before)
  })
})
