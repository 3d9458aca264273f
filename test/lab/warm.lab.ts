// Warm: the guest runs during the rounds, is saved, and goes on at the other host where it stopped. Both ways, with a file
// and with a block device, transient and persistent.

import { describe, expect, it } from 'vitest'

import { COUNTER_GUEST, makeDisk, type GuestSpec } from './guest.js'
import { useLab } from './lab.js'
import {
  CREATE,
  DOWNTIME_BAR_MS,
  blocksync,
  expectRunsOnlyOn,
  expectStartRefused,
  move,
  traceOf,
  type MigrateResult,
} from './migrate.js'

const DOWNTIME_PARTS = ['saveMs', 'lastPassMs', 'stateCopyMs', 'restoreMs', 'resumeMs']

function checkDowntime({ downtimeMs, downtime, rounds }: MigrateResult): void {
  expect(downtimeMs).toBeGreaterThan(0)
  expect(downtimeMs).toBeLessThanOrEqual(DOWNTIME_BAR_MS)
  expect(Object.keys(downtime ?? {})).toEqual(expect.arrayContaining(DOWNTIME_PARTS))
  expect(rounds.length).toBeGreaterThan(0)
}

describe('warm, between two hosts of libvirt', () => {
  const lab = useLab()

  it('plans without a trace, moves a transient guest, fences the old host, and moves it back', async () => {
    const hosts = lab.hosts()
    const guest = await lab.start()
    const before = await Promise.all([traceOf(hosts, 'A'), traceOf(hosts, 'B')])
    const plan = await blocksync(hosts, 'A', guest.name, hosts.address('B'), ...CREATE, '--plan')
    expect(plan.status, plan.stderr).toBe(0)
    for (const word of ['vda', '/srv/vm/ctr.img', 'virsh']) expect(plan.stdout).toContain(word)
    const json = await blocksync(hosts, 'A', guest.name, hosts.address('B'), ...CREATE, '--plan', '--json')
    expect(json.status, json.stderr).toBe(0)
    expect(() => JSON.parse(json.stdout.trim().split('\n').at(-1) ?? '') as unknown).not.toThrow()
    expect(await Promise.all([traceOf(hosts, 'A'), traceOf(hosts, 'B')])).toEqual(before)

    const there = await move(hosts, guest, 'A')
    expect(there).toMatchObject({ mode: 'warm', runsOn: 'destination' })
    checkDowntime(there)
    await expectRunsOnlyOn(guest, 'B', 10)
    expect(guest.counts('B')[0]).toBe(guest.counter('A') + 1)
    await expectStartRefused(hosts, guest, 'A')

    const back = await move(hosts, guest, 'B')
    checkDowntime(back)
    await expectRunsOnlyOn(guest, 'A', 10)
    await expectStartRefused(hosts, guest, 'B')
  })

  it('moves a persistent guest with a block device to one of another name, and back', async () => {
    const hosts = lab.hosts()
    const disk = { kind: 'block', name: 'ctr', sizeMiB: 256, dataMiB: 64 } as const
    const spec: GuestSpec = { ...COUNTER_GUEST, kind: 'persistent', disks: [disk] }
    const guest = await lab.start(spec)
    await hosts.virsh('A', 'autostart', guest.name)
    await makeDisk(hosts, 'B', { ...disk, name: 'other', dataMiB: 32 })

    checkDowntime(await move(hosts, guest, 'A', ['--map', 'vda=/dev/lab/other', '--yes']))
    await expectRunsOnlyOn(guest, 'B', 10)
    expect(await hosts.virsh('B', 'domblklist', guest.name)).toContain('/dev/lab/other')
    expect(await hosts.virsh('B', 'dominfo', guest.name)).toMatch(/Persistent:\s+yes\s+Autostart:\s+enable/)
    await expectStartRefused(hosts, guest, 'A')

    checkDowntime(await move(hosts, guest, 'B', ['--map', 'vda=/dev/lab/ctr', '--yes']))
    await expectRunsOnlyOn(guest, 'A', 10)
    expect(await hosts.virsh('A', 'dominfo', guest.name)).toMatch(/Persistent:\s+yes\s+Autostart:\s+enable/)
    expect((await hosts.virsh('A', 'list', '--all', '--name')).split('\n').filter(Boolean)).toEqual([
      guest.name,
    ])
  })

  it('moves several disks of different sizes, one of them qcow2', async () => {
    const hosts = lab.hosts()
    const guest = await lab.start({
      ...COUNTER_GUEST,
      disks: [
        { kind: 'file', name: '/srv/vm/ctr.img', sizeMiB: 64, dataMiB: 16 },
        { kind: 'qcow2', name: '/srv/vm/deep/down/ctr.qcow2', sizeMiB: 96, dataMiB: 16 },
      ],
      words: { tick: 0.2, dirty: 64, disk2: 1 },
    })
    checkDowntime(await move(hosts, guest, 'A'))
    await expectRunsOnlyOn(guest, 'B', 10)
  })
})
