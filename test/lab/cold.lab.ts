// Cold: rounds while the guest runs, then it is shut down here and started there. Also a guest that is off, and one that
// does not hear the power button.

import { describe, expect, it } from 'vitest'

import { COUNTER_GUEST, type GuestSpec } from './guest.js'
import { useLab } from './lab.js'
import { expectRunsOnlyOn, expectStartRefused, move } from './migrate.js'

const PERSISTENT: GuestSpec = {
  ...COUNTER_GUEST,
  kind: 'persistent',
  disks: [{ kind: 'file', name: '/srv/vm/ctr.img', sizeMiB: 128, dataMiB: 64 }],
}

describe('cold, between two hosts of libvirt', () => {
  const lab = useLab()

  it('shuts the guest down here and starts it there', async () => {
    const hosts = lab.hosts()
    const guest = await lab.start(PERSISTENT)
    const result = await move(hosts, guest, 'A', ['--mode', 'cold'])
    expect(result).toMatchObject({ mode: 'cold', runsOn: 'destination' })
    await expectRunsOnlyOn(guest, 'B')
    // It shut down by itself, and found on its disk there what it had written here.
    expect(guest.console('A').join('\n')).toContain(`LAB-OFF ${guest.counter('A')}`)
    expect(guest.counts('B')[0]).toBe(guest.counter('A') + 1)
    await expectStartRefused(hosts, guest, 'A')
  })

  it('leaves a guest alone that does not shut down, and pulls its plug when asked to', async () => {
    const hosts = lab.hosts()
    const guest = await lab.start({ ...PERSISTENT, words: { ...PERSISTENT.words, deaf: 1 } })
    const patience = ['--mode', 'cold', '--shutdown-timeout', '4s']
    const stopped = await move(hosts, guest, 'A', patience, 9)
    expect(stopped).toMatchObject({ ok: false, runsOn: 'source' })
    await expectRunsOnlyOn(guest, 'A')
    await move(hosts, guest, 'A', [...patience, '--force-off'])
    await expectRunsOnlyOn(guest, 'B')
  })

  it('moves a guest that is off, and starts it only when asked to', async () => {
    const hosts = lab.hosts()
    const guest = await lab.start(PERSISTENT)
    await hosts.virsh('A', 'destroy', guest.name)
    const last = guest.counter('A')
    await move(hosts, guest, 'A')
    expect(await guest.state('B')).toBe('shut off')
    expect(await guest.runsOn()).toEqual([])
    await expectStartRefused(hosts, guest, 'A')

    await move(hosts, guest, 'B', ['--start'])
    await expectRunsOnlyOn(guest, 'A')
    expect(guest.counter('A')).toBeGreaterThan(last)
  })
})
