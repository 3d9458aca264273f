// Snapshots of volumes where LVM says no: on an LVM that is played. What it plays was recorded (fake-lvm.ts).

import { describe, expect, it } from 'vitest'

import { openSnapshots } from '../../src/snapshot/open.js'
import { volumesIn } from '../../src/snapshot/volumes.js'
import { refusal, requestFor } from './conformance.js'
import { FakeLvm } from './fake-lvm.js'
import { fakeWorld } from './worlds.js'

describe('snapshots of volumes', () => {
  it('that ran full are found out', async () => {
    const world = fakeWorld('lvm')
    const cut = await world.method.cut(world.host, requestFor(world))
    await world.method.check(world.host, requestFor(world), cut)
    world.lvm.volume(cut.disks[1]?.path ?? '').isInvalid = true
    const failure = await refusal(world.method.check(world.host, requestFor(world), cut))
    expect(failure.message).toMatch(/thick-two on host1 ran full/)
    expect(failure.operand).toBe('/dev/vg0/thick-two')
    expect(failure.hint).toMatch(/larger snapshot_size/)
  })

  it.each(['lvm', 'lvm-thin'] as const)('that are gone are found out (%s)', async (kind) => {
    const world = fakeWorld(kind)
    const cut = await world.method.cut(world.host, requestFor(world))
    await world.lose(cut.disks[0]?.path ?? '')
    const failure = await refusal(world.method.check(world.host, requestFor(world), cut))
    expect(failure.message).toMatch(/is gone/)
  })

  it('that find no room say what is free, and the first one is let go', async () => {
    const world = fakeWorld('lvm')
    const method = openSnapshots({ kind: 'lvm', size: { percent: 110 } })
    const failure = await refusal(method.cut(world.host, requestFor(world)))
    expect(failure.message).toMatch(
      /group vg0 on host1 has no room for a snapshot of .*thick-two: 56 MiB are free/,
    )
    expect(failure.hint).toMatch(/vgextend.*snapshot_size/)
    expect(await world.left()).toEqual([])
  })

  it('have the size that was asked for, in whole sectors', async () => {
    const world = fakeWorld('lvm')
    const single = requestFor(world, { disks: [world.disks[0]] })
    await openSnapshots({ kind: 'lvm', size: { bytes: 5_000_001 } }).cut(world.host, single)
    expect(world.lvm.ran.find((line) => line.startsWith('lvcreate'))).toContain(' --size 5000192b ')
  })

  it('are of the volume that a link or a name of device-mapper leads to', async () => {
    const world = fakeWorld('lvm')
    world.lvm.links.set('/dev/mapper/vg0-thick--one', '/dev/vg0/thick-one')
    const request = requestFor(world, { disks: ['/dev/mapper/vg0-thick--one'] })
    const cut = await world.method.cut(world.host, request)
    expect(cut.disks[0]?.original).toBe('/dev/mapper/vg0-thick--one')
    expect(cut.disks[0]?.path).toMatch(/^\/dev\/vg0\/blocksync-snap-web\+/)
    expect(await world.method.removeOrphans(world.host, request)).toHaveLength(1)
  })

  it('of other disks with the name of the job are not touched', async () => {
    const lvm = new FakeLvm()
    const [thick, thin] = [fakeWorld('lvm', lvm), fakeWorld('lvm-thin', lvm)]
    await thin.method.cut(lvm, requestFor(thin))
    expect(await thick.method.removeOrphans(lvm, requestFor(thick))).toEqual([])
    expect(await thin.left()).toHaveLength(2)
  })

  it('that cannot be removed are named with what to type', async () => {
    const world = fakeWorld('lvm-thin')
    const cut = await world.method.cut(world.host, requestFor(world))
    world.lvm.failing.set('lvremove', 'Logical volume vg0/x in use.')
    const failure = await refusal(world.method.remove(world.host, requestFor(world), cut))
    expect(failure.message).toMatch(/could not be removed: Logical volume vg0\/x in use\./)
    expect(failure.hint).toMatch(/lvremove --yes vg0\/blocksync-snap-web/)
    expect(world.lvm.ran.filter((line) => line.startsWith('lvremove'))).toHaveLength(2)
  })

  it('are refused where the volume is not thin, is none, or is not there', async () => {
    const world = fakeWorld('lvm-thin')
    const told = async (disk: string): Promise<string> => {
      const failure = await refusal(world.method.cut(world.host, requestFor(world, { disks: [disk] })))
      return `${failure.message} | ${failure.hint}`
    }
    expect(await told('/dev/vg0/thick-one')).toMatch(/is no thin volume; .* \| .*snapshot: lvm$/)
    expect(await told('/dev/vda')).toMatch(/is no volume of LVM/)
    expect(await told('/dev/vg0/none')).toMatch(/nothing is at \/dev\/vg0\/none/)
    expect(world.lvm.ran.filter((line) => !line.startsWith('lvs'))).toEqual([])
  })

  it('are refused where LVM is not there, or fails', async () => {
    const world = fakeWorld('lvm')
    world.lvm.isBare = true
    const bare = await refusal(world.method.cut(world.host, requestFor(world)))
    expect(bare.message).toMatch(/LVM is not installed on host1/)
    world.lvm.isBare = false
    world.lvm.failing.set('lvs', 'WARNING: x\n  Permission denied')
    const failed = await refusal(world.method.cut(world.host, requestFor(world)))
    expect(failed.message).toMatch(/LVM on host1 does not answer: Permission denied/)
  })
})

describe('what lvs says', () => {
  it.each(['', '[]', '{}', '{"report":[{}]}', '{"report":[{"lv":[{}]}]}', '{"report":[{"lv":[3]}]}'])(
    'is not taken apart where it is %s',
    (json) => {
      expect(() => volumesIn(json)).toThrow(SyntaxError)
    },
  )

  it('is a list of none where there are none', () => {
    expect(volumesIn('{"report":[{"lv":[]}]}')).toEqual([])
  })
})
